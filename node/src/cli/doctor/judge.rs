//! What was read, judged. Pure.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use tandem_pki::judge::End;

use super::{Finding, Level};

/// Waiting times and CDRs of two boxes differ by no more than this where both clocks are within it.
const CLOCK_ERROR_MS_MAX: u64 = 100;
/// A call's every step is a commit, and each commit two of these: see `tandem_log_fsync_seconds`.
const SYNC_MS_SLOW: u64 = 20;
/// A leader steps away from a disk at ten times that.
const SYNC_MS_WRONG: u64 = 200;
const FREE_MIB_LOW: u64 = 5 * 1024;
const FREE_MIB_WRONG: u64 = 1024;
/// Of what reads the time from the processor; others ask a chip for it, at a microsecond and more.
const QUICK_CLOCKS: [&str; 4] =
    ["tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"];

/// `error_ms`: the most that the kernel takes the clock to be wrong by; none where nobody keeps it (adjtimex(2)).
pub fn clock(error_ms: Option<u64>) -> Finding {
    let advice = "run chrony or systemd-timesyncd: calls go on with any clock, but times of two boxes in CDRs differ";
    let warning = |found: String| Finding::new("machine", "clock", Level::Warning, found, advice);
    match error_ms {
        None => warning("nobody keeps the clock right (NTP)".to_owned()),
        Some(ms) if ms > CLOCK_ERROR_MS_MAX => warning(format!("wrong by up to {ms} ms")),
        Some(ms) => Finding::ok("machine", "clock", format!("wrong by {ms} ms at most")),
    }
}

pub fn clock_source(name: &str) -> Finding {
    if QUICK_CLOCKS.contains(&name) {
        return Finding::ok("machine", "clock source", name);
    }
    let advice = "each RTP packet asks for the time: choose tsc, or the one of the hypervisor";
    Finding::new("machine", "clock source", Level::Warning, name, advice)
}

/// `p99`: of syncs of 4 KiB, one behind the other.
pub fn disk(of: &str, p99: Duration) -> Finding {
    let found = format!("4 KiB are on the disk within {:.1} ms (p99)", p99.as_secs_f64() * 1e3);
    let (level, advice) = match p99.as_millis() {
        ms if ms > SYNC_MS_WRONG.into() => (
            Level::Wrong,
            "the log needs a disk of its own that keeps what it was told: an SSD with power-loss protection",
        ),
        ms if ms > SYNC_MS_SLOW.into() => (
            Level::Warning,
            "each step of a call waits for this twice: give the log a quicker disk, or what else writes there another one",
        ),
        _ => (Level::Ok, ""),
    };
    Finding::new(of, "disk latency", level, found, advice)
}

pub fn room(of: &str, free_mib: u64) -> Finding {
    let found = format!("{free_mib} MiB are free");
    let level = match free_mib {
        ..FREE_MIB_WRONG => Level::Wrong,
        FREE_MIB_WRONG..FREE_MIB_LOW => Level::Warning,
        FREE_MIB_LOW.. => return Finding::ok(of, "disk space", found),
    };
    let advice = "make room, or set [process] log_mib_max and state_mib_max: at the end of it new calls are refused";
    Finding::new(of, "disk space", level, found, advice)
}

pub fn files(of: &str, limit: u64, needed: u64) -> Finding {
    let found = format!("{limit} open files are allowed, {needed} may be needed");
    if limit >= needed {
        return Finding::ok(of, "open files", found);
    }
    let advice = format!("raise it: LimitNOFILE={needed} in the unit, or `ulimit -n {needed}`");
    Finding::new(of, "open files", Level::Warning, found, advice)
}

pub fn certificate(of: &str, check: &'static str, until: &str, end: End) -> Finding {
    let found = format!("valid until {until}");
    let advice = "make a new one (`tandem ca issue`), or renew the authority (`tandem ca rotate`): it is taken without a restart";
    match end {
        End::Far => Finding::ok(of, check, found),
        End::Near => Finding::new(of, check, Level::Warning, found, advice),
        End::Urgent | End::Over => Finding::new(of, check, Level::Wrong, found, advice),
    }
}

/// What came of trying to bind an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    Free,
    Busy,
    NotHere,
    Forbidden,
}

/// `runs`: the process itself does, so that its ports are its own. `moves`: the address comes with a lease.
pub fn port(of: &str, address: SocketAddr, bound: Bound, runs: bool, moves: bool) -> Finding {
    let wrong = |found: String, advice: &str| Finding::new(of, "port", Level::Wrong, found, advice);
    match bound {
        Bound::Free => Finding::ok(of, "port", format!("{address} is free")),
        Bound::Busy if runs => Finding::ok(of, "port", format!("{address} is its own")),
        Bound::Busy => wrong(
            format!("{address} is in use by another program"),
            "see who has it (`ss -ltnup`), and stop that or choose another port",
        ),
        Bound::NotHere if moves => {
            Finding::ok(of, "port", format!("{address} comes here with its lease"))
        }
        Bound::NotHere => wrong(
            format!("{address} is no address of this machine"),
            "add it to an interface, or let Tandem bring it: [address] in the configuration",
        ),
        Bound::Forbidden => wrong(
            format!("{address} may not be bound by this user"),
            "ports below 1024 need CAP_NET_BIND_SERVICE, as the systemd unit gives it",
        ),
    }
}

