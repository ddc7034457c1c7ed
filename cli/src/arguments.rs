//! What may be typed.

use std::path::PathBuf;
use std::time::Duration;

use atoll_api::{CertificateFiles, Credentials};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::allocations::Filter;
use crate::history::Question;
use crate::janitor::Janitor;
use crate::member::Member;
use crate::mirror::Mirror;
use crate::node::Node;
use crate::ovn::Ovn;
use crate::plan::{self, Planned};
use crate::trace::Trace;
use crate::watch::Watch;

/// The command line of the Atoll pod network.
#[derive(Debug, Parser)]
#[command(version, after_help = "Exit status: 0 done, 1 failed, 2 wrong usage, 3 refused.")]
pub(crate) struct Arguments {
    /// Members, as HOST:PORT or unix:PATH, separated by commas.
    #[arg(long, global = true, env = "ATOLL_ENDPOINTS", default_value = "127.0.0.1:7400")]
    pub(crate) endpoints: String,
    /// The authority whose members are trusted (PEM).
    #[arg(long, global = true, env = "ATOLL_CA", value_name = "FILE", conflicts_with = INSECURE)]
    ca: Option<PathBuf>,
    /// Your certificate: an operator's, or a viewer's for looking (PEM).
    #[arg(long, global = true, env = "ATOLL_CERT", value_name = "FILE", conflicts_with = INSECURE)]
    cert: Option<PathBuf>,
    /// Its private key (PEM).
    #[arg(long, global = true, env = "ATOLL_KEY", value_name = "FILE", conflicts_with = INSECURE)]
    key: Option<PathBuf>,
    /// Plaintext to members that run with --insecure-dev. On loopback only.
    #[arg(long, global = true)]
    insecure_dev: bool,
    /// How to print the result.
    #[arg(short, long, global = true, value_enum, default_value = "table")]
    pub(crate) output: Format,
    /// Seconds to wait for an answer.
    #[arg(long, global = true, default_value = "10", value_name = "SECONDS")]
    pub(crate) timeout: u64,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The id of [`Arguments::insecure_dev`].
const INSECURE: &str = "insecure_dev";

impl Arguments {
    /// Who is at the keyboard.
    ///
    /// # Errors
    ///
    /// What is missing, or wrong with the files.
    pub(crate) fn credentials(&self) -> anyhow::Result<Credentials> {
        if self.insecure_dev {
            return Ok(Credentials::insecure_dev());
        }
        let (ca, cert, key) = (self.ca.clone(), self.cert.clone(), self.key.clone());
        let missing = [("ATOLL_CA", &ca), ("ATOLL_CERT", &cert), ("ATOLL_KEY", &key)]
            .into_iter()
            .filter_map(|(name, file)| file.is_none().then_some(name))
            .collect::<Vec<_>>();
        match (ca, cert, key) {
            (Some(ca), Some(cert), Some(key)) => {
                Ok(Credentials::load(&CertificateFiles { ca, cert, key })?)
            }
            _ => anyhow::bail!(
                "who are you? {} not set: members answer only to certificates. Set ATOLL_CA, \
                 ATOLL_CERT and ATOLL_KEY (or --ca, --cert, --key) to the files that `atolld pki \
                 issue --role operator` made",
                match missing.as_slice() {
                    [one] => format!("{one} is"),
                    several => format!("{} are", several.join(" and ")),
                }
            ),
        }
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

/// How to print a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    Table,
    /// More columns.
    Wide,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
    /// KIND/NAME, a line each.
    Name,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Members, leader, active ovn-central and projection.
    #[command(after_help = "Example:\n  atollctl status\n  atollctl status -o json")]
    Status,
    /// Writes a backup of everything that was acknowledged before, to a file that is not there yet.
    /// It is restored with `atolld restore`, checked with `atolld backup-info`.
    #[command(after_help = "Example:\n  atollctl backup atoll-2026-11-23.backup")]
    Backup {
        /// The file.
        file: PathBuf,
    },
    /// Shows subnets, addresses, allocations or nodes.
    #[command(after_help = "Examples:\n  atollctl get subnets\n  atollctl get ips -o wide\n  \
                            atollctl get ip web-0.tenant -o yaml\n  atollctl get nodes\n  \
                            atollctl get allocations --node n1 --state draining\n  \
                            atollctl get alloc --pod tenant/web-0 -o wide\n  \
                            atollctl get alloc --owner StatefulSet/tenant/web\n  \
                            atollctl get alloc --address 10.1.0.5 --at 2026-11-23T15:04:05Z\n  \
                            atollctl get alloc --subnet blue --at 10m")]
    Get(Get),
    /// Creates or changes the objects of manifests (kubeovn.io/v1 Subnet).
    #[command(after_help = "Examples:\n  atollctl create -f subnet.yaml\n  \
                            cat subnets.yaml | atollctl create -f -\n  \
                            atollctl create -f subnet.yaml --wait 30")]
    Create {
        #[command(flatten)]
        files: Files,
        /// Only if it does what `atollctl plan create` showed; then all at once or nothing.
        #[arg(long, value_name = "HASH", value_parser = plan::effect)]
        effect: Option<u128>,
        /// Waits until it is in force on all nodes, and fails if it is not after so many seconds; what
        /// was created stays. At most 60.
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=60))]
        wait: Option<u64>,
    },
    /// Deletes objects, by manifest or by name.
    #[command(after_help = "Examples:\n  atollctl delete subnet blue\n  \
                            atollctl delete subnet blue --when-empty\n  \
                            atollctl delete -f subnet.yaml\n  atollctl delete ip web-0.tenant")]
    Delete {
        #[command(flatten)]
        deletion: Deletion,
        /// Only if it does what `atollctl plan delete` showed; then all at once or nothing.
        #[arg(long, value_name = "HASH", value_parser = plan::effect)]
        effect: Option<u128>,
    },
    /// Shows what a change would do: what differs, the pods that notice, and a hash of the effect.
    #[command(after_help = "Examples:\n  atollctl plan create -f subnet.yaml\n  \
                            atollctl create -f subnet.yaml --effect HASH\n  \
                            atollctl plan delete subnet blue")]
    Plan {
        #[command(subcommand)]
        planned: Planned,
    },
    /// Shows who held an address, or every change of an object.
    #[command(after_help = "Examples:\n  atollctl history address blue 10.1.0.5\n  \
                            atollctl history subnet blue\n  \
                            atollctl history pod tenant/web-0 -o json\n  \
                            atollctl history settings")]
    History(Question),
    /// Shows changes as they happen, a line each (`-o json`: a line of JSON per revision).
    #[command(after_help = "Examples:\n  atollctl watch\n  atollctl watch subnets pods\n  \
                            atollctl watch --node n1\n  \
                            atollctl watch allocations --from 1200 -o json")]
    Watch(Watch),
    /// Checks every invariant of the store's state, on the leader, beside its work.
    #[command(after_help = "Examples:\n  atollctl check\n  atollctl check -o json")]
    Check,
    /// The members of the store.
    #[command(subcommand)]
    Member(Member),
    /// The members' ovn-central, and the projection of the store into it.
    #[command(subcommand)]
    Ovn(Ovn),
    /// What an operator vouches for of a node.
    #[command(subcommand)]
    Node(Node),
    /// What ends pods that nobody reports as gone.
    #[command(subcommand)]
    Janitor(Janitor),
    /// Whose frames are copied to a node's `mirror0`.
    #[command(subcommand)]
    Mirror(Mirror),
    /// Shows what becomes of a packet that a pod sends: what the store's state says, OVN's logical flows
    /// (`ovn-trace`) and the switch of the pod's node (`ofproto/trace`), each with its reason. Exit status 1
    /// if one of them drops it. No packet is sent.
    #[command(after_help = "Examples:\n  atollctl trace shop/web shop/db --tcp 5432\n  \
                            atollctl trace shop/web 203.0.113.9\n  \
                            atollctl trace shop/web shop/db --udp 53 -6 -v\n  \
                            atollctl trace shop/web 10.1.0.9 -o json")]
    Trace(Trace),
}

