//! A network of the test's own: a namespace, and a pair of interfaces between it and this machine. It
//! needs root, as the installation of packages does.

use std::fs::File;
use std::io::{Error, Read as _};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// A packet of Ethernet, and room.
const PACKET_BYTES_MAX: usize = 65_600;
/// How often the capture looks whether it is over.
const LOOK: Duration = Duration::from_millis(50);
const UDP: u8 = 17;
/// Of IPv4: more fragments follow, and where this one stands.
const FRAGMENT: u16 = 0x3fff;

/// Removed when it is dropped.
pub struct Wire {
    namespace: String,
    /// This machine's end.
    pub here: IpAddr,
    /// The namespace's end.
    pub there: IpAddr,
}

impl Wire {
    /// `net` is the third octet of its addresses: 10.170.`net`.x.
    pub fn lay(net: u8, mtu: u16) -> Result<Self> {
        let namespace = format!("tandem-wire-{net}");
        let (near, far) = (format!("tdw{net}a"), format!("tdw{net}b"));
        let address = |last| IpAddr::V4(Ipv4Addr::new(10, 170, net, last));
        let (here, there) = (address(1), address(2));
        // What a test that was killed has left.
        let _ = Command::new("ip").args(["netns", "del", &namespace]).output();
        ip(&["netns", "add", &namespace])?;
        let wire = Self { namespace: namespace.clone(), here, there };
        let mtu = mtu.to_string();
        ip(&[
            "link", "add", &near, "mtu", &mtu, "type", "veth", "peer", "name", &far, "mtu", &mtu,
        ])?;
        ip(&["link", "set", &far, "netns", &namespace])?;
        ip(&["addr", "add", &format!("{here}/24"), "dev", &near])?;
        ip(&["link", "set", &near, "up"])?;
        let inside = ["-n", namespace.as_str()];
        ip(&[&inside[..], &["addr", "add", &format!("{there}/24"), "dev", &far]].concat())?;
        ip(&[&inside[..], &["link", "set", &far, "up"]].concat())?;
        ip(&[&inside[..], &["link", "set", "lo", "up"]].concat())?;
        Ok(wire)
    }

    /// Does something in the namespace: sockets that it opens stay there.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let namespace = File::open(format!("/run/netns/{}", self.namespace))?;
        std::thread::scope(|scope| {
            let acting = scope.spawn(|| {
                // SAFETY: setns(2) moves this thread alone, which ends with the closure.
                if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
                    return Err(Error::last_os_error()).context("enter the namespace");
                }
                act()
            });
            acting.join().map_err(|_| anyhow::anyhow!("it panicked in the namespace"))?
        })
    }

    /// Counts what comes in at the far end.
    pub fn capture(&self) -> Result<Capture> {
        let socket = self.inside(packet_socket)?;
        let counts = Arc::new(Counts::default());
        let of_thread = Arc::clone(&counts);
        let from = self.here;
        std::thread::spawn(move || {
            let mut socket = File::from(socket);
            let mut packet = vec![0; PACKET_BYTES_MAX];
            while !of_thread.over.load(Ordering::Relaxed) {
                // Nothing came within the time of the socket.
                let Ok(length) = socket.read(&mut packet) else { continue };
                of_thread.note(&packet[..length], from);
            }
        });
        Ok(Capture(counts))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // Both ends go with it.
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).output();
    }
}

/// Dropping it ends it.
pub struct Capture(Arc<Counts>);

#[derive(Default)]
struct Counts {
    datagrams: AtomicU64,
    fragments: AtomicU64,
    over: AtomicBool,
}

impl Counts {
    fn note(&self, packet: &[u8], from: IpAddr) {
        let [a, b, c, d] = [12, 13, 14, 15].map(|at| packet.get(at).copied().unwrap_or_default());
        let ours = from == IpAddr::V4(Ipv4Addr::new(a, b, c, d));
        if !ours || packet.get(9) != Some(&UDP) {
            return;
        }
        self.datagrams.fetch_add(1, Ordering::Relaxed);
        if u16::from_be_bytes([packet[6], packet[7]]) & FRAGMENT != 0 {
            self.fragments.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Capture {
    /// Packets of UDP from this machine.
    pub fn datagrams(&self) -> u64 {
        self.0.datagrams.load(Ordering::Relaxed)
    }

    /// Those of them that are pieces of one that was too long for the wire.
    pub fn fragments(&self) -> u64 {
        self.0.fragments.load(Ordering::Relaxed)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

/// Of IPv4 packets, each with its header.
fn packet_socket() -> Result<OwnedFd> {
    let protocol = i32::from((libc::ETH_P_IP as u16).to_be());
    // SAFETY: socket(2) takes plain numbers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM, protocol) };
    if fd < 0 {
        return Err(Error::last_os_error()).context("a socket of packets");
    }
    // SAFETY: the descriptor is new, and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let wait = libc::timeval { tv_sec: 0, tv_usec: LOOK.subsec_micros().into() };
    // SAFETY: the option is a timeval, and its length is told.
    let set = unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_RCVTIMEO,
            std::ptr::from_ref(&wait).cast(),
            size_of::<libc::timeval>() as libc::socklen_t,
        )
    };
    ensure!(set == 0, "SO_RCVTIMEO: {}", Error::last_os_error());
    Ok(socket)
}

fn ip(args: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(args).output().context("run ip (Debian: iproute2)")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "ip {}: {said}", args.join(" "));
    Ok(())
}
