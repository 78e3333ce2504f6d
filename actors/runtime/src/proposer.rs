//! Makes envelopes of commands: time, seed, and the acknowledgements that wait.

use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tandem_core::Reply;
use tandem_core::command::{Command, Envelope, Origin};
use tandem_core::effect::EffectId;
use tandem_core::wire;

use crate::limits;
use crate::ports::{Consensus, ProposeError};
use crate::replica::decode_reply;
use crate::time::LogClock;

/// The feature version that this build speaks.
pub const FEATURE_VERSION: u32 = 1;

#[derive(Clone)]
pub struct Proposer {
    consensus: Arc<dyn Consensus>,
    clock: Arc<LogClock>,
    done: Arc<Mutex<Vec<EffectId>>>,
}

impl Proposer {
    pub fn new(consensus: Arc<dyn Consensus>, clock: Arc<LogClock>) -> Self {
        Self { consensus, clock, done: Arc::default() }
    }

    pub fn clock(&self) -> &LogClock {
        &self.clock
    }

    /// Submitted now, in the order of calls.
    pub fn propose(
        &self,
        origin: Option<Origin>,
        command: Command,
    ) -> BoxFuture<'static, Result<Reply, ProposeError>> {
        let done = std::mem::take(&mut *self.done.lock());
        let envelope = Envelope {
            at: self.clock.to_propose(),
            seed: self.clock.seed(),
            version: FEATURE_VERSION,
            origin,
            done: done.clone(),
            command,
        };
        let submitted = self.consensus.propose(wire::encode_envelope(&envelope));
        let again = Arc::clone(&self.done);
        Box::pin(async move {
            let begun = std::time::Instant::now();
            match submitted.await {
                Ok(committed) => {
                    metrics::histogram!("tandem_propose_seconds").record(begun.elapsed());
                    Ok(decode_reply(&committed.reply))
                }
                Err(error) => {
                    // Acknowledged twice is harmless; never would keep the outbox full.
                    again.lock().extend(done);
                    Err(error)
                }
            }
        })
    }

    /// Notes effects that were done. True where enough wait for an entry of their own.
    pub fn done(&self, effects: Vec<EffectId>) -> bool {
        let mut done = self.done.lock();
        done.extend(effects);
        done.len() >= limits::DONE_MAX
    }

    pub fn has_done(&self) -> bool {
        !self.done.lock().is_empty()
    }
}
