//! The pure machine under a busy day: calls are queued, offered, answered, talked and hung up, phones
//! register, effects are acknowledged. Only `World::apply` is timed, and at last how long a replica needs to
//! read the world's rows again. It measures and asserts nothing.
//!
//! ```text
//! cargo bench --locked -p tandem-core --bench busy_day                  # the table of sizes
//! cargo bench --locked -p tandem-core --bench busy_day -- 1000 50      # live calls, ports a gateway
//! ```
// A benchmark needs a clock; what it measures has none.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use tandem_core::command::{
    Command, Envelope, GatewayEvent, Inbound, Login, Origin, Recorded, Register, TransactionKey,
};
use tandem_core::config::{Agent, Config, Number, Queue, Strategy, Target, Trunk};
use tandem_core::deadline::Deadline;
use tandem_core::effect::{Body, Effect, EffectId};
use tandem_core::ids::{AgentId, GatewayId, QueueId, TrunkId};
use tandem_core::{Meta, Reply, World, rows};
use tandem_sip::sdp::{Audio, Beside, Codec, Direction, Payload};
use tandem_sip::{Carrier, Message, Method, Millis, Request, Response, parse};

/// As the simulator has it: what is measured is the machine, not the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIZES: [(usize, usize); 6] =
    [(50, 50), (50, 32_256), (1_000, 50), (1_000, 32_256), (10_000, 50), (10_000, 32_256)];
const COMMANDS: usize = 50_000;
const HISTORY: [&str; 3] = [rows::CDRS, rows::RECORDINGS, rows::QUALITIES];
/// One in so many is left out of the mean.
const SLOWEST: usize = 500;
/// Agents of one queue.
const TEAM: usize = 50;
/// Agents beyond those who talk, so that an offer is made at once.
const SPARE: usize = 50;
/// Between two commands: after-call work of 1 s is over some hundred commands later.
const STEP_MS: u64 = 5;

fn main() {
    let given: Vec<usize> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    match given[..] {
        [live, ports, ..] => measure(live, ports, true),
        _ => SIZES.into_iter().for_each(|(live, ports)| measure(live, ports, false)),
    }
}

fn measure(live: usize, ports: usize, by_kind: bool) {
    let mut day = Day::new(live, ports);
    while day.talking.len() < live {
        day.begin_call();
    }
    day.times.clear();
    (day.row_bytes, day.rows) = (0, 0);
    while day.times.values().map(Vec::len).sum::<usize>() < COMMANDS {
        day.begin_call();
        day.end_call();
        day.refresh_phone();
    }
    let mut all: Vec<u64> = day.times.values().flatten().copied().collect();
    print!("{live:>6} live calls {ports:>6} ports a gateway  ");
    show("all", &mut all);
    let (count, rows) = (all.len() as f64, day.rows as f64);
    println!("    {:.1} rows, {:.0} bytes a command", rows / count, day.row_bytes as f64 / count);
    let agents = day.agents;
    let (rows, bytes) = day.stored.iter().fold((0, 0), |(rows, bytes), ((_, key), value)| {
        (rows + 1, bytes + key.len() + value.len())
    });
    let begin = Instant::now();
    let mut world = World::new(0);
    for ((family, _), value) in &day.stored {
        world.restore(family, value).expect("a row that was written");
    }
    world.restored().expect("the rows of a world");
    let took = begin.elapsed();
    assert_eq!(world.calls.len(), day.world.calls.len());
    println!(
        "    restored {} calls, {agents} agents from {rows} rows, {bytes} bytes in {took:.1?}",
        world.calls.len()
    );
    if by_kind {
        for (kind, mut times) in day.times {
            show(kind, &mut times);
        }
    }
}

fn show(kind: &str, times: &mut [u64]) {
    times.sort_unstable();
    // The slowest were mostly interrupted by another process.
    let kept = &times[..times.len() - times.len() / SLOWEST];
    let mean = kept.iter().sum::<u64>() as f64 / kept.len() as f64;
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!(
        "{kind:<16} {:>8.0} /s  mean {mean:>7.0} ns  p50 {:>7}  p99 {:>7}  n {}",
        1e9 / mean,
        at(0.5),
        at(0.99),
        times.len()
    );
}

