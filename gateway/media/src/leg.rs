//! One leg in service: its sockets, what it takes from its peer, what it sends.

use std::net::SocketAddr;
use std::sync::Arc;

use tandem_sip::sdp::Codec;

use crate::codec::Voice;
use crate::detector::Detector;
use crate::dial::Dial;
use crate::dtmf::Keypad;
use crate::limits::{LISTENERS_MAX, SAMPLES_PER_MS};
use crate::mix::Playout;
use crate::noise::Noise;
use crate::plan::{CallKey, Leg, Prompt, Source};
use crate::ports::Pair;
use crate::quality::{Measured, Quality};
use crate::random::Random;
use crate::record::Tap;
use crate::reorder::Reorder;
use crate::rollover;
use crate::rtcp::packets::REPORT_BYTES_MAX;
use crate::rtcp::reception::Reception;
use crate::rtcp::{Moment, Session};
use crate::rtp::{RtpPacket, Window};
use crate::srtp::Armour;
use crate::stats::{Dropped, LegState};
use crate::stream::{Outgoing, Received, TAKEOVER_AHEAD_PACKETS};
use crate::sys;

const NS_PER_MS: u64 = 1_000_000;

/// What a packet of the peer carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Audio,
    TelephoneEvent,
    /// The peer says that it is silent (RFC 3389).
    ComfortNoise,
}

/// Comfort noise has this number wherever it is used at 8 kHz (RFC 3389 §4).
const COMFORT_NOISE: u8 = 13;

/// What is known of a packet while it waits.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    pub received: Received,
    pub kind: Option<Kind>,
    pub ssrc: u32,
}

/// Timestamps of any clock as those of 8 kHz, for who has only samples of that.
#[derive(Clone, Copy, Debug, Default)]
pub struct Narrowed {
    theirs: u32,
    ours: u32,
}

impl Narrowed {
    pub fn timestamp(&mut self, timestamp: u32, clock_khz: u32) -> u32 {
        let per_sample = (clock_khz / SAMPLES_PER_MS).max(1) as i32;
        let step = timestamp.wrapping_sub(self.theirs) as i32 / per_sample;
        (self.theirs, self.ours) = (timestamp, self.ours.wrapping_add(step as u32));
        self.ours
    }
}

