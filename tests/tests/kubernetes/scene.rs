//! A network with pods, some of them plugged in, and `atoll-apiserver-faults` between its member and
//! the apiserver; and what must hold of it whatever that does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use atoll_tests::apiserver_faults::{Faults, Orders};
use atoll_tests::audit;
use atoll_tests::kubectl::{annotation, bare, object, plugged_in, pod_manifest};
use atoll_tests::lab::{FaultTarget, FaultVerb, Kubernetes, Lab, Place, Pod, ScopedLab, run};
use atoll_tests::report::{Report, Target};
use atoll_tests::wait::wait_until;
use serde_json::json;

use super::{SOON, lab, namespace, stored, subnet};

/// Pods that are announced and never plugged in.
const ANNOUNCED: u8 = 4;

/// How long a pod may take to be seen: as long as the longest pause between lists, and some more.
const COMES: Duration = Duration::from_secs(45);

/// Such a network.
pub(crate) struct Scene {
    pub(crate) lab: ScopedLab,
    pub(crate) kubernetes: Kubernetes,
    pub(crate) orders: Orders,
    /// Pods that are plugged in.
    pub(crate) plugged: Vec<Pod>,
    /// Pods that have to have these addresses.
    pub(crate) given: BTreeMap<String, String>,
    case: &'static str,
    report: Report,
    began: Instant,
}

impl Scene {
    /// Two plugged pods, `db` on node 1 and `web` on node 2, and `p0` to `p3`.
    pub(crate) async fn up(case: &'static str) -> Result<Self> {
        let lab = lab(1).await;
        let kubernetes = lab.kubernetes().context("a lab with Kubernetes")?;
        // Small, so that an address that was freed would soon be another one's.
        kubernetes.apply(&subnet("shop", "10.50.0.0/28")).await?;
        namespace(&kubernetes, "shop").await?;
        let orders = kubernetes.put_between().await?;
        let report = Report::new("apiserver-faults", "make kubernetes-scenarios");
        let (plugged, given) = (Vec::new(), BTreeMap::new());
        let began = Instant::now();
        let mut it = Self { lab, kubernetes, orders, plugged, given, case, report, began };
        it.restart().await?;
        for (name, node) in [("db", 1), ("web", 2)] {
            it.plug_in(name, node).await?;
        }
        for index in 0..ANNOUNCED {
            it.comes(&format!("p{index}")).await?;
        }
        it.began = Instant::now();
        Ok(it)
    }

    /// Another reign begins, with lists.
    pub(crate) async fn restart(&self) -> Result<()> {
        self.lab.fault(FaultVerb::Restart, FaultTarget::Member(1)).await?;
        self.lab.store()?.wait_ready(SOON).await
    }

    /// From now on this is done to what passes.
    pub(crate) async fn order(&self, faults: Faults) -> Result<()> {
        self.orders.give(faults).await.map(drop)
    }

    /// Waits until so many more answers were hurt; the order stays.
    pub(crate) async fn hurt(&self, faults: Faults, more: u64) -> Result<()> {
        let before = self.orders.give(faults).await?.hurt;
        wait_until(SOON, "answers that are hurt", async || {
            let hurt = self.orders.give(faults).await?.hurt - before;
            ensure!(hurt >= more, "{hurt} of {more}");
            Ok(())
        })
        .await
    }

    /// A pod that is plugged in; its addresses have to stay.
    pub(crate) async fn plug_in(&mut self, name: &str, node: u8) -> Result<()> {
        let pod = plugged_in(&self.lab, &self.kubernetes, "shop", name, node).await?;
        self.given.insert(format!("shop/{name}"), bare(&pod).join(","));
        self.plugged.push(pod);
        Ok(())
    }

    /// Makes a pod, and waits for nothing.
    pub(crate) async fn make(&self, name: &str) -> Result<()> {
        let last = name.as_bytes().last().is_some_and(|it| it % 2 == 1);
        let node = if last { "n1" } else { "n2" };
        self.kubernetes
            .apply(&pod_manifest("shop", name, node, json!({})).to_string())
            .await
            .map(drop)
    }

    /// Waits until the store has given a pod its addresses, which then have to stay.
    pub(crate) async fn has_come(&mut self, name: &str) -> Result<()> {
        let key = format!("shop/{name}");
        let address = wait_until(COMES, &format!("addresses of {key}"), async || {
            stored(&self.lab).await?.remove(&key).context("none yet")
        })
        .await?;
        self.given.insert(key, address);
        Ok(())
    }

    /// Makes a pod that has to get its addresses now.
    pub(crate) async fn comes(&mut self, name: &str) -> Result<()> {
        self.make(name).await?;
        self.has_come(name).await
    }

