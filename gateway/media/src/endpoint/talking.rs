//! What an endpoint sends: one RTP stream of a tone, and keys in between.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use tandem_sip::sdp::Codec;

use super::TELEPHONE_EVENT;
use crate::codec::Encoder;
use crate::g711::Law;
use crate::limits::{PTIME_MS, SAMPLES_PER_MS, SAMPLES_PER_PACKET};
use crate::rtp::{HEADER_BYTES, Header};
use crate::tones::{Loop, Piece as _};

pub const PACKET_BYTES: usize = HEADER_BYTES + SAMPLES_PER_PACKET as usize;
/// Before the time in a probe's audio.
pub const PROBE_MARK: [u8; 8] = *b"\x7ftAnDm\x01~";

/// Two frames of 10 ms.
const G729_BYTES: usize = 20;
const KEYS_MAX: usize = 64;
const KEY_PACKETS: u32 = 5;
/// The end of an event is sent three times (RFC 4733 §2.5.1.4).
const KEY_END_PACKETS: u32 = 3;

pub struct Talking {
    to: Option<To>,
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    /// Of its timestamps. Keys are counted at 8 kHz, as many phones do beside Opus, too.
    clock_khz: u32,
    position: u64,
    fresh: bool,
    probing: bool,
    keys: VecDeque<u8>,
    key: Option<Key>,
    sent: u64,
}

struct To {
    remote: SocketAddr,
    codec: Codec,
    encoder: Encoder,
    tone: Arc<Loop>,
}

#[derive(Clone, Copy)]
struct Key {
    event: u8,
    timestamp: u32,
    packets: u32,
}

impl Talking {
    pub fn new(ssrc: u32) -> Self {
        Self {
            to: None,
            ssrc,
            sequence: (ssrc >> 16) as u16,
            timestamp: ssrc.rotate_left(7),
            clock_khz: SAMPLES_PER_MS,
            position: 0,
            fresh: true,
            probing: false,
            keys: VecDeque::new(),
            key: None,
            sent: 0,
        }
    }

    pub fn talk(&mut self, remote: SocketAddr, codec: Codec, tone: Arc<Loop>) {
        self.to = Some(To { remote, codec, encoder: Encoder::new(codec), tone });
        self.clock_khz = codec.clock_khz();
        self.fresh = true;
    }

    pub fn hush(&mut self) {
        self.to = None;
    }

    pub fn probe(&mut self) {
        self.probing = true;
    }

    pub fn sent(&self) -> u64 {
        self.sent
    }

    pub fn press(&mut self, digit: char) -> bool {
        let event = match digit {
            '0'..='9' => digit as u8 - b'0',
            '*' => 10,
            '#' => 11,
            'A'..='D' => digit as u8 - b'A' + 12,
            _ => return false,
        };
        let room = self.keys.len() < KEYS_MAX;
        if room {
            self.keys.push_back(event);
        }
        room
    }

    /// The next packet, of so many bytes, and where it goes.
    pub fn next(
        &mut self,
        now_ns: u64,
        out: &mut [u8; PACKET_BYTES],
    ) -> Option<(usize, SocketAddr)> {
        let (remote, codec) = self.to.as_ref().map(|to| (to.remote, to.codec))?;
        if self.key.is_none()
            && let Some(event) = self.keys.pop_front()
        {
            self.key = Some(Key { event, timestamp: self.timestamp, packets: 0 });
        }
        let (header, bytes) = match &mut self.key {
            Some(key) => {
                let lasts = key.packets.min(KEY_PACKETS - 1) + 1;
                let end = key.packets >= KEY_PACKETS;
                let duration = (lasts * SAMPLES_PER_PACKET) as u16;
                out[HEADER_BYTES] = key.event;
                out[HEADER_BYTES + 1] = 10 | (u8::from(end) << 7);
                out[HEADER_BYTES + 2..HEADER_BYTES + 4].copy_from_slice(&duration.to_be_bytes());
                let marker = key.packets == 0;
                key.packets += 1;
                (self.header(marker, TELEPHONE_EVENT, self.key_timestamp()), HEADER_BYTES + 4)
            }
            None => {
                let to = self.to.as_mut()?;
                let body = &mut out[HEADER_BYTES..];
                let bytes = match Law::of(codec) {
                    Some(law) => {
                        to.tone.fill(law, self.position, body);
                        body.len()
                    }
                    // Nobody here can make it, and nobody here reads it.
                    None if codec == Codec::G729 => {
                        body[..G729_BYTES].fill(0x55);
                        G729_BYTES
                    }
                    None => {
                        let mut samples = [0; SAMPLES_PER_PACKET as usize];
                        to.tone.fill_linear(self.position, &mut samples);
                        to.encoder.encode(&samples, body)?
                    }
                };
                if self.probing {
                    body[..8].copy_from_slice(&PROBE_MARK);
                    body[8..16].copy_from_slice(&now_ns.to_be_bytes());
                }
                let payload = codec.static_payload();
                (self.header(self.fresh, payload, self.timestamp), HEADER_BYTES + bytes)
            }
        };
        header.write(out);
        if self.key.is_some_and(|key| key.packets >= KEY_PACKETS + KEY_END_PACKETS) {
            self.key = None;
        }
        self.fresh = false;
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(PTIME_MS * self.clock_khz);
        self.position += u64::from(SAMPLES_PER_PACKET);
        self.sent += 1;
        Some((bytes, remote))
    }

    fn key_timestamp(&self) -> u32 {
        self.key.map_or(self.timestamp, |key| key.timestamp)
    }

    fn header(&self, marker: bool, payload: u8, timestamp: u32) -> Header {
        Header { marker, payload, sequence: self.sequence, timestamp, ssrc: self.ssrc }
    }
}
