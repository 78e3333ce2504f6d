//! What the media plane has done, and what its streams are at.

use crate::plan::CallKey;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why a packet went no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// No RTP, or longer than any RTP we know.
    Malformed,
    /// Not from the leg's peer.
    Stranger,
    /// A payload type that was not negotiated.
    Payload,
    Duplicate,
    /// Outside the window of sequence numbers.
    Astray,
    /// Protected by no key of the peer's (RFC 3711), or not at all where it should be.
    Unauthentic,
    /// The kernel did not take what we sent.
    Send,
    /// RTCP that is not from the leg's peer.
    ControlStranger,
    /// No RTCP compound.
    ControlMalformed,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident => $metric:literal,)*) => {
        /// Added to by one thread, read by any.
        #[derive(Debug, Default)]
        pub struct Counters { $(pub $name: AtomicU64,)* }

        /// Totals since the engine's start.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Totals { $($(#[$doc])* pub $name: u64,)* }

        impl Totals {
            pub(crate) fn add(&mut self, counters: &Counters) {
                $(self.$name += counters.$name.load(Relaxed);)*
            }

            /// Adds what has come since `before` to the process's metrics.
            pub(crate) fn publish(&self, before: &Self) {
                $(metrics::counter!($metric).increment(self.$name.saturating_sub(before.$name));)*
            }
        }
    };
}

counters! {
    /// RTP packets taken from peers.
    packets_in => "tandem_media_packets_in_total",
    packets_out => "tandem_media_packets_out_total",
    /// Taken, though behind a newer one.
    late => "tandem_media_packets_late_total",
    /// Of audio that ends here: waited for in vain.
    too_late => "tandem_media_packets_too_late_total",
    dropped_malformed => "tandem_media_dropped_malformed_total",
    dropped_stranger => "tandem_media_dropped_stranger_total",
    dropped_payload => "tandem_media_dropped_payload_total",
    dropped_duplicate => "tandem_media_dropped_duplicate_total",
    dropped_astray => "tandem_media_dropped_astray_total",
    dropped_unauthentic => "tandem_media_dropped_unauthentic_total",
    dropped_send => "tandem_media_dropped_send_total",
    rtcp_in => "tandem_media_rtcp_in_total",
    rtcp_out => "tandem_media_rtcp_out_total",
    rtcp_dropped_stranger => "tandem_media_rtcp_dropped_stranger_total",
    rtcp_dropped_malformed => "tandem_media_rtcp_dropped_malformed_total",
    /// Generated packets left out because the worker was held up.
    ticks_skipped => "tandem_media_ticks_skipped_total",
    /// Pieces of audio that the recorder's queue had no room for.
    pieces_dropped => "tandem_media_recorder_pieces_dropped_total",
    /// Events that nobody fetched in time.
    events_dropped => "tandem_media_events_dropped_total",
}

impl Counters {
    pub fn one(counter: &AtomicU64) {
        counter.fetch_add(1, Relaxed);
    }

    /// What became of an RTCP datagram.
    pub fn control(&self, taken: Result<(), Dropped>) {
        match taken {
            Ok(()) => Self::one(&self.rtcp_in),
            Err(why) => self.dropped(why),
        }
    }

    pub fn dropped(&self, why: Dropped) {
        Self::one(match why {
            Dropped::Malformed => &self.dropped_malformed,
            Dropped::Stranger => &self.dropped_stranger,
            Dropped::Payload => &self.dropped_payload,
            Dropped::Duplicate => &self.dropped_duplicate,
            Dropped::Astray => &self.dropped_astray,
            Dropped::Unauthentic => &self.dropped_unauthentic,
            Dropped::Send => &self.dropped_send,
            Dropped::ControlStranger => &self.rtcp_dropped_stranger,
            Dropped::ControlMalformed => &self.rtcp_dropped_malformed,
        });
    }
}

impl Totals {
    pub fn dropped(&self) -> u64 {
        self.dropped_malformed
            + self.dropped_stranger
            + self.dropped_payload
            + self.dropped_duplicate
            + self.dropped_astray
            + self.dropped_unauthentic
            + self.dropped_send
    }
}

#[derive(Clone, Debug, Default)]
pub struct Stats {
    pub totals: Totals,
    pub ports_free: usize,
    pub legs: Vec<LegState>,
}

/// Where one leg's streams are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegState {
    pub call: CallKey,
    pub leg: u64,
    pub port: u16,
    /// Of our stream: its source, the sequence number of the next packet, the newest timestamp.
    pub ssrc: u32,
    pub sequence_next: u16,
    pub timestamp: u32,
    /// Where we send: the address that the peer's packets come from, else what its SDP said.
    pub remote: Option<SocketAddr>,
    pub latched: bool,
    pub received: u64,
    pub sent: u64,
    /// Of what the peer sent, packets that never came.
    pub lost: u64,
    /// The mean (RFC 3550 §A.8).
    pub jitter_us: u32,
    /// The mean; none before the peer has reported.
    pub round_trip_us: Option<u32>,
}
