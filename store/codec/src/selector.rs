//! Label selectors, both ways.

use atoll_model as model;

use crate::proto::label_requirement::Operator;
use crate::{DecodeError, proto};

impl From<&model::LabelSelector> for proto::LabelSelector {
    fn from(selector: &model::LabelSelector) -> Self {
        Self {
            match_labels: selector.match_labels.clone(),
            match_expressions: selector.match_expressions.iter().map(Into::into).collect(),
        }
    }
}

impl From<&model::LabelRequirement> for proto::LabelRequirement {
    fn from(requirement: &model::LabelRequirement) -> Self {
        let (operator, values) = match &requirement.test {
            model::LabelTest::In(values) => (Operator::In, values.iter().cloned().collect()),
            model::LabelTest::NotIn(values) => (Operator::NotIn, values.iter().cloned().collect()),
            model::LabelTest::Exists => (Operator::Exists, Vec::new()),
            model::LabelTest::DoesNotExist => (Operator::DoesNotExist, Vec::new()),
        };
        Self { key: requirement.key.clone(), operator: operator.into(), values }
    }
}

impl TryFrom<&proto::LabelSelector> for model::LabelSelector {
    type Error = DecodeError;

    fn try_from(selector: &proto::LabelSelector) -> Result<Self, DecodeError> {
        let expressions = selector.match_expressions.iter().map(TryInto::try_into);
        Ok(Self {
            match_labels: selector.match_labels.clone(),
            match_expressions: expressions.collect::<Result<_, DecodeError>>()?,
        })
    }
}

impl TryFrom<&proto::LabelRequirement> for model::LabelRequirement {
    type Error = DecodeError;

    fn try_from(requirement: &proto::LabelRequirement) -> Result<Self, DecodeError> {
        let values = || requirement.values.iter().cloned().collect();
        let test = match Operator::try_from(requirement.operator) {
            Ok(Operator::In) => model::LabelTest::In(values()),
            Ok(Operator::NotIn) => model::LabelTest::NotIn(values()),
            Ok(Operator::Exists) => model::LabelTest::Exists,
            Ok(Operator::DoesNotExist) => model::LabelTest::DoesNotExist,
            _ => return Err(DecodeError::bad("selector.operator", requirement.operator)),
        };
        Ok(Self { key: requirement.key.clone(), test })
    }
}
