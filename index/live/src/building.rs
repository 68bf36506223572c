//! A generation that is being built beside the one that serves.
//!
//! An ordinal is one version of one post, given once and in rising order, so the post store is the log that a new
//! generation follows: everything below its lexical checkpoint is in it, everything above is to be added, live writes
//! included. It can never take in an old version after a newer one, and a deletion wins because no search returns an
//! ordinal that is dead in the post store. What is in the indexes is its own checkpoint: after a crash
//! [`Live::build`] goes on where the last commit was.

use std::ops::ControlFlow;
use std::sync::Arc;

use bowerbird_lexical::{Checkpoint, LexicalError, LexicalIndex};
use bowerbird_posts::{Ordinal, StoredPost};
use bowerbird_vector::{PointId, VectorIndex};
use roaring::RoaringBitmap;

use crate::follower::{Indexes, follow};
use crate::progress::{Progress, State};
use crate::recover::{delete_dead, open_lexical, open_vectors, scan_readable};
use crate::round::Rounds;
use crate::{GenerationSpec, Live, LiveError, Snapshot, VectorSource};

/// What one step did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Posts that it added.
    pub done: u64,
    /// Posts that are still to be added, as far as is known now.
    pub left: u64,
    /// Why posts were left for later.
    pub error: Option<String>,
}

/// A range of ordinals, as the post store has it and as the generation has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerationShard {
    /// First ordinal.
    pub from: u32,
    /// Live posts of the post store.
    pub posts: u64,
    /// Those in the lexical index.
    pub lexical: u64,
    /// Those with a vector.
    pub vectors: u64,
    /// Those whose text the vector source refuses.
    pub refused: u64,
    /// Posts that the lexical index has more than once.
    pub repeated: u64,
    /// CRC-32 over ordinal, id and text of the posts of the store.
    pub store_crc32: u32,
    /// The same over those that both indexes have.
    pub generation_crc32: u32,
}

impl GenerationShard {
    /// Whether the generation has exactly what the post store has.
    pub fn agrees(&self) -> bool {
        self.store_crc32 == self.generation_crc32
            && self.lexical == self.posts
            && self.vectors + self.refused == self.posts
            && self.repeated == 0
    }
}

/// A generation that is being built. Dropping it closes its files; what was added stays.
pub struct Building {
    live: Live,
    number: u32,
    lexical: LexicalIndex,
    rounds: Rounds,
    refused: RoaringBitmap,
    damaged: RoaringBitmap,
}

impl Live {
    /// Opens generation `number` to build it, making it when absent. `source` gives the vectors.
    ///
    /// Fails with [`LiveError::Generation`] when it serves or was begun with another `spec`, and with
    /// [`VectorError::SpaceMismatch`](bowerbird_vector::VectorError::SpaceMismatch) when its vectors are of another
    /// space than `source` gives.
    pub fn build(
        &self,
        number: u32,
        spec: &GenerationSpec,
        source: Arc<dyn VectorSource>,
    ) -> Result<Building, LiveError> {
        let stores = self.stores();
        let refuse = |message: &str| Err(LiveError::Generation { number, message: message.into() });
        if number == 0 || number == stores.dir.current() {
            return refuse("it serves, so it cannot be built: give the number of another");
        }
        let dir = stores.dir.generation(number);
        if dir.is_dir() {
            if GenerationSpec::read(&dir)? != *spec {
                return refuse("it was begun with other settings: give those, or another number");
            }
        } else {
            // With its settings from the first moment on: a crash leaves none that says nothing.
            stores.dir.make_generation(number, |fresh| spec.write(fresh))?;
        }
        let vector = spec.vector.clone().unwrap_or_else(|| self.config().vector.clone());
        let lexical = open_lexical(&dir, spec, &stores.posts)?;
        let vectors = open_vectors(&dir, &stores.posts, &source.space(), source.dim(), vector)?;
        Ok(Building {
            live: self.clone(),
            number,
            lexical,
            rounds: Rounds { vectors: Arc::new(vectors), source, stores: Arc::clone(stores) },
            refused: RoaringBitmap::new(),
            damaged: RoaringBitmap::new(),
        })
    }
}

impl Building {
    /// Its number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Its vector index, for searches and measurements.
    pub fn vectors(&self) -> &VectorIndex {
        &self.rounds.vectors
    }

