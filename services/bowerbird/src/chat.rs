//! The last turn of a conversation as a question that stands alone.
//!
//! "And for children?" means nothing to a search. Rules complete it from what was asked before: a turn that leans on
//! another (it begins like one, names its subject by a pronoun, or says next to nothing itself) gets the content
//! words of the question before it, less what it replaces: a year by a year, "for adults" by "for children". The rules
//! know English, always give the same, and cost microseconds. With a remote generator the rewriting is asked of it
//! first (`rewrite`), and what it gives is taken only when it could be a question.
//!
//! Only turns of the user are read: what the assistant said quotes posts, which are untrusted text.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bowerbird_models_api::{Finish, GenerateRequest, Generator, Message, Piece, Role};
use tokio::time::timeout_at;

/// Turns of the user that are read, the last ones.
pub const TURNS: usize = 8;
/// Bytes of a turn that are read; but for the last, which the search bounds itself.
const TURN_BYTES: usize = 400;
/// Content words that a follow-up takes over.
const CARRIED: usize = 12;
/// A turn with at most so many content words and a pronoun leans on the one before.
const WITH_PRONOUN: usize = 6;
/// Most time for a remote generator to rewrite.
const REWRITE_TIME: Duration = Duration::from_secs(3);
/// Longest rewritten question, in bytes.
const REWRITTEN_BYTES: usize = 300;

const PRONOUNS: &[&str] = &[
    "it", "its", "they", "them", "their", "theirs", "this", "these", "those", "that", "he", "him", "his",
    "she", "her", "hers", "one", "ones", "such",
];

const PREPOSITIONS: &[&str] = &[
    "for", "in", "with", "without", "during", "after", "before", "at", "on", "among", "near", "from", "to",
    "since", "until", "against", "under", "over", "by", "between", "vs", "versus", "than", "about", "of",
];

/// Words that say nothing of what is looked for.
const EMPTY: &[&str] = &[
    "a", "an", "the", "and", "or", "but", "so", "if", "then", "also", "too", "is", "are", "was", "were",
    "be", "been", "being", "am", "do", "does", "did", "done", "has", "have", "had", "can", "could", "may",
    "might", "should", "would", "will", "shall", "must", "what", "what's", "whats", "which", "who", "whom",
    "whose", "when", "where", "why", "how", "i", "me", "my", "we", "us", "our", "you", "your", "there",
    "here", "as", "tell", "please", "more", "else", "ok", "okay", "well", "yes", "no", "thanks", "thank",
    "hello", "hi", "hey", "again", "same", "really", "any", "some", "much", "many", "know", "mean", "say",
    "said", "says", "show", "give", "let's", "it's", "that's", "isn't", "doesn't",
];

/// Ways in which a follow-up begins.
const OPENINGS: &[&str] = &[
    "and",
    "but",
    "or",
    "also",
    "what about",
    "how about",
    "what else",
    "tell me more",
    "more on",
    "more about",
    "why is that",
    "how so",
    "same for",
    "ok and",
    "okay and",
    "so",
    "then",
    "what if",
    "why not",
    "how come",
];

/// Adjectives of "is it … to" and "is it … that", where `it` names nothing.
const JUDGEMENTS: &[&str] = &[
    "safe",
    "true",
    "good",
    "bad",
    "ok",
    "okay",
    "possible",
    "healthy",
    "unhealthy",
    "dangerous",
    "better",
    "worse",
    "worth",
    "hard",
    "easy",
    "normal",
    "necessary",
    "important",
    "legal",
    "likely",
    "known",
];

/// The last of `turns`, oldest first, as a question that stands alone. Empty only when there is no turn.
pub fn stand_alone(turns: &[&str]) -> String {
    let from = turns.len().saturating_sub(TURNS);
    let mut question = String::new();
    let mut open = turns.get(from..).unwrap_or_default().iter().peekable();
    while let Some(turn) = open.next() {
        let turn = turn.trim();
        let turn = if open.peek().is_some() { &turn[..turn.floor_char_boundary(TURN_BYTES)] } else { turn };
        question =
            if question.is_empty() || !leans(turn) { turn.to_owned() } else { joined(&question, turn) };
    }
    question
}

/// One word of a turn.
struct Word<'a> {
    /// Without sentence marks around it, in its own case.
    text: &'a str,
    lower: String,
}

impl Word<'_> {
    fn is(&self, list: &[&str]) -> bool {
        list.contains(&self.lower.as_str())
    }

    fn is_content(&self) -> bool {
        !self.is(EMPTY) && !self.is(PRONOUNS) && !self.is(PREPOSITIONS)
    }

    fn is_year(&self) -> bool {
        matches!(self.text.parse::<u32>(), Ok(1900..=2099)) && self.text.len() == 4
    }
}

