//! What is changed while pods run: a subnet becomes private, a rate changes under a stream, a
//! namespace gets another subnet, and a StatefulSet's pods go to another node.

use anyhow::{Result, ensure};
use atoll_tests::flow::{OPEN, is_at};
use atoll_tests::wait::wait_until;

use super::first_steps::apply;
use super::transcript::SOON;
use super::{Seen, Session};

const MALL: &str = "\
apiVersion: kubeovn.io/v1
kind: Subnet
metadata: { name: mall }
spec: { cidrBlock: '10.70.0.0/16,fd00:70::/64', natOutgoing: true }";

pub(crate) async fn all(session: &mut Session) -> Result<()> {
    private(session).await?;
    rates(session).await?;
    bound_again(session).await?;
    moved(session).await
}

fn patch(subnet: &str, spec: &str) -> String {
    format!("kubectl patch subnet {subnet} --type merge --patch '{{\"spec\":{spec}}}'")
}

async fn private(session: &Session) -> Result<()> {
    let shell = &session.shell;
    shell.chapter("A subnet becomes private: only its own pods reach its pods");
    let web = shell.pods("shop", "web", 3).await?;
    let [one, other] = &shell.pods("bank", "db", 2).await?[..] else { anyhow::bail!("not two") };
    shell.types(&patch("bank", r#"{"private":true}"#)).await?;
    shell.pings_in_vain(&web[0], one).await?;
    shell.pings(other, one).await?;
    shell.chapter("It lets another one in, by name of its range");
    shell.types(&patch("bank", r#"{"allowSubnets":["10.50.0.0/16","fd00:50::/64"]}"#)).await?;
    shell.pings(&web[0], one).await?;
    shell.types(&patch("bank", r#"{"private":false,"allowSubnets":[]}"#)).await?;
    shell.pings(&web[0], one).await
}

/// Datagrams of a kilobyte, 80 Mbit/s of them, as long as nobody limits them.
async fn rates(session: &mut Session) -> Result<()> {
    let shell = &session.shell;
    shell.chapter("A rate is set, changed and taken away while a stream runs");
    let web = shell.pods("shop", "web", 3).await?;
    let db = shell.pods("bank", "db", 2).await?;
    let (from, to) = (&web[0], &db[0]);
    let exec = format!("kubectl -n shop exec {} --", from.name);
    let stream = shell
        .background(&format!("{exec} atoll-talk flood {}:9000 10000 600 1000", to.addresses[0]))?;
    // Receives at least that.
    let mut measured = vec![("no rate", at(session, to, |kbit| kbit > OPEN).await?)];
    for (name, rate) in [("20 Mbit/s", 20), ("5 Mbit/s", 5)] {
        let annotations =
            format!("ovn.kubernetes.io/egress_rate={rate} ovn.kubernetes.io/egress_burst=1");
        let line = format!("kubectl -n shop annotate pod {} --overwrite {annotations}", from.name);
        session.shell.types(&line).await?;
        measured.push((name, at(session, to, |kbit| is_at(kbit, rate)).await?));
    }
    let line = format!(
        "kubectl -n shop annotate pod {} ovn.kubernetes.io/egress_rate- ovn.kubernetes.io/egress_burst-",
        from.name
    );
    session.shell.types(&line).await?;
    measured.push(("the rate taken away", at(session, to, |kbit| kbit > OPEN).await?));
    // Whoever hears no more of its kubectl goes on inside the pod.
    session.shell.types(&format!("{exec} killall atoll-talk")).await?;
    drop(stream);
    for (name, kbit) in measured {
        let kbit = f64::from(u32::try_from(kbit)?);
        session.report.note(&format!("received from a pod: {name}"), "kbit/s", kbit);
    }
    Ok(())
}

async fn at(session: &Session, to: &Seen, is_it: impl Fn(u64) -> bool) -> Result<u64> {
    // The first that is measured after a change may hold some of the time before it.
    let kbit = wait_until(SOON, "the rate", async || {
        let kbit = session.shell.received(to).await?;
        ensure!(is_it(kbit), "{kbit} kbit/s");
        Ok(kbit)
    })
    .await?;
    session.shell.note(&format!("{} receives {kbit} kbit/s\n", to.name));
    Ok(kbit)
}

/// Pods keep what they have until they are made anew.
async fn bound_again(session: &Session) -> Result<()> {
    let shell = &session.shell;
    shell.chapter("A namespace gets another subnet, and its pods when they start again");
    shell.types(&apply(MALL)).await?;
    shell.types(&patch("shop", r#"{"namespaces":[]}"#)).await?;
    shell.types(&patch("mall", r#"{"namespaces":["shop"]}"#)).await?;
    let before = shell.pods("shop", "web", 3).await?;
    ensure!(before.iter().all(|pod| pod.addresses[0].starts_with("10.50.")), "{before:?}");
    let db = shell.pods("bank", "db", 2).await?;
    shell.pings(&db[0], &before[0]).await?;
    shell.types("kubectl -n shop rollout restart deployment web").await?;
    shell.types("kubectl -n shop rollout status deployment web --timeout 90s").await?;
    let after = shell.pods("shop", "web", 3).await?;
    shell.types("kubectl -n shop get pods -o wide").await?;
    for pod in &after {
        let is_there =
            pod.addresses[0].starts_with("10.70.") && pod.addresses[1].starts_with("fd00:70::");
        ensure!(is_there, "{pod:?}");
    }
    shell.pings(&db[0], &after[0]).await?;
    shell.until("kubectl get ips", |said| !said.contains("10.50.")).await.map(drop)
}

/// Addresses belong to the ordinal, wherever it runs.
async fn moved(session: &Session) -> Result<()> {
    let shell = &session.shell;
    shell.chapter("A StatefulSet's pods go to the other node, and keep their addresses");
    let web = shell.pods("shop", "web", 3).await?;
    for (from, to) in [("n1", "n2"), ("n2", "n1")] {
        let before = shell.pods("bank", "db", 2).await?;
        shell.types(&format!("kubectl cordon {from}")).await?;
        shell.types("kubectl -n bank delete pod db-0 db-1").await?;
        for old in &before {
            let new = shell.pod("bank", &old.name, |new| new.uid != old.uid).await?;
            ensure!(new.node == to, "{new:?}");
            ensure!(new.addresses == old.addresses, "{old:?} {new:?}");
            shell.pings(&web[0], &new).await?;
        }
        shell.types("kubectl -n bank get pods -o wide").await?;
        shell.types(&format!("kubectl uncordon {from}")).await?;
    }
    Ok(())
}
