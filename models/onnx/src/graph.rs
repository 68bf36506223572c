//! One session over one BERT-like graph: token ids in, one float tensor out.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use bowerbird_models_api::ModelError;
use ort::logging::LogLevel;
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session, SessionInputValue};
use ort::value::{Tensor, TensorRef};

use crate::rows::{BatchShapes, Row, Rows};
use crate::{OnnxError, Provider, ProviderRequest, Providers, Runtime, SessionOptions, gpu};

pub(crate) const IDS: &str = "input_ids";
pub(crate) const MASK: &str = "attention_mask";
pub(crate) const TYPES: &str = "token_type_ids";

/// A loaded graph with inputs `input_ids`, `attention_mask` and perhaps `token_type_ids`, all `[rows, tokens] i64`.
pub(crate) struct Graph {
    session: Session,
    name: String,
    path: PathBuf,
    output: String,
    takes_types: bool,
    providers: Providers,
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
        Ok(Self { session, name: name.into(), path: path.into(), output, takes_types, providers })
    }

    /// Runs one call; `read` gets shape and values of the output.
    pub(crate) fn run<T>(
        &mut self,
        rows: &Rows,
        read: impl FnOnce(&[i64], &[f32]) -> T,
    ) -> Result<T, ModelError> {
        let ran = match self.providers.used.pinned_output() {
            None => self.run_plain(rows, read),
            Some(device) => self.run_bound(rows, device, read),
        };
        ran.map_err(|error| ModelError::Failed { model: self.name.clone(), message: error.to_string() })
    }

    fn run_plain<T>(&mut self, rows: &Rows, read: impl FnOnce(&[i64], &[f32]) -> T) -> ort::Result<T> {
        let shape = [rows.rows, rows.length];
        let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = vec![
            (IDS.into(), TensorRef::from_array_view((shape, rows.ids.as_slice()))?.into()),
            (MASK.into(), TensorRef::from_array_view((shape, rows.mask.as_slice()))?.into()),
        ];
        if self.takes_types {
            inputs.push((TYPES.into(), TensorRef::from_array_view((shape, rows.types.as_slice()))?.into()));
        }
        let outputs = self.session.run(inputs)?;
        let value =
            outputs.get(self.output.as_str()).ok_or_else(|| ort::Error::new("the output is missing"))?;
        let (shape, values) = value.try_extract_tensor::<f32>()?;
        Ok(read(shape, values))
    }

    /// The same through an IO binding (its tensors are owned: to copy borrowed ones, ort opens a session of its own,
    /// and never came back here): inputs are copied to the device once, and only the output that is wanted comes
    /// back, into memory of `device` that the host can read.
    fn run_bound<T>(
        &mut self,
        rows: &Rows,
        device: AllocationDevice<'static>,
        read: impl FnOnce(&[i64], &[f32]) -> T,
    ) -> ort::Result<T> {
        let shape = [rows.rows, rows.length];
        let mut binding = self.session.create_binding()?;
        binding.bind_input(IDS, &Tensor::from_array((shape, rows.ids.clone()))?)?;
        binding.bind_input(MASK, &Tensor::from_array((shape, rows.mask.clone()))?)?;
        if self.takes_types {
            binding.bind_input(TYPES, &Tensor::from_array((shape, rows.types.clone()))?)?;
        }
        let memory = MemoryInfo::new(device, 0, AllocatorType::Device, MemoryType::CPUOutput)?;
        binding.bind_output_to_device(self.output.as_str(), &memory)?;
        binding.synchronize_inputs()?;
        let outputs = self.session.run_binding(&binding)?;
        binding.synchronize_outputs()?;
        let value =
            outputs.get(self.output.as_str()).ok_or_else(|| ort::Error::new("the output is missing"))?;
        let (shape, values) = value.try_extract_tensor::<f32>()?;
        Ok(read(shape, values))
    }

    /// Runs `rows` in as few calls as `shapes` allow. `read` gets, for each row, its values (a share of the output of
    /// its call), the rest of the shape, and its tokens without padding. Rows of a call that fails have its message.
    pub(crate) fn run_many<T>(
        &mut self,
        rows: &[Row],
        shapes: &BatchShapes,
        mut read: impl FnMut(&[f32], &[i64], usize) -> Result<T, ModelError>,
    ) -> Vec<Result<T, ModelError>> {
        let mut results: Vec<Option<Result<T, ModelError>>> = rows.iter().map(|_| None).collect();
        let model = self.name.clone();
        for (length, members) in shapes.calls(rows) {
            let chosen: Vec<&Row> = members.iter().map(|index| &rows[*index]).collect();
            let call = Rows::padded(&chosen, length);
            let ran = self.run(&call, |shape, values| {
                let share = values.len() / call.rows;
                if shape.first().copied() != i64::try_from(call.rows).ok() || share == 0 {
                    return Err(format!("output has shape {shape:?}, expected {} rows", call.rows));
                }
                for (place, index) in members.iter().enumerate() {
                    let own = &values[place * share..(place + 1) * share];
                    results[*index] = Some(read(own, &shape[1..], call.tokens(place)));
                }
                Ok(())
            });
            let message = match ran {
                Ok(Ok(())) => continue,
                Ok(Err(message)) => message,
                Err(error) => error.to_string(),
            };
            for index in members {
                results[index] =
                    Some(Err(ModelError::Failed { model: model.clone(), message: message.clone() }));
            }
        }
        let missing = || ModelError::Failed { model: model.clone(), message: "a row got no result".into() };
        results.into_iter().map(|result| result.unwrap_or_else(|| Err(missing()))).collect()
    }

    /// Runs every shape of `shapes` once, the largest first, so that memory is taken and kernels are chosen before
    /// the first request.
    pub(crate) fn warm(
        &mut self,
        shapes: &BatchShapes,
        token: i64,
        longest: usize,
    ) -> Result<(), ModelError> {
        for length in shapes.ladder.into_iter().rev().filter(|length| *length <= longest) {
            let most = (shapes.tokens / length).clamp(1, shapes.rows);
            let row = Row { ids: vec![token; length], types: vec![0; length] };
            for rows in [most, 1] {
                self.run(&Rows::padded(&vec![&row; rows], length), |_, _| ())?;
            }
        }
        Ok(())
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
    let mut messages = Vec::new();
    // TensorRT builds its engines for minutes: only when it is asked for by name.
    let wanted: &[Provider] = match requested {
        ProviderRequest::TensorRt => &[Provider::TensorRt, Provider::Cuda],
        _ => &[Provider::Cuda],
    };
    for used in wanted.iter().copied() {
        match build(runtime, path, options, used) {
            Ok(session) => {
                let note = (!messages.is_empty()).then(|| messages.join("; "));
                if let Some(reason) = &note {
                    tracing::warn!(model = name, reason, "running on {used}");
                }
                return Ok((session, Providers { requested, used, note }));
            }
            Err(error) => messages.push(format!("{used}: {error}")),
        }
    }
    let message = messages.join("; ");
    if options.require_gpu {
        return Err(OnnxError::GpuUnavailable { message });
    }
    // When the file itself is at fault, this fails too and says so.
    let session = build(runtime, path, options, Provider::Cpu).map_err(unusable)?;
    if requested == ProviderRequest::Auto {
        tracing::info!(model = name, reason = message, "no GPU, running on the CPU");
    } else {
        tracing::warn!(model = name, reason = message, "the GPU cannot be used, running on the CPU");
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
    let accelerators = gpu::dispatch(provider, options)?;
    if !accelerators.is_empty() {
        builder = builder.with_execution_providers(accelerators)?;
    }
    builder.commit_from_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    /// The path of the GPU, on the memory of the CPU.
    #[test]
    fn a_bound_call_gives_what_a_plain_one_gives() {
        let Some(models) = testing::models() else { return };
        let options = SessionOptions { providers: ProviderRequest::Cpu, ..SessionOptions::default() };
        let (runtime, path) = (models.runtime(), models.reranker_files().model);
        let mut graph = Graph::open(&runtime, "m", &path, "logits", &options).expect("opens");
        let row = |ids: &[i64]| Row { ids: ids.to_vec(), types: vec![0; ids.len()] };
        let rows = Rows::padded(&[&row(&[101, 7592, 102, 2088, 102]), &row(&[101, 102, 102])], 8);
        let read = |shape: &[i64], values: &[f32]| (shape.to_vec(), values.to_vec());
        let plain = graph.run_plain(&rows, read).expect("runs");
        for _ in 0..2 {
            let bound = graph.run_bound(&rows, AllocationDevice::CPU, read).expect("runs");
            assert_eq!(bound, plain);
        }
        assert_eq!(plain.0, [2, 1]);
        let shapes = BatchShapes { tokens: 1024, ..BatchShapes::default() };
        graph.warm(&shapes, 101, 64).expect("every shape runs");
        let error = graph.run(&Rows::one(&row(&[1_000_000])), |_, _| ()).expect_err("no such token");
        assert!(matches!(error, ModelError::Failed { .. }), "{error}");
    }
}
