//! `GC`: whatever the runtime does not list is taken down as by `DEL`.
//!
//! By the specification a runtime has no `ADD` or `DEL` on its way meanwhile. That is not relied
//! on: what is being worked on when the list comes, or is asked for before its turn, stays.

use std::{collections::HashSet, sync::Arc};

use atoll_cni_wire::{AttachmentId, CniError, Code, Request, Response};
use futures::future::join_all;
use tokio::time::Instant;
use tracing::info;

use super::{
    Attachments, DelRequest, Held,
    job::Job,
    server::Shared,
    turns::{Turn, Watch},
};

/// The interface of a sandbox of which only the record is left. Kubernetes' runtimes have no other.
const IFNAME_USUAL: &str = "eth0";

pub(super) async fn collect<A: Attachments>(
    request: Request,
    deadline: Instant,
    shared: &Arc<Shared<A>>,
) -> Result<Response, CniError> {
    // An agent that took a missing list for an empty one would detach every pod of the node.
    let (Some(valid), false) = (request.valid, request.network.is_empty()) else {
        let message = "GC needs the name of the network and the list of what is to stay";
        return Err(CniError::new(Code::INVALID_CONFIG, message));
    };
    let watch = shared.turns.watch();
    let held = shared.attachments.held(&request.network).await?;
    let (all, stale) = (held.len(), stale(held, &valid));
    if !stale.is_empty() {
        info!(held = all, listed = valid.len(), stale = stale.len(), "GC takes attachments down");
    }
    let taken = stale.into_iter().filter_map(|held| take(held, shared, &watch));
    let ended = join_all(taken.map(|(it, turn)| take_down(it, turn, deadline, shared))).await;
    let (count, failed) = (ended.len(), ended.into_iter().filter_map(Result::err).collect());
    summary(count, failed).map(|()| Response::Collected)
}

/// What is held and not listed. Where the interface is not known, its sandbox decides.
fn stale(held: Vec<Held>, valid: &[AttachmentId]) -> Vec<Held> {
    let whole: HashSet<(&str, &str)> =
        valid.iter().map(|it| (it.container_id.as_str(), it.ifname.as_str())).collect();
    let sandboxes: HashSet<&str> = whole.iter().map(|(container_id, _)| *container_id).collect();
    let is_listed = |held: &Held| match &held.ifname {
        Some(ifname) => whole.contains(&(held.container_id.as_str(), ifname.as_str())),
        None => sandboxes.contains(held.container_id.as_str()),
    };
    held.into_iter().filter(|held| !is_listed(held)).collect()
}

/// None if somebody works on it: it is not stale then.
fn take<A>(held: Held, shared: &Shared<A>, watch: &Watch) -> Option<(AttachmentId, Turn)> {
    let Held { container_id, ifname } = held;
    let ifname = ifname.unwrap_or_else(|| IFNAME_USUAL.to_owned());
    let turn = shared.turns.take_unasked(&container_id, &ifname, watch);
    if turn.is_none() {
        info!(container_id, ifname, "GC leaves alone what is being worked on");
    }
    Some((AttachmentId { container_id, ifname }, turn?))
}

async fn take_down<A: Attachments>(
    AttachmentId { container_id, ifname }: AttachmentId,
    turn: Turn,
    deadline: Instant,
    shared: &Arc<Shared<A>>,
) -> Result<(), (AttachmentId, CniError)> {
    let del = DelRequest {
        container_id: container_id.clone(),
        ifname: ifname.clone(),
        netns: None,
        pod: None,
        deadline,
    };
    let job = Job {
        what: format!("DEL of container {container_id}"),
        container_id: container_id.clone(),
        ifname: ifname.clone(),
        deadline,
        permits: Arc::clone(&shared.dels),
    };
    let of_work = Arc::clone(shared);
    let work = async move { of_work.attachments.del(del).await };
    let done = job.run_in(turn, shared, work).await;
    done.map_err(|error| (AttachmentId { container_id, ifname }, error))
}

/// Names each failure; the code is theirs, if they agree.
fn summary(count: usize, failed: Vec<(AttachmentId, CniError)>) -> Result<(), CniError> {
    let Some((_, first)) = failed.first() else { return Ok(()) };
    let is_one = failed.iter().all(|(_, error)| error.code == first.code);
    let code = if is_one { first.code } else { Code::TRY_AGAIN_LATER };
    let named = failed.iter().map(|(AttachmentId { container_id, ifname }, error)| {
        format!("{ifname} of container {container_id}: {error}")
    });
    let named: Vec<_> = named.collect();
    let message = format!(
        "{} of {count} attachments that the runtime does not list could not be taken down, which \
         is tried again with the next GC: {}",
        failed.len(),
        named.join("; ")
    );
    let details: Vec<_> = failed.iter().map(|(_, error)| error.details.as_str()).collect();
    Err(CniError::new(code, message).with_details(details.join("; ").trim_matches([';', ' '])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(container_id: &str, ifname: &str) -> AttachmentId {
        AttachmentId { container_id: container_id.into(), ifname: ifname.into() }
    }

    fn held(container_id: &str, ifname: Option<&str>) -> Held {
        Held { container_id: container_id.into(), ifname: ifname.map(Into::into) }
    }

    #[test]
    fn what_is_not_listed_is_stale_and_nothing_else() {
        let all = vec![
            held("c1", Some("eth0")),
            held("c2", Some("eth0")),
            held("c3", None),
            held("c4", None),
        ];
        let listed = [id("c1", "eth0"), id("c2", "net1"), id("c3", "eth0"), id("c9", "eth0")];
        let expected = [held("c2", Some("eth0")), held("c4", None)];
        assert_eq!(stale(all.clone(), &listed), expected);
        assert_eq!(stale(all.clone(), &[]), all);
    }

    #[test]
    fn each_failure_is_named() {
        assert_eq!(summary(3, vec![]), Ok(()));
        let full = CniError::new(Code::PLUMBING, "no disk").with_details("ENOSPC");
        let late = CniError::new(Code::TRY_AGAIN_LATER, "too late");
        let one = summary(3, vec![(id("c1", "eth0"), full.clone())]).unwrap_err();
        assert_eq!((one.code, one.details.as_str()), (Code::PLUMBING, "ENOSPC"));
        assert!(one.message.starts_with("1 of 3 attachments"), "{one}");
        let both = vec![(id("c1", "eth0"), full), (id("c2", "net1"), late)];
        let both = summary(3, both).unwrap_err();
        assert_eq!((both.code, both.details.as_str()), (Code::TRY_AGAIN_LATER, "ENOSPC"));
        assert!(both.message.contains("eth0 of container c1: no disk"), "{both}");
        assert!(both.message.contains("net1 of container c2: too late"), "{both}");
    }
}
