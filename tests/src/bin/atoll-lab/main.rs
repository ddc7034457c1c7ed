//! `atoll-lab`: the lab from the command line.
//!
//! Reads the command line, calls [`atoll_tests::lab`], prints. Every command works on the lab that
//! is there, so they may come from different shells, in any order, also at the same time.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused (nothing was changed). `exec`, `nbctl`,
//! `sbctl` and `vsctl` become the command that they run and end with its code.

mod args;
mod print;

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command as Process, ExitCode};

use anyhow::{Context, Result};
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use args::{Cli, Command, Output, Pod, Up};
use atoll_tests::lab::{Lab, LabName, Place, Refused, Reservation, Usage, down};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match carry_out(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to be told if this fails too.
            writeln!(std::io::stderr(), "atoll-lab: {error:#}").ok();
            exit_code(&error)
        }
    }
}

fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.is::<Usage>() {
        ExitCode::from(2)
    } else if error.is::<Refused>() {
        ExitCode::from(3)
    } else {
        ExitCode::FAILURE
    }
}

async fn carry_out(cli: Cli) -> Result<()> {
    let Cli { name, output, command } = cli;
    match command {
        Command::Up(options) => up(options, name, output).await,
        Command::Down => print::removed(output, &name, &down(&name).await?),
        Command::Status => print::status(output, &Lab::open(&name)?.status().await?),
        Command::Env => print::env(output, &Lab::open(&name)?.env().await?),
        Command::Namespace { namespace, labels } => {
            let labels = labels.into_iter().collect();
            Lab::open(&name)?.store()?.put_namespace(&namespace, &labels).await?;
            print::namespace(output, &namespace, &labels)
        }
        Command::Pod(Pod::Run(pod)) => {
            let pod = Lab::open(&name)?.run_pod(pod.options()).await?;
            print::pod(output, &pod)
        }
        Command::Pod(Pod::Delete { pod }) => {
            let pod = Lab::open(&name)?.delete_pod(&pod).await?;
            print::deleted(output, &pod)
        }
        Command::Exec { place, command } => exec(&Lab::open(&name)?, &place, command),
        Command::Nbctl { arguments } => {
            let central = Lab::open(&name)?.central().await?;
            become_command(
                vec!["ovn-nbctl".into(), format!("--db={}", central.nb).into()],
                arguments,
            )
        }
        Command::Sbctl { arguments } => {
            let central = Lab::open(&name)?.central().await?;
            become_command(
                vec!["ovn-sbctl".into(), format!("--db={}", central.sb).into()],
                arguments,
            )
        }
        Command::Kubectl { arguments } => {
            let lab = Lab::open(&name)?;
            let kubernetes = lab.kubernetes().ok_or_else(|| {
                Refused(format!("lab '{name}' has no Kubernetes: atoll-lab up --kubernetes"))
            })?;
            become_command(kubernetes.kubectl_words(), arguments)
        }
        Command::Vsctl { node, arguments } => {
            let database = Lab::open(&name)?.node(node)?.ovs_db();
            become_command(vec!["ovs-vsctl".into(), format!("--db={database}").into()], arguments)
        }
        Command::Fault { verb, target } => {
            Lab::open(&name)?.fault(verb, target).await?;
            print::fault(output, verb, target)
        }
    }
}

/// An interrupted `up` leaves as little behind as a failed one.
async fn up(options: Up, name: LabName, output: Output) -> Result<()> {
    let options = options.options(name.clone());
    let keep = options.keep;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let reservation = Reservation::take(options)?;
    let lab = tokio::select! {
        built = reservation.build() => built?,
        _ = interrupt.recv() => return interrupted(&name, keep).await,
        _ = terminate.recv() => return interrupted(&name, keep).await,
    };
    print::up(output, &lab.status().await?)
}

async fn interrupted(name: &LabName, keep: bool) -> Result<()> {
    if !keep {
        down(name).await.context("interrupted, and not all could be taken down")?;
    }
    anyhow::bail!("interrupted")
}

fn exec(lab: &Lab, place: &Place, command: Vec<OsString>) -> Result<()> {
    let prefix = lab.space(place)?.prefix().into_iter().map(OsString::from).collect();
    become_command(prefix, command)
}

/// Returns only if the command cannot be run.
fn become_command(mut words: Vec<OsString>, rest: Vec<OsString>) -> Result<()> {
    words.extend(rest);
    let error = Process::new(&words[0]).args(&words[1..]).exec();
    Err(error).with_context(|| format!("cannot run {}", words[0].display()))
}
