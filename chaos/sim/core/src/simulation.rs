//! One run: the parts put together, and the loop that takes one event after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use tandem_core::call::state::State as CallState;
use tandem_core::command::{Command, Envelope};
use tandem_core::config::{self, Config, Strategy, Target};
use tandem_core::ids::{AgentId, QueueId, TrunkId};
use tandem_core::ivr::flow::{Action, Choice, Flow, Gather, Step as FlowStep, StepId};
use tandem_core::ivr::keys::Digit;
use tandem_core::ivr::state::State as RunState;
use tandem_core::queue::state::State as EntryState;
use tandem_core::{Applied, Meta};
use tandem_sip::digest::ha1;

use crate::consensus::{Consensus, NODES};
use crate::coverage::Coverage;
use crate::desk::Desk;
use crate::draws::{Draws, For};
use crate::event::{Damage, Event};
use crate::gateway::Gateway;
use crate::leases::Leases;
use crate::limits;
use crate::links::{GATEWAYS, Links};
use crate::network::Weather;
use crate::node::Node;
use crate::options::{Options, Outcome};
use crate::peer::Peer;
use crate::peer::registration::password;
use crate::peer::switch;
use crate::plan::{self, Fault, Plan, Settings, Strike};
use crate::plant::Plant;
use crate::schedule::Schedule;
use crate::trace::Trace;
use crate::violation::{Checked, Violation};
use crate::watch::{Step, Watch};

/// Streams to the nodes are open by then.
const FIRST_RENEWAL_MS: u64 = 8;

pub struct Simulation {
    pub seed: u64,
    pub options: Options,
    pub settings: Settings,
    pub calls: Vec<plan::Call>,
    pub placed_calls: Vec<plan::Placed>,
    pub strikes: Vec<Strike>,
    pub heal_at: u64,
    pub last_call_at: u64,
    pub now: u64,
    pub schedule: Schedule<Event>,
    pub draws: Draws,
    pub trace: Trace,
    pub consensus: Consensus,
    /// Entries beyond the committed ones that a new leader may have.
    pub reachable_tail: u64,
    pub nodes: Vec<Node>,
    pub gateways: Vec<Gateway>,
    pub links: Links,
    pub leases: Leases,
    /// How much faster each boot clock runs, parts in a million.
    pub node_ppm: [i64; NODES],
    pub gateway_ppm: [i64; GATEWAYS],
    pub peers: Vec<Peer>,
    pub addresses: BTreeMap<SocketAddr, usize>,
    pub desk: Desk,
    pub rtp: BTreeMap<u16, (usize, usize)>,
    pub weather: Weather,
    pub damages: BTreeMap<usize, Damage>,
    pub watch: Watch,
    pub coverage: Coverage,
    pub violation: Option<Violation>,
    pub commands: u64,
    pub applies: u64,
    pub placed: usize,
    pub struck: usize,
    /// When something was broken or mended last.
    pub trouble_at: u64,
    /// How far the wall clock was off by which a leader began: nobody else had been running.
    pub misled_ms: u64,
    /// When a command panicked last: what it brought is lost.
    pub panic_at: u64,
    /// The index at which whole worlds were compared last.
    pub compared: u64,
    pub healed: bool,
    pub rested: bool,
}

impl Simulation {
    pub fn new(seed: u64, options: Options) -> Self {
        let plan = Plan::of(seed, options.virtual_ms);
        let Plan { settings, calls, placed_calls, mut strikes, heal_at } = plan;
        for (number, lasts_ms) in &options.shorter {
            if let Some(strike) = strikes.get_mut(*number) {
                strike.lasts_ms = strike.lasts_ms.min(*lasts_ms);
            }
        }
        let no_margin = options.has(Plant::NoDriftMargin);
        let margin_ms = if no_margin { 0 } else { tandem_lease::MARGIN_MS };
        let vip = |last: u8| SocketAddr::from(([127, 0, 0, last], 5060));
        let mut simulation = Self {
            seed,
            settings,
            heal_at,
            last_call_at: calls
                .last()
                .map(|call| call.at)
                .max(placed_calls.iter().map(|placed| placed.at).max())
                .unwrap_or_default(),
            calls,
            placed_calls,
            strikes,
            now: 0,
            schedule: Schedule::default(),
            draws: Draws::new(seed),
            trace: Trace::new(options.story),
            consensus: Consensus::new(),
            reachable_tail: u64::MAX,
            nodes: vec![Node::new("node-a"), Node::new("node-b")],
            gateways: vec![Gateway::new("gateway-a", vip(10)), Gateway::new("gateway-b", vip(11))],
            links: Links::default(),
            leases: Leases::new(margin_ms),
            node_ppm: [0; NODES],
            gateway_ppm: [0; GATEWAYS],
            peers: Vec::new(),
            addresses: BTreeMap::new(),
            desk: Desk::default(),
            rtp: BTreeMap::new(),
            weather: Weather::default(),
            damages: BTreeMap::new(),
            watch: Watch::new(options.has(Plant::ForgetDeadline)),
            coverage: Coverage::default(),
            violation: None,
            commands: 0,
            applies: 0,
            placed: 0,
            struck: 0,
            trouble_at: 0,
            misled_ms: 0,
            panic_at: 0,
            compared: 0,
            healed: false,
            rested: false,
            options,
        };
        simulation.prepare();
        simulation
    }

