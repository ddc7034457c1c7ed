//! `QosSpec` of `atoll.io/v1`: how fast pods may send and receive, and whose traffic goes first.

use std::fmt::Display;

use atoll_model::{
    LabelSelector, NamespaceName, PodKey, PodSelector, Qos, QosName, QosSpec, Rate, Rates,
    SubnetName,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Manifest, ManifestError, selector};

/// Group and version of what is ours alone.
pub const ATOLL_VERSION: &str = "atoll.io/v1";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "metadata")]
    _metadata: Map<String, Value>,
    spec: Fields,
    #[serde(default, rename = "status")]
    _status: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Fields {
    ingress: Option<WrittenRate>,
    egress: Option<WrittenRate>,
    important: bool,
    priority: u32,
    pods: Vec<String>,
    namespaces: Vec<String>,
    subnets: Vec<String>,
    selectors: Vec<WrittenSelector>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRate {
    rate: u32,
    burst: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenSelector {
    namespace: Option<String>,
    labels: selector::Selector,
}

pub(super) fn parse(value: &Value) -> Result<Manifest, ManifestError> {
    let name = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let object = format!("QosSpec {name}");
    let reader = Reader { object };
    let Written { spec, .. } =
        Written::deserialize(value).map_err(|error| reader.field("spec", error))?;
    let name = QosName::new(name).map_err(|error| reader.field("metadata.name", error))?;
    let rate = |written: Option<WrittenRate>| {
        written.map(|it| Rate { mbit: it.rate, burst_mbit: it.burst })
    };
    let pods = spec.pods.iter().map(|text| PodKey::parse(text));
    let namespaces = spec.namespaces.iter().map(|text| NamespaceName::new(text));
    let subnets = spec.subnets.iter().map(|text| SubnetName::new(text));
    let selectors = spec.selectors.iter().map(WrittenSelector::parse);
    Ok(Manifest::Qos(QosSpec {
        name,
        rates: Rates { ingress: rate(spec.ingress), egress: rate(spec.egress) },
        important: spec.important,
        priority: spec.priority,
        pods: reader.all("spec.pods", pods)?,
        namespaces: reader.all("spec.namespaces", namespaces)?,
        subnets: reader.all("spec.subnets", subnets)?,
        selectors: reader.all("spec.selectors", selectors)?,
    }))
}

struct Reader {
    object: String,
}

impl Reader {
    fn field(&self, field: &'static str, rule: impl ToString) -> ManifestError {
        ManifestError::Field { object: self.object.clone(), field, rule: rule.to_string() }
    }

    fn all<T, E: Display>(
        &self,
        field: &'static str,
        parsed: impl Iterator<Item = Result<T, E>>,
    ) -> Result<Vec<T>, ManifestError> {
        parsed.collect::<Result<_, _>>().map_err(|error| self.field(field, error))
    }
}

impl WrittenSelector {
    fn parse(&self) -> Result<PodSelector, String> {
        let namespace = self.namespace.as_deref().map(NamespaceName::new).transpose();
        let namespace = namespace.map_err(|error| error.to_string())?;
        Ok(PodSelector { namespace, labels: self.labels.parse()? })
    }
}

/// What `kubectl` shows of a stored one.
#[must_use]
pub fn qos_object(qos: &Qos) -> Value {
    let spec = &qos.spec;
    let rate = |rate: Option<Rate>| {
        rate.map(|it| match it.burst_mbit {
            Some(burst) => json!({ "rate": it.mbit, "burst": burst }),
            None => json!({ "rate": it.mbit }),
        })
    };
    let mut written = json!({ "priority": spec.priority });
    for (field, rate) in
        [("ingress", rate(spec.rates.ingress)), ("egress", rate(spec.rates.egress))]
    {
        if let Some(rate) = rate {
            written[field] = rate;
        }
    }
    if spec.important {
        written["important"] = true.into();
    }
    let lists = [
        ("pods", texts(&spec.pods)),
        ("namespaces", texts(&spec.namespaces)),
        ("subnets", texts(&spec.subnets)),
        ("selectors", spec.selectors.iter().map(selector_object).collect()),
    ];
    for (field, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        written[field] = Value::Array(list);
    }
    json!({
        "apiVersion": ATOLL_VERSION,
        "kind": "QosSpec",
        "metadata": { "name": spec.name.as_str() },
        "spec": written,
        "status": { "revision": qos.changed.0 },
    })
}

fn selector_object(it: &PodSelector) -> Value {
    let PodSelector { namespace, labels } = it;
    let labels: &LabelSelector = labels;
    let mut written = json!({ "labels": selector::json(labels) });
    if let Some(namespace) = namespace {
        written["namespace"] = json!(namespace.as_str());
    }
    written
}

fn texts<T: ToString>(all: &[T]) -> Vec<Value> {
    all.iter().map(|it| Value::from(it.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_model::Revision;

    fn manifest(spec: Value) -> Value {
        let metadata = json!({ "name": "gold" });
        json!({ "apiVersion": ATOLL_VERSION, "kind": "QosSpec", "metadata": metadata, "spec": spec })
    }

    #[test]
    fn what_is_written_is_shown_again() {
        let spec = json!({
            "ingress": { "rate": 20, "burst": 5 },
            "egress": { "rate": 10 },
            "important": true,
            "priority": 3,
            "pods": ["shop/web"],
            "namespaces": ["shop"],
            "subnets": ["blue"],
            "selectors": [{ "namespace": "shop", "labels": { "matchLabels": { "tier": "web" } } }],
        });
        let Ok(Manifest::Qos(parsed)) = parse(&manifest(spec.clone())) else { panic!("{spec}") };
        assert_eq!(parsed.rates.ingress, Some(Rate { mbit: 20, burst_mbit: Some(5) }));
        let stored = Qos { spec: parsed, created: Revision(1), changed: Revision(2) };
        assert_eq!(qos_object(&stored)["spec"], spec);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (spec, named) in [
            (json!({ "ingres": { "rate": 20 } }), "ingres"),
            (json!({ "ingress": { "rate": -1 } }), "-1"),
            (json!({ "ingress": { "rate": 1, "speed": 2 } }), "speed"),
            (json!({ "pods": ["web"] }), "spec.pods"),
            (json!({ "subnets": ["Blue!"] }), "spec.subnets"),
            (json!({ "selectors": [{ "labels": { "matchLabel": {} } }] }), "matchLabel"),
        ] {
            let error = parse(&manifest(spec)).unwrap_err().to_string();
            assert!(error.starts_with("QosSpec gold: ") && error.contains(named), "{error}");
        }
    }
}
