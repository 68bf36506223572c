//! A generator inside the process: one model, its own threads, one generation at a time.
//!
//! The model lives on the first thread of a pool of `threads` and takes requests from a bounded queue. Between two
//! generations it keeps the state of the last conversation, so that a prompt that begins like the one before (the
//! same instructions and posts) costs only its new tokens.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Instant;

use bowerbird_models_api::{Finish, GenerateRequest, GenerationStream, Generator, ModelError, Piece, Usage};
use tokio::sync::mpsc;

use crate::LlmError;
use crate::assemble::Assembler;
use crate::constrain::{SortedTokens, Words};
use crate::gguf::GgufFile;
use crate::llama::{KvCache, Llama};
use crate::sample::Sampler;
use crate::tokenizer::ChatTokenizer;

/// Tokens of a prompt that are read together. Deadlines and dropped streams are looked at in between.
const PROMPT_PART: usize = 32;

type Sender = mpsc::Sender<Result<Piece, ModelError>>;

/// How an embedded model runs.
#[derive(Clone, Debug)]
pub struct EmbeddedConfig {
    /// Name for reports, such as the catalog entry.
    pub name: String,
    /// Threads of the model, at least 1. They compete with search for the cores: leave it some.
    pub threads: usize,
    /// Most tokens of a prompt and its answer together; the model may allow fewer. Each needs 46 kB of memory in
    /// SmolLM2-135M once used (2048: 94 MB).
    pub context_tokens: usize,
    /// Generations that may wait for the one in progress. One more is refused at once.
    pub queue: usize,
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        Self { name: "embedded".to_owned(), threads: 1, context_tokens: 2048, queue: 16 }
    }
}

/// What an embedded model has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EmbeddedStats {
    /// Prompt tokens that were computed.
    pub prompt_tokens_read: u64,
    /// Prompt tokens whose state was still there from the request before.
    pub prompt_tokens_reused: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
}

#[derive(Default)]
struct Counters {
    read: AtomicU64,
    reused: AtomicU64,
    generated: AtomicU64,
}

struct Work {
    request: GenerateRequest,
    sender: Sender,
}

/// A llama model from a GGUF file. Dropping it ends its threads after the generation in progress.
pub struct EmbeddedGenerator {
    name: String,
    context: usize,
    kernel: &'static str,
    /// Generations that may wait.
    places: usize,
    queue: SyncSender<Work>,
    counters: Arc<Counters>,
}

impl EmbeddedGenerator {
    /// Reads the model and starts its threads. Blocks for the time of reading: about a second for SmolLM2-135M.
    ///
    /// Any quantisation of the file is turned into 8 bits in memory; a Q8_0 file loads faster and gives the
    /// same tokens up to rounding.
    pub fn open(gguf: &Path, config: EmbeddedConfig) -> Result<Self, LlmError> {
        let out_of_range = |field, found: usize, expected: &str| {
            Err(LlmError::Config { field, expected: expected.to_owned(), found: found.to_string() })
        };
        if !(1..=256).contains(&config.threads) {
            return out_of_range("threads", config.threads, "1 to 256");
        }
        if config.context_tokens < 64 {
            return out_of_range("context_tokens", config.context_tokens, "at least 64");
        }
        if !(1..=4096).contains(&config.queue) {
            return out_of_range("queue", config.queue, "1 to 4096");
        }
        let mut file = GgufFile::open(gguf)?;
        let tokenizer = ChatTokenizer::from_gguf(&file)?;
        let model = Llama::from_gguf(&mut file)?;
        if tokenizer.len() != model.sizes.vocabulary {
            return Err(LlmError::Tokenizer {
                path: gguf.to_owned(),
                message: format!(
                    "it has {} tokens, the model has embeddings of {}",
                    tokenizer.len(),
                    model.sizes.vocabulary
                ),
            });
        }
        let sorted = SortedTokens::of(&tokenizer);
        let context = config.context_tokens.min(model.sizes.context);
        let kernel = model.kernel_name();
        let counters = Arc::new(Counters::default());
        let (queue, receiver) = sync_channel(config.queue);
        let engine = Engine {
            name: config.name.clone(),
            model,
            tokenizer,
            sorted,
            context,
            cache: KvCache::default(),
            counters: Arc::clone(&counters),
        };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(config.threads)
            .thread_name(|i| format!("generator-{i}"))
            .build()
            .map_err(|error| LlmError::Threads { threads: config.threads, message: error.to_string() })?;
        pool.spawn(move || engine.serve(&receiver));
        tracing::info!(
            model = config.name,
            threads = config.threads,
            context_tokens = context,
            kernel,
            "embedded generator is ready"
        );
        Ok(Self { name: config.name, context, kernel, places: config.queue, queue, counters })
    }

