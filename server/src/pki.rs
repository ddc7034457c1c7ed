//! `atolld pki`: the cluster's authority, and the certificates that it issues.
//!
//! Nothing is ever overwritten, so a command that is given twice is refused the second time and
//! changes nothing. Files belong to whoever runs the command and nobody else may read them.

use std::io::Write;
use std::path::{Path, PathBuf};

use atoll_api::identity::{Identity, IdentityError};
use atoll_api::pki::{
    Authority, DAYS_DEFAULT, Description, Pair, PkiError as MakeError, WriteError, describe,
    write_new, write_pair,
};
use clap::{Args, Subcommand, ValueEnum};

/// The authority's certificate and key, below its directory.
const CA_CERT: &str = "ca.crt";
const CA_KEY: &str = "ca.key";

/// What may be asked of `atolld pki`.
#[derive(Debug, Subcommand)]
pub enum Pki {
    /// Makes the cluster's authority: ca.crt, and ca.key, which signs and should be kept away from
    /// members and nodes. Refused if there is one.
    #[command(after_help = "Example:\n  atolld pki init --dir /etc/atoll/ca")]
    Init(Init),
    /// Makes a key and a certificate for one process or person: tls.key, tls.crt and ca.crt.
    /// Refused if they are there.
    #[command(after_help = "Examples:\n  \
        atolld pki issue --dir /etc/atoll/ca --role member --name m1 --out /etc/atoll/tls\n  \
        atolld pki issue --dir /etc/atoll/ca --role operator --name alice --out ~/.atoll")]
    Issue(Issue),
    /// Prints whose a certificate is and how long it is valid.
    #[command(after_help = "Example:\n  atolld pki show /etc/atoll/tls/tls.crt")]
    Show {
        /// The certificate (PEM).
        file: PathBuf,
    },
}

/// `init`
#[derive(Debug, Args)]
pub struct Init {
    /// Where the authority is kept; made if it is not there.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// What the authority is called in messages.
    #[arg(long, default_value = "atoll")]
    name: String,
}

