//! What is read of a machine, and of what a process needs of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use tandem_pki::facts::{Facts, Moment};
use tandem_pki::files::{self, Files, Material};
use tandem_pki::judge as pki;
use tandem_storage::format;

use super::judge::{self, Bound};
use super::{Finding, Level};
use crate::config::{Role, Server};
use crate::dev::plan::{RTP_PORT_FIRST, RTP_PORTS};

/// Syncs whose latency is measured.
const SYNCS: usize = 100;
const SYNC_BYTES: usize = 4_096;
/// Stops there where the disk is so slow that its verdict is clear.
const SYNCS_MAX: Duration = Duration::from_secs(10);
/// Beside sockets of RTP: connections of phones, of the API and of processes, files.
const FILES_OF_GATEWAY: u64 = 12_000;
/// Of RocksDB, the log, connections.
const FILES_OF_NODE: u64 = 4_096;

pub fn machine() -> Vec<Finding> {
    let mut findings = vec![judge::clock(clock_error_ms())];
    let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    findings.extend(fs::read_to_string(source).ok().map(|name| judge::clock_source(name.trim())));
    for name in ["rmem_max", "wmem_max"] {
        let bytes = fs::read_to_string(format!("/proc/sys/net/core/{name}")).ok();
        let bytes = bytes.and_then(|bytes| bytes.trim().parse().ok());
        let wanted = tandem_gateway::SOCKET_BUFFER_BYTES as u64;
        let name = format!("net.core.{name}");
        findings.extend(bytes.map(|bytes| judge::buffer(&name, bytes, wanted)));
    }
    findings
}

/// None where the kernel takes the clock for kept by nobody.
fn clock_error_ms() -> Option<u64> {
    // SAFETY: adjtimex(2) fills the block, which is valid when all zero: nothing is to be set.
    let (state, now) = unsafe {
        let mut now: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut now), now)
    };
    let kept = state >= 0 && now.status & libc::STA_UNSYNC == 0;
    kept.then(|| u64::try_from(now.maxerror / 1_000).unwrap_or(u64::MAX))
}

pub fn process(server: &Server) -> Vec<Finding> {
    let of = server.process.name.as_str();
    let mut findings = Vec::new();
    let gateway = server.cluster.gateways.iter().find(|gateway| gateway.name == of);
    let member = server.cluster.members.iter().find(|member| member.name == of);
    let runs = format::is_locked(&server.process.data);

    findings.push(proof(of, &Files::from(server.tls.clone())));
    findings.extend(server.sip.tls.as_ref().map(|tls| sip_certificate(of, &tls.certificate)));
    if gateway.is_none() {
        findings.push(match sync_p99(&server.process.data) {
            Ok(p99) => judge::disk(of, p99),
            Err(error) => unwritable(of, &server.process.data, &error),
        });
    }
    findings.extend(free_mib(&server.process.data).map(|free| judge::room(of, free)));
    findings.push(judge::files(of, files_max(), files_needed(server, gateway.is_some())));

    let mut addresses: Vec<(SocketAddr, bool)> = Vec::new();
    if let Some(gateway) = gateway {
        let moves = server.address.is_some();
        addresses.extend([(gateway.vip, moves), (gateway.api, false)]);
        addresses.extend(gateway.copies.map(|address| (address, false)));
        let rtp = rtp_ports(server);
        findings.extend(ephemeral().map(|given| judge::ephemeral(of, &given, &rtp)));
    }
    if let Some(member) = member {
        addresses.extend([(member.raft, false), (member.http, false)]);
        addresses.extend(member.link.filter(|_| member.role == Role::Node).map(|it| (it, false)));
    }
    for (address, moves) in addresses {
        findings.push(judge::port(of, address, bind(address), runs, moves));
    }
    findings
}

/// What proves to the others that it belongs to the cluster.
fn proof(of: &str, files: &Files) -> Finding {
    const CHECK: &str = "certificate";
    let now = Moment::now();
    let judged = Material::read(files).and_then(|material| pki::judge(&material, of, now));
    match judged {
        Ok(facts) => lasting(of, CHECK, &facts, now),
        Err(error) => {
            let advice = "make a new one: `tandem ca issue`";
            Finding::new(of, CHECK, Level::Wrong, error.to_string(), advice)
        }
    }
}

