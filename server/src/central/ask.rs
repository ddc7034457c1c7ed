//! How a member's central is, asked over the network.

use std::time::Duration;

use atoll_api::proto::cluster_client::ClusterClient;
use atoll_api::proto::{ClusterServer, StatusRequest, StatusResponse};
use atoll_model::{MemberId, MemberName};
use atoll_ovn_sync::{ServerRole, ServerStatus};
use atoll_raft::MemberInfo;
use tokio::net::TcpStream;
use tonic::transport::Channel;

use super::cluster::Heard;
use super::reign::{ASK_EVERY, Clients};
use crate::role::Report;

/// For the answer, once the listening is over.
const ANSWER: Duration = Duration::from_millis(300);

/// What became of a question.
pub(super) enum Answer {
    Report(Report),
    /// The machine says that nobody listens there.
    Refused,
    /// None in time, or none that is of use.
    Nothing,
}

/// Asks the member at `address`, which answers when nodes lose its southbound, or after `listen`.
pub(super) async fn ask_member(
    member: MemberId,
    address: String,
    mut client: ClusterClient<Channel>,
    listen: Duration,
) -> (MemberId, Answer) {
    let request = StatusRequest { listen_ms: u32::try_from(listen.as_millis()).unwrap_or(0) };
    let ask = async {
        match client.status(request).await {
            Ok(answer) => report(member, answer.into_inner()).map(Answer::Report),
            // The channel does not tell a refused connection from a lost one.
            Err(_) => is_refused(&address).await.then_some(Answer::Refused),
        }
    };
    let patience = ASK_EVERY.max(listen + ANSWER);
    let answer = tokio::time::timeout(patience, ask).await;
    (member, answer.ok().flatten().unwrap_or(Answer::Nothing))
}

impl Clients {
    /// Asks members how their servers of clusters are; who does not answer is left out.
    pub(super) async fn ask_servers<'a>(
        &mut self,
        members: impl Iterator<Item = &'a MemberInfo>,
    ) -> Vec<(MemberId, Heard)> {
        let calls: Vec<_> = members
            .filter_map(|member| {
                let mut client = self.client(&member.address)?;
                Some(async move {
                    let asked = client.status(StatusRequest { listen_ms: 0 });
                    let answer = tokio::time::timeout(ANSWER, asked).await.ok()?.ok()?;
                    Some((member.id, servers(member.id, answer.into_inner())?))
                })
            })
            .collect();
        futures::future::join_all(calls).await.into_iter().flatten().collect()
    }
}

/// What `member` says of its servers; `None` if somebody else answers at its address, or it has none.
fn servers(member: MemberId, answer: StatusResponse) -> Option<Heard> {
    let name = MemberName::new(&answer.name).ok()?;
    let processes = answer.processes.filter(|_| answer.id == member.0)?;
    let server = |it: ClusterServer, endpoint: String| ServerStatus {
        endpoint,
        member_endpoint: it.member_remote,
        address: it.address,
        sid: it.sid,
        cid: it.cluster,
        role: if it.leads { ServerRole::Leader } else { ServerRole::Follower },
        connected: it.connected,
        leader: None,
        servers: Vec::new(),
    };
    Some(Heard {
        name,
        servers: [
            server(processes.nb_server?, processes.nb_remote),
            server(processes.sb_server?, processes.sb_remote),
        ],
        complete: processes.serving,
    })
}

/// Whether the machine at `address` says that nobody listens there.
async fn is_refused(address: &str) -> bool {
    let connected = TcpStream::connect(address).await;
    connected.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

/// What `member` says; `None` if somebody else answers at its address, as one whose disk was wiped
/// does until it is taken in again: it knows of no role, and would never serve.
fn report(member: MemberId, answer: StatusResponse) -> Option<Report> {
    let processes = answer.processes.filter(|_| answer.id == member.0)?;
    Some(Report {
        member,
        name: MemberName::new(&answer.name).ok()?,
        nb: processes.nb_remote,
        sb: processes.sb_remote,
        healthy: processes.healthy,
        serving: processes.serving,
        interrupted: processes.interrupted,
        copying: processes.copying,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_api::proto::CentralProcesses;
    use atoll_api::{Credentials, Endpoint};

    /// The role went to a member that had lost its disk and was in no cluster: nobody served.
    #[test]
    fn somebody_else_at_a_members_address_is_no_candidate() {
        let answer = |id| StatusResponse {
            id,
            name: "m2".to_owned(),
            processes: Some(CentralProcesses { healthy: true, ..CentralProcesses::default() }),
            ..StatusResponse::default()
        };
        assert!(report(MemberId(7), answer(7)).is_some_and(|report| report.healthy));
        assert_eq!(report(MemberId(7), answer(8)), None);
    }

    /// Its machine answers for it.
    #[tokio::test]
    async fn a_machine_on_which_nobody_listens_refuses() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let endpoint: Endpoint = address.to_string().parse().unwrap();
        let client = endpoint.connect_lazy(&Credentials::insecure_dev(), Duration::from_secs(5));
        let address = address.to_string();
        let (_, answer) =
            ask_member(MemberId(1), address, ClusterClient::new(client), ASK_EVERY).await;
        assert!(matches!(answer, Answer::Refused));
    }
}
