//! What two lists do not hold is asked for by its name before it goes.
//!
//! A list may lack what is there, and so may the next one: a cache or a proxy that is broken says
//! nothing of it. Of a pod its node has to speak too; for nodes, namespaces and workloads nobody
//! else does, and with a node its pods would go.

use std::time::Duration;

use atoll_model::{Object, ObjectKey, Uid};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;
use kube::{Api, Client};

use super::{Intake, deleted};
use crate::objects::{self, Node, StatefulSet};
use crate::store::Store;
use crate::translate::{self, Wanted};

/// Who does not answer by then is asked again after the next list.
const DEADLINE: Duration = Duration::from_secs(10);

/// What the apiserver says of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// There is none of that name.
    Gone,
    /// One of that name is there, with this uid.
    There(String),
    /// It does not say.
    Unknown(String),
}

impl<S: Store> Intake<S> {
    /// What is to be asked for by its name since this was last called.
    pub(crate) fn take_unconfirmed(&mut self) -> Vec<ObjectKey> {
        std::mem::take(&mut self.unconfirmed)
    }

    /// The apiserver has answered.
    pub(crate) fn confirmed(&mut self, key: ObjectKey, answer: &Answer) {
        // Seen meanwhile, or lists are not believed any more.
        if !self.absences.has(&key) || !self.lists_count() {
            return;
        }
        let workload = match self.store.get(&key) {
            Some(Object::Workload(it)) => Some(it.spec.uid.clone()),
            _ => None,
        };
        let is_gone = match answer {
            Answer::Gone => true,
            // Another one under its name: a workload is known by its uid.
            Answer::There(uid) => {
                workload.as_ref().is_some_and(|known: &Uid| known.as_str() != uid)
            }
            Answer::Unknown(why) => {
                tracing::warn!(%key, why, "nobody says whether what lists do not hold is gone");
                return;
            }
        };
        if !is_gone {
            tracing::error!(%key, "two lists do not hold what is there: this apiserver's lists lie");
            self.absences.seen(&key);
            return;
        }
        tracing::info!(%key, "two complete lists do not hold it, and it is not there: it is gone");
        let operations = match workload {
            Some(uid) => deleted(&key, &uid),
            None => translate::gone(&key),
        };
        self.want(Wanted { key, operations });
    }
}

/// Asks for one object.
pub(crate) async fn ask(client: Client, key: ObjectKey) -> (ObjectKey, Answer) {
    let answer = match tokio::time::timeout(DEADLINE, get(client, &key)).await {
        Err(_) => Answer::Unknown(format!("no answer within {DEADLINE:?}")),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Answer::Gone,
        Ok(Err(error)) => Answer::Unknown(error.to_string()),
        Ok(Ok(metadata)) => Answer::There(objects::uid(&metadata).to_owned()),
    };
    (key, answer)
}

async fn get(client: Client, key: &ObjectKey) -> Result<ObjectMeta, kube::Error> {
    match key {
        ObjectKey::Node(name) => {
            Api::<Node>::all(client).get(name.as_str()).await.map(|it| it.metadata)
        }
        ObjectKey::Workload(key) => {
            let sets: Api<StatefulSet> = Api::namespaced(client, key.namespace.as_str());
            sets.get(&key.name).await.map(|it| it.metadata)
        }
        ObjectKey::Namespace(name) => {
            let all: Api<PartialObjectMeta<Namespace>> = Api::all(client);
            all.get(name.as_str()).await.map(|it| it.metadata)
        }
        other => unreachable!("{other} does not end by absence from lists"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fake::apiserver;

    #[tokio::test]
    async fn only_a_404_says_that_something_is_gone() {
        let node = ObjectKey::Node("n1".parse().unwrap());
        let no = |code: u16| {
            json!({ "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
                    "message": "no", "reason": "No", "code": code })
        };
        let there = json!({ "metadata": { "name": "n1", "uid": "u" } });
        let answers = vec![(404, vec![no(404)]), (200, vec![there]), (503, vec![no(503)])];
        let (client, asked) = apiserver(answers);
        assert_eq!(ask(client.clone(), node.clone()).await.1, Answer::Gone);
        assert_eq!(ask(client.clone(), node.clone()).await.1, Answer::There("u".to_owned()));
        assert!(matches!(ask(client, node).await.1, Answer::Unknown(_)));
        assert!(asked.all()[0].ends_with("/api/v1/nodes/n1"), "{:?}", asked.all());
    }
}