/// One shard, its gateways and everybody's phones.
struct Day {
    world: World,
    now: u64,
    gateways: Vec<(GatewayId, u64)>,
    queues: usize,
    agents: usize,
    /// Calls begun so far; each has a number of its own.
    begun: usize,
    registered: usize,
    /// Who talks, the oldest first.
    talking: VecDeque<Talk>,
    /// What gateways have done: it rides on the next command.
    done: Vec<EffectId>,
    times: BTreeMap<&'static str, Vec<u64>>,
    rows: usize,
    row_bytes: usize,
    /// As a replica has them on its disk, but for history, which is never read back.
    stored: BTreeMap<(&'static str, Vec<u8>), Vec<u8>>,
}

struct Talk {
    number: usize,
    gateway: usize,
    local_tag: String,
    recorded: Option<Recorded>,
}

impl Day {
    fn new(live: usize, ports: usize) -> Self {
        let agents = live + SPARE.max(live / 10);
        let queues = agents.div_ceil(TEAM);
        // Two ports a call, and some that are on their way back.
        let gateways = (2 * agents).div_ceil(ports).max(2);
        let mut day = Self {
            world: World::new(0),
            now: 1_800_000_000_000,
            gateways: (0..gateways)
                .map(|n| (GatewayId::from(&*format!("gateway-{n}")), 0))
                .collect(),
            queues,
            agents,
            begun: 0,
            registered: 0,
            talking: VecDeque::new(),
            done: Vec::new(),
            times: BTreeMap::new(),
            rows: 0,
            row_bytes: 0,
            stored: BTreeMap::new(),
        };
        let config = config(queues, agents);
        day.apply("configure", None, Command::Configure(Box::new(config)));
        for gateway in 0..gateways {
            let ports = (0..ports).map(|n| 1_024 + 2 * n as u16).collect();
            let vip = vip(gateway);
            day.event("login", gateway, GatewayEvent::Login(Login { vip, ports }));
        }
        for _ in 0..agents {
            day.refresh_phone();
        }
        day
    }

    fn apply(
        &mut self,
        kind: &'static str,
        origin: Option<Origin>,
        command: Command,
    ) -> Vec<Effect> {
        self.now += STEP_MS;
        let index = self.world.index + 1;
        let at = Millis(self.now);
        let seed = index.wrapping_mul(0x5851_f42d_4c95_7f2d);
        let meta = Meta { at, seed, version: 1, shard: 0, index, term: 1 };
        let done = std::mem::take(&mut self.done);
        let envelope = Envelope { at, seed, version: 1, origin, done, command };
        let begin = Instant::now();
        let applied = self.world.apply(&meta, &envelope);
        let took = begin.elapsed().as_nanos() as u64;
        self.times.entry(kind).or_default().push(took);
        assert_eq!(applied.reply, Reply::Done, "{kind}: {envelope:?}");
        self.rows += applied.rows.len();
        let bytes = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
        self.row_bytes += applied.rows.iter().map(|r| r.key.len() + bytes(&r.value)).sum::<usize>();
        for row in applied.rows.into_iter().filter(|row| !HISTORY.contains(&row.family)) {
            match row.value {
                Some(value) => self.stored.insert((row.family, row.key), value),
                None => self.stored.remove(&(row.family, row.key)),
            };
        }
        self.done.extend(applied.effects.iter().map(|effect| effect.id));
        applied.effects
    }

    fn event(&mut self, kind: &'static str, gateway: usize, event: GatewayEvent) -> Vec<Effect> {
        let (name, sequence) = &mut self.gateways[gateway];
        *sequence += 1;
        let origin = Origin { gateway: name.clone(), incarnation: 1, sequence: *sequence };
        self.apply(kind, Some(origin), Command::Gateway(event))
    }

    /// A caller is queued, an agent's phone rings and is answered.
    fn begin_call(&mut self) {
        self.wait();
        let number = self.begun;
        self.begun += 1;
        let gateway = number % self.gateways.len();
        let invite = invite(number, number % self.queues, gateway);
        let effects = self.event(
            "invite",
            gateway,
            GatewayEvent::Invite(Inbound {
                transaction: self.key(gateway, &invite),
                source: carrier(),
                carrier: Carrier::Udp,
                request: invite.into(),
                offer: Some(audio(4_000)),
                names: Vec::new(),
            }),
        );
        let local_tag = effects.iter().find_map(|effect| match &effect.body {
            Body::Respond { response, .. } if response.status == 200 => {
                response.headers.to_tag().map(str::to_owned)
            }
            _ => None,
        });
        let local_tag = local_tag.expect("the caller is answered");
        let (call_id, tag) = (call_id(number), local_tag.clone());
        let ack = GatewayEvent::Ack { call_id, local_tag: tag, cseq: 1, answer: None };
        self.event("ack", gateway, ack);
        let offered = sent(&effects, &Method::Invite).expect("an agent is ready");
        self.answer("ringing", &offered, 180);
        let effects = self.answer("answered", &offered, 200);
        let recorded = effects.iter().find_map(|effect| match &effect.body {
            Body::Media(plan) => plan.recording.map(|recording| Recorded {
                call: plan.call,
                recording: recording.id,
                duration_ms: 60_000,
                chunks: 12,
                gaps: Vec::new(),
                hash: "00".repeat(32),
                bytes: 960_044,
                pauses: Vec::new(),
                began_at: None,
                holder: "".into(),
            }),
            _ => None,
        });
        self.talking.push_back(Talk { number, gateway, local_tag, recorded });
    }

