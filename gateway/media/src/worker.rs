//! One thread that serves the sockets of many calls: receives, sends on, generates. It waits for
//! nothing but its sockets, and allocates only when plans change.

mod hearing;
mod mixing;
mod plans;
mod taps;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError};
use tandem_lease::Fence;

use crate::dtmf::Press;
use crate::event::Event;
use crate::g711::{self, Law};
use crate::leg::Slot;
use crate::limits::{
    CATCH_UP_PACKETS_MAX, DATAGRAM_BYTES_MAX, PACKET_SAMPLES_MAX, PTIME_MS, SAMPLES_PER_PACKET,
};
use crate::music::Music;
use crate::plan::{CallKey, Plan, Prompt, Recording, Source};
use crate::ports::Pair;
use crate::prompts::{Clip, Prompts};
use crate::random::Random;
use crate::record::Recorder;
use crate::rollover::Rollover;
use crate::rtp::{HEADER_BYTES, Header};
use crate::stats::{Counters, Dropped, LegState};
use crate::sys::{self, Epoll, Ready, Ticker, Waker};
use crate::tones::{Piece, Ringback};

const READY_MAX: usize = 256;
const NS_PER_MS: u64 = 1_000_000;

/// What an epoll tag says besides the slot.
const TAG_WAKER: u64 = u64::MAX;
const TAG_TICKER: u64 = u64::MAX - 1;
const TAG_RTCP: u64 = 1 << 32;

pub enum Command {
    /// The pairs are those of the plan's legs, in order.
    Apply {
        plan: Plan,
        pairs: Vec<Arc<Pair>>,
    },
    /// Another call has been granted a port that this one still holds.
    Withdraw {
        call: CallKey,
        port: u16,
    },
    Report {
        reply: Sender<Vec<LegState>>,
    },
    Stop,
}

pub struct Worker {
    pub commands: Receiver<Command>,
    pub waker: Arc<Waker>,
    pub events: Sender<Event>,
    pub counters: Arc<Counters>,
    pub recorder: Recorder,
    pub music: Arc<Music>,
    pub ringback: Arc<Ringback>,
    pub prompts: Arc<Prompts>,
    pub fence: Arc<Fence>,
    pub rtp_silence_ms_max: u64,
    pub rtcp_interval_ms: u64,
    random: Random,
    epoll: Epoll,
    ticker: Ticker,
    ticking: bool,
    slots: Vec<Option<Slot>>,
    calls: HashMap<CallKey, Call>,
    /// Slots that hear a mix.
    mixing: usize,
    stopped: bool,
}

#[derive(Default)]
struct Call {
    slots: Vec<usize>,
    recording: Option<Recording>,
}

/// What a new worker is given.
pub struct Parts {
    pub commands: Receiver<Command>,
    pub waker: Arc<Waker>,
    pub events: Sender<Event>,
    pub counters: Arc<Counters>,
    pub recorder: Recorder,
    pub music: Arc<Music>,
    pub ringback: Arc<Ringback>,
    pub prompts: Arc<Prompts>,
    /// Of the line whose calls these are.
    pub fence: Arc<Fence>,
    pub rtp_silence_ms_max: u64,
    pub rtcp_interval_ms: u64,
    /// Of what is spread in time.
    pub seed: u64,
}

/// Larger than any datagram that is taken, so that a longer one shows.
struct Buffers {
    received: [u8; DATAGRAM_BYTES_MAX + 1],
    out: Out,
}

/// What is made of received packets.
struct Out {
    sent: [u8; DATAGRAM_BYTES_MAX + 1],
    /// Of a packet that has waited.
    waited: [u8; DATAGRAM_BYTES_MAX],
    /// Of the packet at hand.
    samples: [i16; PACKET_SAMPLES_MAX],
}

