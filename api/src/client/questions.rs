//! What an operator asks: who holds what, what was, what would be, and whether all is well.

use std::net::IpAddr;

use atoll_codec::DecodeError;
use atoll_model::{
    ChangeSet, ObjectKey, Operation, Outcome, Owner, PodKey, Precondition, Revision, SubnetName,
};

use super::{Client, ClientError, Endpoint, parts, store};
use crate::allocations::{AllocationQuery, Held, octets};
use crate::proto::history_request::Of;
use crate::proto::{
    AddressQuery, AllocationsRequest, AllocationsResponse, CheckRequest, DigestRequest,
    DigestResponse, HistoryRequest, HistoryResponse, TxnRequest,
};

/// Addresses that are or were held.
#[derive(Debug, Clone)]
pub struct HeldResult {
    /// The last change that is included.
    pub revision: Revision,
    /// When that was, ms since 1970, if the past was asked for and it is known.
    pub wall_ms: Option<u64>,
    /// The addresses, in no particular order.
    pub held: Vec<Held>,
}

/// One holder of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// Who.
    pub owner: Owner,
    /// The revision that gave it, and when that was, ms since 1970, if it is known.
    pub from: (Revision, Option<u64>),
    /// The revision that took it away; nothing while it is held.
    pub until: Option<(Revision, Option<u64>)>,
}

/// What a transaction would do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The revision on which it was made.
    pub revision: Revision,
    /// The answer that it would get.
    pub outcome: Outcome,
    /// What it would change.
    pub changes: ChangeSet,
    /// The pods that would notice.
    pub pods: Vec<PodKey>,
    /// Names the effect, for [`Precondition::EffectEquals`].
    pub effect: u128,
}

/// What a check of the leader's state found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The entry up to which it was checked.
    pub applied: Revision,
    /// What the state hashes to.
    pub digest: u128,
    /// How many objects it holds.
    pub objects: u64,
    /// The first broken invariant.
    pub broken: Option<String>,
}

impl Client {
    /// Which addresses are held, or were, by whom; linearizable.
    ///
    /// # Errors
    ///
    /// As [`Client::read`]; [`ClientError::Invalid`] if the history does not reach back that far.
    pub async fn allocations(&self, query: &AllocationQuery) -> Result<HeldResult, ClientError> {
        let request = AllocationsRequest::from(query);
        let ask = |channel| {
            let request = request.clone();
            async move { parts(store(channel).allocations(request).await?.into_inner()).await }
        };
        let parts: Vec<AllocationsResponse> = self.ask_long(ask).await?;
        let first = parts.first();
        let revision = Revision(first.map_or(0, |part| part.revision));
        let wall_ms = first.and_then(|part| part.wall_ms);
        let held = parts.iter().flat_map(|part| &part.held).map(Held::try_from);
        let held = held.collect::<Result<_, _>>().map_err(ClientError::Protocol)?;
        Ok(HeldResult { revision, wall_ms, held })
    }

    /// Who held an address, oldest first; and the revision at or below which nothing is known.
    ///
    /// # Errors
    ///
    /// As [`Client::read`].
    pub async fn ownership(
        &self,
        subnet: &SubnetName,
        address: IpAddr,
    ) -> Result<(Vec<Past>, Revision), ClientError> {
        let query = AddressQuery { subnet: subnet.to_string(), address: octets(address) };
        let answer = self.history(linearizable(Of::Address(query))).await?;
        let known = |ms: u64| (ms > 0).then_some(ms);
        let past = |interval: &crate::proto::Interval| {
            let owner = interval.owner.as_ref().ok_or_else(|| missing("owner"))?;
            Ok(Past {
                owner: owner.try_into()?,
                from: (Revision(interval.from), known(interval.from_wall_ms)),
                until: interval.until.map(|until| (Revision(until), interval.until_wall_ms)),
            })
        };
        let all = answer.intervals.iter().map(past).collect::<Result<_, DecodeError>>();
        Ok((all.map_err(ClientError::Protocol)?, Revision(answer.floor)))
    }

