//! The generator: pods as quickly as the apiserver takes them from so many clients.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::Result;
use hyper::Method;
use kube::Client;
use serde_json::{Value, json};

use crate::apiserver::{ask_all, pod, pod_name, pods_path};

/// When a load began and how long the generator took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Made {
    pub(crate) began: Instant,
    pub(crate) took: Duration,
}

/// Makes pods.
pub(crate) async fn create(
    client: &Client,
    clients: usize,
    load: &str,
    pods: Range<u32>,
) -> Result<Made> {
    let began = Instant::now();
    let all = pods.map(|index| (pods_path(), pod(load, index)));
    ask_all(client, clients, &Method::POST, all).await?;
    Ok(Made { began, took: began.elapsed() })
}

/// Deletes pods, at once.
pub(crate) async fn delete(
    client: &Client,
    clients: usize,
    load: &str,
    pods: Range<u32>,
) -> Result<Made> {
    let began = Instant::now();
    let options: Value = json!({ "gracePeriodSeconds": 0 });
    let path = |index| format!("{}/{}", pods_path(), pod_name(load, index));
    let all = pods.map(|index| (path(index), options.clone()));
    ask_all(client, clients, &Method::DELETE, all).await?;
    Ok(Made { began, took: began.elapsed() })
}