    /// The caller who has talked longest hangs up, and the agent's phone is told.
    fn end_call(&mut self) {
        let Some(talk) = self.talking.pop_front() else { return };
        let bye = bye(&talk);
        let inbound = Inbound {
            transaction: self.key(talk.gateway, &bye),
            source: carrier(),
            carrier: Carrier::Udp,
            request: bye.into(),
            offer: None,
            names: Vec::new(),
        };
        let effects = self.event("bye", talk.gateway, GatewayEvent::Request(inbound));
        if let Some(bye) = sent(&effects, &Method::Bye) {
            self.answer("bye answered", &bye, 200);
        }
        if let Some(recorded) = talk.recorded {
            self.event("recorded", talk.gateway, GatewayEvent::Recorded(recorded));
        }
        self.wait();
    }

    /// What time brings.
    fn wait(&mut self) {
        for deadline in self.world.due(Millis(self.now)) {
            let kind = match &deadline {
                Deadline::AcwOver { .. } => "acw over",
                _ => "other deadline",
            };
            self.apply(kind, None, Command::Due(deadline));
        }
    }

    fn refresh_phone(&mut self) {
        let agent = self.registered % self.agents;
        let count = self.registered;
        self.registered += 1;
        let gateway = agent % self.gateways.len();
        let request = register(agent, count);
        let register = Register {
            transaction: self.key(gateway, &request),
            source: phone(agent),
            carrier: Carrier::Udp,
            request: Box::new(request),
            agent: AgentId::from(&*name_of(agent)),
        };
        self.event("register", gateway, GatewayEvent::Register(register));
    }

    fn answer(&mut self, kind: &'static str, request: &Request, status: u16) -> Vec<Effect> {
        let vip = &request.headers.via[0].host;
        let of = (0..self.gateways.len()).find(|n| self::vip(*n).ip().to_string() == *vip);
        let response = response(request, status);
        let answers = status == 200 && request.method == Method::Invite;
        let event = GatewayEvent::Response {
            branch: request.headers.branch().to_owned(),
            response: Box::new(response),
            answer: answers.then(|| audio(5_000)),
        };
        self.event(kind, of.expect("a gateway of ours"), event)
    }

    fn key(&self, gateway: usize, request: &Request) -> TransactionKey {
        TransactionKey {
            gateway: self.gateways[gateway].0.clone(),
            branch: request.headers.branch().into(),
            sent_by: "192.0.2.10:5060".into(),
            method: request.method.as_str().into(),
        }
    }
}

fn config(queues: usize, agents: usize) -> Config {
    let team = |queue: usize| (0..agents).filter(move |agent| agent % queues == queue);
    let queue_id = |queue: usize| QueueId::from(&*format!("queue-{queue}"));
    Config {
        version: 1,
        tenant: "busy".into(),
        realm: "busy.example".into(),
        trunks: vec![Trunk {
            id: TrunkId::from("carrier"),
            channels: 2 * agents as u16,
            guard_ms: 0,
            sources: Vec::new(),
            tls: Default::default(),
            out: None,
            incoming: Default::default(),
            codecs: Vec::new(),
            shared: false,
        }],
        queues: (0..queues)
            .map(|queue| Queue {
                id: queue_id(queue),
                strategy: Strategy::LongestIdle,
                agents: team(queue).map(|agent| AgentId::from(&*name_of(agent))).collect(),
                ring_ms_max: 20_000,
                record: true,
                waiting_max: 1_000,
                music: None,
            })
            .collect(),
        agents: (0..agents)
            .map(|agent| Agent { id: AgentId::from(&*name_of(agent)), ha1: String::new() })
            .collect(),
        numbers: (0..queues)
            .map(|queue| Number { digits: dialled(queue), target: Target::Queue(queue_id(queue)) })
            .collect(),
        routes: Vec::new(),
        acw_ms: 1_000,
        no_answer_ms: 30_000,
        call_ms_max: 4 * 3_600_000,
        session_expires_s: 1_800,
        tls_unverified: false,
        srtp: Default::default(),
        country: Default::default(),
        flows: Vec::new(),
        retired: Vec::new(),
    }
}

/// The request of that method that a gateway is to send.
fn sent(effects: &[Effect], method: &Method) -> Option<Request> {
    effects.iter().find_map(|effect| match &effect.body {
        Body::Send { request, .. } if request.method == *method => Some(Request::clone(request)),
        _ => None,
    })
}

fn name_of(agent: usize) -> String {
    (10_000 + agent).to_string()
}

fn dialled(queue: usize) -> String {
    format!("49891234{queue:04}")
}

fn call_id(number: usize) -> String {
    format!("{number:016x}@192.0.2.10")
}

fn vip(gateway: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (gateway / 250) as u8, 1 + (gateway % 250) as u8], 5_060))
}

