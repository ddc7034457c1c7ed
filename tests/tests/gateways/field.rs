//! The subnets, who talks in them, and the host outside that they talk to.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_tests::lab::{Lab, Pod, PodOptions, Space, run};
use atoll_tests::outside::{Capture, FAR_AWAY};
use atoll_tests::people::{atollctl, get};
use atoll_tests::talk::Talker;
use atoll_tests::wait::wait_until;
use serde_json::Value;

/// A subnet of the tests: its name is its namespace's, its number that of its ranges, and its pods talk
/// to a port of their own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    number: u8,
    pub(crate) port: u16,
}

/// Its pods appear as the gateway.
pub(crate) const NATTED: Field = Field { name: "natted", number: 71, port: 7_001 };
/// Its pods appear as themselves.
pub(crate) const PLAIN: Field = Field { name: "plain", number: 72, port: 7_002 };
/// Its pods appear as themselves, and leave by all gateways.
pub(crate) const WIDE: Field = Field { name: "wide", number: 73, port: 7_003 };

pub(crate) const ALL: [Field; 3] = [NATTED, PLAIN, WIDE];

/// A node that is no gateway: by it the outside host reaches pods that appear as themselves.
const WAY_BACK: [&str; 2] = ["172.31.0.104", "fd31::104"];

/// From the command to all nodes.
const INSTALLED: &str = "20";

impl Field {
    /// Creates or changes the subnet; how its pods leave are further lines of its spec.
    pub(crate) async fn set(self, lab: &Lab, way: &str) -> Result<()> {
        let said =
            atollctl(lab, &["create", "-f", "-", "--wait", INSTALLED], &self.manifest(way)).await?;
        ensure!(said.status == 0, "{}: {way}: {}{}", self.name, said.out, said.err);
        Ok(())
    }

    fn manifest(self, way: &str) -> String {
        let Self { name, number, .. } = self;
        let lines = way.split("; ").map(|line| format!("  {line}\n")).collect::<String>();
        format!(
            "apiVersion: kubeovn.io/v1\nkind: Subnet\nmetadata: {{ name: {name} }}\nspec:\n  \
             cidrBlock: 10.{number}.0.0/16,fd00:{number}::/64\n  namespaces: [{name}]\n{lines}"
        )
    }

    /// Whether an address is one of its pods'.
    pub(crate) fn holds(self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => address.octets()[..2] == [10, self.number],
            IpAddr::V6(address) => {
                let digits = u16::from_str_radix(&self.number.to_string(), 16).unwrap();
                address.segments()[..2] == [0xfd00, digits]
            }
        }
    }

    /// A pod in it.
    pub(crate) async fn pod(self, lab: &Lab, name: &str, node: u8) -> Result<Pod> {
        lab.run_pod(PodOptions::new(format!("{}/{name}", self.name).parse()?, node)).await
    }

    /// Somebody in `pod` who talks to the outside host in a way of `atoll-talk`, by one family.
    pub(crate) fn talker(
        self,
        lab: &Lab,
        pod: &Pod,
        way: &[&str],
        family: usize,
    ) -> Result<Talker> {
        let to = socket(FAR_AWAY[family], self.port);
        Talker::start(lab, pod, &[way, &[&to]].concat())
    }
}

fn socket(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// Everybody outside: who answers, and who watches.
pub(crate) struct Outside {
    pub(crate) capture: Capture,
    _echo: Talker,
}

impl Outside {
    /// Answers all fields, and knows the way to those whose pods appear as themselves.
    pub(crate) async fn start(lab: &Lab) -> Result<Self> {
        let space = lab.outside();
        for field in ALL {
            let number = field.number;
            let ranges = [format!("10.{number}.0.0/16"), format!("fd00:{number}::/64")];
            for (range, via) in ranges.iter().zip(WAY_BACK) {
                run(space.command("ip").args(["route", "replace", range, "via", via])).await?;
            }
        }
        let all = ALL.iter().flat_map(|it| FAR_AWAY.map(|address| socket(address, it.port)));
        let words: Vec<String> = std::iter::once("echo".to_owned()).chain(all).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let _echo = Talker::start_in(&space, &words)?;
        Ok(Self { capture: Capture::start(lab).await?, _echo })
    }
}

/// Somebody's firewall outside, which admits to a field's port whom the subnet's status lists.
pub(crate) async fn admit(lab: &Lab, field: Field, chain: &str) -> Result<()> {
    let listed = status(lab, field).await?["ovn"]["seenOutside"].clone();
    let listed = listed.as_str().context("nobody is listed")?.to_owned();
    let port = field.port.to_string();
    for (program, is_v6) in [("iptables", false), ("ip6tables", true)] {
        let space = lab.outside();
        iptables(&space, program, &["-N", chain]).await?;
        for address in listed.split(',').filter(|it| it.contains(':') == is_v6) {
            iptables(&space, program, &["-A", chain, "-s", address, "-j", "ACCEPT"]).await?;
        }
        iptables(&space, program, &["-A", chain, "-j", "DROP"]).await?;
        for protocol in ["tcp", "udp"] {
            let rule = ["-A", "INPUT", "-i", "eth0", "-p", protocol, "--dport", &port, "-j", chain];
            iptables(&space, program, &rule).await?;
        }
    }
    Ok(())
}

/// How many packets that firewall has turned away.
pub(crate) async fn turned_away(lab: &Lab, chain: &str) -> Result<u64> {
    let mut dropped = 0;
    for program in ["iptables", "ip6tables"] {
        let mut list = lab.outside().command(program);
        let said = run(list.args(["-nvxL", chain])).await?;
        let line = said.lines().find(|line| line.contains(" DROP ")).context("no such rule")?;
        dropped += line.split_ascii_whitespace().next().context("no count")?.parse::<u64>()?;
    }
    Ok(dropped)
}

async fn iptables(space: &Space, program: &str, words: &[&str]) -> Result<()> {
    run(space.command(program).args(["-w", "10"]).args(words)).await.map(drop)
}

/// The status of a field's subnet, as `atollctl get` shows it.
pub(crate) async fn status(lab: &Lab, field: Field) -> Result<Value> {
    let subnets = get(lab, "subnets").await?;
    let found = subnets.into_iter().find(|it| it["metadata"]["name"] == field.name);
    Ok(found.context("there is no such subnet")?["status"].take())
}

/// By which nodes a field leaves.
pub(crate) async fn active(lab: &Lab, field: Field) -> Result<Vec<u8>> {
    let status = status(lab, field).await?;
    let names = status["activateGateway"].as_str().context("no activateGateway")?;
    let named = names.split(',').filter(|name| !name.is_empty());
    named.map(|name| Ok(name.trim_start_matches('n').parse()?)).collect()
}

/// Waits until so many words were heard by each.
pub(crate) async fn all_heard(talkers: &[(String, Talker)], least: usize) -> Result<()> {
    wait_until(Duration::from_secs(30), "everybody to be answered", || async {
        for (who, talker) in talkers {
            let heard = talker.heard()?.len();
            ensure!(heard >= least, "{who}: {heard} answers");
        }
        Ok(())
    })
    .await
}
