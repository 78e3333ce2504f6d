//! The kernel's addresses of an interface: what is asked of it by routing netlink (RFC 3549), and one answer at a time.

use std::io::{self, ErrorKind, Read as _};
use std::net::IpAddr;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, CacheInfo,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use socket2::{Domain, Protocol, Type};

use crate::limits::{KERNEL_ANSWERS_WITHIN, LISTED_MAX};

/// More than the kernel writes into one message of a list.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// An address as it stands on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub address: IpAddr,
    pub prefix: u8,
    /// It was not put there for a time.
    pub permanent: bool,
}

/// A socket that has one question under way.
pub struct Netlink {
    socket: socket2::Socket,
    buffer: Vec<u8>,
    number: u32,
}

impl Netlink {
    pub fn open() -> io::Result<Self> {
        let (domain, protocol) = (libc::AF_NETLINK, libc::NETLINK_ROUTE);
        let socket =
            socket2::Socket::new(Domain::from(domain), Type::RAW, Some(Protocol::from(protocol)))?;
        socket.set_read_timeout(Some(KERNEL_ANSWERS_WITHIN))?;
        Ok(Self { socket, buffer: vec![0; ANSWER_BYTES_MAX], number: 0 })
    }

    /// Puts an address on an interface, or renews it there.
    pub fn put(&mut self, index: u32, to: &Standing, valid_s: u32) -> io::Result<()> {
        let request = RouteNetlinkMessage::NewAddress(lasting(index, to, valid_s));
        self.ask(request, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, &mut |_| {})
    }

    /// False: it was not there.
    pub fn take_away(&mut self, index: u32, from: &Standing) -> io::Result<bool> {
        let request = RouteNetlinkMessage::DelAddress(named(index, from));
        match self.ask(request, NLM_F_REQUEST | NLM_F_ACK, &mut |_| {}) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub fn list(&mut self, index: u32) -> io::Result<Vec<Standing>> {
        let mut listed = Vec::new();
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        self.ask(request, NLM_F_REQUEST | NLM_F_DUMP, &mut |message| {
            if message.header.index == index && listed.len() < LISTED_MAX {
                listed.extend(standing(&message));
            }
        })?;
        Ok(listed)
    }

    fn ask(
        &mut self,
        request: RouteNetlinkMessage,
        flags: u16,
        found: &mut dyn FnMut(AddressMessage),
    ) -> io::Result<()> {
        self.number = self.number.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.number;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes)?;
        for _ in 0..LISTED_MAX {
            let length = (&self.socket).read(&mut self.buffer)?;
            if read(&self.buffer[..length], self.number, found)? {
                return Ok(());
            }
        }
        Err(io::Error::new(ErrorKind::InvalidData, "the kernel's answer has no end"))
    }
}

/// Whether it is the end of the answer.
fn read(mut bytes: &[u8], number: u32, found: &mut dyn FnMut(AddressMessage)) -> io::Result<bool> {
    let odd = |error| io::Error::new(ErrorKind::InvalidData, error);
    while !bytes.is_empty() {
        let message: NetlinkMessage<RouteNetlinkMessage> =
            NetlinkMessage::deserialize(bytes).map_err(odd)?;
        // Messages begin at multiples of four bytes.
        let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        if message.header.sequence_number != number {
            // To a question that was given up.
            continue;
        }
        match message.payload {
            NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
            NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(message)) => {
                found(message);
            }
            _ => {}
        }
    }
    Ok(false)
}

fn named(index: u32, what: &Standing) -> AddressMessage {
    let mut message = AddressMessage::default();
    let v4 = what.address.is_ipv4();
    message.header.family = if v4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.prefix_len = what.prefix;
    message.header.index = index;
    message.attributes =
        vec![AddressAttribute::Local(what.address), AddressAttribute::Address(what.address)];
    message
}

/// Routes are the host's concern, and whether it is free is not asked for: this process has the lease.
fn lasting(index: u32, what: &Standing, valid_s: u32) -> AddressMessage {
    let mut message = named(index, what);
    let mut cache = CacheInfo::default();
    cache.ifa_valid = valid_s;
    // The host's own connections must not begin at an address that leaves it again. IPv6 chooses one that is not deprecated
    // (RFC 6724 §5, rule 3); IPv4 prefers the host's by its routes.
    cache.ifa_preferred = if what.address.is_ipv4() { valid_s } else { 0 };
    message.header.flags = AddressHeaderFlags::Nodad;
    message.attributes.extend([
        AddressAttribute::Flags(AddressFlags::Nodad | AddressFlags::Noprefixroute),
        AddressAttribute::CacheInfo(cache),
    ]);
    message
}

fn standing(message: &AddressMessage) -> Option<Standing> {
    let of = |attribute: &AddressAttribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    };
    let or_peer = |attribute: &AddressAttribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    };
    let attributes = &message.attributes;
    // IPv6 has no local address beside it, as a rule.
    let address = attributes.iter().find_map(of).or_else(|| attributes.iter().find_map(or_peer))?;
    let permanent = message.header.flags.contains(AddressHeaderFlags::Permanent);
    Some(Standing { address, prefix: message.header.prefix_len, permanent })
}
