//! An ovn-central that is nobody's of ours: one host with two standalone databases and northd, as
//! somebody else would run it, with certificates of his own authority.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use atoll_api::CertificateFiles;
use tokio::process::Command;

use super::env::CentralDatabases;
use super::names::{LabName, OTHERS, OVN_PORTS};
use super::others_pki;
use super::process::Daemon;
use super::shell::{Space, ovs_envs, run};
use super::state::State;

/// Where Debian's ovn-common keeps its schemas.
pub(super) const OVN_SHARE: &str = "/usr/share/ovn";

/// The host of an ovn-central that members only attach to.
#[derive(Debug, Clone)]
pub struct OthersCentral {
    lab: LabName,
    dir: PathBuf,
    certificate: CertificateFiles,
}

impl OthersCentral {
    pub(super) fn new(state: &State) -> Self {
        let certificate = others_pki::files(&state.dir, others_pki::CENTRAL);
        Self { lab: state.name.clone(), dir: state.dir.join("central"), certificate }
    }

    /// Its databases for a client on the host.
    pub fn databases(&self) -> CentralDatabases {
        let socket = |name| format!("unix:{}", self.dir.join(name).display());
        CentralDatabases { nb: socket("nb.sock"), sb: socket("sb.sock") }
    }

    /// Its databases for members and nodes.
    pub fn remotes() -> CentralDatabases {
        let [nb, sb] = OVN_PORTS.map(|port| format!("ssl:{OTHERS}:{port}"));
        CentralDatabases { nb, sb }
    }

    /// The certificate that its authority made for `name`: a member (`m1`) or a node (`n1`).
    pub fn certificate_of(&self, name: &str) -> Option<CertificateFiles> {
        Some(others_pki::files(self.dir.parent()?, name))
    }

    /// Its processes.
    pub fn processes(&self) -> [Daemon; 3] {
        let daemon = |program, file| Daemon::new(program, self.dir.join(file), &self.lab.others());
        [
            daemon("ovn-northd", "northd.pid"),
            daemon("ovsdb-server (NB)", "nb.pid"),
            daemon("ovsdb-server (SB)", "sb.pid"),
        ]
    }

    /// Starts it and returns when all of it runs.
    pub(super) async fn start(&self) -> Result<()> {
        fs::create_dir_all(&self.dir)
            .with_context(|| format!("cannot make {}", self.dir.display()))?;
        for (name, port) in ["nb", "sb"].into_iter().zip(OVN_PORTS) {
            let database = self.dir.join(format!("{name}.db"));
            let schema = Path::new(OVN_SHARE).join(format!("ovn-{name}.ovsschema"));
            let mut create = super::shell::command("ovsdb-tool");
            run(create.arg("create").arg(&database).arg(schema)).await?;
            let mut server = self.daemon("ovsdb-server", name);
            server.arg(format!("--remote=punix:{}.sock", self.dir.join(name).display()));
            server.arg(format!("--remote={}", Self::remote(name, port)));
            let CertificateFiles { ca, cert, key } = &self.certificate;
            for (option, file) in [("ca-cert", ca), ("certificate", cert), ("private-key", key)] {
                server.arg(format!("--{option}={}", file.display()));
            }
            run(server.arg(database)).await?;
        }
        self.open_southbound().await?;
        let CentralDatabases { nb, sb } = self.databases();
        let mut northd = self.daemon("ovn-northd", "northd");
        northd.args([format!("--ovnnb-db={nb}"), format!("--ovnsb-db={sb}")]);
        run(&mut northd).await.map(drop)
    }

    /// Where a database listens. That nodes have a role can be said in a row only.
    fn remote(database: &str, port: u16) -> String {
        match database {
            "sb" => "db:OVN_Southbound,SB_Global,connections".to_owned(),
            _ => format!("pssl:{port}:{OTHERS}"),
        }
    }

    async fn open_southbound(&self) -> Result<()> {
        let mut sbctl = super::shell::command("ovn-sbctl");
        sbctl.arg(format!("--db={}", self.databases().sb)).args(["init", "--", "set-connection"]);
        let [_, port] = OVN_PORTS;
        sbctl.args(["role=ovn-controller", &format!("pssl:{port}:{OTHERS}")]);
        run(&mut sbctl).await.map(drop)
    }

    fn daemon(&self, program: &str, name: &str) -> Command {
        let mut command = Space::of_namespace(&self.lab.others()).command(program);
        let file = |suffix| self.dir.join(format!("{name}.{suffix}")).display().to_string();
        command.args(["--detach", "--no-chdir", "-vconsole:off"]);
        command.arg(format!("--pidfile={}", file("pid")));
        command.arg(format!("--unixctl={}", file("ctl")));
        command.arg(format!("--log-file={}", file("log")));
        let dir = self.dir.as_path();
        command.envs(ovs_envs([dir; 3], [dir; 3]));
        command
    }
}
