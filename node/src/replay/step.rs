//! One entry after the other, on replicas of its own.

use std::sync::Arc;

use tandem_core::command::Envelope;
use tandem_core::ids::EntityId;
use tandem_core::log_time::Reading;
use tandem_core::{Reply, World, wire};
use tandem_runtime::replica::decode_reply;
use tandem_runtime::tenants::Outcome;
use tandem_runtime::tenants::entry::{self, Step as Moved};
use tandem_runtime::{Clock, LogClock, Replica, Tenants};

use super::source::Entry;

pub struct Step {
    pub index: u64,
    pub term: u64,
    pub what: What,
    pub changes: Vec<Change>,
    /// Of all that this entry and those before it stored, hexadecimal.
    pub hash: String,
}

pub enum What {
    Command {
        envelope: Box<Envelope>,
        reply: Reply,
        effects: usize,
    },
    /// Of a tenant that moves, or of one that is not here.
    Move(String),
    /// This build can't read it; replicas skip it.
    Unreadable(String),
    /// Consensus's own.
    Raft,
}

/// An entity around an entry; none where it was not there.
pub struct Change {
    pub entity: EntityId,
    pub before: Option<String>,
    pub after: Option<String>,
}

/// Replicas of one shard twice, one entry apart, so that what was before can be shown.
pub struct Stepper {
    before: Tenants,
    after: Tenants,
}

/// Entries carry the time.
struct Still;

impl Clock for Still {
    fn read(&self) -> Reading {
        Reading::default()
    }

    fn seed(&self) -> u64 {
        0
    }
}

impl Stepper {
    pub fn new(shard: u16) -> Self {
        let tenants = || Tenants::new(shard, Arc::new(LogClock::new(shard, Arc::new(Still), 0)));
        Self { before: tenants(), after: tenants() }
    }

    pub fn step(&mut self, entry: &Entry) -> Step {
        let (what, changes) = match &entry.command {
            None => (What::Raft, Vec::new()),
            Some(command) => self.apply(entry, command),
        };
        if let Some(command) = &entry.command {
            self.before.apply(entry.index, entry.term, command);
            self.before.stored(entry.index);
        }
        let hash = self.after.chain().shown();
        Step { index: entry.index, term: entry.term, what, changes, hash }
    }

    fn apply(&mut self, entry: &Entry, command: &[u8]) -> (What, Vec<Change>) {
        let (tenant, envelope) = match entry::read(command) {
            Ok((tenant, entry::Entry::Command(envelope))) => (tenant, envelope),
            Ok((tenant, entry::Entry::Step(step))) => {
                let outcome = self.take(entry, command);
                let what = format!("tenant {tenant}: {}", describe(&step));
                let what = match decode_reply(&outcome.reply) {
                    Reply::Done => what,
                    Reply::Rejected(why) => format!("{what}, refused: {why}"),
                };
                return (What::Move(what), Vec::new());
            }
            Ok((_, entry::Entry::Check { index, .. })) => {
                self.take(entry, command);
                let here =
                    if self.after.chain().differs_at().is_some() { "another" } else { "the same" };
                return (
                    What::Move(format!("the state at {index} is compared: {here} here")),
                    vec![],
                );
            }
            Err(error) => return (What::Unreadable(error.to_string()), Vec::new()),
        };
        let envelope = match wire::decode_envelope(&envelope) {
            Ok(envelope) => Box::new(envelope),
            Err(error) => return (What::Unreadable(error.to_string()), Vec::new()),
        };
        let of = |tenants: &Tenants| {
            let hosted = tenants.all().borrow().hosted.get(&tenant).cloned();
            hosted.map(|hosted| hosted.replica)
        };
        let (Some(before), Some(after)) = (of(&self.before), of(&self.after)) else {
            return (
                What::Move(format!("a command of tenant {tenant}, which is not here")),
                vec![],
            );
        };
        let mut released = after.listen();
        let outcome = self.take(entry, command);
        let Ok(released) = released.try_recv() else {
            return (What::Move(format!("a command of tenant {tenant}, which moves")), vec![]);
        };
        let changes = released.touched.into_iter().map(|entity| {
            let of = |replica: &Replica| replica.read(|world| show(world, &entity));
            let (before, after) = (of(&before), of(&after));
            Change { entity, before, after }
        });
        let changes = changes.filter(|change| change.before != change.after).collect();
        let (reply, effects) = (decode_reply(&outcome.reply), released.effects.len());
        (What::Command { envelope, reply, effects }, changes)
    }

    fn take(&mut self, entry: &Entry, command: &[u8]) -> Outcome {
        let outcome = self.after.apply(entry.index, entry.term, command);
        self.after.stored(entry.index);
        outcome
    }
}

fn describe(step: &Moved) -> String {
    match step {
        Moved::Freeze(epoch) => format!("is frozen, epoch {epoch}"),
        Moved::Thaw(epoch) => format!("stays, epoch {epoch}"),
        Moved::Open(epoch) => format!("is here, epoch {epoch}"),
        Moved::Drop(epoch) => format!("is elsewhere, epoch {epoch}"),
        Moved::Import(import) => format!(
            "comes, epoch {}: part {} with {} rows{}",
            import.epoch,
            import.part,
            import.rows.len(),
            if import.last { ", the last" } else { "" }
        ),
    }
}

fn show(world: &World, entity: &EntityId) -> Option<String> {
    match entity {
        EntityId::Call(id) => world.calls.get(id).map(|it| format!("{it:#?}")),
        EntityId::Agent(id) => world.agents.get(id).map(|it| format!("{it:#?}")),
        EntityId::Queue(id) => world.queues.get(id).map(|it| format!("{it:#?}")),
        EntityId::Channel(id) => world.channels.get(id).map(|it| format!("{it:#?}")),
        EntityId::Gateway(id) => world.gateways.get(id).map(|it| format!("{it:#?}")),
    }
}
