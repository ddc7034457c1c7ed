//! What a request is, and what is made of a list. Pure.

use atoll_tests::apiserver_faults::ListFault;
use hyper::{Method, Uri};
use serde_json::{Value, json};

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A page of all objects of a kind.
    List,
    /// What changes of them.
    Watch,
    Other,
}

impl Asked {
    pub(crate) fn of(method: &Method, uri: &Uri) -> Self {
        // /api/VERSION/KIND or /apis/GROUP/VERSION/KIND; with more behind it is one object, or those
        // of a namespace, which members do not ask for.
        let parts: Vec<&str> = uri.path().split('/').skip(1).collect();
        let is_collection = match parts.first() {
            Some(&"api") => parts.len() == 3,
            Some(&"apis") => parts.len() == 4,
            _ => false,
        };
        match parameter(uri, "watch") {
            _ if method != Method::GET || !is_collection => Self::Other,
            // One object, with the newest resource version.
            None if parameter(uri, "fieldSelector").is_some() => Self::Other,
            Some("true" | "1") => Self::Watch,
            _ => Self::List,
        }
    }
}

/// A parameter of the query, as it is written there.
pub(crate) fn parameter<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    let pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(key, value)| *key == name && !value.is_empty()).map(|(_, value)| value)
}

/// The same request with pages of another size, from the beginning if so asked.
pub(crate) fn paged(uri: &Uri, size: u32, from_the_beginning: bool) -> Uri {
    let is_kept = |pair: &&str| {
        let key = pair.split('=').next().unwrap_or_default();
        !pair.is_empty() && key != "limit" && !(key == "continue" && from_the_beginning)
    };
    let kept = uri.query().unwrap_or_default().split('&').filter(is_kept);
    let query: Vec<String> = kept.map(str::to_owned).chain([format!("limit={size}")]).collect();
    let text = format!("{}?{}", uri.path(), query.join("&"));
    text.parse().unwrap_or_else(|_| uri.clone())
}

/// A page as it is to be shown; `None` if it is no list.
pub(crate) fn changed(body: &[u8], fault: ListFault) -> Option<Vec<u8>> {
    let mut list: Value = serde_json::from_slice(body).ok()?;
    match fault {
        ListFault::Endless => list["metadata"]["continue"] = json!("another-one"),
        ListFault::Half => {
            let items = list["items"].as_array_mut()?;
            let mut index = 0;
            items.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            list["metadata"].as_object_mut()?.remove("remainingItemCount");
        }
        ListFault::Cut | ListFault::RefusedHalfWay => {}
    }
    serde_json::to_vec(&list).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(uri: &str) -> Asked {
        Asked::of(&Method::GET, &uri.parse().unwrap())
    }

    #[test]
    fn lists_watches_and_single_objects_are_told_apart() {
        assert_eq!(asked("/api/v1/pods?limit=500"), Asked::List);
        assert_eq!(asked("/apis/kubeovn.io/v1/ips"), Asked::List);
        assert_eq!(asked("/api/v1/pods?watch=true&resourceVersion=5"), Asked::Watch);
        assert_eq!(asked("/api/v1/namespaces/kube-system"), Asked::Other);
        assert_eq!(asked("/api/v1/namespaces/shop/pods/web"), Asked::Other);
        let one = "/api/v1/namespaces?fieldSelector=metadata.name%3Dkube-system";
        assert_eq!(asked(one), Asked::Other);
        let apply = Asked::of(&Method::PATCH, &"/apis/kubeovn.io/v1/ips".parse().unwrap());
        assert_eq!(apply, Asked::Other);
    }

    #[test]
    fn pages_become_small_and_an_endless_list_begins_again() {
        let uri: Uri = "/api/v1/pods?limit=500&continue=abc%3D&labelSelector=a".parse().unwrap();
        assert_eq!(paged(&uri, 3, false), "/api/v1/pods?continue=abc%3D&labelSelector=a&limit=3");
        assert_eq!(paged(&uri, 3, true), "/api/v1/pods?labelSelector=a&limit=3");
        let bare: Uri = "/api/v1/pods".parse().unwrap();
        assert_eq!(paged(&bare, 3, true), "/api/v1/pods?limit=3");
    }

    #[test]
    fn a_list_that_lies_is_shorter_and_says_nothing_of_it() {
        let list = json!({ "metadata": { "resourceVersion": "7" }, "items": [1, 2, 3, 4, 5] });
        let shown = changed(list.to_string().as_bytes(), ListFault::Half).unwrap();
        let shown: Value = serde_json::from_slice(&shown).unwrap();
        assert_eq!(shown, json!({ "metadata": { "resourceVersion": "7" }, "items": [1, 3, 5] }));
        let shown = changed(list.to_string().as_bytes(), ListFault::Endless).unwrap();
        let shown: Value = serde_json::from_slice(&shown).unwrap();
        assert_eq!(shown["metadata"]["continue"], "another-one");
        assert_eq!(changed(b"no JSON", ListFault::Half), None);
    }
}