pub struct Slot {
    pub call: CallKey,
    pub leg: Leg,
    pub pair: Arc<Pair>,
    pub armour: Armour,
    /// Where packets really come from. Latched to once; a source that SDP names goes before one
    /// that it doesn't.
    pub latched: Option<SocketAddr>,
    pub window: Window,
    /// Counts the sequences that the peer began.
    pub epoch: u32,
    pub keypad: Keypad,
    /// Of a peer that tells keys by their tones alone.
    pub detector: Option<Box<Detector>>,
    pub voice: Voice,
    /// Some who hear this leg can't do with its payloads.
    pub transcoded: bool,
    pub heard_ns: u64,
    pub silence_told: bool,
    pub outgoing: Outgoing,
    pub narrowed: Narrowed,
    /// Keys that its peer is dialled in tones.
    pub dial: Dial,
    /// What the recording has instead of the peer's silence.
    pub noise: Option<Noise>,
    /// Puts in order what is listened to here.
    pub reorder: Reorder<Waiting>,
    /// Samples that the generator has made of the present source.
    pub position: u64,
    /// The play whose end was told.
    pub ended_play: Option<u64>,
    /// Keys of the peer that were told.
    pub presses: u64,
    /// Slots that hear this one.
    pub listeners: Vec<usize>,
    pub tap: Option<Tap>,
    /// Slots that this one hears in a mix.
    pub hears: Vec<usize>,
    /// Of the recording that has the mix.
    pub mix_tap: Option<Tap>,
    /// Of a peer that is heard in a mix.
    pub playout: Option<Playout>,
    pub reception: Reception,
    pub control: Session,
    /// Where RTCP really comes from; latched to as RTP is.
    pub control_latched: Option<SocketAddr>,
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
        } else if payload == COMFORT_NOISE {
            Ok(Kind::ComfortNoise)
        } else {
            Err(Dropped::Payload)
        }
    }

    pub fn new(call: CallKey, leg: Leg, pair: Arc<Pair>, now_ns: u64) -> Self {
        let ahead = if pair.adopted { TAKEOVER_AHEAD_PACKETS } else { 0 };
        let khz = leg.codec.clock_khz();
        let mut outgoing = Outgoing::new(leg.ssrc, khz, sys::realtime_ns(), ahead);
        let index = first_index(&leg, &mut outgoing);
        Self {
            call,
            outgoing,
            narrowed: Narrowed::default(),
            dial: Dial::default(),
            noise: None,
            reorder: Reorder::default(),
            position: first_position(&leg.source),
            detector: detector_of(&leg),
            voice: Voice::new(leg.codec),
            transcoded: false,
            control: Session::new(call, leg.leg, leg.ssrc),
            ended_play: None,
            presses: 0,
            armour: Armour::new(leg.keys.as_ref(), leg.ssrc, index),
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
            hears: Vec::new(),
            mix_tap: None,
            playout: None,
            reception: Reception::default(),
            control_latched: None,
            received: 0,
            sent: 0,
        }
    }

    /// Takes over what a later plan says of this leg.
    pub fn update(&mut self, leg: Leg, now_ns: u64) {
        if leg.remote != self.leg.remote {
            self.latched = None;
            self.control_latched = None;
            self.heard_ns = now_ns;
            self.silence_told = false;
            self.noise = None;
        }
        if leg.ssrc != self.leg.ssrc {
            let khz = leg.codec.clock_khz();
            self.outgoing = Outgoing::new(leg.ssrc, khz, sys::realtime_ns(), 0);
        }
        if leg.codec != self.leg.codec {
            self.reorder.restart();
            self.voice = Voice::new(leg.codec);
            self.outgoing.set_clock(leg.codec.clock_khz());
        }
        if leg.telephone_event.is_some() != self.leg.telephone_event.is_some() {
            self.detector = detector_of(&leg);
        }
        let index = if self.leg.keys.is_none() {
            first_index(&leg, &mut self.outgoing)
        } else {
            self.outgoing.next_sequence().into()
        };
        self.armour.update(leg.keys.as_ref(), leg.ssrc, index);
        if !leg.source.goes_on_as(&self.leg.source) {
            self.outgoing.on_source_changed();
            self.dial = Dial::default();
            self.position = first_position(&leg.source);
        }
        self.leg = leg;
    }

    /// The clock that the peer counts its events by.
    pub fn events_khz(&self) -> u32 {
        if self.leg.events_wide { Codec::Opus.clock_khz() } else { SAMPLES_PER_MS }
    }

    /// Whether what is told as an event is dialled to this peer: it knows no events, and hears us.
    pub fn dials(&self, kind: Option<Kind>) -> bool {
        kind == Some(Kind::TelephoneEvent) && self.leg.telephone_event.is_none()
    }

    /// Whether anybody needs what this leg's peer says as samples.
    pub fn needs_samples(&self) -> bool {
        self.tap.is_some() || self.transcoded || self.detector.is_some() || self.playout.is_some()
    }

    pub fn is_generated(&self) -> bool {
        match self.leg.source {
            Source::Silence | Source::Music(_) | Source::Ringback(_) | Source::Prompt(_) => true,
            Source::Echo | Source::Leg(_) | Source::Mix(_) => false,
        }
    }

    pub fn mixes(&self) -> bool {
        matches!(self.leg.source, Source::Mix(_))
    }

    /// A prompt that is heard: it goes on whether there is anybody to hear it or not.
    pub fn prompt(&self) -> Option<Prompt> {
        match self.leg.source {
            Source::Prompt(prompt) if self.ended_play != Some(prompt.play) => Some(prompt),
            Source::Prompt(_)
            | Source::Silence
            | Source::Music(_)
            | Source::Ringback(_)
            | Source::Echo
            | Source::Leg(_)
            | Source::Mix(_) => None,
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
            lost: self.reception.lost(),
            jitter_us: self.reception.jitter_us(),
            round_trip_us: self.control.round_trip_us(),
        }
    }

    /// What the leg has come to.
    pub fn quality(&self) -> Quality {
        let reception = &self.reception;
        let (lost, jitter_us) = (reception.lost(), reception.jitter_us());
        let round_trip_us = self.control.round_trip_us();
        let codec = self.leg.codec;
        let received = reception.received;
        let measured = Measured { codec, received, lost, jitter_us, round_trip_us };
        Quality {
            call: self.call,
            leg: self.leg.leg,
            role: self.leg.role,
            codec,
            packets_sent: self.sent,
            packets_received: received,
            packets_lost: lost,
            packets_late: reception.late,
            packets_duplicate: reception.duplicates,
            jitter_us,
            round_trip_us,
            mos_x100: measured.mos_x100(),
        }
    }

    // --- RTCP -----------------------------------------------------------------------------------

    /// Where our reports go: where the peer's come from, else the port after its RTP's
    /// (RFC 3550 §11).
    fn control_target(&self) -> Option<SocketAddr> {
        let rtp = self.target()?;
        let after = || Some(SocketAddr::new(rtp.ip(), rtp.port().checked_add(1)?));
        self.control_latched.or_else(after)
    }

    /// Whether a report from this address is this leg's, by the rules of [`Self::accepts`].
    fn accepts_control(&self, from: SocketAddr) -> bool {
        let Some(rtp) = self.target() else { return false };
        let named = rtp.port().checked_add(1) == Some(from.port());
        let known = self.control_latched.is_none_or(|latched| latched.port() == from.port());
        from.ip() == rtp.ip() && (named || known)
    }

    fn moment(&self, now_ns: u64) -> Moment {
        Moment {
            now_ns,
            unix_ns: sys::realtime_ns(),
            ssrc: self.outgoing.ssrc(),
            rtp_timestamp: self.outgoing.timestamp_at(now_ns),
        }
    }

    /// A datagram of the port for RTCP.
    pub fn on_control(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        now_ns: u64,
    ) -> Result<(), Dropped> {
        if !self.accepts_control(from) {
            return Err(Dropped::ControlStranger);
        }
        self.on_control_beside(datagram, now_ns)?;
        self.control_latched = Some(from);
        Ok(())
    }

    /// RTCP that came to the port for RTP, from the leg's own peer (RFC 5761).
    pub fn on_control_beside(&mut self, datagram: &[u8], now_ns: u64) -> Result<(), Dropped> {
        let moment = self.moment(now_ns);
        let datagram = self.armour.open_control(datagram)?;
        self.control.on_datagram(datagram, &moment).map_err(|_| Dropped::ControlMalformed)
    }

    /// Sends the report that is due; whether there was anybody to send it to.
    pub fn send_report(&mut self, now_ns: u64, random: &mut Random) -> Result<bool, Dropped> {
        let mut out = [0; REPORT_BYTES_MAX];
        let moment = self.moment(now_ns);
        let bytes = self.control.report(&moment, &mut self.reception, random, &mut out);
        let Some(target) = self.control_target() else { return Ok(false) };
        let sealed = self.armour.seal_control(&out[..bytes])?;
        self.pair.send_rtcp(sealed, target).map_err(|_| Dropped::Send)
    }

    /// Tells the peer that this source ends. It is told once: a peer that misses it finds out by
    /// silence.
    pub fn send_goodbye(&mut self, now_ns: u64) {
        let mut out = [0; REPORT_BYTES_MAX];
        let moment = self.moment(now_ns);
        let bytes = self.control.goodbye(&moment, &mut self.reception, &mut out);
        if let (Some(bytes), Some(target)) = (bytes, self.control_target())
            && let Ok(sealed) = self.armour.seal_control(&out[..bytes])
        {
            let _ = self.pair.send_rtcp(sealed, target);
        }
    }
}

/// Of the first packet that is protected. The peer counts how often the numbers go round, from 0 at the first of all.
fn first_index(leg: &Leg, outgoing: &mut Outgoing) -> u64 {
    let next = outgoing.next_sequence();
    let Some(keys) = &leg.keys else { return next.into() };
    let index = rollover::beginning(keys.from.sent, next.into());
    outgoing.begin_with(index as u16);
    index
}

fn detector_of(leg: &Leg) -> Option<Box<Detector>> {
    leg.telephone_event.is_none().then(Box::default)
}

/// Music goes by the wall clock, so that after a takeover it goes on where it was.
fn first_position(source: &Source) -> u64 {
    match source {
        Source::Music(_) => sys::realtime_ns() / NS_PER_MS * u64::from(SAMPLES_PER_MS),
        // Where a gateway of before has come, or 0.
        Source::Prompt(prompt) => prompt.offset_ms.saturating_mul(u64::from(SAMPLES_PER_MS)),
        Source::Silence | Source::Ringback(_) | Source::Echo | Source::Leg(_) | Source::Mix(_) => 0,
    }
}
