//! Whether the apiserver is still the one that a reign began with, and has not gone back in time.
//!
//! An address may lead to another cluster from one moment to the next, and an etcd may be restored
//! under an apiserver; neither says so. A watch from a place in the future is answered with silence
//! until the future has come, and a foreign list looks like any other. So each list and each watch is
//! believed only after the apiserver has said who it is and how new what it has is: one small
//! question, every two minutes for each kind as a rule.

use std::sync::Arc;
use std::time::Duration;

use atoll_model::Uid;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::{Api, Client};
use tokio::sync::Notify;

use crate::objects;

const DEADLINE: Duration = Duration::from_secs(10);

/// Asks who the apiserver is.
#[derive(Clone)]
pub(crate) struct Guard {
    namespaces: Api<PartialObjectMeta<Namespace>>,
    apiserver: Uid,
    /// Is told when it is another one.
    foreign: Arc<Notify>,
}

impl Guard {
    pub(crate) fn new(client: Client, apiserver: Uid) -> Self {
        Self { namespaces: Api::all(client), apiserver, foreign: Arc::default() }
    }

    /// Returns when some question was answered by another apiserver.
    pub(crate) async fn foreign(&self) {
        self.foreign.notified().await;
    }

    /// The newest resource version of the apiserver, if it is the right one.
    ///
    /// # Errors
    ///
    /// It is another one, or does not say.
    pub(crate) async fn newest(&self) -> Result<u64, String> {
        let only = ListParams::default().fields("metadata.name=kube-system");
        let list = tokio::time::timeout(DEADLINE, self.namespaces.list(&only));
        let list = list.await.map_err(|_| "it does not say who it is in time".to_owned())?;
        let list = list.map_err(|error| error.to_string())?;
        let uid = list.items.first().map(|it| objects::uid(&it.metadata)).unwrap_or_default();
        if uid.is_empty() {
            return Err("it does not say who it is".to_owned());
        }
        if uid != self.apiserver.as_str() {
            self.foreign.notify_one();
            return Err(format!("this is apiserver {uid}, and not {}", self.apiserver));
        }
        let version = list.metadata.resource_version.unwrap_or_default();
        version.parse().map_err(|_| format!("no usable resource version: {version:?}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::time::timeout;

    use super::*;
    use crate::fake::apiserver;

    fn says(uid: &str, version: &str) -> (u16, Vec<Value>) {
        let item = json!({ "metadata": { "name": "kube-system", "uid": uid } });
        let metadata = json!({ "resourceVersion": version });
        let list = json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
                           "metadata": metadata, "items": [item] });
        (200, vec![list])
    }

    #[tokio::test(start_paused = true)]
    async fn another_apiserver_is_told_of_and_a_silent_one_is_not() {
        let nobody = json!({ "metadata": { "resourceVersion": "9" }, "items": [] });
        let (client, asked) =
            apiserver(vec![says("own", "7"), (200, vec![nobody]), says("other", "9")]);
        let guard = Guard::new(client, "own".parse().unwrap());
        assert_eq!(guard.newest().await, Ok(7));
        guard.newest().await.unwrap_err();
        timeout(DEADLINE, guard.foreign()).await.unwrap_err();
        assert!(guard.newest().await.unwrap_err().contains("apiserver other"));
        timeout(DEADLINE, guard.foreign()).await.unwrap();
        guard.newest().await.unwrap_err();
        assert!(asked.all()[0].contains("fieldSelector=metadata.name%3Dkube-system"));
    }
}
