//! `atollctl`: what people type.
//!
//! Results go to standard output, everything else to standard error. Exit status: 0 done, 1
//! failed (unreachable, or outcome unknown), 2 wrong usage or manifest, 3 refused by the store.

mod allocations;
mod arguments;
mod backup;
mod change;
mod check;
mod conditions;
mod describe;
mod get;
mod history;
mod janitor;
mod key;
mod member;
mod mirror;
mod moment;
mod node;
mod output;
mod ovn;
mod plan;
mod rollout;
mod status;
mod trace;
mod watch;

use std::io::Write as _;
use std::process::ExitCode;

use arguments::{Arguments, Command};
use atoll_api::{Client, ClientError, Endpoint};
use clap::Parser;

/// How a command ended, other than well.
#[derive(Debug)]
enum Failure {
    /// The store or the network.
    Failed(anyhow::Error),
    /// What was typed or written.
    Usage(anyhow::Error),
    /// The store said no; nothing was changed.
    Refused(String),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::NoEndpoints | ClientError::Endpoint(_) | ClientError::NotLoopback(_) => {
                Self::Usage(error.into())
            }
            ClientError::Invalid(why) => Self::Refused(why),
            other => Self::Failed(other.into()),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.into())
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(arguments)),
        Err(error) => Err(error.into()),
    };
    let (text, code) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Failed(error)) => (format!("{error:#}"), 1),
        Err(Failure::Usage(error)) => (format!("{error:#}"), 2),
        Err(Failure::Refused(why)) => (format!("refused: {why}"), 3),
    };
    // If even standard error is gone, the exit status still tells.
    let _ = writeln!(std::io::stderr(), "atollctl: {text}");
    ExitCode::from(code)
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let endpoints = Endpoint::parse_list(&arguments.endpoints).map_err(ClientError::from)?;
    let credentials = arguments.credentials().map_err(Failure::Usage)?;
    let client = Client::new(endpoints, &credentials)?.with_timeout(arguments.timeout());
    match &arguments.command {
        Command::Status => status::run(&client, arguments.output).await,
        Command::Backup { file } => backup::run(&client, file).await,
        Command::Get(get) => get::run(&client, get, arguments.output).await,
        Command::Create { files, effect, wait } => {
            change::create(&client, files, *effect, *wait, arguments.output).await
        }
        Command::Delete { deletion, effect } => {
            change::delete(&client, deletion, *effect, arguments.output).await
        }
        Command::Plan { planned } => plan::run(&client, planned, arguments.output).await,
        Command::History(question) => history::run(&client, question, arguments.output).await,
        Command::Watch(asked) => {
            watch::run(client, asked, arguments.timeout(), arguments.output).await
        }
        Command::Check => check::run(&client, arguments.output).await,
        Command::Member(member) => member::run(&client, member, arguments.output).await,
        Command::Node(node) => node::run(&client, node, arguments.output).await,
        Command::Ovn(ovn) => ovn::run(&client, ovn, arguments.output).await,
        Command::Janitor(janitor) => janitor::run(&client, janitor, arguments.output).await,
        Command::Trace(asked) => trace::run(&client, asked, arguments.output).await,
        Command::Mirror(mirror) => mirror::run(&client, mirror, arguments.output).await,
    }
}
