//! What a peer's packets come to: sent on as they are at once, and in order to all that listen here.

use tandem_sip::sdp::Codec;

use super::{Buffers, Out, Worker, send};
use crate::dtmf;
use crate::g711::Law;
use crate::leg::{Kind, Slot, Waiting};
use crate::limits::{DATAGRAM_BYTES_MAX, LISTENERS_MAX, PRESSES_MAX};
use crate::noise::Noise;
use crate::reorder::Turn;
use crate::rtcp::packets::is_rtcp;
use crate::rtp::{HEADER_BYTES, Order, RtpPacket};
use crate::stats::{Counters, Dropped};
use crate::stream::Received;

/// One received packet on its way to the legs that hear it.
struct Heard<'a> {
    waiting: Waiting,
    payload: &'a [u8],
    /// Empty where nobody needs them.
    samples: &'a [i16],
}

/// Legs that hear a packet as it came, and those that hear what is made of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Listeners {
    Relayed,
    Transcoded,
}

impl Worker {
    pub(super) fn on_rtp(&mut self, at: usize, now_ns: u64, buffers: &mut Buffers) {
        let Some(slot) = self.slots.get_mut(at).and_then(Option::as_mut) else { return };
        // One datagram a turn: readiness is level-triggered, so the next turn finds the rest.
        let Buffers { received: datagram, out } = buffers;
        let Ok((bytes, from)) = slot.pair.rtp.recv_from(datagram) else { return };
        if !slot.accepts(from) {
            return self.counters.dropped(Dropped::Stranger);
        }
        let Some(whole) = datagram.get(..bytes.min(DATAGRAM_BYTES_MAX + 1)) else { return };
        if is_rtcp(whole) {
            return self.counters.control(slot.on_control_beside(whole, now_ns));
        }
        if bytes > DATAGRAM_BYTES_MAX {
            return self.counters.dropped(Dropped::Malformed);
        }
        let bytes = match slot.armour.open(datagram, bytes) {
            Ok(bytes) => bytes,
            Err(why) => return self.counters.dropped(why),
        };
        let packet = match RtpPacket::parse(&datagram[..bytes]) {
            Ok(packet) if !packet.payload().is_empty() => packet,
            Ok(_) | Err(_) => return self.counters.dropped(Dropped::Malformed),
        };
        let kind = match slot.kind(&packet) {
            Ok(kind) => Some(kind),
            Err(why) => {
                self.counters.dropped(why);
                None
            }
        };
        let clock_khz = slot.leg.codec.clock_khz();
        let (ssrc, sequence) = (packet.ssrc(), packet.sequence_number());
        let order = slot.window.observe(ssrc, sequence);
        slot.reception.on_packet(ssrc, sequence, order, clock_khz);
        match order {
            Order::Ahead { .. } => {}
            Order::Fresh => slot.epoch = slot.epoch.wrapping_add(1),
            Order::Late => Counters::one(&self.counters.late),
            Order::Duplicate => return self.counters.dropped(Dropped::Duplicate),
            Order::Astray => return self.counters.dropped(Dropped::Astray),
        }
        if kind.is_some() {
            slot.latched = Some(from);
            slot.received += 1;
            slot.heard_ns = now_ns;
            slot.silence_told = false;
            Counters::one(&self.counters.packets_in);
        }
        let timestamp = packet.timestamp();
        if kind == Some(Kind::Audio) {
            slot.reception.on_audio(timestamp, now_ns, clock_khz);
        }
        let mut presses = [None; 2];
        if kind == Some(Kind::TelephoneEvent) {
            let events_khz = slot.events_khz();
            presses = slot.keypad.on_packet(timestamp, packet.payload(), events_khz, now_ns);
        }
        let received = Received {
            source: at,
            epoch: slot.epoch,
            sequence,
            timestamp,
            clock_khz,
            marker: packet.marker_bit(),
            order,
        };
        let heard = Waiting { received, kind, ssrc };
        self.take(at, heard, now_ns, packet.payload(), out);
        for press in presses.into_iter().flatten() {
            self.tell_press(at, press);
        }
    }

