//! `atoll-node`: the agent of one node.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use atoll_api::Credentials;
use atoll_node::belief::{self, Format};
use atoll_node::config::{Config, ConfigError};
use atoll_node::{agent, brake, cleanup, drain, pause};
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// The agent of one node: plumbs pods, and keeps the node's own leg in the pod network.
///
/// Exit status: 0 stopped as asked, 1 failed, 2 wrong usage or configuration.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    /// Only check the configuration, and the certificates that it names.
    #[arg(long)]
    check_config: bool,
    /// Plaintext to members that run with --insecure-dev. On loopback only.
    #[arg(long)]
    insecure_dev: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Removes from this node whatever an agent made: links, routes, rules, sets, queueing, rows of
    /// Open vSwitch, files. Stop the agent and ovn-controller first.
    ///
    /// Packets are still forwarded then (net.ipv4.ip_forward and its like): others may need it. The
    /// plugin and its network list belong to whoever installed them; the store still knows the
    /// node. A row linux-noop in Open vSwitch's table QoS may be ovn-controller's or an operator's,
    /// and stays.
    Cleanup(Cleanup),
    /// Nothing on this node is changed until `resume`, also after a restart: its leg, routes, packet filter,
    /// queueing, mirror and ports stay as they are and go on working, and pods are neither attached nor
    /// detached (the plugin answers with code 11). The agent need not run.
    Pause(Named),
    /// Ends a pause: the agent makes the node as the store has it.
    Resume(Named),
    /// Empties this node of what leaves by it: it takes no new pods (the plugin answers with code 11), and
    /// centralized subnets go to another of their gateway nodes. Pods that run here stay. It lasts, also
    /// over restarts, until `undrain`; the agent need not run.
    ///
    /// Waits until no other node sends to it any more, and says which pods are still here.
    /// Exit status: 0 if so, 1 if something still leaves by it, or no member answers.
    Drain(Drain),
    /// Ends a drain: this node takes pods, and may be chosen as a gateway.
    Undrain(Named),
    /// Lets go what this node keeps although the store lacks it: pods and subnets of which too many were
    /// gone at once (`status` names them). They are unplugged and forgotten then. Make sure first that
    /// the store is right.
    Release(Named),
    /// What this node believes, and whether it holds: the store's word, southbound, Open vSwitch,
    /// ovn0, packet filter, mirror, pods. Changes nothing; the agent need not run.
    ///
    /// Exit status: 0 if all of it holds, 1 if something does not or cannot be looked at.
    Status(Status),
}

#[derive(Debug, Args)]
struct Named {
    /// The agent's configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// As the agent has it.
    #[arg(long)]
    insecure_dev: bool,
}

#[derive(Debug, Args)]
struct Drain {
    /// The agent's configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// How long to wait until nothing leaves by this node.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    wait: u32,
    /// As the agent has it.
    #[arg(long)]
    insecure_dev: bool,
}

#[derive(Debug, Args)]
struct Status {
    /// The agent's configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// How it is printed.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
    /// As the agent has it.
    #[arg(long)]
    insecure_dev: bool,
}

#[derive(Debug, Args)]
struct Cleanup {
    /// The agent's configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Only say what would be removed.
    #[arg(long)]
    dry_run: bool,
    /// Also if pods are plugged in, which lose their network, and if the store was not told of
    /// everything.
    #[arg(long)]
    force: bool,
    /// As the agent has it.
    #[arg(long)]
    insecure_dev: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    // A loop that is gone while the process looks well helps nobody: whoever supervises the
    // process starts a whole one.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
    match arguments.command {
        Some(Command::Cleanup(it)) => {
            let loaded = Config::load(&it.config, it.insecure_dev);
            let Some(config) = checked(&it.config, loaded) else { return ExitCode::from(2) };
            let options = cleanup::Options { dry_run: it.dry_run, force: it.force };
            finish(async { cleanup::command(&config, options).await })
        }
        Some(Command::Pause(it)) => {
            let loaded = Config::load(&it.config, it.insecure_dev);
            let Some(config) = checked(&it.config, loaded) else { return ExitCode::from(2) };
            finish(async { pause::pause_command(&config) })
        }
        Some(Command::Resume(it)) => {
            let loaded = Config::load(&it.config, it.insecure_dev);
            let Some(config) = checked(&it.config, loaded) else { return ExitCode::from(2) };
            finish(async { pause::resume_command(&config) })
        }
        Some(Command::Release(it)) => {
            let loaded = Config::load(&it.config, it.insecure_dev);
            let Some(config) = checked(&it.config, loaded) else { return ExitCode::from(2) };
            finish(async { brake::release_command(&config) })
        }
        Some(Command::Drain(it)) => {
            let loaded = with_credentials(&it.config, it.insecure_dev);
            let Some((config, credentials)) = loaded else { return ExitCode::from(2) };
            let wait = Duration::from_secs(it.wait.into());
            finish(async { drain::drain_command(&config, &credentials, wait).await })
        }
        Some(Command::Undrain(it)) => {
            let loaded = with_credentials(&it.config, it.insecure_dev);
            let Some((config, credentials)) = loaded else { return ExitCode::from(2) };
            finish(async { drain::undrain_command(&config, &credentials).await })
        }
        Some(Command::Status(it)) => {
            let loaded = Config::load(&it.config, it.insecure_dev);
            let Some(config) = checked(&it.config, loaded) else { return ExitCode::from(2) };
            finish(async { belief::command(&config, it.output).await })
        }
        None => {
            let path = arguments.config.unwrap_or_default();
            let loaded = with_credentials(&path, arguments.insecure_dev);
            let Some((config, credentials)) = loaded else { return ExitCode::from(2) };
            if arguments.check_config {
                tracing::info!("{}: the configuration is sound", path.display());
                return ExitCode::SUCCESS;
            }
            finish(run(config, credentials))
        }
    }
}

/// The configuration and the certificates that it names.
fn with_credentials(path: &Path, insecure_dev: bool) -> Option<(Config, Credentials)> {
    let config = Config::load(path, insecure_dev);
    checked(path, config.and_then(|config| Ok((config.credentials()?, config))))
        .map(|(credentials, config)| (config, credentials))
}

/// What was loaded; if it is not sound, that is said.
fn checked<T>(path: &Path, loaded: Result<T, ConfigError>) -> Option<T> {
    let told = |error| {
        let error = anyhow::Error::new(error);
        tracing::error!("{}: {error:#}", path.display());
    };
    loaded.map_err(told).ok()
}

fn finish(work: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.context("cannot start the runtime").and_then(|runtime| {
        let outcome = runtime.block_on(work);
        runtime.shutdown_timeout(Duration::from_secs(1));
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
        tracing::info!("stopping; pods go on talking");
        stop.cancel();
    });
    Box::pin(agent::run(config, credentials, cancel)).await
}
