//! What is meant to be different.

use anyhow::Result;
use serde_json::json;

use super::super::Transcript;
use super::super::first_steps::apply;
use super::{Case, Outcome, asking, pod, removed, subnet, told};

/// What is not implemented is refused by its name, and never half obeyed.
pub(crate) async fn all(shell: &Transcript) -> Vec<Case> {
    let mut cases = Vec::new();
    let asked = [
        (
            "ipam",
            "should allocate the requested family only",
            "ip_family",
            "ipv4",
            "ip_family is not implemented: a pod has what its subnet has",
        ),
        (
            "ipam",
            "should support IPPool feature",
            "ip_pool",
            "pool-e2e",
            "there are no IPPool objects; a list of addresses is taken",
        ),
        (
            "qos",
            "should support netem QoS",
            "latency",
            "600",
            "latency, jitter, limit and loss are not implemented",
        ),
        (
            "pod",
            "should support north gateway and routes",
            "north_gateway",
            "10.80.0.200",
            "north_gateway and routes are not implemented",
        ),
        (
            "vip",
            "should support vip and allowed address pairs",
            "vip",
            "10.80.0.200",
            "Vip objects are not implemented",
        ),
        (
            "security",
            "should support security groups",
            "security_groups",
            "sg-e2e",
            "SecurityGroup objects are not implemented",
        ),
    ];
    for (suite, words, key, value, why) in asked {
        let name = format!("pod-{}", key.replace('_', "-"));
        let outcome = refused(shell, &name, key, value).await;
        cases.push(Case { suite, words, outcome: outcome.map(|()| Outcome::Differs(why)) });
    }
    cases.extend(fields(shell).await);
    cases
}

/// As what is not implemented is refused when it is applied.
async fn fields(shell: &Transcript) -> Vec<Case> {
    let mut cases = Vec::new();
    let fields = [
        (
            "subnet",
            "should support multicast",
            json!({ "enableMulticastSnoop": true }),
            "spec.enableMulticastSnoop",
        ),
        ("underlay", "vlan subnets", json!({ "vlan": "vlan-e2e" }), "spec.vlan"),
        ("vpc", "should support custom vpc", json!({ "vpc": "vpc-e2e" }), "spec.vpc"),
        (
            "subnet",
            "should support external egress gateway",
            json!({ "externalEgressGateway": "10.83.0.9" }),
            "spec.externalEgressGateway",
        ),
    ];
    for (suite, words, mut spec, field) in fields {
        spec["cidrBlock"] = json!("10.83.0.0/24");
        let line = apply(&subnet("subnet-refused", spec));
        let outcome = shell.until_it_fails(&line, &format!("{field} is not implemented")).await;
        let outcome = outcome.map(|()| Outcome::Differs("refused by the field's name"));
        cases.push(Case { suite, words, outcome });
    }
    cases
}

async fn refused(shell: &Transcript, name: &str, key: &str, value: &str) -> Result<()> {
    shell.types(&apply(&pod(name, &asking(&[(key, value)])))).await?;
    told(shell, name, "is not implemented").await?;
    removed(shell, &format!("pod {name}")).await
}
