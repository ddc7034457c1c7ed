//! The subnets and pods of the matrix, who answers in them, and Services before each pod.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_tests::kubectl::{bare, namespace, plugged_in};
use atoll_tests::lab::{Kubernetes, Lab, Node, Place, Pod, Space, run};
use atoll_tests::outside::{DESIGNATED, FAR_AWAY, designate};
use atoll_tests::people::atollctl;
use atoll_tests::talk::Talker;
use atoll_tests::wait::wait_until;
use futures::future::try_join_all;

use crate::expected::{Appears, End, GATEWAY, SUBNETS, Seen, Subnet};
use crate::services::{self, Service};

/// Where everybody answers.
pub(crate) const PORT: u16 = 8_080;

/// The pods of each subnet and their nodes: who asks, and who is asked beside him and elsewhere.
const PODS: [(&str, u8); 3] = [("a", 1), ("b", 1), ("c", 2)];

/// From the command to all nodes.
const INSTALLED: &str = "30";

/// From the last object of the apiserver to the last rule on a node.
const SERVED: Duration = Duration::from_secs(60);

/// A pod, and its place in the matrix.
#[derive(Debug)]
pub(crate) struct Resident {
    pub(crate) subnet: Subnet,
    pub(crate) pod: Pod,
    pub(crate) service: Service,
}

impl Resident {
    pub(crate) fn end(&self) -> End {
        End::Pod { subnet: self.subnet, node: self.pod.node }
    }

    /// One of each family.
    pub(crate) fn addresses(&self) -> [&str; 2] {
        let all = bare(&self.pod);
        [all[0], all[1]]
    }

    /// It is the one that asks.
    pub(crate) fn asks(&self) -> bool {
        self.pod.name.name == PODS[0].0
    }
}

/// Everything, ready to be asked.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) residents: Vec<Resident>,
    /// The nodes' addresses in the pod network, from the first node on.
    legs: Vec<[String; 2]>,
    /// The outside host's own addresses.
    pub(crate) outside: [String; 2],
    answering: Vec<Talker>,
}

impl Field {
    pub(crate) async fn set_up(lab: &Lab, kubernetes: &Kubernetes) -> Result<Self> {
        designate(&lab.node(GATEWAY)?.space()?).await?;
        try_join_all(SUBNETS.map(|it| namespace(kubernetes, it.name))).await?;
        let manifests = SUBNETS.map(manifest).join("---\n");
        let said = atollctl(lab, &["create", "-f", "-", "--wait", INSTALLED], &manifests).await?;
        ensure!(said.status == 0, "{}{}", said.out, said.err);

        let mut pods = Vec::new();
        for (name, node) in PODS {
            let plug = SUBNETS.map(|it| plugged_in(lab, kubernetes, it.name, name, node));
            pods.extend(SUBNETS.into_iter().zip(try_join_all(plug).await?));
        }
        let mut services = services::before(kubernetes, pods.iter().map(|(_, pod)| pod)).await?;
        let answering = everybody_answers(lab, pods.iter().map(|(_, pod)| pod))?;
        ways_back(lab, pods.iter().map(|(_, pod)| pod)).await?;
        let reside = |(subnet, pod): (Subnet, Pod)| {
            let service = services.remove(&pod.name).context("a pod without a Service")?;
            anyhow::Ok(Resident { subnet, pod, service })
        };
        let residents = pods.into_iter().map(reside).collect::<Result<_>>()?;
        let status = lab.status().await?;
        let legs = status.nodes.iter().map(|node| both(&node.join)).collect::<Result<_>>()?;
        let outside = both(&status.outside.addresses)?;
        let field = Self { residents, legs, outside, answering };
        for node in lab.nodes() {
            field.until_served(&node).await?;
        }
        Ok(field)
    }

    /// The address that is seen of somebody whose own ones are `own`.
    pub(crate) fn address(&self, seen: Seen, own: [&str; 2], family: usize) -> String {
        match seen {
            Seen::Itself => own[family].to_owned(),
            Seen::Node(node) => node_addresses(node)[family].clone(),
            Seen::Leg(node) => self.legs[usize::from(node) - 1][family].clone(),
            Seen::Designated => DESIGNATED[family].to_owned(),
        }
    }

    /// What datagrams have said, wherever they came.
    pub(crate) fn heard(&self) -> Result<BTreeSet<String>> {
        let mut heard = BTreeSet::new();
        for talker in &self.answering {
            heard.extend(talker.said()?.lines().map(str::to_owned));
        }
        Ok(heard)
    }

