//! One leg in service: its sockets, what it takes from its peer, what it sends.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::dtmf::Keypad;
use crate::limits::{LISTENERS_MAX, SAMPLES_PER_MS};
use crate::plan::{Leg, Prompt, Source};
use crate::ports::Pair;
use crate::record::Tap;
use crate::rtp::{RtpPacket, Window};
use crate::stats::{Dropped, LegState};
use crate::stream::{Outgoing, TAKEOVER_AHEAD_PACKETS};
use crate::sys;

const NS_PER_MS: u64 = 1_000_000;

/// What a packet of the peer carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Audio,
    TelephoneEvent,
}

pub struct Slot {
    pub call: u64,
    pub leg: Leg,
    pub pair: Arc<Pair>,
    /// Where packets really come from. Latched to once; a source that SDP names goes before one
    /// that it doesn't.
    pub latched: Option<SocketAddr>,
    pub window: Window,
    /// Counts the sequences that the peer began.
    pub epoch: u32,
    pub keypad: Keypad,
    pub heard_ns: u64,
    pub silence_told: bool,
    pub outgoing: Outgoing,
    /// Samples that the generator has made of the present source.
    pub position: u64,
    /// The play whose end was told.
    pub ended_play: Option<u64>,
    /// Keys of the peer that were told.
    pub presses: u64,
    /// Slots that hear this one.
    pub listeners: Vec<usize>,
    pub tap: Option<Tap>,
    pub received: u64,
    pub sent: u64,
}

impl Slot {
    pub fn target(&self) -> Option<SocketAddr> {
        self.leg.remote.map(|remote| self.latched.unwrap_or(remote))
    }

    /// Whether media from this address is this leg's. NAT may have changed the port that SDP
    /// names, never the address; once latched, no third source is taken.
    pub fn accepts(&self, from: SocketAddr) -> bool {
        let Some(remote) = self.leg.remote else { return false };
        if from.ip() != remote.ip() {
            return false;
        }
        let named = from.port() == remote.port();
        named || self.latched.is_none_or(|latched| latched.port() == from.port())
    }

    pub fn kind(&self, packet: &RtpPacket<'_>) -> Result<Kind, Dropped> {
        let payload = packet.payload_type();
        if payload == self.leg.payload {
            Ok(Kind::Audio)
        } else if Some(payload) == self.leg.telephone_event {
            Ok(Kind::TelephoneEvent)
        } else {
            Err(Dropped::Payload)
        }
    }

    pub fn new(call: u64, leg: Leg, pair: Arc<Pair>, now_ns: u64) -> Self {
        let ahead = if pair.adopted { TAKEOVER_AHEAD_PACKETS } else { 0 };
        Self {
            call,
            outgoing: Outgoing::new(leg.ssrc, sys::realtime_ns(), ahead),
            position: first_position(leg.source),
            ended_play: None,
            presses: 0,
            leg,
            pair,
            latched: None,
            window: Window::default(),
            epoch: 0,
            keypad: Keypad::default(),
            heard_ns: now_ns,
            silence_told: false,
            listeners: Vec::with_capacity(LISTENERS_MAX),
            tap: None,
            received: 0,
            sent: 0,
        }
    }

    /// Takes over what a later plan says of this leg.
    pub fn update(&mut self, leg: Leg, now_ns: u64) {
        if leg.remote != self.leg.remote {
            self.latched = None;
            self.heard_ns = now_ns;
            self.silence_told = false;
        }
        if leg.ssrc != self.leg.ssrc {
            self.outgoing = Outgoing::new(leg.ssrc, sys::realtime_ns(), 0);
        }
        if !leg.source.goes_on_as(self.leg.source) {
            self.outgoing.on_source_changed();
            self.position = first_position(leg.source);
        }
        self.leg = leg;
    }

    pub fn is_generated(&self) -> bool {
        match self.leg.source {
            Source::Silence | Source::Music | Source::Ringback | Source::Prompt(_) => true,
            Source::Echo | Source::Leg(_) => false,
        }
    }

    /// A prompt that is heard: it goes on whether there is anybody to hear it or not.
    pub fn prompt(&self) -> Option<Prompt> {
        match self.leg.source {
            Source::Prompt(prompt) if self.ended_play != Some(prompt.play) => Some(prompt),
            Source::Prompt(_)
            | Source::Silence
            | Source::Music
            | Source::Ringback
            | Source::Echo
            | Source::Leg(_) => None,
        }
    }

    /// A key was pressed: it stops a prompt that may be interrupted, before anybody else has
    /// heard of it.
    pub fn barge_in(&mut self) {
        if self.prompt().is_some_and(|prompt| prompt.barge_in) {
            self.position = u64::MAX / 2;
        }
    }

    pub fn state(&self) -> LegState {
        LegState {
            call: self.call,
            leg: self.leg.leg,
            port: self.pair.port,
            ssrc: self.outgoing.ssrc(),
            sequence_next: self.outgoing.next_sequence(),
            timestamp: self.outgoing.timestamp(),
            remote: self.target(),
            latched: self.latched.is_some(),
            received: self.received,
            sent: self.sent,
        }
    }
}

/// Music goes by the wall clock, so that after a takeover it goes on where it was.
fn first_position(source: Source) -> u64 {
    match source {
        Source::Music => sys::realtime_ns() / NS_PER_MS * u64::from(SAMPLES_PER_MS),
        // Where a gateway of before has come, or 0.
        Source::Prompt(prompt) => prompt.offset_ms.saturating_mul(u64::from(SAMPLES_PER_MS)),
        Source::Silence | Source::Ringback | Source::Echo | Source::Leg(_) => 0,
    }
}
