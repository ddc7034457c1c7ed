//! What happens to pods that nobody asked for: containers and sandboxes die, kubelets start anew,
//! pods are deleted by force, and nodes stand still.

use anyhow::{Context as _, Result, ensure};
use atoll_tests::lab::{FaultTarget, FaultVerb, Node, Place, run};
use atoll_tests::probe::Flow;
use atoll_tests::report::Target;
use atoll_tests::wait::wait_until;

use super::transcript::SOON;
use super::{Seen, Session};

pub(crate) async fn all(session: &mut Session) -> Result<()> {
    container(session).await?;
    kubelet(session).await?;
    sandbox(session).await?;
    by_force(session).await?;
    frozen(session).await
}

fn node(session: &Session, pod: &Seen) -> Result<Node> {
    session.lab.node(index(pod)?)
}

fn index(pod: &Seen) -> Result<u8> {
    pod.node.trim_start_matches('n').parse().context("no node of the lab")
}

/// The container of a pod on its node: what runs in it, or what keeps its namespaces.
async fn container_id(session: &Session, pod: &Seen, kind: &str) -> Result<String> {
    let filter = format!(
        "labels.\"io.cri-containerd.kind\"=={kind},labels.\"io.kubernetes.pod.uid\"=={}",
        pod.uid
    );
    let mut list = node(session, pod)?.ctr()?;
    let said = run(list.args(["containers", "list", "--quiet", &filter])).await?;
    let ids: Vec<&str> = said.split_whitespace().collect();
    // Those that have ended are listed too, until kubelet removes them.
    let mut tasks = node(session, pod)?.ctr()?;
    let tasks = run(tasks.args(["tasks", "list"])).await?;
    let runs = |id: &&&str| tasks.lines().any(|it| it.starts_with(**id) && it.contains("RUNNING"));
    let id = ids.iter().find(runs).with_context(|| format!("no {kind} of {pod:?} runs"))?;
    Ok((*id).to_owned())
}

async fn kill(session: &Session, pod: &Seen, kind: &str) -> Result<()> {
    let id = container_id(session, pod, kind).await?;
    let mut kill = node(session, pod)?.ctr()?;
    run(kill.args(["tasks", "kill", "--signal", "SIGKILL", &id])).await?;
    session.shell.note(&format!("the {kind} of {} is killed on {}\n", pod.name, pod.node));
    Ok(())
}

/// Probes from the outside of all that happens here: a pod from its node.
fn probe(session: &Session, pod: &Seen) -> Result<Vec<Flow>> {
    let space = session.lab.space(&Place::Node(index(pod)?))?;
    pod.addresses.iter().map(|address| Flow::start(&space, address)).collect()
}

async fn container(session: &mut Session) -> Result<()> {
    session.shell.chapter("A container is killed: another one in the same sandbox");
    let pods = session.shell.pods("bank", "db", 2).await?;
    let [one, other] = &pods[..] else { anyhow::bail!("not two") };
    let sandbox = container_id(session, one, "sandbox").await?;
    let flows = probe(session, one)?;
    kill(session, one, "container").await?;
    let again = session.shell.pod("bank", &one.name, |it| it.restarts > one.restarts).await?;
    ensure!(again.addresses == one.addresses && again.uid == one.uid, "{again:?}");
    ensure!(container_id(session, &again, "sandbox").await? == sandbox, "another sandbox");
    session.shell.pings(other, &again).await?;
    session.shell.types("kubectl -n bank get pods").await?;
    lost(session, "a container killed and started again", flows).await
}

/// No more than these are lost: none.
async fn lost(session: &mut Session, what: &str, flows: Vec<Flow>) -> Result<()> {
    let seen = Flow::stop_all(flows).await?;
    ensure!(seen.sent > 0, "nothing was probed");
    let lost = f64::from(u32::try_from(seen.lost)?);
    let case = format!("{what}: probes lost of {}", seen.sent);
    session.report.claim(&case, "probes", lost, Target::Exactly(0.0));
    session.report.details(seen.missing);
    Ok(())
}

async fn kubelet(session: &mut Session) -> Result<()> {
    session.shell.chapter("A kubelet is killed, and another one started");
    let pods = session.shell.pods("bank", "db", 2).await?;
    let [one, other] = &pods[..] else { anyhow::bail!("not two") };
    let flows = probe(session, one)?;
    session.lab.fault(FaultVerb::Kill, FaultTarget::Kubelet(index(one)?)).await?;
    session.shell.note(&format!("the kubelet of {} is killed", one.node));
    session.lab.fault(FaultVerb::Restart, FaultTarget::Kubelet(index(one)?)).await?;
    session.shell.note("it is started again\n");
    let again = session.shell.pod("bank", &one.name, |_| true).await?;
    ensure!(again == *one, "{again:?}");
    // It answers again when kubectl asks for something inside a pod.
    session.shell.pings(&again, other).await?;
    lost(session, "a kubelet killed and started again", flows).await
}