/// `net.core.rmem_max` or `net.core.wmem_max`, bytes.
pub fn buffer(name: &str, bytes: u64, wanted: u64) -> Finding {
    let found = format!("{name} = {bytes}");
    if bytes >= wanted {
        return Finding::ok("machine", "kernel", found);
    }
    let advice = format!("sysctl -w {name}={wanted}: bursts of SIP are lost in a smaller buffer");
    Finding::new("machine", "kernel", Level::Warning, found, advice)
}

/// Ports that the kernel gives to whoever asks for any must not be those of RTP.
pub fn ephemeral(of: &str, given: &RangeInclusive<u16>, rtp: &RangeInclusive<u16>) -> Finding {
    let (first, last) = (rtp.start(), rtp.end());
    let found = format!(
        "RTP has {first} to {last}; programs are given {} to {}",
        given.start(),
        given.end()
    );
    let apart = given.end() < first || last < given.start();
    if apart {
        return Finding::ok(of, "RTP ports", found);
    }
    let advice = format!(
        "sysctl -w net.ipv4.ip_local_reserved_ports={first}-{last}: other programs may take them"
    );
    Finding::new(of, "RTP ports", Level::Warning, found, advice)
}

/// Each process with its version.
pub fn versions(running: &[(String, String)]) -> Finding {
    let mut of_version: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (process, version) in running {
        of_version.entry(version).or_default().push(process);
    }
    let all: Vec<String> =
        of_version.iter().map(|(version, who)| format!("{version}: {}", who.join(", "))).collect();
    let found = all.join("; ");
    if of_version.len() <= 1 {
        return Finding::ok("cluster", "versions", found);
    }
    let advice = "two versions may run side by side for any time; restart the rest with the newer one, one process at a time, when you are ready";
    Finding::new("cluster", "versions", Level::Warning, found, advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(findings: &[Finding]) -> Vec<Level> {
        findings.iter().map(|finding| finding.level).collect()
    }

    #[test]
    fn clock_must_be_kept_and_near() {
        let found = [clock(None), clock(Some(101)), clock(Some(100))];
        assert_eq!(levels(&found), [Level::Warning, Level::Warning, Level::Ok]);
        assert_eq!(clock_source("tsc").level, Level::Ok);
        assert_eq!(clock_source("hpet").level, Level::Warning);
    }

    #[test]
    fn disk_is_judged_by_what_a_commit_waits_for() {
        let ms = |ms| disk("node-a", Duration::from_millis(ms)).level;
        assert_eq!([ms(20), ms(21), ms(200), ms(201)], {
            [Level::Ok, Level::Warning, Level::Warning, Level::Wrong]
        });
        let mib = |mib| room("node-a", mib).level;
        assert_eq!([mib(1_023), mib(1_024), mib(5_119), mib(5_120)], {
            [Level::Wrong, Level::Warning, Level::Warning, Level::Ok]
        });
    }

    #[test]
    fn port_of_somebody_else_is_wrong_and_ones_own_is_not() {
        let address: SocketAddr = ([127, 0, 0, 1], 5060).into();
        let level = |bound, runs, moves| port("gateway-a", address, bound, runs, moves).level;
        assert_eq!(level(Bound::Free, false, false), Level::Ok);
        assert_eq!(level(Bound::Busy, true, false), Level::Ok);
        assert_eq!(level(Bound::Busy, false, true), Level::Wrong);
        assert_eq!(level(Bound::NotHere, false, true), Level::Ok);
        assert_eq!(level(Bound::NotHere, true, false), Level::Wrong);
        assert_eq!(level(Bound::Forbidden, false, false), Level::Wrong);
    }

    #[test]
    fn limits_are_judged_by_what_is_needed() {
        assert_eq!(files("gateway-a", 1_024, 12_000).level, Level::Warning);
        assert_eq!(files("gateway-a", 12_000, 12_000).level, Level::Ok);
        assert_eq!(buffer("net.core.rmem_max", 212_992, 8 << 20).level, Level::Warning);
        assert_eq!(buffer("net.core.rmem_max", 8 << 20, 8 << 20).level, Level::Ok);
        let given = 32_768..=60_999;
        assert_eq!(ephemeral("gateway-a", &given, &(20_000..=24_999)).level, Level::Ok);
        assert_eq!(ephemeral("gateway-a", &given, &(30_000..=34_999)).level, Level::Warning);
        assert_eq!(ephemeral("gateway-a", &given, &(61_000..=65_000)).level, Level::Ok);
    }

    #[test]
    fn certificates_and_versions_are_warned_of_in_time() {
        let level = |end| certificate("node-a", "certificate", "2027-01-01", end).level;
        assert_eq!([level(End::Far), level(End::Near), level(End::Over)], {
            [Level::Ok, Level::Warning, Level::Wrong]
        });
        let pair = |name: &str, version: &str| (name.to_owned(), version.to_owned());
        let mixed = versions(&[pair("node-a", "0.1.0"), pair("node-b", "0.2.0")]);
        assert_eq!(mixed.level, Level::Warning);
        assert_eq!(mixed.found, "0.1.0: node-a; 0.2.0: node-b");
        assert_eq!(versions(&[pair("node-a", "0.1.0")]).level, Level::Ok);
    }
}
