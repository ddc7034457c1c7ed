//! `atolld`: one member of the store.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use atoll_api::Credentials;
use atolld::config::Config;
use atolld::disaster::{Disaster, DisasterError};
use atolld::pki::{Pki, PkiError};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One member of the Atoll store: consensus, the API, and the ovn-central beside it.
///
/// Exit status: 0 stopped as asked, 1 failed, 2 wrong usage or configuration, 3 refused.
#[derive(Debug, Parser)]
#[command(version)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Arguments {
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    /// Only check the configuration, and the certificates that it names.
    #[arg(long)]
    check_config: bool,
    /// Plaintext and no identities: everybody who connects may do everything. On loopback only.
    #[arg(long)]
    insecure_dev: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes the cluster's authority, and certificates for members, nodes and people.
    #[command(subcommand)]
    Pki(Pki),
    #[command(flatten)]
    Disaster(Disaster),
}

/// openraft warns at every attempt to reach a dead peer; `atollctl status` says it once.
const FILTER: &str = "info,openraft=error";

pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match &arguments.command {
        Some(Command::Pki(command)) => return pki(command),
        Some(Command::Disaster(command)) => return disaster(command),
        None => {}
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(FILTER));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    // The allocator asks for huge pages, and whatever it gives back and takes again is 2 MiB of zeroes
    // then: under load a tenth of a member's processor time.
    if let Err(error) = nix::sys::prctl::set_thp_disable(true) {
        tracing::warn!(%error, "cannot do without huge pages; going on with them");
    }
    // A loop that is gone while the process looks well helps nobody: whoever supervises the
    // process starts a whole one.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
    let path = arguments.config.unwrap_or_default();
    let config = Config::load(&path, arguments.insecure_dev);
    let config = config.and_then(|config| Ok((config.credentials()?, config)));
    let (credentials, config) = match config {
        Ok(sound) => sound,
        Err(error) => {
            let error = anyhow::Error::new(error);
            tracing::error!("{}: {error:#}", path.display());
            return ExitCode::from(2);
        }
    };
    if arguments.check_config {
        tracing::info!("{}: the configuration is sound", path.display());
        return ExitCode::SUCCESS;
    }
    // One thread for raft, peers, apply and the API: measured faster than a pool on few cores.
    // Nothing that runs on it lasts longer than a few milliseconds.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.context("cannot start the runtime").and_then(|runtime| {
        let outcome = runtime.block_on(run(config, credentials));
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

/// For people at a terminal: results on standard output, no log.
fn pki(command: &Pki) -> ExitCode {
    let (outcome, status) = match command.run(&mut std::io::stdout()) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(error @ PkiError::ThereAlready(_)) => (error, 3),
        Err(PkiError::Write(error)) if error.is_there_already() => (error.into(), 3),
        Err(error @ (PkiError::Identity(_) | PkiError::Usage(_))) => (error, 2),
        Err(error) => (error, 1),
    };
    // If even standard error is gone, the exit status still tells.
    let _ = writeln!(std::io::stderr(), "atolld: {:#}", anyhow::Error::new(outcome));
    ExitCode::from(status)
}

/// As [`pki`].
fn disaster(command: &Disaster) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(command.run(&mut std::io::stdout())),
        Err(error) => Err(DisasterError::Failed(error.into())),
    };
    let (error, status) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(DisasterError::Refused(error)) => (error, 3),
        Err(DisasterError::Failed(error)) => (error, 1),
    };
    let _ = writeln!(std::io::stderr(), "atolld: {error:#}");
    ExitCode::from(status)
}

async fn run(config: Config, credentials: Credentials) -> anyhow::Result<()> {
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
    Box::pin(atolld::member::run(config, credentials, cancel)).await
}