    fn prepare(&mut self) {
        for agent in 0..self.settings.agents {
            self.new_phone(agent);
        }
        self.new_switches();
        let first = self.draws.at(For::FirstLeader, 0).index(NODES);
        self.elect(first, 0);
        for n in 0..NODES {
            self.nodes[n].wall_ahead_ms =
                self.draws.at(For::Clock, n as u64).between(0, 60) as i64 - 30;
            self.node_ppm[n] = self.drift(n);
            self.schedule.put(limits::DONE_MS_MAX, Event::Trim { node: n, life: 1 });
            for g in 0..GATEWAYS {
                self.connect_later(g, n, 6);
            }
        }
        for g in 0..GATEWAYS {
            self.gateway_ppm[g] = self.drift(NODES + g);
            self.schedule.put(FIRST_RENEWAL_MS, Event::Renew { gateway: g, life: 1 });
        }
        let kept = |keep: &Option<Vec<usize>>, number: usize| {
            keep.as_ref().is_none_or(|keep| keep.contains(&number))
        };
        for (number, call) in self.calls.iter().enumerate() {
            if kept(&self.options.keep_calls, number) {
                self.schedule.put(call.at, Event::Call(number));
            }
        }
        for (number, placed) in self.placed_calls.iter().enumerate() {
            if kept(&self.options.keep_calls, self.calls.len() + number) {
                self.schedule.put(placed.at, Event::Place { placed: number, attempt: 1 });
            }
        }
        for (number, strike) in self.strikes.iter().enumerate() {
            if kept(&self.options.keep_faults, number) {
                self.schedule.put(strike.at, Event::Strike(number));
            }
        }
        self.schedule.put(700, Event::Desk);
        self.schedule.put(self.heal_at, Event::Heal);
    }

    /// A third of the clocks runs as fast as may be, a third as slow.
    fn drift(&self, process: usize) -> i64 {
        let most = i64::try_from(limits::DRIFT_PPM_MAX).unwrap_or(i64::MAX);
        let mut random = self.draws.at(For::Drift, process as u64);
        let between = random.below(2 * limits::DRIFT_PPM_MAX) as i64 - most;
        *random.pick(&[most, -most, between])
    }

    pub fn run(mut self) -> Outcome {
        let mut events = 0;
        while !self.rested && self.violation.is_none() {
            let Some((at, event)) = self.schedule.take() else { break };
            self.now = at;
            events += 1;
            if events > limits::EVENTS_MAX {
                self.fail("liveness", "the model runs in a circle".into());
                break;
            }
            self.handle(event);
        }
        let (story, _) = self.trace.take_lines();
        let record = self.options.record.then(|| self.record());
        Outcome {
            seed: self.seed,
            commands: self.commands,
            applies: self.applies,
            calls: self.placed,
            faults: self.struck,
            trace_hash: self.trace.hash(),
            violation: self.violation,
            coverage: self.coverage,
            story,
            record,
            ended_at_ms: self.now,
        }
    }

