//! How a member gets into a cluster, and how a cluster comes to be: once.
//!
//! A task per member looks at its peers until the member is a voter ([`decide`]), and again when
//! it has not heard a leader for a while, to tell people why. Forming goes in steps, each of which
//! can be repeated after a crash:
//!
//! 1. the former notes the new cluster's id in its identity (`forming`);
//! 2. it creates the marker, if nobody else did;
//! 3. it enlists the others: they note the id, and from then on listen to that cluster only;
//! 4. it notes the id as its own and initialises raft with all members;
//! 5. it forgets `forming`.
//!
//! Until step 4 no data exists anywhere, and only the former can take it: so a former that finds
//! its own id in the marker goes on, and anybody else who finds a marker and empty disks waits.

#[cfg(test)]
mod crash_test;
mod decide;
mod marker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use atoll_api::answer::{Verdict, verdict};
use atoll_api::proto::{EnlistRequest, HelloRequest, HelloResponse, JoinRequest};
use atoll_model::{ClusterId, MemberId};
use futures::future::join_all;

use crate::identity::random_cluster;
use crate::machine::wall_ms;
use crate::member::{Member, Phase, members};
use crate::network::connect;
use crate::resize;
use crate::types::{MemberNode, Metrics};
use decide::{Answer, Step, View, decide};
use marker::{Marker, MarkerFile};

/// A peer that says nothing for this long does not answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// How often a voter looks whether it still has a leader and its address is right.
const SETTLED_INTERVAL: Duration = Duration::from_secs(1);

/// Without a leader for this long people are told; an election takes less.
const LEADERLESS: Duration = Duration::from_secs(4);

/// Runs until the task is aborted.
pub(crate) async fn run(member: Arc<Member>) {
    let mut leaderless = None;
    loop {
        let metrics = member.metrics();
        let me = member.id();
        let settled = metrics.membership_config.voter_ids().any(|id| id == me);
        if settled {
            if member.leader(&metrics).is_some() {
                leaderless = None;
                settle(&member, &metrics).await;
                if let Err(why) = resize::take_a_step(&member).await {
                    tracing::warn!(why, "the cluster could not be made smaller");
                }
            } else {
                let since = *leaderless.get_or_insert_with(tokio::time::Instant::now);
                if since.elapsed() >= LEADERLESS {
                    explain(&member).await;
                }
            }
            tokio::time::sleep(SETTLED_INTERVAL.min(member.options.timing.formation_interval * 2))
                .await;
        } else {
            if let Err(why) = enter(&member).await {
                member.set_phase(Phase::waiting(why));
            }
            tokio::time::sleep(member.options.timing.formation_interval).await;
        }
    }
}

/// It is a voter with a leader. Its address in the membership must be right.
async fn settle(member: &Arc<Member>, metrics: &Metrics) {
    let forgot = member.note(|identity| identity.forming = None);
    if let Err(error) = forgot {
        tracing::error!(%error, "cannot write the identity");
    }
    member.set_phase(Phase::Member);
    let all = members(metrics);
    let known = all.get(&member.id()).map(|info| info.address.clone());
    if known.is_some_and(|known| known != member.options.advertise)
        && let Some(leader) = member.leader(metrics)
        && let Err(why) = ask_to_join(member, &leader.address).await
    {
        tracing::warn!(why, "cannot record this member's new address");
    }
}

/// One round of an unsettled member. Its error is what people are told.
async fn enter(member: &Arc<Member>) -> Result<(), String> {
    member.shown.identity.check_place().map_err(|error| error.to_string())?;
    let view = look(member).await?;
    match decide(&view) {
        Step::Wait(why) => return Err(why),
        Step::AwaitFormer => member.set_phase(Phase::Forming),
        Step::Join { leader, cluster } => {
            let asked = ask_to_join(member, &leader).await;
            let told = asked.map_err(|why| format!("cluster {cluster} at {leader}: {why}"))?;
            if told != cluster {
                return Err(format!("{leader} answered for cluster {told}, not {cluster}"));
            }
            let enter = member.note(|identity| identity.cluster = Some(cluster));
            enter.map_err(|error| error.to_string())?;
            member.set_phase(Phase::Joining);
        }
        Step::Form { members, resume } => form(member, &members, resume).await?,
    }
    Ok(())
}

async fn form(
    member: &Arc<Member>,
    members: &[Answer],
    resume: Option<ClusterId>,
) -> Result<(), String> {
    fn text(error: impl std::fmt::Display) -> String {
        error.to_string()
    }
    member.set_phase(Phase::Forming);
    let cluster = match resume {
        Some(cluster) => cluster,
        None => begin(member, members)?,
    };
    for other in members.iter().filter(|other| other.id.0 != member.id()) {
        let mut client = connect(&other.address, &member.options.credentials).map_err(text)?;
        let request = EnlistRequest { cluster: cluster.to_string(), to: other.id.0 };
        let enlisted = tokio::time::timeout(ANSWER_WITHIN, client.enlist(request)).await;
        let enlisted = enlisted.map_err(|_| format!("{} does not answer", other.address))?;
        enlisted.map_err(|status| format!("{}: {}", other.address, status.message()))?;
    }
    member.note(|identity| identity.cluster = Some(cluster)).map_err(text)?;
    let node =
        |answer: &Answer| MemberNode { name: answer.name.clone(), address: answer.address.clone() };
    let nodes: BTreeMap<u64, MemberNode> =
        members.iter().map(|answer| (answer.id.0, node(answer))).collect();
    member.raft.initialize(nodes).await.map_err(text)?;
    tracing::info!(%cluster, "formed a cluster");
    Ok(())
}