    /// Waits until a node knows the open subnets' Services. The last of all is one of them.
    async fn until_served(&self, node: &Node) -> Result<()> {
        let open = self.residents.iter().filter(|it| !it.subnet.private);
        let targets: Vec<String> = open
            .flat_map(|it| &it.service.addresses)
            .map(|it| socket(it, services::PORT))
            .flat_map(|it| ["tcp", "udp"].map(|protocol| format!("{protocol}/{it}")))
            .collect();
        let space = node.space()?;
        wait_until(SERVED, &format!("the Services on {}", node.name()), async || {
            let answers = ask(&space, "early", &targets).await?;
            let silent: Vec<_> = answers.iter().filter(|(_, answer)| answer.is_none()).collect();
            ensure!(silent.is_empty(), "no answer of {silent:?}");
            Ok(())
        })
        .await
    }
}

/// The first address of each family.
fn both(addresses: &[IpAddr]) -> Result<[String; 2]> {
    let first = |is_v4: bool| addresses.iter().find(|it| it.is_ipv4() == is_v4);
    let [v4, v6] = [first(true), first(false)];
    let (v4, v6) = (v4.context("no IPv4 address")?, v6.context("no IPv6 address")?);
    Ok([v4.to_string(), v6.to_string()])
}

fn ranges(number: u8) -> [String; 2] {
    [format!("10.{number}.0.0/16"), format!("fd00:{number}::/64")]
}

fn manifest(subnet: Subnet) -> String {
    let Subnet { name, number, private, allowed, appears } = subnet;
    let way = match appears {
        Appears::AsItsNode => "natOutgoing: true".to_owned(),
        Appears::Itself => "natOutgoing: false".to_owned(),
        Appears::AsGateway => {
            format!("natOutgoing: true\n  gatewayType: centralized\n  gatewayNode: n{GATEWAY}")
        }
        Appears::Designated => format!(
            "natOutgoing: true\n  gatewayType: centralized\n  gatewayNode: \"n{GATEWAY}:{}\"",
            DESIGNATED.join(",")
        ),
    };
    let friends = SUBNETS.iter().filter(|it| allowed.contains(&it.name));
    let friends: Vec<String> =
        friends.flat_map(|it| ranges(it.number)).map(|it| format!("{it:?}")).collect();
    let [v4, v6] = ranges(number);
    format!(
        "apiVersion: kubeovn.io/v1\nkind: Subnet\nmetadata: {{ name: {name} }}\nspec:\n  \
         cidrBlock: {v4},{v6}\n  namespaces: [{name}]\n  private: {private}\n  \
         allowSubnets: [{}]\n  {way}\n",
        friends.join(", ")
    )
}

/// Of a node, one of each family.
pub(crate) fn node_addresses(node: u8) -> [String; 2] {
    let number = 100 + u32::from(node);
    [format!("172.31.0.{number}"), format!("fd31::{number}")]
}

pub(crate) fn socket(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// In each pod, on each node and outside.
fn everybody_answers<'a>(lab: &Lab, pods: impl Iterator<Item = &'a Pod>) -> Result<Vec<Talker>> {
    let mut all = vec![answers(&lab.outside(), &FAR_AWAY)?];
    for pod in pods {
        all.push(answers(&lab.space(&Place::Pod(pod.name.clone()))?, &bare(pod))?);
    }
    for node in lab.nodes() {
        let addresses = node_addresses(node.index());
        all.push(answers(&node.space()?, &addresses.each_ref().map(String::as_str))?);
    }
    Ok(all)
}

fn answers(space: &Space, addresses: &[&str]) -> Result<Talker> {
    let sockets: Vec<String> = addresses.iter().map(|it| socket(it, PORT)).collect();
    let words: Vec<&str> = ["seen"].into_iter().chain(sockets.iter().map(String::as_str)).collect();
    Talker::start_in(space, &words)
}

/// The outside host knows the way to each pod: by the pod's own node.
async fn ways_back<'a>(lab: &Lab, pods: impl Iterator<Item = &'a Pod>) -> Result<()> {
    for pod in pods {
        for (address, via) in bare(pod).into_iter().zip(node_addresses(pod.node)) {
            let mut route = lab.outside().command("ip");
            run(route.args(["route", "replace", address, "via", &via])).await?;
        }
    }
    Ok(())
}

/// Asks all of these at once; what each answered.
pub(crate) async fn ask(
    space: &Space,
    who: &str,
    targets: &[String],
) -> Result<BTreeMap<String, Option<String>>> {
    const PATIENCE: &str = "3";
    let words = ["ask", who, PATIENCE].into_iter().chain(targets.iter().map(String::as_str));
    let said = Talker::start_in(space, &words.collect::<Vec<_>>())?.end().await?;
    let answers: BTreeMap<_, _> = said
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(target, answer)| (target.to_owned(), (answer != "-").then(|| answer.to_owned())))
        .collect();
    ensure!(answers.len() == targets.len(), "{} of {} answers", answers.len(), targets.len());
    Ok(answers)
}