    pub fn handle(&mut self, event: Event) {
        match event {
            Event::Call(number) => self.start_call(number),
            Event::Step { peer, life, line, step } => self.on_step(peer, life, line, step),
            Event::WakePeer { peer } => self.on_wake_peer(peer),
            Event::Packet { from, to, packet } => self.on_packet(from, to, &packet),
            Event::Desk => self.on_desk(),
            Event::Place { placed, attempt } => self.place(placed, attempt),
            Event::WakeGateway { gateway, incarnation } => {
                self.on_wake_gateway(gateway, incarnation);
            }
            Event::Connect { gateway, node } => self.on_connect(gateway, node),
            Event::Up { gateway, node, serial, message } => {
                self.on_up(gateway, node, serial, message);
            }
            Event::Down { gateway, node, serial, message } => {
                self.on_down_arrived(gateway, node, serial, message);
            }
            Event::Renew { gateway, life } => self.on_renew(gateway, life),
            Event::LeaseAsked { gateway, life, node, asked } => {
                self.on_lease_asked(gateway, life, node, asked);
            }
            Event::LeaseGranted { gateway, life, asked } => {
                self.on_lease_granted(gateway, life, asked);
            }
            Event::LeaseOver { gateway, until } => self.on_lease_over(gateway, until),
            Event::GatewayHears { gateway, node, serial } => {
                self.on_gateway_hears(gateway, node, serial);
            }
            Event::NodeHears { gateway, node, serial } => self.on_node_hears(gateway, node, serial),
            Event::Commit { term, index } => self.on_commit(term, index),
            Event::Election { term } => self.on_election(term),
            Event::StepDown { node, term } => self.on_step_down(node, term),
            Event::Apply { node, life } => self.on_apply(node, life),
            Event::Stored { node, life, index } => self.on_stored(node, life, index),
            Event::WakeNode { node, life } => self.on_wake_node(node, life),
            Event::Restart { node, life, term, entity } => {
                self.on_restart(node, life, term, &entity);
            }
            Event::Trim { node, life } => self.on_trim(node, life),
            Event::Strike(number) => self.on_strike(number),
            Event::Over(number, damage) => self.on_over(number, damage),
            Event::Heal => self.on_heal(),
            Event::Rest => self.on_rest(),
        }
    }

    /// A new leader without a configuration gets it from the meta shard.
    pub fn configure(&mut self, n: usize) {
        if self.nodes[n].replica.world.config.is_none() {
            let config = Box::new(house(&self.settings));
            self.propose(n, None, Command::Configure(config), crate::node::Proposed::Other);
        }
    }

    pub fn on_first_applied(
        &mut self,
        n: usize,
        meta: &Meta,
        envelope: &Envelope,
        applied: &Applied,
        was_due: bool,
    ) {
        self.tell(|sim| {
            let what = crate::words::command(&envelope.command);
            let reply = match &applied.reply {
                tandem_core::Reply::Done => String::new(),
                tandem_core::Reply::Rejected(why) => format!(" — {why}"),
            };
            (sim.nodes[n].name.clone(), format!("applies {}: {what}{reply}", meta.index))
        });
        if applied.alarm.is_some() {
            self.coverage.mark("a command panics");
            self.panic_at = self.now;
        }
        if matches!(envelope.command, Command::Quarantine { .. }) {
            self.coverage.mark("an actor is quarantined");
        }
        let world = &self.nodes[n].replica.world;
        let settings = &self.settings;
        let step = Step { world, meta, envelope, applied, settings, was_due };
        if let Err((property, what)) = self.watch.after(&step, &mut self.coverage) {
            let what = format!("{what}, after {}", crate::words::command(&envelope.command));
            self.fail(property, what);
        }
    }

    /// What a fault finds.
    pub fn note_coverage(&mut self, fault: Fault) {
        let mut states = BTreeSet::new();
        let front = self.front();
        for call in front.calls.values() {
            let unacked = call
                .caller()
                .is_some_and(|leg| leg.state == tandem_core::call::leg::State::Answered);
            if unacked {
                states.insert(5);
            }
            states.insert(match &call.state {
                CallState::InFlow => match &call.flow {
                    None => 1,
                    Some(run) if run.state == RunState::Over => 1,
                    Some(run) if run.prompt().is_some() => 9,
                    Some(_) => 10,
                },
                CallState::Routing => 12,
                CallState::Queued { queue } => {
                    let entry = front.queues.get(queue).and_then(|queue| queue.entry(call.id));
                    match entry.map(|entry| &entry.state) {
                        Some(EntryState::Offered { .. }) => 3,
                        Some(EntryState::Waiting) | None => 2,
                    }
                }
                CallState::Dialing { .. }
                    if call.flow.as_ref().is_some_and(|run| run.state != RunState::Over) =>
                {
                    11
                }
                CallState::Dialing { agent: None, .. } => 14,
                CallState::Dialing { agent: Some(_), .. } => 4,
                CallState::Connected { .. } if call.is_held() => 7,
                CallState::Connected { .. } => 6,
                CallState::Consulting { .. } => 13,
                CallState::Conferenced { .. } => 15,
                CallState::Ending => 8,
            });
        }
        if states.is_empty() {
            states.insert(0);
        }
        self.coverage.strike(fault, &states);
    }

    // --- findings ----------------------------------------------------------------------------------

    pub fn check(&mut self, property: &'static str, checked: Checked) {
        if let Err(what) = checked {
            self.fail(property, what);
        }
    }

    /// The first violation ends the run.
    pub fn fail(&mut self, property: &'static str, what: String) {
        if self.violation.is_some() {
            return;
        }
        let index = self.front().index;
        self.tell(|_| ("VIOLATION".into(), format!("{property}: {what}")));
        self.violation = Some(Violation { property, what, at_ms: self.now, index });
    }

