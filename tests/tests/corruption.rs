//! A bit flipped, a byte cut, a file removed, in every region of a member's disk: it stops and
//! says where and what to do, or rebuilds what it lost and says so, or nothing is different. It
//! never answers something else.
//!
//! Says what it saw in the report `corruption`; `make corruption`.

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]
#![allow(clippy::print_stdout, reason = "the table is for people too")]

#[path = "corruption/refill.rs"]
mod refill;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use atoll_api::proto::history_request::Of;
use atoll_api::proto::{AddressQuery, HistoryRequest, Interval};
use atoll_api::{Client, WatchEvent};
use atoll_model::{
    ChangeSet, Labels, MemberName, NodeSpec, Object, Operation, PodKey, PodRequest, PodSpec,
    Revision, Txn,
};
use atoll_tests::bare::{self, BareMember};
use atoll_tests::people::program;
use atoll_tests::report::{Report, Target};
use atoll_tests::wait::wait_until;

/// Bytes of a frame of the log, and where its fields are.
const FRAME: usize = 512;
const FRAME_FIELDS: [(&str, usize); 6] =
    [("checksum", 0), ("part", 4), ("parts", 8), ("segment", 12), ("batch", 20), ("payload", 40)];

/// Fields of a snapshot's head.
const SNAPSHOT_FIELDS: [(&str, usize); 6] = [
    ("magic", 0),
    ("format", 8),
    ("head length", 12),
    ("body length", 16),
    ("checksum", 24),
    ("head", 30),
];

const ADDRESS: &str = "10.16.0.50";

/// What a member answers.
#[derive(Debug, PartialEq)]
struct Told {
    revision: Revision,
    objects: Vec<Object>,
    /// `None` if it says that it does not know them all.
    history: Option<(Vec<ChangeSet>, Vec<Interval>)>,
}

/// What became of a damaged disk.
#[derive(Debug)]
enum Verdict {
    /// The member does not start.
    Stops(String),
    /// It has lost history, says so, and answers nothing wrong.
    HistoryLost,
    /// Nothing is different.
    Same,
    /// This must not be.
    Wrong(String),
}

impl Verdict {
    fn name(&self) -> &'static str {
        match self {
            Self::Stops(_) => "stops",
            Self::HistoryLost => "rebuilds the history",
            Self::Same => "nothing is different",
            Self::Wrong(_) => "WRONG",
        }
    }
}

/// Small segments, frequent snapshots, and an election that is over at once.
const SMALL: [(&str, &str); 5] = [
    ("ATOLL_SEGMENT_BYTES", "32768"),
    ("ATOLL_SNAPSHOT_EVERY", "150"),
    ("ATOLL_LOG_KEEP", "120"),
    ("ATOLL_HEARTBEAT_MS", "10"),
    ("ATOLL_ELECTION_MS", "40"),
];

fn member(dir: &Path, data_dir: &Path) -> Result<Vec<BareMember>> {
    let program = program("atolld-mutant");
    ensure!(program.exists(), "{} is not built; use `make corruption`", program.display());
    let mut members = bare::members(dir, &[data_dir.to_owned()], &program)?;
    SMALL.iter().for_each(|(name, value)| members[0].set(name, value));
    members[0].start()?;
    Ok(members)
}

/// A disk with several segments, a snapshot, and a history of changes and of owners.
async fn make_disk(dir: &Path) -> Result<PathBuf> {
    let data_dir = dir.join("data");
    let mut members = member(dir, &data_dir)?;
    bare::ready(&members).await?;
    let client = bare::client(&members, Duration::from_secs(10))?;
    fill(&client).await?;
    let snapshots = data_dir.join("snapshot");
    wait_until(Duration::from_secs(20), "a snapshot and a purge", async || {
        ensure!(files_in(&snapshots)?.iter().any(|it| it.extension().is_some_and(|e| e == "snap")));
        let first = data_dir.join("wal/0000000000000001.seg");
        if first.exists() { bail!("nothing was purged") } else { Ok(()) }
    })
    .await?;
    members[0].kill().await?;
    finish_purge(&data_dir)?;
    Ok(data_dir)
}

/// Removes the segments that were purged already when the kill came: without them the log is the
/// same, so that their loss would not be a damage.
fn finish_purge(data_dir: &Path) -> Result<()> {
    let name = MemberName::new("m1")?;
    let all = atoll_raft::inspect_log(data_dir, &name)?;
    loop {
        let without = data_dir.with_file_name("without");
        copy_tree(data_dir, &without)?;
        let oldest = files_in(&without.join("wal"))?.into_iter().find(|it| is_segment(it));
        let oldest = oldest.context("a segment")?;
        fs::remove_file(&oldest)?;
        let is_purged = atoll_raft::inspect_log(&without, &name).is_ok_and(|left| left == all);
        fs::remove_dir_all(&without)?;
        if !is_purged {
            return Ok(());
        }
        fs::remove_file(data_dir.join("wal").join(oldest.file_name().context("a name")?))?;
    }
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "seg")
}

