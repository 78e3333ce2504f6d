//! Who hears more than one party hears a mix of them, made 50 times a second.

use super::{Out, Worker, send};
use crate::limits::SAMPLES_PER_PACKET;
use crate::mix::{self, Playout};
use crate::plan::Source;
use crate::rtp::HEADER_BYTES;
use crate::stats::Counters;

impl Worker {
    /// So many mixes of 20 ms each, behind `skipped` that were held up.
    pub(super) fn mix(&mut self, packets: u64, skipped: u64, now_ns: u64, out: &mut Out) {
        if self.mixing == 0 {
            return;
        }
        for slot in self.slots.iter_mut().flatten().filter(|slot| slot.mixes()) {
            slot.outgoing.skip(skipped);
            slot.position += skipped * u64::from(SAMPLES_PER_PACKET);
        }
        for _ in 0..packets {
            for playout in self.slots.iter_mut().flatten().filter_map(|slot| slot.playout.as_mut())
            {
                playout.turn();
            }
            for at in 0..self.slots.len() {
                self.mix_for(at, now_ns, &mut out.sent);
            }
        }
    }

    /// 20 ms for one who hears a mix, and for the recording of what is heard there.
    fn mix_for(&mut self, at: usize, now_ns: u64, out: &mut [u8]) {
        let Some(slot) = self.slots[at].as_ref().filter(|slot| slot.mixes()) else { return };
        let of = |at: &usize| self.slots[*at].as_ref()?.playout.as_ref().map(Playout::frame);
        let frame = mix::sum(slot.hears.iter().filter_map(of));
        let Some(slot) = self.slots[at].as_mut() else { return };
        let timestamp = slot.position as u32;
        slot.position += u64::from(SAMPLES_PER_PACKET);
        if let Some(tap) = &slot.mix_tap
            && !self.recorder.push(tap, now_ns, slot.leg.ssrc, timestamp, &frame)
        {
            Counters::one(&self.counters.pieces_dropped);
        }
        if slot.target().is_none() {
            return;
        }
        // A codec that is only passed on has no sound of ours.
        let Some(bytes) = slot.voice.encode(&frame, &mut out[HEADER_BYTES..]) else { return };
        let header = slot.outgoing.generate(slot.leg.payload, now_ns);
        send(slot, &header, &mut out[..HEADER_BYTES + bytes], &self.counters);
    }

    /// Who is heard in a mix, and by whom, of one call's slots.
    pub(super) fn link_mixes(&mut self, slots: &[usize]) {
        let with = |leg: u64| {
            slots
                .iter()
                .copied()
                .find(|at| self.slots[*at].as_ref().is_some_and(|slot| slot.leg.leg == leg))
        };
        let heard_by = |at: usize| match self.slots[at].as_ref().map(|slot| &slot.leg.source) {
            Some(Source::Mix(legs)) => legs.iter().filter_map(|leg| with(*leg)).collect(),
            Some(
                Source::Silence
                | Source::Music(_)
                | Source::Ringback(_)
                | Source::Echo
                | Source::Leg(_)
                | Source::Prompt(_),
            )
            | None => Vec::new(),
        };
        let hears: Vec<Vec<usize>> = slots.iter().map(|at| heard_by(*at)).collect();
        for at in slots {
            let is_mixed = hears.iter().any(|heard| heard.contains(at));
            if let Some(slot) = self.slots[*at].as_mut() {
                slot.playout = if is_mixed {
                    slot.playout.take().or_else(|| Some(Playout::default()))
                } else {
                    None
                };
            }
        }
        for (at, hears) in slots.iter().zip(hears) {
            if let Some(slot) = self.slots[*at].as_mut() {
                slot.hears = hears;
            }
        }
        self.count_mixes();
    }

    /// A worker without a conference has nothing to do for one.
    pub(super) fn count_mixes(&mut self) {
        self.mixing = self.slots.iter().flatten().filter(|slot| slot.mixes()).count();
    }
}
