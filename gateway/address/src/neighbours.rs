//! Sockets on which neighbours are told whose an address is, and say so themselves. They need `CAP_NET_RAW`.

use std::io::{self, ErrorKind};
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::io::unix::AsyncFd;

use crate::claim::{self, Mac};
use crate::interface::index_of;
use crate::limits::HEARD_MAX;

/// All nodes of a link (RFC 4291 §2.7.1).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// What did not come over the link itself has less (RFC 4861 §7.1.2).
const HOPS: u32 = 255;
const BROADCAST: Mac = [0xff; 6];
/// More than any packet that is looked at.
const PACKET_BYTES: usize = 512;

/// The link behind an interface.
pub struct Neighbours {
    index: u32,
    /// None: a link that has no neighbours to tell.
    mac: Option<Mac>,
    address: IpAddr,
    /// Of packets about whose an address is.
    socket: AsyncFd<Socket>,
}

impl Neighbours {
    /// # Errors
    /// Where the interface is gone, or the process may not.
    pub fn open(interface: &str, address: IpAddr) -> io::Result<Self> {
        let index = index_of(interface).map_err(io::Error::other)?;
        let arp = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol(libc::ETH_P_ARP)))?;
        arp.bind(&link(index, None)?)?;
        let mac = mac_of(&arp.local_addr()?);
        let socket = match address {
            IpAddr::V4(_) => arp,
            IpAddr::V6(_) => {
                let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
                socket.bind_device(Some(interface.as_bytes()))?;
                hear_only(&socket, claim::ADVERTISEMENT)?;
                socket
            }
        };
        socket.set_nonblocking(true)?;
        // SAFETY: a socket of ours keeps its descriptor until it is dropped.
        let socket = unsafe { AsyncFd::register(socket) }?;
        Ok(Self { index, mac, address, socket })
    }

    /// Tells all of them that the address is here.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn announce(&self) -> io::Result<()> {
        let Some(mac) = self.mac else { return Ok(()) };
        match self.address {
            IpAddr::V4(address) => self.announce_by_arp(address, mac),
            IpAddr::V6(address) => self.advertise(address, mac),
        }
    }

    fn announce_by_arp(&self, address: Ipv4Addr, mac: Mac) -> io::Result<()> {
        let all = link(self.index, Some(BROADCAST))?;
        for packet in claim::arp_of(address, mac) {
            self.socket.get_ref().send_to(&packet, &all)?;
        }
        Ok(())
    }

    fn advertise(&self, address: Ipv6Addr, mac: Mac) -> io::Result<()> {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        socket.set_multicast_if_v6(self.index)?;
        socket.set_multicast_hops_v6(HOPS)?;
        socket.set_multicast_loop_v6(false)?;
        socket.bind(&SocketAddrV6::new(address, 0, 0, 0).into())?;
        let all = SocketAddrV6::new(ALL_NODES, 0, 0, self.index);
        socket.send_to(&claim::advertisement_of(address, mac), &all.into())?;
        Ok(())
    }

    /// Completes when another host says that the address is its own.
    ///
    /// # Errors
    /// Where the socket fails, for instance with its interface.
    pub async fn claimed(&self) -> io::Result<Mac> {
        loop {
            let mut ready = self.socket.readable().await?;
            for _ in 0..HEARD_MAX {
                let mut packet = [0; PACKET_BYTES];
                match ready.try_io(|socket| io::Read::read(&mut socket.get_ref(), &mut packet)) {
                    Ok(length) => {
                        if let Some(other) = self.claim(&packet[..length?]) {
                            return Ok(other);
                        }
                    }
                    Err(_would_block) => break,
                }
            }
            tokio::task::yield_now().await;
        }
    }

    fn claim(&self, packet: &[u8]) -> Option<Mac> {
        let ours = self.mac?;
        match self.address {
            IpAddr::V4(address) => claim::arp_claim(packet, address, ours),
            IpAddr::V6(address) => claim::advertisement_claim(packet, address, ours),
        }
    }
}

/// As packet sockets want it: in the network's order.
fn protocol(protocol: i32) -> Protocol {
    Protocol::from(i32::from(u16::try_from(protocol).unwrap_or_default().to_be()))
}

/// A packet socket's own place, or whom it sends to.
fn link(index: u32, to: Option<Mac>) -> io::Result<SockAddr> {
    let index = i32::try_from(index).map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
    let mut place = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).unwrap_or_default(),
        sll_protocol: u16::try_from(libc::ETH_P_ARP).unwrap_or_default().to_be(),
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    if let Some(mac) = to {
        place.sll_halen = 6;
        place.sll_addr[..6].copy_from_slice(&mac);
    }
    // SAFETY: the storage is large enough for every address of the kernel's, and is given the length of what is written there.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            storage.cast::<libc::sockaddr_ll>().write(place);
            *length = u32::try_from(size_of::<libc::sockaddr_ll>()).unwrap_or_default();
            Ok(())
        })?
    };
    Ok(address)
}

/// Of an Ethernet interface; what else there is (loopback, tunnels) has no neighbours that keep such addresses.
fn mac_of(bound: &SockAddr) -> Option<Mac> {
    if i32::from(bound.family()) != libc::AF_PACKET {
        return None;
    }
    // SAFETY: an address of this family has this form.
    let place = unsafe { &*bound.as_ptr().cast::<libc::sockaddr_ll>() };
    let is_ethernet = place.sll_hatype == libc::ARPHRD_ETHER && place.sll_halen == 6;
    is_ethernet.then(|| place.sll_addr[..6].try_into().ok()).flatten()
}

/// Of ICMPv6 nothing else (RFC 3542 §3.2).
fn hear_only(socket: &Socket, kind: u8) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    const ICMP6_FILTER: i32 = 1;
    // A bit that is set keeps its type out.
    let mut filter = [u32::MAX; 8];
    filter[usize::from(kind) / 32] &= !(1 << (kind % 32));
    // SAFETY: the filter lives through the call, and its length is given.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_ICMPV6,
            ICMP6_FILTER,
            filter.as_ptr().cast(),
            u32::try_from(size_of_val(&filter)).unwrap_or_default(),
        )
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
