//! The tenant that a cluster without a configuration serves.

use std::sync::Arc;

use tandem_sip::digest;

use crate::config::{Agent, Config, Number, Queue, Strategy, Target, Trunk, TrunkTls};
use crate::ids::{AgentId, QueueId, TrunkId};
use crate::ivr::flow::{Action, Choice, Flow, Gather, Step, StepId};

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
        music: None,
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
            out: None,
            incoming: Default::default(),
            codecs: Vec::new(),
            shared: false,
        }],
        queues: vec![queue("support", 1001..=1004), queue("sales", 1005..=1008)],
        agents: (1001..=1008)
            .map(|id| Agent {
                id: AgentId::from(id.to_string()),
                ha1: digest::ha1(&id.to_string(), REALM, &format!("tandem-{id}")),
            })
            .collect(),
        numbers: vec![
            number("4000", Target::Flow("main".into())),
            number("4001", Target::Queue(QueueId("support".into()))),
            number("4002", Target::Queue(QueueId("sales".into()))),
            number("4003", Target::Echo),
            number("4004", Target::Flow("notice".into())),
        ],
        routes: Vec::new(),
        acw_ms: 1_000,
        no_answer_ms: 30_000,
        call_ms_max: 4 * 3_600_000,
        session_expires_s: 1_800,
        tls_unverified: false,
        srtp: Default::default(),
        country: Default::default(),
        flows: vec![Arc::new(main_flow()), Arc::new(notice_flow())],
        retired: Vec::new(),
    }
}

/// 1 and 2 lead to the queues, 3 to the announcement, 0 to an agent; three times 5 s without a key
/// end the call.
fn main_flow() -> Flow {
    let [menu, support, sales, notice, operator, goodbye, hang_up] =
        [0, 1, 2, 3, 4, 5, 6].map(StepId);
    let choice = |digits: &str, step| Choice { digits: digits.into(), step };
    let gather = Gather {
        prompt: Some("menu".into()),
        barge_in: true,
        digits_max: 1,
        terminator: None,
        first_digit_ms: 5_000,
        inter_digit_ms: 3_000,
        tries_max: 3,
        no_input: goodbye,
        no_match: goodbye,
    };
    let choices =
        vec![choice("0", operator), choice("1", support), choice("2", sales), choice("3", notice)];
    let play = |prompt: &str| Action::Play { prompt: prompt.into(), next: hang_up };
    let queue = |queue: &str| Action::Queue { queue: queue.into(), full: goodbye };
    let steps = [
        ("menu", Action::Menu { gather, choices }),
        ("support", queue("support")),
        ("sales", queue("sales")),
        ("notice", play("notice")),
        ("operator", Action::Extension { agent: "1001".into(), failed: menu }),
        ("goodbye", play("goodbye")),
        ("hang_up", Action::HangUp),
    ];
    flow("main", steps)
}

fn notice_flow() -> Flow {
    let play = Action::Play { prompt: "notice".into(), next: StepId(1) };
    flow("notice", [("notice", play), ("hang_up", Action::HangUp)])
}

fn flow<const N: usize>(name: &str, steps: [(&str, Action); N]) -> Flow {
    let step = |(name, action): (&str, Action)| Step { name: name.into(), action };
    Flow { name: name.into(), version: 0, steps: steps.into_iter().map(step).collect() }
}
