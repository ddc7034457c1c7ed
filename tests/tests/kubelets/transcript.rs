//! What somebody types, and what comes back, written down as it happens.

use std::cell::Cell;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use atoll_tests::lab::Kubernetes;
use atoll_tests::people::{Said, say};
use atoll_tests::report;
use atoll_tests::wait::{pass, wait_until};
use serde_json::Value;
use tokio::process::Command;

/// How long one command may wait for something: images are there already, so it is short.
pub(crate) const SOON: Duration = Duration::from_secs(90);

/// A shell in which `kubectl` speaks to the lab. Each line that is typed in it is written down with
/// what it said; what a test only asks for itself is not.
#[derive(Debug)]
pub(crate) struct Transcript {
    kubectl: String,
    /// As it grows, so that a test that fails or hangs leaves what it saw.
    file: Mutex<File>,
}

impl Transcript {
    /// Into `target/report/NAME.txt`.
    pub(crate) fn new(kubernetes: &Kubernetes, name: &str) -> Result<Self> {
        let words = kubernetes.kubectl_words();
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        fs::create_dir_all(report::dir())?;
        let file = Mutex::new(File::create(report::dir().join(format!("{name}.txt")))?);
        Ok(Self { kubectl: words.join(" "), file })
    }

    /// A heading.
    pub(crate) fn chapter(&self, words: &str) {
        self.write(&format!("\n## {words}\n\n"));
    }

    /// What was done to the lab meanwhile, by no kubectl.
    pub(crate) fn note(&self, words: &str) {
        self.write(&format!("# {words}\n"));
    }

    /// Types a line that must succeed, and returns what it printed.
    pub(crate) async fn types(&self, line: &str) -> Result<String> {
        let said = self.shell(line).await?;
        self.heard(line, &said);
        ensure!(said.status == 0, "{line}: {} {}", said.out.trim(), said.err.trim());
        Ok(said.out)
    }

    /// Types a line again and again until it succeeds and prints what it should; the last answer
    /// is written down, once.
    pub(crate) async fn until(&self, line: &str, is_it: impl Fn(&str) -> bool) -> Result<String> {
        let (began, tries) = (Instant::now(), Cell::new(0));
        let seen = wait_until(SOON, line, async || {
            tries.set(tries.get() + 1);
            let said = self.shell(line).await?;
            ensure!(said.status == 0 && is_it(&said.out), "{}{}", said.out, said.err);
            Ok(said)
        })
        .await;
        match seen {
            Ok(said) => {
                if tries.get() > 1 {
                    let took = began.elapsed().as_millis();
                    self.note(&format!("typed {} times in {took} ms:", tries.get()));
                }
                self.heard(line, &said);
                Ok(said.out)
            }
            Err(error) => {
                self.write(&format!("$ {line}\n# not as it should be: {error:#}\n"));
                Err(error)
            }
        }
    }

    /// As [`Self::until`], for a line that is to fail, saying `words`.
    pub(crate) async fn until_it_fails(&self, line: &str, words: &str) -> Result<()> {
        let said = wait_until(SOON, line, async || {
            let said = self.shell(line).await?;
            let heard = format!("{}{}", said.out, said.err);
            ensure!(said.status != 0 && heard.contains(words), "{heard}");
            Ok(said)
        })
        .await?;
        self.heard(line, &said);
        Ok(())
    }

    /// What a line prints as JSON. Nothing is written down.
    pub(crate) async fn json(&self, line: &str) -> Result<Value> {
        let said = self.shell(&format!("{line} -o json")).await?;
        ensure!(said.status == 0, "{line}: {}", said.err.trim());
        serde_json::from_str(&said.out).with_context(|| format!("{line}: {}", said.out))
    }

    /// What a line says. Nothing is written down.
    pub(crate) async fn shell(&self, line: &str) -> Result<Said> {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(self.script(line));
        say(&mut shell, "").await
    }

    /// A line that goes on until its value is dropped.
    pub(crate) fn background(&self, line: &str) -> Result<tokio::process::Child> {
        self.write(&format!("$ {line} &\n"));
        let mut shell = Command::new("sh");
        // It becomes what it runs, so that the end of the one is the end of the other.
        shell.arg("-c").arg(format!("exec {}", line.replacen("kubectl", &self.kubectl, 1)));
        shell.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
        shell.stderr(std::process::Stdio::null()).kill_on_drop(true);
        shell.spawn().with_context(|| line.to_owned())
    }

    fn script(&self, line: &str) -> String {
        format!("kubectl() {{ {} \"$@\"; }}\n{line}", self.kubectl)
    }

    fn heard(&self, line: &str, said: &Said) {
        let mut text = format!("$ {line}\n{}{}", said.out, said.err);
        if said.status != 0 {
            let _ = writeln!(text, "# exit status {}", said.status);
        }
        self.write(&format!("{}\n\n", text.trim_end()));
    }