    pub fn tell(&mut self, line: impl FnOnce(&Self) -> (String, String)) {
        if self.trace.is_told() {
            let (who, what) = line(self);
            self.trace.tell(self.now, || (who, what));
        }
    }
}

const REALM: &str = "demo.tandem";

/// The tenant of every run.
pub fn house(settings: &Settings) -> Config {
    let agents: Vec<AgentId> = (0..settings.agents)
        .map(|agent| AgentId::from((1_001 + u32::from(agent)).to_string()))
        .collect();
    let split = (agents.len() * 2).div_ceil(3);
    let queue = |name: &str, agents: &[AgentId]| config::Queue {
        id: QueueId(name.into()),
        strategy: Strategy::LongestIdle,
        agents: agents.to_vec(),
        ring_ms_max: settings.ring_ms_max,
        record: name == "support",
        waiting_max: settings.waiting_max,
        music: (name == "support").then(|| "brand".into()),
    };
    let (out, route) = switch::trunks(settings);
    let number = |digits: &str, target| config::Number { digits: digits.into(), target };
    Config {
        version: 1,
        tenant: "sim".into(),
        realm: REALM.into(),
        trunks: [config::Trunk {
            id: TrunkId("carrier".into()),
            channels: settings.channels,
            guard_ms: settings.guard_ms,
            sources: Vec::new(),
            tls: Default::default(),
            out: None,
            incoming: Default::default(),
            codecs: Vec::new(),
            shared: false,
        }]
        .into_iter()
        .chain(out)
        .collect(),
        // One agent serves both, so that the queues compete.
        queues: vec![queue("support", &agents[..split]), queue("sales", &agents[split - 1..])],
        agents: agents
            .iter()
            .map(|id| config::Agent { id: id.clone(), ha1: ha1(&id.0, REALM, &password(&id.0)) })
            .collect(),
        numbers: vec![
            number("4001", Target::Queue(QueueId("support".into()))),
            number("4002", Target::Queue(QueueId("sales".into()))),
            number("4003", Target::Echo),
            number("4000", Target::Flow("main".into())),
            number("4004", Target::Flow("notice".into())),
        ],
        routes: vec![route],
        acw_ms: settings.acw_ms,
        no_answer_ms: settings.no_answer_ms,
        call_ms_max: settings.call_ms_max,
        session_expires_s: limits::SESSION_S,
        tls_unverified: false,
        srtp: Default::default(),
        country: Default::default(),
        flows: flows().map(Arc::new).into(),
        retired: Vec::new(),
    }
}

/// A menu with every kind of step behind it, and an announcement.
fn flows() -> [Flow; 2] {
    let step = |name: &str, action| FlowStep { name: name.into(), action };
    let choice = |digits: &str, step| Choice { digits: digits.into(), step: StepId(step) };
    let play = |prompt: &str| Action::Play { prompt: prompt.into(), next: StepId(9) };
    let gather = |prompt: &str, digits_max| Gather {
        prompt: Some(prompt.into()),
        barge_in: true,
        digits_max,
        terminator: Digit::new('#'),
        first_digit_ms: 2_000,
        inter_digit_ms: 1_200,
        tries_max: 3,
        no_input: StepId(8),
        no_match: StepId(8),
    };
    let queue = |queue: &str| Action::Queue { queue: queue.into(), full: StepId(8) };
    let choices = [("0", 1), ("1", 2), ("2", 3), ("3", 4), ("4", 5), ("5", 7)];
    let choices = choices.map(|(digits, step)| choice(digits, step)).into();
    let main = vec![
        step("menu", Action::Menu { gather: gather("menu", 1), choices }),
        step("operator", Action::Extension { agent: "1001".into(), failed: StepId(0) }),
        step("support", queue("support")),
        step("sales", queue("sales")),
        step("notice", play("notice")),
        step(
            "account",
            Action::Collect { gather: gather("account", 3), digits_min: 2, next: StepId(6) },
        ),
        step(
            "known",
            Action::Branch { cases: vec![choice("00", 2), choice("44", 3)], otherwise: StepId(0) },
        ),
        // No gateway has it: the flow goes on without.
        step("absent", play("absent")),
        step("goodbye", play("goodbye")),
        step("hang_up", Action::HangUp),
    ];
    let notice = Action::Play { prompt: "notice".into(), next: StepId(1) };
    let notice = vec![step("notice", notice), step("hang_up", Action::HangUp)];
    let flow = |name: &str, steps| Flow { name: name.into(), version: 0, steps };
    [flow("main", main), flow("notice", notice)]
}

#[test]
fn flows_of_the_house_have_no_problem() {
    for flow in flows() {
        assert_eq!(flow.problems(), []);
    }
}