    /// The pods that do not have what they had, in the store or on their interface, and what two
    /// have or had at once.
    async fn harm(&self) -> Result<(Vec<String>, u32)> {
        let stored = stored(&self.lab).await?;
        let lost = self.given.iter().filter(|(pod, address)| stored.get(*pod) != Some(*address));
        let shown = |(pod, was): (&String, &String)| {
            format!("{pod}: {was}, now {}", stored.get(pod).map_or("nothing", String::as_str))
        };
        let mut lost: Vec<String> = lost.map(shown).collect();
        for pod in &self.plugged {
            let space = self.lab.space(&Place::Pod(pod.name.clone()))?;
            let on_it = run(space.command("ip").args(["-o", "address", "show"])).await?;
            for address in bare(pod).iter().filter(|it| !on_it.contains(&format!(" {it}/"))) {
                lost.push(format!("{} lost {address}: {on_it}", pod.name));
            }
        }
        let distinct: BTreeSet<&String> = stored.values().collect();
        let twice = u32::try_from(stored.len() - distinct.len())?;
        Ok((lost, twice + audit::members(&self.lab).await?.doubles))
    }

    /// Nothing was freed that is in use, and nothing given twice.
    pub(crate) async fn unharmed(&self) -> Result<()> {
        let (lost, twice) = self.harm().await?;
        ensure!(lost.is_empty() && twice == 0, "{twice} addresses twice; {}", lost.join("; "));
        Ok(())
    }

    /// Waits until the apiserver says of each pod that it knows what the store does, in annotations and `IP` objects.
    pub(crate) async fn written_back(&self, unknown: &[&str]) -> Result<()> {
        wait_until(SOON, "annotations and IP objects of all pods", async || {
            let mut stored = stored(&self.lab).await?;
            stored.retain(|pod, _| !unknown.contains(&pod.as_str()));
            for (pod, address) in &stored {
                let (namespace, name) = pod.split_once('/').context("namespace/name")?;
                let said = object(&self.kubernetes, "pod", Some(namespace), name).await?;
                ensure!(annotation(&said, "ip_address") == address, "{pod}: {}", said["metadata"]);
                let ip =
                    object(&self.kubernetes, "ip", None, &format!("{name}.{namespace}")).await?;
                ensure!(ip["spec"]["ipAddress"] == address.as_str(), "{pod}: {ip}");
            }
            Ok(())
        })
        .await
    }

    /// A figure without a bound.
    pub(crate) fn note(&mut self, what: &str, unit: &str, value: f64) {
        self.report.note(&format!("{}: {what}", self.case), unit, value);
    }

    /// A figure that must be so.
    pub(crate) fn claim(&mut self, what: &str, unit: &str, value: f64, target: Target) {
        self.report.claim(&format!("{}: {what}", self.case), unit, value, target);
    }

    /// The fault is over: a later pod comes and all is written back; then the verdict.
    pub(crate) async fn over(self, longest: Duration) -> Result<()> {
        self.over_without(&[], longest).await
    }

    /// As [`Scene::over`], with pods that the apiserver does not know.
    pub(crate) async fn over_without(mut self, unknown: &[&str], longest: Duration) -> Result<()> {
        let passed = self.orders.give(Faults::default()).await?;
        let ended = Instant::now();
        self.comes("z1").await?;
        self.written_back(unknown).await?;
        let after = ended.elapsed().as_secs_f64();
        self.note("all written back after the fault", "s", after);
        let (lost, twice) = self.harm().await?;
        let zero = Target::Exactly(0.0);
        self.claim(
            "addresses freed in use",
            "addresses",
            f64::from(u32::try_from(lost.len())?),
            zero,
        );
        self.report.details(lost);
        self.claim("addresses given twice", "addresses", f64::from(twice), zero);
        let hurt = f64::from(u32::try_from(passed.hurt)?);
        self.note("answers that were hurt", "answers", hurt);
        let took = self.began.elapsed().as_secs_f64();
        self.claim("took", "s", took, Target::AtMost(longest.as_secs_f64()));
        self.report.save()?;
        let failures = self.report.failures();
        ensure!(failures.is_empty(), "{failures:?}");
        Ok(())
    }
}

/// What the janitor says.
pub(crate) async fn janitor(lab: &Lab) -> Result<serde_json::Value> {
    let said = atoll_tests::people::atollctl(lab, &["janitor", "status", "-o", "json"], "").await?;
    ensure!(said.status == 0, "{}{}", said.out, said.err);
    Ok(serde_json::from_str(&said.out)?)
}
