//! `natOutgoingPolicyRules` of a Subnet: exceptions from `natOutgoing`.

use atoll_model::{AddressRange, NatAction, NatRule};
use serde::Deserialize;
use serde_json::{Value, json};

/// A rule as it is written. Ranges are addresses, CIDRs or `a..b`, with commas between them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    #[serde(default)]
    r#match: Match,
    action: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Match {
    #[serde(rename = "srcIPs")]
    sources: String,
    #[serde(rename = "dstIPs")]
    destinations: String,
}

impl Written {
    /// The rule that it means, or what is wrong with it.
    pub(super) fn parse(&self) -> Result<NatRule, String> {
        let action = match self.action.as_str() {
            "nat" => NatAction::Nat,
            "forward" => NatAction::Forward,
            other => return Err(format!("action {other:?} is none of nat, forward")),
        };
        let (sources, destinations) =
            (ranges(&self.r#match.sources)?, ranges(&self.r#match.destinations)?);
        Ok(NatRule { sources, destinations, action })
    }
}

fn ranges(text: &str) -> Result<Vec<AddressRange>, String> {
    let texts = text.split(',').map(str::trim).filter(|text| !text.is_empty());
    let read = |text: &str| text.parse().map_err(|error| format!("{error}"));
    texts.map(read).collect()
}

/// A rule as it is written.
pub(super) fn json(rule: &NatRule) -> Value {
    let joined = |ranges: &[AddressRange]| {
        ranges.iter().map(AddressRange::as_written).collect::<Vec<_>>().join(",")
    };
    json!({
        "match": { "srcIPs": joined(&rule.sources), "dstIPs": joined(&rule.destinations) },
        "action": rule.action.to_string(),
    })
}
