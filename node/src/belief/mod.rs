//! `atoll-node status`: what this node believes, and whether it holds.
//!
//! Reads what the agent reads and changes nothing: the cache, Open vSwitch, the kernel, the packet
//! filter. An agent need not run. Each concern has one line of what should be, and what is not so.

mod certificate;
mod concerns;
mod pods;

use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use time::OffsetDateTime;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use crate::brake;
use crate::cache;
use crate::config::Config;
use crate::drain;
use crate::ovs::Ovs;
use crate::pause;

/// How long to wait for Open vSwitch's database.
const OVS: Duration = Duration::from_secs(5);

/// One thing that the agent keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Concern {
    /// Its name.
    pub concern: &'static str,
    /// What should be, in a few words.
    pub believed: String,
    /// What is not so; empty if all of it holds.
    pub differs: Vec<String>,
}

impl Concern {
    fn new(concern: &'static str, believed: impl Into<String>) -> Self {
        Self { concern, believed: believed.into(), differs: Vec::new() }
    }

    fn but(self, differs: impl IntoIterator<Item = String>) -> Self {
        Self { differs: differs.into_iter().collect(), ..self }
    }
}

/// How it is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs: a list of `{ concern, believed, differs }`.
    Json,
}

/// Looks at everything.
///
/// # Errors
///
/// Open vSwitch's database does not answer, or the kernel cannot be asked.
pub async fn look(config: &Config) -> anyhow::Result<Vec<Concern>> {
    let cancel = CancellationToken::new();
    let _ends = cancel.clone().drop_guard();
    let view = cache::load(&config.state_dir);
    let paused = pause::since(&config.state_dir).map(|it| it.describe());
    let drained = drain::is_drained(&view, &config.node).then(|| drain::DRAINED.to_owned());
    let braked = brake::held(&config.state_dir).map(|it| it.describe());
    let agent = match UnixStream::connect(&config.cni_socket).await {
        Ok(_) => Vec::new(),
        Err(error) => vec![format!("{} does not answer: {error}", config.cni_socket.display())],
    };
    let mut found = vec![
        Concern::new("agent", "takes pods")
            .but(agent.into_iter().chain(paused).chain(drained).chain(braked)),
        concerns::store(config, &view),
        concerns::reports(config)?,
        concerns::members(config).await,
    ];
    found.extend(certificate::certificates(config, OffsetDateTime::now_utc()));
    let session = Ovs::start(&config.ovs_db, cancel).session(OVS).await?;
    let replica = session.monitor.replica();
    found.push(concerns::southbound(config, &view, &replica).await);
    found.push(concerns::switch(config, &view, &replica)?);
    found.push(concerns::leg(config, &view).await?);
    found.push(concerns::filter(config, &view).await?);
    found.push(concerns::mirror(config, &view, &replica).await?);
    found.push(pods::compare(&view, &replica));
    Ok(found)
}

/// Runs it as the command does.
///
/// # Errors
///
/// As [`look`]; and if something does not hold, after it was printed.
pub async fn command(config: &Config, format: Format) -> anyhow::Result<()> {
    let found = look(config).await.context("this node cannot be looked at")?;
    let text = match format {
        Format::Table => table(&found),
        Format::Json => serde_json::to_string_pretty(&found)? + "\n",
    };
    std::io::stdout().write_all(text.as_bytes())?;
    let wrong: Vec<_> =
        found.iter().filter(|it| !it.differs.is_empty()).map(|it| it.concern).collect();
    anyhow::ensure!(wrong.is_empty(), "not as it should be: {}", wrong.join(", "));
    Ok(())
}

fn table(found: &[Concern]) -> String {
    let width = found.iter().map(|it| it.concern.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Concern { concern, believed, differs } in found {
        let verdict = if differs.is_empty() { "holds" } else { "DIFFERS" };
        text += &format!("{concern:width$}  {verdict:7}  {believed}\n");
        for difference in differs {
            text += &format!("{:width$}           - {difference}\n", "");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_stands_below_what_is_believed() {
        let found = [
            Concern::new("agent", "takes pods"),
            Concern::new("ovn0", "100.64.0.2/16").but(["no route to 10.1.0.0/16".to_owned()]),
        ];
        let expected = "agent  holds    takes pods\n\
                        ovn0   DIFFERS  100.64.0.2/16\n                \
                        - no route to 10.1.0.0/16\n";
        assert_eq!(table(&found), expected);
    }
}
