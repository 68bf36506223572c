//! What the store is asked to do, and what it answers.

use crate::{Counts, CountsPatch, Ordinal, Post, PostId};

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Adds a post, or replaces the one with the same id.
    Upsert(Box<Post>),
    /// Changes engagement counters in place.
    SetCounts {
        /// The post.
        id: PostId,
        /// The new values.
        counts: CountsPatch,
    },
    /// Removes a post.
    Delete(PostId),
}

impl Op {
    /// Id of the post it is about.
    pub fn id(&self) -> &PostId {
        match self {
            Self::Upsert(post) => &post.id,
            Self::SetCounts { id, .. } | Self::Delete(id) => id,
        }
    }
}

/// What became of one [`Op`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A new post.
    Created {
        /// Its ordinal.
        ordinal: Ordinal,
    },
    /// The text or metadata changed: the post has a new ordinal and the old one is dead.
    Replaced {
        /// The new ordinal.
        ordinal: Ordinal,
        /// The dead one.
        old: Ordinal,
    },
    /// Only counters changed: the ordinal stays.
    CountsChanged {
        /// The ordinal.
        ordinal: Ordinal,
        /// All counters as they are now.
        counts: Counts,
    },
    /// Nothing changed.
    Unchanged {
        /// The ordinal.
        ordinal: Ordinal,
    },
    /// The post is gone.
    Deleted {
        /// The dead ordinal.
        ordinal: Ordinal,
    },
    /// No post has this id.
    NotFound,
}

/// What one transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// One for each op, in the same order.
    pub outcomes: Vec<Outcome>,
    /// Number of this transaction: one more than the one before.
    pub sequence: u64,
}

/// A post with its place in the generation.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredPost {
    /// Names this version of the text.
    pub ordinal: Ordinal,
    /// The post, with its counters as they are now.
    pub post: Post,
}
