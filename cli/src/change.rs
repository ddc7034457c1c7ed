//! `atollctl create` and `atollctl delete`.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use atoll_api::manifest::{self, Manifest};
use atoll_api::proto::Kind as ObjectKind;
use atoll_api::{Client, manifest::API_VERSION};
use atoll_model::{NodeName, Object, ObjectKey, Operation, Origin, Outcome, Owner, SubnetName};
use serde::Deserialize as _;
use serde_json::Value;

use crate::Failure;
use crate::arguments::{Format, Kind, Target};

pub(crate) async fn create(
    client: &Client,
    files: &[PathBuf],
    format: Format,
) -> Result<(), Failure> {
    // All are read before the first is sent: a typing error in one must not leave half of them.
    let parsed = read_all(files)?.iter().map(manifest::parse).collect::<Result<Vec<_>, _>>();
    for Manifest::Subnet(spec, notes) in parsed.map_err(|error| Failure::Usage(error.into()))? {
        for note in notes {
            writeln!(std::io::stderr(), "atollctl: note: {note}")?;
        }
        let name = spec.name.clone();
        let operations = vec![Operation::PutSubnet(spec, Origin::Api)];
        carried_out(client.txn(Vec::new(), operations).await?)?;
        said("Subnet", name.as_str(), "configured", format)?;
    }
    Ok(())
}

pub(crate) async fn delete(
    client: &Client,
    files: &[PathBuf],
    target: &Target,
    format: Format,
) -> Result<(), Failure> {
    let mut operations = Vec::new();
    for value in read_all(files)? {
        let name = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        match value.get("kind").and_then(Value::as_str) {
            Some("Subnet") => operations.push(delete_one(client, Kind::Subnets, name).await?),
            Some("IP") => operations.push(delete_one(client, Kind::Ips, name).await?),
            kind => {
                let kind = kind.unwrap_or("(no kind)");
                let why = format!("{kind} cannot be deleted here; {API_VERSION} Subnet and IP can");
                return Err(Failure::Usage(anyhow::Error::msg(why)));
            }
        }
    }
    if let (Some(kind), Some(name)) = (target.kind, &target.name) {
        operations.push(delete_one(client, kind, name).await?);
    }
    for (kind, name, operation) in operations {
        carried_out(client.txn(Vec::new(), vec![operation]).await?)?;
        said(kind, &name, "deleted", format)?;
    }
    Ok(())
}

type Deletion = (&'static str, String, Operation);

async fn delete_one(client: &Client, kind: Kind, name: &str) -> Result<Deletion, Failure> {
    let usage = |error: atoll_model::NameError| Failure::Usage(error.into());
    let (kind, operation) = match kind {
        Kind::Subnets => {
            let subnet = SubnetName::new(name).map_err(usage)?;
            there_is(client, ObjectKey::Subnet(subnet.clone())).await?;
            ("Subnet", Operation::DeleteSubnet(subnet))
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
async fn there_is(client: &Client, key: ObjectKey) -> Result<(), Failure> {
    match client.read(&[], Some(&key)).await?.objects.is_empty() {
        false => Ok(()),
        true => Err(Failure::Refused(format!("{key} does not exist"))),
    }
}

/// Names exactly what is seen now, so that a newer owner of the port is not hit.
async fn release(client: &Client, name: &str) -> Result<Operation, Failure> {
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

fn carried_out(outcome: Outcome) -> Result<(), Failure> {
    match outcome {
        Outcome::Applied { .. } => Ok(()),
        Outcome::Refused { refusal, .. } => Err(Failure::Refused(refusal.to_string())),
    }
}

fn said(kind: &str, name: &str, what: &str, format: Format) -> Result<(), Failure> {
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
        let failure = create(&client, &[file], Format::Table).await.unwrap_err();
        let Failure::Usage(error) = failure else { panic!("{failure:?}") };
        assert!(error.to_string().contains("cidrBlok"), "{error}");
    }
}
