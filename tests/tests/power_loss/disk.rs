//! A disk that can lose its power: ext4 on a file, by a loop device.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;

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

/// Where the disks are mounted: a mount namespace that nobody else sees. Somebody who makes a
/// namespace of his own copies every mount that he sees, and a copied mount keeps the file system
/// alive, so that the power could not come back. It ends with its last owner, and all mounts
/// with it, also after a panic.
#[derive(Debug)]
pub(crate) struct Room {
    /// Holds the namespace.
    holder: std::process::Child,
}

impl Room {
    pub(crate) fn new() -> Result<Self> {
        let mut holder = Command::new("unshare");
        holder.args(["--mount", "--propagation", "private"]);
        // The word says that the namespace is there; the holder ends with this process.
        holder.args(["setpriv", "--pdeathsig", "KILL", "sh", "-c", "echo; exec sleep infinity"]);
        let holder = holder.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut room = Self { holder: holder.context("cannot run unshare")? };
        let mut said = room.holder.stdout.take().context("no standard output")?;
        said.read_exact(&mut [0]).context("no mount namespace")?;
        Ok(room)
    }

    /// The words to put before a program that is to run in it.
    pub(crate) fn words(&self) -> [String; 4] {
        let pid = self.holder.id().to_string();
        ["nsenter".to_owned(), "-m".to_owned(), "-t".to_owned(), pid]
    }

    /// A path in it, seen from outside.
    pub(crate) fn seen(&self, path: &Path) -> PathBuf {
        let inside = path.strip_prefix("/").unwrap_or(path);
        PathBuf::from(format!("/proc/{}/root", self.holder.id())).join(inside)
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let [nsenter, words @ ..] = self.words();
        let mut command = Command::new(nsenter);
        command.args(words).arg(program).args(args).stdin(Stdio::null());
        command
    }

    fn run(&self, program: &str, args: &[&str]) -> Result<()> {
        let output = self.command(program, args).output();
        let output = output.with_context(|| format!("cannot run {program}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program} {}: {said}", args.join(" "));
        Ok(())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A disk of a room.
#[derive(Debug)]
pub(crate) struct Disk {
    image: PathBuf,
    mounted_on: PathBuf,
    room: Rc<Room>,
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the paths of these tests are text")
}

impl Disk {
    pub(crate) fn new(room: &Rc<Room>, dir: &Path, name: &str) -> Result<Self> {
        let image = dir.join(format!("{name}.img"));
        std::fs::File::create(&image)?.set_len(BYTES)?;
        room.run("mkfs.ext4", &["-q", "-F", text(&image)])?;
        let disk = Self { image, mounted_on: dir.join(name), room: room.clone() };
        std::fs::create_dir_all(&disk.mounted_on)?;
        disk.mount()?;
        Ok(disk)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.mounted_on
    }

    /// The first mount after a power cut replays the journal.
    fn mount(&self) -> Result<()> {
        self.room.run("mount", &["-o", "loop", text(&self.image), text(&self.mounted_on)])
    }

    /// What its power comes back to.
    pub(crate) fn power_on(&self) -> Result<()> {
        self.room.run("umount", &[text(&self.mounted_on)])?;
        self.mount()
    }

    /// Somebody else takes all the space there is but so many MiB, into `file`.
    pub(crate) fn fill(&self, file: &str, left_mib: u64) -> Result<()> {
        let fill = format!(
            "free=$(df --output=avail -B1M {} | tail -1) && fallocate -l $((free - {left_mib}))M {}",
            text(&self.mounted_on),
            text(&self.mounted_on.join(file))
        );
        self.room.run("sh", &["-c", &fill])
    }

    pub(crate) fn make_space(&self, file: &str) -> Result<()> {
        self.room.run("rm", &[text(&self.mounted_on.join(file))])
    }

    pub(crate) fn thaw(&self) -> Result<()> {
        self.room.run("fsfreeze", &["-u", text(&self.mounted_on)])
    }
}

/// Nothing is written any more, and whoever writes waits. On all disks at the same moment.
pub(crate) fn freeze_all(disks: &[Disk]) -> Result<()> {
    let freeze =
        |disk: &Disk| disk.room.command("fsfreeze", &["-f", text(&disk.mounted_on)]).spawn();
    let freezing = disks.iter().map(freeze).collect::<std::io::Result<Vec<_>>>()?;
    for mut child in freezing {
        ensure!(child.wait()?.success(), "a disk cannot be frozen");
    }
    Ok(())
}

/// The switch of several disks.
#[derive(Debug)]
pub(crate) struct Switch {
    child: Child,
    told: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
}

impl Switch {
    pub(crate) async fn of(room: &Room, disks: &[Disk]) -> Result<Self> {
        let mut command = tokio::process::Command::from(room.command("perl", &["-e", CUT]));
        command.args(disks.iter().map(Disk::path));
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
