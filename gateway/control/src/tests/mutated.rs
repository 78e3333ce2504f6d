//! A million spoiled messages at a gateway that serves calls: it panics at none,
//! grows by none, answers only with SIP, and the calls of others go on.
//!
//! `TANDEM_MUTANTS=9000000 TANDEM_MUTANTS_SEED=7` asks for more, or others.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tandem_core::command::{GatewayEvent, Inbound, TransactionKey};
use tandem_core::effect::{Body, Effect, EffectId};
use tandem_core::ids::{EntityId, GatewayId};
use tandem_sip::{
    Carrier, ConnectionId, Flow, HEADERS_MAX, MESSAGE_BYTES_MAX, Message, Millis, Request,
    Response, digest, parse, stamp_source,
};

use super::mutate::{Numbers, mutant};
use super::{Bench, NODE, SHARD};
use crate::link::{Accepted, Down, Up};
use crate::{Output, limits};

/// Without asking for more; half a minute.
const MUTANTS: u64 = 1_000_000;
const SEED: u64 = 4_475;
/// Mutants between two steps of a live call, and the time that one takes.
const BETWEEN_STEPS: u64 = 40;
const LIVE_CALLS: usize = 8;
/// A hostile peer's address; those of live calls are others.
const HOSTILE: &str = "127.0.0.66:6000";

fn asked(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => default,
    }
}

/// Says where a failure was.
struct Whereabouts {
    seed: u64,
    mutant: u64,
    bytes: Vec<u8>,
}

impl Drop for Whereabouts {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "TANDEM_MUTANTS_SEED={} mutant {}: {:?}",
                self.seed,
                self.mutant,
                String::from_utf8_lossy(&self.bytes)
            );
        }
    }
}

/// A cluster that accepts whatever comes and answers most of it, and peers that call.
struct World {
    bench: Bench,
    /// Of the cluster and of the hostile peer's mood.
    numbers: Numbers,
    /// What our side has sent to the hostile peer, for it to answer.
    sent: VecDeque<Request>,
    /// Messages for live peers, by the peer's port.
    mail: Vec<VecDeque<Message>>,
    /// Events of live calls, in words.
    news: Vec<VecDeque<String>>,
    answers: u64,
    events: u64,
}

fn live_peer(call: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 9], 7_000 + u16::try_from(call).unwrap()))
}

