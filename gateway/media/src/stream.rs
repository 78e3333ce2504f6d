//! What one leg sends: a single RTP stream whose sequence and timestamps go on, whatever is heard.

use crate::limits::PTIME_MS;
use crate::rtp::{Header, Order, is_before};

/// How far ahead a stream begins that another gateway has sent before us: more packets than a
/// peer's clock can have gained on ours within a long call.
pub const TAKEOVER_AHEAD_PACKETS: u16 = 100;

const NS_PER_MS: u64 = 1_000_000;

/// The stream begins where the wall clock says, so that a gateway that takes it over with the
/// same SSRC begins ahead of what was sent before, without being told how far that was.
#[derive(Clone, Debug)]
pub struct Outgoing {
    ssrc: u32,
    /// Of its timestamps.
    clock_khz: u32,
    next_sequence: u16,
    /// Of the newest packet sent.
    last: Last,
    fed_by: FedBy,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    timestamp: u32,
    /// None before the first packet.
    at_ns: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
enum FedBy {
    /// Nothing since the source changed: the next packet carries the marker.
    Nobody,
    Generator,
    Relay(Mapping),
}

/// How numbers of a received stream become ours. Loss and reordering before us stay visible.
#[derive(Clone, Copy, Debug)]
struct Mapping {
    source: usize,
    epoch: u32,
    sequence_offset: u16,
    /// The same moment by the clock of there and by ours.
    theirs: u32,
    ours: u32,
    first_sequence: u16,
}

/// One received packet, as far as its numbers go.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// Where it was received, and how often that place has seen a new sequence begin.
    pub source: usize,
    pub epoch: u32,
    pub sequence: u16,
    pub timestamp: u32,
    pub clock_khz: u32,
    pub marker: bool,
    pub order: Order,
}

impl Outgoing {
    pub fn new(ssrc: u32, clock_khz: u32, unix_ns: u64, ahead_packets: u16) -> Self {
        let unix_ms = unix_ns / NS_PER_MS;
        // Wrapping is the point: both are positions on a circle.
        let packets = (unix_ms / u64::from(PTIME_MS)) as u16;
        let samples = unix_ms.wrapping_mul(u64::from(clock_khz)) as u32;
        let spread = ssrc.wrapping_mul(0x9e37_79b1);
        let ahead_samples = u32::from(ahead_packets).wrapping_mul(PTIME_MS * clock_khz);
        let timestamp = samples.wrapping_add(spread).wrapping_add(ahead_samples);
        Self {
            ssrc,
            clock_khz,
            next_sequence: packets.wrapping_add((spread >> 16) as u16).wrapping_add(ahead_packets),
            // As if a packet had gone out just before.
            last: Last { timestamp, at_ns: None },
            fed_by: FedBy::Nobody,
        }
    }

    /// This number is in its next packet.
    pub fn begin_with(&mut self, sequence: u16) {
        self.next_sequence = sequence;
        self.fed_by = FedBy::Nobody;
    }

    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// The sequence number of the next generated packet.
    pub fn next_sequence(&self) -> u16 {
        self.next_sequence
    }

    /// Of the newest packet.
    pub fn timestamp(&self) -> u32 {
        self.last.timestamp
    }

    /// What the timestamp is at a moment, between packets too.
    pub fn timestamp_at(&self, now_ns: u64) -> u32 {
        let elapsed_ns = self.last.at_ns.map_or(0, |at_ns| now_ns.saturating_sub(at_ns));
        let samples = elapsed_ns / 1000 * u64::from(self.clock_khz) / 1000;
        self.last.timestamp.wrapping_add(samples as u32)
    }

    pub fn on_source_changed(&mut self) {
        self.fed_by = FedBy::Nobody;
    }

    /// What is sent has another clock from now on, with the same stream before it.
    pub fn set_clock(&mut self, clock_khz: u32) {
        if clock_khz != self.clock_khz {
            self.clock_khz = clock_khz;
            self.fed_by = FedBy::Nobody;
        }
    }

    fn samples_per_packet(&self) -> u32 {
        PTIME_MS * self.clock_khz
    }

