//! How much of what a pod sends arrives at another.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::lab::{Lab, Pod};
use crate::talk::{Talker, now};
use crate::wait::pass;

/// Of a datagram, without and with its headers: the rate counts frames.
const BYTES: u32 = 1_000;
const FRAME: u32 = BYTES + 8 + 20 + 14;

/// What is offered, in packets a second: 80 Mbit/s.
const OFFERED: u32 = 10_000;

/// A limit may be exceeded by so many per cent, and missed by that.
const ABOVE: u64 = 5;
const BELOW: u64 = 15;

/// Without a limit so many kbit/s of the 80,000 that are offered arrive at least.
pub const OPEN: u64 = 45_000;

/// What is counted: after the burst, which is at most a second's worth, is used up.
const WARM_UP: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(4);

/// Whether so many kbit/s are what a limit of so many Mbit/s lets through.
#[must_use]
pub fn is_at(kbit: u64, mbit: u32) -> bool {
    let percent = u64::from(mbit) * 10;
    (percent * (100 - BELOW)..=percent * (100 + ABOVE)).contains(&kbit)
}

/// A flood from a pod to another, and what arrives.
#[derive(Debug)]
pub struct Flow {
    _flood: Talker,
    ears: Talker,
}

impl Flow {
    /// Starts it, to a port of the other pod.
    ///
    /// # Errors
    ///
    /// A pod has no address, or its program cannot be started.
    pub fn start(lab: &Lab, from: &Pod, to: &Pod, port: u16) -> Result<Self> {
        let ears = Talker::start(lab, to, &["hear", &port.to_string()])?;
        let to = SocketAddr::new(address(to)?, port).to_string();
        let [rate, bytes] = [OFFERED, BYTES].map(|number| number.to_string());
        // Longer than the test: it ends with its value.
        let _flood = Talker::start(lab, from, &["flood", &to, &rate, "600", &bytes])?;
        Ok(Self { _flood, ears })
    }

    /// Kbit/s that arrive, from a while on.
    ///
    /// # Errors
    ///
    /// What was heard cannot be read.
    pub async fn measure(&self) -> Result<u64> {
        let begin = now()? + WARM_UP.as_millis();
        let end = begin + MEASURED.as_millis();
        pass(WARM_UP + MEASURED).await;
        let heard = self.ears.heard()?.into_iter().filter(|at| (begin..end).contains(at)).count();
        let bits = u64::try_from(heard)? * u64::from(FRAME) * 8;
        Ok(bits / u64::try_from(MEASURED.as_millis())?)
    }
}

/// A pod's first address.
///
/// # Errors
///
/// It has none.
pub fn address(pod: &Pod) -> Result<IpAddr> {
    let text = pod.addresses.first().context("it has no address")?;
    Ok(text.split('/').next().unwrap_or_default().parse()?)
}
