//! One entry after the other, on a world of its own.

use tandem_core::command::Envelope;
use tandem_core::ids::EntityId;
use tandem_core::rows::RowChange;
use tandem_core::{Meta, Reply, World, wire};

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

/// Two worlds, one entry apart, so that what was before can be shown.
pub struct Stepper {
    before: World,
    after: World,
    hash: blake3::Hash,
}

impl Stepper {
    pub fn new(shard: u16) -> Self {
        let hash = blake3::hash(&shard.to_le_bytes());
        Self { before: World::new(shard), after: World::new(shard), hash }
    }

    pub fn step(&mut self, entry: &Entry) -> Step {
        let (what, touched) = match entry.envelope.as_deref().map(wire::decode_envelope) {
            None => (What::Raft, Vec::new()),
            Some(Err(error)) => (What::Unreadable(error.to_string()), Vec::new()),
            Some(Ok(envelope)) => {
                let meta = Meta {
                    at: envelope.at,
                    seed: envelope.seed,
                    version: envelope.version,
                    shard: self.after.shard,
                    index: entry.index,
                    term: entry.term,
                };
                let applied = self.after.apply(&meta, &envelope);
                self.hash = hash(self.hash, entry.index, &applied.rows);
                let (reply, effects) = (applied.reply, applied.effects.len());
                let mut touched: Vec<_> = applied
                    .touched
                    .into_iter()
                    .map(|entity| {
                        let before = show(&self.before, &entity);
                        let after = show(&self.after, &entity);
                        Change { entity, before, after }
                    })
                    .collect();
                touched.retain(|change| change.before != change.after);
                self.before.apply(&meta, &envelope);
                (What::Command { envelope: Box::new(envelope), reply, effects }, touched)
            }
        };
        Step {
            index: entry.index,
            term: entry.term,
            what,
            changes: touched,
            hash: self.hash.to_hex().to_string(),
        }
    }
}

fn hash(before: blake3::Hash, index: u64, rows: &[RowChange]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(before.as_bytes());
    part(&index.to_le_bytes());
    for row in rows {
        part(row.family.as_bytes());
        part(&row.key);
        // A value is never empty where there is one: each row has a field that is set.
        part(row.value.as_deref().unwrap_or_default());
    }
    hasher.finalize()
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
