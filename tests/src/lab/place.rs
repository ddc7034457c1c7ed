//! The places of a lab, as they are written on the command line.

use std::str::FromStr;

use anyhow::Result;

use super::Lab;
use super::error::Usage;
use super::pod::PodName;
use super::shell::Space;

/// Where a command may be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a pod's network namespace, seeing its node's files.
    Pod(PodName),
    /// On a node.
    Node(u8),
    /// On a member.
    Member(u8),
    /// On the host that is no part of the network.
    Outside,
}

impl FromStr for Place {
    type Err = Usage;

    /// `node/1` is node 1 and never a pod: namespaces cannot be reached by the name of a kind.
    fn from_str(text: &str) -> Result<Self, Usage> {
        match text.split_once('/') {
            None if text == "outside" => Ok(Self::Outside),
            Some(("node", index)) => Ok(Self::Node(parse_index(index)?)),
            Some(("member", index)) => Ok(Self::Member(parse_index(index)?)),
            Some(_) => Ok(Self::Pod(text.parse()?)),
            None => {
                Err(Usage(format!("'{text}' is no place: NS/NAME, node/N, member/I or outside")))
            }
        }
    }
}

/// Reads `3`, or `n3` and `m3` as they are shown.
pub(super) fn parse_index(text: &str) -> Result<u8, Usage> {
    let digits = text.strip_prefix(['n', 'm']).unwrap_or(text);
    digits.parse().map_err(|_| Usage(format!("'{text}' is not the number of one")))
}

impl Lab {
    /// The namespaces of a place, for running commands in.
    ///
    /// # Errors
    ///
    /// [`Refused`](super::Refused) or [`Usage`] if the lab has no such place.
    pub fn space(&self, place: &Place) -> Result<Space> {
        match place {
            Place::Pod(name) => {
                let pod = self.pod(name)?;
                self.node(pod.node)?.pod_space(&pod.container_id)
            }
            Place::Node(index) => self.node(*index)?.space(),
            Place::Member(index) => Ok(self.member(*index)?.space()),
            Place::Outside => Ok(self.outside()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_they_are_written() {
        let pod = PodName { namespace: "shop".to_owned(), name: "web-0".to_owned() };
        assert_eq!("shop/web-0".parse(), Ok(Place::Pod(pod)));
        assert_eq!("node/2".parse(), Ok(Place::Node(2)));
        assert_eq!("node/n2".parse(), Ok(Place::Node(2)));
        assert_eq!("member/m3".parse(), Ok(Place::Member(3)));
        assert_eq!("outside".parse(), Ok(Place::Outside));
        for wrong in ["", "inside", "node/x", "node/", "shop/", "/web", "shop/web/0", "shop/../x"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
