//! The shared library of ONNX Runtime, loaded once per process.

use std::panic;
use std::path::{Path, PathBuf};

use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;

use crate::{OnnxError, library};

/// ONNX Runtime, loaded and initialised. Cheap to clone; the library stays loaded until the process ends.
#[derive(Clone, Debug)]
pub struct Runtime {
    environment: Environment,
    dylib: PathBuf,
}

/// What this process has loaded. The runtime allows one library and one environment per process, for good.
static LOADED: Mutex<Loaded> = Mutex::new(Loaded::Nothing);

enum Loaded {
    Nothing,
    /// The library is in, but no environment could be made; another library cannot replace it.
    Unusable(PathBuf),
    Ready(Runtime),
}

impl Runtime {
    /// Loads the library, or returns the one loaded before from the same path.
    ///
    /// A load that fails leaves the way free for a later one with a good library. The loader runs initialisers of
    /// the library: load only a file whose checksum was verified.
    pub fn load(dylib: &Path) -> Result<Self, OnnxError> {
        let failed = |message: String| OnnxError::Library { path: dylib.into(), message };
        // The library is loaded by its absolute path: a bare name would be searched for elsewhere.
        let path = dylib.canonicalize().map_err(|error| failed(error.to_string()))?;
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        match &*loaded {
            Loaded::Ready(runtime) if runtime.dylib == path => return Ok(runtime.clone()),
            Loaded::Ready(Self { dylib: other, .. }) => {
                return Err(OnnxError::AlreadyLoaded { loaded: other.clone(), asked: path });
            }
            Loaded::Unusable(other) if *other != path => {
                return Err(OnnxError::AlreadyLoaded { loaded: other.clone(), asked: path });
            }
            Loaded::Unusable(_) | Loaded::Nothing => {}
        }
        library::check(&path).map_err(failed)?;
        let builder =
            without_panic(|| ort::init_from(&path).map_err(|error| error.to_string())).map_err(failed)?;
        *loaded = Loaded::Unusable(path.clone());
        let environment = without_panic(|| {
            let builder = builder.with_name("bowerbird").with_telemetry(false);
            builder.build().map_err(|error| error.to_string())
        })
        .map_err(failed)?;
        environment.set_log_level(LogLevel::Warning);
        let runtime = Self { environment, dylib: path };
        *loaded = Loaded::Ready(runtime.clone());
        Ok(runtime)
    }

    /// The library in use.
    pub fn dylib(&self) -> &Path {
        &self.dylib
    }

    /// How the library was built, in its own words.
    pub fn build_info(&self) -> &'static str {
        ort::info()
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }
}

/// Runs `work`; a panic inside becomes a message. The bindings assert what a foreign library should have returned.
fn without_panic<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    panic::catch_unwind(panic::AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown");
        Err(format!("the library misbehaves: {message}"))
    })
}
