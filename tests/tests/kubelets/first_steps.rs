//! Subnets, namespaces, a Deployment and a StatefulSet; who has which addresses and who reaches
//! whom; Services; and the end of it all.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use atoll_tests::report::Target;

use super::{Seen, Session};

const SUBNETS: &str = "\
apiVersion: kubeovn.io/v1
kind: Subnet
metadata: { name: shop }
spec: { cidrBlock: '10.50.0.0/16,fd00:50::/64', namespaces: [shop], natOutgoing: true }
---
apiVersion: kubeovn.io/v1
kind: Subnet
metadata: { name: bank }
spec: { cidrBlock: '10.60.0.0/16,fd00:60::/64', namespaces: [bank], natOutgoing: true }";

/// Three pods on two nodes: two of them share one.
const WEB: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: { namespace: shop, name: web }
spec:
  replicas: 3
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints:
      - { maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway,
          labelSelector: { matchLabels: { app: web } } }
      containers:
      - name: web
        image: lab.local/busybox:1
        command: [sh, -c, 'hostname >/tmp/index.html; echo started; exec httpd -f -p 8080 -h /tmp']
        readinessProbe: { httpGet: { path: /index.html, port: 8080 }, periodSeconds: 1 }";

/// Takes whatever is sent to it, at port 9000.
const DB: &str = "\
apiVersion: apps/v1
kind: StatefulSet
metadata: { namespace: bank, name: db }
spec:
  replicas: 2
  serviceName: db
  podManagementPolicy: Parallel
  selector: { matchLabels: { app: db } }
  template:
    metadata: { labels: { app: db } }
    spec:
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints:
      - { maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway,
          labelSelector: { matchLabels: { app: db } } }
      containers:
      - name: db
        image: lab.local/busybox:1
        command: [atoll-talk, drain, udp, '9000']";

/// A manifest, as it is typed.
pub(crate) fn apply(manifest: &str) -> String {
    format!("kubectl apply -f - <<YAML\n{manifest}\nYAML")
}

pub(crate) async fn all(session: &mut Session) -> Result<()> {
    objects(session).await?;
    connectivity(session).await?;
    services(session).await?;
    outside(session).await
}

pub(crate) async fn objects(session: &mut Session) -> Result<()> {
    let shell = &session.shell;
    shell.chapter("Nodes");
    shell.types("kubectl get nodes -o wide").await?;
    shell.chapter("Subnets, namespaces, a Deployment and a StatefulSet");
    shell.types(&apply(SUBNETS)).await?;
    for namespace in ["shop", "bank"] {
        shell.types(&format!("kubectl create namespace {namespace}")).await?;
    }
    let began = Instant::now();
    shell.types(&apply(WEB)).await?;
    shell.types(&apply(DB)).await?;
    shell.types("kubectl -n shop rollout status deployment web --timeout 90s").await?;
    shell.types("kubectl -n bank rollout status statefulset db --timeout 90s").await?;
    let took = began.elapsed().as_secs_f64();
    session.report.note("5 pods applied, rolled out and ready", "s", took);
    shell.types("kubectl get pods -A -o wide").await?;
    shell.until("kubectl get ips -o wide", |said| said.lines().count() >= 8).await?;
    shell
        .until("kubectl get subnets", |said| {
            said.lines().any(|line| line.starts_with("shop") && line.trim_end().ends_with("True"))
        })
        .await?;
    for (namespace, app, count, v4, v6) in
        [("shop", "web", 3, "10.50.", "fd00:50::"), ("bank", "db", 2, "10.60.", "fd00:60::")]
    {
        for pod in shell.pods(namespace, app, count).await? {
            let [one, other] = &pod.addresses[..] else { anyhow::bail!("{pod:?}") };
            ensure!(one.starts_with(v4) && other.starts_with(v6), "{pod:?}");
            let ip = shell.json(&format!("kubectl get ip {}.{namespace}", pod.name)).await?;
            ensure!(ip["spec"]["ipAddress"] == pod.addresses.join(","), "{ip}");
            ensure!(ip["spec"]["nodeName"] == pod.node.as_str(), "{ip}");
        }
    }
    Ok(())
}

