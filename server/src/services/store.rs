//! `Store`: transactions, reads, watches, history, and what an operator asks.
//!
//! What grows with the state is computed on a blocking thread, from a fork: consensus goes on.

use std::sync::Arc;

use atoll_api::allocations::{AllocationQuery, At, HeldState};
use atoll_api::answer;
use atoll_api::proto::history_request::Of;
use atoll_api::proto::store_server::Store as StoreApi;
use atoll_api::proto::{
    AllocationsRequest, AllocationsResponse, CheckRequest, CheckResponse, DigestRequest,
    DigestResponse, FamilyUsage, HistoryRequest, HistoryResponse, Interval, Kind, PlanResponse,
    ReadRequest, ReadResponse, SessionRequest, SessionResponse, SubnetUsage, TxnRequest,
    TxnResponse, WatchRequest, WatchResponse,
};
use atoll_codec::DecodeError;
use atoll_model::{ChangeSet, NodeName, Object, ObjectKey, SubnetName};
use atoll_raft::{Moment, Past, PastError, Published, ReadError, Store};
use atoll_store::State;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::Semaphore;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::authority::{caller, may_read, may_watch, may_write};
use super::txn::transaction;
use super::watch::Watches;
use super::{allocations, txn};

/// Objects per part of a large answer: some 200 KiB, far below the message limit.
const PART: usize = 1_000;

/// The `Store` service of one member.
#[derive(Debug, Clone)]
pub struct StoreService {
    store: Store,
    watches: Watches,
    /// One check at a time: each reads the whole state.
    checks: Arc<Semaphore>,
}

impl StoreService {
    /// Serves `store`.
    #[must_use]
    pub fn new(store: Store) -> Self {
        let watches = Watches::new(store.clone());
        Self { store, watches, checks: Arc::new(Semaphore::new(1)) }
    }
}

pub(super) fn undecodable(error: DecodeError) -> Status {
    answer::invalid(format!("the request cannot be read: {error}"))
}

fn kind_of(object: &Object) -> Kind {
    match object {
        Object::Settings(_) => Kind::Settings,
        Object::Central(_) => Kind::Central,
        Object::Subnet(_) => Kind::Subnet,
        Object::Namespace(_) => Kind::Namespace,
        Object::Node(_) => Kind::Node,
        Object::Pod(_) => Kind::Pod,
        Object::Allocation(_) => Kind::Allocation,
        Object::Draining(_) => Kind::Draining,
        Object::Workload(_) => Kind::Workload,
        Object::Reservation(_) => Kind::Reservation,
        Object::Qos(_) => Kind::Qos,
        Object::Mirror(_) => Kind::Mirror,
        Object::Sighting(_) => Kind::Sighting,
        Object::Janitor(_) => Kind::Janitor,
        Object::Reconciling(_) => Kind::Reconciling,
    }
}

/// How full a subnet is, as the API says it.
pub(crate) fn usage(published: &Published, subnet: &SubnetName) -> Option<SubnetUsage> {
    let usage = published.state.usage(subnet)?;
    let family = |family: atoll_store::FamilyUsage| FamilyUsage {
        available: family.available.to_string(),
        using: family.using.to_string(),
        available_ranges: family.available_ranges.to_string(),
        using_ranges: family.using_ranges.to_string(),
    };
    let spec = &published.state.subnet(subnet)?.spec;
    Some(SubnetUsage {
        subnet: subnet.to_string(),
        v4: usage.v4.map(family),
        v6: usage.v6.map(family),
        seen_outside: published.state.seen_outside(spec).to_string(),
    })
}

pub(super) fn not_read(error: ReadError) -> Status {
    match error {
        ReadError::NotLeader { leader } => {
            answer::not_leader(leader.as_ref().map(|leader| leader.address.as_str()))
        }
        other => answer::unavailable(other.to_string()),
    }
}

/// Beside the member's own work.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| answer::unavailable("this member is shutting down"))
}