/// Several segments' worth of changes, and an address that many held.
async fn fill(client: &Client) -> Result<()> {
    client.txn(vec![], vec![node()]).await?;
    for number in 0..400_u32 {
        let labels = Labels::from([("n".to_owned(), "x".repeat((number % 60) as usize + 1))]);
        let namespace = format!("ns-{}", number % 40).parse()?;
        let mut operations = vec![Operation::PutNamespace(namespace, labels)];
        if number > 0 && number % 40 == 10 {
            operations.push(pod(number));
        }
        if number > 0 && number % 40 == 20 {
            let key = PodKey::parse(&format!("ns-0/p{}", number - 10))?;
            operations.push(Operation::DeletePod(key, format!("u{}", number - 10).parse()?));
        }
        client.txn(vec![], operations).await?;
    }
    Ok(())
}

fn node() -> Operation {
    Operation::PutNode(NodeSpec {
        name: "n1".parse().unwrap(),
        uid: "uid-of-n1".parse().unwrap(),
        addresses: vec!["172.31.0.1".parse().unwrap()],
        labels: Labels::new(),
    })
}

fn pod(number: u32) -> Operation {
    let mut request = PodRequest::default();
    request.addresses.set(ADDRESS.parse().unwrap());
    let key = PodKey::parse(&format!("ns-0/p{number}")).unwrap();
    let uid = format!("u{number}").parse().unwrap();
    Operation::PutPod(PodSpec { request, ..PodSpec::new(key, uid, "n1".parse().unwrap()) })
}

