//! The keep-alive of a phone on UDP (RFC 5626 §4.4.2): a STUN Binding request on the SIP port,
//! answered with the address that it came from (RFC 8489).

use std::net::{IpAddr, SocketAddr};

/// RFC 8489 §5.
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const HEADER_BYTES: usize = 20;
const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
const BINDING_SUCCESS: [u8; 2] = [0x01, 0x01];
const XOR_MAPPED_ADDRESS: [u8; 2] = [0x00, 0x20];
/// Of the attributes that must be understood, a request without credentials has none.
const COMPREHENSION_OPTIONAL: u8 = 0x80;

/// A datagram of STUN: no SIP message begins like that.
pub fn is_stun(datagram: &[u8]) -> bool {
    datagram.len() >= HEADER_BYTES && datagram[0] & 0xc0 == 0 && datagram[4..8] == MAGIC_COOKIE
}

/// The answer to a Binding request; none to anything else, so that nobody has us talk to others.
pub fn answer(request: &[u8], source: SocketAddr) -> Option<Vec<u8>> {
    let length = usize::from(u16::from_be_bytes([*request.get(2)?, *request.get(3)?]));
    if !is_stun(request)
        || request[..2] != BINDING_REQUEST
        || HEADER_BYTES + length != request.len()
        || !are_optional(&request[HEADER_BYTES..])
    {
        return None;
    }
    let transaction = &request[4..HEADER_BYTES];
    let port = source.port() ^ u16::from_be_bytes([MAGIC_COOKIE[0], MAGIC_COOKIE[1]]);
    let mut value = vec![0, if source.is_ipv4() { 1 } else { 2 }];
    value.extend(port.to_be_bytes());
    let mask = |octets: &[u8]| -> Vec<u8> {
        octets.iter().zip(transaction).map(|(octet, mask)| octet ^ mask).collect()
    };
    value.extend(match source.ip() {
        IpAddr::V4(address) => mask(&address.octets()),
        IpAddr::V6(address) => mask(&address.octets()),
    });
    let attribute = u16::try_from(value.len()).ok()?;
    let mut answer = BINDING_SUCCESS.to_vec();
    answer.extend((attribute + 4).to_be_bytes());
    answer.extend(transaction);
    answer.extend(XOR_MAPPED_ADDRESS);
    answer.extend(attribute.to_be_bytes());
    answer.extend(value);
    Some(answer)
}

fn are_optional(mut attributes: &[u8]) -> bool {
    while let [kind, _, high, low, rest @ ..] = attributes {
        let length = usize::from(u16::from_be_bytes([*high, *low])).next_multiple_of(4);
        let Some(rest) = rest.get(length..) else { return false };
        if *kind < COMPREHENSION_OPTIONAL {
            return false;
        }
        attributes = rest;
    }
    attributes.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(attributes: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 1, 0, u8::try_from(attributes.len()).unwrap()];
        bytes.extend(MAGIC_COOKIE);
        // RFC 5769 §2.1.
        bytes.extend([0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae]);
        bytes.extend(attributes);
        bytes
    }

    /// The addresses of RFC 5769 §2.2 and §2.3, and what they look like there.
    #[test]
    fn binding_request_is_answered_with_where_it_came_from() {
        let v4 = answer(&request(&[]), "192.0.2.1:32853".parse().unwrap()).unwrap();
        assert_eq!(v4[..4], [1, 1, 0, 12]);
        assert_eq!(v4[4..20], request(&[])[4..20]);
        assert_eq!(v4[20..], [0, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43]);
        let source = "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap();
        let v6 = answer(&request(&[]), source).unwrap();
        let expected = [
            0, 0x20, 0, 20, 0, 2, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79, 0xbc,
            0x25, 0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9,
        ];
        assert_eq!(v6[20..], expected);
        // SOFTWARE may be passed over.
        let software = [0x80, 0x22, 0, 3, b'a', b'b', b'c', 0];
        assert!(answer(&request(&software), source).is_some());
    }

    #[test]
    fn anything_else_is_not_answered() {
        let source = "192.0.2.1:32853".parse().unwrap();
        // USERNAME: whoever wants credentials checked is no phone of ours.
        assert_eq!(answer(&request(&[0, 6, 0, 4, b'a', b'b', b'c', b'd']), source), None);
        assert_eq!(answer(&request(&[0x80, 0x22, 0, 9, b'a', 0, 0, 0]), source), None);
        for at in 0..4 {
            let mut bytes = request(&[]);
            bytes[at] ^= 0x10;
            assert_eq!(answer(&bytes, source), None, "{at}");
        }
        for length in 0..HEADER_BYTES {
            assert_eq!(answer(&request(&[])[..length], source), None, "{length}");
        }
        assert!(!is_stun(b"\r\n\r\n") && !is_stun(b"OPTIONS sip:x SIP/2.0\r\n"));
    }
}
