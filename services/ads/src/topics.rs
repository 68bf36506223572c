//! What a text is about, by the IAB Content Taxonomy 3.1.
//!
//! The names of the nodes are embedded once; a text is about the nodes whose names lie nearest to it. Only nodes of the
//! first two tiers whose unique ids are numbers are known, because targeting names topics by number.

use bowerbird_models_api::{Embedding, TextRole};
use bowerbird_scheduler::{Encoders, Priority, SchedulerError};

/// Id and name of each node, a line each; the first line says where they are from.
const NODES: &str = include_str!("../data/iab-content-3.1.tsv");
/// Most topics of one text.
const MOST: usize = 3;
/// A topic whose cosine lies further than this under the best one is not named beside it.
const SPREAD: f32 = 0.04;

/// What a text is about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Topic {
    /// Unique id in the taxonomy.
    pub id: u16,
    /// Cosine of text and name.
    pub cosine: f32,
    /// The same after the mean of all names was taken off both.
    pub centred: f32,
}

/// The nodes with their vectors in one embedding space.
///
/// Nodes are ordered by cosine, but a cosine alone does not say whether a text is about anything: all texts share a
/// direction, short ones a large part of it, so a greeting lies as near to some name as a question about it does. Whether
/// a node is named is therefore decided by the cosine that is left when the mean of all names is taken off both.
pub struct Topics {
    nodes: Vec<Node>,
    mean: Vec<f32>,
    threshold: f32,
}

struct Node {
    id: u16,
    vector: Embedding,
    /// Product with the mean.
    along: f32,
}

impl Topics {
    /// Embeds the names, behind everything that a person waits for: about 250 short texts, a second or two on one
    /// core. A text is about those whose cosine without the mean is at least `threshold`. Blocks; not to be called from
    /// async code.
    pub fn embed_blocking(encoders: &Encoders, threshold: f32) -> Result<Self, SchedulerError> {
        let (ids, names): (Vec<u16>, Vec<String>) = nodes().map(|(id, name)| (id, name.to_owned())).unzip();
        let vectors = encoders.embed_blocking(&names, TextRole::Passage, Priority::Bulk)?;
        let mut mean = vec![0.0; encoders.space().dim];
        for vector in &vectors {
            for (sum, value) in mean.iter_mut().zip(vector.as_slice()) {
                *sum += value / vectors.len() as f32;
            }
        }
        let node = |(id, vector): (u16, Embedding)| Node { id, along: dot(vector.as_slice(), &mean), vector };
        let nodes = ids.into_iter().zip(vectors).map(node).collect();
        Ok(Self { nodes, mean, threshold })
    }

    /// Ids of the nearest nodes to a text embedded in the query role, nearest first, at most three; none when no name
    /// is near, or the vector is of another space.
    pub fn of(&self, text: &Embedding) -> Vec<u16> {
        self.nearest(text).into_iter().map(|topic| topic.id).collect()
    }

    /// As [`Topics::of`], with cosines.
    pub fn nearest(&self, text: &Embedding) -> Vec<Topic> {
        if text.dim() != self.mean.len() {
            return Vec::new();
        }
        let text = text.as_slice();
        let (along, mean) = (dot(text, &self.mean), dot(&self.mean, &self.mean));
        // Squared length of a unit vector without the mean.
        let rest = |along: f32| (1.0 - 2.0 * along + mean).max(f32::MIN_POSITIVE);
        let mut best: Vec<Topic> = Vec::with_capacity(MOST + 1);
        for node in &self.nodes {
            let cosine = dot(node.vector.as_slice(), text);
            if best.len() == MOST && cosine <= best[MOST - 1].cosine {
                continue;
            }
            let centred = (cosine - along - node.along + mean) / (rest(along) * rest(node.along)).sqrt();
            if centred < self.threshold {
                continue;
            }
            let at = best.partition_point(|better| better.cosine >= cosine);
            best.insert(at, Topic { id: node.id, cosine, centred });
            best.truncate(MOST);
        }
        let least = best.first().map_or(0.0, |best| best.cosine - SPREAD);
        best.retain(|topic| topic.cosine >= least);
        best
    }

    /// Name of the node `id`, if it is known.
    pub fn name(id: u16) -> Option<&'static str> {
        nodes().find(|(node, _)| *node == id).map(|(_, name)| name)
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn nodes() -> impl Iterator<Item = (u16, &'static str)> {
    NODES.lines().filter_map(|line| {
        let (id, name) = line.split_once('\t')?;
        Some((id.parse().ok()?, name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowerbird_models_api::Embedder;
    use bowerbird_models_api::stub::{StubEmbedder, StubReranker};
    use bowerbird_scheduler::EncodersConfig;

    #[test]
    fn every_line_is_a_node() {
        let ids: Vec<u16> = nodes().map(|(id, _)| id).collect();
        assert_eq!(ids.len(), NODES.lines().count() - 1);
        assert!(ids.is_sorted_by(|a, b| a < b), "no node twice");
        assert_eq!(Topics::name(483), Some("Sports"));
        assert_eq!(Topics::name(0), None);
    }

    #[test]
    fn nearest_first_and_no_more_than_three() {
        let start = || {
            Encoders::start(EncodersConfig::default(), |_| {
                Ok((Box::new(StubEmbedder::new(256)), Box::new(StubReranker)))
            })
        };
        let mut topics = Topics::embed_blocking(&start().expect("starts"), 0.4).expect("embeds");
        let text = |text: &str| StubEmbedder::new(256).embed(text, TextRole::Query).expect("embeds");
        assert_eq!(topics.of(&text("table tennis")).first(), Some(&538));
        let several = topics.nearest(&text("cats dogs birds golf"));
        assert_eq!(several.len(), MOST, "{several:?}");
        assert!(several.is_sorted_by(|a, b| a.cosine >= b.cosine));
        topics.threshold = 0.7;
        assert!(topics.of(&text("cats dogs birds golf")).is_empty(), "none is near enough");
        let other = StubEmbedder::new(8).embed("cats", TextRole::Query).expect("embeds");
        assert!(topics.of(&other).is_empty(), "another space");
    }
}