/// `issue`
#[derive(Debug, Args)]
pub struct Issue {
    /// Where the authority is kept: ours, or ca.crt and ca.key of another one.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// What the certificate allows.
    #[arg(long, value_enum)]
    role: RoleName,
    /// Whose it is: the member's, node's, person's or program's name.
    #[arg(long)]
    name: String,
    /// A host name or address for tools that compare them; Atoll itself does not. Repeatable.
    #[arg(long = "address", value_name = "HOST")]
    addresses: Vec<String>,
    /// How many days it is valid.
    #[arg(long, default_value_t = DAYS_DEFAULT, value_parser = clap::value_parser!(u32).range(1..))]
    days: u32,
    /// Where the files go; made if it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Roles, as they are typed.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleName {
    /// A member of the store.
    Member,
    /// A node's agent; the name is the node's.
    Node,
    /// Changes everything that people change.
    Operator,
    /// Reads everything.
    Viewer,
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file would have been overwritten; nothing was changed.
    #[error(
        "{0} is there already, and nothing is overwritten; use another directory, or remove it"
    )]
    ThereAlready(PathBuf),
    /// A file or directory.
    #[error("cannot {action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// There is no authority.
    #[error("there is no authority in {0}: make one with atolld pki init --dir {0}")]
    NoAuthority(PathBuf),
    /// No identity of that role can have that name.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// What was asked for cannot be made.
    #[error(transparent)]
    Usage(MakeError),
    /// A file's content.
    #[error("{0}")]
    Content(PathBuf, #[source] MakeError),
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Standard output.
    #[error("cannot print")]
    Print(#[from] std::io::Error),
}

impl Pki {
    /// Carries the command out; results go to `out`.
    ///
    /// # Errors
    ///
    /// [`PkiError`]; after [`PkiError::ThereAlready`] nothing was changed.
    pub fn run(&self, out: &mut impl Write) -> Result<(), PkiError> {
        match self {
            Self::Init(init) => init.run(out),
            Self::Issue(issue) => issue.run(out),
            Self::Show { file } => show(file, out),
        }
    }
}

impl Init {
    fn run(&self, out: &mut impl Write) -> Result<(), PkiError> {
        let (cert, key) = (self.dir.join(CA_CERT), self.dir.join(CA_KEY));
        keep(&[&cert, &key])?;
        make_dir(&self.dir)?;
        let pair = Authority::create(&self.name).map_err(PkiError::Usage)?;
        // The key first: a certificate that is there has its key.
        write_new(&key, &pair.key)?;
        write_new(&cert, &pair.cert)?;
        writeln!(out, "{}: the cluster's authority", cert.display())?;
        writeln!(out, "{}: its key; whoever has it can be anybody", key.display())?;
        Ok(())
    }
}

impl Issue {
    fn run(&self, out: &mut impl Write) -> Result<(), PkiError> {
        let identity = self.identity()?;
        let authority = self.authority()?;
        let there = ["tls.key", "tls.crt", CA_CERT].map(|name| self.out.join(name));
        keep(&[&there[0], &there[1], &there[2]])?;
        make_dir(&self.out)?;
        let pair = authority.issue(&identity, &self.addresses, self.days);
        let pair = pair.map_err(PkiError::Usage)?;
        let files = write_pair(&self.out, authority.cert(), &pair)?;
        let days = self.days;
        writeln!(out, "{}: {identity}, valid for {days} days", files.cert.display())?;
        writeln!(out, "{}: its key", files.key.display())?;
        writeln!(out, "{}: the authority that it trusts", files.ca.display())?;
        Ok(())
    }

    fn identity(&self) -> Result<Identity, IdentityError> {
        let role = match self.role {
            RoleName::Member => "member",
            RoleName::Node => "node",
            RoleName::Operator => "operator",
            RoleName::Viewer => "viewer",
        };
        format!("{role}/{}", self.name).parse()
    }

    fn authority(&self) -> Result<Authority, PkiError> {
        let (cert, key) = (self.dir.join(CA_CERT), self.dir.join(CA_KEY));
        if !cert.exists() {
            return Err(PkiError::NoAuthority(self.dir.clone()));
        }
        let pair = Pair { cert: read(&cert)?, key: read(&key)? };
        Authority::open(&pair).map_err(|error| PkiError::Content(self.dir.clone(), error))
    }
}

fn show(file: &Path, out: &mut impl Write) -> Result<(), PkiError> {
    let text = read(file)?;
    let said = describe(&text).map_err(|error| PkiError::Content(file.to_owned(), error))?;
    let Description { issuer, not_before, not_after, .. } = &said;
    let whose = match (&said.identity, said.is_authority) {
        (Some(identity), _) => identity.to_string(),
        (None, true) => format!("authority {}", said.subject),
        (None, false) => format!("nobody that Atoll knows ({})", said.subject),
    };
    let now = if said.is_valid_now { "valid now" } else { "NOT valid now" };
    writeln!(out, "identity:   {whose}")?;
    writeln!(out, "authority:  {issuer}")?;
    writeln!(out, "valid from: {not_before}")?;
    writeln!(out, "valid to:   {not_after} ({now})")?;
    if !said.addresses.is_empty() {
        writeln!(out, "addresses:  {}", said.addresses.join(", "))?;
    }
    Ok(())
}

/// Refuses before anything is made if one of the files is there.
fn keep(files: &[&Path]) -> Result<(), PkiError> {
    match files.iter().find(|path| path.symlink_metadata().is_ok()) {
        Some(path) => Err(PkiError::ThereAlready(path.to_path_buf())),
        None => Ok(()),
    }
}

fn make_dir(dir: &Path) -> Result<(), PkiError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|source| PkiError::File { action: "make", path: dir.to_owned(), source })
}