    /// Adds up to `most` posts to the lexical index, in one commit.
    pub fn add_words(&mut self, most: usize) -> Result<Step, LiveError> {
        let posts = &self.rounds.stores.posts;
        let checkpoint = self.checkpoint();
        // Read before the scan: what is given out later is for the next step.
        let end = posts.next_ordinal()?.0;
        let (mut done, mut next) = (0, checkpoint.next_ordinal);
        let mut failed: Option<LexicalError> = None;
        let mut whole = true;
        scan_readable(
            posts,
            checkpoint.next_ordinal,
            &mut self.damaged,
            &mut |StoredPost { ordinal, post }| {
                if done == most as u64 {
                    whole = false;
                    return ControlFlow::Break(());
                }
                if let Err(error) = self.lexical.add(ordinal, &post) {
                    failed = Some(error);
                    return ControlFlow::Break(());
                }
                done += 1;
                next = ordinal.0 + 1;
                ControlFlow::Continue(())
            },
        )?;
        if let Some(error) = failed {
            self.lexical.roll_back()?;
            return Err(error.into());
        }
        if whole {
            next = next.max(end);
        }
        if next > checkpoint.next_ordinal {
            self.lexical.commit(Checkpoint { next_ordinal: next, sequence: checkpoint.sequence })?;
        }
        let snapshot = self.live.snapshot();
        let left = snapshot.live().range_cardinality(next..);
        Ok(Step { done, left, error: None })
    }

    /// Embeds up to `most` posts that have no vector, the oldest first. What fails for now is left, with the reason.
    pub fn add_vectors(&mut self, most: usize, stopping: &dyn Fn() -> bool) -> Step {
        let pending = self.without_vector();
        let batch: Vec<u32> = pending.iter().take(most).collect();
        let round = self.rounds.run(&batch, stopping);
        let done = round.embedded.len() + round.refused.len();
        self.refused |= &round.refused;
        // A post that died since was neither embedded nor refused, and is no longer pending.
        let error = round.message.filter(|_| !round.later.is_empty());
        Step { done, left: pending.len() - done.min(pending.len()), error }
    }

    /// Inserts vectors that were made elsewhere, of the space of this generation and unit length; durable at return.
    /// Only for ordinals whose text is known to be the one that was embedded.
    pub fn add_given(&self, batch: &[(Ordinal, &[f32])]) -> Result<(), LiveError> {
        let points: Vec<(PointId, &[f32])> =
            batch.iter().map(|(ordinal, vector)| (PointId(ordinal.0), *vector)).collect();
        self.rounds.vectors.insert(&points)?;
        Ok(self.rounds.vectors.sync()?)
    }

    /// Live posts that have no vector and are not refused.
    pub fn without_vector(&self) -> RoaringBitmap {
        let points = self.rounds.vectors.points();
        let snapshot = self.live.snapshot();
        (snapshot.live() - points) - &self.refused
    }

    /// Every live post below this ordinal is in both indexes, or its text is refused.
    pub fn level(&self) -> u32 {
        let words = self.checkpoint().next_ordinal;
        self.without_vector().min().map_or(words, |vectors| vectors.min(words))
    }

    /// Builds the graph of the vector index when it has enough points. Minutes for a million.
    pub fn seal(&self) -> Result<(), LiveError> {
        let points = self.rounds.vectors.points();
        let dead = points - self.live.snapshot().live();
        if self.rounds.vectors.wants_seal(&dead) {
            let report = self.rounds.vectors.seal(&dead)?;
            tracing::info!(?report, generation = self.number, "built the vector graph");
        }
        Ok(())
    }

    /// The present posts, as this generation finds them.
    pub fn snapshot(&self) -> Snapshot {
        let vectors = Arc::clone(&self.rounds.vectors);
        self.live.snapshot().with_indexes(self.number, self.lexical.searcher(), vectors)
    }

