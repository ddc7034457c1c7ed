//! `atolld`: one member of the store.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use atolld::config::Config;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// One member of the Atoll store: consensus, the API, and the ovn-central beside it.
///
/// Exit status: 0 stopped as asked, 1 failed, 2 wrong usage or configuration.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Only check the configuration.
    #[arg(long)]
    check_config: bool,
}

/// openraft warns at every attempt to reach a dead peer; `atollctl status` says it once.
const FILTER: &str = "info,openraft=error";

pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(FILTER));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    // A loop that is gone while the process looks well helps nobody: whoever supervises the
    // process starts a whole one.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        Err(error) => {
            let error = anyhow::Error::new(error);
            tracing::error!("{}: {error:#}", arguments.config.display());
            return ExitCode::from(2);
        }
    };
    if arguments.check_config {
        tracing::info!("{}: the configuration is sound", arguments.config.display());
        return ExitCode::SUCCESS;
    }
    // One thread for raft, peers, apply and the API: measured faster than a pool on few cores.
    // Nothing that runs on it lasts longer than a few milliseconds.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.context("cannot start the runtime").and_then(|runtime| {
        let outcome = runtime.block_on(run(config));
        runtime.shutdown_timeout(std::time::Duration::from_secs(1));
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> anyhow::Result<()> {
    let cancel = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("cannot catch SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot catch SIGINT")?;
    let stop = cancel.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        stop.cancel();
    });
    Box::pin(atolld::member::run(config, cancel)).await
}
