//! `atollctl member`.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use atoll_api::Client;
use atoll_api::proto::{Member as MemberMessage, StatusResponse};
use atoll_model::{ClusterSize, Object, ObjectKey, Operation, Precondition, Revision, Settings};
use clap::Subcommand;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::Failure;
use crate::arguments::Format;
use crate::change::carried_out;
use crate::output::{document, rows};

/// How long a member may take to lead after it was handed leadership: several elections.
const TAKE_OVER: Duration = Duration::from_secs(5);

/// Between two looks at who leads.
const PAUSE: Duration = Duration::from_millis(20);

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Member {
    /// Shows the members, and what each one's state hashes to (equal after the same entry).
    #[command(after_help = "Examples:\n  atollctl member list\n  atollctl member list -o wide")]
    List,
    /// Hands leadership to another member: to this one, or to the one that was heard last.
    #[command(after_help = "Examples:\n  atollctl member transfer\n  atollctl member transfer m2")]
    Transfer {
        /// The member that shall lead.
        name: Option<String>,
    },
    /// Sets how many members the cluster shall have: 1, 3 or 5.
    ///
    /// A larger cluster takes in whoever asks next: start the new members with the addresses of
    /// the others. A smaller one lets the highest ordinals go, one after another.
    #[command(after_help = "Examples:\n  atollctl member resize 5\n  atollctl member resize 3")]
    Resize {
        /// How many.
        #[arg(value_parser = size)]
        members: ClusterSize,
    },
}

fn size(text: &str) -> Result<ClusterSize, String> {
    let members: u32 = text.parse().map_err(|_| format!("{text} is no number"))?;
    ClusterSize::new(members).map_err(|error| error.to_string())
}

/// What the members say of each other.
struct Cluster {
    /// The one that knows most.
    newest: StatusResponse,
    /// By id: role, and the hash of the state after an entry.
    roles: BTreeMap<u64, String>,
    digests: BTreeMap<u64, (Revision, u128)>,
}

impl Cluster {
    async fn ask(client: &Client) -> Result<Self, Failure> {
        let statuses = client.statuses().await;
        let ids: BTreeMap<String, u64> = statuses
            .iter()
            .filter_map(|(at, status)| Some((at.to_string(), status.as_ref().ok()?.id)))
            .collect();
        let known: Vec<StatusResponse> =
            statuses.into_iter().filter_map(|(_, status)| status.ok()).collect();
        let roles = known.iter().map(|status| (status.id, status.role.clone())).collect();
        // Who leads has heard of the others.
        let newest = known.into_iter().max_by_key(|it| (it.term, it.role == "leader", it.applied));
        let Some(mut newest) = newest else {
            return Err(Failure::Failed(anyhow::Error::msg("no member answers")));
        };
        newest.members.sort_by(|a, b| a.name.cmp(&b.name));
        let digests = client.digests().await.into_iter();
        let digests =
            digests.filter_map(|(at, digest)| Some((*ids.get(&at.to_string())?, digest.ok()?)));
        Ok(Self { newest, roles, digests: digests.collect() })
    }

    fn role(&self, member: &MemberMessage) -> &str {
        match self.roles.get(&member.id) {
            Some(role) => role,
            None if member.voter => "voter",
            None => "learner",
        }
    }
}

pub(crate) async fn run(client: &Client, member: &Member, format: Format) -> Result<(), Failure> {
    let cluster = Cluster::ask(client).await?;
    match member {
        Member::List => list(&cluster, format),
        Member::Transfer { name } => transfer(client, &cluster, name.as_deref(), format).await,
        Member::Resize { members } => resize(client, &cluster, *members, format).await,
    }
}

