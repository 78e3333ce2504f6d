//! Who does what when: virtual time jumps from one thing that happens to the next.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use tandem_core::agent::state::State as AgentState;
use tandem_core::command::{GatewayEvent, OperatorCommand, RequestedState};
use tandem_core::config::{self, Agent, Config, Number, Strategy, Target, Trunk};
use tandem_core::effect::{Body, Effect};
use tandem_core::ids::{QueueId, TrunkId};
use tandem_core::world::Applied;
use tandem_sip::{Method, Millis, Request, Response};

use crate::random::{Purpose, Stream};
use crate::scenario::{ANSWER_DELAY_S_MAX, Duration, Interval, Queue, Scenario};
use crate::shard::Shard;
use crate::sip::{self, Peer};
use crate::tally::Tally;

/// A conversation has two legs, and who is offered waits for a second one.
const PORTS_AN_AGENT: usize = 2;
/// Every phone answers before its offer rings out, unless its agent ignores it.
pub const RING_MS_MAX: u64 = 1_000 * ANSWER_DELAY_S_MAX as u64 + 1_000;
/// No call is ended for its length: 100 years.
const CALL_MS_MAX: u64 = 100 * 365 * 86_400_000;
/// Well before the registration ends.
const REFRESH_MS: u64 = 1_000 * sip::REGISTERED_S as u64 * 3 / 4;

pub struct Laboratory<'a> {
    scenario: &'a Scenario,
    shard: Shard,
    tally: Tally,
    now: Millis,
    /// The last moment that is measured; after it nobody calls any more.
    end: Millis,
    agenda: BinaryHeap<Reverse<(Millis, u64, Doing)>>,
    /// Orders what is due in the same millisecond.
    entered: u64,
    /// What the peers have said and the world has not heard.
    said: VecDeque<GatewayEvent>,
    callers: BTreeMap<u64, Caller>,
    callers_ever: u64,
    phones: Vec<Phone>,
    rings_ever: u64,
    /// By queue.
    lines: Vec<Line>,
    ignoring: Stream,
}

/// What one queue's callers draw from, and who of them waits without a phone that rings for them.
struct Line {
    arrivals: Arriving,
    talk_times: Stream,
    patiences: Stream,
    waiting: BTreeSet<u64>,
}

/// What somebody has decided to do later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Doing {
    Calls {
        queue: usize,
    },
    GivesUp {
        caller: u64,
    },
    HangsUp {
        caller: u64,
    },
    Answers {
        agent: u16,
        ring: u64,
    },
    Refreshes {
        agent: u16,
        turn: u32,
    },
    /// Asks for calls again, after a ring that was ignored.
    Returns {
        agent: u16,
    },
}

#[derive(Clone, Debug)]
struct Caller {
    queue: usize,
    /// Phones that ring for them.
    rings: u32,
    talk_s: f64,
    patience_s: Option<f64>,
    state: CallerState,
}

/// `tag` is the core's end of the dialog.
#[derive(Clone, Debug, PartialEq, Eq)]
enum CallerState {
    Calling,
    Waiting {
        tag: String,
    },
    Talking {
        tag: String,
    },
    /// The BYE is sent.
    Leaving,
}

#[derive(Clone, Debug)]
enum Phone {
    Idle,
    Ringing { ring: u64, caller: u64, invite: Box<Request> },
    Talking,
}

impl<'a> Laboratory<'a> {
    /// `scenario` has been checked.
    pub fn new(scenario: &'a Scenario, seed: u64) -> Self {
        let start_ms = milliseconds(scenario.warm_up_hours * 3_600.0);
        let end_ms = start_ms + milliseconds(scenario.hours * 3_600.0);
        let tally = Tally::new(scenario, start_ms..end_ms);
        let line = |number| Line {
            arrivals: Arriving::new(scenario, number, seed),
            talk_times: Stream::of_queue(seed, Purpose::TalkTimes, number),
            patiences: Stream::of_queue(seed, Purpose::Patience, number),
            waiting: BTreeSet::new(),
        };
        Self {
            scenario,
            shard: Shard::new(Stream::new(seed, Purpose::Entries)),
            tally,
            now: Millis(0),
            end: Millis(end_ms),
            agenda: BinaryHeap::new(),
            entered: 0,
            said: VecDeque::new(),
            callers: BTreeMap::new(),
            callers_ever: 0,
            phones: vec![Phone::Idle; scenario.agents.into()],
            rings_ever: 0,
            lines: (0..scenario.queues.len()).map(line).collect(),
            ignoring: Stream::new(seed, Purpose::Ignoring),
        }
    }