    /// Most tokens of a prompt and its answer together.
    pub fn context_tokens(&self) -> usize {
        self.context
    }

    /// The instruction set in use: `avx2` or `portable`.
    pub fn kernel(&self) -> &'static str {
        self.kernel
    }

    /// What was done since [`open`](Self::open).
    pub fn stats(&self) -> EmbeddedStats {
        EmbeddedStats {
            prompt_tokens_read: self.counters.read.load(Ordering::Relaxed),
            prompt_tokens_reused: self.counters.reused.load(Ordering::Relaxed),
            generated_tokens: self.counters.generated.load(Ordering::Relaxed),
        }
    }
}

impl Generator for EmbeddedGenerator {
    fn name(&self) -> &str {
        &self.name
    }

    fn generate(&self, request: GenerateRequest) -> GenerationStream {
        // Room for every piece there can be: one a token, what was held back, the end. The model thread so never
        // waits for a slow reader.
        let (sender, receiver) = mpsc::channel(request.max_tokens.min(self.context) + 2);
        if let Err(refused) = self.queue.try_send(Work { request, sender }) {
            let (work, error) = match refused {
                TrySendError::Full(work) => {
                    let (model, waiting) = (self.name.clone(), self.places);
                    (work, ModelError::Overloaded { model, waiting, retry_after: None })
                }
                TrySendError::Disconnected(work) => (work, failed(&self.name, "its thread has ended")),
            };
            finish(&work.sender, Err(error));
        }
        receiver
    }
}

/// The model and everything its thread owns.
struct Engine {
    name: String,
    model: Llama,
    tokenizer: ChatTokenizer,
    sorted: SortedTokens,
    context: usize,
    cache: KvCache,
    counters: Arc<Counters>,
}

