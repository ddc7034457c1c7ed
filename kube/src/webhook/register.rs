//! The leader tells the apiserver where to ask, and about what; or takes back what another one
//! told.
//!
//! Level-triggered: it is told again and again, which changes nothing at an apiserver that knows.

use std::convert::Infallible;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, RuleWithOperations, ValidatingWebhook, ValidatingWebhookConfiguration,
    WebhookClientConfig,
};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector, LabelSelectorRequirement, ObjectMeta,
};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::Value;

use crate::publish::MANAGER;
use crate::translate::PREFIX;

/// What the object is called.
const NAME: &str = "atoll";

/// The apiserver's own pods live there.
const SYSTEM: &str = "kube-system";

/// How long the apiserver waits, in seconds: what a pod is delayed by when nobody answers at all.
const TIMEOUT_SECONDS: i32 = 2;

/// It is told again so often: somebody may have deleted it.
const AGAIN: Duration = Duration::from_secs(60);

/// After it could not be told.
const RETRY: Duration = Duration::from_secs(5);

/// What a request may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Where a webhook is, and whom to trust there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registration {
    pub(super) url: String,
    /// PEM.
    pub(super) authority: String,
}

/// Keeps the apiserver told, as long as this is polled.
pub(crate) async fn keep(client: Client, registration: Option<Registration>) -> Infallible {
    let mut complained = false;
    loop {
        let told = tokio::time::timeout(DEADLINE, tell(&client, registration.as_ref())).await;
        let error = match told {
            Ok(Ok(())) => {
                if std::mem::take(&mut complained) {
                    tracing::info!("the apiserver knows of the webhook again");
                }
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {DEADLINE:?}"),
        };
        // Who has none, and may not even delete it, has never had one.
        if registration.is_some() && !std::mem::replace(&mut complained, true) {
            tracing::warn!(error, "the apiserver cannot be told of the webhook; trying again");
        } else {
            tracing::debug!(error, "the apiserver cannot be told of the webhook");
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn tell(client: &Client, registration: Option<&Registration>) -> Result<(), kube::Error> {
    let all: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let Some(registration) = registration else {
        return match all.delete(NAME, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            deleted => deleted.map(drop),
        };
    };
    let own = own_name(client).await?;
    let object = object(registration, &own, client.default_namespace());
    let apply = PatchParams::apply(MANAGER).force();
    all.patch(NAME, &apply, &Patch::Apply(object)).await.map(drop)
}

/// As whom the apiserver knows this member.
async fn own_name(client: &Client) -> Result<String, kube::Error> {
    let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await?;
    let user = review.status.and_then(|status| status.user_info);
    Ok(user.and_then(|user| user.username).unwrap_or_default())
}

/// What the apiserver is told. `own` writes without being asked about it; `home` is the namespace of
/// members that are pods.
fn object(registration: &Registration, own: &str, home: &str) -> ValidatingWebhookConfiguration {
    let webhook = |name: &str, rules: Vec<RuleWithOperations>, conditions: Vec<MatchCondition>| {
        let url = Some(registration.url.clone());
        let ca_bundle = Some(ByteString(registration.authority.clone().into_bytes()));
        // A text of JSON is one of CEL.
        let own = Value::from(own);
        let not_ours = condition("not-atoll", format!("request.userInfo.username != {own}"));
        ValidatingWebhook {
            name: format!("{name}.webhook.atoll.io"),
            admission_review_versions: vec!["v1".to_owned()],
            client_config: WebhookClientConfig { url, ca_bundle, service: None },
            failure_policy: Some("Ignore".to_owned()),
            match_conditions: Some(std::iter::once(not_ours).chain(conditions).collect()),
            match_policy: Some("Equivalent".to_owned()),
            namespace_selector: Some(elsewhere(home)),
            object_selector: Some(LabelSelector::default()),
            rules: Some(rules),
            side_effects: "None".to_owned(),
            timeout_seconds: Some(TIMEOUT_SECONDS),
        }
    };
    let put = ["CREATE", "UPDATE"];
    let ours = vec![
        rule(&["CREATE", "UPDATE", "DELETE"], "kubeovn.io", &["subnets"], "Cluster"),
        rule(&put, "kubeovn.io", &["ips"], "Cluster"),
        rule(&put, "atoll.io", &["qosspecs"], "Cluster"),
    ];
    let apps = rule(&put, "apps", &["deployments", "statefulsets", "daemonsets"], "Namespaced");
    let workloads = vec![apps, rule(&put, "batch", &["jobs"], "Namespaced")];
    let crons = vec![rule(&put, "batch", &["cronjobs"], "Namespaced")];
    let pods = vec![rule(&put, "", &["pods"], "Namespaced")];
    let webhooks = vec![
        webhook("objects", ours, Vec::new()),
        webhook("pods", pods, asks("").into_iter().chain([not_a_node()]).collect()),
        webhook("templates", workloads, asks(".spec.template")),
        webhook("cronjobs", crons, asks(".spec.jobTemplate.spec.template")),
    ];
    let metadata = ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() };
    ValidatingWebhookConfiguration { metadata, webhooks: Some(webhooks) }
}

fn rule(verbs: &[&str], group: &str, resources: &[&str], scope: &str) -> RuleWithOperations {
    let own = |texts: &[&str]| Some(texts.iter().map(|&text| text.to_owned()).collect());
    RuleWithOperations {
        api_groups: own(&[group]),
        api_versions: own(&["v1"]),
        operations: own(verbs),
        resources: own(resources),
        scope: Some(scope.to_owned()),
    }
}

fn condition(name: &str, expression: String) -> MatchCondition {
    MatchCondition { name: name.to_owned(), expression }
}

/// What has the metadata at `at` asks something of the network, and did not ask the same before.
/// Most pods ask for nothing, and nobody waits for us because of them.
fn asks(at: &str) -> Vec<MatchCondition> {
    let annotated = |object: &str| {
        format!("has({object}{at}.metadata) && has({object}{at}.metadata.annotations)")
    };
    let (now, before) = (annotated("object"), annotated("oldObject"));
    vec![
        condition(
            "asks",
            format!("{now} && object{at}.metadata.annotations.exists(it, it.contains('{PREFIX}'))"),
        ),
        condition(
            "anew",
            format!(
                "oldObject == null || !({before}) || \
                 object{at}.metadata.annotations != oldObject{at}.metadata.annotations"
            ),
        ),
    ]
}

/// A kubelet shows pods that run already, and must not be told that they may not.
fn not_a_node() -> MatchCondition {
    let groups = "request.userInfo.groups";
    condition("not-a-node", format!("!has({groups}) || !('system:nodes' in {groups})"))
}

/// Neither what the apiserver needs nor what Atoll needs. What is in no namespace is always meant.
fn elsewhere(home: &str) -> LabelSelector {
    let mut exempt = vec![SYSTEM.to_owned()];
    // A kubeconfig without a namespace says so; its members are no pods there.
    if home != SYSTEM && home != "default" {
        exempt.push(home.to_owned());
    }
    let elsewhere = LabelSelectorRequirement {
        key: "kubernetes.io/metadata.name".to_owned(),
        operator: "NotIn".to_owned(),
        values: Some(exempt),
    };
    LabelSelector { match_expressions: Some(vec![elsewhere]), match_labels: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::apiserver;
    use serde_json::json;

    fn registration() -> Registration {
        Registration { url: "https://10.0.0.1:7443/x".to_owned(), authority: "PEM".to_owned() }
    }

    fn told(own: &str, home: &str) -> Value {
        serde_json::to_value(object(&registration(), own, home)).unwrap()
    }

    fn webhooks(object: &Value) -> Vec<Value> {
        object["webhooks"].as_array().unwrap().clone()
    }

    fn expressions(webhook: &Value) -> String {
        let all = webhook["matchConditions"].as_array().unwrap().iter();
        all.map(|it| it["expression"].as_str().unwrap()).collect::<Vec<_>>().join("\n")
    }

    /// A cluster whose members are all dead must go on.
    #[test]
    fn an_apiserver_without_an_answer_goes_on() {
        for webhook in webhooks(&told("atolld", "default")) {
            assert_eq!(webhook["failurePolicy"], "Ignore", "{webhook}");
            assert_eq!(webhook["timeoutSeconds"], TIMEOUT_SECONDS, "{webhook}");
            assert_eq!(webhook["sideEffects"], "None", "{webhook}");
            assert_eq!(webhook["admissionReviewVersions"], json!(["v1"]), "{webhook}");
            // "PEM"
            assert_eq!(webhook["clientConfig"]["caBundle"], "UEVN", "{webhook}");
            assert_eq!(webhook["clientConfig"]["url"], registration().url, "{webhook}");
        }
    }

    #[test]
    fn nobody_is_asked_about_the_clusters_own_and_about_what_atoll_writes() {
        let object = told("atolld", "atoll-system");
        let exempt = json!([SYSTEM, "atoll-system"]);
        for webhook in webhooks(&object) {
            let selector = &webhook["namespaceSelector"]["matchExpressions"][0];
            assert_eq!((&selector["operator"], &selector["values"]), (&json!("NotIn"), &exempt));
            assert!(expressions(&webhook).contains("request.userInfo.username != \"atolld\""));
        }
        let none = webhooks(&told("atolld", "default"));
        let values = &none[0]["namespaceSelector"]["matchExpressions"][0]["values"];
        assert_eq!(*values, json!([SYSTEM]));
    }

    /// A name may hold anything, and must not end the expression.
    #[test]
    fn a_name_stays_a_text() {
        let expressions = expressions(&webhooks(&told("a\" || true || \"\\", "default"))[0]);
        assert_eq!(expressions, r#"request.userInfo.username != "a\" || true || \"\\""#);
    }

    #[test]
    fn each_kind_that_asks_for_a_network_is_asked_about() {
        let object = told("atolld", "default");
        let rules: Vec<(String, String)> = webhooks(&object)
            .iter()
            .flat_map(|webhook| webhook["rules"].as_array().unwrap().clone())
            .map(|rule| (rule["resources"].to_string(), rule["operations"].to_string()))
            .collect();
        let (put, all) = (r#"["CREATE","UPDATE"]"#, r#"["CREATE","UPDATE","DELETE"]"#);
        let expected = [
            (r#"["subnets"]"#, all),
            (r#"["ips"]"#, put),
            (r#"["qosspecs"]"#, put),
            (r#"["pods"]"#, put),
            (r#"["deployments","statefulsets","daemonsets"]"#, put),
            (r#"["jobs"]"#, put),
            (r#"["cronjobs"]"#, put),
        ];
        let rules: Vec<_> = rules.iter().map(|(one, two)| (one.as_str(), two.as_str())).collect();
        assert_eq!(rules, expected);
        let crons = expressions(&webhooks(&object)[3]);
        let at = "object.spec.jobTemplate.spec.template.metadata.annotations";
        assert!(crons.contains(&format!("{at}.exists(it, it.contains('{PREFIX}'))")), "{crons}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_apiserver_is_told_again_and_again() {
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview",
            "status": { "userInfo": { "username": "atolld" } },
        });
        let kept = told("atolld", "default");
        let (client, asked) = apiserver(vec![
            (201, vec![review.clone()]),
            (200, vec![kept.clone()]),
            (500, vec![json!({ "kind": "Status", "code": 500, "status": "Failure" })]),
            (201, vec![review]),
            (200, vec![kept]),
        ]);
        let patience = AGAIN + RETRY + Duration::from_secs(1);
        tokio::time::timeout(patience, keep(client, Some(registration()))).await.unwrap_err();
        let asked = asked.all();
        let place = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/atoll";
        assert!(asked[1].starts_with(&format!("PATCH {place}?")), "{asked:?}");
        assert!(asked[1].contains("fieldManager=atoll") && asked[1].contains("force=true"));
        assert!(asked[2].starts_with("POST") && asked[3].starts_with("POST"), "{asked:?}");
        assert!(asked[4].starts_with(&format!("PATCH {place}?")), "{asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_another_leader_told_is_taken_back() {
        let gone = json!({ "kind": "Status", "code": 404, "status": "Failure" });
        let (client, asked) = apiserver(vec![(404, vec![gone])]);
        tokio::time::timeout(AGAIN / 2, keep(client, None)).await.unwrap_err();
        let place = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/atoll";
        assert_eq!(asked.all(), [format!("DELETE {place}?")]);
    }
}
