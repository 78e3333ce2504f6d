//! The callers: all of a plan's calls from one socket.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;
use tandem_sip::dialog::{Dialog, ack_for_failure};
use tandem_sip::{CSeq, Headers, Message, Method, Request, Response};

use super::{Called, GIVE_UP, HIGHEST_US, Line, Media, Outcome, Plan, T1, bare, param, uri};

/// What a call waits for.
enum Waits {
    /// The answer to its INVITE.
    Answer,
    /// Its time to hang up, or the other side's BYE.
    Talk,
    /// The answer to its BYE.
    End,
}

struct Call {
    invited: Instant,
    tried: bool,
    waits: Waits,
    /// What is sent until it is answered.
    last: Request,
    dialog: Option<Dialog>,
    ack: Vec<u8>,
    /// The last of `last` to be sent.
    sent: Instant,
    interval: Duration,
    since: Instant,
}

struct Callers<'a> {
    plan: &'a Plan,
    line: Line,
    audio: Vec<u8>,
    called: Called,
    calls: HashMap<String, Call>,
    /// In the order in which they hang up.
    talking: VecDeque<(Instant, String)>,
    outcome: Outcome,
}

/// Makes the plan's calls and waits for the end of each.
pub fn call(plan: &Plan, called: Called, media: Arc<Media>) -> Result<Outcome> {
    let line = Line::open(plan.server, media)?;
    let audio = line.audio()?;
    let outcome = Outcome {
        trying_us: Histogram::new_with_bounds(1, HIGHEST_US, 3)?,
        answered_us: Histogram::new_with_bounds(1, HIGHEST_US, 3)?,
        refused_us: Histogram::new_with_bounds(1, HIGHEST_US, 3)?,
        failed: BTreeMap::new(),
        repeated: 0,
        came_at_most: 0,
        calls: 0,
    };
    let mut callers = Callers {
        plan,
        line,
        audio,
        called,
        calls: HashMap::new(),
        talking: VecDeque::new(),
        outcome,
    };
    callers.run();
    callers.outcome.came_at_most = callers.line.came_at_most();
    Ok(callers.outcome)
}

