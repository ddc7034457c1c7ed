//! A copy of the state machine's crates that may be broken.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, bail, ensure};

use crate::table::Edit;

/// What is copied: the crates, and what cargo needs to know of them.
const COPIED: &[&str] = &["ipam", "store", "Cargo.lock", "rust-toolchain.toml"];

/// The members of the copy's workspace.
const MEMBERS: &str = r#"members = ["ipam", "store/model", "store/codec", "store"]"#;

/// How long one run of tests may take. A mutant that hangs is not killed, it is a nuisance.
const RUN_SECONDS: &str = "600";

/// What became of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    Failed,
    /// No test has that name.
    Missing,
}

/// The copy.
pub(crate) struct Tree {
    root: PathBuf,
}

/// Files that are broken until this goes away.
#[must_use]
pub(crate) struct Mutated {
    originals: Vec<(PathBuf, String)>,
}

impl Drop for Mutated {
    fn drop(&mut self) {
        for (path, text) in self.originals.iter().rev() {
            // A copy that cannot be mended is mended by the next `Tree::copy`.
            let _ = fs::write(path, text);
        }
    }
}

impl Tree {
    /// Makes the copy like the workspace. What is the same already keeps its time, so that cargo
    /// builds only what has changed.
    pub(crate) fn copy() -> anyhow::Result<Self> {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
        let root = workspace.join("target/mutants/tree");
        for name in COPIED {
            copy(&workspace.join(name), &root.join(name))?;
        }
        let manifest = fs::read_to_string(workspace.join("Cargo.toml"))?;
        let (before, rest) = manifest.split_once("members = [").context("no members")?;
        let (_, after) = rest.split_once("]\n").context("members without an end")?;
        write_if_other(&root.join("Cargo.toml"), &format!("{before}{MEMBERS}\n{after}"))?;
        Ok(Self { root })
    }

    /// The file of an edit, as it is and as it would be.
    pub(crate) fn mutated(&self, edit: &Edit) -> anyhow::Result<(PathBuf, String, String)> {
        let path = self.root.join(edit.file);
        let text = fs::read_to_string(&path).with_context(|| edit.file.to_owned())?;
        let found = text.matches(edit.from).count();
        ensure!(found == 1, "{}: found {found} times, not once: {:?}", edit.file, edit.from);
        let mutated = text.replacen(edit.from, edit.to, 1);
        Ok((path, text, mutated))
    }

    /// Breaks the copy until the answer is dropped.
    pub(crate) fn mutate(&self, edits: &[Edit]) -> anyhow::Result<Mutated> {
        let mut mutated = Mutated { originals: Vec::new() };
        for edit in edits {
            let (path, text, broken) = self.mutated(edit)?;
            mutated.originals.push((path.clone(), text));
            fs::write(path, broken)?;
        }
        Ok(mutated)
    }

    /// A mutant that does not compile shows nothing.
    pub(crate) fn compile(&self, krate: &str) -> anyhow::Result<()> {
        let output = self.cargo(krate, &["--no-run"], &[])?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "does not compile:\n{errors}");
        Ok(())
    }

    /// Runs the tests of these very names.
    pub(crate) fn test<'a>(
        &self,
        krate: &str,
        names: &[&'a str],
    ) -> anyhow::Result<Vec<(&'a str, Verdict)>> {
        let mut args = vec!["--exact"];
        args.extend(names);
        let output = self.cargo(krate, &[], &args)?;
        if output.status.code() == Some(124) {
            bail!("hangs: not done after {RUN_SECONDS} s");
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let verdict = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.strip_prefix("test "));
            let own = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(" ... "));
            match own {
                Some("ok") => Verdict::Passed,
                Some("FAILED") => Verdict::Failed,
                _ => Verdict::Missing,
            }
        };
        Ok(names.iter().map(|&name| (name, verdict(name))).collect())
    }

    fn cargo(&self, krate: &str, args: &[&str], of_tests: &[&str]) -> anyhow::Result<Output> {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        let mut command = Command::new("timeout");
        command.args([RUN_SECONDS, &cargo, "test", "--offline", "-p", krate, "--lib"]);
        command.args(args).arg("--").args(of_tests);
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", self.root.join("../target"));
        // What is red shall be so quickly; how small it can be made does not matter.
        command.env("ATOLL_SHRINKS", "0").env("PROPTEST_MAX_SHRINK_ITERS", "0");
        command.env("RUST_BACKTRACE", "0").env_remove("ATOLL_SEQUENCES");
        command.output().context("timeout, of coreutils, and cargo")
    }
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(to)? {
            let name = entry?.file_name();
            if !from.join(&name).exists() {
                let gone = to.join(name);
                if gone.is_dir() { fs::remove_dir_all(gone)? } else { fs::remove_file(gone)? }
            }
        }
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            copy(&from.join(&name), &to.join(&name))?;
        }
        return Ok(());
    }
    let bytes = fs::read(from).with_context(|| from.display().to_string())?;
    if fs::read(to).ok().as_ref() != Some(&bytes) {
        fs::write(to, bytes)?;
    }
    Ok(())
}

fn write_if_other(path: &Path, text: &str) -> anyhow::Result<()> {
    if fs::read_to_string(path).ok().as_deref() != Some(text) {
        fs::write(path, text)?;
    }
    Ok(())
}
