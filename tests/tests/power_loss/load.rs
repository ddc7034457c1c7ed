//! Clients that write, and remember what they were told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atoll_api::Client;
use atoll_model::{Labels, NamespaceName, Operation, Outcome, Revision};

/// Namespaces that each client writes in turn.
const KEYS: u64 = 20;

/// Label that holds a namespace's version.
pub(crate) const VERSION: &str = "version";

/// A transaction that a client was told is done.
#[derive(Debug, Clone)]
pub(crate) struct Acknowledged {
    pub(crate) revision: Revision,
    pub(crate) name: NamespaceName,
    pub(crate) version: u64,
}

impl Acknowledged {
    pub(crate) fn operation(&self) -> Operation {
        put(&self.name, self.version)
    }
}

fn put(name: &NamespaceName, version: u64) -> Operation {
    let pad = "x".repeat(usize::try_from(version % 50).expect("below 50"));
    let labels = Labels::from([
        (VERSION.to_owned(), version.to_string()),
        ("pad".to_owned(), format!("p{pad}")),
    ]);
    Operation::PutNamespace(name.clone(), labels)
}

/// What the clients know.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Of this round.
    pub(crate) acknowledged: Vec<Acknowledged>,
    /// The last version of each namespace that was acknowledged, in any round …
    pub(crate) least: BTreeMap<NamespaceName, u64>,
    /// … and the last one that was sent.
    pub(crate) most: BTreeMap<NamespaceName, u64>,
}

/// The ledger that clients share.
#[derive(Debug, Default, Clone)]
pub(crate) struct Shared(Arc<Mutex<Ledger>>);

impl Shared {
    pub(crate) fn with<T>(&self, what: impl FnOnce(&mut Ledger) -> T) -> T {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Writes until it is aborted.
pub(crate) async fn write(client: Client, number: usize, ledger: Shared) {
    for turn in 0_u64.. {
        let name = format!("c{number}-{}", turn % KEYS).parse::<NamespaceName>();
        let name = name.expect("a namespace's name");
        let version = ledger.with(|it| {
            let most = it.most.entry(name.clone()).or_default();
            *most += 1;
            *most
        });
        match client.txn(Vec::new(), vec![put(&name, version)]).await {
            Ok(Outcome::Applied { revision, .. }) => ledger.with(|it| {
                it.least.insert(name.clone(), version);
                it.acknowledged.push(Acknowledged { revision, name, version });
            }),
            Ok(Outcome::Refused { refusal, .. }) => panic!("refused: {refusal}"),
            // Nobody leads, or the power is gone.
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}
