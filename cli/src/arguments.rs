//! What may be typed.

use std::path::PathBuf;
use std::time::Duration;

use atoll_api::{CertificateFiles, Credentials};
use clap::{Args, Parser, Subcommand, ValueEnum};

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
    /// Shows subnets, addresses or nodes.
    #[command(after_help = "Examples:\n  atollctl get subnets\n  atollctl get ips -o wide\n  \
                            atollctl get ip web-0.tenant -o yaml\n  atollctl get nodes")]
    Get(Get),
    /// Creates or changes the objects of manifests (kubeovn.io/v1 Subnet).
    #[command(after_help = "Examples:\n  atollctl create -f subnet.yaml\n  \
                            cat subnets.yaml | atollctl create -f -")]
    Create {
        /// A manifest, YAML or JSON, one or more documents; `-` reads standard input.
        #[arg(short = 'f', long = "filename", required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Deletes objects, by manifest or by name.
    #[command(after_help = "Examples:\n  atollctl delete subnet blue\n  \
                            atollctl delete -f subnet.yaml\n  atollctl delete ip web-0.tenant")]
    Delete {
        /// Manifests whose objects are deleted.
        #[arg(short = 'f', long = "filename", value_name = "FILE")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        target: Target,
    },
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
    /// Only addresses of this subnet.
    #[arg(long)]
    pub(crate) subnet: Option<String>,
    /// Only addresses on this node.
    #[arg(long)]
    pub(crate) node: Option<String>,
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
}
