//! What subscriptions tell: sent one after the other, and said to be done when it is answered.

use tandem_core::command::GatewayEvent;
use tandem_sip::{Millis, Response};

use crate::control::Control;
use crate::ledger::About;
use crate::limits;
use crate::sip::notifies::{Notify, Of, Put, ends};

impl Control {
    pub(crate) fn notify(&mut self, now: Millis, notify: Notify) {
        let of = notify.of;
        if self.clients.len() >= limits::TRANSACTIONS_MAX {
            // Nobody would hear of its answer: it is sent once.
            self.send(now, notify.of.0, &notify.request, notify.destination, notify.carrier);
            self.note_done(now, of);
            return;
        }
        match self.notifies.put(notify) {
            Put::Send(notify) => {
                self.send(now, notify.of.0, &notify.request, notify.destination, notify.carrier);
            }
            Put::Waits { instead: Some(instead) } => self.note_done(now, instead),
            Put::Waits { instead: None } | Put::Known => {}
            Put::Old => self.note_done(now, of),
        }
    }

    fn note_done(&mut self, now: Millis, (shard, id): Of) {
        self.shards.entry(shard).or_default().note_done(now, id);
    }

    /// True where it answers one.
    pub(crate) fn is_of_notifies(&mut self, now: Millis, response: &Response) -> bool {
        self.on_notified(now, response.headers.branch(), Some(response.status))
    }

    /// A NOTIFY was answered with that status, or not at all; false where it is none. That it came is
    /// nothing that the cluster must store.
    pub(crate) fn on_notified(&mut self, now: Millis, branch: &str, status: Option<u16>) -> bool {
        let Some(settled) = self.notifies.settle(branch) else { return false };
        self.note_done(now, settled.done);
        match settled.next {
            Some(next) if status.is_none_or(ends) => self.note_done(now, next.of),
            Some(next) => self.notify(now, next),
            None => {}
        }
        if status.is_none_or(ends) && !settled.last {
            let (call_id, local_tag) = settled.name;
            let gone = GatewayEvent::SubscriptionGone { call_id, local_tag };
            self.raise(settled.done.0, gone, About::Existing);
        }
        true
    }
}
