//! Kubernetes' label selectors: what they match, and which are sound.

use std::collections::BTreeSet;

use crate::{Labels, limits};

/// Which objects are meant, by their labels. All of it has to hold; empty means every object.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LabelSelector {
    /// Labels that the object has with these very values.
    pub match_labels: Labels,
    /// What else has to hold.
    pub match_expressions: Vec<LabelRequirement>,
}

/// What has to hold of one label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LabelRequirement {
    /// The label.
    pub key: String,
    /// What has to hold of it.
    pub test: LabelTest,
}

/// What may be asked of a label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum LabelTest {
    /// It is there, with one of these values.
    In(BTreeSet<String>),
    /// It is not there, or has none of these values.
    NotIn(BTreeSet<String>),
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

impl LabelSelector {
    /// Whether an object with these labels is meant. O(parts of the selector · log labels).
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|it| it.holds(labels))
    }

    /// Refuses what Kubernetes would not take, and what is too large.
    ///
    /// # Errors
    ///
    /// The rule that is broken.
    pub fn check(&self) -> Result<(), String> {
        let parts = self.match_labels.len() + self.match_expressions.len();
        if parts > limits::SELECTOR_PARTS_MAX {
            let most = limits::SELECTOR_PARTS_MAX;
            return Err(format!("a selector has {parts} parts; at most {most} are allowed"));
        }
        for (key, value) in &self.match_labels {
            check_key(key)?;
            check_value(value)?;
        }
        self.match_expressions.iter().try_for_each(LabelRequirement::check)
    }
}

impl LabelRequirement {
    fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match &self.test {
            LabelTest::In(values) => value.is_some_and(|value| values.contains(value)),
            LabelTest::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            LabelTest::Exists => value.is_some(),
            LabelTest::DoesNotExist => value.is_none(),
        }
    }

    fn check(&self) -> Result<(), String> {
        check_key(&self.key)?;
        let (LabelTest::In(values) | LabelTest::NotIn(values)) = &self.test else { return Ok(()) };
        if values.is_empty() {
            return Err(format!("In and NotIn of label {} need a value", self.key));
        }
        if values.len() > limits::SELECTOR_VALUES_MAX {
            let (count, most) = (values.len(), limits::SELECTOR_VALUES_MAX);
            return Err(format!("label {} has {count} values; at most {most}", self.key));
        }
        values.iter().try_for_each(|value| check_value(value))
    }
}

fn check_key(key: &str) -> Result<(), String> {
    let sound = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
    if sound && key.len() <= limits::LABEL_KEY_BYTES_MAX {
        return Ok(());
    }
    let shown: String = key.chars().take(80).collect();
    Err(format!("{shown:?} is no label key: 1–{} printable bytes", limits::LABEL_KEY_BYTES_MAX))
}

fn check_value(value: &str) -> Result<(), String> {
    let sound = value.bytes().all(|byte| byte.is_ascii_graphic());
    if sound && value.len() <= limits::LABEL_VALUE_BYTES_MAX {
        return Ok(());
    }
    let shown: String = value.chars().take(80).collect();
    Err(format!("{shown:?} is no label value: {} printable bytes", limits::LABEL_VALUE_BYTES_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|&(key, value)| (key.into(), value.into())).collect()
    }

    fn one(key: &str, test: LabelTest) -> LabelSelector {
        let match_expressions = vec![LabelRequirement { key: key.into(), test }];
        LabelSelector { match_labels: Labels::new(), match_expressions }
    }

    fn values(values: &[&str]) -> BTreeSet<String> {
        values.iter().map(|&value| value.into()).collect()
    }

    #[test]
    fn an_empty_selector_means_everything() {
        assert!(LabelSelector::default().matches(&labels(&[])));
        assert!(LabelSelector::default().matches(&labels(&[("a", "1")])));
    }

    #[test]
    fn all_labels_have_to_match() {
        let both = LabelSelector { match_labels: labels(&[("a", "1"), ("b", "2")]), ..one_of() };
        assert!(both.matches(&labels(&[("a", "1"), ("b", "2"), ("c", "3")])));
        assert!(!both.matches(&labels(&[("a", "1")])));
        assert!(!both.matches(&labels(&[("a", "1"), ("b", "3")])));
    }

    fn one_of() -> LabelSelector {
        one("a", LabelTest::In(values(&["1", "2"])))
    }

    #[test]
    fn each_test_treats_a_missing_label_as_kubernetes_does() {
        let (there, other, none) = (labels(&[("a", "1")]), labels(&[("a", "9")]), labels(&[]));
        let held = |test: LabelTest| {
            let it = one("a", test);
            [it.matches(&there), it.matches(&other), it.matches(&none)]
        };
        assert_eq!(held(LabelTest::In(values(&["1"]))), [true, false, false]);
        assert_eq!(held(LabelTest::NotIn(values(&["1"]))), [false, true, true]);
        assert_eq!(held(LabelTest::Exists), [true, true, false]);
        assert_eq!(held(LabelTest::DoesNotExist), [false, false, true]);
    }

    #[test]
    fn what_kubernetes_would_not_take_is_refused() {
        assert_eq!(one_of().check(), Ok(()));
        assert!(one("", LabelTest::Exists).check().unwrap_err().contains("no label key"));
        assert!(one("a", LabelTest::In(values(&[]))).check().unwrap_err().contains("need a value"));
        let long = "x".repeat(64);
        assert!(one("a", LabelTest::NotIn(values(&[&long]))).check().is_err());
        let many = (0..=limits::SELECTOR_PARTS_MAX).map(|n| (n.to_string(), String::new()));
        let many = LabelSelector { match_labels: many.collect(), ..LabelSelector::default() };
        assert!(many.check().unwrap_err().contains("at most 32"));
    }
}
