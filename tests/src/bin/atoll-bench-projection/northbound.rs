//! A northbound `ovsdb-server` with nothing behind it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_ovn_plan::{Rows, Table};
use atoll_ovn_sync::{monitored, observe};
use atoll_ovsdb::{Client, Endpoint, Options};
use atoll_tests::bench::machine;
use atoll_tests::wait::wait_until;

/// The database's name.
pub(crate) const DATABASE: &str = "OVN_Northbound";

const SCHEMA: &str = "/usr/share/ovn/ovn-nb.ovsschema";

/// Ends with this.
#[derive(Debug)]
pub(crate) struct Northbound {
    server: Child,
    dir: tempfile::TempDir,
}

impl Northbound {
    /// Starts one on an empty database and waits until it listens.
    pub(crate) async fn start() -> Result<Self> {
        let dir = machine::scratch()?;
        let file = dir.path().join("nb.db");
        let made = Command::new("ovsdb-tool").arg("create").arg(&file).arg(SCHEMA).output();
        let made = made.context("ovsdb-tool is not installed; `make install`")?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let server = serve(dir.path()).context("ovsdb-server does not start")?;
        let northbound = Self { server, dir };
        wait_until(Duration::from_secs(10), "ovsdb-server to listen", async || {
            northbound.connect().await.map(drop)
        })
        .await?;
        Ok(northbound)
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.dir.path().join("nb.sock"))
    }

    pub(crate) async fn connect(&self) -> Result<Client> {
        let options = Options { call_timeout: Duration::from_secs(60), ..Options::default() };
        Ok(Client::connect_with(&self.endpoint(), &options).await?)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.server.id()
    }

    /// What its file has grown to: each transaction is in it.
    pub(crate) fn size(&self) -> Result<u64> {
        Ok(std::fs::metadata(self.dir.path().join("nb.db"))?.len())
    }

    /// That it holds exactly these rows, but for `NB_Global`, which is shared.
    pub(crate) async fn holds(&self, rows: &Rows) -> Result<()> {
        let monitor = self.connect().await?.monitor(DATABASE, &monitored()).await?;
        let mut observed = observe(&monitor.replica());
        observed.retain(|(table, _), _| *table != Table::NbGlobal);
        let wanted = rows.iter().filter(|((table, _), _)| *table != Table::NbGlobal);
        let others = wanted.clone().filter(|(key, row)| observed.get(key) != Some(row)).count();
        let (wanted, observed) = (wanted.count(), observed.len());
        ensure!(
            others == 0 && wanted == observed,
            "{observed} rows, {wanted} wanted, {others} of those missing or different"
        );
        Ok(())
    }
}

fn serve(dir: &Path) -> std::io::Result<Child> {
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "ovsdb-server", "-vconsole:off"])
        .arg(format!("--remote=punix:{}", dir.join("nb.sock").display()))
        .arg(format!("--unixctl={}", dir.join("nb.ctl").display()))
        .arg(dir.join("nb.db"))
        .env("OVS_RUNDIR", dir)
        .stdin(Stdio::null())
        .spawn()
}

impl Drop for Northbound {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
