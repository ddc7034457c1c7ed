//! `atollctl create` and `atollctl delete`.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use atoll_api::Client;
use atoll_api::manifest::{self, Manifest};
use atoll_api::proto::Kind as ObjectKind;
use atoll_model::{
    NodeName, Object, ObjectKey, Operation, Origin, Outcome, Owner, QosName, ReservationName,
    Revision, SubnetName,
};
use serde::Deserialize as _;
use serde_json::Value;

use crate::Failure;
use crate::arguments::{Deletion, Files, Format, Kind};
use crate::plan;
use crate::rollout;

/// Kind and name of an object, and what is done to it.
type Step = (&'static str, String, Operation);

pub(crate) async fn create(
    client: &Client,
    files: &Files,
    effect: Option<u128>,
    wait: Option<u64>,
    format: Format,
) -> Result<(), Failure> {
    let changed = carry_out(client, creations(files)?, effect, "configured", format).await?;
    match wait {
        Some(seconds) => rollout::wait(client, changed, seconds, format).await,
        None => Ok(()),
    }
}

pub(crate) async fn delete(
    client: &Client,
    deletion: &Deletion,
    effect: Option<u128>,
    format: Format,
) -> Result<(), Failure> {
    let steps = deletions(client, deletion).await?;
    let what = if deletion.when_empty { "goes when it is empty" } else { "deleted" };
    carry_out(client, steps, effect, what, format).await.map(drop)
}

/// One transaction each, in order; or a single one for all if it has to do what was planned. The
/// revision of the last.
async fn carry_out(
    client: &Client,
    steps: Vec<Step>,
    effect: Option<u128>,
    what: &str,
    format: Format,
) -> Result<Revision, Failure> {
    if let Some(effect) = effect {
        let all = steps.iter().map(|(_, _, operation)| operation.clone()).collect();
        let changed = plan::apply(client, all, effect, format).await?;
        steps.iter().try_for_each(|(kind, name, _)| said(kind, name, what, format))?;
        return Ok(changed);
    }
    let mut changed = Revision(0);
    for (kind, name, operation) in steps {
        changed = carried_out(client.txn(Vec::new(), vec![operation]).await?)?;
        said(kind, &name, what, format)?;
    }
    Ok(changed)
}

/// What `create` does, in order. All files are read before anything is sent: a typing error in one
/// must not leave half of them.
pub(crate) fn creations(files: &Files) -> Result<Vec<Step>, Failure> {
    let parsed = read_all(&files.files)?.iter().map(manifest::parse).collect::<Result<Vec<_>, _>>();
    let mut steps = Vec::new();
    for manifest in parsed.map_err(|error| Failure::Usage(error.into()))? {
        steps.push(match manifest {
            Manifest::Subnet(spec, notes) => {
                for note in notes {
                    writeln!(std::io::stderr(), "atollctl: note: {note}")?;
                }
                let name = spec.name.to_string();
                ("Subnet", name, Operation::PutSubnet(spec, Origin::Api))
            }
            Manifest::Qos(spec) => ("QosSpec", spec.name.to_string(), Operation::PutQos(spec)),
            Manifest::Reservation(spec) => {
                ("IP", spec.name.to_string(), Operation::PutReservation(spec))
            }
        });
    }
    Ok(steps)
}

/// What `delete` does, in order.
pub(crate) async fn deletions(client: &Client, deletion: &Deletion) -> Result<Vec<Step>, Failure> {
    let mut steps = Vec::new();
    for value in read_all(&deletion.files)? {
        let name = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        match value.get("kind").and_then(Value::as_str) {
            Some("Subnet") => steps.push(delete_one(client, Kind::Subnets, name).await?),
            Some("QosSpec") => steps.push(delete_one(client, Kind::Qos, name).await?),
            Some("IP") => steps.push(delete_one(client, Kind::Ips, name).await?),
            kind => {
                let kind = kind.unwrap_or("(no kind)");
                let why = format!("{kind} cannot be deleted here; Subnet, IP and QosSpec can");
                return Err(Failure::Usage(anyhow::Error::msg(why)));
            }
        }
    }
    if let (Some(kind), Some(name)) = (deletion.target.kind, &deletion.target.name) {
        steps.push(delete_one(client, kind, name).await?);
    }
    if deletion.when_empty {
        steps.iter_mut().try_for_each(when_empty)?;
    }
    Ok(steps)
}

fn when_empty((kind, name, operation): &mut Step) -> Result<(), Failure> {
    let Operation::DeleteSubnet(subnet) = operation else {
        let why = format!("--when-empty is for subnets; {} {name} is none", kind.to_lowercase());
        return Err(Failure::Usage(anyhow::Error::msg(why)));
    };
    *operation = Operation::DeleteSubnetWhenEmpty(subnet.clone());
    Ok(())
}

async fn delete_one(client: &Client, kind: Kind, name: &str) -> Result<Step, Failure> {
    let usage = |error: atoll_model::NameError| Failure::Usage(error.into());
    let (kind, operation) = match kind {
        Kind::Subnets => {
            let subnet = SubnetName::new(name).map_err(usage)?;
            there_is(client, ObjectKey::Subnet(subnet.clone())).await?;
            ("Subnet", Operation::DeleteSubnet(subnet))
        }
        Kind::Qos => {
            let qos = QosName::new(name).map_err(usage)?;
            there_is(client, ObjectKey::Qos(qos.clone())).await?;
            ("QosSpec", Operation::DeleteQos(qos))
        }
        Kind::Nodes => {
            let node = NodeName::new(name).map_err(usage)?;
            there_is(client, ObjectKey::Node(node.clone())).await?;
            ("Node", Operation::DeleteNode(node))
        }
        Kind::Ips | Kind::Allocations => ("IP", release(client, name).await?),
    };
    Ok((kind, name.to_owned(), operation))
}

/// To the store, deleting what is gone is done already; to a person, it is a typing error.
pub(crate) async fn there_is(client: &Client, key: ObjectKey) -> Result<(), Failure> {
    match client.read(&[], Some(&key)).await?.objects.is_empty() {
        false => Ok(()),
        true => Err(Failure::Refused(format!("{key} does not exist"))),
    }
}

/// Ends what is reserved under the name, whose pod keeps what it has; without a reservation, what
/// the pod has. Names exactly what is seen now, so that a newer owner of the port is not hit.
async fn release(client: &Client, name: &str) -> Result<Operation, Failure> {
    if let Ok(reservation) = ReservationName::new(name) {
        let key = ObjectKey::Reservation(reservation.clone());
        if !client.read(&[], Some(&key)).await?.objects.is_empty() {
            return Ok(Operation::DeleteReservation(reservation));
        }
    }
    let read = client.read(&[ObjectKind::Allocation], None).await?;
    let held = read.objects.into_iter().find_map(|object| match object {
        Object::Allocation(allocation) if allocation.port.as_str() == name => Some(allocation),
        _ => None,
    });
    let Some(held) = held else {
        return Err(Failure::Refused(format!("there is no IP {name}")));
    };
    match &held.owner {
        Owner::Pod(_, uid) => Ok(Operation::Release {
            port: held.port.clone(),
            addresses: held.addresses,
            uid: uid.clone(),
        }),
        Owner::Node(node) => {
            let why = format!("{name} is the join address of node {node}; delete the node instead");
            Err(Failure::Refused(why))
        }
    }
}

/// The revision of what was carried out.
pub(crate) fn carried_out(outcome: Outcome) -> Result<Revision, Failure> {
    match outcome {
        Outcome::Applied { revision, .. } => Ok(revision),
        Outcome::Refused { refusal, .. } => Err(Failure::Refused(refusal.to_string())),
    }
}

pub(crate) fn said(kind: &str, name: &str, what: &str, format: Format) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let kind = kind.to_lowercase();
    match format {
        Format::Json => writeln!(out, "{{\"kind\":\"{kind}\",\"name\":\"{name}\"}}")?,
        Format::Yaml => writeln!(out, "---\nkind: {kind}\nname: {name}")?,
        Format::Name => writeln!(out, "{kind}/{name}")?,
        _ => writeln!(out, "{kind}/{name} {what}")?,
    }
    Ok(())
}

