//! Random changes of what the store holds.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use atoll_tests::lab::Lab;
use atoll_tests::lab::store::{NodeSpec, PodSpec};
use atoll_tests::people::atollctl;

use crate::Dice;

const NAMESPACES: [&str; 4] = ["default", "blue", "red", "green"];
const NODES: usize = 5;
const PODS: usize = 60;

/// What there is.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pods: BTreeMap<(String, String), String>,
    next: usize,
    counts: BTreeMap<&'static str, usize>,
}

impl Changes {
    /// Nodes, so that pods have somewhere to be.
    pub(crate) async fn new(lab: &Lab) -> Result<Self> {
        let mut changes = Self::default();
        for namespace in NAMESPACES {
            lab.store()?.ensure_namespace(namespace).await?;
        }
        for number in 1..=NODES {
            changes.node(lab, number, 0).await?;
        }
        Ok(changes)
    }

    pub(crate) fn told(&self) -> String {
        let all = self.counts.iter().map(|(what, count)| format!("{count} {what}"));
        all.collect::<Vec<_>>().join(", ")
    }

    pub(crate) async fn one(&mut self, lab: &Lab, dice: &mut Dice) -> Result<()> {
        match dice.roll(20) {
            0..=9 if self.pods.len() < PODS => self.put_pod(lab, dice).await,
            0..=14 if !self.pods.is_empty() => self.delete_pod(lab, dice).await,
            18 => self.node(lab, 1 + dice.roll(NODES), dice.roll(4)).await,
            19 => self.delete_subnet(lab, dice).await,
            _ => self.subnet(lab, dice).await,
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    async fn put_pod(&mut self, lab: &Lab, dice: &mut Dice) -> Result<()> {
        self.count("pods made");
        self.next += 1;
        let namespace = NAMESPACES[dice.roll(NAMESPACES.len())].to_owned();
        let (name, uid) = (format!("p{}", self.next), format!("uid-{}", self.next));
        let pod = PodSpec {
            namespace: namespace.clone(),
            name: name.clone(),
            uid: uid.clone(),
            node: format!("w{}", 1 + dice.roll(NODES)),
            annotations: BTreeMap::new(),
            labels: BTreeMap::new(),
        };
        lab.store()?.put_pod(&pod).await?;
        self.pods.insert((namespace, name), uid);
        Ok(())
    }

    async fn delete_pod(&mut self, lab: &Lab, dice: &mut Dice) -> Result<()> {
        self.count("pods deleted");
        let at = dice.roll(self.pods.len());
        let Some(key) = self.pods.keys().nth(at).cloned() else { return Ok(()) };
        let uid = self.pods.remove(&key).unwrap_or_default();
        lab.store()?.delete_pod(&key.0, &key.1, &uid).await
    }

    /// Some of its addresses are of the other family, or none are there.
    async fn node(&mut self, lab: &Lab, number: usize, addresses: usize) -> Result<()> {
        self.count("nodes put");
        let all =
            [format!("172.29.0.{number}"), format!("fd29::{number}"), format!("172.29.1.{number}")];
        let internal_addresses =
            all[..addresses].iter().map(|it| it.parse()).collect::<Result<_, _>>()?;
        let name = format!("w{number}");
        let uid = format!("uid-of-{name}");
        lab.store()?.put_node(&NodeSpec { name, uid, internal_addresses }).await
    }

    async fn subnet(&mut self, lab: &Lab, dice: &mut Dice) -> Result<()> {
        self.count("subnets put");
        let number = 1 + dice.roll(3);
        let name = NAMESPACES[number];
        let mut cidrs = format!("10.{number}.0.0/16,fd00:{number}::/64");
        if number == 3 {
            cidrs = "10.3.0.0/24".to_owned();
        }
        let ranges = ["10.1.0.0/16", "10.2.0.0/16", "fd00:1::/64"];
        let ranges = ranges[..dice.roll(4)].join(", ");
        let rule = |priority: usize| {
            format!(
                "{{ direction: to-lport, priority: {priority}, match: \"tcp.dst == {priority}\", action: drop }}"
            )
        };
        let rules: Vec<String> = (0..dice.roll(3)).map(|it| rule(2_000 + it)).collect();
        let dhcp = ["", "lease_time=60,dns_server={10.0.0.1,10.0.0.2}", "router=10.9.9.9"];
        let manifest = format!(
            "apiVersion: kubeovn.io/v1\nkind: Subnet\nmetadata: {{ name: {name} }}\nspec:\n  \
             cidrBlock: {cidrs}\n  namespaces: [{name}]\n  private: {}\n  allowSubnets: [{ranges}]\n  \
             acls: [{}]\n  enableDHCP: {}\n  dhcpV4Options: \"{}\"\n",
            dice.roll(2) == 0,
            rules.join(", "),
            dice.roll(2) == 0,
            dhcp[dice.roll(dhcp.len())],
        );
        let said = atollctl(lab, &["create", "-f", "-"], &manifest).await?;
        ensure!(said.status == 0, "atollctl create: {}{}", said.err, manifest);
        Ok(())
    }

    /// One that is in use, or is not there, is refused: also a change that must leave no trace.
    async fn delete_subnet(&mut self, lab: &Lab, dice: &mut Dice) -> Result<()> {
        self.count("subnets deleted or refused");
        let name = NAMESPACES[1 + dice.roll(3)];
        let said = atollctl(lab, &["delete", "subnet", name], "").await?;
        ensure!(
            said.status == 0 || said.err.contains("refused"),
            "atollctl delete subnet {name}: {}",
            said.err
        );
        Ok(())
    }
}