    /// Until the last caller of the measured window has left.
    pub fn run(mut self) -> Tally {
        self.open();
        loop {
            self.listen();
            let deadline = self.shard.world.next_deadline();
            let doing = self.agenda.peek().map(|Reverse((at, ..))| *at);
            let Some(next) = deadline.into_iter().chain(doing).min() else { break };
            if next > self.end && self.callers.is_empty() {
                break;
            }
            self.now = next;
            if deadline == Some(next) {
                let due = self.shard.world.due(next).into_iter().next();
                let applied = self.shard.due(next, due.expect("the next deadline is due"));
                self.on_applied(&applied);
            } else if let Some(Reverse((_, _, doing))) = self.agenda.pop() {
                self.on_doing(doing);
            }
        }
        self.shard.check();
        assert!(self.shard.world.calls.is_empty(), "a call has outlived its caller");
        self.tally.close(self.now.max(self.end));
        self.tally
    }

    /// The centre opens: every agent's phone registers and the first caller makes up their mind.
    fn open(&mut self) {
        let applied = self.shard.configure(self.now, config(self.scenario));
        self.on_applied(&applied);
        let agents = usize::from(self.scenario.agents);
        let waiting = self.scenario.waiting_max as usize * self.lines.len();
        let ports = PORTS_AN_AGENT * agents + waiting;
        self.said.push_back(sip::login(ports));
        for agent in 0..self.scenario.agents {
            self.on_doing(Doing::Refreshes { agent, turn: 1 });
        }
        for queue in 0..self.lines.len() {
            self.next_arrival(queue);
        }
    }

    /// The gateway passes on all that the peers have said: no packet takes any time here.
    fn listen(&mut self) {
        while let Some(event) = self.said.pop_front() {
            let applied = self.shard.event(self.now, event);
            self.on_applied(&applied);
        }
    }

    fn on_applied(&mut self, applied: &Applied) {
        self.tally.on_applied(self.now, &self.shard.world, applied);
        for effect in &applied.effects {
            self.on_effect(effect);
        }
    }

    fn on_effect(&mut self, effect: &Effect) {
        match &effect.body {
            Body::Respond { response, .. } => self.on_response(response),
            Body::Send { request, destination, .. } => {
                let peer = sip::peer_of(request, *destination);
                match peer.expect("every request is for one of our phones") {
                    Peer::Agent(agent) => self.on_request_to_agent(agent, request),
                    Peer::Caller(caller) => panic!("caller {caller} has hung up; {request:?}"),
                }
            }
            Body::Notify { .. } => panic!("nobody watches anybody here"),
            Body::Media(_) => {}
        }
    }

    // --- callers ---

    fn next_arrival(&mut self, queue: usize) {
        let at = Millis(self.lines[queue].arrivals.next_ms());
        if at < self.end {
            self.enter(at, Doing::Calls { queue });
        }
    }

    fn on_doing(&mut self, doing: Doing) {
        match doing {
            Doing::Calls { queue } => {
                let caller = self.callers_ever;
                self.callers_ever += 1;
                // Drawn now, so that another staffing meets the same people.
                let (line, asked) = (&mut self.lines[queue], &self.scenario.queues[queue]);
                let talk_s = line.talk_times.draw_s(&asked.talk_time);
                let patience = asked.patience.as_ref();
                let patience_s = patience.map(|patience| line.patiences.draw_s(patience));
                line.waiting.insert(caller);
                let state = CallerState::Calling;
                let known = Caller { queue, rings: 0, talk_s, patience_s, state };
                self.callers.insert(caller, known);
                self.said.push_back(sip::invite(caller, queue));
                self.next_arrival(queue);
            }
            Doing::GivesUp { caller } => self.leave(caller, true),
            Doing::HangsUp { caller } => self.leave(caller, false),
            Doing::Answers { agent, ring } => {
                if let Phone::Ringing { ring: current, invite, .. } =
                    &self.phones[usize::from(agent)]
                    && *current == ring
                {
                    self.said.push_back(sip::answer(invite, Method::Invite, 200));
                }
            }
            Doing::Refreshes { agent, turn } => {
                self.said.push_back(sip::register(agent, turn));
                let again = Doing::Refreshes { agent, turn: turn + 1 };
                self.enter(self.now.after(REFRESH_MS), again);
            }
            Doing::Returns { agent } => {
                let (agent, state) = (sip::agent_id(agent), RequestedState::Ready);
                let back = OperatorCommand::SetAgentState { agent, state };
                let applied = self.shard.operator(self.now, back);
                self.on_applied(&applied);
            }
        }
    }

    /// The caller hangs up, `waiting` or talking; who does neither any more stays as they are.
    fn leave(&mut self, id: u64, waiting: bool) {
        let Some(caller) = self.callers.get_mut(&id) else { return };
        let tag = match (&caller.state, waiting) {
            (CallerState::Waiting { tag }, true) | (CallerState::Talking { tag }, false) => tag,
            _ => return,
        };
        self.said.push_back(sip::bye(id, tag));
        caller.state = CallerState::Leaving;
        self.lines[caller.queue].waiting.remove(&id);
    }