fn words(turn: &str) -> Vec<Word<'_>> {
    let is_mark = |c: char| {
        matches!(c, '?' | '!' | '.' | ',' | ';' | ':' | '"' | '\'' | '(' | ')' | '…' | '-' | '*')
            || matches!(c, '\u{2018}'..='\u{201e}')
    };
    let texts =
        turn.split_whitespace().map(|word| word.trim_matches(is_mark)).filter(|word| !word.is_empty());
    texts.map(|text| Word { text, lower: text.to_lowercase().replace('\u{2019}', "'") }).collect()
}

/// Whether a turn needs the question before it.
fn leans(turn: &str) -> bool {
    let words = words(turn);
    let content = words.iter().filter(|word| word.is_content()).count();
    if content <= 1 {
        return true;
    }
    let start: Vec<&str> = words.iter().take(4).map(|word| word.lower.as_str()).collect();
    let opens = |opening: &&str| {
        let mut opening = opening.split(' ');
        let mut start = start.iter();
        opening.all(|word| start.next() == Some(&word))
    };
    if OPENINGS.iter().any(opens) {
        return true;
    }
    // "in 2014", "for older women": a place in a question, and no question.
    if words.first().is_some_and(|word| word.is(PREPOSITIONS)) && content <= 3 {
        return true;
    }
    content <= WITH_PRONOUN && names_by_pronoun(&words)
}