/// What proves to phones and carriers whose address it is.
fn sip_certificate(of: &str, path: &Path) -> Finding {
    const CHECK: &str = "SIP certificate";
    let now = Moment::now();
    let read = files::read(path).and_then(|text| files::certificates(path, &text));
    let wrong = |found| {
        let advice = "put a certificate of the service address there: [sip] in the configuration";
        Finding::new(of, CHECK, Level::Wrong, found, advice)
    };
    match read.map(|chain| chain.first().and_then(Facts::of)) {
        Ok(Some(facts)) => lasting(of, CHECK, &facts, now),
        Ok(None) => wrong(format!("{} holds no certificate", path.display())),
        Err(error) => wrong(error.to_string()),
    }
}

fn lasting(of: &str, check: &'static str, facts: &Facts, now: Moment) -> Finding {
    judge::certificate(of, check, &facts.until.to_string(), pki::end(facts.until, now))
}

fn unwritable(of: &str, data: &Path, error: &io::Error) -> Finding {
    let found = format!("{} can't be written: {error}", data.display());
    let advice = "make the folder, give it to the user of the process, and see that its disk is not full or read-only";
    Finding::new(of, "disk latency", Level::Wrong, found, advice)
}

/// In a file of its own beside the data, which is taken away.
fn sync_p99(data: &Path) -> io::Result<Duration> {
    let path = data.join(format!("doctor-{}", std::process::id()));
    let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    let measured = syncs(file);
    fs::remove_file(&path)?;
    let mut took = measured?;
    took.sort_unstable();
    let at = (took.len() * 99).div_ceil(100).saturating_sub(1);
    Ok(took.get(at).copied().unwrap_or_default())
}

fn syncs(mut file: File) -> io::Result<Vec<Duration>> {
    let (begun, mut took) = (Instant::now(), Vec::with_capacity(SYNCS));
    while took.len() < SYNCS && begun.elapsed() < SYNCS_MAX {
        file.write_all(&[0; SYNC_BYTES])?;
        let from = Instant::now();
        file.sync_data()?;
        took.push(from.elapsed());
    }
    Ok(took)
}

fn free_mib(data: &Path) -> Option<u64> {
    let path = std::ffi::CString::new(data.as_os_str().as_bytes()).ok()?;
    // SAFETY: statvfs(3) reads the path, which ends in a zero, and fills the block, which is valid when all zero.
    let (result, room) = unsafe {
        let mut room: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(path.as_ptr(), &raw mut room), room)
    };
    (result == 0).then(|| room.f_bavail.saturating_mul(room.f_frsize) >> 20)
}

/// Of this process, and of what the shell or unit that started it starts next.
fn files_max() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit(2) fills the block.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    // A process raises its own up to this.
    if result == 0 { limit.rlim_max } else { 0 }
}

fn files_needed(server: &Server, is_gateway: bool) -> u64 {
    if !is_gateway {
        return FILES_OF_NODE;
    }
    let ports = u64::from(server.process.rtp_ports.unwrap_or(RTP_PORTS));
    // A socket each; and it may serve the lines of all others, too.
    let lines = server.cluster.gateways.len() as u64;
    FILES_OF_GATEWAY + lines * ports
}

fn rtp_ports(server: &Server) -> RangeInclusive<u16> {
    let first = server.process.rtp_port_first.unwrap_or(RTP_PORT_FIRST);
    let ports = server.process.rtp_ports.unwrap_or(RTP_PORTS);
    first..=first.saturating_add(ports.saturating_sub(1))
}

fn ephemeral() -> Option<RangeInclusive<u16>> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut ports = text.split_whitespace().map(str::parse);
    let (Some(Ok(first)), Some(Ok(last))) = (ports.next(), ports.next()) else { return None };
    Some(first..=last)
}

fn bind(address: SocketAddr) -> Bound {
    match TcpListener::bind(address) {
        Ok(_) => Bound::Free,
        Err(error) => match error.kind() {
            ErrorKind::AddrInUse => Bound::Busy,
            ErrorKind::PermissionDenied => Bound::Forbidden,
            _ => Bound::NotHere,
        },
    }
}
