//! What a server of an OVSDB cluster says of itself (`cluster/status`).

use atoll_ovsdb::Endpoint;

use super::passage;
use crate::Remotes;

/// What a server does in its cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ServerRole {
    /// No database, no server, or no member of the cluster yet.
    #[default]
    Outside,
    /// It decides.
    Leader,
    /// Another one does, or is being elected.
    Follower,
}

/// One server, as a cluster's members know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The first digits of its identity.
    pub sid: String,
    /// Where the others reach it.
    pub address: String,
}

/// How a member's server of one database is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerStatus {
    /// Where clients find it (`ssl:HOST:PORT`, or `tcp:` without certificates).
    pub endpoint: String,
    /// Where members find it, who may write everything.
    pub member_endpoint: String,
    /// Where the others of its cluster find it.
    pub address: String,
    /// Its identity, new with each file; `None` without a file.
    pub sid: Option<String>,
    /// The cluster that its file is of; `None` without a file, and before it has joined.
    pub cid: Option<String>,
    /// What it does.
    pub role: ServerRole,
    /// It takes part in a cluster whose leader it knows.
    pub connected: bool,
    /// The first digits of that leader's identity.
    pub leader: Option<String>,
    /// All servers of its cluster, itself included, as it knows them.
    pub servers: Vec<Listed>,
}

impl ServerStatus {
    /// The one of `remotes` that is where the leader is; all of them, if that is not known.
    pub(super) fn leading(&self, remotes: &Remotes) -> Remotes {
        let leader = self.servers.iter().find(|it| Some(&it.sid) == self.leader.as_ref());
        let host = leader.and_then(|it| machine(&it.address));
        let there = remotes.iter().filter(|it| host.is_some() && self::host(it) == host.as_deref());
        match there.cloned().collect::<Vec<_>>() {
            there if there.is_empty() => remotes.clone(),
            there => there.into(),
        }
    }
}

/// Where a server of a cluster is, which may be called by the socket that leads there.
fn machine(address: &str) -> Option<String> {
    match passage::parse(address) {
        Some((_, there)) => Some(there.ip().to_string()),
        None => address.parse::<Endpoint>().ok().as_ref().and_then(host).map(ToOwned::to_owned),
    }
}

fn host(endpoint: &Endpoint) -> Option<&str> {
    match endpoint {
        Endpoint::Tcp { host, .. } | Endpoint::Ssl { host, .. } => Some(host),
        _ => None,
    }
}

/// Reads the answer to `cluster/status` into `status`, whose addresses stay.
pub(super) fn read(answer: &str, status: &mut ServerStatus) {
    let value = |key: &str| {
        let mut lines = answer.lines();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(':').map(str::trim))
    };
    // `4bb5 (4bb52660-…)`
    let id = |key| value(key).and_then(|it| it.split_once(" ("));
    let full = |(_, full): (&str, &str)| full.trim_end_matches(')').to_owned();
    let sid = id("Server ID");
    status.sid = sid.map(full);
    status.cid = id("Cluster ID").map(full);
    let state = value("Status").unwrap_or_default();
    let is_member = state == "cluster member";
    status.role = match value("Role") {
        // Without a majority it says that it is disconnected, and belongs to it all the same.
        _ if !is_member && !state.starts_with("disconnected") => ServerRole::Outside,
        Some("leader") => ServerRole::Leader,
        _ => ServerRole::Follower,
    };
    let listed = answer.lines().skip_while(|line| *line != "Servers:").skip(1);
    let listed: Vec<_> = listed.filter_map(server).collect();
    let leader = match value("Leader") {
        Some("self") => sid.map(|(short, _)| short),
        Some("unknown") | None => None,
        Some(other) => listed.iter().find(|it| it.0 == other).map_or(Some(other), |it| Some(it.1)),
    };
    status.leader = leader.filter(|_| is_member).map(ToOwned::to_owned);
    status.connected = status.leader.is_some();
    let listed = listed.into_iter().map(|(_, sid, address)| (sid.to_owned(), address.to_owned()));
    status.servers = listed.map(|(sid, address)| Listed { sid, address }).collect();
}

