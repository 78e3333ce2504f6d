//! What a plan changes: which legs are served, and who hears whom.

use std::io;
use std::sync::Arc;

use super::{TAG_RTCP, Worker};
use crate::event::Event;
use crate::leg::Slot;
use crate::limits::STALE_DATAGRAMS_MAX;
use crate::plan::{CallKey, Plan, Source};
use crate::ports::Pair;
use crate::sys;

impl Worker {
    pub(super) fn reconcile(&mut self, plan: Plan, pairs: Vec<Arc<Pair>>) {
        let now_ns = sys::monotonic_ns();
        let mut call = self.calls.remove(&plan.call).unwrap_or_default();
        // Recording stops before a leg goes, and begins when all are there.
        let before = call.recording.take();
        let goes_on = before.zip(plan.recording).is_some_and(|(old, new)| old.id == new.id);
        if before.is_some() && !goes_on {
            self.stop_recording(&call.slots, before);
        }
        let old = std::mem::take(&mut call.slots);
        let (kept, gone): (Vec<usize>, Vec<usize>) = old.into_iter().partition(|at| {
            self.slots[*at].as_ref().is_some_and(|slot| {
                plan.legs.iter().any(|leg| leg.leg == slot.leg.leg && leg.port == slot.leg.port)
            })
        });
        for at in gone {
            self.part(at, now_ns);
        }
        for (leg, pair) in plan.legs.into_iter().zip(pairs) {
            let present = kept
                .iter()
                .copied()
                .find(|at| self.slots[*at].as_ref().is_some_and(|slot| slot.leg.leg == leg.leg));
            match present {
                Some(at) => {
                    if let Some(slot) = self.slots[at].as_mut() {
                        slot.update(leg, now_ns);
                    }
                    call.slots.push(at);
                }
                None => match self.attach(Slot::new(plan.call, leg, pair, now_ns), now_ns) {
                    Ok(at) => call.slots.push(at),
                    Err(error) => {
                        tracing::error!(call = %plan.call, %error, "a leg can't be served");
                    }
                },
            }
        }
        self.link(&call.slots);
        if let Some(recording) = plan.recording {
            if !goes_on {
                self.start_recording(plan.call, &call.slots, recording);
            } else {
                self.tap_again(plan.call, &call.slots, recording);
            }
            call.recording = Some(recording);
        }
        self.calls.insert(plan.call, call);
    }

    /// Who hears whom.
    fn link(&mut self, slots: &[usize]) {
        for at in slots {
            let Some(leg) = self.slots[*at].as_ref().map(|slot| slot.leg.leg) else { continue };
            let hears = |to: &usize| match self.slots[*to].as_ref().map(|slot| &slot.leg.source) {
                Some(Source::Leg(source)) => *source == leg,
                Some(Source::Echo) => to == at,
                Some(
                    Source::Silence
                    | Source::Music(_)
                    | Source::Ringback(_)
                    | Source::Prompt(_)
                    | Source::Mix(_),
                )
                | None => false,
            };
            let listeners: Vec<usize> = slots.iter().copied().filter(hears).collect();
            let codec = self.slots[*at].as_ref().map(|slot| slot.leg.codec);
            let transcoded = listeners.iter().any(|to| {
                let listener = self.slots[*to].as_ref();
                listener.zip(codec).is_some_and(|(slot, codec)| slot.voice.needs_samples_of(codec))
            });
            if let Some(slot) = self.slots[*at].as_mut() {
                slot.listeners = listeners;
                slot.transcoded = transcoded;
            }
        }
        self.link_mixes(slots);
    }

    pub(super) fn release(&mut self, call: CallKey) {
        let Some(mut call) = self.calls.remove(&call) else { return };
        let recording = call.recording.take();
        self.stop_recording(&call.slots, recording);
        let now_ns = sys::monotonic_ns();
        for at in call.slots {
            // A gateway that stops says no goodbye: another goes on with the leg.
            if self.stopped {
                self.detach(at);
            } else {
                self.part(at, now_ns);
            }
        }
    }

    /// Lets a leg go that is over.
    fn part(&mut self, at: usize, now_ns: u64) {
        if let Some(slot) = self.slots.get_mut(at).and_then(Option::as_mut) {
            slot.send_goodbye(now_ns);
        }
        self.detach(at);
    }

    pub(super) fn withdraw(&mut self, call: CallKey, port: u16) {
        let Some(mut entry) = self.calls.remove(&call) else { return };
        let (gone, kept): (Vec<usize>, Vec<usize>) = entry
            .slots
            .into_iter()
            .partition(|at| self.slots[*at].as_ref().is_some_and(|slot| slot.leg.port == port));
        for at in gone {
            tracing::warn!(%call, port, "a leg lost its port to a later call");
            self.detach(at);
        }
        self.link(&kept);
        entry.slots = kept;
        self.calls.insert(call, entry);
    }

    fn attach(&mut self, mut slot: Slot, now_ns: u64) -> io::Result<usize> {
        slot.control.begin(self.rtcp_interval_ms, now_ns, &mut self.random);
        let pair = Arc::clone(&slot.pair);
        // What came for whoever had the port before is nobody's.
        let mut stale = [0; 1];
        for socket in [&pair.rtp, &pair.rtcp] {
            for _ in 0..STALE_DATAGRAMS_MAX {
                if socket.recv_from(&mut stale).is_err() {
                    break;
                }
            }
        }
        let free = self.slots.iter().position(Option::is_none);
        let at = free.unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.epoll.add(&pair.rtp, at as u64)?;
        if let Err(error) = self.epoll.add(&pair.rtcp, at as u64 | TAG_RTCP) {
            let _ = self.epoll.remove(&pair.rtp);
            return Err(error);
        }
        self.slots[at] = Some(slot);
        metrics::gauge!("tandem_media_legs_active").increment(1.0);
        Ok(at)
    }

    pub(super) fn detach(&mut self, at: usize) {
        let Some(slot) = self.slots.get_mut(at).and_then(Option::take) else { return };
        self.count_mixes();
        metrics::gauge!("tandem_media_legs_active").decrement(1.0);
        let quality = slot.quality();
        if quality.is_of_a_stream() {
            quality.publish();
            self.tell(Event::Quality(quality));
        }
        for socket in [&slot.pair.rtp, &slot.pair.rtcp] {
            if let Err(error) = self.epoll.remove(socket) {
                tracing::error!(%error, port = slot.pair.port, "a socket can't be let go");
            }
        }
    }
}
