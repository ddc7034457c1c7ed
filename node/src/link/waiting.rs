//! Packets that wait for a neighbour.

use futures::TryStreamExt;
use netlink_packet_route::neighbour::NeighbourState;
use nix::errno::Errno;

use super::{LinkError, Namespace, NetlinkError};

/// Drops what waits for neighbours that have not answered yet; for how many of them.
///
/// The kernel keeps packets until it learns the hardware address of their next hop, for up to three
/// seconds and past all rules, and sends them when that one answers. When rules have changed since,
/// it would break them. The next packet asks anew, and at once.
///
/// # Errors
///
/// [`LinkError`]; of the neighbours before the failure nothing waits any more.
pub async fn drop_waiting(namespace: &Namespace) -> Result<usize, LinkError> {
    namespace
        .run(async |sockets| {
            let mut all = sockets.inside.neighbours().get().execute();
            let mut silent = Vec::new();
            while let Some(neighbour) = all
                .try_next()
                .await
                .map_err(LinkError::request("list the neighbours of", "(all)"))?
            {
                if neighbour.header.state == NeighbourState::Incomplete {
                    silent.push(neighbour);
                }
            }
            let found = silent.len();
            for neighbour in silent {
                let name = format!("number {}", neighbour.header.ifindex);
                let gone = sockets.inside.neighbours().del(neighbour).execute().await;
                match gone.map_err(NetlinkError::from) {
                    // The kernel has given it up by itself, or its interface is gone.
                    Err(error) if !error.is(Errno::ENOENT) && !error.is(Errno::ENODEV) => {
                        return Err(LinkError::request("drop what waits on", &name)(error));
                    }
                    _ => {}
                }
            }
            Ok(found)
        })
        .await
}
