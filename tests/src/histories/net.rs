//! Members in network namespaces of their own, on one bridge, with certificates: so that what one
//! of them sends to another can be dropped, in one direction or both.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use atoll_api::Credentials;
use tokio::process::Command;

use crate::bare::{self, BareMember, Place};
use crate::certificates::Authority;
use crate::lab::run;
use crate::people::program;

/// Port of every member; their addresses differ.
const PORT: u16 = 7400;

/// The namespaces and their cables; they go with it.
#[derive(Debug)]
pub struct Net {
    prefix: String,
    members: usize,
}

impl Net {
    /// Makes namespaces for so many members.
    ///
    /// # Errors
    ///
    /// A sentence of `ip`: it needs root.
    pub async fn new(members: usize) -> Result<Self> {
        let prefix = format!("hist{}", std::process::id() % 100_000);
        let net = Self { prefix, members };
        net.remove();
        let fabric = net.fabric();
        ip(&["netns", "add", &fabric]).await?;
        ip(&["-n", &fabric, "link", "add", "br0", "type", "bridge"]).await?;
        ip(&["-n", &fabric, "link", "set", "br0", "up"]).await?;
        for member in 0..members {
            let (space, port) = (net.space(member), format!("m{member}"));
            ip(&["netns", "add", &space]).await?;
            let cable = ["type", "veth", "peer", "name", "eth0", "netns", &space];
            ip(&[&["-n", &fabric, "link", "add", &port][..], &cable].concat()).await?;
            ip(&["-n", &fabric, "link", "set", &port, "master", "br0", "up"]).await?;
            let address = format!("{}/24", host(member));
            ip(&["-n", &space, "address", "add", &address, "dev", "eth0"]).await?;
            ip(&["-n", &space, "link", "set", "lo", "up"]).await?;
            ip(&["-n", &space, "link", "set", "eth0", "up"]).await?;
        }
        Ok(net)
    }

    fn fabric(&self) -> String {
        format!("{}-fab", self.prefix)
    }

    fn space(&self, member: usize) -> String {
        format!("{}-m{}", self.prefix, member + 1)
    }

    fn words(&self, member: usize) -> Vec<String> {
        let net = format!("--net=/run/netns/{}", self.space(member));
        ["nsenter".to_owned(), net, "--".to_owned()].to_vec()
    }

    /// Nothing that `from` sends reaches `to` any more; what comes back does.
    ///
    /// # Errors
    ///
    /// A sentence of `iptables`.
    pub async fn cut(&self, from: usize, to: usize) -> Result<()> {
        self.filter(to, &["-A", "INPUT", "-s", &host(from), "-j", "DROP"]).await
    }

    /// Everything reaches everybody.
    ///
    /// # Errors
    ///
    /// As [`Net::cut`].
    pub async fn heal(&self) -> Result<()> {
        for member in 0..self.members {
            self.filter(member, &["-F", "INPUT"]).await?;
        }
        Ok(())
    }

    async fn filter(&self, member: usize, words: &[&str]) -> Result<()> {
        let prefix = self.words(member);
        let mut command = Command::new(&prefix[0]);
        run(command.args(&prefix[1..]).args(["iptables", "-w"]).args(words)).await.map(drop)
    }

    fn remove(&self) {
        let spaces = (0..self.members).map(|member| self.space(member)).chain([self.fabric()]);
        for space in spaces {
            // Nothing else can be done about it, and it may not be there.
            let _ = std::process::Command::new("ip").args(["netns", "del", &space]).output();
        }
    }

    /// Members in these namespaces, with an authority of their own; nothing runs yet. Also the
    /// operator's credentials.
    ///
    /// # Errors
    ///
    /// A certificate or a file cannot be made.
    pub fn members(
        &self,
        dir: &Path,
        program_name: &str,
    ) -> Result<(Vec<BareMember>, Credentials)> {
        let authority = Authority::new(dir)?;
        let mut places = Vec::new();
        for member in 0..self.members {
            let name = format!("m{}", member + 1);
            let certificate = authority.issue(&format!("member/{name}"), &[])?;
            let (address, words) = (format!("{}:{PORT}", host(member)), self.words(member));
            places.push(Place { address, words, certificate });
        }
        let credentials = authority.operator()?;
        let data = (1..=self.members).map(|n| dir.join(format!("disk{n}"))).collect::<Vec<_>>();
        data.iter().try_for_each(fs::create_dir_all)?;
        let program = program(program_name);
        ensure!(program.exists(), "{} is not built; use `make histories`", program.display());
        let members = bare::members_at(dir, &data, &program, places, &credentials)?;
        Ok((members, credentials))
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.remove();
    }
}

fn host(member: usize) -> String {
    format!("10.77.0.{}", member + 1)
}

async fn ip(words: &[&str]) -> Result<()> {
    run(Command::new("ip").args(words)).await.map(drop)
}