/// Whether a pronoun stands for something said before: not the `it` of "is it safe to", not the `that` of "says that
/// coffee", not the `this` of "this year".
fn names_by_pronoun(words: &[Word<'_>]) -> bool {
    words.iter().enumerate().any(|(at, word)| {
        let next = words.get(at + 1);
        match word.lower.as_str() {
            "it" => {
                let judged = next.is_some_and(|word| word.is(JUDGEMENTS));
                let goes_on = words.get(at + 2).is_some_and(|word| word.is(&["to", "that", "for", "if"]));
                let judged_of = judged && goes_on && words.get(at + 3).is_some();
                // "is it safe for children" asks of something; "is it safe for children to run" does not.
                !judged_of || (words[at + 2].is(&["for"]) && !words[at + 3..].iter().any(|w| w.is(&["to"])))
            }
            "that" | "one" | "such" => next.is_none_or(|word| !word.is_content()),
            "this" | "these" | "those" => !next.is_some_and(|word| {
                word.is(&["year", "week", "month", "season", "winter", "summer", "days"])
            }),
            _ => word.is(PRONOUNS),
        }
    })
}

/// The content words of `before` that `turn` does not replace, then what `turn` says.
fn joined(before: &str, turn: &str) -> String {
    let (before, turn) = (words(before), words(turn));
    let said: BTreeSet<&str> = turn.iter().map(|word| word.lower.as_str()).collect();
    let dated = turn.iter().any(Word::is_year);
    // "for children" takes the place of "for adults".
    let lead = turn.iter().find(|word| !word.is(EMPTY) && !word.is(PRONOUNS) && !word.is(&["about"]));
    let replaced = lead.filter(|word| word.is(PREPOSITIONS)).map(|word| word.lower.as_str());

    let mut kept: Vec<&str> = Vec::new();
    let mut inside = false;
    for word in &before {
        if word.is(PREPOSITIONS) {
            inside = replaced == Some(word.lower.as_str());
        }
        let stays = !inside && word.is_content() && !(dated && word.is_year());
        if stays && !said.contains(word.lower.as_str()) && !kept.contains(&word.text) {
            kept.push(word.text);
        }
    }
    kept.truncate(CARRIED);
    let own = turn.iter().filter(|word| word.is_content() || Some(word.lower.as_str()) == replaced);
    kept.extend(own.map(|word| word.text));
    if kept.is_empty() {
        return turn.iter().map(|word| word.text).collect::<Vec<_>>().join(" ");
    }
    kept.join(" ")
}

/// The last of `turns` as a question that stands alone, by `generator` where one is given and answers in time with
/// something that could be a question, else by the rules.
pub async fn rewrite(generator: Option<&dyn Generator>, turns: &[&str], deadline: Instant) -> String {
    let by_rules = stand_alone(turns);
    // A long message says enough by itself, and the generator would see only its beginning.
    let is_short = turns.last().is_some_and(|turn| turn.len() <= TURN_BYTES);
    let Some(generator) = generator.filter(|_| turns.len() > 1 && is_short) else { return by_rules };
    let deadline = deadline.min(Instant::now() + REWRITE_TIME);
    if let Some(question) = asked(generator, turns, deadline).await {
        return question;
    }
    tracing::debug!(generator = generator.name(), "the question was completed by the rules");
    by_rules
}

/// What the generator makes of `turns`: one line of sensible length, or nothing.
async fn asked(generator: &dyn Generator, turns: &[&str], deadline: Instant) -> Option<String> {
    let told = "Rewrite the last message of the user as one search query that can be understood without the messages \
                before it. Answer with the query only, on one line. If it can be understood already, repeat it.";
    let last = turns.len() - 1;
    let mut content = String::new();
    for (at, turn) in turns.iter().enumerate().skip(turns.len().saturating_sub(TURNS)) {
        let line: Vec<&str> = turn.split_whitespace().collect();
        let line = line.join(" ");
        let line = &line[..line.floor_char_boundary(TURN_BYTES)];
        content.push_str(if at == last { "Last message: " } else { "Earlier message: " });
        content.push_str(line);
        content.push('\n');
    }
    let mut stream = generator.generate(GenerateRequest {
        messages: vec![
            Message { role: Role::System, content: told.into() },
            Message { role: Role::User, content },
        ],
        max_tokens: 64,
        stop: vec!["\n".into()],
        temperature: 0.0,
        seed: 0,
        deadline,
        constraint: None,
    });
    let mut text = String::new();
    loop {
        match timeout_at(deadline.into(), stream.recv()).await.ok()?? {
            Ok(Piece::Text(more)) => text.push_str(&more),
            Ok(Piece::Done(usage)) if usage.finish == Finish::Stop => break,
            Ok(Piece::Done(_)) | Err(_) => return None,
        }
        if text.len() > REWRITTEN_BYTES {
            return None;
        }
    }
    let question = text.trim().trim_matches('"').trim();
    (!question.is_empty() && !question.contains('\n')).then(|| question.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowerbird_models_api::{GenerationStream, Usage};

    #[test]
    fn a_follow_up_takes_over_what_it_does_not_say() {
        for (turns, expected) in [
            (&["sunscreen safe for children"][..], "sunscreen safe for children"),
            (&["Is aspirin safe for adults?", "and for children?"], "aspirin safe for children"),
            (&["flu shot side effects in 2013", "what about it in 2014?"], "flu shot side effects in 2014"),
            (&["flu shot side effects 2013", "2014?"], "flu shot side effects 2014"),
            (&["Does coffee lower the risk of disease?", "why?"], "coffee lower risk disease"),
            (&["side effects of aspirin", "how about ibuprofen"], "side effects aspirin ibuprofen"),
            (
                &["vitamin D supplements", "do they help against depression?"],
                "vitamin D supplements help depression",
            ),
            (&["vitamin D supplements", "is it safe for children?"], "vitamin D supplements safe children"),
            (&["Ebola in Texas", "in Spain"], "Ebola in Spain"),
            (
                &["is running good for knees", "and for older women?", "what about cycling?"],
                "running good older women cycling",
            ),
        ] {
            assert_eq!(stand_alone(turns), expected, "{turns:?}");
        }
    }

    #[test]
    fn a_question_that_stands_alone_is_left_as_it_is() {
        let before = "flu shot side effects";
        for turn in [
            "Is it safe to drink coffee during pregnancy?",
            "is it true that vaccines cause autism",
            "Measles outbreak at Disneyland this year",
            "how much water should I drink",
            "a study says that coffee lowers the risk of cancer",
            "healthy breakfast ideas",
        ] {
            assert_eq!(stand_alone(&[before, turn]), turn);
        }
    }

    #[test]
    fn what_is_read_is_bounded_and_any_text_is_taken() {
        assert_eq!(stand_alone(&[]), "");
        assert_eq!(stand_alone(&["?"]), "?");
        assert_eq!(stand_alone(&["?", "why?"]), "why");
        let long = "é".repeat(100_000);
        let turns: Vec<&str> = std::iter::repeat_n(long.as_str(), 60).chain(["why?"]).collect();
        assert!(stand_alone(&turns).len() <= TURN_BYTES + 8);
        let many = "word ".repeat(300);
        assert!(stand_alone(&[&many, "and now for children"]).len() < 200);
        // The first turn is out of reach.
        let mut turns = vec!["measles"];
        turns.extend(["why?"; TURNS]);
        assert!(!stand_alone(&turns).contains("measles"));
    }

    struct Says(&'static str, Finish);

    impl Generator for Says {
        fn name(&self) -> &'static str {
            "says"
        }

        fn generate(&self, request: GenerateRequest) -> GenerationStream {
            assert!(request.messages[1].content.ends_with("Last message: and for children?\n"));
            let (sender, receiver) = tokio::sync::mpsc::channel(2);
            let usage = Usage { prompt_tokens: 1, generated_tokens: 1, finish: self.1 };
            for piece in [Piece::Text(self.0.into()), Piece::Done(usage)] {
                sender.try_send(Ok(piece)).expect("room");
            }
            receiver
        }
    }

    #[tokio::test]
    async fn a_generator_is_believed_when_it_gives_a_question_in_time() {
        let turns = ["Is aspirin safe for adults?", "and for children?"];
        let deadline = Instant::now() + Duration::from_secs(9);
        for (says, expected) in [
            (Says("\"Is aspirin safe for children?\"", Finish::Stop), "Is aspirin safe for children?"),
            (Says("Is aspirin safe for", Finish::Length), "aspirin safe for children"),
            (Says("  ", Finish::Stop), "aspirin safe for children"),
        ] {
            assert_eq!(rewrite(Some(&says), &turns, deadline).await, expected);
        }
        assert_eq!(rewrite(None, &turns, deadline).await, "aspirin safe for children");
    }
}
