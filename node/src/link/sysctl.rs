//! Kernel settings under `/proc/sys/net`, of the namespace of the calling thread.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

const IPV4: &str = "/proc/sys/net/ipv4";
const IPV6: &str = "/proc/sys/net/ipv6";

/// Why a kernel setting could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}")]
pub struct SysctlError {
    /// What was tried.
    pub action: &'static str,
    /// With which setting.
    pub path: PathBuf,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

impl SysctlError {
    fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { action, path: path.to_owned(), source }
    }
}

/// Makes the node forward IPv4 and IPv6. Idempotent. True if something was changed.
///
/// A node that forwards IPv6 stops listening to router advertisements, and would lose its own
/// default route: interfaces that listened until now go on doing so.
///
/// # Errors
///
/// [`SysctlError`]. A kernel without IPv6 is not an error.
pub fn enable_forwarding() -> Result<bool, SysctlError> {
    let v4 = set(&Path::new(IPV4).join("ip_forward"), "1")?;
    let v6 = Path::new(IPV6).join("conf/all/forwarding");
    if !v6.exists() || get(&v6)? == "1" {
        return Ok(v4);
    }
    keep_router_advertisements()?;
    Ok(set(&v6, "1")? || v4)
}

fn keep_router_advertisements() -> Result<(), SysctlError> {
    let directory = Path::new(IPV6).join("conf");
    let listed = fs::read_dir(&directory).map_err(SysctlError::at("list", &directory))?;
    for entry in listed.flatten() {
        // `all` stands for no interface, and `default` for those of pods to come.
        if entry.file_name() == "all" || entry.file_name() == "default" {
            continue;
        }
        let setting = entry.path().join("accept_ra");
        // An interface may go away while we look.
        if get(&setting).is_ok_and(|value| value == "1") && entry.path().exists() {
            set(&setting, "2")?;
        }
    }
    Ok(())
}

/// Lets an interface take packets whose sender is reached through another one. True if
/// something was changed.
///
/// Pods are reached through `ovn0`, but with a gateway on another node their packets may come in
/// where the way back does not lead. The kernel takes the stricter of `all` and the interface's
/// own setting, where 2 (loose) beats 1 (strict): under a strict `all` the interface gets 2,
/// because `all` is not ours to change; else it gets 0.
///
/// # Errors
///
/// [`SysctlError`].
pub fn relax_reverse_path_filter(ifname: &str) -> Result<bool, SysctlError> {
    let conf = Path::new(IPV4).join("conf");
    let all = get(&conf.join("all/rp_filter"))?;
    let value = if all == "1" { "2" } else { "0" };
    set(&conf.join(ifname).join("rp_filter"), value)
}

/// Allows IPv6 on an interface. Container runtimes start sandboxes with IPv6 turned off, and the
/// kernel then refuses addresses.
pub(super) fn allow_ipv6(ifname: &str) -> Result<bool, SysctlError> {
    set(&Path::new(IPV6).join("conf").join(ifname).join("disable_ipv6"), "0")
}

/// Turns IPv6 off on an interface. True if something was changed; a kernel without IPv6 has none to
/// turn off.
pub(super) fn forbid_ipv6(ifname: &str) -> Result<bool, SysctlError> {
    let setting = Path::new(IPV6).join("conf").join(ifname).join("disable_ipv6");
    if setting.exists() { set(&setting, "1") } else { Ok(false) }
}

/// Lets an interface use its IPv6 addresses from the first moment on. True if something was changed.
///
/// The kernel asks for a neighbour of a packet that it forwards by the interface's link-local
/// address; while it looks whether somebody else has that one, for up to two seconds, it does not
/// ask and holds the packets. An address made of a MAC that the store gives out is nobody else's.
/// Where `all/accept_dad` is on, which is not the kernel's default and not ours to change, it looks.
pub(super) fn trust_ipv6_addresses(ifname: &str) -> Result<bool, SysctlError> {
    set(&Path::new(IPV6).join("conf").join(ifname).join("accept_dad"), "0")
}

/// Has the kernel say which addresses an interface has, whenever its hardware address is set. A
/// kernel without IPv6 has none to tell of.
pub(super) fn tell_neighbours(ifname: &str) -> Result<(), SysctlError> {
    set(&Path::new(IPV4).join("conf").join(ifname).join("arp_notify"), "1")?;
    let v6 = Path::new(IPV6).join("conf").join(ifname).join("ndisc_notify");
    if v6.exists() {
        set(&v6, "1")?;
    }
    Ok(())
}

fn get(path: &Path) -> Result<String, SysctlError> {
    let text = fs::read_to_string(path).map_err(SysctlError::at("read", path))?;
    Ok(text.trim().to_owned())
}

fn set(path: &Path, value: &str) -> Result<bool, SysctlError> {
    if get(path)? == value {
        return Ok(false);
    }
    fs::write(path, value).map_err(SysctlError::at("write", path))?;
    Ok(true)
}
