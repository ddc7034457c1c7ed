//! Gateways, NAT rules, DHCP and ACLs of subnets, both ways.

use atoll_model as model;

use crate::proto::acl::{Action, Direction};
use crate::proto::nat_rule;
use crate::to_model::{name, need};
use crate::{DecodeError, proto};
use crate::{from_model, to_model};

pub(crate) fn gateway(gateway: &model::GatewayType) -> Option<proto::CentralGateway> {
    let model::GatewayType::Centralized(central) = gateway else { return None };
    let node = |it: &model::GatewayNode| proto::GatewayNode {
        node: it.node.to_string(),
        egress: Some(it.egress.into()),
    };
    Some(proto::CentralGateway {
        nodes: central.nodes.iter().map(node).collect(),
        ecmp: central.ecmp,
    })
}

pub(crate) fn from_gateway(
    central: Option<&proto::CentralGateway>,
) -> Result<model::GatewayType, DecodeError> {
    let Some(central) = central else { return Ok(model::GatewayType::Distributed) };
    let node = |it: &proto::GatewayNode| {
        let egress = need("gateway.egress", it.egress.as_ref())?.try_into()?;
        Ok(model::GatewayNode { node: name("gateway.node", &it.node)?, egress })
    };
    let nodes = central.nodes.iter().map(node).collect::<Result<_, DecodeError>>()?;
    let ecmp = central.ecmp;
    Ok(model::GatewayType::Centralized(model::CentralGateway { nodes, ecmp }))
}

/// What is off and has no options takes no bytes.
pub(crate) fn dhcp(dhcp: &model::Dhcp) -> Option<proto::Dhcp> {
    let model::Dhcp { enabled, v4, v6 } = dhcp;
    let message = || proto::Dhcp { enabled: *enabled, v4: v4.clone(), v6: v6.clone() };
    (*dhcp != model::Dhcp::default()).then(message)
}

pub(crate) fn from_dhcp(dhcp: Option<&proto::Dhcp>) -> model::Dhcp {
    let Some(proto::Dhcp { enabled, v4, v6 }) = dhcp else { return model::Dhcp::default() };
    model::Dhcp { enabled: *enabled, v4: v4.clone(), v6: v6.clone() }
}

impl From<&model::NatRule> for proto::NatRule {
    fn from(rule: &model::NatRule) -> Self {
        let ranges =
            |them: &[model::AddressRange]| them.iter().copied().map(from_model::range).collect();
        let action = match rule.action {
            model::NatAction::Nat => nat_rule::Action::Nat,
            model::NatAction::Forward => nat_rule::Action::Forward,
        };
        Self {
            sources: ranges(&rule.sources),
            destinations: ranges(&rule.destinations),
            action: action.into(),
        }
    }
}

impl TryFrom<&proto::NatRule> for model::NatRule {
    type Error = DecodeError;

    fn try_from(rule: &proto::NatRule) -> Result<Self, DecodeError> {
        let ranges = |field, them: &[proto::AddressRange]| {
            them.iter().map(|it| to_model::range(field, it)).collect::<Result<_, _>>()
        };
        let action = match nat_rule::Action::try_from(rule.action) {
            Ok(nat_rule::Action::Nat) => model::NatAction::Nat,
            Ok(nat_rule::Action::Forward) => model::NatAction::Forward,
            _ => return Err(DecodeError::bad("nat_rule.action", rule.action)),
        };
        Ok(Self {
            sources: ranges("nat_rule.sources", &rule.sources)?,
            destinations: ranges("nat_rule.destinations", &rule.destinations)?,
            action,
        })
    }
}

impl From<&model::Acl> for proto::Acl {
    fn from(acl: &model::Acl) -> Self {
        let direction = match acl.direction {
            model::AclDirection::FromPort => Direction::FromPort,
            model::AclDirection::ToPort => Direction::ToPort,
        };
        let action = match acl.action {
            model::AclAction::Allow => Action::Allow,
            model::AclAction::AllowRelated => Action::AllowRelated,
            model::AclAction::AllowStateless => Action::AllowStateless,
            model::AclAction::Drop => Action::Drop,
            model::AclAction::Reject => Action::Reject,
        };
        Self {
            direction: direction.into(),
            priority: acl.priority.into(),
            matches: acl.matches.clone(),
            action: action.into(),
        }
    }
}

impl TryFrom<&proto::Acl> for model::Acl {
    type Error = DecodeError;

    fn try_from(acl: &proto::Acl) -> Result<Self, DecodeError> {
        let direction = match Direction::try_from(acl.direction) {
            Ok(Direction::FromPort) => model::AclDirection::FromPort,
            Ok(Direction::ToPort) => model::AclDirection::ToPort,
            _ => return Err(DecodeError::bad("acl.direction", acl.direction)),
        };
        let action = match Action::try_from(acl.action) {
            Ok(Action::Allow) => model::AclAction::Allow,
            Ok(Action::AllowRelated) => model::AclAction::AllowRelated,
            Ok(Action::AllowStateless) => model::AclAction::AllowStateless,
            Ok(Action::Drop) => model::AclAction::Drop,
            Ok(Action::Reject) => model::AclAction::Reject,
            _ => return Err(DecodeError::bad("acl.action", acl.action)),
        };
        let priority = u16::try_from(acl.priority);
        let priority = priority.map_err(|error| DecodeError::bad("acl.priority", error))?;
        Ok(Self { direction, priority, matches: acl.matches.clone(), action })
    }
}
