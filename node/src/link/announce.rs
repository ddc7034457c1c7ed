//! Tells a pod's neighbours whose its addresses are.

use std::path::Path;

use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::links::find_on;
use super::sysctl::tell_neighbours;
use super::{AttachError, LinkError, Namespace};

/// Has the kernel say on a pod's interface, to everybody in its subnet, that its addresses are at
/// its hardware address: gratuitous ARP, and IPv6's unsolicited advertisement. Who talked to an
/// earlier owner of an address, at another hardware address, would go on sending there for some
/// seconds.
///
/// For when the interface is connected: it is said once, and nobody answers.
///
/// # Errors
///
/// [`AttachError`].
pub async fn announce(netns: &Path, ifname: &str) -> Result<(), AttachError> {
    let ifname = ifname.to_owned();
    Namespace::At(netns.to_owned())
        .run(async move |sockets| {
            let inside = &sockets.inside;
            let found = find_on(inside, &ifname).await?;
            let Some((index, mac)) = found.and_then(|link| Some((link.index, link.mac?))) else {
                return Err(AttachError::Vanished { name: ifname });
            };
            tell_neighbours(&ifname)?;
            // The kernel says it when the hardware address is set, also to what it was.
            let same = LinkMessageBuilder::<LinkUnspec>::new()
                .index(index)
                .address(mac.0.to_vec())
                .build();
            let set = inside.link().change(same).execute().await;
            Ok(set.map_err(LinkError::request("announce", &ifname))?)
        })
        .await
}