    /// Every change of an object, oldest first; and the revision at or below which nothing is known.
    ///
    /// # Errors
    ///
    /// As [`Client::read`].
    pub async fn changes_of(
        &self,
        key: &ObjectKey,
    ) -> Result<(Vec<ChangeSet>, Revision), ClientError> {
        let answer = self.history(linearizable(Of::Object(key.into()))).await?;
        let sets = answer.changes.into_iter().map(ChangeSet::try_from);
        let sets = sets.collect::<Result<_, _>>().map_err(ClientError::Protocol)?;
        Ok((sets, Revision(answer.floor)))
    }

    /// Who held an address, or every change of an object, as it is sent.
    ///
    /// # Errors
    ///
    /// As [`Client::read`].
    pub async fn history(&self, request: HistoryRequest) -> Result<HistoryResponse, ClientError> {
        self.ask_long(|channel| {
            let request = request.clone();
            async move { store(channel).history(request).await.map(tonic::Response::into_inner) }
        })
        .await
    }

    /// What [`Client::txn`] would do now. It changes nothing.
    ///
    /// # Errors
    ///
    /// As [`Client::read`]; that it would be refused is no error but its outcome.
    pub async fn plan(
        &self,
        preconditions: &[Precondition],
        operations: &[Operation],
    ) -> Result<Plan, ClientError> {
        let request = TxnRequest {
            request: None,
            preconditions: preconditions.iter().map(Into::into).collect(),
            operations: operations.iter().map(Into::into).collect(),
        };
        let ask = |channel| {
            let request = request.clone();
            async move { store(channel).plan(request).await.map(tonic::Response::into_inner) }
        };
        let answer = self.ask_long(ask).await?;
        let decode = || {
            Ok(Plan {
                revision: Revision(answer.revision),
                outcome: answer.outcome.ok_or_else(|| missing("outcome"))?.try_into()?,
                changes: answer.changes.ok_or_else(|| missing("changes"))?.try_into()?,
                pods: answer.pods.iter().map(PodKey::try_from).collect::<Result<_, _>>()?,
                effect: wide("effect", &answer.effect)?,
            })
        };
        decode().map_err(ClientError::Protocol)
    }

    /// Checks every invariant of the leader's state, beside its work.
    ///
    /// # Errors
    ///
    /// As [`Client::read`]; that one is broken is no error but the answer.
    pub async fn check(&self) -> Result<Checked, ClientError> {
        let ask = |channel| async move {
            store(channel).check(CheckRequest {}).await.map(tonic::Response::into_inner)
        };
        let answer = self.ask_long(ask).await?;
        Ok(Checked {
            applied: Revision(answer.applied),
            digest: wide("digest", &answer.digest).map_err(ClientError::Protocol)?,
            objects: answer.objects,
            broken: answer.broken,
        })
    }

    /// What each member's own state hashes to, and after which entry, in the order of the endpoints.
    pub async fn digests(&self) -> Vec<(Endpoint, Result<(Revision, u128), String>)> {
        let ask = |channel| async move { store(channel).digest(DigestRequest {}).await };
        let decode = |answer: DigestResponse| {
            let digest = wide("digest", &answer.digest).map_err(|error| error.to_string())?;
            Ok((Revision(answer.applied), digest))
        };
        let answers = self.each(ask).await.into_iter();
        answers.map(|(endpoint, answer)| (endpoint, answer.and_then(decode))).collect()
    }
}

fn linearizable(of: Of) -> HistoryRequest {
    HistoryRequest { of: Some(of), stale: false }
}

fn missing(field: &'static str) -> DecodeError {
    DecodeError::Field { field, why: "is missing".to_owned() }
}

fn wide(field: &'static str, bytes: &[u8]) -> Result<u128, DecodeError> {
    let bytes = bytes.try_into().map_err(|_| DecodeError::Field {
        field,
        why: format!("has {} bytes, not 16", bytes.len()),
    })?;
    Ok(u128::from_be_bytes(bytes))
}
