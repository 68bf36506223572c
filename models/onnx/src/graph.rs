//! One session over one BERT-like graph: token ids in, one float tensor out.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use bowerbird_models_api::ModelError;
use ort::ep::CUDA;
use ort::logging::LogLevel;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session, SessionInputValue};
use ort::value::TensorRef;

use crate::{OnnxError, Provider, ProviderRequest, Providers, Runtime, SessionOptions};

const IDS: &str = "input_ids";
const MASK: &str = "attention_mask";
const TYPES: &str = "token_type_ids";

/// A loaded graph with inputs `input_ids`, `attention_mask` and perhaps `token_type_ids`, all `[1, tokens] i64`.
pub(crate) struct Graph {
    session: Session,
    name: String,
    path: PathBuf,
    output: String,
    takes_types: bool,
    providers: Providers,
    mask: Vec<i64>,
}

impl Graph {
    /// Loads the file and checks its inputs; `output` is the tensor wanted, or the only one there is.
    pub(crate) fn open(
        runtime: &Runtime,
        name: &str,
        path: &Path,
        output: &str,
        options: &SessionOptions,
    ) -> Result<Self, OnnxError> {
        let unusable = |message: String| OnnxError::Model { path: path.into(), message };
        let (session, providers) = open_session(runtime, name, path, options)?;
        let inputs: Vec<&str> = session.inputs().iter().map(ort::value::Outlet::name).collect();
        if !inputs.contains(&IDS)
            || !inputs.contains(&MASK)
            || inputs.iter().any(|name| ![IDS, MASK, TYPES].contains(name))
        {
            let expected = format!("{IDS}, {MASK} and perhaps {TYPES}");
            return Err(unusable(format!("it takes inputs {}, expected {expected}", inputs.join(", "))));
        }
        let outputs: Vec<&str> = session.outputs().iter().map(ort::value::Outlet::name).collect();
        let output = match outputs.as_slice() {
            names if names.contains(&output) => output.to_owned(),
            [only] => (*only).to_owned(),
            names => return Err(unusable(format!("it gives {}, expected {output}", names.join(", ")))),
        };
        let takes_types = inputs.contains(&TYPES);
        Ok(Self {
            session,
            name: name.into(),
            path: path.into(),
            output,
            takes_types,
            providers,
            mask: Vec::new(),
        })
    }

    /// Runs one item. `ids` and `types` have one value per token; `read` gets shape and values of the output.
    pub(crate) fn run<T>(
        &mut self,
        ids: &[i64],
        types: &[i64],
        read: impl FnOnce(&[i64], &[f32]) -> T,
    ) -> Result<T, ModelError> {
        let Self { session, name, output, takes_types, mask, .. } = self;
        mask.resize(ids.len(), 1);
        let attempt = || -> ort::Result<T> {
            let shape = [1, ids.len()];
            let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = vec![
                (IDS.into(), TensorRef::from_array_view((shape, ids))?.into()),
                (MASK.into(), TensorRef::from_array_view((shape, mask.as_slice()))?.into()),
            ];
            if *takes_types {
                inputs.push((TYPES.into(), TensorRef::from_array_view((shape, types))?.into()));
            }
            let outputs = session.run(inputs)?;
            let value =
                outputs.get(output.as_str()).ok_or_else(|| ort::Error::new("the output is missing"))?;
            let (shape, values) = value.try_extract_tensor::<f32>()?;
            Ok(read(shape, values))
        };
        attempt().map_err(|error| ModelError::Failed { model: name.clone(), message: error.to_string() })
    }

    /// Turns a failed trial run at loading into an error about the file.
    pub(crate) fn unusable(&self, error: &ModelError) -> OnnxError {
        OnnxError::Model { path: self.path.clone(), message: error.to_string() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn providers(&self) -> &Providers {
        &self.providers
    }
}

/// Builds the session on what was asked for, or on the CPU with a note.
///
/// Whether the GPU works is found out by using it: the runtime reports the GPU as available whenever it was compiled
/// in, and falls back in silence unless told to fail.
fn open_session(
    runtime: &Runtime,
    name: &str,
    path: &Path,
    options: &SessionOptions,
) -> Result<(Session, Providers), OnnxError> {
    let requested = options.providers;
    let unusable = |error: ort::Error| OnnxError::Model { path: path.into(), message: error.to_string() };
    if requested == ProviderRequest::Cpu {
        if options.require_gpu {
            return Err(OnnxError::GpuUnavailable { message: "the provider asked for is `cpu`".into() });
        }
        let session = build(runtime, path, options, Provider::Cpu).map_err(unusable)?;
        return Ok((session, Providers { requested, used: Provider::Cpu, note: None }));
    }
    let message = match build(runtime, path, options, Provider::Cuda) {
        Ok(session) => return Ok((session, Providers { requested, used: Provider::Cuda, note: None })),
        Err(error) => error.to_string(),
    };
    if options.require_gpu {
        return Err(OnnxError::GpuUnavailable { message });
    }
    // When the file itself is at fault, this fails too and says so.
    let session = build(runtime, path, options, Provider::Cpu).map_err(unusable)?;
    if requested == ProviderRequest::Cuda {
        tracing::warn!(model = name, reason = message, "the GPU cannot be used, running on the CPU");
    } else {
        tracing::info!(model = name, reason = message, "no GPU, running on the CPU");
    }
    Ok((session, Providers { requested, used: Provider::Cpu, note: Some(message) }))
}

fn build(
    runtime: &Runtime,
    path: &Path,
    options: &SessionOptions,
    provider: Provider,
) -> ort::Result<Session> {
    let mut builder = Session::builder(runtime.environment())?
        .with_log_level(LogLevel::Warning)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(options.threads.max(1))?
        .with_inter_threads(1)?
        // Spinning threads of idle sessions take the cores from busy ones.
        .with_intra_op_spinning(false)?
        // Patterns are kept for each input length, and every text has its own.
        .with_memory_pattern(false)?;
    if provider == Provider::Cuda {
        builder = builder.with_execution_providers([CUDA::default().build().error_on_failure()])?;
    }
    builder.commit_from_file(path)
}
