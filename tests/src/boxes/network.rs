//! Boxes in network namespaces of their own, joined by a switch in another one: what goes from one to
//! another can be cut there, each way by itself. It needs root, as the installation of packages does.
//!
//! Cuts are made in the switch, not at a box: a packet that its own host refuses is an error that TCP
//! hears of, and one that the network loses is not. Who is cut off whole is so as by its cable: no packet of any kind gets through.
//! Other cuts are of the boxes' own addresses, and leave out how hosts find each other.

use std::fs::File;
use std::io::{Error, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

/// The switch's rules: a pair (from, to) of the set is lost, and all of a dark port. What boxes send from service addresses is
/// counted before.
const RULES: &str = "table bridge tandem {
  set cut { type ipv4_addr . ipv4_addr; }
  set dark { type ifname; }
  counter served_a {}
  counter served_b {}
  chain forward {
    type filter hook forward priority 0; policy accept;
    iifname p1 ip saddr { VIPS } counter name served_a
    iifname p1 ip6 saddr { VIPS6 } counter name served_a
    iifname p2 ip saddr { VIPS } counter name served_b
    iifname p2 ip6 saddr { VIPS6 } counter name served_b
    iifname @dark drop
    oifname @dark drop
    ip saddr . ip daddr @cut drop
  }
}";

/// Of which family service addresses are; boxes talk to each other over IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    A,
    B,
    Witness,
    /// This process, with its phones and clients of the API.
    Outside,
}

impl Place {
    pub const ALL: [Self; 4] = [Self::A, Self::B, Self::Witness, Self::Outside];
    /// Where processes of the cluster run.
    pub const BOXES: [Self; 3] = [Self::A, Self::B, Self::Witness];

    /// The name of the box in the cluster's configuration.
    pub fn box_name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
            Self::Witness => "w",
            Self::Outside => "outside",
        }
    }

    pub fn of_box(name: &str) -> Result<Self> {
        let found = Self::BOXES.into_iter().find(|place| place.box_name() == name);
        found.with_context(|| format!("there is no box {name:?}"))
    }

    /// The last octet of its address.
    fn octet(self) -> u8 {
        match self {
            Self::A => 1,
            Self::B => 2,
            Self::Witness => 3,
            Self::Outside => 254,
        }
    }

    /// Of the service address whose line is its gateway's.
    fn vip_octet(self) -> u8 {
        self.octet() + 10
    }

    /// Its port of the switch.
    fn port(self) -> String {
        format!("p{}", self.octet())
    }
}

/// What no longer gets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// From all others.
    Whole(Place),
    /// From the other boxes; clients still reach it.
    FromBoxes(Place),
    BothWays(Place, Place),
    OneWay {
        from: Place,
        to: Place,
    },
    /// What the other boxes say does not come in, what it says goes out.
    Deaf(Place),
}

impl Cut {
    fn pairs(self) -> Vec<(Place, Place)> {
        let others = |of: Place, among: &'static [Place]| {
            among.iter().copied().filter(move |other| *other != of)
        };
        let both = |of, other| [(of, other), (other, of)];
        match self {
            Self::Whole(_) => Vec::new(),
            Self::FromBoxes(of) => {
                others(of, &Place::BOXES).flat_map(|other| both(of, other)).collect()
            }
            Self::BothWays(one, other) => both(one, other).to_vec(),
            Self::OneWay { from, to } => vec![(from, to)],
            Self::Deaf(of) => others(of, &Place::BOXES).map(|other| (other, of)).collect(),
        }
    }
}

/// Removed when it is dropped.
pub struct Network {
    net: u8,
}

impl Network {
    /// `net` is the third octet of its addresses: 10.171.`net`.x.
    pub fn lay(net: u8) -> Result<Self> {
        let network = Self { net };
        // What a test that was killed has left.
        network.remove();
        let switch = network.switch();
        ip(&["netns", "add", &switch])?;
        let on_switch = ["-n", switch.as_str()];
        ip(&[&on_switch[..], &["link", "add", "sw", "type", "bridge"]].concat())?;
        ip(&[&on_switch[..], &["link", "set", "sw", "up"]].concat())?;
        for place in Place::BOXES {
            ip(&["netns", "add", &network.namespace(place)])?;
        }
        for place in Place::ALL {
            network.plug(place)?;
        }
        let vips = |family| {
            let vips = [Place::A, Place::B].map(|place| network.vip(place, family).to_string());
            vips.join(", ")
        };
        let rules = RULES.replace("VIPS6", &vips(Family::V6)).replace("VIPS", &vips(Family::V4));
        network.nft(&rules)?;
        Ok(network)
    }

    /// The service address of the line of a box's gateway.
    pub fn vip(&self, place: Place, family: Family) -> IpAddr {
        self.of_octet(place.vip_octet(), family)
    }

    /// Where the interface of a box is that its service addresses are put on.
    pub fn interface(&self, place: Place) -> String {
        format!("{}{}", self.outside(), place.box_name())
    }

    /// Where phones of this family are.
    pub fn outside_address(&self, family: Family) -> IpAddr {
        self.of_octet(Place::Outside.octet(), family)
    }

    /// Whether a box has an address on its interface.
    pub fn has(&self, place: Place, address: IpAddr) -> Result<bool> {
        let (namespace, interface) = (self.namespace(place), self.interface(place));
        let listed = ip(&["-n", &namespace, "-o", "addr", "show", "dev", &interface])?;
        Ok(listed.contains(&format!(" {address}/")))
    }