fn call_of(address: SocketAddr) -> Option<usize> {
    (0..LIVE_CALLS).find(|call| live_peer(*call) == address)
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            bench: Bench::led(),
            numbers: Numbers(seed ^ 0x5555),
            sent: VecDeque::new(),
            mail: vec![VecDeque::new(); LIVE_CALLS],
            news: vec![VecDeque::new(); LIVE_CALLS],
            answers: 0,
            events: 0,
        }
    }

    fn receive(&mut self, flow: &Flow, bytes: &[u8]) {
        let Ok(mut message) = parse(bytes) else { return };
        let written = message.to_bytes();
        // What came in short forms may be longer than any message, written out, and what has as many
        // headers as there may be has one more with its Content-Length.
        let lines = written.split(|byte| *byte == b'\n').count() - 2;
        if written.len() <= MESSAGE_BYTES_MAX && lines <= HEADERS_MAX {
            assert_eq!(parse(&written).as_ref(), Ok(&message), "it is not written back");
        }
        if let Message::Request(request) = &mut message {
            stamp_source(request, flow.remote);
        }
        let unix_ms = self.bench.now.0;
        self.bench.control.on_message(self.bench.now, unix_ms, flow, message);
        self.settle();
    }

    /// Does what the gateway wants, until it wants nothing more.
    fn settle(&mut self) {
        self.bench.control.on_time(self.bench.now);
        while let Some(output) = self.bench.control.next_output() {
            match output {
                Output::Transmit(transmit) => {
                    self.answers += 1;
                    let message = parse(&transmit.bytes).expect("what we send can be read");
                    match call_of(transmit.way.to) {
                        Some(call) => self.mail[call].push_back(message),
                        None => {
                            if let Message::Request(request) = message {
                                self.sent.push_back(request);
                                self.sent.truncate(64);
                            }
                        }
                    }
                }
                Output::Up { up: Up::Event { sequence, event, .. }, .. } => {
                    self.events += 1;
                    let accepted =
                        Accepted { shard: SHARD, sequence, overloaded: false, retry_after_s: 0 };
                    self.bench.control.on_down(self.bench.now, NODE, Down::Accepted(accepted));
                    self.decide(&event);
                    self.bench.control.on_time(self.bench.now);
                }
                Output::Up { up: Up::Done { .. }, .. } => {}
                Output::Media { plan, .. } => panic!("nobody has asked for {plan:?}"),
            }
        }
    }

    /// What a cluster might say.
    fn decide(&mut self, event: &GatewayEvent) {
        match event {
            GatewayEvent::Invite(inbound) => match call_of(inbound.source) {
                Some(call) => {
                    self.news[call].push_back("INVITE".into());
                    self.respond(&inbound.transaction, inbound.request.respond(100, None, None));
                    self.respond(&inbound.transaction, ok(inbound));
                }
                None => {
                    self.respond(&inbound.transaction, inbound.request.respond(100, None, None));
                    match self.numbers.below(4) {
                        0 => {
                            let busy = inbound.request.respond(486, None, Some("t"));
                            self.respond(&inbound.transaction, busy);
                        }
                        1 => self.respond(&inbound.transaction, ok(inbound)),
                        2 => self.call_back(&inbound.request),
                        _ => {}
                    }
                }
            },
            GatewayEvent::Request(inbound) | GatewayEvent::Info { inbound, .. } => {
                let response = match call_of(inbound.source) {
                    Some(call) => {
                        self.news[call].push_back(inbound.request.method.to_string());
                        inbound.request.respond(200, None, None)
                    }
                    None => inbound.request.respond(481, None, None),
                };
                self.respond(&inbound.transaction, response);
            }
            GatewayEvent::Register(register)
            | GatewayEvent::Subscribe(register)
            | GatewayEvent::Message(register) => {
                let response = register.request.respond(200, None, Some("t"));
                self.respond(&register.transaction, response);
            }
            GatewayEvent::Ack { call_id, .. } => {
                if let Some(call) = call_id.strip_prefix("live-") {
                    let call: usize = call.split('-').next().unwrap().parse().unwrap();
                    self.news[call].push_back("ACK".into());
                }
            }
            GatewayEvent::Login(_)
            | GatewayEvent::Cancel { .. }
            | GatewayEvent::Response { .. }
            | GatewayEvent::ClientTimeout { .. }
            | GatewayEvent::AckTimeout { .. }
            | GatewayEvent::RtpSilence { .. }
            | GatewayEvent::Rollover { .. }
            | GatewayEvent::FlowGone { .. }
            | GatewayEvent::SubscriptionGone { .. }
            | GatewayEvent::Recorded(_)
            | GatewayEvent::Holdings(_)
            | GatewayEvent::PeerChange(_)
            | GatewayEvent::RegistrationChange(_)
            | GatewayEvent::Quality(_)
            | GatewayEvent::Digit { .. }
            | GatewayEvent::PromptEnded { .. } => {}
        }
    }

    fn perform(&mut self, body: Body) {
        self.bench.effects += 1;
        let gateway = GatewayId::from("g");
        let effect = Effect {
            id: EffectId { shard: 0, index: self.bench.effects, ordinal: 0 },
            entity: EntityId::Gateway(gateway.clone()),
            gateway,
            body,
        };
        self.bench.control.on_effect(self.bench.now, SHARD, 1, &Arc::new(effect));
    }

    fn respond(&mut self, transaction: &TransactionKey, response: Response) {
        let transaction = transaction.clone();
        self.perform(Body::Respond { transaction, response: Arc::new(response) });
    }

    /// A request of ours to the hostile peer.
    fn call_back(&mut self, like: &Request) {
        let branch = format!("z9hG4bKours{}", self.bench.effects);
        let mut request = super::ours(&branch);
        request.headers.via[0].host = "127.0.0.10".into();
        request.headers.via[0].port = Some(5_060);
        request.headers.call_id = like.headers.call_id.clone();
        let request = Arc::new(request);
        let destination = HOSTILE.parse().unwrap();
        self.perform(Body::Send { request, destination, carrier: Carrier::Udp });
    }
}

fn ok(inbound: &Inbound) -> Response {
    let mut response = inbound.request.respond(200, None, Some("t"));
    response.headers.contact = vec!["<sip:tandem@127.0.0.10:5060>".parse().unwrap()];
    response
}

/// One call of an honest peer, a step at a time; then the next.
struct LiveCall {
    call: usize,
    round: u64,
    step: usize,
}

impl LiveCall {
    const STEPS: usize = 5;