impl Engine {
    /// Answers requests until the last handle is gone.
    fn serve(mut self, queue: &Receiver<Work>) {
        while let Ok(Work { request, sender }) = queue.recv() {
            // A bug in one generation must not end all others.
            match catch_unwind(AssertUnwindSafe(|| self.generate(&request, &sender))) {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(usage))) => finish(&sender, Ok(Piece::Done(usage))),
                Ok(Err(error)) => finish(&sender, Err(error)),
                Err(_) => {
                    self.cache = KvCache::default();
                    finish(
                        &sender,
                        Err(failed(&self.name, "the generation panicked; the log has the reason")),
                    );
                }
            }
        }
    }

    /// One generation. Nothing is returned when the caller has gone.
    fn generate(&mut self, request: &GenerateRequest, sender: &Sender) -> Result<Option<Usage>, ModelError> {
        if sender.is_closed() {
            return Ok(None);
        }
        let mut usage = Usage { prompt_tokens: 0, generated_tokens: 0, finish: Finish::Deadline };
        if Instant::now() >= request.deadline {
            return Ok(Some(usage));
        }
        let prompt = self.prompt(request)?;
        let bad_request = |message: String| failed(&self.name, message);
        let mut assembler = Assembler::new(&request.stop).map_err(bad_request)?;
        let mut sampler = Sampler::new(request.temperature, request.seed).map_err(bad_request)?;
        let mut words = request.constraint.as_ref().map(Words::new).transpose().map_err(bad_request)?;
        usage.prompt_tokens = prompt.len();
        if request.max_tokens == 0 {
            usage.finish = Finish::Length;
            return Ok(Some(usage));
        }
        let kept = self.cache.keep_prefix(&prompt, &self.model.sizes);
        self.counters.reused.fetch_add(kept as u64, Ordering::Relaxed);
        let mut logits = Vec::new();
        for part in prompt[kept..].chunks(PROMPT_PART) {
            if sender.is_closed() {
                return Ok(None);
            }
            if Instant::now() >= request.deadline {
                return Ok(Some(usage));
            }
            logits = self.model.read(part, &mut self.cache);
            self.counters.read.fetch_add(part.len() as u64, Ordering::Relaxed);
        }
        usage.finish = loop {
            if sender.is_closed() {
                return Ok(None);
            }
            if Instant::now() >= request.deadline {
                break Finish::Deadline;
            }
            let Some(token) = self.choose(&mut sampler, &logits, words.as_ref())? else {
                break Finish::Stop;
            };
            if self.tokenizer.is_control(token) {
                break Finish::Stop;
            }
            if let Some(words) = &mut words {
                words.push(self.tokenizer.bytes(token));
            }
            usage.generated_tokens += 1;
            self.counters.generated.fetch_add(1, Ordering::Relaxed);
            if !send(sender, assembler.push(self.tokenizer.bytes(token))) {
                return Ok(None);
            }
            if assembler.stopped() {
                break Finish::Stop;
            }
            if usage.generated_tokens >= request.max_tokens || self.cache.len() >= self.context {
                break Finish::Length;
            }
            logits = self.model.read(&[token], &mut self.cache);
        };
        Ok(send(sender, assembler.finish()).then_some(usage))
    }

    /// The next token: of all, or of those that go on with the allowed `words`. None when none does.
    fn choose(
        &self,
        sampler: &mut Sampler,
        logits: &[f32],
        words: Option<&Words>,
    ) -> Result<Option<u32>, ModelError> {
        let Some(words) = words else {
            return sampler.next(logits).map(Some).ok_or(ModelError::NotFinite);
        };
        let mut allowed = words.allowed(&self.sorted, |id| self.tokenizer.bytes(id));
        if words.may_end() {
            allowed.extend(self.tokenizer.control());
        }
        if allowed.is_empty() {
            return Ok(None);
        }
        let open: Option<Vec<f32>> = allowed.iter().map(|&id| logits.get(id as usize).copied()).collect();
        let chosen = open.and_then(|open| sampler.next(&open)).ok_or(ModelError::NotFinite)?;
        Ok(allowed.get(chosen as usize).copied())
    }

    /// Tokens of the conversation, which must leave room for an answer.
    fn prompt(&self, request: &GenerateRequest) -> Result<Vec<u32>, ModelError> {
        let found: usize = request.messages.iter().map(|message| message.content.len()).sum();
        if request.messages.iter().all(|message| message.content.trim().is_empty()) {
            return Err(ModelError::EmptyText);
        }
        // More bytes than these cannot fit, whatever they say; the tokenizer need not look at them.
        let limit = self.tokenizer.max_bytes(self.context);
        if found > limit {
            return Err(ModelError::TextTooLong { limit, found });
        }
        let prompt = self.tokenizer.chat(&request.messages).map_err(|message| failed(&self.name, message))?;
        if prompt.len() >= self.context {
            return Err(failed(
                &self.name,
                format!(
                    "the prompt has {} tokens and the context window {}: shorten the messages or raise \
                     context_tokens",
                    prompt.len(),
                    self.context
                ),
            ));
        }
        Ok(prompt)
    }
}

/// Whether the caller still listens. The channel has room for every piece of a generation.
fn send(sender: &Sender, text: String) -> bool {
    text.is_empty() || sender.try_send(Ok(Piece::Text(text))).is_ok()
}

fn finish(sender: &Sender, last: Result<Piece, ModelError>) {
    // The only failure is a caller that has gone, who needs no answer.
    drop(sender.try_send(last));
}

fn failed(model: &str, message: impl Into<String>) -> ModelError {
    ModelError::Failed { model: model.to_owned(), message: message.into() }
}
