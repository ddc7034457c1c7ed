//! Who may speak as a member.

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]

mod lab;

use std::time::Duration;

use atoll_api::proto::peer_client::PeerClient;
use atoll_api::proto::{EnlistRequest, HelloRequest, JoinRequest, PeerMessage};
use atoll_api::{Credentials, Endpoint};
use atoll_raft::Phase;
use lab::{Lab, authority, certificate, put_namespace};
use tonic::transport::Channel;
use tonic::{Code, Status};

fn peer(lab: &Lab, at: usize, credentials: &Credentials) -> PeerClient<Channel> {
    let endpoint: Endpoint = lab.members[at].options.advertise.parse().unwrap();
    PeerClient::new(endpoint.connect_lazy(credentials, Duration::from_secs(1)))
}

#[track_caller]
fn denied<T: std::fmt::Debug>(answer: Result<T, Status>, words: &str) {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    assert!(status.message().contains(words), "{}", status.message());
}

/// A node that was taken over holds a genuine certificate of the cluster. It must not lead.
#[tokio::test]
async fn a_node_or_operator_cannot_speak_as_a_member() {
    let lab = Lab::formed(1).await;
    let me = lab.store(0).status();
    for who in ["node/n1", "operator/alice", "viewer/v"] {
        let mut peer = peer(&lab, 0, &lab.credentials(who));
        let words = format!("{who} may not speak as a member");
        denied(peer.hello(HelloRequest::default()).await, &words);
        let cluster = me.cluster.unwrap().to_string();
        denied(peer.enlist(EnlistRequest { cluster: cluster.clone(), to: me.id.0 }).await, &words);
        denied(peer.join(JoinRequest::default()).await, &words);
        let message = PeerMessage { cluster, to: me.id.0, ..PeerMessage::default() };
        denied(peer.vote(message.clone()).await, &words);
        denied(peer.append_one(message.clone()).await, &words);
        denied(peer.append(futures::stream::iter([message.clone()])).await, &words);
        denied(peer.snapshot(futures::stream::iter([message])).await, &words);
    }
    assert_eq!(lab.store(0).status().term, me.term);
}

/// A member's certificate is one name's: with another it could take a silent member's place.
#[tokio::test]
async fn a_member_is_taken_in_only_under_the_name_in_its_certificate() {
    let lab = Lab::formed(1).await;
    let mut peer = peer(&lab, 0, &lab.credentials("member/m2"));
    let join =
        |name: &str| JoinRequest { id: 77, name: name.to_owned(), address: "x:1".to_owned() };
    let words = "member/m2 may not be taken in as member m1";
    denied(peer.join(join("m1")).await, words);
    // Under its own name it comes as far as the rules of the membership.
    let status = peer.join(join("m2")).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
}

/// The address of a member of another cluster: neither side takes the other for its own, and the
/// one that waits says why.
#[tokio::test]
async fn a_member_of_another_authority_is_no_peer_and_people_are_told() {
    let mut lab = Lab::new(3);
    let theirs = authority();
    let files = certificate(lab.directory.path(), &theirs, "member/m3");
    lab.members[2].options.credentials = Credentials::load(&files).unwrap();
    lab.start_all().await;
    let why = lab.members[2].waits_because("its certificate is not taken").await;
    assert!(why.contains("it was not signed by the authority in"), "{why}");
    let why = lab.members[0].waits_because("its certificate is not taken").await;
    assert!(why.contains(&lab.members[2].options.advertise), "{why}");
    assert!((0..3).all(|at| lab.store(at).status().cluster.is_none()));

    // With the right certificate it is a member like the others.
    lab.members[2].kill();
    lab.members[2].options.credentials = lab.credentials("member/m3");
    lab.members[2].start().await;
    lab.settled().await;
    lab.write(put_namespace(0)).await;
    assert!((0..3).all(|at| *lab.store(at).phase().borrow() == Phase::Member));
}
