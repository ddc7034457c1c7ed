//! Which packets leave an interface of the node first, where it has no room for all.
//!
//! One discipline of the kernel (HTB) at the interface's root: packets with a mark in their IP
//! header go first, the others have a tenth for sure and whatever is left. It is ours by its
//! number, and made anew as a whole when something of it differs. One of somebody else is never
//! touched; those that the kernel puts there by itself have no number, and give way.

mod message;
mod part;

use std::collections::BTreeSet;

use futures::{StreamExt as _, TryStreamExt as _};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcHandle, TcMessage};
use nix::errno::Errno;
use rtnetlink::Handle;

use super::links::{find_on, list_on};
use super::{Link, LinkError, Namespace, NamespaceError, NetlinkError};
pub use part::Shares;
use part::{Part, handle, is_ours, kind, parts};

/// Why an interface is not shared as it should be.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// It is not there.
    #[error("there is no interface {name}")]
    Absent {
        /// Its name.
        name: String,
    },
    /// Somebody else has said how packets leave it. That stays; packets with the mark wait as
    /// others do, unless it knows them.
    #[error(
        "interface {name} has a queueing discipline that is not ours ({kind}), and keeps it; `tc \
         qdisc del dev {name} root` takes it away, then ours comes"
    )]
    Foreign {
        /// The interface.
        name: String,
        /// The kernel's name for the discipline.
        kind: String,
    },
    /// The namespace cannot be worked in.
    #[error("cannot work in the namespace of the interface")]
    Namespace(#[from] NamespaceError),
    /// Links could not be read.
    #[error("cannot read links")]
    Link(#[from] LinkError),
    /// A request did not succeed; nothing half made is left.
    #[error("cannot {action} the queueing discipline of {name}")]
    Request {
        /// What was tried.
        action: &'static str,
        /// The interface.
        name: String,
        /// How it ended.
        source: NetlinkError,
    },
}

/// Has packets with the mark leave an interface first. Idempotent. True if something was changed.
///
/// # Errors
///
/// [`ShareError`].
pub async fn share(namespace: &Namespace, name: &str, shares: &Shares) -> Result<bool, ShareError> {
    let (name, shares) = (name.to_owned(), *shares);
    namespace
        .run(async move |sockets| {
            let on = &sockets.inside;
            let link = find_on(on, &name).await?.ok_or(ShareError::Absent { name })?;
            let index = index(&link);
            let desired = parts(&shares);
            let observed = observe(on, &link).await?;
            if observed == desired.iter().copied().collect() {
                return Ok(false);
            }
            if observed.contains(&Part::Root) {
                remove(on, &link).await?;
            }
            for part in desired {
                if let Err(error) = send(on, part.request(index), NLM_F_CREATE | NLM_F_EXCL).await {
                    // Half of it would hold packets up and put nobody first.
                    let _ = remove(on, &link).await;
                    return Err(ShareError::request("make", &link)(error));
                }
            }
            Ok(true)
        })
        .await
}

/// The names of interfaces that have ours.
///
/// # Errors
///
/// [`ShareError`].
pub async fn shared(namespace: &Namespace) -> Result<Vec<String>, ShareError> {
    namespace
        .run(async |sockets| {
            let links = ours(&sockets.inside).await?;
            Ok(links.into_iter().map(|link| link.name).collect())
        })
        .await
}

/// Takes ours away from all interfaces but one. Idempotent. The names of those that had it.
///
/// # Errors
///
/// [`ShareError`].
pub async fn unshare(namespace: &Namespace, but: Option<&str>) -> Result<Vec<String>, ShareError> {
    let but = but.map(str::to_owned);
    namespace
        .run(async move |sockets| {
            let on = &sockets.inside;
            let mut removed = Vec::new();
            for link in ours(on).await? {
                if Some(&link.name) != but.as_ref() {
                    remove(on, &link).await?;
                    removed.push(link.name);
                }
            }
            Ok(removed)
        })
        .await
}

impl ShareError {
    fn request<E: Into<NetlinkError>>(action: &'static str, link: &Link) -> impl FnOnce(E) -> Self {
        move |error| Self::Request { action, name: link.name.clone(), source: error.into() }
    }
}

/// The pieces of ours that are there.
async fn observe(on: &Handle, link: &Link) -> Result<BTreeSet<Part>, ShareError> {
    let index = index(link);
    let qdiscs = qdiscs(on).await.map_err(ShareError::request("read", link))?;
    let of_link = |it: &&TcMessage| it.header.index == index;
    let root = |it: &&TcMessage| it.header.parent == TcHandle::ROOT && it.header.handle.major != 0;
    if let Some(foreign) = qdiscs.iter().filter(of_link).filter(root).find(|it| !is_ours(it)) {
        let kind = kind(foreign).unwrap_or("of no name").to_owned();
        return Err(ShareError::Foreign { name: link.name.clone(), kind });
    }
    let mut parts: BTreeSet<_> = qdiscs.iter().filter(of_link).filter_map(Part::of_qdisc).collect();
    if !parts.contains(&Part::Root) {
        return Ok(BTreeSet::new());
    }
    let classes: Result<Vec<_>, _> = on.traffic_class(index).get().execute().try_collect().await;
    let classes = classes.map_err(ShareError::request("read", link))?;
    parts.extend(classes.iter().filter_map(Part::of_class));
    let filters: Result<Vec<_>, _> = on.traffic_filter(index).get().execute().try_collect().await;
    let filters = filters.map_err(ShareError::request("read", link))?;
    parts.extend(filters.iter().filter_map(Part::of_filter));
    Ok(parts)
}

async fn qdiscs(on: &Handle) -> Result<Vec<TcMessage>, rtnetlink::Error> {
    on.qdisc().get().execute().try_collect().await
}

/// Links whose root is ours.
async fn ours(on: &Handle) -> Result<Vec<Link>, ShareError> {
    let links = list_on(on).await?;
    let qdiscs = qdiscs(on).await;
    let qdiscs = qdiscs.map_err(|error| ShareError::Request {
        action: "read",
        name: "(all)".to_owned(),
        source: error.into(),
    })?;
    let has_ours =
        |link: &Link| qdiscs.iter().any(|it| is_ours(it) && it.header.index == index(link));
    Ok(links.into_iter().filter(has_ours).collect())
}

async fn remove(on: &Handle, link: &Link) -> Result<(), ShareError> {
    let mut message = TcMessage::with_index(index(link));
    // With its number: one that somebody else has put there in between is another.
    (message.header.parent, message.header.handle) = (TcHandle::ROOT, handle(0));
    match send(on, RouteNetlinkMessage::DelQueueDiscipline(message), 0).await {
        Ok(()) => Ok(()),
        Err(error) if error.is(Errno::ENOENT) || error.is(Errno::ENODEV) => Ok(()),
        Err(error) => Err(ShareError::request("remove", link)(error)),
    }
}

async fn send(on: &Handle, message: RouteNetlinkMessage, flags: u16) -> Result<(), NetlinkError> {
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    let mut answers = on.clone().request(request)?;
    while let Some(answer) = answers.next().await {
        match answer.payload {
            NetlinkPayload::Error(error) if error.code.is_some() => {
                return Err(rtnetlink::Error::NetlinkError(error).into());
            }
            _ => {}
        }
    }
    Ok(())
}

/// As requests of traffic control have it.
fn index(link: &Link) -> i32 {
    link.index.cast_signed()
}
