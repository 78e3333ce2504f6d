//! Audio whose packets tell when they were sent: what a relay adds to their way.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use parking_lot::Mutex;

use super::HIGHEST_US;

const PTIME: Duration = Duration::from_millis(20);
/// A packet's turn within 20 ms: the calls speak one after the other.
const TURNS: u32 = 20;
const HEADER_BYTES: usize = 12;
/// 20 ms of G.711.
const PAYLOAD_BYTES: usize = 160;
/// Ahead of the time in a payload: music has no such bytes.
const MAGIC: [u8; 8] = *b"tandemRT";
const STAMP_BYTES: usize = 16;
/// μ-law.
const SILENCE: u8 = 0xff;

/// One side's audio: a socket, and where each of its calls wants to be spoken to.
pub struct Media {
    pub socket: UdpSocket,
    peers: Mutex<BTreeMap<String, SocketAddr>>,
}

#[derive(Clone)]
pub struct Heard {
    pub delay_us: Histogram<u64>,
    pub packets: u64,
    /// The longest time between two packets of each source (SSRC), milliseconds.
    pub gap_ms: Histogram<u64>,
    /// What this machine brought and this program was too slow to take.
    pub dropped: u64,
}

struct Gap {
    last_us: u64,
    longest_us: u64,
}

/// A side that speaks and listens until it is asked what it heard.
pub struct Voices {
    over: Arc<AtomicBool>,
    speaks: JoinHandle<u64>,
    listens: JoinHandle<Result<Heard>>,
}

impl Media {
    pub fn open() -> Result<Arc<Self>> {
        let socket = UdpSocket::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0))?;
        Ok(Arc::new(Self { socket, peers: Mutex::default() }))
    }

    pub fn talk_to(&self, call_id: &str, sdp: &[u8]) {
        if let Ok(audio) = tandem_sip::sdp::Audio::parse(sdp) {
            let peer = SocketAddr::new(audio.address, audio.port);
            self.peers.lock().insert(call_id.to_owned(), peer);
        }
    }

    pub fn hush(&self, call_id: &str) {
        self.peers.lock().remove(call_id);
    }

    /// Both sides must be given the same `epoch`.
    pub fn speak(self: &Arc<Self>, epoch: Instant) -> Result<Voices> {
        let over = Arc::new(AtomicBool::new(false));
        self.socket.set_read_timeout(Some(PTIME))?;
        let (media, flag) = (Arc::clone(self), Arc::clone(&over));
        let speaks = std::thread::spawn(move || speak(&media, epoch, &flag));
        let (media, flag) = (Arc::clone(self), Arc::clone(&over));
        let listens = std::thread::spawn(move || listen(&media, epoch, &flag));
        Ok(Voices { over, speaks, listens })
    }
}

impl Voices {
    /// Packets sent, and what was heard of the other side.
    pub fn stop(self) -> Result<(u64, Heard)> {
        self.over.store(true, Ordering::Relaxed);
        let sent = self.speaks.join().ok().context("the speaking thread panicked")?;
        let heard = self.listens.join().ok().context("the listening thread panicked")??;
        Ok((sent, heard))
    }
}

/// The last column of /proc/net/udp (proc_net(5)), of a socket on loopback.
fn dropped(port: u16) -> Result<u64> {
    let table = std::fs::read_to_string("/proc/net/udp")?;
    let address = format!("0100007F:{port:04X}");
    let line = table.lines().find(|line| line.split_whitespace().nth(1) == Some(&address));
    let drops = line.and_then(|line| line.split_whitespace().last());
    Ok(drops.context("the socket is not in /proc/net/udp")?.parse()?)
}

fn micros_since(epoch: Instant) -> u64 {
    u64::try_from(epoch.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn speak(media: &Media, epoch: Instant, over: &AtomicBool) -> u64 {
    let mut packet = [SILENCE; HEADER_BYTES + PAYLOAD_BYTES];
    packet[..HEADER_BYTES].fill(0);
    packet[0] = 0x80;
    packet[HEADER_BYTES..HEADER_BYTES + MAGIC.len()].copy_from_slice(&MAGIC);
    let (mut sent, mut round) = (0_u64, 0_u32);
    let begun = Instant::now();
    while !over.load(Ordering::Relaxed) {
        let peers: Vec<SocketAddr> = media.peers.lock().values().copied().collect();
        let sequence = (round % (1 << 16)).to_be_bytes();
        packet[2..4].copy_from_slice(&sequence[2..]);
        packet[4..8].copy_from_slice(&round.wrapping_mul(160).to_be_bytes());
        let (mut at, count) = (0, peers.len());
        for turn in 0..TURNS {
            let until = count * (turn as usize + 1) / TURNS as usize;
            for peer in &peers[at..until] {
                // One source for each call, as its peer has one port for each.
                packet[8..12].copy_from_slice(&u32::from(peer.port()).to_be_bytes());
                let stamp = micros_since(epoch).to_be_bytes();
                packet[HEADER_BYTES + MAGIC.len()..HEADER_BYTES + STAMP_BYTES]
                    .copy_from_slice(&stamp);
                sent += u64::from(media.socket.send_to(&packet, peer).is_ok());
            }
            at = until;
            let next = begun + PTIME * round + PTIME / TURNS * (turn + 1);
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        round += 1;
    }
    sent
}

fn listen(media: &Media, epoch: Instant, over: &AtomicBool) -> Result<Heard> {
    let mut heard = Heard {
        delay_us: Histogram::new_with_bounds(1, HIGHEST_US, 3)?,
        packets: 0,
        gap_ms: Histogram::new(3)?,
        dropped: 0,
    };
    let mut gaps: HashMap<[u8; 4], Gap> = HashMap::new();
    let mut packet = [0; 2_048];
    loop {
        let Ok((length, _)) = media.socket.recv_from(&mut packet) else {
            if over.load(Ordering::Relaxed) {
                heard.dropped = dropped(media.socket.local_addr()?.port())?;
                for gap in gaps.values() {
                    heard.gap_ms.record(gap.longest_us / 1_000)?;
                }
                return Ok(heard);
            }
            continue;
        };
        let now = micros_since(epoch);
        let payload = packet.get(HEADER_BYTES..length).unwrap_or_default();
        let Some(stamp) = payload.strip_prefix(&MAGIC).and_then(|rest| rest.first_chunk::<8>())
        else {
            continue;
        };
        heard.packets += 1;
        if let Some(source) = packet[8..].first_chunk() {
            let gap = gaps.entry(*source).or_insert(Gap { last_us: now, longest_us: 0 });
            gap.longest_us = gap.longest_us.max(now - gap.last_us);
            gap.last_us = now;
        }
        heard.delay_us.saturating_record(now.saturating_sub(u64::from_be_bytes(*stamp)));
    }
}
