//! The new user's transcript: `kubectl` alone, and real kubelets, containerd and runc that run
//! what it asks for in Atoll's network. Needs root, `make kubernetes` and the packages that
//! `tests/install.sh kubelets` installs: run by `make kubelets`.

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]

mod changes;
mod faults;
mod first_steps;
mod left_behind;
mod scenarios;
mod transcript;

use std::io::Write as _;

use atoll_tests::lab::{Kubernetes, Lab, Options, ProxyMode, ScopedLab};
use atoll_tests::report::Report;
use uuid::Uuid;

use transcript::{Seen, Transcript};

/// A lab, the shell in front of it, and what is measured.
pub(crate) struct Session {
    pub(crate) lab: ScopedLab,
    pub(crate) shell: Transcript,
    pub(crate) report: Report,
}

impl Session {
    async fn begin(members: u8, transcript: &'static str) -> Self {
        let name = format!("t{}", &Uuid::new_v4().simple().to_string()[..8]).parse().unwrap();
        let options = Options {
            members,
            nodes: 2,
            kubernetes: true,
            kubelets: true,
            kube_proxy: Some(ProxyMode::Nftables),
            ..Options::new(name)
        };
        let began = std::time::Instant::now();
        let lab = ScopedLab::up(options).await.unwrap();
        let mut report = Report::new("kubelets", "make kubelets");
        report.note("lab with kubelets up", "s", began.elapsed().as_secs_f64());
        let shell = Transcript::new(&kubernetes(&lab), transcript).unwrap();
        Self { lab, shell, report }
    }
}

fn kubernetes(lab: &Lab) -> Kubernetes {
    lab.kubernetes().unwrap()
}

/// One lab for all of it, because a cluster that lives is what a user has: each step begins with
/// what the last one left.
#[tokio::test]
async fn a_new_user_gets_along_with_kubectl_alone() {
    let mut session = Session::begin(1, "kubelets").await;
    first_steps::all(&mut session).await.unwrap();
    changes::all(&mut session).await.unwrap();
    faults::all(&mut session).await.unwrap();
    first_steps::the_end(&mut session).await.unwrap();
    session.report.save().unwrap();
    writeln!(std::io::stderr(), "{}", session.report.table()).unwrap();
    assert_eq!(session.report.failures(), Vec::<String>::new());
}
