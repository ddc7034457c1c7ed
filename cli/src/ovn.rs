//! `atollctl ovn`: the members' ovn-central, and the projection into it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use atoll_api::proto::{Projection, RowChange, StatusResponse};
use atoll_api::{Client, DatabaseBackup, Endpoint, OvnDiff};
use atoll_model::{Object, ObjectKey, Operation, Precondition, Settings};
use clap::Subcommand;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::Failure;
use crate::arguments::Format;
use crate::change::{carried_out, said};
use crate::output::{document, rows};
use crate::rollout;
use crate::status::{central, central_value, projected, projection_value};

/// How long a member may take until its new databases hold everything: 50,000 ports, a busy machine.
const REBUILT_WITHIN: Duration = Duration::from_secs(120);

/// How long the member that is handed the role may take to serve.
const SERVES_WITHIN: Duration = Duration::from_secs(30);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Ovn {
    /// Shows each member's ovn-central and how far the projection is.
    #[command(after_help = "Examples:\n  atollctl ovn status\n  atollctl ovn status -o json")]
    Status,
    /// Shows what the next pass would change in a member's northbound database; of the serving member
    /// if none is named. Nothing means equal.
    #[command(after_help = "Examples:\n  atollctl ovn diff\n  atollctl ovn diff m2 -o json")]
    Diff {
        /// The member.
        member: Option<String>,
    },
    /// Stops the projection on all members: what is in OVN stays and goes on working, and nothing new
    /// comes into it.
    #[command(after_help = "Example:\n  atollctl ovn pause")]
    Pause,
    /// Ends a pause.
    #[command(after_help = "Example:\n  atollctl ovn resume")]
    Resume,
    /// Makes a pass on every member now.
    #[command(after_help = "Examples:\n  atollctl ovn sync\n  atollctl ovn diff && \
                            atollctl ovn sync --accept 4711")]
    Sync {
        /// Consents to the deletions that the brake stopped, as seen at this revision.
        #[arg(long, value_name = "REVISION")]
        accept: Option<u64>,
    },
    /// Makes both databases of a member anew, from the store.
    #[command(after_help = "Examples:\n  atollctl ovn rebuild m2\n  \
                            atollctl ovn rebuild m1 --serving")]
    Rebuild {
        /// The member.
        member: String,
        /// Even if it serves: nodes wait until the new southbound is complete, and neighbours that
        /// they had learnt are learnt again.
        #[arg(long)]
        serving: bool,
    },
    /// Writes both databases of a member, of the serving one if none is named, into a directory, as
    /// nb.db and sb.db. Nothing of Atoll needs them: they are for OVN's own tools.
    #[command(after_help = "Examples:\n  atollctl ovn backup /var/backups/ovn\n  \
                            atollctl ovn backup /var/backups/ovn m2")]
    Backup {
        /// The directory; neither file may be there yet.
        directory: PathBuf,
        /// The member.
        member: Option<String>,
    },
    /// Shows on which nodes the rules of all subnets and QoS specs are in force: in the flows of the
    /// switch and in the packet filter, and no connection left that they forbid.
    #[command(
        after_help = "Examples:\n  atollctl ovn rollout\n  atollctl ovn rollout --wait 30\n  \
                            atollctl ovn rollout --revision 4711"
    )]
    Rollout {
        /// The rules as of this revision, and not the newest ones.
        #[arg(long)]
        revision: Option<u64>,
        /// Waits until all nodes have them, and fails if they do not after so many seconds. At most 60.
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=60))]
        wait: Option<u64>,
    },
    /// Lets another member serve the nodes.
    #[command(after_help = "Example:\n  atollctl ovn hand-over m2")]
    HandOver {
        /// The member.
        member: String,
    },
}

pub(crate) async fn run(client: &Client, ovn: &Ovn, format: Format) -> Result<(), Failure> {
    match ovn {
        Ovn::Status => status(client, format).await,
        Ovn::Diff { member } => diff(client, member.as_deref(), format).await,
        Ovn::Pause => set_paused(client, true, format).await,
        Ovn::Resume => set_paused(client, false, format).await,
        Ovn::Sync { accept } => sync(client, *accept, format).await,
        Ovn::Rebuild { member, serving } => rebuild(client, member, *serving, format).await,
        Ovn::Backup { directory, member } => {
            backup(client, directory, member.as_deref(), format).await
        }
        Ovn::Rollout { revision, wait } => rollout::run(client, *revision, *wait, format).await,
        Ovn::HandOver { member } => hand_over(client, member, format).await,
    }
}

