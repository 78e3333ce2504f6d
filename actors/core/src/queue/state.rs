use tandem_sip::Millis;

use crate::ids::{AgentId, CallId, OfferId, QueueId};

/// Who waits for an agent, in the order in which they are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    pub id: QueueId,
    /// By time, and within one millisecond in the order of the log.
    pub entries: Vec<Entry>,
}

/// A caller who waits.
///
/// ```text
/// Waiting ──matched──▶ Offered ──answered──▶ (served: leaves the queue)
///    ▲                    │ rang out, rejected, agent lost: same place
///    └────────────────────┘
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub call: CallId,
    /// Fixed for as long as the caller waits.
    pub enqueued_at: Millis,
    pub state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Waiting,
    Offered { agent: AgentId, offer: OfferId },
}

impl Queue {
    pub fn new(id: QueueId) -> Self {
        Self { id, entries: Vec::new() }
    }

    /// Takes the caller in at the place that time gives.
    pub fn join(&mut self, call: CallId, at: Millis) {
        let place = self.entries.partition_point(|entry| entry.enqueued_at <= at);
        self.entries.insert(place, Entry { call, enqueued_at: at, state: State::Waiting });
    }

    pub fn leave(&mut self, call: CallId) {
        self.entries.retain(|entry| entry.call != call);
    }

    pub fn entry(&self, call: CallId) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.call == call)
    }

    pub fn entry_mut(&mut self, call: CallId) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.call == call)
    }

    /// The first who waits and is not offered.
    pub fn head(&self) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.state == State::Waiting)
    }

    /// The caller's place, from 1.
    pub fn position(&self, call: CallId) -> Option<u32> {
        let place = self.entries.iter().position(|entry| entry.call == call)?;
        u32::try_from(place + 1).ok()
    }
}
