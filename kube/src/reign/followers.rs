//! Which kinds are followed, and who is told of what is seen of them.

use futures::future::{FutureExt as _, LocalBoxFuture};
use k8s_openapi::api::core::v1::Namespace;
use kube::core::{DynamicObject, PartialObjectMeta};
use kube::{Api, Client};
use tokio::sync::mpsc;

use crate::crd;
use crate::follow::{Follower, Guard, Seen};
use crate::intake::Intake;
use crate::objects::{Node, Pod, StatefulSet};
use crate::publish::Publisher;
use crate::store::Store;

/// Something that was seen, by its kind.
pub(super) enum Event {
    Namespaces(Seen<PartialObjectMeta<Namespace>>),
    Nodes(Seen<Node>),
    Sets(Seen<StatefulSet>),
    Pods(Seen<Pod>),
    Manifests(Seen<DynamicObject>),
    Ips(Seen<DynamicObject>),
}

pub(super) fn take_in<S: Store>(
    event: Event,
    intake: &mut Intake<S>,
    publisher: &mut Publisher<S>,
) {
    match event {
        Event::Namespaces(seen) => intake.namespaces(seen),
        Event::Nodes(seen) => {
            publisher.saw_nodes(&seen);
            intake.nodes(seen);
        }
        Event::Sets(seen) => intake.sets(seen),
        Event::Pods(seen) => {
            publisher.saw_pods(&seen);
            intake.pods(seen);
        }
        Event::Manifests(seen) => {
            publisher.saw_manifests(&seen);
            intake.manifests(seen);
        }
        Event::Ips(seen) => {
            publisher.saw_ips(&seen);
            intake.ips(&seen);
        }
    }
}

/// One for each kind.
pub(super) fn followers<S: Store>(
    store: &S,
    client: &Client,
    guard: &Guard,
    intake: &Intake<S>,
    out: &mpsc::Sender<Event>,
) -> Vec<LocalBoxFuture<'static, ()>> {
    let never = std::sync::Arc::default;
    let relists = &intake.relists;
    macro_rules! follow {
        ($api:expr, $relist:expr, $wrap:expr) => {
            Follower {
                api: $api,
                store: store.clone(),
                guard: Some(guard.clone()),
                relist: $relist,
                out: out.clone(),
                wrap: $wrap,
            }
            .run()
            .boxed_local()
        };
    }
    let all = |resource| Api::<DynamicObject>::all_with(client.clone(), &resource);
    vec![
        follow!(Api::all(client.clone()), relists.namespaces.clone(), Event::Namespaces),
        follow!(Api::all(client.clone()), relists.nodes.clone(), Event::Nodes),
        follow!(Api::all(client.clone()), relists.sets.clone(), Event::Sets),
        follow!(Api::all(client.clone()), relists.pods.clone(), Event::Pods),
        follow!(all(crd::subnets()), never(), Event::Manifests),
        follow!(all(crd::qos_specs()), never(), Event::Manifests),
        follow!(all(crd::ips()), never(), Event::Ips),
    ]
}