/// The objects that are asked for: one by its key, or all of some kinds.
fn select(state: &State, request: &ReadRequest) -> Result<Vec<Object>, Status> {
    if let Some(key) = &request.key {
        let key = ObjectKey::try_from(key).map_err(undecodable)?;
        return Ok(state.get(&key).into_iter().collect());
    }
    let wanted = |object: &Object| {
        request.kinds.is_empty() || request.kinds.contains(&i32::from(kind_of(object)))
    };
    Ok(state.objects().filter(wanted).collect())
}

/// Objects of one state, as they are sent.
fn part(published: &Published, objects: &[Object]) -> ReadResponse {
    let subnets = objects.iter().filter_map(|object| match object {
        Object::Subnet(subnet) => usage(published, &subnet.spec.name),
        _ => None,
    });
    ReadResponse {
        revision: published.state.applied().0,
        usage: subnets.collect(),
        objects: objects.iter().map(Into::into).collect(),
    }
}

/// Parts of an answer as a stream; an empty answer is one empty part.
fn stream<T: Send + 'static>(parts: Vec<T>) -> Response<BoxStream<'static, Result<T, Status>>> {
    Response::new(futures::stream::iter(parts.into_iter().map(Ok)).boxed())
}

impl StoreService {
    async fn published(&self, request: &ReadRequest) -> Result<Published, Status> {
        if !request.stale {
            return self.store.linearizable().await.map_err(not_read);
        }
        let now = self.store.published().borrow().clone();
        if !now.is_formed() {
            return Err(answer::unavailable("this member is in no cluster yet"));
        }
        if now.state.applied().0 < request.min_revision {
            let why = format!(
                "this member is at revision {}, {} was asked for",
                now.state.applied(),
                request.min_revision
            );
            return Err(answer::unavailable(why));
        }
        Ok(now)
    }
}

