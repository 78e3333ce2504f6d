//! The tenant that a cluster without a configuration serves.

use tandem_sip::digest;

use crate::config::{Agent, Config, Number, Queue, Strategy, Target, Trunk, TrunkTls};
use crate::ids::{AgentId, QueueId, TrunkId};

const REALM: &str = "demo.tandem";
/// Four E1 lines of 30 channels.
const CHANNELS: u16 = 4 * 30;

pub fn demo_config() -> Config {
    let queue = |name: &str, agents: std::ops::RangeInclusive<u16>| Queue {
        id: QueueId(name.into()),
        strategy: Strategy::LongestIdle,
        agents: agents.map(|number| AgentId::from(number.to_string())).collect(),
        ring_ms_max: 20_000,
        record: true,
        waiting_max: 1_000,
    };
    let number = |digits: &str, target| Number { digits: digits.into(), target };
    Config {
        version: 1,
        tenant: "demo".into(),
        realm: REALM.into(),
        trunks: vec![Trunk {
            id: TrunkId("carrier".into()),
            channels: CHANNELS,
            guard_ms: 0,
            sources: Vec::new(),
            tls: TrunkTls::default(),
        }],
        queues: vec![queue("support", 1001..=1004), queue("sales", 1005..=1008)],
        agents: (1001..=1008)
            .map(|id| Agent {
                id: AgentId::from(id.to_string()),
                ha1: digest::ha1(&id.to_string(), REALM, &format!("tandem-{id}")),
            })
            .collect(),
        numbers: vec![
            number("4001", Target::Queue(QueueId("support".into()))),
            number("4002", Target::Queue(QueueId("sales".into()))),
            number("4003", Target::Echo),
        ],
        acw_ms: 1_000,
        no_answer_ms: 30_000,
        call_ms_max: 4 * 3_600_000,
        tls_unverified: false,
    }
}
