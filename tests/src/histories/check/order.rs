//! Real time: what began after something had ended does not come before it.

use std::collections::BTreeMap;
use std::time::Duration;

use atoll_model::{RequestId, Revision};

use super::{Kind, Verdict};
use crate::histories::record::{Asked, Record, Told};

/// One operation: from its first attempt to its first answer, and its place in the order.
struct Span {
    sent: Duration,
    answered: Duration,
    at: Revision,
    /// It may be no earlier than what ended before it; nor at the same place, if it is a write.
    bound: Bound,
    client: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bound {
    After,
    NotBefore,
    /// Stale reads may be old; but what they have shown is done.
    None,
}

/// Checks all that was answered; `position` is where the log has a request.
pub(super) fn check(
    records: &[Record],
    position: impl Fn(&RequestId) -> Option<Revision>,
    verdict: &mut Verdict,
) {
    let mut starts = spans(records, position);
    starts.sort_by_key(|span| span.sent);
    let mut ends: Vec<&Span> = starts.iter().collect();
    ends.sort_by_key(|span| span.answered);
    let mut ended = ends.into_iter().peekable();
    let mut latest: Option<&Span> = None;
    for span in &starts {
        while let Some(before) = ended.next_if(|it| it.answered < span.sent) {
            if latest.is_none_or(|it| it.at < before.at) {
                latest = Some(before);
            }
        }
        let Some(before) = latest else { continue };
        let holds = match span.bound {
            Bound::After => span.at > before.at,
            Bound::NotBefore => span.at >= before.at,
            Bound::None => continue,
        };
        verdict.counts.ordered += 1;
        if !holds {
            let what = format!(
                "client {} was given {} for what it sent at {:?}, but client {} had been given {} at {:?}",
                span.client, span.at, span.sent, before.client, before.at, before.answered
            );
            verdict.add(Kind::OutOfOrder, what);
        }
    }
}

fn spans(records: &[Record], position: impl Fn(&RequestId) -> Option<Revision>) -> Vec<Span> {
    let (mut spans, mut writes) = (Vec::new(), BTreeMap::<RequestId, Span>::new());
    let mut first_sent = BTreeMap::<RequestId, Duration>::new();
    for record in records {
        let (answered, client) = (record.answered, record.client);
        match (&record.asked, &record.told) {
            (Asked::Read { stale, .. }, Told::Objects { revision, .. }) => {
                let bound = if stale.is_some() { Bound::None } else { Bound::NotBefore };
                spans.push(Span { sent: record.sent, answered, at: *revision, bound, client });
            }
            (Asked::Txn { request, .. }, told) => {
                let sent = first_sent.entry(*request).or_insert(record.sent);
                *sent = record.sent.min(*sent);
                if let (Told::Outcome(_), Some(at)) = (told, position(request)) {
                    let bound = Bound::After;
                    let span = Span { sent: record.sent, answered, at, bound, client };
                    let span = writes.entry(*request).or_insert(span);
                    span.answered = span.answered.min(answered);
                }
            }
            (Asked::Read { .. }, _) => {}
        }
    }
    for (request, mut span) in writes {
        span.sent = first_sent.get(&request).copied().unwrap_or(span.sent);
        spans.push(span);
    }
    spans
}
