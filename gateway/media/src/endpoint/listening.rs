//! What an endpoint has received: counts, spacing, and the last second of audio.

use tandem_sip::sdp::Codec;

use super::TELEPHONE_EVENT;
use super::talking::PROBE_MARK;
use crate::codec::Decoder;
use crate::limits::{PACKET_SAMPLES_MAX, SAMPLES_PER_MS};
use crate::rtp::{Order, RtpPacket, Window};

const KEPT_SAMPLES: usize = 8000;
const DELAYS_MAX: usize = 200_000;
const NS_PER_US: u64 = 1000;
const NS_PER_MS: u64 = 1_000_000;

/// Counts since the mark, or since the endpoint was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    pub received: u64,
    /// Left out of the sequence, and not come late.
    pub lost: u64,
    pub late: u64,
    pub duplicates: u64,
    /// No RTP, or far outside the sequence.
    pub odd: u64,
    /// Not protected by the peer's key.
    pub unauthentic: u64,
    /// How often a sequence began: another SSRC, or a confirmed jump.
    pub streams: u64,
    pub markers: u64,
    pub telephone_events: u64,
    /// The longest time between two packets, the one that still lasts included.
    pub spacing_ms_max: u64,
    pub spacing_us_max: u64,
    pub ssrc: u32,
    pub sequence: u16,
    pub timestamp: u32,
}

pub struct Listening {
    heard: Heard,
    window: Window,
    spacing_ns_max: u64,
    /// The last packet, or the mark if that was later.
    since_ns: Option<u64>,
    samples: Vec<i16>,
    next_sample: usize,
    delays_us: Vec<u32>,
    /// Of the codec heard last.
    decoder: Option<(Codec, Decoder)>,
}

impl Listening {
    pub fn new() -> Self {
        Self {
            heard: Heard::default(),
            window: Window::default(),
            spacing_ns_max: 0,
            since_ns: None,
            samples: vec![0; KEPT_SAMPLES],
            next_sample: 0,
            delays_us: Vec::new(),
            decoder: None,
        }
    }

    pub fn mark(&mut self, now_ns: u64) {
        let Heard { ssrc, sequence, timestamp, .. } = self.heard;
        self.heard = Heard { ssrc, sequence, timestamp, ..Heard::default() };
        self.spacing_ns_max = 0;
        self.since_ns = Some(now_ns);
        self.delays_us.clear();
    }

    pub fn heard(&self, now_ns: u64) -> Heard {
        let open = self.since_ns.map_or(0, |since| now_ns.saturating_sub(since));
        let spacing_ns = self.spacing_ns_max.max(open);
        Heard {
            spacing_ms_max: spacing_ns / NS_PER_MS,
            spacing_us_max: spacing_ns / NS_PER_US,
            ..self.heard
        }
    }

    pub fn on_unauthentic(&mut self) {
        self.heard.unauthentic += 1;
    }

    pub fn on_datagram(&mut self, datagram: &[u8], at_ns: u64) {
        let Ok(packet) = RtpPacket::parse(datagram) else {
            self.heard.odd += 1;
            return;
        };
        match self.window.observe(packet.ssrc(), packet.sequence_number()) {
            Order::Ahead { missing } => self.heard.lost += u64::from(missing),
            Order::Late => {
                self.heard.late += 1;
                self.heard.lost = self.heard.lost.saturating_sub(1);
            }
            Order::Fresh => self.heard.streams += 1,
            Order::Duplicate => {
                self.heard.duplicates += 1;
                return;
            }
            Order::Astray => {
                self.heard.odd += 1;
                return;
            }
        }
        self.heard.received += 1;
        self.heard.markers += u64::from(packet.marker_bit());
        self.heard.ssrc = packet.ssrc();
        self.heard.sequence = packet.sequence_number();
        self.heard.timestamp = packet.timestamp();
        if let Some(since) = self.since_ns {
            self.spacing_ns_max = self.spacing_ns_max.max(at_ns.saturating_sub(since));
        }
        self.since_ns = Some(self.since_ns.map_or(at_ns, |since| since.max(at_ns)));
        let codec = match packet.payload_type() {
            0 => Codec::Pcmu,
            8 => Codec::Pcma,
            9 => Codec::G722,
            18 => Codec::G729,
            111 => Codec::Opus,
            TELEPHONE_EVENT => {
                self.heard.telephone_events += 1;
                return;
            }
            _ => return,
        };
        self.keep(codec, packet.payload());
        self.measure_probe(packet.payload(), at_ns);
    }

    /// The newest samples, oldest first.
    pub fn last_samples(&self, last_ms: u32) -> Vec<i16> {
        let count = ((last_ms * SAMPLES_PER_MS) as usize).min(KEPT_SAMPLES);
        let from = self.next_sample + KEPT_SAMPLES - count;
        (from..from + count).map(|at| self.samples[at % KEPT_SAMPLES]).collect()
    }

    pub fn take_delays_us(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.delays_us)
    }

    fn keep(&mut self, codec: Codec, payload: &[u8]) {
        if self.decoder.as_ref().is_none_or(|(known, _)| *known != codec) {
            self.decoder = Some((codec, Decoder::new(codec)));
        }
        let Some((_, decoder)) = &mut self.decoder else { return };
        let mut samples = [0; PACKET_SAMPLES_MAX];
        let count = decoder.decode(payload, &mut samples);
        for sample in &samples[..count] {
            self.samples[self.next_sample] = *sample;
            self.next_sample = (self.next_sample + 1) % KEPT_SAMPLES;
        }
    }

    fn measure_probe(&mut self, payload: &[u8], at_ns: u64) {
        let Some((mark, rest)) = payload.split_first_chunk::<8>() else { return };
        let Some(sent) = rest.first_chunk::<8>().filter(|_| *mark == PROBE_MARK) else { return };
        if self.delays_us.len() < DELAYS_MAX {
            let delay_ns = at_ns.saturating_sub(u64::from_be_bytes(*sent));
            self.delays_us.push(u32::try_from(delay_ns / NS_PER_US).unwrap_or(u32::MAX));
        }
    }
}