    fn on_response(&mut self, response: &Response) {
        let headers = &response.headers;
        match (&headers.cseq.method, response.status) {
            (Method::Invite, 200) => {
                let id = sip::caller_of(&headers.call_id).expect("a caller's own Call-ID");
                let caller = self.callers.get_mut(&id).expect("a caller who calls");
                assert_eq!(caller.state, CallerState::Calling, "one answer a call");
                let tag = headers.to_tag().expect("a 200 has its To tag").to_owned();
                self.said.push_back(sip::ack(id, &tag));
                let patience_s = caller.patience_s;
                caller.state = CallerState::Waiting { tag };
                if let Some(patience_s) = patience_s {
                    let until = self.now.after(milliseconds(patience_s));
                    self.enter(until, Doing::GivesUp { caller: id });
                }
            }
            // The queue is full. The gateway ACKs it itself.
            (Method::Invite, 503) | (Method::Bye, 200) => {
                let id = sip::caller_of(&headers.call_id).expect("a caller's own Call-ID");
                let gone = self.callers.remove(&id).expect("a caller who calls");
                self.lines[gone.queue].waiting.remove(&id);
            }
            (Method::Invite, 100) | (Method::Register, 200) => {}
            (_, status) => panic!("a peer who does all right was told {status}: {response:?}"),
        }
    }

    // --- agents ---

    fn on_request_to_agent(&mut self, agent: u16, request: &Request) {
        let phone = &mut self.phones[usize::from(agent)];
        match (&request.method, &*phone) {
            (Method::Invite, Phone::Idle) => {
                self.rings_ever += 1;
                let ring = self.rings_ever;
                let caller = caller_who_rings(request);
                *phone = Phone::Ringing { ring, caller, invite: Box::new(request.clone()) };
                self.said.push_back(sip::answer(request, Method::Invite, 180));
                self.on_offered(caller);
                let ignored = self.scenario.ignored_rings.as_ref();
                if ignored.is_some_and(|ignored| self.ignoring.is_drawn(ignored.probability)) {
                    self.tally.on_ignored(self.now);
                    return;
                }
                let delay_ms = milliseconds(self.scenario.answer_delay_s);
                self.enter(self.now.after(delay_ms), Doing::Answers { agent, ring });
            }
            (Method::Ack, Phone::Ringing { .. }) => {
                *phone = Phone::Talking;
                self.talk(caller_who_rings(request));
            }
            (Method::Bye, Phone::Talking) => {
                *phone = Phone::Idle;
                self.said.push_back(sip::answer(request, Method::Bye, 200));
            }
            (Method::Cancel, Phone::Ringing { invite, caller, .. }) => {
                let (caller, ended) = (*caller, sip::answer(invite, Method::Invite, 487));
                *phone = Phone::Idle;
                self.said.push_back(sip::answer(request, Method::Cancel, 200));
                self.said.push_back(ended);
                self.on_ring_over(agent, caller);
            }
            (method, phone) => panic!("agent {agent} gets {method} while the phone is {phone:?}"),
        }
    }

    /// A phone rings for a caller: nobody waits in the same queue who came before, whoever has let
    /// it ring.
    fn on_offered(&mut self, id: u64) {
        let caller = self.callers.get_mut(&id).expect("a caller who waits");
        caller.rings += 1;
        let waiting = &mut self.lines[caller.queue].waiting;
        waiting.remove(&id);
        let first = waiting.first();
        assert!(first.is_none_or(|first| *first > id), "caller {id} is served before {first:?}");
    }

    /// The phone is told to be quiet: the caller has left or is somebody else's, or the agent has
    /// ignored the ring and rests.
    fn on_ring_over(&mut self, agent: u16, id: u64) {
        if let Some(caller) = self.callers.get_mut(&id) {
            caller.rings = caller.rings.saturating_sub(1);
            let waits = matches!(caller.state, CallerState::Calling | CallerState::Waiting { .. });
            if caller.rings == 0 && waits {
                self.lines[caller.queue].waiting.insert(id);
            }
        }
        let known = self.shard.world.agents.get(&sip::agent_id(agent));
        let rests = known.is_some_and(|agent| matches!(agent.state, AgentState::NotReady { .. }));
        if let (true, Some(ignored)) = (rests, &self.scenario.ignored_rings) {
            let back = self.now.after(milliseconds(ignored.back_after_s));
            self.enter(back, Doing::Returns { agent });
        }
    }

    fn talk(&mut self, id: u64) {
        let caller = self.callers.get_mut(&id).expect("a caller who waits");
        let CallerState::Waiting { tag } = &caller.state else {
            panic!("caller {id} is served while {:?}", caller.state)
        };
        caller.state = CallerState::Talking { tag: tag.clone() };
        let until = self.now.after(milliseconds(caller.talk_s));
        self.enter(until, Doing::HangsUp { caller: id });
    }

