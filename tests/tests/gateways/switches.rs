//! Subnets whose gateway and translation are switched while their pods talk.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_tests::lab::Lab;
use atoll_tests::outside::{DESIGNATED, Frame, designate};
use atoll_tests::report::{Report, Target};
use atoll_tests::talk::now;
use atoll_tests::wait::{pass, wait_until};

use crate::field::{NATTED, Outside, all_heard};

/// A way to leave.
struct Way {
    spec: &'static str,
    is_natted: bool,
    /// The nodes that it leaves by; none if it is any.
    nodes: &'static [u8],
    /// It appears under the designated address.
    is_designated: bool,
}

const fn way(spec: &'static str, is_natted: bool, nodes: &'static [u8]) -> Way {
    Way { spec, is_natted, nodes, is_designated: false }
}

const WAYS: [Way; 10] = [
    way("natOutgoing: true", true, &[]),
    way("natOutgoing: true; gatewayType: centralized; gatewayNode: n1", true, &[1]),
    way(
        "natOutgoing: true; gatewayType: centralized; gatewayNode: \"n2,n3\"; enableEcmp: true",
        true,
        &[2, 3],
    ),
    way("natOutgoing: false; gatewayType: centralized; gatewayNode: n3", false, &[3]),
    way("natOutgoing: true; gatewayType: centralized; gatewayNode: n3", true, &[3]),
    // Answers come in by a node that is not the gateway.
    way(
        "natOutgoing: true; gatewayType: centralized; gatewayNode: n2; natOutgoingPolicyRules: [\
         { match: { dstIPs: 203.0.113.0/24 }, action: forward }, \
         { match: { srcIPs: \"fd00:71::/64\", dstIPs: \"fd99::1\" }, action: forward }]",
        false,
        &[2],
    ),
    way("natOutgoing: false", false, &[]),
    way(
        "natOutgoing: true; natOutgoingPolicyRules: [\
         { match: { dstIPs: 203.0.113.1 }, action: nat }, \
         { match: { dstIPs: \"fd99::1\" }, action: nat }, \
         { match: { dstIPs: 0.0.0.0/0 }, action: forward }, \
         { match: { dstIPs: \"::/0\" }, action: forward }]",
        true,
        &[],
    ),
    Way {
        is_designated: true,
        ..way(
            "natOutgoing: true; gatewayType: centralized; \
             gatewayNode: \"n2:172.31.0.150,fd31::150\"",
            true,
            &[2],
        )
    },
    // Whoever serves goes on to.
    way("natOutgoing: true; gatewayType: centralized; gatewayNode: \"n1,n2\"", true, &[1, 2]),
];

/// How long is talked by one way.
const STAY: Duration = Duration::from_millis(800);

/// One way, from the command on, since it is installed, and until the next command.
struct Stay {
    way: usize,
    asked: u128,
    installed: u128,
    left: u128,
}

pub(crate) async fn campaign(lab: &Lab, switches: u32, report: &mut Report) -> Result<()> {
    let outside = Outside::start(lab).await?;
    designate(&lab.node(2)?.space()?).await?;
    NATTED.set(lab, WAYS[0].spec).await?;
    let mut talkers = Vec::new();
    for node in 1..=crate::NODES {
        let pod = NATTED.pod(lab, &format!("on{node}"), node).await?;
        for family in [0, 1] {
            for way in [&["knock"][..], &["redial"], &["call", "udp"]] {
                let who = format!("{way:?} on {node}, family {family}");
                talkers.push((who, NATTED.talker(lab, &pod, way, family)?));
            }
        }
    }
    all_heard(&talkers, 20).await?;
    let mut stays = vec![Stay { way: 0, asked: now()?, installed: now()?, left: u128::MAX }];
    for switch in 1..=usize::try_from(switches)? {
        let way = switch % WAYS.len();
        let asked = now()?;
        stays.last_mut().context("there is a first one")?.left = asked;
        NATTED.set(lab, WAYS[way].spec).await.with_context(|| format!("switch {switch}"))?;
        stays.push(Stay { way, asked, installed: now()?, left: u128::MAX });
        pass(STAY).await;
    }
    // Whoever talks is still answered, by the last way.
    let begun = now()?;
    wait_until(Duration::from_secs(20), "everybody to be answered", || async {
        for (who, talker) in &talkers {
            let heard = talker.heard()?.into_iter().filter(|at| *at > begun).count();
            ensure!(heard > 5, "{who}: {heard} answers after the last switch");
        }
        Ok(())
    })
    .await?;
    stays.last_mut().context("there is a first one")?.left = now()?;
    tell(&outside.capture.frames()?, &stays, report);
    Ok(())
}

fn tell(frames: &[Frame], stays: &[Stay], report: &mut Report) {
    let (mut seen, mut bare, mut elsewhere, mut undesignated) = (0, Vec::new(), Vec::new(), 0);
    let mut translated = Vec::new();
    for frame in frames.iter().filter(|it| it.port == NATTED.port) {
        seen += 1;
        let Some(at) = stays.iter().rposition(|stay| stay.asked <= frame.at) else { continue };
        let stay = &stays[at];
        let (now, before) = (&WAYS[stay.way], at.checked_sub(1).map(|at| &WAYS[stays[at].way]));
        let is_installed = frame.at > stay.installed && frame.at < stay.left;
        // While it changes from one way that translates to another, too.
        let is_natted =
            now.is_natted && (is_installed || before.is_none_or(|before| before.is_natted));
        if is_natted && NATTED.holds(frame.from) {
            let after = frame.at.saturating_sub(stay.asked);
            bare.push(format!("{frame:?}, {after} ms after {:?} was asked for", now.spec));
        }
        // A node that has forgotten a translation answers what still comes for it, as itself.
        let is_own = frame.is_reset && !NATTED.holds(frame.from);
        if is_installed && !now.nodes.is_empty() && !now.nodes.contains(&frame.node) && !is_own {
            let after = frame.at.saturating_sub(stay.installed);
            elsewhere.push(format!("{frame:?}, {after} ms after {:?} was installed", now.spec));
        }
        let is_designated = DESIGNATED.contains(&frame.from.to_string().as_str());
        if is_installed && now.is_designated != is_designated && !is_own {
            undesignated += 1;
        }
        if is_installed && !now.is_natted && !NATTED.holds(frame.from) && !is_own {
            let after = frame.at.saturating_sub(stay.installed);
            translated.push(format!("{frame:?}, {after} ms after {:?} was installed", now.spec));
        }
    }
    let count = |many: usize| f64::from(u32::try_from(many).unwrap_or(u32::MAX));
    let none = Target::Exactly(0.0);
    report.note("switches of type, nodes and translation", "switches", count(stays.len() - 1));
    report.claim("frames that were seen outside", "frames", count(seen), Target::AtLeast(1_000.0));
    let case = "frames with a pod's source when it should be translated";
    report.claim(case, "frames", count(bare.len()), none);
    report.details(bare.into_iter().take(20).collect());
    let case = "frames by another node than the gateway's, once that is installed";
    report.claim(case, "frames", count(elsewhere.len()), none);
    report.details(elsewhere.into_iter().take(20).collect());
    let case = "frames under another than the designated address, once that is installed";
    report.claim(case, "frames", count(undesignated), none);
    let case = "frames under a node's address when pods keep theirs, once that is installed";
    report.claim(case, "frames", count(translated.len()), none);
    report.details(translated.into_iter().take(20).collect());
    let waits = stays.iter().skip(1).map(|stay| stay.installed - stay.asked);
    let longest = waits.max().unwrap_or_default();
    report.note("longest, until a switch was installed", "ms", count(longest as usize));
}