impl Callers<'_> {
    fn run(&mut self) {
        let total = u64::from(self.plan.calls_a_second) * u64::from(self.plan.seconds);
        let every = Duration::from_secs(1) / self.plan.calls_a_second;
        let mut next_call = Instant::now();
        let mut next_look = next_call + T1;
        while self.outcome.calls < total || !self.calls.is_empty() {
            let now = Instant::now();
            while self.outcome.calls < total && next_call <= now {
                self.invite(now);
                next_call += every;
            }
            self.hang_up(now);
            if next_look <= now {
                self.repeat(now);
                next_look = now + T1 / 10;
            }
            let hang_up = self.talking.front().map(|(at, _)| *at);
            let call = (self.outcome.calls < total).then_some(next_call);
            let wake = [hang_up, call, Some(next_look)].into_iter().flatten().min();
            let wait = wake.map_or(T1, |at| at.saturating_duration_since(Instant::now()));
            match self.line.next(wait) {
                Some(Message::Response(response)) => self.on_response(&response),
                Some(Message::Request(request)) => self.on_request(&request),
                None => {}
            }
        }
    }

    fn invite(&mut self, now: Instant) {
        let number = format!("1{:010}", self.outcome.calls);
        self.outcome.calls += 1;
        let call_id = format!("{number}-{:08x}@load", rand::random::<u32>());
        let mut from = self.line.own(&number);
        from.params.push(param("tag", Some(&format!("{:08x}", rand::random::<u32>()))));
        let to = uri(Some(self.plan.number), self.plan.server);
        let request = Request {
            method: Method::Invite,
            uri: to.clone(),
            headers: Headers {
                via: vec![self.line.via()],
                from,
                to: bare(to),
                call_id: call_id.clone(),
                cseq: CSeq { number: 1, method: Method::Invite },
                contact: vec![self.line.own(&number)],
                route: Vec::new(),
                record_route: Vec::new(),
                max_forwards: Some(70),
                expires: None,
                content_type: Some("application/sdp".into()),
                other: Vec::new(),
            },
            body: self.audio.clone(),
        };
        self.called.lock().insert(number, now);
        self.line.send(&request.to_bytes());
        let call = Call {
            invited: now,
            tried: false,
            waits: Waits::Answer,
            last: request,
            dialog: None,
            ack: Vec::new(),
            sent: now,
            interval: T1,
            since: now,
        };
        self.calls.insert(call_id, call);
    }

    fn on_response(&mut self, response: &Response) {
        let call_id = &response.headers.call_id;
        let Some(call) = self.calls.get_mut(call_id) else { return };
        if response.headers.cseq.method == Method::Bye {
            if response.status != 200 {
                self.outcome.failed(format!("BYE was answered {}", response.status));
            }
            self.calls.remove(call_id);
            return;
        }
        let micros = u64::try_from(call.invited.elapsed().as_micros()).unwrap_or(u64::MAX);
        if !call.tried && response.status < 200 {
            call.tried = true;
            self.outcome.trying_us.saturating_record(micros);
        }
        match (response.status, &call.waits) {
            (200..=299, Waits::Answer) => {
                self.outcome.answered_us.saturating_record(micros);
                let Ok(dialog) = Dialog::as_uac(&call.last, response) else {
                    self.outcome.failed("a 200 that makes no dialog".into());
                    self.calls.remove(call_id);
                    return;
                };
                self.line.media.talk_to(call_id, &response.body);
                call.ack = dialog.ack(1, self.line.via()).to_bytes();
                self.line.send(&call.ack);
                call.dialog = Some(dialog);
                call.waits = Waits::Talk;
                self.talking.push_back((Instant::now() + self.plan.hold, call_id.clone()));
            }
            (200..=299, Waits::Talk | Waits::End) => self.line.send(&call.ack),
            (300.., Waits::Answer) => {
                self.outcome.refused_us.saturating_record(micros);
                self.line.send(&ack_for_failure(&call.last, response).to_bytes());
                self.outcome.failed(format!("INVITE was answered {}", response.status));
                self.calls.remove(call_id);
            }
            (300.., Waits::Talk | Waits::End) | (0..=199, _) => {}
        }
    }

    fn on_request(&mut self, request: &Request) {
        if request.method == Method::Ack {
            return;
        }
        let call_id = &request.headers.call_id;
        let status = if self.calls.contains_key(call_id) { 200 } else { 481 };
        if request.method == Method::Invite {
            // Media moves to the agent within the dialog: the same description again.
            let mut response = request.respond(status, None, None);
            response.headers.contact = vec![self.line.own("load")];
            response.headers.content_type = Some("application/sdp".into());
            response.body = self.audio.clone();
            self.line.send(&response.to_bytes());
            return;
        }
        self.line.send(&request.respond(status, None, None).to_bytes());
        if request.method == Method::Bye && self.calls.remove(call_id).is_some() {
            self.line.media.hush(call_id);
            self.outcome.failed("BYE of the other side".into());
        }
    }

    fn hang_up(&mut self, now: Instant) {
        while self.talking.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, call_id)) = self.talking.pop_front() else { return };
            let Some(call) = self.calls.get_mut(&call_id) else { continue };
            let Some(dialog) = call.dialog.as_mut() else { continue };
            call.last = dialog.request(Method::Bye, self.line.via(), None);
            (call.waits, call.sent, call.since) = (Waits::End, now, now);
            call.interval = T1;
            self.line.media.hush(&call_id);
            self.line.send(&call.last.to_bytes());
        }
    }

    /// Sends again what was not answered (RFC 3261 §17.1); gives up in the end.
    fn repeat(&mut self, now: Instant) {
        let (line, outcome) = (&self.line, &mut self.outcome);
        self.calls.retain(|_, call| {
            let waits = match call.waits {
                Waits::Answer if call.tried => "no final answer to INVITE",
                Waits::Answer => "no answer to INVITE",
                Waits::Talk => return true,
                Waits::End => "no answer to BYE",
            };
            if now.duration_since(call.since) >= GIVE_UP {
                outcome.failed(waits.into());
                return false;
            }
            let silent = !(call.tried && matches!(call.waits, Waits::Answer));
            if silent && now.duration_since(call.sent) >= call.interval {
                line.send(&call.last.to_bytes());
                outcome.repeated += 1;
                call.sent = now;
                call.interval *= 2;
            }
            true
        });
    }
}

impl Outcome {
    fn failed(&mut self, why: String) {
        *self.failed.entry(why).or_default() += 1;
    }
}
