//! What a hand does to a northbound database that is not its own.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use atoll_tests::lab::{Lab, Member};
use tokio::process::Command;

use crate::Dice;

const OURS: [&str; 10] = [
    "Logical_Router",
    "Logical_Router_Port",
    "Logical_Router_Policy",
    "Logical_Router_Static_Route",
    "Logical_Switch",
    "DHCP_Options",
    "Logical_Switch_Port",
    "Port_Group",
    "ACL",
    "Address_Set",
];

/// What was done, and what others own since.
#[derive(Debug, Default)]
pub(crate) struct Damages {
    /// `TABLE NAME`, in the serving database and so in each.
    foreign: BTreeSet<String>,
    counts: BTreeMap<&'static str, usize>,
    next: usize,
}

async fn nbctl(database: &str, words: &[&str]) -> Result<String> {
    let mut command = Command::new("ovn-nbctl");
    command.args(["--db", database, "--no-leader-only", "-t", "10"]).args(words);
    let output = command.output().await.context("ovn-nbctl cannot be started")?;
    let why = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ovn-nbctl {}: {why}", words.join(" "));
    Ok(String::from_utf8(output.stdout)?)
}

impl Damages {
    pub(crate) fn foreign(&self) -> &BTreeSet<String> {
        &self.foreign
    }

    pub(crate) fn told(&self) -> String {
        let all = self.counts.iter().map(|(what, count)| format!("{count} {what}"));
        all.collect::<Vec<_>>().join(", ")
    }

    /// An ACL of an operator, in the serving database: it must be in each in the end.
    pub(crate) async fn operators_rule(&mut self, lab: &Lab) -> Result<()> {
        let (nb, condition) = (serving(lab).await?.databases().0, "udp.dst == 5353");
        nbctl(&nb, &["acl-add", "ovn-default", "to-lport", "500", condition, "drop"]).await?;
        self.foreign.insert(format!("ACL 500 {condition}"));
        Ok(())
    }

    /// Does one to one member's database.
    pub(crate) async fn one(&mut self, lab: &Lab, dice: &mut Dice) -> Result<()> {
        let members: Vec<_> = lab.members().collect();
        let member = &members[dice.roll(members.len())];
        let nb = member.databases().0;
        let table = OURS[dice.roll(OURS.len())];
        let find = ["--bare", "--columns=_uuid", "find", table, "external_ids:vendor=atoll"];
        let found = nbctl(&nb, &find).await?;
        let rows: Vec<&str> = found.split_whitespace().collect();
        let Some(uuid) = rows.get(dice.roll(rows.len())) else { return Ok(()) };
        self.next += 1;
        let done = match dice.roll(6) {
            0 => delete(&nb, table, uuid).await,
            1 => edit(&nb, table, uuid).await,
            2 => rename(&nb, table, uuid).await,
            3 => duplicate(&nb, self.next).await,
            4 => unmark(&nb, table, uuid).await,
            // What others have is what the serving database has; the rest follows it.
            _ => {
                let serves = serving(lab).await?.name() == member.name();
                let done = lookalike(&nb, self.next, dice).await;
                done.map(|row| match serves {
                    true => {
                        self.foreign.insert(row);
                        "foreign lookalikes"
                    }
                    false => "lookalikes in a copy",
                })
            }
        };
        let what = match done {
            // Its row was healed away, or had not come back from the damage before.
            Err(error) if too_late(&error) => "came too late",
            done => done?,
        };
        *self.counts.entry(what).or_default() += 1;
        Ok(())
    }
}

async fn serving(lab: &Lab) -> Result<Member> {
    let central = lab.store()?.status().await?.central.context("nobody serves")?;
    let mut members = lab.members();
    members.find(|member| member.name() == central.member).context("a stranger serves")
}

fn too_late(error: &anyhow::Error) -> bool {
    let text = error.to_string();
    text.contains("no row") || text.contains("not found")
}

