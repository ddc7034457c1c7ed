//! A disk that can lose its power: ext4 on a file, by a loop device.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

/// Sparse: only what is written takes space.
const BYTES: u64 = 1 << 30;

/// Shuts the file systems in its arguments down when it is told to: what was not yet given to
/// their devices is lost, the journal included, as `EXT4_GOING_FLAGS_NOLOGFLUSH` says. Perl,
/// because an ioctl is not safe Rust.
const CUT: &str = r#"
    $| = 1;
    for (@ARGV) { open(my $fs, "<", $_) or die "$_: $!\n"; push @all, $fs }
    print "ready\n";
    <STDIN>;
    for (@all) { my $flags = pack("L", 2); ioctl($_, 0x8004587D, $flags) or die "$!\n" }
    print "cut\n";
"#;

/// Unmounted and removed with its last owner.
#[derive(Debug)]
pub(crate) struct Disk {
    image: PathBuf,
    mounted_on: PathBuf,
}

pub(crate) fn run(program: &str, args: &[&str]) -> Result<()> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {said}", args.join(" "));
    Ok(())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the paths of these tests are text")
}

impl Disk {
    pub(crate) fn new(dir: &Path, name: &str) -> Result<Self> {
        let image = dir.join(format!("{name}.img"));
        std::fs::File::create(&image)?.set_len(BYTES)?;
        run("mkfs.ext4", &["-q", "-F", text(&image)])?;
        let disk = Self { image, mounted_on: dir.join(name) };
        std::fs::create_dir_all(&disk.mounted_on)?;
        disk.mount()?;
        Ok(disk)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.mounted_on
    }

    /// The first mount after a power cut replays the journal.
    fn mount(&self) -> Result<()> {
        run("mount", &["-o", "loop", text(&self.image), text(&self.mounted_on)])
    }

    /// What its power comes back to.
    pub(crate) fn power_on(&self) -> Result<()> {
        run("umount", &[text(&self.mounted_on)])?;
        self.mount()
    }

    /// Nothing is written any more, and whoever writes waits.
    pub(crate) fn freeze(&self) -> Result<()> {
        run("fsfreeze", &["-f", text(&self.mounted_on)])
    }

    pub(crate) fn thaw(&self) -> Result<()> {
        run("fsfreeze", &["-u", text(&self.mounted_on)])
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Frozen or in use only after a panic in the middle of a round.
        let _ = self.thaw();
        let path = text(&self.mounted_on);
        if let Err(error) = run("umount", &[path]).or_else(|_| run("umount", &["-l", path])) {
            eprintln!("{path} stays mounted: {error:#}");
        }
        let _ = std::fs::remove_file(&self.image);
    }
}

/// The switch of several disks.
#[derive(Debug)]
pub(crate) struct Switch {
    child: Child,
    told: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
}

impl Switch {
    pub(crate) async fn of(disks: &[Disk]) -> Result<Self> {
        let mut command = tokio::process::Command::new("perl");
        command.arg("-e").arg(CUT).args(disks.iter().map(Disk::path));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("cannot run perl")?;
        let told = child.stdin.take().context("no standard input")?;
        let said = BufReader::new(child.stdout.take().context("no standard output")?).lines();
        let mut switch = Self { child, told, said };
        switch.hears("ready").await?;
        Ok(switch)
    }

    /// Cuts the power of all disks, one right after the other.
    pub(crate) async fn cut(mut self) -> Result<()> {
        self.told.write_all(b"\n").await?;
        self.hears("cut").await?;
        self.child.wait().await?;
        Ok(())
    }

    async fn hears(&mut self, word: &str) -> Result<()> {
        let said = self.said.next_line().await?;
        ensure!(said.as_deref() == Some(word), "the switch said {said:?}, not {word:?}");
        Ok(())
    }
}
