//! One replica of one shard, as its leader runs it: entries are applied one by one, and what an
//! entry made the gateway do is acknowledged with the next, so the outbox stays small.

use tandem_core::command::{Command, Envelope, GatewayEvent, OperatorCommand, Origin};
use tandem_core::config::Config;
use tandem_core::effect::EffectId;
use tandem_core::ids::GatewayId;
use tandem_core::world::{Applied, Meta, Reply, World};
use tandem_core::{deadline::Deadline, invariants};
use tandem_sip::Millis;

use crate::random::Stream;

pub const GATEWAY: &str = "gateway-a";
const SHARD: u16 = 0;
const TERM: u64 = 1;
const VERSION: u32 = 1;
/// Entries between two checks of the world's invariants.
const CHECK_EVERY: u64 = 65_536;

pub struct Shard {
    pub world: World,
    seeds: Stream,
    /// Of the gateway's events.
    sequence: u64,
    done: Vec<EffectId>,
}

impl Shard {
    pub fn new(seeds: Stream) -> Self {
        Self { world: World::new(SHARD), seeds, sequence: 0, done: Vec::new() }
    }

    pub fn configure(&mut self, at: Millis, config: Config) -> Applied {
        self.apply(at, None, Command::Configure(Box::new(config)))
    }

    pub fn due(&mut self, at: Millis, deadline: Deadline) -> Applied {
        self.apply(at, None, Command::Due(deadline))
    }

    pub fn operator(&mut self, at: Millis, command: OperatorCommand) -> Applied {
        self.apply(at, None, Command::Operator(command))
    }

    pub fn event(&mut self, at: Millis, event: GatewayEvent) -> Applied {
        self.sequence += 1;
        let gateway = GatewayId(GATEWAY.into());
        let origin = Origin { gateway, incarnation: 1, sequence: self.sequence };
        self.apply(at, Some(origin), Command::Gateway(event))
    }

    /// Nothing is lost and nobody misbehaves here, so a refusal is a bug of ours or of the core's.
    fn apply(&mut self, at: Millis, origin: Option<Origin>, command: Command) -> Applied {
        let (index, seed) = (self.world.index + 1, self.seeds.bits());
        let meta = Meta { at, seed, version: VERSION, shard: SHARD, index, term: TERM };
        let done = std::mem::take(&mut self.done);
        let envelope = Envelope { at, seed, version: VERSION, origin, done, command };
        let applied = self.world.apply(&meta, &envelope);
        assert_eq!(applied.reply, Reply::Done, "index {index}: {:?}", envelope.command);
        self.done.extend(applied.effects.iter().map(|effect| effect.id));
        if index.is_multiple_of(CHECK_EVERY) {
            self.check();
        }
        applied
    }

    pub fn check(&self) {
        if let Err(violation) = invariants::check(&self.world) {
            panic!("{violation} at index {}", self.world.index);
        }
    }
}