    /// Whoever hears the leg as it is hears it now; whoever hears samples of it, in order.
    fn take(&mut self, at: usize, heard: Waiting, now_ns: u64, payload: &[u8], out: &mut Out) {
        let relayed = Heard { waiting: heard, payload, samples: &[] };
        self.pass(at, Listeners::Relayed, &relayed, now_ns, &mut out.sent);
        let Some(slot) = self.slots.get_mut(at).and_then(Option::as_mut) else { return };
        if !slot.needs_samples() {
            return slot.reorder.restart();
        }
        if heard.received.order == Order::Fresh {
            // Nothing of before comes any more.
            self.hear_waiting(at, u64::MAX, out);
            let Some(slot) = self.slots.get_mut(at).and_then(Option::as_mut) else { return };
            slot.reorder.restart();
        }
        let Some(slot) = self.slots.get_mut(at).and_then(Option::as_mut) else { return };
        match slot.reorder.offer(heard.received.sequence, now_ns, heard, payload) {
            Turn::Now => self.hear(at, heard, now_ns, payload, &mut out.samples, &mut out.sent),
            Turn::Waits => {}
            Turn::TooLate => {
                Counters::one(&self.counters.too_late);
                self.record_late(at, heard, now_ns, payload, &mut out.samples);
            }
        }
        self.hear_waiting(at, now_ns, out);
    }

    /// What has waited and is due.
    pub(super) fn hear_waiting(&mut self, at: usize, now_ns: u64, out: &mut Out) {
        let Out { sent, waited, samples } = out;
        loop {
            let Some(slot) = self.slots.get_mut(at).and_then(Option::as_mut) else { return };
            let Some(popped) = slot.reorder.pop(now_ns, waited) else { return };
            self.hear(at, popped.meta, popped.arrived_ns, &waited[..popped.len], samples, sent);
        }
    }

    /// The leg's next packet in order: recorded, listened to for keys, and made into what others
    /// can do with.
    fn hear(
        &mut self,
        at: usize,
        mut heard: Waiting,
        arrived_ns: u64,
        payload: &[u8],
        samples: &mut [i16],
        sent: &mut [u8],
    ) {
        let Some(slot) = self.slots.get_mut(at).and_then(Option::as_mut) else { return };
        let Received { timestamp, clock_khz, .. } = heard.received;
        let mut presses = [None; PRESSES_MAX];
        let mut count = 0;
        match heard.kind {
            Some(Kind::Audio) => slot.noise = None,
            Some(Kind::ComfortNoise) => {
                let narrowed = slot.narrowed.timestamp(timestamp, clock_khz);
                slot.noise = Noise::new(payload, heard.ssrc, narrowed);
            }
            Some(Kind::TelephoneEvent) | None => {}
        }
        if heard.kind == Some(Kind::Audio) {
            count = slot.voice.decode(payload, samples);
            let samples = &samples[..count];
            let narrowed = slot.narrowed.timestamp(timestamp, clock_khz);
            if let Some(playout) = &mut slot.playout {
                playout.push(narrowed, samples);
            }
            if let Some(tap) = &slot.tap
                && !self.recorder.push(tap, arrived_ns, heard.ssrc, narrowed, samples)
            {
                Counters::one(&self.counters.pieces_dropped);
            }
            if let Some(detector) = &mut slot.detector {
                let mut free = presses.iter_mut();
                detector.on_audio(samples, arrived_ns, |press| {
                    if let Some(place) = free.next() {
                        *place = Some(press);
                    }
                });
            }
        }
        if heard.received.order != Order::Fresh {
            // It has been put in its place.
            heard.received.order = Order::Ahead { missing: 0 };
        }
        let made = Heard { waiting: heard, payload, samples: &samples[..count] };
        self.pass(at, Listeners::Transcoded, &made, arrived_ns, sent);
        for press in presses.into_iter().flatten() {
            self.tell_press(at, press);
        }
    }