#[tonic::async_trait]
impl StoreApi for StoreService {
    type SessionStream = BoxStream<'static, Result<SessionResponse, Status>>;
    type WatchStream = BoxStream<'static, Result<WatchResponse, Status>>;
    type ListStream = BoxStream<'static, Result<ReadResponse, Status>>;
    type AllocationsStream = BoxStream<'static, Result<AllocationsResponse, Status>>;

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let done = txn::carry_out(&self.store, caller(&request)?, request.get_ref()).await;
        done.map(Response::new)
    }

    async fn session(
        &self,
        request: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        // Whoever may write nothing learns it at once; each transaction is looked at for itself.
        may_write(&request, &[])?;
        let caller = caller(&request)?.clone();
        Ok(Response::new(txn::session(self.store.clone(), caller, request.into_inner())))
    }

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<ReadResponse>, Status> {
        may_read(&request)?;
        let request = request.into_inner();
        let published = self.published(&request).await?;
        let answer = aside(move || {
            select(&published.state, &request).map(|objects| part(&published, &objects))
        });
        Ok(Response::new(answer.await??))
    }

    async fn list(
        &self,
        request: Request<ReadRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        may_read(&request)?;
        let request = request.into_inner();
        let published = self.published(&request).await?;
        let parts = aside(move || {
            let objects = select(&published.state, &request)?;
            let mut parts: Vec<_> =
                objects.chunks(PART).map(|objects| part(&published, objects)).collect();
            if parts.is_empty() {
                parts.push(part(&published, &[]));
            }
            Ok::<_, Status>(parts)
        });
        Ok(stream(parts.await??))
    }

    async fn allocations(
        &self,
        request: Request<AllocationsRequest>,
    ) -> Result<Response<Self::AllocationsStream>, Status> {
        may_read(&request)?;
        let query = AllocationQuery::try_from(request.get_ref()).map_err(undecodable)?;
        let now = self.store.linearizable().await.map_err(not_read)?;
        let moment = query.at.map(|at| match at {
            At::Revision(revision) => Moment::Revision(revision),
            At::WallMs(ms) => Moment::WallMs(ms),
        });
        if moment.is_some() && query.state == Some(HeldState::Cooling) {
            let why = "which addresses cooled is not in the history; ask for those that cool now";
            return Err(answer::invalid(why));
        }
        let past = match moment {
            None => Past::now(now.state),
            Some(moment) => self.store.history().at(moment).await.map_err(|error| match error {
                PastError::History(error) => answer::unavailable(error.to_string()),
                error => answer::invalid(error.to_string()),
            })?,
        };
        Ok(stream(aside(move || allocations::parts(&past, &query, PART)).await?))
    }

    async fn plan(&self, request: Request<TxnRequest>) -> Result<Response<PlanResponse>, Status> {
        let mut txn = transaction(caller(&request)?, request.get_ref())?;
        let now = self.store.linearizable().await.map_err(not_read)?;
        txn.clock_ms = now.state.clock_ms();
        let actor = txn.actor.clone();
        let revision = now.state.applied();
        let plan = aside(move || atoll_store::plan(&now.state, &txn)).await?;
        let changes = ChangeSet { revision, actor, wall_ms: 0, changes: plan.changes };
        Ok(Response::new(PlanResponse {
            outcome: Some((&plan.outcome).into()),
            changes: Some((&changes).into()),
            pods: plan.pods.iter().map(Into::into).collect(),
            effect: plan.effect.to_be_bytes().to_vec().into(),
            revision: revision.0,
        }))
    }

    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<Response<CheckResponse>, Status> {
        may_read(&request)?;
        let Ok(turn) = self.checks.clone().try_acquire_owned() else {
            let why = "another check is under way on this member; try again when it is done";
            return Err(answer::unavailable(why));
        };
        let now = self.store.linearizable().await.map_err(not_read)?;
        let checked = aside(move || {
            let _turn = turn;
            CheckResponse {
                applied: now.state.applied().0,
                digest: now.state.digest().to_be_bytes().to_vec().into(),
                broken: now.state.check().err(),
                objects: now.state.objects().count() as u64,
            }
        });
        Ok(Response::new(checked.await?))
    }

    async fn digest(
        &self,
        request: Request<DigestRequest>,
    ) -> Result<Response<DigestResponse>, Status> {
        may_read(&request)?;
        let now = self.store.published().borrow().clone();
        if !now.is_formed() {
            return Err(answer::unavailable("this member is in no cluster yet"));
        }
        Ok(Response::new(DigestResponse {
            applied: now.state.applied().0,
            digest: now.state.digest().to_be_bytes().to_vec().into(),
        }))
    }

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let asked = request.get_ref().node.as_deref().map(NodeName::new).transpose();
        let asked = asked.map_err(|error| answer::invalid(error.to_string()))?;
        let node = may_watch(&request, asked)?;
        let receiver = self.watches.start(request.get_ref(), node)?;
        Ok(Response::new(ReceiverStream::new(receiver).boxed()))
    }

    async fn history(
        &self,
        request: Request<HistoryRequest>,
    ) -> Result<Response<HistoryResponse>, Status> {
        may_read(&request)?;
        // A member that lags behind would leave out what was acknowledged.
        if !request.get_ref().stale {
            self.store.linearizable().await.map_err(not_read)?;
        }
        let history = self.store.history();
        let failed = |error: atoll_raft::HistoryError| answer::unavailable(error.to_string());
        let mut response = HistoryResponse::default();
        match request.into_inner().of {
            Some(Of::Address(query)) => {
                let subnet = SubnetName::new(&query.subnet)
                    .map_err(|error| answer::invalid(error.to_string()))?;
                let address =
                    atoll_codec::decode_address("address", &query.address).map_err(undecodable)?;
                let intervals = history.ownership(&subnet, address).await.map_err(failed)?;
                response.intervals = intervals.iter().map(interval).collect();
            }
            Some(Of::Object(key)) => {
                let key = ObjectKey::try_from(&key).map_err(undecodable)?;
                let changes = history.of_object(&key).await.map_err(failed)?;
                response.changes = changes.iter().map(Into::into).collect();
            }
            None => return Err(answer::invalid("ask for an address or an object")),
        }
        // Looked at after reading: what has gone meanwhile is not in the answer.
        response.floor = history.floor().0;
        Ok(Response::new(response))
    }
}

fn interval(interval: &atoll_raft::Interval) -> Interval {
    Interval {
        owner: Some((&interval.owner).into()),
        from: interval.from.0,
        from_wall_ms: interval.from_wall_ms.unwrap_or_default(),
        until: interval.until.map(|until| until.0),
        until_wall_ms: interval.until_wall_ms,
    }
}
