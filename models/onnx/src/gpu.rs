//! The providers of a GPU, as far as they are built in: features `cuda` and `tensorrt`.

use ort::ep::ExecutionProviderDispatch;

use crate::{Provider, SessionOptions};

/// What a session on `provider` is built with, in the order of preference; an error when it is not built in. A
/// provider that cannot be used fails the session, so that the fallback is known.
pub(crate) fn dispatch(
    provider: Provider,
    options: &SessionOptions,
) -> ort::Result<Vec<ExecutionProviderDispatch>> {
    match provider {
        Provider::Cpu => Ok(Vec::new()),
        Provider::Cuda => Ok(vec![cuda()?]),
        // What TensorRT has no kernel for runs on CUDA.
        Provider::TensorRt => Ok(vec![tensorrt(options)?, cuda()?]),
    }
}

#[cfg(not(all(feature = "cuda", feature = "tensorrt")))]
fn left_out(feature: &str) -> ort::Error {
    ort::Error::new(format!("this program is built without it: build it with `--features {feature}`"))
}

#[cfg(feature = "cuda")]
#[expect(clippy::unnecessary_wraps, reason = "it fails where the feature is off")]
fn cuda() -> ort::Result<ExecutionProviderDispatch> {
    Ok(ort::ep::CUDA::default().build().error_on_failure())
}

#[cfg(not(feature = "cuda"))]
fn cuda() -> ort::Result<ExecutionProviderDispatch> {
    Err(left_out("cuda"))
}

/// Engines for one row of one token up to the largest call; without these bounds an engine is built for each shape.
#[cfg(feature = "tensorrt")]
#[expect(clippy::unnecessary_wraps, reason = "it fails where the feature is off")]
fn tensorrt(options: &SessionOptions) -> ort::Result<ExecutionProviderDispatch> {
    use crate::graph::{IDS, MASK, TYPES};
    use crate::rows::BatchShapes;

    let shapes = BatchShapes::default();
    let longest = shapes.ladder[shapes.ladder.len() - 1];
    let profile = |rows: usize, length: usize| {
        [IDS, MASK, TYPES].map(|input| format!("{input}:{rows}x{length}")).join(",")
    };
    let provider = ort::ep::TensorRT::default()
        .with_profile_min_shapes(profile(1, 1))
        .with_profile_opt_shapes(profile(32, 64))
        .with_profile_max_shapes(profile(shapes.rows, longest));
    let provider = match &options.engine_cache {
        None => provider,
        Some(dir) => provider
            .with_engine_cache(true)
            .with_engine_cache_path(dir.display())
            .with_timing_cache(true)
            .with_timing_cache_path(dir.display()),
    };
    Ok(provider.build().error_on_failure())
}

#[cfg(not(feature = "tensorrt"))]
fn tensorrt(_: &SessionOptions) -> ort::Result<ExecutionProviderDispatch> {
    Err(left_out("tensorrt"))
}
