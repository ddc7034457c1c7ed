//! What the agent does for the plugin.

use std::{path::PathBuf, sync::Arc};

use atoll_cni_wire::{Added, CniError, Request, Tombstone};
use tokio::time::Instant;

/// Attaches and detaches pods.
///
/// For one container and interface only one call runs at a time; for different ones they run
/// side by side.
pub trait Attachments: Send + Sync + 'static {
    /// Waits until `add` has what it works from, or says why not by the request's deadline. Holds
    /// up nobody: any number of requests may wait. Changes nothing.
    fn known(&self, request: &AddRequest) -> impl Future<Output = Result<(), CniError>> + Send;

    /// Attaches a pod and returns when it can be reached.
    ///
    /// Idempotent for each (container, interface). Must end by the request's deadline, having
    /// undone what is half done; whatever runs longer is no longer waited for.
    fn add(&self, request: AddRequest) -> impl Future<Output = Result<Added, CniError>> + Send;

    /// Detaches a pod: afterwards nothing of the attachment is left on this node.
    ///
    /// Idempotent; succeeds when there is nothing to detach.
    fn del(&self, request: DelRequest) -> impl Future<Output = Result<(), CniError>> + Send;

    /// Says whether an attachment is still as `add` said. Changes nothing.
    fn check(&self, request: CheckRequest) -> impl Future<Output = Result<(), CniError>> + Send;

    /// All attachments of a network that this node holds, or of which something is left.
    fn held(&self, network: &str) -> impl Future<Output = Result<Vec<Held>, CniError>> + Send;

    /// Says within a second whether an `add` of a pod that has an address can work now. Changes
    /// nothing.
    fn status(&self) -> impl Future<Output = Result<(), CniError>> + Send;
}

impl<A: Attachments> Attachments for Arc<A> {
    async fn known(&self, request: &AddRequest) -> Result<(), CniError> {
        A::known(self, request).await
    }

    async fn add(&self, request: AddRequest) -> Result<Added, CniError> {
        A::add(self, request).await
    }

    async fn del(&self, request: DelRequest) -> Result<(), CniError> {
        A::del(self, request).await
    }

    async fn check(&self, request: CheckRequest) -> Result<(), CniError> {
        A::check(self, request).await
    }

    async fn held(&self, network: &str) -> Result<Vec<Held>, CniError> {
        A::held(self, network).await
    }

    async fn status(&self) -> Result<(), CniError> {
        A::status(self).await
    }
}

/// The pod that a runtime names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid as the runtime knows it; for a static pod not the mirror pod's.
    pub uid: Option<String>,
}

/// A pod to attach. Ids and names have been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddRequest {
    /// The runtime's id of the sandbox.
    pub container_id: String,
    /// Name of the interface in the pod.
    pub ifname: String,
    /// Path of the sandbox's network namespace.
    pub netns: PathBuf,
    /// The pod.
    pub pod: Pod,
    /// Name of the network; empty if the plugin does not say it.
    pub network: String,
    /// When the answer must be there.
    pub deadline: Instant,
}

/// An attachment to check. Ids and names have been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckRequest {
    /// As it would be made now.
    pub attachment: AddRequest,
    /// What `ADD` said of it.
    pub previous: Added,
}

/// An attachment that a node holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The runtime's id of the sandbox.
    pub container_id: String,
    /// Name of the interface in the pod; none if it is not known any more.
    pub ifname: Option<String>,
}

/// A pod to detach. Ids and names have been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelRequest {
    /// The runtime's id of the sandbox.
    pub container_id: String,
    /// Name of the interface in the pod.
    pub ifname: String,
    /// Path of the sandbox's network namespace, which may be gone.
    pub netns: Option<PathBuf>,
    /// The pod, if the runtime named it.
    pub pod: Option<Pod>,
    /// When the answer must be there.
    pub deadline: Instant,
}

impl Pod {
    fn new(namespace: String, name: String, uid: Option<String>) -> Option<Self> {
        let is_named = !namespace.is_empty() && !name.is_empty();
        is_named.then_some(Self { namespace, name, uid })
    }
}

impl AddRequest {
    /// None if the request lacks the sandbox's namespace or the pod.
    pub(super) fn new(request: Request, deadline: Instant) -> Option<Self> {
        Some(Self {
            container_id: request.container_id,
            ifname: request.ifname,
            netns: request.netns?.into(),
            pod: Pod::new(request.pod_namespace, request.pod_name, request.pod_uid)?,
            network: request.network,
            deadline,
        })
    }
}

impl CheckRequest {
    /// None if the request lacks the sandbox's namespace, the pod, or what `ADD` said.
    pub(super) fn new(mut request: Request, deadline: Instant) -> Option<Self> {
        let previous = request.previous.take()?;
        Some(Self { attachment: AddRequest::new(request, deadline)?, previous })
    }
}

impl DelRequest {
    pub(super) fn new(request: Request, deadline: Instant) -> Self {
        Self {
            container_id: request.container_id,
            ifname: request.ifname,
            netns: request.netns.map(Into::into),
            pod: Pod::new(request.pod_namespace, request.pod_name, request.pod_uid),
            deadline,
        }
    }

    /// The request that a tombstone stands for.
    pub fn from_tombstone(tombstone: Tombstone, deadline: Instant) -> Self {
        Self {
            container_id: tombstone.container_id,
            ifname: tombstone.ifname,
            netns: tombstone.netns.map(Into::into),
            pod: Pod::new(tombstone.pod_namespace, tombstone.pod_name, tombstone.pod_uid),
            deadline,
        }
    }
}