    /// Another 20 ms of a peer that says it is silent, for its recording.
    pub(super) fn hear_noise(&mut self, at: usize, now_ns: u64) {
        let Some(slot) = self.slots.get_mut(at).and_then(Option::as_mut) else { return };
        let (Some(tap), Some(noise)) = (&slot.tap, &mut slot.noise) else { return };
        let (ssrc, timestamp) = (noise.ssrc, noise.timestamp);
        let Some(samples) = noise.piece(&mut self.random) else { return };
        if !self.recorder.push(tap, now_ns, ssrc, timestamp, &samples) {
            Counters::one(&self.counters.pieces_dropped);
        }
    }

    /// A recording has room for G.711 behind its time: no packet of it needs those before.
    fn record_late(
        &mut self,
        at: usize,
        heard: Waiting,
        now_ns: u64,
        payload: &[u8],
        samples: &mut [i16],
    ) {
        let Some(slot) = self.slots.get_mut(at).and_then(Option::as_mut) else { return };
        let is_law = Law::of(slot.leg.codec).is_some() && heard.kind == Some(Kind::Audio);
        let Some(tap) = slot.tap.as_ref().filter(|_| is_law) else { return };
        let count = slot.voice.decode(payload, samples);
        let Received { timestamp, clock_khz, .. } = heard.received;
        let narrowed = slot.narrowed.timestamp(timestamp, clock_khz);
        if !self.recorder.push(tap, now_ns, heard.ssrc, narrowed, &samples[..count]) {
            Counters::one(&self.counters.pieces_dropped);
        }
    }

    fn pass(&mut self, at: usize, to: Listeners, heard: &Heard<'_>, now_ns: u64, sent: &mut [u8]) {
        let Some(slot) = self.slots.get(at).and_then(Option::as_ref) else { return };
        let (codec, events_khz) = (slot.leg.codec, slot.events_khz());
        let mut listeners = [0; LISTENERS_MAX];
        let count = slot.listeners.len().min(LISTENERS_MAX);
        listeners[..count].copy_from_slice(&slot.listeners[..count]);
        for listener in &listeners[..count] {
            let Some(slot) = self.slots.get_mut(*listener).and_then(Option::as_mut) else {
                continue;
            };
            if slot.voice.needs_samples_of(codec) != (to == Listeners::Transcoded) {
                continue;
            }
            let received = &heard.waiting.received;
            if slot.dials(heard.waiting.kind) {
                slot.dial.on_event(received.timestamp, heard.payload, events_khz, now_ns);
            }
            if !slot.dial.is_idle() {
                // Keys are dialled in the place of what would be heard.
                continue;
            }
            let body = &mut sent[HEADER_BYTES..];
            let Some((number, bytes)) = payload_for(slot, heard, codec, events_khz, body) else {
                slot.outgoing.leave_out(received);
                continue;
            };
            let Some(header) = slot.outgoing.relay(number, received, now_ns) else { continue };
            send(slot, &header, &mut sent[..HEADER_BYTES + bytes], &self.counters);
        }
    }
}

/// What a listener is sent of a packet: the payload type and how many bytes there are in `body`.
fn payload_for(
    slot: &mut Slot,
    heard: &Heard<'_>,
    codec: Codec,
    events_khz: u32,
    body: &mut [u8],
) -> Option<(u8, usize)> {
    let Heard { waiting, payload, samples } = heard;
    match waiting.kind {
        Some(Kind::Audio) => {
            slot.voice.put(codec, payload, samples, body).map(|bytes| (slot.leg.payload, bytes))
        }
        Some(Kind::TelephoneEvent) => {
            let (number, place) = slot.leg.telephone_event.zip(body.get_mut(..payload.len()))?;
            place.copy_from_slice(payload);
            dtmf::to_clock(place, events_khz, slot.events_khz());
            Some((number, payload.len()))
        }
        // Silence is heard as silence.
        Some(Kind::ComfortNoise) | None => None,
    }
}
