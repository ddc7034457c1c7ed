//! `atollctl trace`: what becomes of a packet that a pod sends, by three witnesses.

use std::io::Write as _;

use atoll_api::Client;
use atoll_api::proto::{TraceLeg, TraceProtocol, TraceRequest, TraceResponse, TraceVerdict};
use clap::Args;
use serde_json::{Value, json};

use crate::Failure;
use crate::arguments::Format;
use crate::output::{document, rows};
use crate::ovn;

/// The packet: the first one of a connection. Its answer is another trace, from the other end.
#[derive(Debug, Args)]
pub(crate) struct Trace {
    /// The pod that sends, as NAMESPACE/NAME.
    from: String,
    /// The pod that receives, as NAMESPACE/NAME, or an address.
    to: String,
    /// The first segment of a TCP connection to this port.
    #[arg(long, value_name = "PORT", conflicts_with_all = ["udp", "icmp"])]
    tcp: Option<u16>,
    /// A datagram to this UDP port.
    #[arg(long, value_name = "PORT", conflicts_with = "icmp")]
    udp: Option<u16>,
    /// An echo request; the default.
    #[arg(long)]
    icmp: bool,
    /// Between pods of both families: IPv6, and not IPv4.
    #[arg(short = '6', long)]
    ipv6: bool,
    /// Also prints everything that each witness says.
    #[arg(short, long)]
    verbose: bool,
}

impl Trace {
    fn request(&self) -> TraceRequest {
        let (protocol, port) = match (self.tcp, self.udp) {
            (Some(port), _) => (TraceProtocol::Tcp, port),
            (None, Some(port)) => (TraceProtocol::Udp, port),
            (None, None) => (TraceProtocol::Icmp, 0),
        };
        TraceRequest {
            from: self.from.clone(),
            to: self.to.clone(),
            protocol: protocol.into(),
            port: port.into(),
            ipv6: self.ipv6,
            min_revision: 0,
        }
    }
}

/// What a witness says.
#[derive(Debug)]
struct Said {
    witness: &'static str,
    /// The member or node that was asked; empty if nobody was.
    by: String,
    leg: TraceLeg,
}

impl Said {
    fn new(witness: &'static str, answer: TraceResponse) -> Self {
        Self { witness, by: answer.by, leg: answer.leg.unwrap_or_default() }
    }

    /// A witness that could not be asked is one that cannot tell.
    fn of(witness: &'static str, answer: Result<TraceResponse, Failure>) -> Self {
        answer.map(|answer| Self::new(witness, answer)).unwrap_or_else(|failure| {
            let why = match failure {
                Failure::Failed(error) | Failure::Usage(error) => format!("{error:#}"),
                Failure::Refused(why) => why,
            };
            Self { witness, by: String::new(), leg: TraceLeg { why, ..TraceLeg::default() } }
        })
    }
}

/// Exit status 1 says that a witness sees the packet dropped.
pub(crate) async fn run(client: &Client, asked: &Trace, format: Format) -> Result<(), Failure> {
    let request = asked.request();
    let state = client.trace_state(&request).await?;
    let request = TraceRequest { min_revision: state.revision, ..request };
    let ovn = async {
        let serving = ovn::serving(client).await?;
        Ok(client.only(&serving).trace_ovn(&request).await?)
    };
    let switch = async { Ok(client.trace_switch(&request).await?) };
    let (ovn, switch) = tokio::join!(ovn, switch);
    let (ovn, mut switch) = (Said::of("ovn", ovn), Said::of("switch", switch));
    if let Some(stage) = stage_of(&switch.leg.flow, &ovn.leg.output) {
        switch.leg.why.push_str(&format!(" ({stage})"));
    }
    let said = [Said::new("state", state), ovn, switch];
    show(asked, &said, format)?;
    match verdict(&said) {
        TraceVerdict::Drops => {
            let dropped = said.iter().filter(|it| it.leg.verdict() == TraceVerdict::Drops);
            let by: Vec<&str> = dropped.map(|it| it.witness).collect();
            let why = format!("the packet is dropped, says: {}", by.join(", "));
            Err(Failure::Failed(anyhow::Error::msg(why)))
        }
        _ => Ok(()),
    }
}

/// What all of them come to: one that sees it dropped is enough, and all have to see it pass, but
/// for what the state cannot read.
fn verdict(said: &[Said]) -> TraceVerdict {
    let verdicts = || said.iter().map(|it| it.leg.verdict());
    if verdicts().any(|verdict| verdict == TraceVerdict::Drops) {
        return TraceVerdict::Drops;
    }
    match verdicts().any(|verdict| verdict == TraceVerdict::Unknown) {
        true => TraceVerdict::Unknown,
        false => TraceVerdict::Passes,
    }
}