/// A member that answers.
struct Member {
    endpoint: Endpoint,
    status: StatusResponse,
}

impl Member {
    fn serves(&self) -> bool {
        self.status.processes.as_ref().is_some_and(|it| it.serving)
    }

    fn stands_by(&self) -> bool {
        self.status.projection.as_ref().is_some_and(|it| it.stands_by)
    }
}

async fn members(client: &Client) -> Result<Vec<Member>, Failure> {
    let asked = client.statuses().await.into_iter();
    let mut members: Vec<Member> = asked
        .filter_map(|(endpoint, status)| Some(Member { endpoint, status: status.ok()? }))
        .collect();
    members.sort_by(|a, b| a.status.name.cmp(&b.status.name));
    match members.is_empty() {
        true => Err(Failure::Failed(anyhow::Error::msg("no member answers"))),
        false => Ok(members),
    }
}

/// The member of this name, or the one that serves.
async fn member(client: &Client, name: Option<&str>) -> Result<Member, Failure> {
    let members = members(client).await?;
    let names: Vec<String> = members.iter().map(|it| it.status.name.clone()).collect();
    let mut members = members.into_iter();
    match name {
        Some(name) => members.find(|it| it.status.name == name).ok_or_else(|| {
            let names = names.join(", ");
            Failure::Refused(format!("no member {name} answers; those that do: {names}"))
        }),
        None => members.find(Member::serves).ok_or_else(|| {
            let why = "no member serves the nodes; name one, see `atollctl ovn status`";
            Failure::Refused(why.to_owned())
        }),
    }
}

/// Where the member answers whose ovn-central serves the nodes.
pub(crate) async fn serving(client: &Client) -> Result<Endpoint, Failure> {
    member(client, None).await.map(|member| member.endpoint)
}

async fn status(client: &Client, format: Format) -> Result<(), Failure> {
    let members = members(client).await?;
    match format {
        Format::Json | Format::Yaml => {
            let member = |it: &Member| {
                json!({
                    "name": it.status.name,
                    "endpoint": it.endpoint.to_string(),
                    "revision": it.status.revision,
                    "central": it.status.processes.as_ref().map(central_value),
                    "projection": it.status.projection.as_ref().map(projection_value),
                })
            };
            document(&members.iter().map(member).collect::<Value>(), format)
        }
        Format::Name => {
            let mut out = std::io::stdout().lock();
            members.iter().try_for_each(|it| writeln!(out, "member/{}", it.status.name))?;
            Ok(())
        }
        Format::Table | Format::Wide => status_table(&members),
    }
}

fn status_table(members: &[Member]) -> Result<(), Failure> {
    let titles =
        ["MEMBER", "CENTRAL", "REVISION", "NB", "PROJECTION", "LAST-PASS", "CONFLICTS", "FOREIGN"];
    let row = |it: &Member| {
        let status = &it.status;
        let of = |what: fn(&Projection) -> String| {
            status.projection.as_ref().map_or("-".to_owned(), what)
        };
        vec![
            status.name.clone(),
            central(status),
            status.revision.to_string(),
            projected(status),
            of(|it| word(it).to_owned()),
            of(|it| format!("{:.1?}", Duration::from_micros(it.micros))),
            of(|it| it.conflicts.to_string()),
            foreign(status),
        ]
    };
    let header = titles.map(ToOwned::to_owned).to_vec();
    rows(header, members.iter().map(row).collect())?;
    let mut out = std::io::stdout().lock();
    for it in members {
        let (name, status) = (&it.status.name, &it.status);
        let errors = [
            status.projection.as_ref().map(|it| &it.error),
            status.processes.as_ref().map(|it| &it.error),
            status.processes.as_ref().map(|it| &it.foreign_error),
        ];
        for error in errors.into_iter().flatten().filter(|error| !error.is_empty()) {
            writeln!(out, "{name}: {error}")?;
        }
        if status.projection.as_ref().is_some_and(|it| it.stopped.is_some()) {
            writeln!(out, "{name}: look at `atollctl ovn diff {name}`, then `sync --accept`")?;
        }
    }
    Ok(())
}

