//! What hosts say of whose an address is: gratuitous ARP and unsolicited neighbour advertisements, made and read. Pure.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Of an Ethernet interface.
pub type Mac = [u8; 6];

const ARP_BYTES: usize = 28;
/// Hardware type Ethernet, protocol type IPv4, their lengths (RFC 826).
const ARP_OF_ETHERNET: [u8; 6] = [0, 1, 0x08, 0, 6, 4];
const REQUEST: u8 = 1;
const REPLY: u8 = 2;

const ADVERTISEMENT_BYTES: usize = 24;
pub const ADVERTISEMENT: u8 = 136;
/// A cached link-layer address is replaced (RFC 4861 §4.4).
const OVERRIDE: u8 = 0x20;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
/// Options are counted in units of so many bytes.
const OPTION_UNIT: usize = 8;

/// An announcement of RFC 5227 §3, and the same as an answer that nobody has asked for (RFC 5944 §4.6): of hosts and switches some
/// believe the one, some the other.
pub fn arp_of(address: Ipv4Addr, mac: Mac) -> [[u8; ARP_BYTES]; 2] {
    let announce = |operation, target: Mac| {
        let mut packet = [0; ARP_BYTES];
        packet[..6].copy_from_slice(&ARP_OF_ETHERNET);
        packet[7] = operation;
        packet[8..14].copy_from_slice(&mac);
        packet[14..18].copy_from_slice(&address.octets());
        packet[18..24].copy_from_slice(&target);
        packet[24..].copy_from_slice(&address.octets());
        packet
    };
    [announce(REQUEST, [0; 6]), announce(REPLY, mac)]
}

/// Which other host's packet says that the address is its own (RFC 5227 §2.4).
pub fn arp_claim(packet: &[u8], address: Ipv4Addr, ours: Mac) -> Option<Mac> {
    let packet = packet.get(..ARP_BYTES)?;
    let sender: Mac = packet[8..14].try_into().ok()?;
    let is_claim = packet[..6] == ARP_OF_ETHERNET && packet[14..18] == address.octets();
    (is_claim && sender != ours).then_some(sender)
}

/// An unsolicited advertisement (RFC 4861 §7.2.6); the kernel fills in the checksum.
pub fn advertisement_of(address: Ipv6Addr, mac: Mac) -> [u8; ADVERTISEMENT_BYTES + OPTION_UNIT] {
    let mut message = [0; ADVERTISEMENT_BYTES + OPTION_UNIT];
    message[0] = ADVERTISEMENT;
    message[4] = OVERRIDE;
    message[8..24].copy_from_slice(&address.octets());
    message[24] = TARGET_LINK_LAYER_ADDRESS;
    message[25] = 1;
    message[26..].copy_from_slice(&mac);
    message
}

/// Which other host's advertisement says that the address is its own.
pub fn advertisement_claim(message: &[u8], address: Ipv6Addr, ours: Mac) -> Option<Mac> {
    let (head, mut options) = message.split_at_checked(ADVERTISEMENT_BYTES)?;
    if head[0] != ADVERTISEMENT || head[8..24] != address.octets() {
        return None;
    }
    while let [kind, units, ..] = options {
        let length = usize::from(*units) * OPTION_UNIT;
        // One without a length makes the whole message void (RFC 4861 §4.6).
        let (option, rest) = options.split_at_checked(length).filter(|_| length > 0)?;
        if *kind == TARGET_LINK_LAYER_ADDRESS {
            let mac: Mac = option.get(2..8)?.try_into().ok()?;
            return (mac != ours).then_some(mac);
        }
        options = rest;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OURS: Mac = [2, 0, 0, 0, 0, 1];
    const THEIRS: Mac = [2, 0, 0, 0, 0, 2];
    const V4: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 3);
    const V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 7);

    #[test]
    fn announcement_is_as_the_rfcs_have_it() {
        let [request, reply] = arp_of(V4, OURS);
        // RFC 5227 §1.1: sender and target are the address, the target's hardware address is not looked at.
        let expected =
            [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 1, 2, 3, 0, 0, 0, 0, 0, 0, 10, 1, 2, 3];
        assert_eq!(request, expected);
        assert_eq!((reply[7], &reply[8..14], &reply[18..24]), (2, &OURS[..], &OURS[..]));
        let message = advertisement_of(V6, OURS);
        // RFC 4861 §4.4: neither router nor solicited.
        assert_eq!((message[0], message[1], message[4]), (136, 0, 0x20));
        assert_eq!(message[8..24], V6.octets());
        assert_eq!(message[24..], [2, 1, 2, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn claim_is_one_of_another_host_for_the_same_address() {
        for packet in arp_of(V4, THEIRS) {
            assert_eq!(arp_claim(&packet, V4, OURS), Some(THEIRS));
            assert_eq!(arp_claim(&packet, V4, THEIRS), None);
            assert_eq!(arp_claim(&packet, Ipv4Addr::new(10, 1, 2, 4), OURS), None);
        }
        // Who looks for us claims nothing.
        let mut asks = arp_of(Ipv4Addr::new(10, 1, 2, 9), THEIRS)[0];
        asks[24..].copy_from_slice(&V4.octets());
        assert_eq!(arp_claim(&asks, V4, OURS), None);
        let message = advertisement_of(V6, THEIRS);
        assert_eq!(advertisement_claim(&message, V6, OURS), Some(THEIRS));
        assert_eq!(advertisement_claim(&message, V6, THEIRS), None);
        assert_eq!(advertisement_claim(&message, Ipv6Addr::LOCALHOST, OURS), None);
    }

    proptest! {
        #[test]
        fn no_packet_is_too_odd(packet in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = arp_claim(&packet, V4, OURS);
            let mut message = advertisement_of(V6, THEIRS).to_vec();
            message.splice(24.., packet);
            let _ = advertisement_claim(&message, V6, OURS);
        }
    }
}
