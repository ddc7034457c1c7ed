//! What a lab with kubelets leaves on the machine: nothing.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Session, first_steps};

/// What could be left: mounts, cgroups, network namespaces, the kernel's settings.
fn traces() -> BTreeSet<String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let mut seen: BTreeSet<String> = read("/proc/self/mounts").lines().map(str::to_owned).collect();
    for dir in ["/run", "/run/netns", "/opt", "/var/lib", "/sys/fs/cgroup"] {
        seen.extend(below(Path::new(dir)));
    }
    for entry in below(Path::new("/sys/fs/cgroup")) {
        seen.extend(below(Path::new(&entry)));
    }
    for setting in ["vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops"] {
        seen.insert(format!("{setting} = {}", read(&format!("/proc/sys/{setting}")).trim()));
    }
    seen
}

fn below(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().display().to_string()).collect()
}

/// With pods that run, so that there is something to leave behind.
#[tokio::test]
async fn nothing_is_left_of_a_lab_with_kubelets() {
    let before = traces();
    let mut session = Session::begin(1, "kubelets-left-behind").await;
    first_steps::objects(&mut session).await.unwrap();
    let during = traces();
    let cgroups = |it: &&String| it.starts_with("/sys/fs/cgroup/") && it.contains("atoll-lab.");
    assert!(during.iter().any(|it| cgroups(&it)), "nothing could be left: {during:?}");
    let containers = session.lab.processes().unwrap();
    let sleeps = containers.iter().filter(|it| it.command == "sleep").count();
    assert!(sleeps >= 5, "the pods' first containers are not seen: {containers:?}");
    session.lab.down().await.unwrap();
    // Other programs come and go as well; what is the lab's has its name.
    let name = session.lab.name().to_string();
    let dir = session.lab.dir().display().to_string();
    let left: Vec<_> = traces().difference(&before).cloned().collect();
    let left: Vec<_> = left
        .iter()
        .filter(|it| {
            it.contains(&name)
                || it.contains(&dir)
                || it.contains("kube")
                || it.contains("containerd")
                || it.contains("cni-")
                || it.contains(" = ")
        })
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(!Path::new(&dir).exists(), "{dir} is still there");
}