/// Rows of others, and whether a member that takes over has all of them.
fn foreign(status: &StatusResponse) -> String {
    let rows = status.processes.as_ref().and_then(|it| Some((it.foreign_rows?, it.foreign_equal)));
    match rows {
        Some((rows, true)) => rows.to_string(),
        Some((rows, false)) => format!("{rows} (behind)"),
        None => "-".to_owned(),
    }
}

fn word(projection: &Projection) -> &'static str {
    match projection {
        it if it.paused => "paused",
        it if it.stands_by => "stands by",
        it if it.stopped.is_some() => "stopped",
        it if it.error.is_empty() => "equal",
        _ => "failing",
    }
}

async fn diff(client: &Client, name: Option<&str>, format: Format) -> Result<(), Failure> {
    let member = member(client, name).await?;
    let diff = client.only(&member.endpoint).ovn_diff().await?;
    let OvnDiff { start, changes } = &diff;
    if matches!(format, Format::Json | Format::Yaml) {
        let value = json!({
            "member": member.status.name,
            "revision": start.revision,
            "conflicts": start.conflicts,
            "stopped": (!start.stopped.is_empty()).then_some(&start.stopped),
            "changes": changes.iter().map(change_value).collect::<Vec<_>>(),
        });
        return document(&value, format);
    }
    let mut out = std::io::stdout().lock();
    for change in changes {
        let RowChange { verb, table, uuid, name, columns } = change;
        if format == Format::Name {
            writeln!(out, "{table}/{uuid}")?;
            continue;
        }
        // A table of one row has no name for it.
        let blank = if name.is_empty() { "" } else { " " };
        writeln!(out, "{verb} {table}{blank}{name} ({uuid})")?;
        // Of a new row what it is called says most; `-o wide` has all.
        if verb == "update" || format == Format::Wide {
            for it in columns {
                match &it.before {
                    Some(before) => writeln!(out, "  {}: {before} -> {}", it.column, it.after)?,
                    None => writeln!(out, "  {}: {}", it.column, it.after)?,
                }
            }
        }
    }
    if format == Format::Name {
        return Ok(());
    }
    start.conflicts.iter().try_for_each(|conflict| writeln!(out, "conflict: {conflict}"))?;
    let (name, revision) = (&member.status.name, start.revision);
    match changes.len() {
        0 => writeln!(out, "{name}: equal to the store at revision {revision}")?,
        changes => writeln!(out, "{name}: {changes} changes to be equal to revision {revision}")?,
    }
    if !start.stopped.is_empty() {
        let stopped = &start.stopped;
        writeln!(out, "stopped: {stopped}\nif it is right: atollctl ovn sync --accept {revision}")?;
    }
    Ok(())
}

fn change_value(change: &RowChange) -> Value {
    let columns = change.columns.iter().map(|it| {
        let value = json!({ "before": it.before, "after": it.after });
        (it.column.clone(), value)
    });
    json!({
        "verb": change.verb,
        "table": change.table,
        "uuid": change.uuid,
        "name": change.name,
        "columns": columns.collect::<serde_json::Map<_, _>>(),
    })
}

/// Other settings that change meanwhile are not undone.
async fn set_paused(client: &Client, paused: bool, format: Format) -> Result<(), Failure> {
    let read = client.read(&[], Some(&ObjectKey::Settings)).await?;
    let Some(Object::Settings(settings)) = read.objects.into_iter().next() else {
        return Err(Failure::Refused("the cluster is not set up yet".to_owned()));
    };
    let changed = Settings { projection_paused: paused, ..(*settings).clone() };
    let changed = vec![Operation::PutSettings(changed)];
    let plan = client.plan(&[], &changed).await?;
    let as_planned = vec![Precondition::EffectEquals(plan.effect)];
    carried_out(client.txn(as_planned, changed).await?)?;
    let what = match paused {
        true => "paused: OVN stays as it is until `atollctl ovn resume`",
        false => "resumed",
    };
    said("projection", "ovn", what, format)
}