    fn enter(&mut self, at: Millis, doing: Doing) {
        self.entered += 1;
        self.agenda.push(Reverse((at, self.entered, doing)));
    }
}

/// Our INVITE's From is the caller's number.
fn caller_who_rings(request: &Request) -> u64 {
    let number = request.headers.from.uri.user.as_deref().unwrap_or_default();
    sip::caller_of(number).expect("a caller's number")
}

/// When a queue's callers come. No two come in the same millisecond: among them the queue knows no
/// order of arrival.
pub struct Arriving {
    /// Seconds, not rounded, so that gaps do not add up to a drift.
    at_s: f64,
    last_ms: Option<u64>,
    unit_gaps: Duration,
    stream: Stream,
    profile: Vec<Interval>,
    /// Which interval it is, and until when.
    interval: usize,
    until_s: f64,
}

impl Arriving {
    pub fn new(scenario: &Scenario, queue: usize, seed: u64) -> Self {
        let stream = Stream::of_queue(seed, Purpose::Arrivals, queue);
        let arrivals = &scenario.queues[queue].arrivals;
        let profile = arrivals.profile.clone();
        // The warm-up is the end of the days before, so that the measured time begins with a day.
        let into_s = (-scenario.warm_up_hours).rem_euclid(arrivals.day_hours()) * 3_600.0;
        let (mut interval, mut until_s) = (0, profile[0].hours * 3_600.0);
        while until_s <= into_s && interval + 1 < profile.len() {
            interval += 1;
            until_s += profile[interval].hours * 3_600.0;
        }
        Self {
            at_s: 0.0,
            last_ms: None,
            unit_gaps: arrivals.unit_gaps(),
            stream,
            profile,
            interval,
            until_s: until_s - into_s,
        }
    }

    /// Callers that are expected, not seconds, lie between two of them: at another rate they take
    /// another time.
    pub fn next_ms(&mut self) -> u64 {
        let mut expected = self.stream.draw_s(&self.unit_gaps);
        loop {
            let gap_s = 3_600.0 / self.profile[self.interval].per_hour;
            let at_s = self.at_s + expected * gap_s;
            // A steady stream has no end of an interval.
            if at_s <= self.until_s || self.profile.len() == 1 {
                self.at_s = at_s;
                break;
            }
            expected -= (self.until_s - self.at_s) / gap_s;
            self.at_s = self.until_s;
            self.interval = (self.interval + 1) % self.profile.len();
            self.until_s += self.profile[self.interval].hours * 3_600.0;
        }
        let at_ms = milliseconds(self.at_s).max(self.last_ms.map_or(0, |last| last + 1));
        self.last_ms = Some(at_ms);
        at_ms
    }
}

/// To the nearest step of virtual time.
pub fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1_000.0).round() as u64
}

fn config(scenario: &Scenario) -> Config {
    let ring_ms_max = scenario
        .ignored_rings
        .as_ref()
        .map_or(RING_MS_MAX, |ignored| milliseconds(ignored.ring_out_s));
    let queue = |queue: &Queue| config::Queue {
        id: QueueId::from(queue.name.clone()),
        strategy: Strategy::LongestIdle,
        agents: queue.agents.clone().map(sip::agent_id).collect(),
        ring_ms_max,
        record: false,
        waiting_max: scenario.waiting_max,
        music: None,
    };
    let number = |(number, queue): (usize, &Queue)| Number {
        digits: sip::queue_number(number),
        target: Target::Queue(QueueId::from(queue.name.clone())),
    };
    Config {
        version: 1,
        tenant: "laboratory".into(),
        realm: "laboratory".into(),
        trunks: vec![Trunk {
            id: TrunkId("carrier".into()),
            channels: u16::MAX,
            guard_ms: 0,
            sources: Vec::new(),
            tls: Default::default(),
            out: None,
            incoming: Default::default(),
            codecs: Vec::new(),
            shared: false,
        }],
        queues: scenario.queues.iter().map(queue).collect(),
        // No password is ever asked for: the gateway has proven whom it reports.
        agents: (0..scenario.agents)
            .map(|agent| Agent { id: sip::agent_id(agent), ha1: String::new() })
            .collect(),
        numbers: scenario.queues.iter().enumerate().map(number).collect(),
        routes: Vec::new(),
        acw_ms: milliseconds(scenario.after_call_work_s),
        no_answer_ms: RING_MS_MAX,
        call_ms_max: CALL_MS_MAX,
        session_expires_s: 0,
        tls_unverified: false,
        srtp: Default::default(),
        country: Default::default(),
        flows: Vec::new(),
        retired: Vec::new(),
    }
}