    /// Compares the generation with the post store, `size` ordinals at a time, below `horizon`. Reads every post once.
    pub fn shards(&self, size: u32, horizon: u32) -> Result<Vec<GenerationShard>, LiveError> {
        let (lexical, repeated) = self.lexical.searcher().ordinals();
        let points = self.rounds.vectors.points();
        let size = size.max(1);
        let mut shards: Vec<GenerationShard> = Vec::new();
        let mut hashers: Vec<(crc32fast::Hasher, crc32fast::Hasher)> = Vec::new();
        let mut damaged = RoaringBitmap::new();
        scan_readable(&self.rounds.stores.posts, 0, &mut damaged, &mut |StoredPost { ordinal, post }| {
            let ordinal = ordinal.0;
            if ordinal >= horizon {
                return ControlFlow::Break(());
            }
            let from = ordinal - ordinal % size;
            if shards.last().is_none_or(|shard| shard.from != from) {
                let end = from.saturating_add(size - 1);
                let repeated = repeated.range_cardinality(from..=end);
                shards.push(GenerationShard {
                    from,
                    posts: 0,
                    lexical: 0,
                    vectors: 0,
                    refused: 0,
                    repeated,
                    store_crc32: 0,
                    generation_crc32: 0,
                });
                hashers.push((crc32fast::Hasher::new(), crc32fast::Hasher::new()));
            }
            let (Some(shard), Some((store, generation))) = (shards.last_mut(), hashers.last_mut()) else {
                return ControlFlow::Break(());
            };
            let (words, vector) = (lexical.contains(ordinal), points.contains(ordinal));
            let refused = !vector && self.refused.contains(ordinal);
            shard.posts += 1;
            shard.lexical += u64::from(words);
            shard.vectors += u64::from(vector);
            shard.refused += u64::from(refused);
            let hash = |hasher: &mut crc32fast::Hasher| {
                hasher.update(&ordinal.to_le_bytes());
                hasher.update(post.id.as_str().as_bytes());
                hasher.update(&[0]);
                hasher.update(post.text.as_bytes());
            };
            hash(store);
            if words && (vector || refused) {
                hash(generation);
            }
            ControlFlow::Continue(())
        })?;
        for (shard, (store, generation)) in shards.iter_mut().zip(hashers) {
            shard.store_crc32 = store.finalize();
            shard.generation_crc32 = generation.finalize();
        }
        Ok(shards)
    }

    /// Makes this the generation that serves, in one step: a query that has begun goes on in the old one, and what is
    /// written meanwhile waits. Posts without a vector get theirs afterwards.
    ///
    /// When it fails before the step, the old generation serves on and this one can be opened again.
    pub fn cut_over(mut self) -> Result<(), LiveError> {
        // What is many is added before anybody has to wait.
        while self.add_words(20_000)?.done > 1000 {}
        let live = self.live.clone();
        let (old, retired_for) = {
            let mut target = live.target().lock();
            if target.work.is_none() {
                return Err(LiveError::Stopped);
            }
            let sequence = self.bring_level()?;
            let old = live.snapshot();
            let progress = self.progress(sequence, &old)?;
            let (stores, published, config) = (live.stores(), live.published(), live.config());
            let (searcher, vectors) = (self.lexical.searcher(), Arc::clone(&self.rounds.vectors));
            let indexes = Indexes {
                generation: self.number,
                lexical: self.lexical,
                vectors: Arc::clone(&vectors),
                source: self.rounds.source,
            };
            let next = follow(indexes, progress, stores, published, config)?;
            if let Err(error) = stores.dir.set_current(self.number) {
                next.follower.stop_vectors();
                drop(next.work);
                next.follower.join_lexical();
                next.follower.join_vectors();
                return Err(error);
            }
            published.retire(&old, config.retired_for);
            published.change(|parts| {
                parts.generation = self.number;
                parts.lexical = searcher;
                parts.vectors = vectors;
            });
            (live.replace_target(&mut target, next), config.retired_for)
        };
        old.stop_vectors();
        old.join_lexical();
        old.join_vectors();
        live.sweep_after(retired_for);
        Ok(())
    }

    fn checkpoint(&self) -> Checkpoint {
        self.lexical.checkpoint().unwrap_or(Checkpoint { next_ordinal: 0, sequence: 0 })
    }

    /// Brings the lexical index exactly to the post store, which must be at rest; gives its last transaction.
    fn bring_level(&mut self) -> Result<u64, LiveError> {
        self.add_words(usize::MAX)?;
        let posts = &self.rounds.stores.posts;
        let (sequence, checkpoint) = (posts.sequence()?, self.checkpoint());
        if checkpoint.sequence != sequence {
            let snapshot = self.live.snapshot();
            delete_dead(&self.lexical, checkpoint.next_ordinal, snapshot.live())?;
            self.lexical.commit(Checkpoint { next_ordinal: checkpoint.next_ordinal, sequence })?;
        }
        Ok(sequence)
    }

    fn progress(&self, sequence: u64, snapshot: &Snapshot) -> Result<Arc<Progress>, LiveError> {
        let next_ordinal = self.rounds.stores.posts.next_ordinal()?.0;
        let progress = Arc::new(Progress::default());
        progress.update(|state| {
            *state = State {
                sequence,
                next_ordinal,
                lexical_sequence: sequence,
                lexical_next: next_ordinal,
                pending: (snapshot.live() - self.rounds.vectors.points()) - &self.refused,
                refused: self.refused.clone(),
                damaged: self.damaged.len(),
                ..State::default()
            };
        });
        Ok(progress)
    }
}