    fn write(&self, words: &str) {
        let written = self.file.lock().map(|mut file| file.write_all(words.as_bytes()));
        assert!(matches!(written, Ok(Ok(()))), "the transcript cannot be written: {written:?}");
    }
}

/// A pod, as far as these tests look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) node: String,
    /// As kubelet says them, who has them from the plugin.
    pub(crate) addresses: Vec<String>,
    pub(crate) restarts: u64,
}

impl Seen {
    /// A ready pod; an error says how far it is.
    fn read(pod: &Value) -> Result<Self> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let status = &pod["status"];
        let name = text(&pod["metadata"]["name"]);
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let is_ready = conditions.iter().any(|it| it["type"] == "Ready" && it["status"] == "True");
        ensure!(is_ready && pod["metadata"]["deletionTimestamp"].is_null(), "{name}: {status}");
        let ips = status["podIPs"].as_array().context("no addresses")?;
        let annotated = text(&pod["metadata"]["annotations"]["ovn.kubernetes.io/ip_address"]);
        let addresses: Vec<String> = ips.iter().map(|ip| text(&ip["ip"])).collect();
        ensure!(addresses.join(",") == annotated, "{name}: {addresses:?} and not {annotated}");
        Ok(Self {
            namespace: text(&pod["metadata"]["namespace"]),
            uid: text(&pod["metadata"]["uid"]),
            node: text(&pod["spec"]["nodeName"]),
            restarts: status["containerStatuses"][0]["restartCount"].as_u64().unwrap_or(0),
            name,
            addresses,
        })
    }
}

impl Transcript {
    /// So many ready pods of an application, by name, as soon as there are exactly these.
    pub(crate) async fn pods(&self, namespace: &str, app: &str, count: usize) -> Result<Vec<Seen>> {
        wait_until(SOON, &format!("{count} ready pods of {app}"), async || {
            let list = self.json(&format!("kubectl -n {namespace} get pods -l app={app}")).await?;
            let items = list["items"].as_array().context("no list")?;
            ensure!(items.len() == count, "{} pods", items.len());
            items.iter().map(Seen::read).collect()
        })
        .await
    }

    /// One pod, as soon as it is ready and something else holds.
    pub(crate) async fn pod(
        &self,
        namespace: &str,
        name: &str,
        is_it: impl Fn(&Seen) -> bool,
    ) -> Result<Seen> {
        wait_until(SOON, &format!("{namespace}/{name}"), async || {
            let pod = self.json(&format!("kubectl -n {namespace} get pod {name}")).await?;
            let seen = Seen::read(&pod)?;
            ensure!(is_it(&seen), "{seen:?}");
            Ok(seen)
        })
        .await
    }

    /// Pings each address of `to` from inside `from`, until each has answered.
    pub(crate) async fn pings(&self, from: &Seen, to: &Seen) -> Result<()> {
        for address in &to.addresses {
            self.pings_address(from, address).await?;
        }
        Ok(())
    }

    pub(crate) async fn pings_address(&self, from: &Seen, address: &str) -> Result<()> {
        let line = ping(from, address);
        self.until(&line, |said| said.contains(" 0% packet loss")).await.map(drop)
    }

    /// Pings each address of `to` until none answers.
    pub(crate) async fn pings_in_vain(&self, from: &Seen, to: &Seen) -> Result<()> {
        for address in &to.addresses {
            self.until_it_fails(&ping(from, address), "100% packet loss").await?;
        }
        Ok(())
    }

    /// Kbit/s that a pod receives, as its own interface counts them for a while.
    pub(crate) async fn received(&self, pod: &Seen) -> Result<u64> {
        const WHILE: Duration = Duration::from_secs(4);
        // With the clock, as nobody knows how long the call takes to come there.
        let files = "/proc/uptime /sys/class/net/eth0/statistics/rx_bytes";
        let line = format!("kubectl -n {} exec {} -- cat {files}", pod.namespace, pod.name);
        let (began, before) = counted(&self.shell(&line).await?)?;
        pass(WHILE).await;
        let (ended, after) = counted(&self.shell(&line).await?)?;
        Ok((after - before) * 8 / (ended - began))
    }
}

/// Milliseconds of a machine's uptime, and a number.
fn counted(said: &Said) -> Result<(u64, u64)> {
    let read = || {
        let mut lines = said.out.lines();
        let uptime = lines.next()?.split(' ').next()?.replace('.', "");
        Some((uptime.parse::<u64>().ok()? * 10, lines.next()?.trim().parse().ok()?))
    };
    read().with_context(|| format!("{}{}", said.out, said.err))
}

fn ping(from: &Seen, address: &str) -> String {
    let Seen { namespace, name, .. } = from;
    format!("kubectl -n {namespace} exec {name} -- ping -c 2 -W 2 {address}")
}
