use super::{Error, narrow, need, parse};
use crate::config::{Agent, Config, Number, Queue, Strategy, Target, Trunk};
use crate::ids::{AgentId, QueueId, TrunkId};
use crate::proto;

impl From<&Config> for proto::Config {
    fn from(config: &Config) -> Self {
        Self {
            version: config.version,
            tenant: config.tenant.clone(),
            realm: config.realm.clone(),
            trunks: config.trunks.iter().map(trunk).collect(),
            queues: config.queues.iter().map(queue).collect(),
            agents: config
                .agents
                .iter()
                .map(|agent| proto::AgentConfig { id: agent.id.0.clone(), ha1: agent.ha1.clone() })
                .collect(),
            numbers: config.numbers.iter().map(number).collect(),
            acw_ms: config.acw_ms,
            no_answer_ms: config.no_answer_ms,
            call_ms_max: config.call_ms_max,
        }
    }
}

fn trunk(trunk: &Trunk) -> proto::Trunk {
    proto::Trunk {
        id: trunk.id.0.clone(),
        channels: u32::from(trunk.channels),
        guard_ms: trunk.guard_ms,
        sources: trunk.sources.iter().map(ToString::to_string).collect(),
    }
}

fn queue(queue: &Queue) -> proto::QueueConfig {
    let strategy = match queue.strategy {
        Strategy::LongestIdle => "longest_idle",
    };
    proto::QueueConfig {
        id: queue.id.0.clone(),
        strategy: strategy.to_owned(),
        agents: queue.agents.iter().map(|agent| agent.0.clone()).collect(),
        ring_ms_max: queue.ring_ms_max,
        record: queue.record,
        waiting_max: queue.waiting_max,
    }
}

fn number(number: &Number) -> proto::Number {
    use proto::number::Target as To;
    let target = match &number.target {
        Target::Queue(queue) => To::Queue(queue.0.clone()),
        Target::Echo => To::Echo(true),
    };
    proto::Number { digits: number.digits.clone(), target: Some(target) }
}

impl TryFrom<proto::Config> for Config {
    type Error = Error;

    fn try_from(config: proto::Config) -> Result<Self, Error> {
        let trunk = |trunk: proto::Trunk| -> Result<Trunk, Error> {
            let sources = trunk.sources.iter().map(|source| parse(source, "trunk.source"));
            Ok(Trunk {
                id: TrunkId(trunk.id),
                channels: narrow(trunk.channels, "trunk.channels")?,
                guard_ms: trunk.guard_ms,
                sources: sources.collect::<Result<_, _>>()?,
            })
        };
        let queue = |queue: proto::QueueConfig| -> Result<Queue, Error> {
            let strategy = match queue.strategy.as_str() {
                "longest_idle" => Strategy::LongestIdle,
                other => return Err(Error::Unknown("strategy", other.to_owned())),
            };
            Ok(Queue {
                id: QueueId(queue.id),
                strategy,
                agents: queue.agents.into_iter().map(AgentId).collect(),
                ring_ms_max: queue.ring_ms_max,
                record: queue.record,
                waiting_max: queue.waiting_max,
            })
        };
        let number = |number: proto::Number| -> Result<Number, Error> {
            use proto::number::Target as From;
            let target = match need(number.target, "number.target")? {
                From::Queue(queue) => Target::Queue(QueueId(queue)),
                From::Echo(_) => Target::Echo,
            };
            Ok(Number { digits: number.digits, target })
        };
        let agent = |agent: proto::AgentConfig| Agent { id: AgentId(agent.id), ha1: agent.ha1 };
        Ok(Self {
            version: config.version,
            tenant: config.tenant,
            realm: config.realm,
            trunks: config.trunks.into_iter().map(trunk).collect::<Result<_, _>>()?,
            queues: config.queues.into_iter().map(queue).collect::<Result<_, _>>()?,
            agents: config.agents.into_iter().map(agent).collect(),
            numbers: config.numbers.into_iter().map(number).collect::<Result<_, _>>()?,
            acw_ms: config.acw_ms,
            no_answer_ms: config.no_answer_ms,
            call_ms_max: config.call_ms_max,
        })
    }
}
