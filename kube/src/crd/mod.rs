//! The custom resources, as the apiserver is told of them.
//!
//! The types here are schemas: nothing is read through them, because `atoll_api::manifest` reads
//! manifests and knows every rule. What a schema can say of those rules it says early, to whoever
//! types `kubectl apply`; the rest comes back as a condition. All of kube-ovn's fields are
//! declared, so that its manifests are understood, and one that is not implemented is refused by
//! its name.

#![allow(clippy::duplicated_attributes, reason = "clippy does not tell one column from another")]

mod ip;
mod qos;
mod status;
mod subnet;

use atoll_api::manifest::{FieldValues, fixed_subnet_fields};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
    ValidationRule,
};
use kube::{CustomResourceExt as _, core::ApiResource};

/// Subnet, IP and QosSpec.
#[must_use]
pub fn definitions() -> Vec<CustomResourceDefinition> {
    let mut subnet = subnet::Subnet::crd();
    if let Some(spec) = spec_of(&mut subnet) {
        let types = spec.properties.clone().unwrap_or_default();
        let rules = fixed_subnet_fields().filter_map(|field| {
            let kind = types.get(field.name)?.type_.as_deref()?;
            only(&field, kind)
        });
        spec.x_kubernetes_validations.get_or_insert_default().extend(rules);
    }
    let mut ip = ip::IP::crd();
    ip.spec.versions.iter_mut().for_each(|version| version.subresources = None);
    let mut all = vec![subnet, ip, qos::QosSpec::crd()];
    for version in all.iter_mut().flat_map(|it| &mut it.spec.versions) {
        let schema = version.schema.as_mut().and_then(|it| it.open_api_v3_schema.as_mut());
        schema.into_iter().for_each(without_null);
    }
    all
}

/// How a Subnet is named in URLs.
pub(crate) fn subnets() -> ApiResource {
    subnet::Subnet::api_resource()
}

/// How an IP is named in URLs.
pub(crate) fn ips() -> ApiResource {
    ip::IP::api_resource()
}

/// How a QosSpec is named in URLs.
pub(crate) fn qos_specs() -> ApiResource {
    qos::QosSpec::api_resource()
}

fn spec_of(definition: &mut CustomResourceDefinition) -> Option<&mut JSONSchemaProps> {
    let version = definition.spec.versions.first_mut()?;
    let schema = version.schema.as_mut()?.open_api_v3_schema.as_mut()?;
    schema.properties.as_mut()?.get_mut("spec")
}

/// A field that is `null` is then dropped by the apiserver, and rules need not think of it.
fn without_null(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.properties.iter_mut().flat_map(|it| it.values_mut()).for_each(without_null);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        without_null(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        without_null(values);
    }
}

