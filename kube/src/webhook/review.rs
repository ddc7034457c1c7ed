//! `AdmissionReview` of `admission.k8s.io/v1`: what is asked, and what is answered. Pure.

use serde::Deserialize;
use serde_json::{Value, json};

/// Group and version of what is understood; the registration names no other.
const API_VERSION: &str = "admission.k8s.io/v1";

/// An apiserver may cut off what is longer than 256 bytes or so.
const WARNING_CHARS_MAX: usize = 250;

/// The refusal's code: nothing is wrong with the form of the object, and a retry changes nothing.
const CODE: u16 = 422;

/// What happens to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Verb {
    Create,
    Update,
    Delete,
    /// Another one, of which nothing was asked to be told.
    #[serde(other)]
    Other,
}

/// What the apiserver is about to do.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request {
    pub(super) uid: String,
    pub(super) resource: Resource,
    #[serde(default)]
    pub(super) sub_resource: String,
    #[serde(default)]
    pub(super) namespace: String,
    pub(super) operation: Verb,
    /// As it would be; `null` when it is deleted.
    #[serde(default)]
    pub(super) object: Value,
    /// As it was; `null` when it is created.
    #[serde(default)]
    pub(super) old_object: Value,
}

/// Which objects.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Resource {
    #[serde(default)]
    pub(super) group: String,
    pub(super) resource: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    kind: String,
    request: Option<Request>,
}

/// What is said to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing is against it; sentences for whoever asked all the same.
    Allowed(Vec<String>),
    /// It would be refused, for this reason.
    Refused(String),
}

/// What was sent is nothing that can be judged: a sentence for whoever sent it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) String);

/// Reads what was posted.
pub(super) fn read(body: &[u8]) -> Result<Request, Malformed> {
    let review: Review = serde_json::from_slice(body)
        .map_err(|error| Malformed(format!("no AdmissionReview: {error}")))?;
    if review.api_version != API_VERSION || review.kind != "AdmissionReview" {
        let (version, kind) = (review.api_version, review.kind);
        return Err(Malformed(format!(
            "{version} {kind} is not understood; {API_VERSION} AdmissionReview is"
        )));
    }
    review.request.ok_or_else(|| Malformed("the AdmissionReview holds no request".to_owned()))
}

/// What is sent back.
pub(super) fn answer(uid: &str, verdict: &Verdict) -> Value {
    let response = match verdict {
        Verdict::Allowed(warnings) => {
            let short = |it: &String| it.chars().take(WARNING_CHARS_MAX).collect::<String>();
            let warnings: Vec<String> = warnings.iter().map(short).collect();
            json!({ "uid": uid, "allowed": true, "warnings": warnings })
        }
        Verdict::Refused(why) => {
            let status = json!({ "code": CODE, "reason": "Invalid", "message": why });
            json!({ "uid": uid, "allowed": false, "status": status })
        }
    };
    json!({ "apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As an apiserver of 1.33 sends it, shortened.
    fn review() -> Value {
        json!({
            "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
            "request": {
                "uid": "8b7e", "name": "blue", "operation": "UPDATE",
                "kind": { "group": "kubeovn.io", "version": "v1", "kind": "Subnet" },
                "resource": { "group": "kubeovn.io", "version": "v1", "resource": "subnets" },
                "userInfo": { "username": "admin", "groups": ["system:masters"] },
                "object": { "spec": { "mtu": 1400 } }, "oldObject": { "spec": {} },
                "dryRun": false, "options": { "kind": "UpdateOptions" },
            },
        })
    }

    fn error(review: &Value) -> String {
        read(review.to_string().as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn what_an_apiserver_sends_is_read() {
        let request = read(review().to_string().as_bytes()).unwrap();
        assert_eq!((request.uid.as_str(), request.operation), ("8b7e", Verb::Update));
        assert_eq!(request.resource.resource, "subnets");
        assert_eq!(request.object["spec"]["mtu"], 1400);
        assert_eq!((request.namespace.as_str(), request.sub_resource.as_str()), ("", ""));
    }

    #[test]
    fn what_is_missing_when_something_is_made_or_deleted_is_null() {
        for (verb, absent) in [("CREATE", "oldObject"), ("DELETE", "object"), ("CONNECT", "object")]
        {
            let mut review = review();
            review["request"]["operation"] = json!(verb);
            review["request"][absent] = Value::Null;
            let request = read(review.to_string().as_bytes()).unwrap();
            let found = if verb == "CREATE" { request.old_object } else { request.object };
            assert_eq!(found, Value::Null, "{verb}");
        }
    }

    #[test]
    fn what_is_no_review_is_named() {
        assert!(read(b"hello").unwrap_err().to_string().starts_with("no AdmissionReview: "));
        assert!(error(&json!({ "kind": "AdmissionReview" })).contains("apiVersion"));
        let mut old = review();
        old["apiVersion"] = json!("admission.k8s.io/v1beta1");
        assert!(error(&old).contains("v1beta1 AdmissionReview is not understood"));
        let mut empty = review();
        empty["request"] = Value::Null;
        assert!(error(&empty).contains("holds no request"));
        let mut nameless = review();
        nameless["request"]["resource"] = json!({});
        assert!(error(&nameless).contains("resource"));
    }

    #[test]
    fn an_answer_names_the_question_and_says_why() {
        let refused = answer("8b7e", &Verdict::Refused("it overlaps".to_owned()));
        assert_eq!(refused["response"]["uid"], "8b7e");
        assert_eq!(refused["response"]["allowed"], false);
        assert_eq!(refused["response"]["status"]["message"], "it overlaps");
        let allowed = answer("8b7e", &Verdict::Allowed(vec!["é".repeat(1_000)]));
        assert_eq!(allowed["response"]["allowed"], true);
        let warning = allowed["response"]["warnings"][0].as_str().unwrap();
        assert_eq!(warning.chars().count(), WARNING_CHARS_MAX);
        assert_eq!(allowed["apiVersion"], review()["apiVersion"]);
    }
}