/// What a server is called, its identity, and where it is:
/// `    4bb5 (4bb5 at tcp:127.0.0.1:6643) (self) next_index=3 match_index=5`. Who is found at a unix
/// socket is called by its name.
fn server(line: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = line.trim().split_once(" (")?;
    let (sid, rest) = rest.split_once(" at ")?;
    let (address, _) = rest.split_once(')')?;
    Some((name, sid, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `ovsdb-server` 3.1 prints it.
    const LEADER: &str = "4bb5\nName: OVN_Northbound\n\
        Cluster ID: c6d6 (c6d6c66c-b98a-4271-9abe-1dcee9c79cbd)\n\
        Server ID: 4bb5 (4bb52660-d366-42a7-bca7-c4ac6ec55062)\n\
        Address: tcp:127.0.0.1:26643\nStatus: cluster member\nRole: leader\nTerm: 2\n\
        Leader: self\nVote: self\n\nElection timer: 1000\nLog: [2, 6]\n\
        Entries not yet committed: 0\nConnections: <-dead ->dead\nDisconnections: 0\nServers:\n    \
        4bb5 (4bb5 at tcp:127.0.0.1:26643) (self) next_index=3 match_index=5\n    \
        dead (dead at tcp:127.0.0.1:26644) next_index=6 match_index=5 last msg 127 ms ago\n";

    /// As servers are called whose addresses are unix sockets.
    #[test]
    fn a_leader_is_known_by_its_identity_whatever_it_is_called() {
        let follower = LEADER.replace("Role: leader", "Role: follower");
        let named = follower
            .replace("    dead (dead at tcp:127.0.0.1:26644)", "    nb-b (dead at unix:nb-b)");
        let mut status = ServerStatus::default();
        read(&named.replace("Leader: self", "Leader: nb-b"), &mut status);
        assert_eq!((status.leader.as_deref(), status.connected), (Some("dead"), true));
        let listed = Listed { sid: "dead".to_owned(), address: "unix:nb-b".to_owned() };
        assert_eq!(status.servers[1], listed);
    }

    #[test]
    fn a_servers_answer_is_read() {
        let mut status = ServerStatus::default();
        read(LEADER, &mut status);
        assert_eq!(status.sid.as_deref(), Some("4bb52660-d366-42a7-bca7-c4ac6ec55062"));
        assert_eq!(status.cid.as_deref(), Some("c6d6c66c-b98a-4271-9abe-1dcee9c79cbd"));
        assert_eq!((status.role, status.connected), (ServerRole::Leader, true));
        assert_eq!(status.leader.as_deref(), Some("4bb5"));
        let listed = |sid: &str, port: u16| Listed {
            sid: sid.to_owned(),
            address: format!("tcp:127.0.0.1:{port}"),
        };
        assert_eq!(status.servers, [listed("4bb5", 26643), listed("dead", 26644)]);

        let alone = LEADER.replace("Role: leader", "Role: candidate");
        read(&alone.replace("Leader: self", "Leader: unknown"), &mut status);
        assert_eq!((status.role, status.connected), (ServerRole::Follower, false));
        let lost = "disconnected from the cluster (election timeout)";
        read(&LEADER.replace("cluster member", lost), &mut status);
        assert_eq!((status.role, status.connected), (ServerRole::Leader, false));
        read(&LEADER.replace("cluster member", "joining cluster"), &mut status);
        assert_eq!((status.role, status.connected), (ServerRole::Outside, false));
    }

    #[test]
    fn the_remote_of_the_leader_is_the_one_on_its_machine() {
        let mut status = ServerStatus::default();
        read(&LEADER.replace("dead at tcp:127.0.0.1", "dead at tcp:127.0.0.2"), &mut status);
        let remotes: Remotes = "tcp:127.0.0.1:6641,tcp:127.0.0.2:6641".parse().unwrap();
        assert_eq!(status.leading(&remotes).to_string(), "tcp:127.0.0.1:6641");
        let socket = passage::remote("nb", "127.0.0.1:6643".parse().unwrap());
        status.servers[0].address = socket;
        assert_eq!(status.leading(&remotes).to_string(), "tcp:127.0.0.1:6641");
        status.leader = Some("dead".to_owned());
        assert_eq!(status.leading(&remotes).to_string(), "tcp:127.0.0.2:6641");
        status.leader = Some("beef".to_owned());
        assert_eq!(status.leading(&remotes), remotes, "not one of those that it knows");
        status.leader = None;
        assert_eq!(status.leading(&remotes), remotes);
    }
}
