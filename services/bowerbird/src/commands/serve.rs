//! `bowerbird serve`

use std::net::SocketAddr;

use anyhow::{Context, bail};
use bowerbird_ingest::Ingest;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::net::TcpListener;

use crate::cli::ServeArgs;
use crate::config::Config;
use crate::http;
use crate::progress::Bars;
use crate::stack::{Parts, Stack};

/// Runs `bowerbird serve`.
pub async fn run(config: Config, args: ServeArgs) -> anyhow::Result<()> {
    let address = args.listen.unwrap_or(config.server.listen);
    let listener = listen(address).await?;
    let mut stack = Stack::open(&config, &args.data_dir, Parts::ALL, &Bars::default()).await?;
    if config.ingest.enabled() {
        let started = Ingest::start(config.ingest, &args.data_dir, stack.live.clone()).await;
        stack.ingest = Some(started.context("cannot read posts from the stream")?);
    }
    serve(stack, listener).await
}

/// Takes the port first, so that a port in use is told before minutes of loading.
pub async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            bail!("{address} is in use: stop what listens there, or give another --listen ADDRESS:PORT")
        }
        Err(error) => Err(error).with_context(|| format!("cannot listen on {address}")),
    }
}

/// Serves until SIGINT or SIGTERM, then lets calls in progress end.
pub async fn serve(stack: Stack, listener: TcpListener) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    if stack.config.server.api_keys.is_empty() && !address.ip().is_loopback() {
        tracing::warn!(%address, "anybody who reaches this address may write: set server.api_keys");
    }
    let metrics = PrometheusBuilder::new().install_recorder().context("metrics recorder")?;
    bowerbird_scheduler::describe_metrics();
    bowerbird_llm::describe_metrics();
    println!(
        "serving http://{address} · {} posts · models on {}",
        stack.live.status().posts,
        stack.models.used
    );
    let reindexer = stack.reindexer.clone();
    match tokio::task::spawn_blocking(move || reindexer.resume_open()).await? {
        Ok(Some(id)) => tracing::info!(id, "going on with a rebuild"),
        Ok(None) => {}
        Err(error) => tracing::error!(%error, "a rebuild that was begun cannot go on"),
    }
    let ingest = stack.ingest.clone();
    // Addresses tell people apart for the log of past queries.
    let router = http::router(stack, metrics).into_make_service_with_connect_info::<SocketAddr>();
    let served = axum::serve(listener, router).with_graceful_shutdown(stopped()).await;
    if let Some(ingest) = ingest {
        ingest.stop().await;
    }
    served.context("server")
}

async fn stopped() {
    let interrupt = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::warn!(%error, "no SIGINT handler");
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(error) => {
                tracing::warn!(%error, "no SIGTERM handler");
                std::future::pending::<()>().await;
            }
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! { () = interrupt => {}, () = terminate => {} }
}
