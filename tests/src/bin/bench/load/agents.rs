//! The agents: registered at one socket, they pick up at once.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use hdrhistogram::Histogram;
use tandem_sip::{CSeq, Headers, Message, Method, Request};

use super::{Called, HIGHEST_US, Line, Media, T1, bare, branch, param, uri};

const REGISTER_S: u32 = 3_600;
const REGISTER_TRIES_MAX: u32 = 20;
/// How often it is looked whether the agents shall go home.
const LOOK: Duration = Duration::from_millis(100);
/// Timer H of a 200 that is not acknowledged.
const REPEATS_MAX: u32 = 10;

/// What the agents saw.
pub struct Seen {
    /// From a caller's INVITE to the agent's, microseconds.
    pub offered_us: Histogram<u64>,
    /// Calls whose 200 was acknowledged.
    pub connected: u64,
    /// How often the server sent the message that it sent most often.
    pub came_at_most: u32,
}

pub struct Agents {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Result<Seen>>,
}

struct Answer {
    branch: String,
    response: Vec<u8>,
    sent: Instant,
    repeats: u32,
    acknowledged: bool,
}

impl Agents {
    /// Registers all of them; their passwords are those of the demo tenant's kind.
    pub fn register(
        server: SocketAddr,
        users: &[String],
        called: Called,
        media: Arc<Media>,
    ) -> Result<Self> {
        let mut line = Line::open(server, media)?;
        for user in users {
            register(&mut line, user).with_context(|| format!("register {user}"))?;
        }
        let over = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&over);
        let thread = std::thread::spawn(move || serve(line, &called, &flag));
        Ok(Self { over, thread })
    }

    pub fn go_home(self) -> Result<Seen> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the agents' thread panicked"))?
    }
}

fn register(line: &mut Line, user: &str) -> Result<()> {
    let call_id = format!("{:016x}@load", rand::random::<u64>());
    let mut authorization = None;
    for cseq in 1..=REGISTER_TRIES_MAX {
        let request = registration(line, user, &call_id, cseq, authorization.take());
        line.send(&request.to_bytes());
        let Some(Message::Response(response)) = line.next(T1) else { continue };
        match (response.status, response.headers.other("WWW-Authenticate")) {
            (200, _) => return Ok(()),
            (401, Some(challenge)) => {
                let password = format!("tandem-{user}");
                let to = uri(None, line.server).to_string();
                let cnonce = format!("{:08x}", rand::random::<u32>());
                let answer = tandem_sip::digest::answer(
                    challenge, user, &password, "REGISTER", &to, &cnonce,
                );
                authorization = Some(answer.map_err(|error| anyhow::anyhow!("{error}"))?);
            }
            (status, _) => ensure!(status < 200 || status == 503, "REGISTER was answered {status}"),
        }
    }
    bail!("no registration after {REGISTER_TRIES_MAX} tries")
}

fn registration(
    line: &Line,
    user: &str,
    call_id: &str,
    cseq: u32,
    authorization: Option<String>,
) -> Request {
    let mut from = bare(uri(Some(user), line.server));
    let to = from.clone();
    from.params.push(param("tag", Some("load")));
    let mut headers = Headers {
        via: vec![line.via()],
        from,
        to,
        call_id: call_id.to_owned(),
        cseq: CSeq { number: cseq, method: Method::Register },
        contact: vec![line.own(user)],
        route: Vec::new(),
        record_route: Vec::new(),
        max_forwards: Some(70),
        expires: Some(REGISTER_S),
        content_type: None,
        other: Vec::new(),
    };
    if let Some(value) = authorization {
        headers.push_other("Authorization", &value);
    }
    Request { method: Method::Register, uri: uri(None, line.server), headers, body: Vec::new() }
}

fn serve(mut line: Line, called: &Called, over: &AtomicBool) -> Result<Seen> {
    let audio = line.audio()?;
    let mut seen = Seen {
        offered_us: Histogram::new_with_bounds(1, HIGHEST_US, 3)?,
        connected: 0,
        came_at_most: 0,
    };
    let mut answers: HashMap<String, Answer> = HashMap::new();
    let mut next_look = Instant::now() + LOOK;
    while !over.load(Ordering::Relaxed) {
        if Instant::now() >= next_look {
            repeat(&line, &mut answers);
            next_look = Instant::now() + LOOK;
        }
        let wait = next_look.saturating_duration_since(Instant::now());
        let Some(Message::Request(request)) = line.next(wait) else { continue };
        let call_id = &request.headers.call_id;
        match request.method {
            Method::Invite => {
                if let Some(answer) = answers.get(call_id)
                    && answer.branch == branch(&request)
                {
                    line.send(&answer.response);
                    continue;
                }
                if !request.is_in_dialog() {
                    let caller = request.headers.from.uri.user.as_deref().unwrap_or_default();
                    if let Some(at) = called.lock().remove(caller) {
                        let micros = u64::try_from(at.elapsed().as_micros()).unwrap_or(u64::MAX);
                        seen.offered_us.saturating_record(micros);
                    }
                }
                let user = request.uri.user.clone().unwrap_or_default();
                let mut response = request.respond(200, None, Some("agent"));
                response.headers.contact = vec![line.own(&user)];
                response.headers.content_type = Some("application/sdp".into());
                response.body = audio.clone();
                let answer = Answer {
                    branch: branch(&request).to_owned(),
                    response: response.to_bytes(),
                    sent: Instant::now(),
                    repeats: 0,
                    acknowledged: false,
                };
                line.send(&answer.response);
                line.media.talk_to(call_id, &request.body);
                answers.insert(call_id.clone(), answer);
            }
            Method::Ack => {
                if let Some(answer) = answers.get_mut(call_id)
                    && !std::mem::replace(&mut answer.acknowledged, true)
                    && request.headers.cseq.number == 1
                {
                    seen.connected += 1;
                }
            }
            Method::Bye => {
                line.media.hush(call_id);
                let status = if answers.remove(call_id).is_some() { 200 } else { 481 };
                line.send(&request.respond(status, None, Some("agent")).to_bytes());
            }
            _ => line.send(&request.respond(200, None, Some("agent")).to_bytes()),
        }
    }
    seen.came_at_most = line.came_at_most();
    Ok(seen)
}

fn repeat(line: &Line, answers: &mut HashMap<String, Answer>) {
    for answer in answers.values_mut() {
        if !answer.acknowledged && answer.repeats < REPEATS_MAX && answer.sent.elapsed() >= T1 {
            line.send(&answer.response);
            answer.sent = Instant::now();
            answer.repeats += 1;
        }
    }
}