/// One member that is away must not keep the others from it.
async fn sync(client: &Client, accept: Option<u64>, format: Format) -> Result<(), Failure> {
    let mut failed = None;
    let members = members(client).await?.into_iter();
    // Where one member writes for all, the others have nothing to do.
    for member in members.filter(|it| !it.stands_by()) {
        let name = &member.status.name;
        match client.only(&member.endpoint).ovn_sync(accept).await {
            Ok(done) => {
                let what =
                    format!("is equal to revision {}, {} operations", done.revision, done.sent);
                said("member", name, &what, format)?;
            }
            Err(error) => {
                writeln!(std::io::stderr(), "atollctl: {name}: {error}")?;
                failed = Some(error);
            }
        }
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}

async fn rebuild(
    client: &Client,
    name: &str,
    serving: bool,
    format: Format,
) -> Result<(), Failure> {
    let member = member(client, Some(name)).await?;
    let only = client.only(&member.endpoint);
    let begun = Instant::now();
    only.ovn_rebuild(serving).await?;
    let rebuilt = |status: &StatusResponse| {
        let projected = status.projection.as_ref().is_some_and(|it| it.revision >= status.revision);
        projected && status.processes.as_ref().is_some_and(|it| it.healthy)
    };
    until(&only, REBUILT_WITHIN, "its databases are gone, and new ones not complete", rebuilt)
        .await?;
    said("member", name, &format!("rebuilt in {:.1?}", begun.elapsed()), format)
}

async fn hand_over(client: &Client, name: &str, format: Format) -> Result<(), Failure> {
    let member = member(client, Some(name)).await?;
    let begun = Instant::now();
    client.ovn_hand_over(member.status.id).await?;
    let only = client.only(&member.endpoint);
    let serves = |status: &StatusResponse| {
        status.processes.as_ref().is_some_and(|it| it.serving && it.healthy)
    };
    until(&only, SERVES_WITHIN, "it has the role, and does not serve", serves).await?;
    said("member", name, &format!("serves the nodes, after {:.1?}", begun.elapsed()), format)
}

/// Waits until the one member of `client` says so.
async fn until(
    client: &Client,
    within: Duration,
    otherwise: &str,
    is: impl Fn(&StatusResponse) -> bool,
) -> Result<(), Failure> {
    let deadline = Instant::now() + within;
    loop {
        let statuses = client.statuses().await;
        if statuses.iter().any(|(_, status)| status.as_ref().is_ok_and(&is)) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let why = format!("after {within:?} {otherwise}; see `atollctl ovn status`");
            return Err(Failure::Failed(anyhow::Error::msg(why)));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn backup(
    client: &Client,
    directory: &Path,
    name: Option<&str>,
    format: Format,
) -> Result<(), Failure> {
    let member = member(client, name).await?;
    let only = client.only(&member.endpoint);
    std::fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    for (file, database) in [("nb.db", "OVN_Northbound"), ("sb.db", "OVN_Southbound")] {
        let path = directory.join(file);
        let written = write(&path, &mut only.ovn_backup(database).await?).await;
        if let Err(Failure::Failed(_)) = written {
            // A part of one is of no use.
            let _ = std::fs::remove_file(&path);
        }
        let bytes = written?;
        let of = format!("{database} of {}, {bytes} bytes", member.status.name);
        said("file", &path.display().to_string(), &of, format)?;
    }
    Ok(())
}

/// Into a file that is not there yet.
async fn write(path: &Path, backup: &mut DatabaseBackup) -> Result<u64, Failure> {
    let name = || format!("cannot write {}", path.display());
    let mut options = OpenOptions::new();
    // It holds the names of everything in the cluster: nobody else's business.
    let opened = options.write(true).create_new(true).mode(0o600).open(path);
    let mut file = match opened {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let why = format!("{} is there already; name another directory", path.display());
            return Err(Failure::Refused(why));
        }
        opened => opened.with_context(name)?,
    };
    let broken = |why: String| anyhow::anyhow!("the backup broke off: {why}; try again");
    let mut bytes = 0;
    while let Some(part) = backup.next().await.map_err(broken)? {
        file.write_all(&part).with_context(name)?;
        bytes += part.len() as u64;
    }
    file.sync_all().with_context(name)?;
    Ok(bytes)
}
