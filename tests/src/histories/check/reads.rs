//! Reads: what the state holds at the revision that they state.

use atoll_model::Object;
use atoll_store::State;

use super::{Kind, Verdict, brief};
use crate::histories::record::{Asked, Record, Selection, Told, Used};

/// Is a read what the state holds?
pub(super) fn check(state: &State, record: &Record, verdict: &mut Verdict) {
    let Asked::Read { selection, stale } = &record.asked else {
        verdict.add(Kind::WrongRead, format!("objects for a transaction: {}", brief(record)));
        return;
    };
    let Told::Objects { revision, objects, usage } = &record.told else { return };
    match stale {
        Some(least) => {
            verdict.counts.stale_reads += 1;
            if revision < least {
                verdict.add(Kind::TooOld, format!("{least} was asked for: {}", brief(record)));
            }
        }
        None => verdict.counts.reads += 1,
    }
    let (expected, used) = select(state, selection);
    if *objects != expected || *usage != used {
        let differing = objects.iter().find(|it| !expected.contains(it));
        let missing = expected.iter().find(|it| !objects.contains(it));
        let what = format!(
            "{}: {} objects, {} expected; told {differing:?} for {missing:?}; {usage:?} for {used:?}",
            brief(record),
            objects.len(),
            expected.len(),
        );
        verdict.add(Kind::WrongRead, what);
    }
}

/// What a read of `state` must say.
#[must_use]
pub fn select(state: &State, selection: &Selection) -> (Vec<Object>, Vec<Used>) {
    let mut objects: Vec<Object> = match selection {
        Selection::All => state.objects().collect(),
        Selection::Subnets => {
            state.objects().filter(|it| matches!(it, Object::Subnet(_))).collect()
        }
        Selection::Key(key) => state.get(key).into_iter().collect(),
    };
    objects.sort_by_key(Object::key);
    let used = objects.iter().filter_map(|object| {
        let Object::Subnet(subnet) = object else { return None };
        let v4 = state.usage(&subnet.spec.name)?.v4?;
        Some(Used {
            subnet: subnet.spec.name.to_string(),
            available: v4.available.to_string(),
            using: v4.using.to_string(),
        })
    });
    let used = used.collect();
    (objects, used)
}
