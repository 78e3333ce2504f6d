//! The log of a run, so that `tandem replay` can step through it entity by entity.

use tandem_core::World;
use tandem_core::command::{Command, Envelope, OperatorCommand};
use tandem_core::ids::CallId;
use tandem_core::trace::{Entry, Trace};
use tandem_core::wire;

use crate::simulation::Simulation;

/// What was applied, and what came of it.
#[derive(Clone, Debug)]
pub struct Record {
    pub log: Trace,
    /// Of the replica that came furthest.
    pub world: World,
}

/// No call has this id: a command for it is refused and changes nothing.
const NOBODYS_CALL: CallId = CallId(0);

impl Simulation {
    /// Every entry that a replica has applied. A planted bug is not in the log but around the
    /// machines: a replay shows what sound ones make of the same entries.
    pub fn record(&self) -> Record {
        let world = self.front();
        let entries = (1..=world.index).filter_map(|index| {
            let entry = self.consensus.entry(index)?;
            let envelope = entry.envelope.as_deref()?;
            let envelope = if entry.panicked {
                wire::encode_envelope(&without_command(envelope))
            } else {
                wire::encode_envelope(envelope)
            };
            Some(Entry { index, term: entry.term, envelope })
        });
        Record { log: Trace { shard: 0, entries: entries.collect() }, world: world.clone() }
    }
}

/// A command that panicked as planned would not panic in a replay. This one does what is left of a
/// panic: its time, its acknowledgements and what has counted.
fn without_command(envelope: &Envelope) -> Envelope {
    let release = OperatorCommand::ReleaseCall { call: NOBODYS_CALL };
    Envelope {
        origin: envelope.origin.clone(),
        done: envelope.done.clone(),
        command: Command::Operator(release),
        ..*envelope
    }
}
