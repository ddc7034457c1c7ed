//! When everything is as it should be, and who does what then.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_ovsdb::unixctl;
use atoll_tests::lab::{CentralMode, Lab};
use atoll_tests::people::atollctl;
use atoll_tests::wait::wait_until;
use serde_json::Value;

/// Until all members are as before.
const WHOLE: Duration = Duration::from_secs(180);

/// Who does what once everything is as it should be.
pub(crate) struct Whole {
    /// The member whose loss the nodes and northd notice first. Warm: the one whose databases they use.
    /// Cluster: the one whose server leads the southbound, through which goes whatever anybody writes
    /// there; nodes are connected to any of the three.
    pub(crate) serving: String,
    /// The store's.
    pub(crate) leader: String,
}

/// Waits until nothing is missing. Warm: one member serves, the others copy it and have the rows of
/// others. Cluster: three servers of each database that are joined, one of them leads; one northd
/// works and two stand by; one member writes the northbound, and it is equal.
pub(crate) async fn whole(lab: &Lab) -> Result<Whole> {
    wait_until(WHOLE, "everything to be as it should be", || async {
        let said = atollctl(lab, &["ovn", "status", "-o", "json"], "").await?;
        let members: Value = serde_json::from_str(&said.out)?;
        let members = members.as_array().context("no list")?;
        let serving = match lab.central_mode() {
            CentralMode::Cluster => {
                let serving = leads_southbound(members)?;
                ensure!(northds_at_work(lab).await? == 1, "one northd works, the others stand by");
                serving
            }
            CentralMode::Warm | CentralMode::External => serves(members)?,
        };
        let leader = lab.store()?.status().await?.leader.context("nobody leads")?;
        Ok(Whole { serving, leader })
    })
    .await
}

fn names(members: &[Value], is: impl Fn(&Value) -> bool) -> Vec<String> {
    let those = members.iter().filter(|member| is(member));
    those.filter_map(|member| member["name"].as_str()).map(str::to_owned).collect()
}

/// The one that serves, if two others copy it.
fn serves(members: &[Value]) -> Result<String> {
    let of = |what: &str| {
        names(members, |member| {
            let central = &member["central"];
            let all = [&central[what], &central["healthy"], &central["foreign"]["equal"]];
            all.iter().all(|it| **it == Value::Bool(true))
        })
    };
    let (mut serving, copies) = (of("serving"), of("copying"));
    ensure!(serving.len() == 1 && copies.len() == 2, "{members:?}");
    serving.pop().context("none serves")
}

/// The one whose server leads the southbound, if the clusters have three servers each.
fn leads_southbound(members: &[Value]) -> Result<String> {
    let of = |is: &dyn Fn(&Value) -> bool| names(members, is);
    ensure!(of(&|it| it["central"]["healthy"] == true).len() == 3, "{members:?}");
    for server in ["nbServer", "sbServer"] {
        let is_joined = |it: &Value| {
            let server = &it["central"][server];
            server["connected"] == true && server["servers"] == 3
        };
        ensure!(of(&is_joined).len() == 3, "{members:?}");
        ensure!(of(&|it| it["central"][server]["leads"] == true).len() == 1, "{members:?}");
    }
    let stands_by = |it: &Value| it["projection"]["standsBy"] == true;
    let is_equal = |it: &Value| !stands_by(it) && it["projection"]["error"] == "";
    ensure!(of(&is_equal).len() == 1 && of(&stands_by).len() == 2, "{members:?}");
    of(&|it| it["central"]["sbServer"]["leads"] == true).pop().context("none leads")
}

async fn northds_at_work(lab: &Lab) -> Result<usize> {
    let asked = lab.members().map(async |member| {
        let said = unixctl::command(&member.northd_control(), "status", &[]).await?;
        Ok::<_, unixctl::ControlError>(said.contains("active"))
    });
    let at_work = futures::future::try_join_all(asked).await?;
    Ok(at_work.into_iter().filter(|works| *works).count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn cluster() -> Vec<Value> {
        let member = |name: &str, leads: bool| {
            let server = json!({ "connected": true, "servers": 3, "leads": leads });
            let central = json!({ "healthy": true, "nbServer": server, "sbServer": server });
            json!({
                "name": name,
                "central": central,
                "projection": { "standsBy": !leads, "error": "" },
            })
        };
        vec![member("m1", false), member("m2", true), member("m3", false)]
    }

    #[test]
    fn clusters_are_whole_with_all_servers_and_a_leader_and_a_writer_each() {
        assert_eq!(leads_southbound(&cluster()).unwrap(), "m2");
        for (path, value) in [
            ("/0/central/healthy", json!(false)),
            ("/0/central/nbServer/connected", json!(false)),
            ("/2/central/sbServer/servers", json!(2)),
            ("/1/central/sbServer/leads", json!(false)),
            ("/0/central/nbServer/leads", json!(true)),
            ("/0/projection/standsBy", json!(false)),
            ("/1/projection/error", json!("refused")),
        ] {
            let mut members = Value::from(cluster());
            *members.pointer_mut(path).unwrap() = value;
            assert!(leads_southbound(members.as_array().unwrap()).is_err(), "{path}");
        }
        assert!(leads_southbound(&cluster()[..2]).is_err());
    }
}