impl Worker {
    pub fn new(parts: Parts) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let ticker = Ticker::new()?;
        epoll.add(&*parts.waker, TAG_WAKER)?;
        epoll.add(&ticker, TAG_TICKER)?;
        Ok(Self {
            commands: parts.commands,
            waker: parts.waker,
            events: parts.events,
            counters: parts.counters,
            recorder: parts.recorder,
            music: parts.music,
            ringback: parts.ringback,
            prompts: parts.prompts,
            fence: parts.fence,
            rtp_silence_ms_max: parts.rtp_silence_ms_max,
            rtcp_interval_ms: parts.rtcp_interval_ms,
            random: Random::new(parts.seed),
            epoll,
            ticker,
            ticking: false,
            slots: Vec::new(),
            calls: HashMap::new(),
            mixing: 0,
            stopped: false,
        })
    }

    pub fn run(mut self) {
        sys::hurry();
        let mut ready = Ready::with_capacity(READY_MAX);
        let mut buffers = Buffers {
            received: [0; DATAGRAM_BYTES_MAX + 1],
            out: Out {
                sent: [0; DATAGRAM_BYTES_MAX + 1],
                waited: [0; DATAGRAM_BYTES_MAX],
                samples: [0; PACKET_SAMPLES_MAX],
            },
        };
        while !self.stopped {
            if let Err(error) = self.epoll.wait(&mut ready) {
                tracing::error!(%error, "a media worker can't wait for its sockets and ends");
                break;
            }
            let now_ns = sys::monotonic_ns();
            let (mut tick, mut woken) = (false, false);
            for at in 0..ready.len() {
                match ready.tag(at) {
                    TAG_WAKER => woken = true,
                    TAG_TICKER => tick = true,
                    tag if tag & TAG_RTCP != 0 => {
                        self.on_rtcp((tag & !TAG_RTCP) as usize, now_ns, &mut buffers);
                    }
                    tag => self.on_rtp(tag as usize, now_ns, &mut buffers),
                }
            }
            if tick {
                self.on_tick(now_ns, &mut buffers.out);
            }
            // Last, so that no slot changes hands while packets for it are at hand.
            if woken {
                self.on_commands();
            }
        }
        let calls: Vec<CallKey> = self.calls.keys().copied().collect();
        for call in calls {
            self.release(call);
        }
    }

    // --- packets --------------------------------------------------------------------------------

    fn on_rtcp(&mut self, at: usize, now_ns: u64, buffers: &mut Buffers) {
        let Some(slot) = self.slots.get_mut(at).and_then(Option::as_mut) else { return };
        let Ok((bytes, from)) = slot.pair.rtcp.recv_from(&mut buffers.received) else { return };
        let datagram = &buffers.received[..bytes.min(DATAGRAM_BYTES_MAX)];
        self.counters.control(slot.on_control(datagram, from, now_ns));
    }

    // --- time -----------------------------------------------------------------------------------

    fn on_tick(&mut self, now_ns: u64, out: &mut Out) {
        let expired = self.ticker.take();
        let packets = expired.min(CATCH_UP_PACKETS_MAX);
        let skipped = expired - packets;
        self.counters.ticks_skipped.fetch_add(skipped, Relaxed);
        self.mix(packets, skipped, now_ns, out);
        for at in 0..self.slots.len() {
            let Some(slot) = self.slots[at].as_mut() else { continue };
            if slot.is_generated() && slot.target().is_some() {
                slot.outgoing.skip(skipped);
                slot.position += skipped * u64::from(SAMPLES_PER_PACKET);
                for _ in 0..packets {
                    self.generate(at, now_ns, &mut out.sent);
                }
            } else if slot.prompt().is_some() {
                // The peer has no address, or holds: nobody waits for whom nobody hears.
                slot.position += expired * u64::from(SAMPLES_PER_PACKET);
            }
            for _ in 0..packets {
                self.dial(at, now_ns, &mut out.sent);
            }
            self.hear_waiting(at, now_ns, out);
            for _ in 0..packets {
                self.hear_noise(at, now_ns);
            }
            self.watch_prompt(at);
            self.watch(at, now_ns);
        }
    }

    fn generate(&mut self, at: usize, now_ns: u64, out: &mut [u8]) {
        let Some(slot) = self.slots.get_mut(at).and_then(Option::as_mut) else { return };
        let mut end = HEADER_BYTES + SAMPLES_PER_PACKET as usize;
        let body = &mut out[HEADER_BYTES..];
        let codes = SAMPLES_PER_PACKET as usize;
        let piece: Option<&dyn Piece> = match slot.leg.source {
            Source::Music(list) => Some(self.music.list(list)),
            Source::Ringback(country) => Some(self.ringback.of(country)),
            Source::Prompt(Prompt { clip: Some(clip), .. }) => {
                self.prompts.clip(clip).map(|clip| clip as &dyn Piece)
            }
            Source::Silence
            | Source::Echo
            | Source::Leg(_)
            | Source::Mix(_)
            | Source::Prompt(Prompt { clip: None, .. }) => None,
        };
        let position = slot.position;
        slot.position += u64::from(SAMPLES_PER_PACKET);
        match (Law::of(slot.voice.codec()), piece) {
            (Some(law), Some(piece)) => piece.fill(law, position, &mut body[..codes]),
            (Some(law), None) => body[..codes].fill(g711::silence(law)),
            (None, piece) => {
                let mut samples = [0; SAMPLES_PER_PACKET as usize];
                if let Some(piece) = piece {
                    piece.fill_linear(position, &mut samples);
                }
                // A codec that is only passed on has no sound of ours.
                let Some(bytes) = slot.voice.encode(&samples, body) else { return };
                end = HEADER_BYTES + bytes;
            }
        }
        let header = slot.outgoing.generate(slot.leg.payload, now_ns);
        send(slot, &header, &mut out[..end], &self.counters);
    }

    /// The next 20 ms of a key for a peer that knows no events.
    fn dial(&mut self, at: usize, now_ns: u64, out: &mut [u8]) {
        let Some(slot) = self.slots.get_mut(at).and_then(Option::as_mut) else { return };
        let Some(samples) = slot.dial.piece(now_ns) else { return };
        let Some(bytes) = slot.voice.encode(&samples, &mut out[HEADER_BYTES..]) else { return };
        let header = slot.outgoing.generate(slot.leg.payload, now_ns);
        send(slot, &header, &mut out[..HEADER_BYTES + bytes], &self.counters);
    }

    /// A prompt that has ended is told of until there is room for it.
    fn watch_prompt(&mut self, at: usize) {
        let Some(slot) = self.slots[at].as_ref() else { return };
        let Some(prompt) = slot.prompt() else { return };
        let clip = prompt.clip.and_then(|clip| self.prompts.clip(clip));
        if slot.position < clip.map_or(0, Clip::samples) as u64 {
            return;
        }
        let (call, leg, play) = (slot.call, slot.leg.leg, prompt.play);
        let missing = clip.is_none();
        if self.tell(Event::PromptEnded { call, leg, play, missing })
            && let Some(slot) = self.slots[at].as_mut()
        {
            slot.ended_play = Some(play);
        }
    }

    /// A peer that fell silent, a key whose end was lost, a report that is due.
    fn watch(&mut self, at: usize, now_ns: u64) {
        let Some(slot) = self.slots[at].as_mut() else { return };
        if slot.control.is_due(now_ns) {
            match slot.send_report(now_ns, &mut self.random) {
                Ok(true) => Counters::one(&self.counters.rtcp_out),
                Ok(false) => {}
                Err(why) => self.counters.dropped(why),
            }
        }
        let (call, leg) = (slot.call, slot.leg.leg);
        if let Some(rollover) = slot.armour.untold() {
            let Rollover { sent, received } = rollover;
            // Where there is no room it is told later.
            if self.tell(Event::Rollover { call, leg, sent, received })
                && let Some(slot) = self.slots[at].as_mut()
            {
                slot.armour.on_told(rollover);
            }
        }
        let Some(slot) = self.slots[at].as_mut() else { return };
        let in_band = slot.detector.as_mut().and_then(|detector| detector.on_tick(now_ns));
        let press = slot.keypad.on_tick(now_ns).or(in_band);
        let since_ms = now_ns.saturating_sub(slot.heard_ns) / NS_PER_MS;
        let silent = slot.leg.remote.is_some() && since_ms >= self.rtp_silence_ms_max;
        let tell = silent && !std::mem::replace(&mut slot.silence_told, silent);
        if let Some(press) = press {
            self.tell_press(at, press);
        }
        if tell {
            self.tell(Event::RtpSilence { call, leg, since_ms });
        }
    }

    fn tell_press(&mut self, at: usize, press: Press) {
        let Press { digit, duration_ms } = press;
        let Some(slot) = self.slots[at].as_mut() else { return };
        slot.barge_in();
        let (call, leg, number) = (slot.call, slot.leg.leg, slot.presses + 1);
        // A key that is dropped leaves no hole: who counts would wait for it.
        if self.tell(Event::Dtmf { call, leg, number, digit, duration_ms })
            && let Some(slot) = self.slots[at].as_mut()
        {
            slot.presses = number;
        }
    }

    /// False where it was dropped.
    fn tell(&self, event: Event) -> bool {
        let full = matches!(self.events.try_send(event), Err(TrySendError::Full(_)));
        if full {
            Counters::one(&self.counters.events_dropped);
        }
        !full
    }

    // --- plans ----------------------------------------------------------------------------------

    fn on_commands(&mut self) {
        self.waker.clear();
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Apply { plan, pairs } if plan.legs.is_empty() => {
                    debug_assert!(pairs.is_empty());
                    self.release(plan.call);
                }
                Command::Apply { plan, pairs } => self.reconcile(plan, pairs),
                Command::Withdraw { call, port } => self.withdraw(call, port),
                Command::Report { reply } => {
                    let states = self.slots.iter().flatten().map(Slot::state).collect();
                    // Who asked may have stopped waiting.
                    let _ = reply.try_send(states);
                }
                Command::Stop => self.stopped = true,
            }
        }
        self.set_ticking();
    }

    /// 50 turns a second only while there is something to serve.
    fn set_ticking(&mut self) {
        let wanted = !self.calls.is_empty();
        if wanted == self.ticking {
            return;
        }
        let period = if wanted { u64::from(PTIME_MS) } else { 0 };
        match self.ticker.set(Duration::from_millis(period)) {
            Ok(()) => self.ticking = wanted,
            Err(error) => tracing::error!(%error, "the media ticker can't be set"),
        }
    }
}

fn send(slot: &mut Slot, header: &Header, packet: &mut [u8], counters: &Counters) {
    let Some(target) = slot.target() else { return };
    header.write(packet);
    let sealed = match slot.armour.seal(packet) {
        Ok(sealed) => sealed,
        Err(why) => return counters.dropped(why),
    };
    match slot.pair.send_rtp(sealed, target) {
        Ok(false) => {}
        Ok(true) => {
            slot.sent += 1;
            slot.control.on_sent(packet.len() - HEADER_BYTES);
            Counters::one(&counters.packets_out);
        }
        Err(_) => counters.dropped(Dropped::Send),
    }
}