    fn text(&self, method: &str, cseq: u32, tag: &str) -> String {
        let Self { call, round, .. } = *self;
        let address = live_peer(call);
        format!(
            "{method} sip:4003@demo SIP/2.0\r\nVia: SIP/2.0/UDP {address};branch=z9hG4bKlive-{call}-{round}-{method}\r\n\
             From: <sip:live@demo>;tag=l{round}\r\nTo: <sip:4003@demo>{tag}\r\nCall-ID: live-{call}-{round}\r\n\
             CSeq: {cseq} {method}\r\nContact: <sip:live@{address}>\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        )
    }

    fn go_on(&mut self, world: &mut World) {
        let address = live_peer(self.call);
        let flow = Flow::udp(world.bench.control.identity.vip, address);
        let invite = self.text("INVITE", 1, "");
        let (send, statuses, news): (String, &[u16], &[&str]) = match self.step {
            0 => (invite, &[100, 200], &["INVITE"]),
            // Repeated: it is absorbed, for the 200 comes again by its own timer (RFC 6026 §7.1).
            1 => (invite, &[], &[]),
            2 => (self.text("ACK", 1, ";tag=t"), &[], &["ACK"]),
            3 => (self.text("INFO", 2, ";tag=t"), &[200], &["INFO"]),
            _ => (self.text("BYE", 3, ";tag=t"), &[200], &["BYE"]),
        };
        // Repetitions by timer of what came before.
        world.mail[self.call].clear();
        world.receive(&flow, send.as_bytes());
        let found: Vec<u16> = world.mail[self.call]
            .drain(..)
            .map(|message| match message {
                Message::Response(response) => response.status,
                Message::Request(request) => panic!("{request:?}"),
            })
            .collect();
        assert_eq!(found, statuses, "step {} of a live call", self.step);
        let told: Vec<String> = world.news[self.call].drain(..).collect();
        assert_eq!(told, news, "step {} of a live call", self.step);
        self.step += 1;
        if self.step == Self::STEPS {
            (self.step, self.round) = (0, self.round + 1);
        }
    }
}

/// The torture messages, and behind them what phones and carriers say all day.
struct Corpus {
    messages: Vec<Vec<u8>>,
    torture: usize,
}

impl Corpus {
    fn any(&self, numbers: &mut Numbers) -> &[u8] {
        let of = match numbers.below(4) {
            0 => &self.messages[..self.torture],
            _ => &self.messages[self.torture..],
        };
        &of[numbers.below(of.len())]
    }
}

fn corpus(unix_ms: u64) -> Corpus {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../actors/sip/torture");
    let mut files = Vec::new();
    for folder in [folder.clone(), folder.join("rfc4475"), folder.join("rfc5118")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|it| it == "sip" || it == "dat") {
                files.push(path);
            }
        }
    }
    // A folder is read in any order.
    files.sort();
    let torture = files.len();
    let mut messages: Vec<_> = files.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
               m=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n";
    let parts = format!(
        "--x\r\nContent-Type: application/isup\r\nContent-Disposition: signal;handling=optional\r\n\r\n\
         \u{1}\r\n--x\r\nContent-Type: application/sdp\r\n\r\n{sdp}\r\n--x--\r\n"
    );
    let nonce = format!("{unix_ms:016x}{:016x}{:032x}", 1, 2);
    let challenge = digest::challenge("demo.tandem", &nonce, false);
    let proof =
        digest::answer(&challenge, "1001", "tandem-1001", "REGISTER", "sip:demo", "c").unwrap();
    let typed = "Content-Type: application/sdp\r\n";
    for (method, to, more, body) in [
        ("INVITE", "", typed, sdp),
        ("INVITE", "", "", ""),
        ("INVITE", "", "Content-Type: multipart/mixed;boundary=x\r\n", parts.as_str()),
        ("INVITE", ";tag=t", typed, sdp),
        ("ACK", ";tag=t", typed, sdp),
        ("ACK", "", "", ""),
        ("CANCEL", "", "", ""),
        ("BYE", ";tag=t", "Reason: Q.850;cause=16\r\n", ""),
        ("UPDATE", ";tag=t", typed, sdp),
        (
            "INFO",
            ";tag=t",
            "Content-Type: application/dtmf-relay\r\n",
            "Signal=5\r\nDuration=160\r\n",
        ),
        ("OPTIONS", "", "Accept: application/sdp\r\n", ""),
        ("PRACK", ";tag=t", "RAck: 1 1 INVITE\r\n", ""),
        ("REFER", ";tag=t", "Refer-To: <sip:1002@demo?Replaces=a%40b>\r\n", ""),
        ("REGISTER", "", "Expires: 60\r\n", ""),
        ("REGISTER", "", &format!("Authorization: {proof}\r\nExpires: 60\r\n"), ""),
    ] {
        messages.push(
            format!(
                "{method} sip:4003@demo SIP/2.0\r\nVia: SIP/2.0/UDP {HOSTILE};branch=z9hG4bKBRANCH;rport\r\n\
                 Max-Forwards: 70\r\nFrom: \"Eve\" <sip:eve@demo>;tag=fBRANCH\r\nTo: <sip:4003@demo>{to}\r\n\
                 Call-ID: call-BRANCH\r\nCSeq: 1 {method}\r\nContact: <sip:eve@{HOSTILE}>\r\n\
                 Supported: timer, replaces\r\nAllow: INVITE, BYE\r\n{more}Content-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes(),
        );
    }
    Corpus { messages, torture }
}