fn files_in(dir: &Path) -> Result<Vec<PathBuf>> {
    let listed = fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    let mut paths = listed.map(|it| Ok(it?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for path in files_in(from)? {
        let target = to.join(path.file_name().context("a name")?);
        if path.is_dir() {
            copy_tree(&path, &target)?
        } else {
            fs::copy(&path, target).map(|_| ())?
        }
    }
    Ok(())
}

/// All that a running member tells of what happened up to `last`.
async fn hear(member: &BareMember, last: Revision) -> Result<Told> {
    let client = member.client(Duration::from_secs(5))?;
    let state = wait_until(PATIENCE, "the state", async || {
        let mut watch = client.watch(None);
        let WatchEvent::Resync(lineage, objects) = watch.next().await else { bail!("no state") };
        ensure!(lineage.revision >= last, "it is at {}", lineage.revision);
        Ok((lineage, objects))
    });
    let (lineage, objects) = state.await?;
    let revision = lineage.revision;
    let mut watch = client.watch(Some((lineage.cluster.to_string(), Revision(1))));
    let mut changes: Vec<ChangeSet> = Vec::new();
    let mut history = None;
    // What it cannot tell it says by a full state, or by an error.
    while let WatchEvent::Changes(set) = watch.next().await {
        let is_last = set.revision >= last;
        changes.push(set);
        if is_last {
            let of =
                AddressQuery { subnet: "ovn-default".into(), address: vec![10, 16, 0, 50].into() };
            let request = HistoryRequest { of: Some(Of::Address(of)), stale: true };
            let held = client.history(request).await;
            history = held.ok().map(|held| (changes, held.intervals));
            break;
        }
    }
    Ok(Told { revision, objects, history })
}

/// Longer than a healthy member needs for anything here.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a member says aloud when it has lost history: all of it, or what came last.
const SAID: [&str; 2] = ["is no longer known on this member", "are not known here"];

/// Bytes of a file that are damaged, `ATOLL_CORRUPTION_SAMPLES`.
const SAMPLES: usize = 6;

fn samples() -> usize {
    let told = std::env::var("ATOLL_CORRUPTION_SAMPLES").ok().and_then(|text| text.parse().ok());
    told.unwrap_or(SAMPLES)
}

/// Starts a member on a damaged disk.
async fn judge(dir: &Path, data_dir: &Path, expected: &Told) -> Result<Verdict> {
    let mut member = member(dir, data_dir)?.remove(0);
    let told = async {
        tokio::select! {
            told = hear(&member, expected.revision) => Some(told),
            () = gone(member.pid()) => None,
        }
    };
    let told = told.await;
    let verdict = match told {
        None => {
            let ended = member.ended(PATIENCE).await?;
            match ended.code() {
                Some(1) => Verdict::Stops(member.last_line()),
                _ => Verdict::Wrong(format!("{ended}: {}", member.log())),
            }
        }
        Some(Err(error)) => Verdict::Wrong(format!("{error:#}")),
        Some(Ok(told)) if told.objects != expected.objects => {
            Verdict::Wrong("another state".into())
        }
        Some(Ok(told)) if told.history == expected.history => Verdict::Same,
        Some(Ok(told)) if told.history.is_none() => {
            match SAID.iter().any(|said| member.log().contains(said)) {
                true => Verdict::HistoryLost,
                false => {
                    Verdict::Wrong(format!("history is lost, and it is not said: {}", member.log()))
                }
            }
        }
        Some(Ok(_)) => Verdict::Wrong("another history".to_owned()),
    };
    member.kill().await?;
    Ok(verdict)
}

/// Ends with a process.
async fn gone(pid: Option<u32>) {
    let stat = format!("/proc/{}/stat", pid.unwrap_or_default());
    // A zombie has ended.
    while fs::read_to_string(&stat).is_ok_and(|text| !text.contains(") Z ")) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// One way to damage a disk.
#[derive(Debug, Clone)]
struct Damage {
    region: String,
    /// In the data directory.
    file: PathBuf,
    how: How,
}

#[derive(Debug, Clone, Copy)]
enum How {
    Flip(usize),
    Cut(usize),
    Remove,
}

impl Damage {
    /// The row of the report that it belongs to: of the log one for all segments and fields.
    fn row(&self) -> String {
        let parts: Vec<&str> = self.region.split(", ").collect();
        match parts[..] {
            ["log", segment, frame, ..] if segment.ends_with("segment") => format!("log, {frame}"),
            ["snapshot", ..] => "snapshot".to_owned(),
            _ => self.region.clone(),
        }
    }

    fn inflict(&self, data_dir: &Path) -> Result<()> {
        let path = data_dir.join(&self.file);
        match self.how {
            How::Remove => return Ok(fs::remove_file(path)?),
            How::Flip(at) => {
                let mut bytes = fs::read(&path)?;
                bytes[at] ^= 1 << (at % 8);
                fs::write(path, bytes)?;
            }
            How::Cut(at) => {
                let mut bytes = fs::read(&path)?;
                bytes.remove(at);
                fs::write(path, bytes)?;
            }
        }
        Ok(())
    }
}

/// Flips and cuts at places of a file that have names.
fn at_places(file: &Path, places: &[(String, usize)]) -> Vec<Damage> {
    let damage = |how: fn(usize) -> How| {
        places.iter().map(move |(region, at)| Damage {
            region: region.clone(),
            file: file.to_owned(),
            how: how(*at),
        })
    };
    damage(How::Flip).chain(damage(How::Cut)).collect()
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Every field of a segment's first frame, of an entry's, of the last synced batch's, and a byte
/// behind the end.
fn of_segment(data_dir: &Path, path: &Path, which: &str) -> Result<Vec<Damage>> {
    let bytes = fs::read(path)?;
    let number = u64::from_str_radix(path.file_stem().unwrap().to_str().unwrap(), 16)?;
    let used = bytes.chunks(FRAME).take_while(|frame| u64_at(frame, 12) == number).count();
    ensure!(used > 4, "{} is almost empty", path.display());
    let mut places = Vec::new();
    let frames = [("header", 0), ("an entry", used / 2), ("the last synced batch", used - 1)];
    for (frame, at) in frames {
        for (field, offset) in FRAME_FIELDS {
            places.push((format!("log, {which} segment, {frame}, {field}"), at * FRAME + offset));
        }
    }
    if used < bytes.len() / FRAME {
        places.push((format!("log, {which} segment, behind the end"), used * FRAME + 100));
    }
    Ok(at_places(path.strip_prefix(data_dir)?, &places))
}

/// `count` bytes of a file, spread over what is not zero at its end.
fn spread(data_dir: &Path, path: &Path, region: &str, count: usize) -> Result<Vec<Damage>> {
    let bytes = fs::read(path)?;
    let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let places: Vec<(String, usize)> =
        (0..count.min(used)).map(|n| (region.to_owned(), n * used / count.min(used))).collect();
    let file = path.strip_prefix(data_dir)?;
    let remove =
        Damage { region: format!("{region}, the file"), file: file.to_owned(), how: How::Remove };
    Ok(at_places(file, &places).into_iter().chain([remove]).collect())
}

fn every_damage(data_dir: &Path) -> Result<Vec<Damage>> {
    let segments: Vec<PathBuf> =
        files_in(&data_dir.join("wal"))?.into_iter().filter(|it| is_segment(it)).collect();
    ensure!(segments.len() >= 3, "{segments:?}");
    let mut all = of_segment(data_dir, &segments[0], "first")?;
    all.extend(of_segment(data_dir, &segments[segments.len() / 2], "middle")?);
    all.extend(of_segment(data_dir, &segments[segments.len() - 1], "last")?);
    for segment in &segments[..segments.len() - 1] {
        let file = segment.strip_prefix(data_dir)?.to_owned();
        all.push(Damage { region: "log, the file".to_owned(), file, how: How::Remove });
    }
    for path in files_in(&data_dir.join("snapshot"))? {
        let file = path.strip_prefix(data_dir)?;
        let fields = SNAPSHOT_FIELDS.iter().map(|(it, at)| (format!("snapshot, {it}"), *at));
        all.extend(at_places(file, &fields.collect::<Vec<_>>()));
        all.extend(spread(data_dir, &path, "snapshot, body", samples())?);
    }
    all.extend(spread(data_dir, &data_dir.join("identity"), "identity", samples())?);
    for path in files_in(&data_dir.join("history"))?.into_iter().filter(|it| it.is_file()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let name = name.split('.').next().unwrap();
        all.extend(spread(data_dir, &path, &format!("history, {name}"), samples())?);
    }
    Ok(all)
}

#[tokio::test]
async fn damage_anywhere_is_detected_or_rebuilt_and_never_answered_from() {
    let dir = tempfile::tempdir().unwrap();
    let made = make_disk(dir.path()).await.unwrap();
    let copied = |name: &str| {
        let copy = dir.path().join(name);
        let _ = fs::remove_dir_all(&copy);
        copy_tree(&made, &copy).unwrap();
        copy
    };
    let last = atoll_raft::inspect_log(&made, &MemberName::new("m1").unwrap()).unwrap();
    // The members' own marks come behind what was written, and change nothing.
    let is_mark = |txn: &Txn| txn.operations == [Operation::DigestMark];
    let changes = |txn: &Option<Txn>| txn.as_ref().is_some_and(|txn| !is_mark(txn));
    let last = last.entries.iter().rev().find(|(_, txn)| changes(txn)).unwrap().0;
    let sound = copied("sound");
    let mut member = member(dir.path(), &sound).unwrap().remove(0);
    let expected = hear(&member, last).await.unwrap();
    member.kill().await.unwrap();
    let (changes, holders) = expected.history.as_ref().unwrap();
    assert!(changes.len() > 400 && holders.len() > 5, "{} {}", changes.len(), holders.len());

    let mut table: BTreeMap<(String, &'static str, &'static str), usize> = BTreeMap::new();
    let (mut cases, mut wrong) = (0, Vec::new());
    for damage in every_damage(&made).unwrap() {
        let copy = copied("damaged");
        damage.inflict(&copy).unwrap();
        let mut verdict = judge(dir.path(), &copy, &expected).await.unwrap();
        if let Verdict::Stops(text) = &verdict
            && !(text.contains(&*damage.file.to_string_lossy())
                || matches!(damage.how, How::Remove))
        {
            verdict = Verdict::Wrong(format!("it does not name the file: {text}"));
        }
        if let Verdict::Stops(text) = &verdict
            && !text.contains("data directory")
        {
            verdict = Verdict::Wrong(format!("it does not say what to do: {text}"));
        }
        let how = match damage.how {
            How::Flip(_) => "bit flipped",
            How::Cut(_) => "byte cut",
            How::Remove => "removed",
        };
        // What concerns the log stops the member, whatever it is.
        if damage.region.starts_with("log") && !matches!(verdict, Verdict::Stops(_)) {
            verdict = Verdict::Wrong(format!("it starts: {}", verdict.name()));
        }
        *table.entry((damage.row(), how, verdict.name())).or_default() += 1;
        cases += 1;
        if let Verdict::Wrong(what) = verdict {
            wrong.push(format!("{damage:?}: {what}"));
        }
    }
    let mut report = Report::new("corruption", "make corruption");
    report.claim("damaged disks opened", "", f64::from(cases), Target::AtLeast(150.0));
    for ((region, how, verdict), count) in table {
        let case = format!("{region}, {how}: {verdict}");
        report.note(&case, "", f64::from(u32::try_from(count).unwrap()));
    }
    let count = f64::from(u32::try_from(wrong.len()).unwrap());
    report.claim(
        "answered wrongly, or stopped without saying why",
        "",
        count,
        Target::Exactly(0.0),
    );
    println!("{}", report.table());
    report.save().unwrap();
    assert!(wrong.is_empty(), "{} of {cases}:\n{}", wrong.len(), wrong.join("\n"));
}