/// Rows of other tables go with the last reference to them.
async fn delete(nb: &str, table: &str, uuid: &str) -> Result<&'static str> {
    let holder = match table {
        "Logical_Router_Port" => ("Logical_Router", "ports"),
        "Logical_Router_Policy" => ("Logical_Router", "policies"),
        "Logical_Router_Static_Route" => ("Logical_Router", "static_routes"),
        "Logical_Switch_Port" => ("Logical_Switch", "ports"),
        "ACL" => ("Port_Group", "acls"),
        // What others have in a switch would go with it.
        "Logical_Switch" => {
            let ports = nbctl(nb, &["--bare", "--columns=ports", "list", table, uuid]).await?;
            let find = [
                "--bare",
                "--columns=_uuid",
                "find",
                "Logical_Switch_Port",
                "external_ids:vendor=atoll",
            ];
            let ours = nbctl(nb, &find).await?;
            for port in ports.split_whitespace().filter(|port| ours.contains(*port)) {
                nbctl(nb, &["remove", table, uuid, "ports", port]).await?;
            }
            return Ok("deletions");
        }
        _ => {
            nbctl(nb, &["destroy", table, uuid]).await?;
            return Ok("deletions");
        }
    };
    let holds = format!("{}{{>=}}{uuid}", holder.1);
    let found = nbctl(nb, &["--bare", "--columns=_uuid", "find", holder.0, &holds]).await?;
    for row in found.split_whitespace() {
        nbctl(nb, &["remove", holder.0, row, holder.1, uuid]).await?;
    }
    Ok("deletions")
}

async fn edit(nb: &str, table: &str, uuid: &str) -> Result<&'static str> {
    let change: &[&str] = match table {
        "Logical_Router" => &["enabled=false"],
        "Logical_Router_Port" => &["mac=\"02:00:00:00:00:01\""],
        "Logical_Router_Policy" => &["action=drop", "nexthops=[]"],
        "Logical_Router_Static_Route" => &["nexthop=\"192.0.2.1\""],
        "Logical_Switch" => &["other_config:requested-tnl-key=77"],
        "DHCP_Options" => &["options:router=192.0.2.1"],
        "Logical_Switch_Port" => &["addresses=unknown", "port_security=[]", "dhcpv4_options=[]"],
        "Port_Group" => &["ports=[]"],
        "ACL" => &["action=allow", "priority=7"],
        _ => &["addresses=192.0.2.0/24"],
    };
    nbctl(nb, &[&["set", table, uuid], change].concat()).await?;
    Ok("edits")
}

/// Tables without names: their rows change place.
async fn rename(nb: &str, table: &str, uuid: &str) -> Result<&'static str> {
    let name = format!("name=lost{}", &uuid[..8]);
    let change = match table {
        "Logical_Router_Policy" | "ACL" => "priority=77",
        "DHCP_Options" => "cidr=\"192.0.2.0/24\"",
        "Logical_Router_Static_Route" => "ip_prefix=\"192.0.2.0/24\"",
        _ => name.as_str(),
    };
    nbctl(nb, &["set", table, uuid, change]).await?;
    Ok("renames")
}

/// A policy with our mark that we did not make: it would send a subnet's traffic nowhere.
async fn duplicate(nb: &str, number: usize) -> Result<&'static str> {
    let condition = format!("match=\"ip4.src == 10.16.0.0/16 && tcp.dst == {number}\"");
    let get = ["get", "Logical_Router", "ovn-cluster", "external_ids:\"atoll/cluster\""];
    let cluster = nbctl(nb, &get).await?;
    let mark = format!("external_ids:\"atoll/cluster\"={}", cluster.trim());
    let create =
        ["--", "--id=@it", "create", "Logical_Router_Policy", "priority=31500", &condition];
    let rest = ["action=drop", "external_ids:vendor=atoll", &mark];
    let add = ["--", "add", "Logical_Router", "ovn-cluster", "policies", "@it"];
    nbctl(nb, &[&create[..], &rest, &add].concat()).await?;
    Ok("duplicates")
}

async fn unmark(nb: &str, table: &str, uuid: &str) -> Result<&'static str> {
    nbctl(nb, &["remove", table, uuid, "external_ids", "vendor"]).await?;
    Ok("marks taken off")
}

/// A row of somebody else's that looks like ours, or is in a set of ours.
async fn lookalike(nb: &str, number: usize, dice: &mut Dice) -> Result<String> {
    let name = format!("theirs{number}");
    match dice.roll(3) {
        0 => {
            nbctl(nb, &["--may-exist", "ls-add", &name]).await?;
            Ok(format!("Logical_Switch {name}"))
        }
        1 => {
            nbctl(nb, &["lsp-add", "ovn-default", &name]).await?;
            Ok(format!("Logical_Switch_Port {name}"))
        }
        _ => {
            nbctl(nb, &["pg-add", &name]).await?;
            Ok(format!("Port_Group {name}"))
        }
    }
}
