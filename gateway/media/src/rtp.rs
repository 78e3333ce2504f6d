//! RTP headers (RFC 3550 §5.1) and the order of received packets (appendix A.1).

pub use rtp_types::RtpPacket;

use crate::limits::{SEQUENCE_DROPOUT_MAX, SEQUENCE_MISORDER_MAX};

pub const HEADER_BYTES: usize = 12;

/// The header of a packet of ours: version 2, no padding, no extension, no contributing sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub marker: bool,
    pub payload: u8,
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
}

impl Header {
    pub fn write(&self, out: &mut [u8]) {
        out[0] = 0x80;
        out[1] = (u8::from(self.marker) << 7) | (self.payload & 0x7f);
        out[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        out[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        out[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
    }
}

/// On the circle of 16-bit sequence numbers.
pub fn is_before(a: u16, b: u16) -> bool {
    a != b && b.wrapping_sub(a) < 0x8000
}

/// What a packet is to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The next, or ahead with `missing` packets left out.
    Ahead {
        missing: u16,
    },
    /// Behind the newest, and not seen before.
    Late,
    Duplicate,
    /// Too far behind to tell, or a jump that no second packet has confirmed.
    Astray,
    /// A new sequence: the first packet, another source, or a confirmed jump.
    Fresh,
}

/// The newest sequence numbers of one source, as a sliding window of 64 bits.
#[derive(Clone, Debug, Default)]
pub struct Window {
    ssrc: Option<u32>,
    newest: u16,
    seen: u64,
    /// After a wild jump: the number that would confirm it.
    confirm: Option<u16>,
}

impl Window {
    pub fn observe(&mut self, ssrc: u32, sequence: u16) -> Order {
        if self.ssrc != Some(ssrc) {
            return self.restart(ssrc, sequence);
        }
        let ahead = sequence.wrapping_sub(self.newest);
        let behind = self.newest.wrapping_sub(sequence);
        if ahead != 0 && ahead < SEQUENCE_DROPOUT_MAX {
            self.seen = if ahead < 64 { (self.seen << ahead) | 1 } else { 1 };
            self.newest = sequence;
            self.confirm = None;
            return Order::Ahead { missing: ahead - 1 };
        }
        if behind < SEQUENCE_MISORDER_MAX {
            let bit = 1_u64 << behind;
            if self.seen & bit != 0 {
                return Order::Duplicate;
            }
            self.seen |= bit;
            return Order::Late;
        }
        if self.confirm == Some(sequence) {
            return self.restart(ssrc, sequence);
        }
        self.confirm = Some(sequence.wrapping_add(1));
        Order::Astray
    }

    fn restart(&mut self, ssrc: u32, sequence: u16) -> Order {
        *self = Self { ssrc: Some(ssrc), newest: sequence, seen: 1, confirm: None };
        Order::Fresh
    }
}
