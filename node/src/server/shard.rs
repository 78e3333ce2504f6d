//! What a node asks of the tenant's shard on it: the seam to `tandem_runtime` and
//! `tandem_cluster`.

use async_trait::async_trait;
use tandem_core::command::{Command, GatewayEvent, Origin};
use tandem_core::effect::EffectId;
use tandem_core::ids::{ChannelId, EntityId, GatewayId};
use tandem_core::world::{Reply, World};
use tokio::sync::watch;

use super::records::Rows;

/// Who leads the shard, as this node knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lead {
    pub term: u64,
    /// This node leads, has applied all that is committed, and its actors run.
    pub here: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("this node does not lead the shard")]
    NotLeading,
    #[error("too many commands are under way")]
    Overloaded,
    #[error("no majority confirms that this node leads the shard")]
    Unconfirmed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Records {
    Cdrs,
    Recordings,
    /// Of legs, beside the CDRs.
    Qualities,
}

#[async_trait]
pub trait Shard: Send + Sync + 'static {
    fn id(&self) -> u16;

    fn lead(&self) -> watch::Receiver<Lead>;

    /// Where it succeeds, what this replica has now is no older than the call.
    async fn confirm(&self) -> Result<(), Error>;

    /// Looks at this replica's world between two entries; keep it short.
    fn look(&self, at: &mut dyn FnMut(&World));

    /// Answered when it is committed and applied here.
    async fn propose(&self, command: Command) -> Result<Reply, Error>;

    /// To the actor that it is for, by way of admission.
    fn on_event(&self, origin: Origin, event: GatewayEvent);

    /// Leaves the outbox with one of the next entries.
    fn on_done(&self, gateway: &GatewayId, effects: Vec<EffectId>);

    /// The gateway is logged in here: what it has not done is sent to it.
    fn on_session(&self, gateway: &GatewayId);

    fn records(&self, records: Records) -> Box<dyn Rows + '_>;

    /// Makes an actor panic, for tests. False where there is none such.
    fn panic_actor(&self, entity: &EntityId) -> bool;
}

/// An entity by its kind and id, as a test names it: `channel carrier/3`, `call ID`, `agent 1001`,
/// `queue support`.
pub fn entity(kind: &str, id: &str) -> Option<EntityId> {
    match kind {
        "channel" => {
            let (trunk, number) = id.rsplit_once('/')?;
            let number = number.parse().ok()?;
            Some(EntityId::Channel(ChannelId { trunk: trunk.into(), number }))
        }
        "call" => id.parse().ok().map(EntityId::Call),
        "agent" => Some(EntityId::Agent(id.into())),
        "queue" => Some(EntityId::Queue(id.into())),
        "gateway" => Some(EntityId::Gateway(id.into())),
        _ => None,
    }
}