/// The rule that a field is left out, or says what is done anyway.
fn only(field: &FieldValues, kind: &str) -> Option<ValidationRule> {
    let FieldValues { name, allowed } = field;
    let is_so = match kind {
        "boolean" if allowed.len() > 1 => return None,
        "boolean" => format!("self.{name} == {}", allowed.first()?),
        "integer" => format!("self.{name} == {}", allowed.first()?),
        "string" => {
            let texts = allowed.iter().map(|text| format!("'{text}'"));
            let texts: Vec<String> = ["''".to_owned()].into_iter().chain(texts).collect();
            format!("self.{name} in [{}]", texts.join(", "))
        }
        // An object without fields, or an empty list.
        _ => format!("size(self.{name}) == 0"),
    };
    let only = match allowed {
        [] => String::new(),
        some => format!(", or say {}", some.join(" or ")),
    };
    Some(ValidationRule {
        rule: format!("!has(self.{name}) || {is_so}"),
        message: Some(format!("spec.{name} is not implemented; leave it out{only}")),
        ..ValidationRule::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize as _;
    use std::path::Path;

    /// What users install is what the types say. The first run writes the file: read it.
    #[test]
    fn the_definitions_are_as_they_are_installed() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes/crds.yaml");
        let made = definitions();
        if !path.exists() {
            let texts = made.iter().map(|it| serde_yaml_ng::to_string(it).unwrap());
            std::fs::write(&path, texts.collect::<Vec<_>>().join("---\n")).unwrap();
            panic!("{} was written: read it", path.display());
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let installed: Vec<CustomResourceDefinition> = serde_yaml_ng::Deserializer::from_str(&text)
            .map(|it| CustomResourceDefinition::deserialize(it).unwrap())
            .collect();
        // The two of them printed would be some thousand lines.
        assert!(made == installed, "delete {} to have it written anew", path.display());
    }

    /// A field that the manifests know and the schema does not would be dropped without a word.
    #[test]
    fn every_field_of_a_subnet_manifest_is_in_the_schema_and_the_other_way_round() {
        let mut subnet = definitions().remove(0);
        let spec = spec_of(&mut subnet).unwrap();
        let declared: Vec<&str> =
            spec.properties.as_ref().unwrap().keys().map(String::as_str).collect();
        let mut known: Vec<&str> = fixed_subnet_fields().map(|field| field.name).collect();
        known.extend(atoll_api::manifest::implemented_subnet_fields());
        known.sort_unstable();
        assert_eq!(declared, known);
    }

    /// `kubectl explain subnet.spec.gatewayNode` is where people look first.
    #[test]
    fn every_field_is_explained() {
        let mut bare = Vec::new();
        for definition in definitions() {
            let kind = &definition.spec.names.kind;
            for version in &definition.spec.versions {
                let schema = version.schema.as_ref().and_then(|it| it.open_api_v3_schema.as_ref());
                explained(kind, schema.unwrap(), &mut bare);
            }
        }
        assert!(bare.is_empty(), "no description, or one of a word or two: {bare:?}");
    }

    /// Collects the paths of what is not.
    fn explained(at: &str, schema: &JSONSchemaProps, bare: &mut Vec<String>) {
        let words = schema.description.as_deref().unwrap_or_default().split_whitespace();
        if words.count() < 3 {
            bare.push(at.to_owned());
        }
        for (name, field) in schema.properties.iter().flatten() {
            explained(&format!("{at}.{name}"), field, bare);
        }
        // What a list's items are is said of the list; what is in them is not.
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
            for (name, field) in items.properties.iter().flatten() {
                explained(&format!("{at}[].{name}"), field, bare);
            }
        }
    }

    /// Whoever reads that a field is not implemented wants to know what may be in it.
    #[test]
    fn a_field_that_is_not_implemented_says_what_it_may_be() {
        let mut subnet = definitions().remove(0);
        let fields = spec_of(&mut subnet).unwrap().properties.clone().unwrap();
        for field in fixed_subnet_fields() {
            let said = fields[field.name].description.as_deref().unwrap();
            let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
            if said.contains("either value is right") {
                assert_eq!(field.allowed.len(), 2, "{}", field.name);
                continue;
            }
            assert!(said.contains("Not implemented"), "{}: {said}", field.name);
            match field.allowed {
                [] => assert!(said.contains("leave it out"), "{}: {said}", field.name),
                some => some.iter().for_each(|it| {
                    assert!(said.contains(&format!("or be {it}")), "{}: {said}", field.name);
                }),
            }
        }
    }

    #[test]
    fn what_is_not_implemented_is_refused_by_its_name() {
        let mut subnet = definitions().remove(0);
        let rules = spec_of(&mut subnet).unwrap().x_kubernetes_validations.clone().unwrap();
        let rule = |field: &str| {
            let begin = format!("!has(self.{field})");
            let found = rules.iter().find(|it| it.rule.starts_with(&begin));
            found.map(|it| (it.rule.as_str(), it.message.as_deref().unwrap()))
        };
        assert_eq!(
            rule("vpc").unwrap(),
            (
                "!has(self.vpc) || self.vpc in ['', 'ovn-cluster']",
                "spec.vpc is not implemented; leave it out, or say ovn-cluster"
            )
        );
        assert_eq!(rule("vips").unwrap().0, "!has(self.vips) || size(self.vips) == 0");
        assert_eq!(
            rule("logicalGateway").unwrap().0,
            "!has(self.logicalGateway) || self.logicalGateway == false"
        );
        assert_eq!(rule("disableInterConnection"), None, "both values mean what is done anyway");
        assert_eq!(rule("private"), None, "it is implemented");
    }
}
