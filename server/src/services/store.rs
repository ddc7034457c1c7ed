//! `Store`: transactions, reads, watches, history.

use atoll_api::answer;
use atoll_api::proto::history_request::Of;
use atoll_api::proto::store_server::Store as StoreApi;
use atoll_api::proto::{
    FamilyUsage, HistoryRequest, HistoryResponse, Interval, Kind, ReadRequest, ReadResponse,
    SubnetUsage, TxnRequest, TxnResponse, WatchRequest, WatchResponse,
};
use atoll_codec::DecodeError;
use atoll_model::{Actor, NodeName, Object, ObjectKey, Operation, SubnetName, Txn};
use atoll_raft::{ProposeError, Published, ReadError, Store};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::authority::authorize;

/// Longest name by which a caller may call itself, in characters.
const ACTOR_LENGTH_MAX: usize = 128;

/// The `Store` service of one member.
#[derive(Debug, Clone)]
pub struct StoreService {
    store: Store,
}

impl StoreService {
    /// Serves `store`.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

fn undecodable(error: DecodeError) -> Status {
    answer::invalid(format!("the request cannot be read: {error}"))
}

/// The transaction of a request, checked for who asks; times are stamped by the proposer.
fn transaction(request: &TxnRequest) -> Result<Txn, Status> {
    let actor = match &request.node {
        Some(node) => {
            Actor::Node(NodeName::new(node).map_err(|error| answer::invalid(error.to_string()))?)
        }
        None => Actor::Operator(request.actor.chars().take(ACTOR_LENGTH_MAX).collect()),
    };
    let operations = request.operations.iter().map(TryInto::try_into);
    let operations = operations.collect::<Result<Vec<Operation>, _>>().map_err(undecodable)?;
    for operation in &operations {
        authorize(&actor, operation).map_err(answer::denied)?;
    }
    let preconditions = request.preconditions.iter().map(TryInto::try_into);
    let request_id = request.request.as_ref().map(TryInto::try_into).transpose();
    Ok(Txn {
        request: request_id.map_err(undecodable)?,
        actor,
        preconditions: preconditions.collect::<Result<_, _>>().map_err(undecodable)?,
        operations,
        clock_ms: 0,
        wall_ms: 0,
    })
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

fn usage(published: &Published, subnet: &SubnetName) -> Option<SubnetUsage> {
    let usage = published.state.usage(subnet)?;
    let family = |family: atoll_store::FamilyUsage| FamilyUsage {
        available: family.available.to_string(),
        using: family.using.to_string(),
        available_ranges: family.available_ranges.to_string(),
        using_ranges: family.using_ranges.to_string(),
    };
    Some(SubnetUsage {
        subnet: subnet.to_string(),
        v4: usage.v4.map(family),
        v6: usage.v6.map(family),
    })
}

impl StoreService {
    async fn published(&self, request: &ReadRequest) -> Result<Published, Status> {
        if !request.stale {
            return self.store.linearizable().await.map_err(|error| match error {
                ReadError::NotLeader { leader } => {
                    answer::not_leader(leader.as_ref().map(|leader| leader.address.as_str()))
                }
                other => answer::unavailable(other.to_string()),
            });
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
    type WatchStream = BoxStream<'static, Result<WatchResponse, Status>>;

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let txn = transaction(request.get_ref())?;
        match self.store.propose(txn).await {
            Ok(outcome) => Ok(Response::new(TxnResponse { outcome: Some((&outcome).into()) })),
            Err(ProposeError::NotLeader { leader }) => {
                Err(answer::not_leader(leader.as_ref().map(|leader| leader.address.as_str())))
            }
            Err(ProposeError::Unknown(why)) => Err(answer::unknown(why)),
            Err(error @ ProposeError::TooLarge { .. }) => Err(answer::invalid(error.to_string())),
            Err(error) => Err(answer::unavailable(error.to_string())),
        }
    }

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<ReadResponse>, Status> {
        let request = request.into_inner();
        let published = self.published(&request).await?;
        let objects: Vec<Object> = match &request.key {
            Some(key) => {
                let key = ObjectKey::try_from(key).map_err(undecodable)?;
                published.state.get(&key).into_iter().collect()
            }
            None => {
                let wanted = |object: &Object| {
                    request.kinds.is_empty() || request.kinds.contains(&i32::from(kind_of(object)))
                };
                published.state.objects().filter(wanted).collect()
            }
        };
        let subnets = objects.iter().filter_map(|object| match object {
            Object::Subnet(subnet) => usage(&published, &subnet.spec.name),
            _ => None,
        });
        Ok(Response::new(ReadResponse {
            revision: published.state.applied().0,
            usage: subnets.collect(),
            objects: objects.iter().map(Into::into).collect(),
        }))
    }

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let receiver = super::watch::start(self.store.clone(), request.get_ref())?;
        Ok(Response::new(ReceiverStream::new(receiver).boxed()))
    }

    async fn history(
        &self,
        request: Request<HistoryRequest>,
    ) -> Result<Response<HistoryResponse>, Status> {
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