/// All documents of all files; lists are taken apart.
fn read_all(files: &[PathBuf]) -> Result<Vec<Value>, Failure> {
    let mut values = Vec::new();
    for file in files {
        let text = read(file).map_err(Failure::Usage)?;
        for document in serde_yaml_ng::Deserializer::from_str(&text) {
            let value = Value::deserialize(document)
                .with_context(|| format!("{} is neither YAML nor JSON", file.display()))
                .map_err(Failure::Usage)?;
            match value {
                Value::Null => {}
                Value::Object(mut list) if list.get("kind") == Some(&"List".into()) => {
                    let items = list.remove("items");
                    values.extend(
                        items.as_ref().and_then(Value::as_array).into_iter().flatten().cloned(),
                    );
                }
                value => values.push(value),
            }
        }
    }
    if !files.is_empty() && values.is_empty() {
        return Err(Failure::Usage(anyhow::Error::msg("the files hold no manifest")));
    }
    Ok(values)
}

fn read(file: &Path) -> anyhow::Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        return Ok(text);
    }
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_api::manifest::API_VERSION;

    /// Nobody listens: a manifest that was sent would fail as unreachable.
    #[tokio::test]
    async fn a_bad_manifest_keeps_the_good_ones_before_it_from_being_sent() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("subnets.yaml");
        let subnet = |name: &str, field: &str| {
            format!(
                "---\napiVersion: {API_VERSION}\nkind: Subnet\nmetadata: {{ name: {name} }}\n\
                 spec: {{ {field}: 10.1.0.0/16 }}\n"
            )
        };
        let text = subnet("good", "cidrBlock") + &subnet("bad", "cidrBlok");
        std::fs::write(&file, text).unwrap();
        let nobody = vec!["127.0.0.1:1".parse().unwrap()];
        let plain = atoll_api::Credentials::insecure_dev();
        let client = Client::new(nobody, &plain).unwrap().with_timeout(std::time::Duration::ZERO);
        let failure = create(&client, &Files { files: vec![file] }, None, None, Format::Table)
            .await
            .unwrap_err();
        let Failure::Usage(error) = failure else { panic!("{failure:?}") };
        assert!(error.to_string().contains("cidrBlok"), "{error}");
    }
}
