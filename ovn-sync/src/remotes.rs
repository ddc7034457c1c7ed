//! Where a database is served, and who leads if several servers do.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use atoll_ovsdb::{
    Client, ConnectError, ConnectionLost, Endpoint, EndpointError, Monitor, MonitorError,
    MonitoredTable, Options, Replica,
};
use futures::stream::{FuturesUnordered, StreamExt as _};

/// What each server says of itself and its databases.
const SERVER: &str = "_Server";

/// How long one server may take to say whether it leads: others may be quicker.
const ASK: Duration = Duration::from_secs(1);

/// Between rounds of questions while nobody leads. A database elects a leader in about a second, and
/// whoever backs off meanwhile finds it late.
const AGAIN: Duration = Duration::from_millis(100);

/// How many rounds without a leader are worth a word.
const ROUNDS: usize = 20;

/// One server, or all servers of one OVSDB cluster: OVSDB remotes with commas between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remotes(Vec<Endpoint>);

/// Why there is no connection to the server that leads.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaderError {
    #[error("the database cannot be reached")]
    Connect(#[from] ConnectError),
    #[error("no server of {0} leads the database: an election, or most of them are away")]
    Nobody(Remotes),
}

impl From<Endpoint> for Remotes {
    fn from(endpoint: Endpoint) -> Self {
        Self(vec![endpoint])
    }
}

impl FromStr for Remotes {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        text.split(',').map(|it| it.trim().parse()).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Remotes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        formatter.write_str(&texts.join(","))
    }
}

/// Whether the server at the other end of a connection leads.
#[derive(Debug)]
pub(crate) struct Lead(Option<(Monitor, &'static str)>);

impl Lead {
    /// Returns when it does not lead any more; never if it is the only server there is.
    pub(crate) async fn lost(&mut self) -> Result<(), ConnectionLost> {
        let Some((monitor, database)) = &mut self.0 else { return std::future::pending().await };
        while leads(&monitor.replica(), database) {
            monitor.changed().await?;
        }
        Ok(())
    }
}

impl Remotes {
    /// Each server.
    pub fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        self.0.iter()
    }

    /// Connects to the server that leads `database`, asking all at once until one says so. A server
    /// without others is taken as it is.
    pub(crate) async fn connect(
        &self,
        database: &'static str,
        options: &Options,
    ) -> Result<(Client, Lead), LeaderError> {
        if let [only] = self.0.as_slice() {
            return Ok((Client::connect_with(only, options).await?, Lead(None)));
        }
        for _ in 0..ROUNDS {
            let asked = self
                .0
                .iter()
                .map(|endpoint| tokio::time::timeout(ASK, ask(endpoint, database, options)));
            let mut asked: FuturesUnordered<_> = asked.collect();
            while let Some(answer) = asked.next().await {
                if let Ok(Some((client, monitor))) = answer {
                    return Ok((client, Lead(Some((monitor, database)))));
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
        Err(LeaderError::Nobody(self.clone()))
    }
}

/// A connection to the server, if it leads.
async fn ask(endpoint: &Endpoint, database: &str, options: &Options) -> Option<(Client, Monitor)> {
    let client = Client::connect_with(endpoint, options).await.ok()?;
    let monitor = monitor(&client).await.ok()?;
    leads(&monitor.replica(), database).then_some((client, monitor))
}

async fn monitor(client: &Client) -> Result<Monitor, MonitorError> {
    let databases = MonitoredTable::new("Database", ["name", "connected", "leader"]);
    client.monitor(SERVER, &[databases]).await
}

fn leads(server: &Replica, database: &str) -> bool {
    let found = server.find("Database", "name", &database.into());
    let is = |column| found.and_then(|(_, row)| row.get(column)) == Some(&true.into());
    is("connected") && is("leader")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remotes_are_printed_as_they_are_parsed() {
        for text in ["tcp:10.0.0.1:6641", "tcp:10.0.0.1:6641,tcp:[::1]:6641,unix:/x/nb.sock"] {
            assert_eq!(text.parse::<Remotes>().unwrap().to_string(), text);
        }
        for text in ["", "tcp:10.0.0.1:6641,", "tcp:10.0.0.1:6641 tcp:10.0.0.2:6641"] {
            assert!(text.parse::<Remotes>().is_err(), "{text}");
        }
    }
}