/// Gives a message of a flow a name of its own, or one that came not long ago: so that ACK, CANCEL
/// and BYE meet their INVITE, and repetitions their first.
fn named(numbers: &mut Numbers, message: &[u8], count: u64) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(message) else { return message.to_vec() };
    let near = numbers.below(8) as u64;
    text.replace("BRANCH", &count.saturating_sub(near).to_string()).into_bytes()
}

/// A mutant of the corpus, or of an answer to a request of ours.
fn next_mutant(world: &World, numbers: &mut Numbers, corpus: &Corpus, count: u64) -> Vec<u8> {
    let other = corpus.any(numbers);
    if !world.sent.is_empty() && numbers.below(8) == 0 {
        let request = &world.sent[numbers.below(world.sent.len())];
        let status = [100, 180, 183, 200, 302, 401, 486, 503, 603][numbers.below(9)];
        let response = request.respond(status, None, Some("eve")).to_bytes();
        return mutant(numbers, &response, other);
    }
    let message = corpus.any(numbers);
    let message = named(numbers, message, count);
    mutant(numbers, &message, other)
}

#[test]
fn mutants_harm_nobody() {
    let (mutants, seed) = (asked("TANDEM_MUTANTS", MUTANTS), asked("TANDEM_MUTANTS_SEED", SEED));
    println!("{mutants} mutants, TANDEM_MUTANTS_SEED={seed}");
    let mut numbers = Numbers(seed);
    let mut world = World::new(seed);
    let corpus = corpus(world.bench.now.0);
    let mut live: Vec<LiveCall> =
        (0..LIVE_CALLS).map(|call| LiveCall { call, round: 0, step: 0 }).collect();
    let mut at = Whereabouts { seed, mutant: 0, bytes: Vec::new() };
    let mut greatest = [0; 2];
    for count in 1..=mutants {
        at.mutant = count;
        at.bytes = next_mutant(&world, &mut numbers, &corpus, count);
        let peer = HOSTILE.parse().unwrap();
        let vip = world.bench.control.identity.vip;
        let flow = match numbers.below(4) {
            0 => Flow::tcp(vip, peer, ConnectionId(1 + numbers.below(4) as u64)),
            _ => Flow::udp(vip, peer),
        };
        world.receive(&flow, &at.bytes);
        if count % BETWEEN_STEPS == 0 {
            // A tenth of a second: 400 datagrams in one.
            world.bench.pass(100);
            world.settle();
            let turn = usize::try_from(count / BETWEEN_STEPS).unwrap() % LIVE_CALLS;
            live[turn].go_on(&mut world);
            let sizes = world.bench.control.sizes();
            assert!(sizes.servers + sizes.clients <= 2 * limits::TRANSACTIONS_MAX);
            assert_eq!(sizes.events, 0, "all that was accepted is forgotten");
            let half = usize::from(count > mutants / 2);
            greatest[half] = greatest[half].max(sizes.servers + sizes.clients + sizes.timers);
        }
    }
    println!("{} answers, {} events, at most {greatest:?} held", world.answers, world.events);
    assert!(world.answers > mutants / 20 && world.events > mutants / 20, "they went deep");
    assert!(
        live.iter().all(|call| call.round > 0 || mutants < 20_000),
        "calls were held meanwhile"
    );
    // An INVITE without an answer is held for a quarter of an hour, which a million mutants last.
    assert!(greatest[1] < 2 * greatest[0] + 1_000, "it grows: {greatest:?}");
    // What is left behind goes by itself.
    let end = world.bench.now.after(limits::INVITE_MS_MAX + 2 * limits::REQUEST_MS_MAX);
    while let Some(due) = world.bench.control.wake_at().filter(|due| *due <= end) {
        world.bench.now = Millis(due.0.max(world.bench.now.0));
        world.settle();
    }
    let sizes = world.bench.control.sizes();
    assert_eq!((sizes.servers, sizes.clients, sizes.events, sizes.timers), (0, 0, 0, 0));
    assert!(sizes.kept <= limits::KEPT_MAX);
}