    /// The next packet of a generator.
    pub fn generate(&mut self, payload: u8, now_ns: u64) -> Header {
        let (timestamp, marker) = match self.fed_by {
            FedBy::Generator => {
                (self.last.timestamp.wrapping_add(self.samples_per_packet()), false)
            }
            FedBy::Nobody | FedBy::Relay(_) => (self.timestamp_after(now_ns), true),
        };
        let header =
            Header { marker, payload, sequence: self.next_sequence, timestamp, ssrc: self.ssrc };
        self.fed_by = FedBy::Generator;
        self.next_sequence = self.next_sequence.wrapping_add(1);
        self.last = Last { timestamp, at_ns: Some(now_ns) };
        header
    }

    /// The generator was held up: so many packets are left out, and their time goes by.
    pub fn skip(&mut self, packets: u64) {
        if let FedBy::Generator = self.fed_by {
            let samples = packets.wrapping_mul(u64::from(self.samples_per_packet())) as u32;
            self.last.timestamp = self.last.timestamp.wrapping_add(samples);
        }
    }

    /// The header for a received packet that is sent on; none if it is from before the source
    /// changed.
    pub fn relay(&mut self, payload: u8, received: &Received, now_ns: u64) -> Option<Header> {
        let current = match self.fed_by {
            FedBy::Relay(mapping) if mapping.is_of(received) => Some(mapping),
            FedBy::Nobody | FedBy::Generator | FedBy::Relay(_) => None,
        };
        let newest = matches!(received.order, Order::Ahead { .. } | Order::Fresh);
        let mapping = match current {
            Some(mapping) => mapping,
            None if newest => self.map(received, now_ns),
            None => return None,
        };
        let sequence = received.sequence.wrapping_add(mapping.sequence_offset);
        if is_before(sequence, mapping.first_sequence) {
            return None;
        }
        let timestamp = mapping.timestamp(received, self.clock_khz);
        if newest {
            // The next is measured from here, so that no clock goes round between two.
            let (theirs, ours) = (received.timestamp, timestamp);
            self.fed_by = FedBy::Relay(Mapping { theirs, ours, ..mapping });
            self.next_sequence = sequence.wrapping_add(1);
            self.last = Last { timestamp, at_ns: Some(now_ns) };
        }
        let marker = received.marker || current.is_none();
        Some(Header { marker, payload, sequence, timestamp, ssrc: self.ssrc })
    }

    /// A received packet is not sent on, for this peer doesn't know its payload type: the
    /// sequence closes over it, or the peer would count it as lost.
    pub fn leave_out(&mut self, received: &Received) {
        if let FedBy::Relay(mapping) = &mut self.fed_by
            && mapping.is_of(received)
            && matches!(received.order, Order::Ahead { .. })
        {
            mapping.sequence_offset = mapping.sequence_offset.wrapping_sub(1);
        }
    }

    fn map(&mut self, received: &Received, now_ns: u64) -> Mapping {
        let timestamp = self.timestamp_after(now_ns);
        let mapping = Mapping {
            source: received.source,
            epoch: received.epoch,
            sequence_offset: self.next_sequence.wrapping_sub(received.sequence),
            theirs: received.timestamp,
            ours: timestamp,
            first_sequence: self.next_sequence,
        };
        self.fed_by = FedBy::Relay(mapping);
        mapping
    }

    /// The timestamp of a packet of another source: time has gone on since the last, by a packet
    /// at least.
    fn timestamp_after(&self, now_ns: u64) -> u32 {
        let elapsed_ns = self.last.at_ns.map_or(0, |at_ns| now_ns.saturating_sub(at_ns));
        let samples = (elapsed_ns / NS_PER_MS * u64::from(self.clock_khz)) as u32;
        self.last.timestamp.wrapping_add(samples.max(self.samples_per_packet()))
    }
}

impl Mapping {
    fn is_of(&self, received: &Received) -> bool {
        self.source == received.source && self.epoch == received.epoch
    }

    fn timestamp(&self, received: &Received, clock_khz: u32) -> u32 {
        let step = received.timestamp.wrapping_sub(self.theirs);
        if received.clock_khz == clock_khz {
            return self.ours.wrapping_add(step);
        }
        let step = i64::from(step as i32) * i64::from(clock_khz);
        self.ours.wrapping_add(step.div_euclid(i64::from(received.clock_khz.max(1))) as u32)
    }
}
