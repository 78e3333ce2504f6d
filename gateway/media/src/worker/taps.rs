//! Which legs a recording listens to.

use super::Worker;
use crate::leg::Slot;
use crate::plan::{CallKey, Recording};
use crate::record::Channel;

impl Worker {
    pub(super) fn start_recording(&mut self, call: CallKey, slots: &[usize], recording: Recording) {
        let taps = self.recorder.begin(recording.id, call);
        let [left, right] = taps.map(|tap| tap.paused(recording.paused));
        // Also that it is not: one that goes on may have been paused when its gateway died.
        self.recorder.pause(recording.id, recording.paused);
        for at in slots {
            let Some(slot) = self.slots[*at].as_mut() else { continue };
            if slot.leg.leg == recording.left {
                slot.tap = Some(left.clone());
                slot.mix_tap = recording.mixed.then(|| right.clone());
            } else if slot.leg.leg == recording.right && !recording.mixed {
                slot.tap = Some(right.clone());
            }
        }
    }

    /// A leg of a recording that goes on has moved to another port, or another leg is its right
    /// channel by now: the new slot needs the tap, the old one has it no more.
    pub(super) fn tap_again(&mut self, call: CallKey, slots: &[usize], recording: Recording) {
        let tapped = |slot: &Slot| slot.tap.clone();
        let Some(any) = slots.iter().find_map(|at| self.slots[*at].as_ref().and_then(tapped))
        else {
            // Both have moved.
            self.recorder.end(recording.id);
            return self.start_recording(call, slots, recording);
        };
        if any.is_paused() != recording.paused {
            self.recorder.pause(recording.id, recording.paused);
        }
        let any = any.paused(recording.paused);
        for at in slots {
            let Some(slot) = self.slots[*at].as_mut() else { continue };
            slot.mix_tap = None;
            if slot.leg.leg == recording.left {
                slot.tap = Some(any.of(Channel::Left));
                slot.mix_tap = recording.mixed.then(|| any.of(Channel::Right));
            } else if slot.leg.leg == recording.right && !recording.mixed {
                slot.tap = Some(any.of(Channel::Right));
            } else {
                slot.tap = None;
            }
        }
    }

    pub(super) fn stop_recording(&mut self, slots: &[usize], recording: Option<Recording>) {
        let Some(recording) = recording else { return };
        for at in slots {
            if let Some(slot) = self.slots[*at].as_mut() {
                (slot.tap, slot.mix_tap) = (None, None);
            }
        }
        if self.fence.has_ended() {
            // The call goes on with another process, and so does its recording.
            self.recorder.abandon(recording.id);
        } else {
            self.recorder.end(recording.id);
        }
    }
}