async fn sandbox(session: &mut Session) -> Result<()> {
    session
        .shell
        .chapter("A sandbox is killed: kubelet makes another one, with the same addresses");
    let pods = session.shell.pods("bank", "db", 2).await?;
    let [one, other] = &pods[..] else { anyhow::bail!("not two") };
    let old = container_id(session, one, "sandbox").await?;
    let began = std::time::Instant::now();
    kill(session, one, "sandbox").await?;
    let new = wait_until(SOON, "another sandbox", async || {
        let new = container_id(session, one, "sandbox").await?;
        ensure!(new != old, "it is the old one");
        Ok(new)
    })
    .await?;
    let again = session.shell.pod("bank", &one.name, |it| it.restarts > one.restarts).await?;
    ensure!(again.addresses == one.addresses && again.uid == one.uid, "{again:?}");
    session.shell.pings(other, &again).await?;
    let took = began.elapsed().as_secs_f64();
    session.shell.types("kubectl -n bank get pods -o wide").await?;
    session.report.note("a sandbox killed: another one made and answering", "s", took);
    // Its veth goes with the old one, and the new one has its own.
    wait_until(SOON, "one port of the pod", async || {
        let ports = ports(session, one).await?;
        ensure!(ports.len() == 1 && ports[0].contains(&new[..12]), "{ports:?}, sandbox {new}");
        Ok(())
    })
    .await
}

/// The interfaces on its node that are a pod's.
async fn ports(session: &Session, pod: &Seen) -> Result<Vec<String>> {
    let node = node(session, pod)?;
    let mut find = tokio::process::Command::new("ovs-vsctl");
    find.args(["--timeout=10", &format!("--db={}", node.ovs_db()), "--bare", "--columns=name"]);
    let id = format!("external_ids:iface-id={}.{}", pod.name, pod.namespace);
    let said = run(find.args(["find", "Interface", &id])).await?;
    Ok(said.split_whitespace().map(ToOwned::to_owned).collect())
}

async fn by_force(session: &mut Session) -> Result<()> {
    session.shell.chapter("A pod is deleted by force");
    let shell = &session.shell;
    let web = shell.pods("shop", "web", 3).await?;
    let gone = &web[0];
    let line = format!("kubectl -n shop delete pod {} --force --grace-period 0", gone.name);
    shell.types(&line).await?;
    let web = shell.pods("shop", "web", 3).await?;
    ensure!(web.iter().all(|pod| pod.uid != gone.uid), "{web:?}");
    let new = &web[0];
    let db = shell.pods("bank", "db", 2).await?;
    shell.pings(&db[0], new).await?;
    shell.until("kubectl get ips", |said| !said.contains(&format!("{}.shop", gone.name))).await?;
    nothing_left(session, gone).await
}

/// Of a pod that is gone, its node keeps neither a port nor a container.
async fn nothing_left(session: &Session, gone: &Seen) -> Result<()> {
    wait_until(SOON, &format!("{} to leave {}", gone.name, gone.node), async || {
        let ports = ports(session, gone).await?;
        ensure!(ports.is_empty(), "{ports:?}");
        let mut list = node(session, gone)?.ctr()?;
        let filter = format!("labels.\"io.kubernetes.pod.uid\"=={}", gone.uid);
        let left = run(list.args(["containers", "list", "--quiet", &filter])).await?;
        ensure!(left.trim().is_empty(), "containers {left}");
        Ok(())
    })
    .await
}

/// Nobody on the node says that its pod has ended; who deletes it by force does. The other node has
/// the pod then, and keeps it when the first one goes on and puts its own away.
async fn frozen(session: &mut Session) -> Result<()> {
    session.shell.chapter("A node's kubelet and agent stand still while its pod moves");
    let shell = &session.shell;
    let old = shell.pods("bank", "db", 2).await?[0].clone();
    let on = index(&old)?;
    let frozen = [FaultTarget::Kubelet(on), FaultTarget::Agent(on)];
    for target in frozen {
        session.lab.fault(FaultVerb::Stop, target).await?;
    }
    shell.note(&format!("kubelet and agent of {} are frozen (SIGSTOP)", old.node));
    shell.types(&format!("kubectl cordon {}", old.node)).await?;
    shell.types("kubectl -n bank delete pod db-0 --force --grace-period 0").await?;
    let new = shell.pod("bank", "db-0", |new| new.uid != old.uid).await?;
    ensure!(new.node != old.node && new.addresses == old.addresses, "{new:?}");
    let web = shell.pods("shop", "web", 3).await?;
    let elsewhere = web.iter().find(|pod| pod.node == new.node).context("no web beside it")?;
    shell.pings(elsewhere, &new).await?;
    let flows = probe(session, &new)?;
    for target in frozen {
        session.lab.fault(FaultVerb::Cont, target).await?;
    }
    shell.note("they go on\n");
    nothing_left(session, &old).await?;
    shell.types(&format!("kubectl uncordon {}", old.node)).await?;
    let again = shell.pod("bank", "db-0", |_| true).await?;
    ensure!(again == new, "{again:?}");
    // Who stayed on the node is reached again.
    let stayed = shell.pod("bank", "db-1", |_| true).await?;
    shell.pings(elsewhere, &stayed).await?;
    lost(session, "a node that goes on without its pod", flows).await
}
