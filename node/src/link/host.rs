//! The end of a pod's veth pairs on the node: its name, and how it is known to be ours.
//!
//! A name is not enough: it holds only the beginning of the container's id, and anybody may have
//! made a link of that name. The hardware address is made of the whole id and set in the very
//! request that makes the link, so there is no moment at which a link of ours does not carry it.
//! (Addresses that somebody has set are also left alone by `udev`, which changes random ones.)

use super::Mac;

/// How many pairs a pod may have: each further one is known by one digit.
pub const PAIRS_MAX: usize = 16;

/// The end on the node of a pod's pair of this number: name, and hardware address. The first pair's are
/// [`host_ifname`] and [`host_mac`]; those of a further one end with its number, in hexadecimal.
pub fn host_end(container_id: &str, number: usize) -> (String, Mac) {
    if number == 0 {
        return (host_ifname(container_id), host_mac(container_id));
    }
    let id: String = container_id.chars().take(12).collect();
    (format!("{id}_{number:x}"), host_mac(&format!("{container_id}/{number}")))
}

/// All ends on the node that a container can have, the first pair's first.
pub fn host_ends(container_id: &str) -> impl Iterator<Item = (String, Mac)> + '_ {
    (0..PAIRS_MAX).map(|number| host_end(container_id, number))
}

/// The name of the end on the node: the first 12 characters of the container's id, and `_h`.
pub fn host_ifname(container_id: &str) -> String {
    let id: String = container_id.chars().take(12).collect();
    format!("{id}_h")
}

/// The hardware address of the end on the node: a locally administered one, of the container's id.
///
/// It must never change: links with another one would be nobody's.
pub fn host_mac(container_id: &str) -> Mac {
    // FNV-1a, which is the same in every release; nobody chooses ids to collide.
    let hash = container_id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let [first, b, c, d, e, f, _, _] = hash.to_be_bytes();
    Mac([first & 0xfc | 0x02, b, c, d, e, f])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_of_the_whole_id_and_the_same_in_every_release() {
        assert_eq!(host_mac("cafe0123456789abcdef").to_string(), "9e:2b:19:f3:79:59");
        assert_eq!(host_mac("cafe0123456789abcdee").to_string(), "9e:2b:1c:f3:79:59");
        let ends: std::collections::BTreeSet<_> = host_ends("cafe0123456789abcdef").collect();
        assert_eq!(ends.len(), PAIRS_MAX);
        assert!(ends.iter().all(|(name, _)| name.len() == 14), "{ends:?}");
        let (second, mac) = host_end("cafe0123456789abcdef", 1);
        assert_eq!((second.as_str(), mac.0[0] & 3), ("cafe01234567_1", 2));
        for id in ["a", "b", "cafe0123456789abcdef"] {
            assert_eq!(host_mac(id).0[0] & 3, 2, "one station's, and locally administered");
        }
    }
}