fn list(cluster: &Cluster, format: Format) -> Result<(), Failure> {
    let members = &cluster.newest.members;
    let digest = |member: &MemberMessage| cluster.digests.get(&member.id);
    match format {
        Format::Json | Format::Yaml => {
            let member = |member: &MemberMessage| {
                json!({
                    "id": format!("{:016x}", member.id),
                    "name": member.name,
                    "address": member.address,
                    "role": cluster.role(member),
                    "voter": member.voter,
                    "heardMs": member.heard_ms,
                    "applied": digest(member).map(|(applied, _)| applied.0),
                    "digest": digest(member).map(|(_, digest)| format!("{digest:032x}")),
                })
            };
            document(&members.iter().map(member).collect::<Value>(), format)
        }
        Format::Name => {
            let mut out = std::io::stdout().lock();
            members.iter().try_for_each(|member| writeln!(out, "member/{}", member.name))?;
            Ok(())
        }
        Format::Table | Format::Wide => {
            let wide = format == Format::Wide;
            let mut header = vec!["NAME", "ADDRESS", "ROLE", "HEARD", "APPLIED", "DIGEST"];
            header.extend(wide.then_some("ID"));
            let row = |member: &MemberMessage| {
                let unknown = || "-".to_owned();
                let (applied, digest) = match digest(member) {
                    // Enough to compare by eye.
                    Some((applied, digest)) if !wide => {
                        (applied.to_string(), format!("{digest:032x}")[..12].to_owned())
                    }
                    Some((applied, digest)) => (applied.to_string(), format!("{digest:032x}")),
                    None => (unknown(), unknown()),
                };
                let heard = member.heard_ms.map_or_else(unknown, |ms| format!("{ms}ms"));
                let role = cluster.role(member).to_owned();
                let (name, address) = (member.name.clone(), member.address.clone());
                let mut row = vec![name, address, role, heard, applied, digest];
                row.extend(wide.then(|| format!("{:016x}", member.id)));
                row
            };
            let header = header.into_iter().map(ToOwned::to_owned).collect();
            rows(header, members.iter().map(row).collect())
        }
    }
}

async fn transfer(
    client: &Client,
    cluster: &Cluster,
    name: Option<&str>,
    format: Format,
) -> Result<(), Failure> {
    let members = &cluster.newest.members;
    let named = |name: &str| members.iter().find(|member| member.name == name);
    let to = match name.map(|name| (name, named(name))) {
        None => None,
        Some((name, None)) => {
            let names: Vec<_> = members.iter().map(|member| member.name.as_str()).collect();
            let why = format!("there is no member {name}; there are {}", names.join(", "));
            return Err(Failure::Refused(why));
        }
        Some((name, Some(member))) if !member.voter => {
            return Err(Failure::Refused(format!(
                "member {name} is a learner and cannot lead yet"
            )));
        }
        Some((_, Some(member))) => Some(member.id),
    };
    let before = cluster.newest.leader;
    if to.is_some() && to == before {
        return said(name.unwrap_or_default(), "leads already", format);
    }
    if members.iter().filter(|member| member.voter).count() < 2 {
        return Err(Failure::Refused("there is no other voter to hand over to".to_owned()));
    }
    client.transfer_leadership(to).await?;
    let leader = leader(client).await?;
    match name {
        Some(name) if name != leader => Err(Failure::Failed(anyhow::anyhow!(
            "{leader} leads now, and not {name}, which did not take over in time; try again"
        ))),
        _ => said(&leader, "leads", format),
    }
}

/// Says what shall be; the leader does it. Other settings that change meanwhile are not undone.
async fn resize(
    client: &Client,
    cluster: &Cluster,
    size: ClusterSize,
    format: Format,
) -> Result<(), Failure> {
    let read = client.read(&[], Some(&ObjectKey::Settings)).await?;
    let Some(Object::Settings(settings)) = read.objects.into_iter().next() else {
        return Err(Failure::Refused("the cluster is not set up yet".to_owned()));
    };
    let resized = Settings { members: Some(size), ..(*settings).clone() };
    let resized = vec![Operation::PutSettings(resized)];
    let plan = client.plan(&[], &resized).await?;
    let as_planned = vec![Precondition::EffectEquals(plan.effect)];
    carried_out(client.txn(as_planned, resized).await?)?;
    let voters = cluster.newest.members.iter().filter(|member| member.voter).count();
    let wanted = usize::from(size.get());
    let what = match voters.cmp(&wanted) {
        Ordering::Less => format!("has {voters} of {wanted} members and takes in who asks"),
        Ordering::Equal => format!("has {wanted} of {wanted} members"),
        Ordering::Greater => format!("has {voters} members and lets {} go", voters - wanted),
    };
    let id = cluster.newest.cluster.clone().unwrap_or_default();
    crate::change::said("cluster", &id, &what, format)
}

/// The name of the member that leads, as soon as one does: who handed over has no leader at first.
async fn leader(client: &Client) -> Result<String, Failure> {
    let deadline = Instant::now() + TAKE_OVER;
    loop {
        let newest = Cluster::ask(client).await?.newest;
        if newest.role == "leader" {
            return Ok(newest.name);
        }
        if Instant::now() >= deadline {
            let why = "leadership was given up, and nobody has taken it; see `atollctl status`";
            return Err(Failure::Failed(anyhow::Error::msg(why)));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn said(name: &str, what: &str, format: Format) -> Result<(), Failure> {
    crate::change::said("member", name, what, format)
}
