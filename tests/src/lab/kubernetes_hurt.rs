//! What can be done to a lab's Kubernetes beyond [`super::fault`]: somebody between it and the members,
//! and other contents of its etcd.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::files::remove_if_there;
use super::kubernetes::Kubernetes;
use super::kubernetes_pki;
use super::names::KUBERNETES;
use crate::apiserver_faults::{Faults, Orders};
use crate::audit::copy_tree;
use crate::wait::wait_until;

const PROXY: &str = "atoll-apiserver-faults";

/// Where members come instead of to the apiserver.
const PORT: u16 = 6444;

/// How long the program may take until it listens.
const START_DEADLINE: Duration = Duration::from_secs(15);

impl Kubernetes {
    /// Puts `atoll-apiserver-faults` between members and apiserver. A member goes that way from its
    /// next reign on: restart the one that leads.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub async fn put_between(&self) -> Result<Orders> {
        let socket = self.dir.join("faults.sock");
        remove_if_there(&socket)?;
        let pki = |name: &str| kubernetes_pki::file(&self.dir, name);
        kubernetes_pki::detour(&self.dir, KUBERNETES, PORT)?;
        let program = self.binaries.join(PROXY);
        let words = [
            program.into_os_string(),
            "--listen".into(),
            format!("{KUBERNETES}:{PORT}").into(),
            "--certificate".into(),
            pki("serving.crt").into(),
            "--key".into(),
            pki("serving.key").into(),
            "--kubeconfig".into(),
            kubernetes_pki::direct_kubeconfig(&self.dir).into(),
            "--orders".into(),
            socket.clone().into(),
        ];
        let argv: Vec<&OsStr> = words.iter().map(AsRef::as_ref).collect();
        let pid = self.space().spawn_daemon(&argv, &Vec::new(), &self.log(PROXY))?;
        self.daemon(PROXY).write_pid(pid)?;
        let orders = Orders::new(&socket);
        let answered = wait_until(START_DEADLINE, "the faults' program to take orders", || {
            orders.give(Faults::default())
        });
        answered.await.with_context(|| self.log(PROXY).display().to_string())?;
        Ok(orders)
    }

    /// Keeps what etcd holds now under a name. The control plane is down meanwhile.
    ///
    /// # Errors
    ///
    /// It cannot be copied, or what was stopped does not start again.
    pub async fn keep(&self, name: &str) -> Result<()> {
        self.stop_all().await?;
        copy_tree(&self.etcd_dir(), &self.kept(name)).context("cannot keep what etcd holds")?;
        self.start_all().await
    }

    /// Stops the control plane and starts it with what was kept under a name; with none, with
    /// nothing, as another cluster.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub async fn go_back(&self, name: Option<&str>) -> Result<()> {
        self.stop_all().await?;
        fs::remove_dir_all(self.etcd_dir()).context("cannot remove what etcd holds")?;
        if let Some(name) = name {
            copy_tree(&self.kept(name), &self.etcd_dir()).context("nothing was kept")?;
        }
        self.start_all().await
    }

    fn kept(&self, name: &str) -> PathBuf {
        self.dir.join(format!("etcd.{name}"))
    }
}