/// Manifests.
#[derive(Debug, Args)]
pub(crate) struct Files {
    /// A manifest, YAML or JSON, one or more documents; `-` reads standard input.
    #[arg(short = 'f', long = "filename", required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

/// What to delete.
#[derive(Debug, Args)]
pub(crate) struct Deletion {
    /// Manifests whose objects are deleted.
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) target: Target,
    /// A subnet that is in use goes when its last user goes, and takes no new ones.
    #[arg(long)]
    pub(crate) when_empty: bool,
}

/// Objects by name.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// What kind of object.
    #[arg(value_enum, requires = "name", required_unless_present = "files")]
    pub(crate) kind: Option<Kind>,
    /// Its name.
    pub(crate) name: Option<String>,
}

/// What to show.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// What kind of object.
    #[arg(value_enum)]
    pub(crate) kind: Kind,
    /// Only this one.
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) filter: Filter,
}

/// Kinds of objects, as kubectl spells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Subnets.
    #[value(alias = "subnet")]
    Subnets,
    /// Allocated addresses.
    #[value(alias = "ip")]
    Ips,
    /// Nodes.
    #[value(alias = "node")]
    Nodes,
    /// Rates of pods.
    #[value(alias = "qosspec", alias = "qosspecs")]
    Qos,
    /// Allocated addresses with their owners, and those that are kept, drain or cool.
    #[value(alias = "allocation", alias = "alloc")]
    Allocations,
}