fn read(path: &Path) -> Result<String, PkiError> {
    let read = std::fs::read_to_string(path);
    read.map_err(|source| PkiError::File { action: "read", path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use atoll_api::{CertificateFiles, Credentials};
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(subcommand)]
        pki: Pki,
    }

    /// What a command printed, or why it failed.
    fn run(dir: &Path, typed: &str) -> Result<String, String> {
        let dir = dir.display().to_string();
        let words = ["pki".to_owned()].into_iter();
        let typed = words.chain(typed.split(' ').map(|word| word.replace("DIR", &dir)));
        let typed = Typed::try_parse_from(typed).map_err(|error| error.to_string())?;
        let mut out = Vec::new();
        typed.pki.run(&mut out).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn what_is_issued_is_what_a_process_loads_and_only_its_owner_reads() {
        let dir = tempfile::tempdir().unwrap();
        let said = run(dir.path(), "init --dir DIR/ca").unwrap();
        assert!(said.contains("ca/ca.key: its key; whoever has it can be anybody"), "{said}");
        let issue = "issue --dir DIR/ca --role member --name m1 --address 10.0.0.1 --out DIR/m1";
        let said = run(dir.path(), issue).unwrap();
        assert!(said.contains("tls.crt: member/m1, valid for 365 days"), "{said}");
        let files = CertificateFiles::in_dir(&dir.path().join("m1"));
        let credentials = Credentials::load(&files).unwrap();
        assert_eq!(credentials.identity().unwrap().to_string(), "member/m1");
        for file in ["ca/ca.crt", "ca/ca.key", "m1/ca.crt", "m1/tls.crt", "m1/tls.key"] {
            let mode = dir.path().join(file).metadata().unwrap().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        let said = run(dir.path(), "show DIR/m1/tls.crt").unwrap();
        assert!(said.contains("identity:   member/m1\n"), "{said}");
        assert!(said.contains("(valid now)") && said.contains("addresses:  10.0.0.1"), "{said}");
        let said = run(dir.path(), "show DIR/ca/ca.crt").unwrap();
        assert!(said.contains("identity:   authority CN=atoll\n"), "{said}");
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), "init --dir DIR/ca").unwrap();
        let issue = "issue --dir DIR/ca --role node --name n1 --out DIR/n1";
        run(dir.path(), issue).unwrap();
        let all = || {
            ["ca/ca.key", "ca/ca.crt", "n1/tls.key", "n1/tls.crt", "n1/ca.crt"]
                .map(|file| std::fs::read(dir.path().join(file)).unwrap())
        };
        let before = all();
        assert!(
            run(dir.path(), "init --dir DIR/ca").unwrap_err().contains("ca.crt is there already")
        );
        assert!(run(dir.path(), issue).unwrap_err().contains("tls.key is there already"));
        assert_eq!(all(), before);
        // Half of an authority is none, and is not completed with another half.
        std::fs::remove_file(dir.path().join("ca/ca.crt")).unwrap();
        assert!(
            run(dir.path(), "init --dir DIR/ca").unwrap_err().contains("ca.key is there already")
        );
    }

    #[test]
    fn what_cannot_be_issued_says_why_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let issue = |rest: &str| {
            run(dir.path(), &format!("issue --dir DIR/ca --out DIR/out {rest}")).unwrap_err()
        };
        let said = issue("--role node --name n1");
        assert!(said.contains("there is no authority in") && said.contains("atolld pki init"));
        run(dir.path(), "init --dir DIR/ca").unwrap();
        assert!(issue("--role node --name N_1").contains("\"node/N_1\" is no identity"));
        assert!(issue("--role root --name x").contains("invalid value 'root'"));
        assert!(issue("--role viewer --name v --days 0").contains("0 is not in 1.."));
        assert!(issue("--role viewer --name v --days 9999").contains("the authority itself"));
        let key = dir.path().join("ca/ca.key");
        std::fs::remove_file(&key).unwrap();
        run(dir.path(), "init --dir DIR/other").unwrap();
        std::fs::copy(dir.path().join("other/ca.key"), &key).unwrap();
        let authority = Issue {
            dir: dir.path().join("ca"),
            role: RoleName::Viewer,
            name: "v".to_owned(),
            addresses: Vec::new(),
            days: 1,
            out: dir.path().join("out"),
        };
        let error = anyhow::Error::new(authority.run(&mut Vec::new()).unwrap_err());
        assert!(format!("{error:#}").contains("is not the key of the authority's certificate"));
        assert!(!dir.path().join("out/tls.key").exists());
        std::fs::write(dir.path().join("text"), "hello").unwrap();
        let error = show(&dir.path().join("text"), &mut Vec::new()).unwrap_err();
        assert!(format!("{:#}", anyhow::Error::new(error)).contains("no certificate in PEM form"));
    }
}