/// Notes what is to be formed, then creates the marker.
fn begin(member: &Member, members: &[Answer]) -> Result<ClusterId, String> {
    fn text(error: impl std::fmt::Display) -> String {
        error.to_string()
    }
    let cluster = random_cluster().map_err(text)?;
    member.note(|identity| identity.forming = Some(cluster)).map_err(text)?;
    let former = MemberId(member.id());
    let marker = Marker { cluster, former, formed_at_ms: wall_ms() };
    let file = MarkerFile::new(&member.options.formation_marker);
    let labels: Vec<String> =
        members.iter().map(|m| format!("{} {} {}", m.name, m.id, m.address)).collect();
    if let Err(error) = file.create(&marker, &labels) {
        member.note(|identity| identity.forming = None).map_err(text)?;
        return Err(format!("cannot create {}: {error}", file.path().display()));
    }
    Ok(cluster)
}

/// A voter that has heard no leader for a while: what keeps it from one?
async fn explain(member: &Arc<Member>) {
    let Ok(view) = look(member).await else { return };
    let Some(mine) = view.me.cluster else { return };
    let stranger = view
        .others
        .iter()
        .find(|other| !other.empty && other.cluster.is_some_and(|theirs| theirs != mine));
    let with_leader = view.others.iter().find(|other| {
        other.cluster == Some(mine) && other.has_quorum && other.leader_address.is_some()
    });
    let why = if let Some(leader) = with_leader.and_then(|other| other.leader_address.clone()) {
        // The cluster lives without us: perhaps this disk was replaced meanwhile.
        match ask_to_join(member, &leader).await {
            Ok(_) => return,
            Err(why) => format!("cluster {mine} goes on without this disk: {why}"),
        }
    } else if let Some(theirs) = stranger.and_then(|other| Some((other, other.cluster?))) {
        decide::foreign(mine, theirs.1, theirs.0)
    } else {
        let others = view.others.iter().filter(|other| !other.empty);
        let holders: Vec<&Answer> = others.chain([&view.me]).collect();
        if holders.len() * 2 > view.expected {
            format!("cluster {mine} has a quorum but no leader yet; this should pass")
        } else {
            decide::no_quorum(&view, mine, &holders)
        }
    };
    member.set_phase(Phase::waiting(why));
}

/// Asks everybody who they are.
async fn look(member: &Arc<Member>) -> Result<View, String> {
    let metrics = member.metrics();
    let mut addresses: Vec<String> = member.options.peers.clone();
    addresses.extend(members(&metrics).into_values().map(|info| info.address));
    addresses.retain(|address| *address != member.options.advertise);
    addresses.sort();
    addresses.dedup();
    let answers = join_all(addresses.iter().map(|address| ask(member, address))).await;
    let (mut others, mut silent) = (BTreeMap::new(), Vec::new());
    for (address, answer) in addresses.into_iter().zip(answers) {
        match answer {
            // Reached by two addresses, or ourselves by another name.
            Ok(answer) if answer.id.0 != member.id() => {
                others.insert(answer.id, answer);
            }
            Ok(_) => {}
            Err(why) => silent.push(format!("{address} ({why})")),
        }
    }
    let file = MarkerFile::new(&member.options.formation_marker);
    let marker = file.read().map_err(|error| format!("the formation marker: {error}"))?;
    let ago = marker.as_ref().map(|m| wall_ms().saturating_sub(m.formed_at_ms) / 1000);
    let identity = member.shown.identity.get();
    Ok(View {
        me: read(member.hello()),
        forming: identity.forming,
        others: others.into_values().collect(),
        silent,
        expected: member.expected(),
        marker,
        marker_path: file.path().display().to_string(),
        formed: ago.map(|seconds| format!("{seconds} s ago")).unwrap_or_default(),
    })
}

/// Who is at `address`; else why nobody could tell.
async fn ask(member: &Member, address: &str) -> Result<Answer, String> {
    let client = connect(address, &member.options.credentials);
    let mut client = client.map_err(|error| error.to_string())?;
    let request = HelloRequest { id: member.id(), name: member.options.name.to_string() };
    match tokio::time::timeout(ANSWER_WITHIN, client.hello(request)).await {
        Ok(Ok(answer)) => Ok(read(answer.into_inner())),
        Ok(Err(status)) => Err(match verdict(&status) {
            Verdict::NotLeader(_) => status.message().to_owned(),
            Verdict::NothingDone(why) | Verdict::Invalid(why) | Verdict::Unknown(why) => why,
        }),
        Err(_) => Err("no answer".to_owned()),
    }
}

fn read(hello: HelloResponse) -> Answer {
    Answer {
        id: MemberId(hello.id),
        name: hello.name,
        address: hello.address,
        cluster: hello.cluster.and_then(|cluster| cluster.parse().ok()),
        empty: hello.empty,
        has_quorum: hello.has_quorum,
        leader_address: hello.leader_address,
    }
}

async fn ask_to_join(member: &Member, leader: &str) -> Result<ClusterId, String> {
    let mut client =
        connect(leader, &member.options.credentials).map_err(|error| error.to_string())?;
    let request = JoinRequest {
        id: member.id(),
        name: member.options.name.to_string(),
        address: member.options.advertise.clone(),
    };
    let answer = tokio::time::timeout(ANSWER_WITHIN, client.join(request)).await;
    let answer = answer.map_err(|_| "no answer".to_owned())?;
    let cluster = answer.map_err(|status| status.message().to_owned())?.into_inner().cluster;
    cluster.parse().map_err(|error| format!("{error}"))
}
