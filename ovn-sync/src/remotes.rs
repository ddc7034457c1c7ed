//! Where a database is served, and who leads if several servers do.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use atoll_ovsdb::{
    Client, ConnectError, ConnectionLost, Endpoint, EndpointError, Monitor, MonitorError,
    MonitoredTable, Options, Replica,
};
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::Instant;

/// What each server says of itself and its databases.
const SERVER: &str = "_Server";

/// How long one server may take to say whether it leads: one that stands still says nothing.
const ASK: Duration = Duration::from_secs(1);

/// Between rounds of questions while nobody leads. A database elects a leader in about a second, and
/// whoever backs off meanwhile finds it late.
const AGAIN: Duration = Duration::from_millis(100);

/// Between looks whether another server leads.
const LOOK: Duration = Duration::from_secs(1);

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

impl From<Vec<Endpoint>> for Remotes {
    fn from(endpoints: Vec<Endpoint>) -> Self {
        Self(endpoints)
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
pub(crate) struct Lead {
    server: Monitor,
    database: &'static str,
    others: Vec<Endpoint>,
    options: Options,
    next_look: Instant,
}

impl Lead {
    /// Returns when it does not lead any more: it says so itself, or another one leads. (A server that
    /// stands still says nothing for long.) Cancel safe.
    pub(crate) async fn lost(&mut self) -> Result<(), ConnectionLost> {
        while leads(&self.server.replica(), self.database, self.others.is_empty()) {
            tokio::select! {
                changed = self.server.changed() => changed?,
                () = tokio::time::sleep_until(self.next_look), if !self.others.is_empty() => {
                    if first(&self.others, self.database, &self.options, false).await.is_ok() {
                        break;
                    }
                    self.next_look = Instant::now() + LOOK;
                }
            }
        }
        Ok(())
    }
}

impl Remotes {
    /// Each server.
    pub fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        self.0.iter()
    }

    /// Connects to the server that leads `database`, asking all at once until one says so.
    pub(crate) async fn connect(
        &self,
        database: &'static str,
        options: &Options,
    ) -> Result<(Client, Lead), LeaderError> {
        for _ in 0..ROUNDS {
            match first(&self.0, database, options, self.0.len() == 1).await {
                Ok((client, server, endpoint)) => {
                    let others = self.0.iter().filter(|it| **it != endpoint).cloned().collect();
                    let (options, next_look) = (options.clone(), Instant::now() + LOOK);
                    return Ok((client, Lead { server, database, others, options, next_look }));
                }
                // A server without others is waited for by who called.
                Err(Some(error)) if self.0.len() == 1 => return Err(error.into()),
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
        Err(LeaderError::Nobody(self.clone()))
    }
}

/// The first of several servers that says that it leads; else one reason why one could not be asked.
async fn first(
    servers: &[Endpoint],
    database: &str,
    options: &Options,
    alone: bool,
) -> Result<(Client, Monitor, Endpoint), Option<ConnectError>> {
    let ask = async |endpoint: &Endpoint| {
        let asked = tokio::time::timeout(ASK, ask(endpoint, database, options, alone)).await;
        asked
            .unwrap_or(Ok(None))
            .map(|found| found.map(|(client, monitor)| (client, monitor, endpoint.clone())))
    };
    let mut asked: FuturesUnordered<_> = servers.iter().map(ask).collect();
    let mut refused = None;
    while let Some(answer) = asked.next().await {
        match answer {
            Ok(Some(leader)) => return Ok(leader),
            Ok(None) => {}
            Err(error) => refused = Some(error),
        }
    }
    Err(refused)
}

/// A connection to the server, if it leads.
async fn ask(
    endpoint: &Endpoint,
    database: &str,
    options: &Options,
    alone: bool,
) -> Result<Option<(Client, Monitor)>, ConnectError> {
    let client = Client::connect_with(endpoint, options).await?;
    let monitor = monitor(&client).await.ok();
    let monitor = monitor.filter(|monitor| leads(&monitor.replica(), database, alone));
    Ok(monitor.map(|monitor| (client, monitor)))
}

async fn monitor(client: &Client) -> Result<Monitor, MonitorError> {
    let databases = MonitoredTable::new("Database", ["name", "connected", "leader"]);
    client.monitor(SERVER, &[databases]).await
}

/// Whether a server leads the database. One that is `alone` and has no such database is taken as it is:
/// what is asked of it next says so.
fn leads(server: &Replica, database: &str, alone: bool) -> bool {
    let found = server.find("Database", "name", &database.into());
    if alone && found.is_none() {
        return true;
    }
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
