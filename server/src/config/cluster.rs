//! `[central]` with `mode = "cluster"`: what OVSDB's own raft needs to know.

use std::net::IpAddr;

use atoll_ovn_sync::ClusterOptions;

use super::{ConfigError, RawCentral, value};

/// OVN's well-known ports.
const NB_RAFT_PORT: u16 = 6643;
const SB_RAFT_PORT: u16 = 6644;

/// The next one that is free.
const SB_MEMBER_PORT: u16 = 6645;

/// OVSDB's own bounds and default.
const TIMER_MIN_MS: u64 = 100;
const TIMER_MAX_MS: u64 = 600_000;
const TIMER_MS: u64 = 1_000;

/// `None` in other modes, which know none of these keys.
pub(super) fn cluster(raw: &RawCentral) -> Result<Option<ClusterOptions>, ConfigError> {
    if raw.mode != "cluster" {
        for (key, given) in [
            ("central.nb_raft_port", raw.nb_raft_port.is_some()),
            ("central.sb_raft_port", raw.sb_raft_port.is_some()),
            ("central.sb_member_port", raw.sb_member_port.is_some()),
            ("central.election_timer_ms", raw.election_timer_ms.is_some()),
        ] {
            if given {
                return Err(value(key, "is for mode \"cluster\""));
            }
        }
        return Ok(None);
    }
    let election_timer_ms = raw.election_timer_ms.unwrap_or(TIMER_MS);
    if !(TIMER_MIN_MS..=TIMER_MAX_MS).contains(&election_timer_ms) {
        let rule = format!(
            "must be {TIMER_MIN_MS} to {TIMER_MAX_MS}: above the time that a server needs for its largest \
             transaction, some 10000 for 10,000 ports"
        );
        return Err(value("central.election_timer_ms", rule));
    }
    Ok(Some(ClusterOptions {
        nb_raft_port: raw.nb_raft_port.unwrap_or(NB_RAFT_PORT),
        sb_raft_port: raw.sb_raft_port.unwrap_or(SB_RAFT_PORT),
        sb_member_port: raw.sb_member_port.unwrap_or(SB_MEMBER_PORT),
        election_timer_ms,
    }))
}

/// The longest name of a socket through which servers reach each other.
pub(super) fn longest_socket(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "nb-255_255_255_255-65535",
        IpAddr::V6(_) => "nb-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff-65535",
    }
}
