//! Frames from a pod to another, and how many arrive.

#![allow(clippy::float_arithmetic, reason = "figures of measurements; no replica computes here")]

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use atoll_tests::flow::address;
use atoll_tests::lab::{Lab, Place, Pod, run};
use atoll_tests::talk::Talker;
use atoll_tests::wait::pass;
use serde_json::Value;

/// Of what is offered: it fits into the pods' MTU. The limit counts frames, of which UDP's have so
/// many bytes.
const BYTES: u32 = 1_300;
pub(super) const FRAME: u32 = BYTES + 8 + 20 + 14;

/// After this the burst is used up, and a change is there.
pub(super) const WARM_UP: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(5);

const PORT: u16 = 9_100;

#[derive(Debug, Clone, Copy)]
pub(super) enum Protocol {
    Udp,
    Tcp,
}

/// Packets a second of so many Mbit/s.
pub(super) fn offering(mbit: u32) -> u32 {
    mbit * 1_000_000 / 8 / FRAME
}

/// From a pod to another, with what arrives counted as frames by the receiver's interface.
pub(super) struct Stream {
    _pour: Talker,
    _drain: Talker,
    lab: Lab,
    to: Place,
}

impl Stream {
    pub(super) fn start(
        lab: &Lab,
        protocol: Protocol,
        from: &Pod,
        to: &Pod,
        offered: u32,
    ) -> Result<Self> {
        let port = PORT.to_string();
        let target = std::net::SocketAddr::new(address(to)?, PORT).to_string();
        let (_drain, _pour) = match protocol {
            Protocol::Udp => {
                let [rate, bytes] = [offered, BYTES].map(|number| number.to_string());
                // Longer than the test: it ends with its value.
                let words = ["flood", &target, &rate, "3600", &bytes];
                (
                    Talker::start(lab, to, &["drain", "udp", &port])?,
                    Talker::start(lab, from, &words)?,
                )
            }
            Protocol::Tcp => (
                Talker::start(lab, to, &["drain", "tcp", &port])?,
                Talker::start(lab, from, &["pour", &target])?,
            ),
        };
        Ok(Self { _pour, _drain, lab: lab.clone(), to: Place::Pod(to.name.clone()) })
    }

    /// Mbit/s that arrive.
    pub(super) async fn measure(&self) -> Result<f64> {
        let (begin, before) = (Instant::now(), self.received().await?);
        pass(MEASURED).await;
        let (end, after) = (Instant::now(), self.received().await?);
        let bits = u32::try_from((after - before) * 8)?;
        Ok(f64::from(bits) / (end - begin).as_secs_f64() / 1_000_000.0)
    }

    async fn received(&self) -> Result<u64> {
        let mut command = self.lab.space(&self.to)?.command("ip");
        let shown = run(command.args(["-s", "-j", "link", "show", "eth0"])).await?;
        let shown: Value = serde_json::from_str(&shown)?;
        shown[0]["stats64"]["rx"]["bytes"].as_u64().context("no count of bytes")
    }
}