fn carrier() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 10], 5_060))
}

fn phone(agent: usize) -> SocketAddr {
    SocketAddr::from(([10, 1, (agent / 250) as u8, 1 + (agent % 250) as u8], 5_060))
}

/// What a carrier's session border controller sends.
fn invite(number: usize, queue: usize, gateway: usize) -> Request {
    let (digits, vip) = (dialled(queue), vip(gateway).ip());
    request(&format!(
        "INVITE sip:{digits}@{vip}:5060;user=phone SIP/2.0\r\n\
         Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK{number:016x};rport\r\n\
         Record-Route: <sip:192.0.2.10:5060;lr>\r\n\
         From: <sip:+4930{number:08}@192.0.2.10;user=phone>;tag={number:x}f\r\n\
         To: <sip:{digits}@{vip};user=phone>\r\n\
         Call-ID: {}\r\nCSeq: 1 INVITE\r\nContact: <sip:192.0.2.10:5060;transport=udp>\r\n\
         Max-Forwards: 67\r\nAllow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, PRACK\r\n\
         Supported: timer, 100rel\r\nSession-Expires: 1800\r\nMin-SE: 90\r\n\
         P-Asserted-Identity: <sip:+4930{number:08}@carrier.example>\r\n\
         User-Agent: carrier-sbc/9.1\r\n\r\n",
        call_id(number)
    ))
}

fn bye(talk: &Talk) -> Request {
    let Talk { number, gateway, local_tag, .. } = talk;
    let vip = vip(*gateway);
    request(&format!(
        "BYE sip:tandem@{vip} SIP/2.0\r\n\
         Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKb{number:015x};rport\r\n\
         From: <sip:+4930{number:08}@192.0.2.10;user=phone>;tag={number:x}f\r\n\
         To: <sip:tandem@{vip};user=phone>;tag={local_tag}\r\n\
         Call-ID: {}\r\nCSeq: 2 BYE\r\nMax-Forwards: 67\r\nUser-Agent: carrier-sbc/9.1\r\n\r\n",
        call_id(*number)
    ))
}

fn register(agent: usize, count: usize) -> Request {
    let (name, phone) = (name_of(agent), phone(agent));
    request(&format!(
        "REGISTER sip:busy.example SIP/2.0\r\n\
         Via: SIP/2.0/UDP {phone};branch=z9hG4bKc{count:015x};rport\r\n\
         From: <sip:{name}@busy.example>;tag=r{agent}\r\nTo: <sip:{name}@busy.example>\r\n\
         Call-ID: {agent}@phone\r\nCSeq: {} REGISTER\r\nContact: <sip:{name}@{phone}>\r\n\
         Max-Forwards: 70\r\nExpires: 3600\r\nUser-Agent: phone/1.0\r\n\r\n",
        1 + count
    ))
}

fn request(text: &str) -> Request {
    match parse(text.as_bytes()) {
        Ok(Message::Request(request)) => request,
        other => panic!("{text}: {other:?}"),
    }
}

fn response(request: &Request, status: u16) -> Response {
    let mut response = request.respond(status, None, Some("phone-tag-0001"));
    response.headers.contact = vec![tandem_sip::NameAddr::new(request.uri.clone())];
    response
}

fn audio(port: u16) -> Audio {
    Audio {
        address: [192, 0, 2, 10].into(),
        port,
        payloads: vec![Payload::new(8, Codec::Pcma)],
        telephone_event: Some(101),
        telephone_event_wide: None,
        direction: Direction::SendRecv,
        ptime_ms: Some(20),
        session_id: 1,
        session_version: 1,
        crypto: Vec::new(),
        secure: false,
        beside: Beside::default(),
    }
}