    /// Packets that A and B have sent from service addresses, whether they got through or not.
    pub fn served(&self) -> Result<(u64, u64)> {
        let listed = self.in_switch(&["list", "counters", "table", "bridge", "tandem"], "")?;
        let of = |name: &str| {
            let (_, rest) = listed.split_once(name).with_context(|| format!("{name}: {listed}"))?;
            let (_, rest) = rest.split_once("packets ").context("packets")?;
            let digits = rest.split(' ').next().context("a number")?;
            digits.parse::<u64>().with_context(|| format!("{name}: {digits:?}"))
        };
        Ok((of("counter served_a")?, of("counter served_b")?))
    }

    fn of_octet(&self, octet: u8, family: Family) -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::new(10, 171, self.net, octet).into(),
            Family::V6 => {
                let (net, octet) = (u16::from(self.net), u16::from(octet));
                Ipv6Addr::new(0xfd71, net, 0, 0, 0, 0, 0, octet).into()
            }
        }
    }

    pub fn address(&self, place: Place) -> IpAddr {
        self.of_octet(place.octet(), Family::V4)
    }

    /// All addresses of it.
    pub fn prefix(&self) -> String {
        format!("10.171.{}.0/24", self.net)
    }

    /// The instant before nothing of it got through any more; what was cut before stays so.
    pub fn cut(&self, cut: Cut) -> Result<Instant> {
        let before = Instant::now();
        self.nft(&format!("add element bridge tandem {}", self.elements(cut)))?;
        Ok(before)
    }

    /// Takes one cut back.
    pub fn mend(&self, cut: Cut) -> Result<()> {
        self.nft(&format!("delete element bridge tandem {}", self.elements(cut)))
    }

    /// Everything gets through again.
    pub fn heal(&self) -> Result<()> {
        self.nft("flush set bridge tandem cut; flush set bridge tandem dark")
    }

    /// A process that `command` starts will be there.
    pub fn place(&self, command: &mut Command, place: Place) -> Result<()> {
        enter(command, &self.namespace(place))
    }

    /// The set, and what of it.
    fn elements(&self, cut: Cut) -> String {
        if let Cut::Whole(place) = cut {
            return format!("dark {{ {} }}", place.port());
        }
        let pair = |(from, to)| format!("{} . {}", self.address(from), self.address(to));
        format!("cut {{ {} }}", cut.pairs().into_iter().map(pair).collect::<Vec<_>>().join(", "))
    }

    fn switch(&self) -> String {
        format!("tandem-sw-{}", self.net)
    }

    fn namespace(&self, place: Place) -> String {
        format!("tandem-box-{}-{}", self.net, place.box_name())
    }

    /// This end of the cable of `Outside`.
    fn outside(&self) -> String {
        format!("tdb{}", self.net)
    }

    /// A cable from the switch to a place.
    fn plug(&self, place: Place) -> Result<()> {
        let switch = self.switch();
        let (port, end) = (place.port(), self.interface(place));
        let peer = ["type", "veth", "peer", "name", end.as_str()];
        ip(&[&["link", "add", &port, "netns", &switch], &peer[..]].concat())?;
        ip(&["-n", &switch, "link", "set", &port, "master", "sw", "up"])?;
        let namespace = self.namespace(place);
        let inside: &[&str] = if place == Place::Outside {
            &[]
        } else {
            ip(&["link", "set", &end, "netns", &namespace])?;
            &["-n", &namespace]
        };
        let address = format!("{}/24", self.address(place));
        ip(&[inside, &["addr", "add", &address, "dev", &end]].concat())?;
        ip(&[inside, &["link", "set", &end, "up"]].concat())?;
        // Free: the network is new.
        let address = format!("{}/64", self.of_octet(place.octet(), Family::V6));
        ip(&[inside, &["addr", "add", &address, "dev", &end, "nodad"]].concat())?;
        if !inside.is_empty() {
            ip(&[inside, &["link", "set", "lo", "up"]].concat())?;
        }
        Ok(())
    }

    /// One transaction in the switch.
    fn nft(&self, script: &str) -> Result<()> {
        self.in_switch(&["-f", "-"], script).map(drop)
    }

    /// What nft says there.
    fn in_switch(&self, arguments: &[&str], script: &str) -> Result<String> {
        let mut command = Command::new("nft");
        command.args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        enter(&mut command, &self.switch())?;
        let mut nft = command.spawn().context("run nft (Debian: nftables)")?;
        let mut stdin = nft.stdin.take().context("stdin is piped")?;
        stdin.write_all(script.as_bytes())?;
        drop(stdin);
        let output = nft.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "nft {arguments:?} {script}: {said}");
        Ok(String::from_utf8(output.stdout)?)
    }

    fn remove(&self) {
        // Cables go with the namespaces of their ends.
        let boxes = Place::BOXES.map(|place| self.namespace(place));
        for namespace in [self.switch()].iter().chain(&boxes) {
            let _ = Command::new("ip").args(["netns", "del", namespace]).output();
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.remove();
    }
}

fn enter(command: &mut Command, namespace: &str) -> Result<()> {
    let path = format!("/run/netns/{namespace}");
    let namespace = File::open(&path).with_context(|| format!("open {path}"))?;
    // SAFETY: between fork and exec there is one call, setns(2), which is async-signal-safe; the
    // descriptor lives as long as the closure.
    unsafe {
        command.pre_exec(move || match libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) {
            0 => Ok(()),
            _ => Err(Error::last_os_error()),
        });
    }
    Ok(())
}

fn ip(args: &[&str]) -> Result<String> {
    let output = Command::new("ip").args(args).output().context("run ip (Debian: iproute2)")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "ip {}: {said}", args.join(" "));
    Ok(String::from_utf8(output.stdout)?)
}
