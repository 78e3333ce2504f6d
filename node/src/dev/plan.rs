//! Which processes a cluster on one machine has, and where each listens.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::config::{Cluster, Dev, Gateway, Member, Role};

pub const BOXES_MAX: u16 = 8;
pub const WITNESSES_MAX: u16 = 1;
pub const SHARDS_DEFAULT: u16 = 4;

const SIP_PORT: u16 = 5060;
/// Of one service address: SIP, TLS, and WebSockets without and with it.
const SIP_PORTS_EACH: u16 = 4;
const API_PORT: u16 = 8080;
/// The node of box a; the others follow.
const HTTP_PORT_FIRST: u16 = 8101;
const RAFT_PORT_FIRST: u16 = 7101;
const LINK_PORT_FIRST: u16 = 7201;
/// Where gateways take copies of recordings.
const COPIES_PORT_FIRST: u16 = 7301;
/// RTP ports of a gateway: even ones carry RTP, the next RTCP.
pub const RTP_PORT_FIRST: u16 = 20_000;
/// So that two gateways that share an address don't share a port. A thousand calls of two legs, and room.
pub const RTP_PORTS: u16 = 5_000;

/// What was asked for on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    pub boxes: u16,
    pub witnesses: u16,
    pub shards: u16,
    pub bind: Option<IpAddr>,
    pub dev: Dev,
}

impl Shape {
    /// Where everything of a cluster of this shape listens.
    pub fn cluster(&self, id: &str) -> Cluster {
        let mut members = Vec::new();
        let mut gateways = Vec::new();
        for at in 0..self.boxes {
            let letter = box_letter(at);
            members.push(Member {
                name: format!("node-{letter}"),
                box_name: letter.to_string(),
                role: Role::Node,
                raft: self.here(1, RAFT_PORT_FIRST + at),
                link: Some(self.here(1, LINK_PORT_FIRST + at)),
                http: self.here(1, HTTP_PORT_FIRST + at),
            });
            gateways.push(Gateway {
                name: format!("gateway-{letter}"),
                box_name: letter.to_string(),
                vip: self.vip(at),
                api: self.here(api_octet(at), API_PORT),
                copies: Some(self.here(1, COPIES_PORT_FIRST + at)),
            });
        }
        // The witness keeps its ports whether one box or two are asked for.
        let witness = self.boxes.max(2);
        for at in 0..self.witnesses {
            members.push(Member {
                name: "witness".into(),
                box_name: "w".into(),
                role: Role::Witness,
                raft: self.here(1, RAFT_PORT_FIRST + witness + at),
                link: None,
                http: self.here(1, HTTP_PORT_FIRST + witness + at),
            });
        }
        Cluster { id: id.to_owned(), shards: self.shards, members, gateways }
    }

    fn here(&self, octet: u8, port: u16) -> SocketAddr {
        let [a, b, c, _] = self.dev.address_base.octets();
        SocketAddr::from((Ipv4Addr::new(a, b, c, octet), port + self.dev.port_offset))
    }

    /// On loopback each gateway has an address of its own; on a real interface they share one.
    fn vip(&self, at: u16) -> SocketAddr {
        match self.bind {
            None => self.here(vip_octet(at), SIP_PORT),
            Some(address) => {
                SocketAddr::from((address, SIP_PORT + SIP_PORTS_EACH * at + self.dev.port_offset))
            }
        }
    }
}

pub fn rtp_port_first(gateway: usize) -> u16 {
    let at = u16::try_from(gateway).unwrap_or(0).min(BOXES_MAX - 1);
    RTP_PORT_FIRST + at * RTP_PORTS
}

fn box_letter(at: u16) -> char {
    char::from(b'a' + u8::try_from(at.min(25)).unwrap_or(25))
}

/// `.10` and `.11`; further boxes go where nothing else is.
fn vip_octet(at: u16) -> u8 {
    let at = u8::try_from(at).unwrap_or(u8::MAX);
    if at < 2 { 10 + at } else { 20 + at }
}

fn api_octet(at: u16) -> u8 {
    let at = u8::try_from(at).unwrap_or(u8::MAX);
    if at < 2 { 12 + at } else { 40 + at }
}

const _: () = assert!(RTP_PORT_FIRST as u32 + BOXES_MAX as u32 * RTP_PORTS as u32 <= 65_536);

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        Shape { boxes: 2, witnesses: 1, shards: 4, bind: None, dev: Dev::default() }
    }

    #[test]
    fn plan_has_the_documented_addresses_when_nothing_is_configured() {
        let cluster = shape().cluster("id");
        let vips: Vec<_> = cluster.gateways.iter().map(|gateway| gateway.vip.to_string()).collect();
        assert_eq!(vips, ["127.0.0.10:5060", "127.0.0.11:5060"]);
        let apis: Vec<_> = cluster.gateways.iter().map(|gateway| gateway.api.to_string()).collect();
        assert_eq!(apis, ["127.0.0.12:8080", "127.0.0.13:8080"]);
        let https: Vec<_> = cluster.members.iter().map(|member| member.http.to_string()).collect();
        assert_eq!(https, ["127.0.0.1:8101", "127.0.0.1:8102", "127.0.0.1:8103"]);
    }

    #[test]
    fn plan_moves_every_address_when_base_and_offset_are_set() {
        let dev = Dev { address_base: Ipv4Addr::new(127, 3, 7, 0), port_offset: 100 };
        let cluster = Shape { dev, ..shape() }.cluster("id");
        assert_eq!(cluster.gateways[1].vip.to_string(), "127.3.7.11:5160");
        assert_eq!(cluster.members[2].raft.to_string(), "127.3.7.1:7203");
    }

    #[test]
    fn plan_puts_vips_on_one_address_when_bound_to_an_interface() {
        let bind = Some("192.0.2.7".parse().unwrap());
        let cluster = Shape { bind, ..shape() }.cluster("id");
        let vips: Vec<_> = cluster.gateways.iter().map(|gateway| gateway.vip.to_string()).collect();
        assert_eq!(vips, ["192.0.2.7:5060", "192.0.2.7:5064"]);
    }
}