/// One pod, another one on the same node, and one on the other node.
pub(crate) fn near_and_far(pods: &[Seen]) -> Result<[&Seen; 3]> {
    for here in pods {
        let near = pods.iter().find(|it| it.name != here.name && it.node == here.node);
        let far = pods.iter().find(|it| it.node != here.node);
        if let (Some(near), Some(far)) = (near, far) {
            return Ok([here, near, far]);
        }
    }
    anyhow::bail!("not on two nodes: {pods:?}")
}

async fn connectivity(session: &Session) -> Result<()> {
    let shell = &session.shell;
    shell.chapter("Who reaches whom: on the same node, on the other one, in another subnet");
    let web = shell.pods("shop", "web", 3).await?;
    let [here, near, far] = near_and_far(&web)?;
    shell.pings(here, near).await?;
    shell.pings(here, far).await?;
    for db in shell.pods("bank", "db", 2).await? {
        shell.pings(here, &db).await?;
        shell.pings(&db, here).await?;
    }
    shell.chapter("Logs, and what a pod has");
    let logs = shell.types(&format!("kubectl -n shop logs {}", here.name)).await?;
    ensure!(logs.trim() == "started", "{logs}");
    let exec = format!("kubectl -n shop exec {} --", here.name);
    let said = shell.types(&format!("{exec} ip address show eth0")).await?;
    ensure!(here.addresses.iter().all(|it| said.contains(&format!("{it}/"))), "{said}");
    shell.types(&format!("{exec} ip route")).await?;
    let says =
        format!("kubectl -n shop get pod {} -o jsonpath='{{.metadata.annotations}}'", here.name);
    shell.types(&says).await.map(drop)
}

async fn services(session: &mut Session) -> Result<()> {
    let shell = &session.shell;
    shell.chapter("A Service in front of the Deployment");
    shell.types("kubectl -n shop expose deployment web --port 80 --target-port 8080").await?;
    let service = shell.json("kubectl -n shop get service web").await?;
    let address = service["spec"]["clusterIP"].as_str().context("no address")?.to_owned();
    let db = shell.pods("bank", "db", 2).await?;
    let web = shell.pods("shop", "web", 3).await?;
    for from in db.iter().chain(&web[..1]) {
        let Seen { namespace, name, .. } = from;
        let line = format!("kubectl -n {namespace} exec {name} -- wget -qO- http://{address}/");
        shell.until(&line, |said| web.iter().any(|pod| said.trim() == pod.name)).await?;
    }
    // All three answer, by and by.
    let from = &db[0];
    let line = format!(
        "kubectl -n {} exec {} -- sh -c 'for i in $(seq 30); do wget -qO- http://{address}/; done' \
         | sort | uniq -c",
        from.namespace, from.name
    );
    let said = shell.types(&line).await?;
    let answered = web.iter().filter(|pod| said.contains(&pod.name)).count();
    session.report.claim(
        "pods that answer through their Service",
        "of 3",
        f64::from(u32::try_from(answered)?),
        Target::Exactly(3.0),
    );
    Ok(())
}

async fn outside(session: &Session) -> Result<()> {
    let shell = &session.shell;
    shell.chapter("The outside");
    let web = shell.pods("shop", "web", 3).await?;
    for address in atoll_tests::outside::FAR_AWAY {
        shell.pings_address(&web[0], address).await?;
    }
    Ok(())
}

/// Everything is deleted, and nothing of it is left.
pub(crate) async fn the_end(session: &mut Session) -> Result<()> {
    let shell = &session.shell;
    shell.chapter("The end");
    let began = Instant::now();
    shell.types("kubectl delete namespace shop bank --timeout 90s").await?;
    shell.types("kubectl delete subnet shop bank mall --timeout 60s").await?;
    session.report.note("namespaces and subnets deleted", "s", began.elapsed().as_secs_f64());
    shell
        .until("kubectl get ips", |said| {
            let left = said.lines().skip(1);
            left.filter(|line| !line.starts_with("node-")).count() == 0
        })
        .await
        .map(drop)
}