/// The stage of OVN's flow that a flow of the switch was made of, if `ovn-trace` has met it too: a
/// line like ` 8. ls_in_acl (northd.c:6459): ip4, priority 2001, uuid 0f1e2d3c`.
fn stage_of<'a>(flow: &str, output: &'a str) -> Option<&'a str> {
    let uuid = format!("uuid {flow}");
    let line = output.lines().find(|line| !flow.is_empty() && line.trim_end().ends_with(&uuid))?;
    let (_, rest) = line.split_once(". ")?;
    rest.split([' ', ':']).next()
}

fn word(verdict: TraceVerdict) -> &'static str {
    match verdict {
        TraceVerdict::Unknown => "unknown",
        TraceVerdict::Passes => "passes",
        TraceVerdict::Drops => "drops",
        TraceVerdict::Depends => "depends",
    }
}

fn show(asked: &Trace, said: &[Said], format: Format) -> Result<(), Failure> {
    match format {
        Format::Json | Format::Yaml => document(&as_value(asked, said), format),
        Format::Name => {
            let mut out = std::io::stdout().lock();
            let mut line = |it: &Said| writeln!(out, "{}/{}", it.witness, word(it.leg.verdict()));
            Ok(said.iter().try_for_each(&mut line)?)
        }
        Format::Table | Format::Wide => table(asked, said),
    }
}

fn table(asked: &Trace, said: &[Said]) -> Result<(), Failure> {
    let header = ["LEG", "BY", "VERDICT", "WHY"].map(ToOwned::to_owned).to_vec();
    let row = |it: &Said| {
        let by = if it.by.is_empty() { "-" } else { &it.by };
        let verdict = word(it.leg.verdict());
        vec![it.witness.to_owned(), by.to_owned(), verdict.to_owned(), it.leg.why.clone()]
    };
    rows(header, said.iter().map(row).collect())?;
    let mut out = std::io::stdout().lock();
    for Said { witness, by, leg } in said.iter().filter(|_| asked.verbose) {
        writeln!(out, "\n--- {witness} {by}\n{}", leg.output.trim_end())?;
    }
    Ok(())
}

fn as_value(asked: &Trace, said: &[Said]) -> Value {
    let request = asked.request();
    let leg = |it: &Said| {
        let leg = &it.leg;
        json!({
            "leg": it.witness,
            "by": (!it.by.is_empty()).then_some(&it.by),
            "verdict": word(leg.verdict()),
            "why": leg.why,
            "flow": (!leg.flow.is_empty()).then_some(&leg.flow),
            "output": asked.verbose.then_some(&leg.output),
        })
    };
    json!({
        "from": asked.from,
        "to": asked.to,
        "protocol": match request.protocol() {
            TraceProtocol::Icmp => "icmp",
            TraceProtocol::Tcp => "tcp",
            TraceProtocol::Udp => "udp",
        },
        "port": (request.port > 0).then_some(request.port),
        "verdict": word(verdict(said)),
        "legs": said.iter().map(leg).collect::<Value>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_sees_it_dropped_is_enough_and_all_have_to_see_it_pass() {
        use TraceVerdict::{Depends, Drops, Passes, Unknown};
        for (verdicts, expected) in [
            ([Passes, Passes, Passes], Passes),
            ([Depends, Passes, Passes], Passes),
            ([Passes, Passes, Drops], Drops),
            ([Drops, Unknown, Unknown], Drops),
            ([Passes, Unknown, Passes], Unknown),
            ([Passes, Passes, Unknown], Unknown),
        ] {
            let said = verdicts.map(|verdict| {
                let leg = TraceLeg { verdict: verdict.into(), ..TraceLeg::default() };
                Said { witness: "state", by: String::new(), leg }
            });
            assert_eq!(verdict(&said), expected, "{verdicts:?}");
        }
    }

    #[test]
    fn a_flow_of_the_switch_is_named_by_ovns_stage() {
        let output = " 0. ls_in_check_port_sec (northd.c:8587): 1, priority 50, uuid 6ab2ba4e\n    \
                      next;\n 8. ls_in_acl (northd.c:6459): ip4, priority 2000, uuid 0f1e2d3c\n";
        assert_eq!(stage_of("0f1e2d3c", output), Some("ls_in_acl"));
        assert_eq!(stage_of("6ab2ba4e", output), Some("ls_in_check_port_sec"));
        assert_eq!(stage_of("01010101", output), None);
        assert_eq!(stage_of("", output), None);
    }

    /// Whoever may not ask a witness is told so in its place, and hears the others.
    #[test]
    fn a_witness_that_cannot_be_asked_cannot_tell() {
        let refused = Err(Failure::Refused("viewer/v may not".to_owned()));
        let said = Said::of("ovn", refused);
        assert_eq!(said.leg.verdict(), TraceVerdict::Unknown);
        assert_eq!((said.leg.why.as_str(), said.by.as_str()), ("viewer/v may not", ""));
    }
}
