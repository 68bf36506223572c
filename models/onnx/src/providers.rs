//! Which hardware was asked for, and which is used.

use std::fmt;
use std::path::PathBuf;

use ort::memory::AllocationDevice;

/// What the configuration asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ProviderRequest {
    /// Only the CPU.
    Cpu,
    /// An NVIDIA GPU; the CPU with a warning when that fails.
    Cuda,
    /// An NVIDIA GPU by TensorRT; by CUDA, then the CPU, with a warning when that fails.
    TensorRt,
    /// An NVIDIA GPU when there is one, else the CPU.
    #[default]
    Auto,
}

/// What a session runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU. Single operators without a GPU kernel still run on the CPU.
    Cuda,
    /// The same, compiled by TensorRT.
    TensorRt,
}

impl Provider {
    /// Whether it is a GPU: fast at many rows in one call, and float only.
    pub fn is_gpu(self) -> bool {
        self != Self::Cpu
    }

    /// Memory that a GPU writes to by itself and the host reads.
    pub(crate) fn pinned_output(self) -> Option<AllocationDevice<'static>> {
        self.is_gpu().then_some(AllocationDevice::CUDA_PINNED)
    }
}

/// What was asked for and what came of it, for reports and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Providers {
    /// What the configuration asked for.
    pub requested: ProviderRequest,
    /// What the session was built on. Known from building it, not from what the library was compiled with.
    pub used: Provider,
    /// Why the two differ, in the words of the runtime.
    pub note: Option<String>,
}

/// How a session is built.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// The hardware to try.
    pub providers: ProviderRequest,
    /// Refuse to fall back to the CPU.
    pub require_gpu: bool,
    /// Threads inside one call; 1 when there is one session per core. 0 counts as 1.
    pub threads: usize,
    /// Where TensorRT keeps its engines, so that only the first start waits for them; nowhere when absent.
    pub engine_cache: Option<PathBuf>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { providers: ProviderRequest::Auto, require_gpu: false, threads: 1, engine_cache: None }
    }
}

impl fmt::Display for ProviderRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
            Self::Auto => "auto",
        })
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
        })
    }
}
