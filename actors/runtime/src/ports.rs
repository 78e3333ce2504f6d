//! What the actors need of the rest of the process.

use futures::future::BoxFuture;
use tandem_core::command::Origin;
use tandem_core::effect::Effect;
use tandem_core::log_time::Reading;
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    pub term: u64,
    /// This process leads and has applied all that was acknowledged before.
    pub leading: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub index: u64,
    pub reply: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    #[error("this node does not lead the shard")]
    NotLeading,
    #[error("too many commands are under way")]
    Overloaded,
    #[error("not committed: {0}")]
    Failed(String),
}

/// The shard's log. What is submitted first is first in it.
pub trait Consensus: Send + Sync + 'static {
    /// Submits now; the future is answered when the command is committed and applied here.
    fn propose(&self, command: Vec<u8>) -> BoxFuture<'static, Result<Committed, ProposeError>>;

    fn leadership(&self) -> watch::Receiver<Leadership>;
}

/// The way to the gateways.
pub trait Link: Send + Sync + 'static {
    /// False where the gateway has no session here; it gets what it lacks when it has one.
    fn effect(&self, term: u64, effect: &Effect) -> bool;

    /// Told to the life of the gateway from which the event came, and to no later one: that one
    /// counts anew.
    fn accepted(&self, origin: &Origin, shard: u16, verdict: Verdict);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is committed, or will never be: it need not be sent again.
    Counted,
    /// Not now: an event of a live call is to be sent again, a new call is refused.
    Overloaded { retry_after_s: u32 },
}

/// What only this process has: commands carry the log's time, see [`LogClock`](crate::LogClock).
pub trait Clock: Send + Sync + 'static {
    fn read(&self) -> Reading;

    /// Fresh randomness for one command.
    fn seed(&self) -> u64;
}
