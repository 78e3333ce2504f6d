//! Boxes in network namespaces of their own, joined by a switch in another one: what goes from one to
//! another can be cut there, each way by itself. It needs root, as the installation of packages does.
//!
//! Cuts are made in the switch, not at a box: a packet that its own host refuses is an error that TCP
//! hears of, and one that the network loses is not.

use std::fs::File;
use std::io::{Error, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

/// The switch's rule: a pair (from, to) of the set is lost.
const RULES: &str = "table bridge tandem {
  set cut { type ipv4_addr . ipv4_addr; }
  chain forward {
    type filter hook forward priority 0; policy accept;
    ip saddr . ip daddr @cut drop
  }
}";

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
            Self::Whole(of) => others(of, &Place::ALL).flat_map(|other| both(of, other)).collect(),
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
        network.nft(RULES)?;
        Ok(network)
    }

    pub fn address(&self, place: Place) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 171, self.net, place.octet()))
    }

    /// All addresses of it.
    pub fn prefix(&self) -> String {
        format!("10.171.{}.0/24", self.net)
    }

    /// The instant before nothing of it got through any more; what was cut before stays so.
    pub fn cut(&self, cut: Cut) -> Result<Instant> {
        let before = Instant::now();
        self.nft(&format!("add element bridge tandem cut {{ {} }}", self.elements(cut)))?;
        Ok(before)
    }

    /// Takes one cut back.
    pub fn mend(&self, cut: Cut) -> Result<()> {
        self.nft(&format!("delete element bridge tandem cut {{ {} }}", self.elements(cut)))
    }

    /// Everything gets through again.
    pub fn heal(&self) -> Result<()> {
        self.nft("flush set bridge tandem cut")
    }

    /// A process that `command` starts will be there.
    pub fn place(&self, command: &mut Command, place: Place) -> Result<()> {
        enter(command, &self.namespace(place))
    }

    fn elements(&self, cut: Cut) -> String {
        let pair = |(from, to)| format!("{} . {}", self.address(from), self.address(to));
        cut.pairs().into_iter().map(pair).collect::<Vec<_>>().join(", ")
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
        let port = format!("p{}", place.octet());
        let end = format!("{}{}", self.outside(), place.box_name());
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
        if !inside.is_empty() {
            ip(&[inside, &["link", "set", "lo", "up"]].concat())?;
        }
        Ok(())
    }

    /// One transaction in the switch.
    fn nft(&self, script: &str) -> Result<()> {
        let mut command = Command::new("nft");
        command.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        enter(&mut command, &self.switch())?;
        let mut nft = command.spawn().context("run nft (Debian: nftables)")?;
        let mut stdin = nft.stdin.take().context("stdin is piped")?;
        stdin.write_all(script.as_bytes())?;
        drop(stdin);
        let output = nft.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "nft {script}: {said}");
        Ok(())
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

fn ip(args: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(args).output().context("run ip (Debian: iproute2)")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "ip {}: {said}", args.join(" "));
    Ok(())
}
