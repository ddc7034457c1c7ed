//! What certificates cost a cluster that is written into.

use std::time::{Duration, Instant};

use atoll_ovsdb::{Client, Datum, Operation, Options};
use uuid::Uuid;

use crate::*;

/// Ports of one transaction.
const BATCH: u128 = 100;

/// How long a client of the leader takes to fill a northbound with `ports`, and how long one more port.
async fn filled(pki: Option<&Pki>, ports: u128) -> [Duration; 2] {
    let dir = tempfile::tempdir().unwrap();
    let member = |name: &str| Member::new(dir.path(), name, pki.map(|pki| pki.central(name)));
    let [first, second, third] = ["1", "2", "3"].map(member);
    first.set_part(Part { form: Form::Create, ..Part::default() });
    first.becomes("a leader", |it| it.nb.connected && it.sb.connected).await;
    for other in [&second, &third] {
        other.set_part(joining(&[&first]));
    }
    third.takes_part().await;
    let tls = pki.map(|pki| pki.client("member/2"));
    let options = Options { tls, call_timeout: DEADLINE, ..Options::default() };
    let nb = first.servers()[0].endpoint.parse().unwrap();
    let client = Client::connect_with(&nb, &options).await.unwrap();
    let begun = Instant::now();
    for batch in 0..ports / BATCH {
        let ports = (0..BATCH).map(|n| insert(batch * BATCH + n));
        let ports: Vec<_> = ports.flatten().collect();
        client.transact("OVN_Northbound", &ports).await.unwrap();
    }
    let all = begun.elapsed();
    let mut one: Vec<_> = Vec::new();
    for n in 0..21 {
        let begun = Instant::now();
        client.transact("OVN_Northbound", &insert(ports + n)).await.unwrap();
        one.push(begun.elapsed());
    }
    one.sort();
    [all, one[10]]
}

/// A port, and a switch to hold it.
fn insert(number: u128) -> [Operation; 2] {
    let uuid = Uuid::from_u128(number + 1);
    let row = |columns: [(&str, Datum); 2]| columns.map(|(name, it)| (name.to_owned(), it)).into();
    let addresses = format!("0a:00:00:00:00:01 10.16.{}.{}", number / 250, number % 250);
    let port = row([("name", uuid.to_string().into()), ("addresses", addresses.into())]);
    let switch = row([("name", format!("switch-{number}").into()), ("ports", uuid.into())]);
    [
        Operation::insert_as("Logical_Switch_Port", uuid, port),
        Operation::insert("Logical_Switch", switch),
    ]
}

/// It works either way; how long it takes is for people. `ATOLL_TLS_PORTS` says with how many ports.
#[tokio::test]
#[allow(clippy::print_stdout, reason = "its figures are for people")]
async fn what_certificates_cost() {
    let (ports, rounds) = match std::env::var("ATOLL_TLS_PORTS") {
        Ok(told) => (told.parse().unwrap(), 5),
        Err(_) => (200, 1),
    };
    let pki = Pki::new();
    let mut took = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (which, pki) in [None, Some(&pki)].into_iter().enumerate() {
            took[which].push(filled(pki, ports).await);
        }
    }
    for (how, took) in ["plainly", "with TLS"].into_iter().zip(took) {
        let median = |which: usize| {
            let mut of: Vec<_> = took.iter().map(|it| it[which]).collect();
            of.sort();
            of[rounds / 2]
        };
        println!("{how}: {ports} ports {:?}, one more {:?}", median(0), median(1));
    }
}
