//! The user agent: one UDP socket, one task, any number of calls.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use parking_lot::Mutex;
use tandem_media::endpoint::{Endpoint, EndpointPool};
use tandem_sip::dialog::Dialog;
use tandem_sip::sdp::{self, Audio, Codec, Direction, Payload};
use tandem_sip::{
    CSeq, Headers, Message, Method, NameAddr, Param, Request, Response, Scheme, Transport, Uri, Via,
};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::exchange::{Exchanges, branch};

/// RFC 3261 §17.1.1.1; a 200 of ours is repeated at this pace until its ACK.
const T1_MS: u64 = 500;
const T2_MS: u64 = 4_000;
const DATAGRAM_BYTES_MAX: usize = 65_535;

#[derive(Clone)]
pub struct Options {
    /// Extension or caller number.
    pub user: String,
    pub password: String,
    /// The service address that the phone talks to.
    pub server: SocketAddr,
    /// Where the phone itself lives.
    pub bind: IpAddr,
    pub incoming: Incoming,
    /// What the phone plays, so that a listener can tell who is heard.
    pub tone_hz: u32,
}

/// What the phone does with a call that comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming {
    Answer {
        after_ms: u64,
    },
    /// Rings and is not picked up.
    Ring,
    Reject {
        status: u16,
    },
}

/// How a call ended, seen from the phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    ByPeer,
    ByMe {
        status: u16,
    },
    Refused {
        status: u16,
    },
    Cancelled,
    /// The peer never answered.
    Silent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallEnd {
    Live,
    Over(Ended),
}

/// Something that a correct peer never does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A second INVITE transaction for a call that has one.
    SecondTransaction { call_id: String },
    /// A request whose CSeq did not grow.
    CseqNotHigher { call_id: String, had: u32, got: u32 },
    /// Two 200s to one INVITE that differ.
    AnswerChanged { call_id: String },
}

/// One call as the phone sees it.
pub struct Call {
    pub call_id: String,
    pub incoming: bool,
    /// Who calls or is called.
    pub peer: String,
    pub ringing: bool,
    pub answered_at: Option<Instant>,
    pub invited_at: Instant,
    pub end: CallEnd,
    pub media: Option<Arc<Endpoint>>,
    dialog: Option<Dialog>,
    invite: Request,
    local_tag: String,
    answer: Option<Vec<u8>>,
    repeat: Option<Repeat>,
    remote_cseq: u32,
    acked: Option<Vec<u8>>,
}

/// A 200 of ours that waits for its ACK (RFC 3261 §13.3.1.4).
struct Repeat {
    next: Instant,
    interval_ms: u64,
    destination: SocketAddr,
}

enum Command {
    Register {
        expires_s: u32,
        done: oneshot::Sender<Result<u16>>,
    },
    Dial {
        number: String,
        call_id: String,
    },
    HangUp {
        call_id: String,
        done: oneshot::Sender<Result<u16>>,
    },
    Cancel {
        call_id: String,
    },
    Answer {
        call_id: String,
    },
    SetIncoming(Incoming),
    FinalOfDial {
        call_id: String,
        response: Option<Response>,
    },
    FinalOfBye {
        call_id: String,
        response: Option<Response>,
    },
    FinalOfRegister {
        response: Option<Response>,
        first: bool,
        expires_s: u32,
        done: oneshot::Sender<Result<u16>>,
    },
}

struct Shared {
    calls: Mutex<BTreeMap<String, Call>>,
    violations: Mutex<Vec<Violation>>,
    changed: watch::Sender<u64>,
}

/// A handle; the phone lives until it is dropped.
pub struct Phone {
    commands: mpsc::UnboundedSender<Command>,
    shared: Arc<Shared>,
    pub address: SocketAddr,
    pub user: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Phone {
    pub async fn start(options: Options, pool: Arc<EndpointPool>) -> Result<Self> {
        let socket = UdpSocket::bind((options.bind, 0)).await?;
        let address = socket.local_addr()?;
        let (commands, inbox) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            calls: Mutex::default(),
            violations: Mutex::default(),
            changed: watch::channel(0).0,
        });
        let agent = Agent {
            options: options.clone(),
            address,
            socket,
            pool,
            shared: Arc::clone(&shared),
            exchanges: Exchanges::default(),
            commands: commands.clone(),
            register_cseq: 0,
            answer_at: BTreeMap::new(),
            seen_branches: BTreeSet::new(),
            answers: BTreeMap::new(),
        };
        let task = tokio::spawn(agent.run(inbox));
        Ok(Self { commands, shared, address, user: options.user, task })
    }

    /// Registers, with the digest answer to the challenge. Gives the final status.
    pub async fn register(&self, expires_s: u32) -> Result<u16> {
        let (done, answer) = oneshot::channel();
        self.commands.send(Command::Register { expires_s, done }).ok().context("phone is gone")?;
        answer.await?
    }

    /// Sends an INVITE; gives the Call-ID at once.
    pub fn dial(&self, number: &str) -> Result<String> {
        let call_id = format!("{:016x}@phone", rand::random::<u64>());
        self.commands
            .send(Command::Dial { number: number.to_owned(), call_id: call_id.clone() })
            .ok()
            .context("phone is gone")?;
        Ok(call_id)
    }

    /// Sends BYE; gives its final status.
    pub async fn hang_up(&self, call_id: &str) -> Result<u16> {
        let (done, answer) = oneshot::channel();
        self.commands
            .send(Command::HangUp { call_id: call_id.to_owned(), done })
            .ok()
            .context("phone is gone")?;
        answer.await?
    }

    pub fn cancel(&self, call_id: &str) -> Result<()> {
        let command = Command::Cancel { call_id: call_id.to_owned() };
        self.commands.send(command).ok().context("phone is gone")
    }

    /// Picks up a ringing call.
    pub fn answer(&self, call_id: &str) -> Result<()> {
        let command = Command::Answer { call_id: call_id.to_owned() };
        self.commands.send(command).ok().context("phone is gone")
    }

    pub fn set_incoming(&self, incoming: Incoming) -> Result<()> {
        self.commands.send(Command::SetIncoming(incoming)).ok().context("phone is gone")
    }

    pub fn with_calls<R>(&self, look: impl FnOnce(&BTreeMap<String, Call>) -> R) -> R {
        look(&self.shared.calls.lock())
    }

    /// Drops a call that is over, with its RTP socket.
    pub fn forget(&self, call_id: &str) {
        self.shared.calls.lock().remove(call_id);
    }

    pub fn violations(&self) -> Vec<Violation> {
        self.shared.violations.lock().clone()
    }

    /// Waits until `found` gives something of the phone's calls.
    pub async fn until<T>(
        &self,
        what: &str,
        within: Duration,
        mut found: impl FnMut(&BTreeMap<String, Call>) -> Option<T>,
    ) -> Result<T> {
        let mut changed = self.shared.changed.subscribe();
        let deadline = Instant::now() + within;
        loop {
            if let Some(value) = self.with_calls(&mut found) {
                return Ok(value);
            }
            match tokio::time::timeout_at(deadline, changed.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => bail!("phone {} is gone", self.user),
                Err(_) => {
                    bail!("phone {}: {what} did not happen within {within:?}", self.user)
                }
            }
        }
    }

    /// Waits until the call is answered; gives the time from INVITE to 200.
    pub async fn answered(&self, call_id: &str, within: Duration) -> Result<Duration> {
        self.until("answer", within, |calls| {
            let call = calls.get(call_id)?;
            call.answered_at.map(|at| at.duration_since(call.invited_at))
        })
        .await
    }

    pub async fn ended(&self, call_id: &str, within: Duration) -> Result<Ended> {
        self.until("end of call", within, |calls| match calls.get(call_id)?.end {
            CallEnd::Live => None,
            CallEnd::Over(ended) => Some(ended),
        })
        .await
    }
}

struct Agent {
    options: Options,
    address: SocketAddr,
    socket: UdpSocket,
    pool: Arc<EndpointPool>,
    shared: Arc<Shared>,
    exchanges: Exchanges,
    commands: mpsc::UnboundedSender<Command>,
    register_cseq: u32,
    /// When an incoming call is to be picked up.
    answer_at: BTreeMap<String, Instant>,
    /// Branches of INVITEs that came in, by Call-ID.
    seen_branches: BTreeSet<(String, String)>,
    /// The last response to a request of the peer, by branch and method.
    answers: BTreeMap<(String, String), Vec<u8>>,
}

impl Agent {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        let mut datagram = vec![0_u8; DATAGRAM_BYTES_MAX];
        loop {
            let wake = self.next_wake();
            let sleep = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                received = self.socket.recv_from(&mut datagram) => {
                    if let Ok((len, source)) = received
                        && let Ok(message) = tandem_sip::parse(&datagram[..len])
                    {
                        self.on_message(message, source).await;
                    }
                }
                command = inbox.recv() => match command {
                    Some(command) => self.on_command(command).await,
                    None => return,
                },
                () = sleep => self.on_time().await,
            }
            self.shared.changed.send_modify(|n| *n += 1);
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        let calls = self.shared.calls.lock();
        let repeats = calls.values().filter_map(|call| call.repeat.as_ref().map(|r| r.next)).min();
        let answers = self.answer_at.values().min().copied();
        [self.exchanges.next(), repeats, answers].into_iter().flatten().min()
    }

    async fn send(&self, bytes: &[u8], to: SocketAddr) {
        // A lost datagram is UDP's right: the transactions repeat it.
        let _ = self.socket.send_to(bytes, to).await;
    }

    async fn on_time(&mut self) {
        let now = Instant::now();
        for (bytes, to) in self.exchanges.due(now) {
            self.send(&bytes, to).await;
        }
        let mut again = Vec::new();
        for call in self.shared.calls.lock().values_mut() {
            if let (Some(repeat), Some(bytes)) = (call.repeat.as_mut(), call.answer.as_ref())
                && now >= repeat.next
            {
                again.push((bytes.clone(), repeat.destination));
                repeat.interval_ms = (repeat.interval_ms * 2).min(T2_MS);
                repeat.next = now + Duration::from_millis(repeat.interval_ms);
            }
        }
        for (bytes, to) in again {
            self.send(&bytes, to).await;
        }
        let due: Vec<String> = self
            .answer_at
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(call_id, _)| call_id.clone())
            .collect();
        for call_id in due {
            self.answer_at.remove(&call_id);
            self.pick_up(&call_id).await;
        }
    }

    async fn on_command(&mut self, command: Command) {
        match command {
            Command::Register { expires_s, done } => {
                self.send_register(None, true, expires_s, done).await;
            }
            Command::FinalOfRegister { response, first, expires_s, done } => {
                self.on_register_final(response, first, expires_s, done).await;
            }
            Command::Dial { number, call_id } => self.send_invite(&number, call_id).await,
            Command::FinalOfDial { call_id, response } => {
                self.on_dial_final(&call_id, response).await;
            }
            Command::HangUp { call_id, done } => self.send_bye(call_id, done).await,
            Command::FinalOfBye { call_id, response } => {
                let status = response.map_or(0, |response| response.status);
                let ended = if status == 0 { Ended::Silent } else { Ended::ByMe { status } };
                self.end(&call_id, ended);
            }
            Command::Cancel { call_id } => self.send_cancel(&call_id).await,
            Command::Answer { call_id } => self.pick_up(&call_id).await,
            Command::SetIncoming(incoming) => self.options.incoming = incoming,
        }
    }

    async fn on_message(&mut self, message: Message, source: SocketAddr) {
        match message {
            Message::Request(request) => self.on_request(request, source).await,
            Message::Response(response) => self.on_response(response).await,
        }
    }

    // --- what the phone asks for ---------------------------------------------------------------

    fn via(&self) -> Via {
        Via {
            transport: Transport::Udp,
            host: self.address.ip().to_string(),
            port: Some(self.address.port()),
            params: vec![
                param("branch", Some(&format!("z9hG4bK{:016x}", rand::random::<u64>()))),
                param("rport", None),
            ],
        }
    }

    fn own_uri(&self) -> Uri {
        sip_uri(Some(&self.options.user), self.address.ip(), Some(self.address.port()))
    }

    fn server_uri(&self, user: Option<&str>) -> Uri {
        sip_uri(user, self.options.server.ip(), Some(self.options.server.port()))
    }

    /// A request outside any dialog (RFC 3261 §8.1.1).
    fn request(
        &self,
        method: Method,
        uri: Uri,
        to: NameAddr,
        call_id: String,
        cseq: u32,
    ) -> Request {
        let mut from = bare(self.server_uri(Some(&self.options.user)));
        from.params.push(param("tag", Some(&format!("{:08x}", rand::random::<u32>()))));
        Request {
            method: method.clone(),
            uri,
            headers: Headers {
                via: vec![self.via()],
                from,
                to,
                call_id,
                cseq: CSeq { number: cseq, method },
                contact: vec![bare(self.own_uri())],
                route: Vec::new(),
                record_route: Vec::new(),
                max_forwards: Some(70),
                expires: None,
                content_type: None,
                other: Vec::new(),
            },
            body: Vec::new(),
        }
    }

    async fn send_register(
        &mut self,
        authorization: Option<String>,
        first: bool,
        expires_s: u32,
        done: oneshot::Sender<Result<u16>>,
    ) {
        self.register_cseq += 1;
        let aor = bare(self.server_uri(Some(&self.options.user)));
        let mut request = self.request(
            Method::Register,
            self.server_uri(None),
            aor,
            format!("register-{}@phone", self.address.port()),
            self.register_cseq,
        );
        request.headers.expires = Some(expires_s);
        if let Some(value) = authorization {
            request.headers.push_other("Authorization", &value);
        }
        let server = self.options.server;
        let (bytes, answered) = self.exchanges.begin(Instant::now(), &request, server);
        self.send(&bytes, server).await;
        let commands = self.commands.clone();
        tokio::spawn(async move {
            let response = answered.await.ok().flatten();
            let _ = commands.send(Command::FinalOfRegister { response, first, expires_s, done });
        });
    }

    async fn on_register_final(
        &mut self,
        response: Option<Response>,
        first: bool,
        expires_s: u32,
        done: oneshot::Sender<Result<u16>>,
    ) {
        let Some(response) = response else {
            let _ = done.send(Err(anyhow::anyhow!("REGISTER was never answered")));
            return;
        };
        let challenge = response.headers.other("WWW-Authenticate").map(str::to_owned);
        match (response.status, challenge) {
            (401, Some(challenge)) if first => {
                let uri = self.server_uri(None).to_string();
                let cnonce = format!("{:08x}", rand::random::<u32>());
                match tandem_sip::digest::answer(
                    &challenge,
                    &self.options.user,
                    &self.options.password,
                    "REGISTER",
                    &uri,
                    &cnonce,
                ) {
                    Ok(authorization) => {
                        self.send_register(Some(authorization), false, expires_s, done).await;
                    }
                    Err(error) => {
                        let _ = done.send(Err(anyhow::anyhow!("challenge: {error}")));
                    }
                }
            }
            (status, _) => {
                let _ = done.send(Ok(status));
            }
        }
    }

    fn audio(&self, endpoint: &Endpoint) -> Audio {
        Audio {
            address: self.address.ip(),
            port: endpoint.port(),
            payloads: vec![
                Payload { number: 0, codec: Codec::Pcmu },
                Payload { number: 8, codec: Codec::Pcma },
            ],
            telephone_event: Some(101),
            direction: Direction::SendRecv,
            ptime_ms: Some(20),
            session_id: u64::from(endpoint.port()),
            session_version: 1,
        }
    }

    fn open_media(&self) -> Option<Arc<Endpoint>> {
        self.pool.open(self.address.ip()).map(Arc::new).ok()
    }

    async fn send_invite(&mut self, number: &str, call_id: String) {
        let to = bare(self.server_uri(Some(number)));
        let mut request =
            self.request(Method::Invite, self.server_uri(Some(number)), to, call_id.clone(), 1);
        let media = self.open_media();
        if let Some(endpoint) = &media {
            request.headers.content_type = Some("application/sdp".into());
            request.body = self.audio(endpoint).compose();
        }
        let now = Instant::now();
        let server = self.options.server;
        let (bytes, answered) = self.exchanges.begin(now, &request, server);
        let call = Call {
            call_id: call_id.clone(),
            incoming: false,
            peer: number.to_owned(),
            ringing: false,
            answered_at: None,
            invited_at: now,
            end: CallEnd::Live,
            media,
            dialog: None,
            local_tag: String::new(),
            invite: request,
            answer: None,
            repeat: None,
            remote_cseq: 0,
            acked: None,
        };
        self.shared.calls.lock().insert(call_id.clone(), call);
        self.send(&bytes, server).await;
        let commands = self.commands.clone();
        tokio::spawn(async move {
            let response = answered.await.ok().flatten();
            let _ = commands.send(Command::FinalOfDial { call_id, response });
        });
    }

    /// The 200 itself was acknowledged where it came in; here a refusal or silence is noted.
    async fn on_dial_final(&mut self, call_id: &str, response: Option<Response>) {
        match response {
            None => self.end(call_id, Ended::Silent),
            Some(response) if response.status >= 300 => {
                let ended = match response.status {
                    487 => Ended::Cancelled,
                    status => Ended::Refused { status },
                };
                self.end(call_id, ended);
            }
            Some(_) => {}
        }
    }

    async fn send_bye(&mut self, call_id: String, done: oneshot::Sender<Result<u16>>) {
        let via = self.via();
        let request = {
            let mut calls = self.shared.calls.lock();
            let dialog = calls.get_mut(&call_id).and_then(|call| call.dialog.as_mut());
            dialog.map(|dialog| dialog.request(Method::Bye, via, None))
        };
        let Some(request) = request else {
            let _ = done.send(Err(anyhow::anyhow!("no such answered call")));
            return;
        };
        let server = self.options.server;
        let (bytes, answered) = self.exchanges.begin(Instant::now(), &request, server);
        self.send(&bytes, server).await;
        let commands = self.commands.clone();
        tokio::spawn(async move {
            let response = answered.await.ok().flatten();
            let status = response.as_ref().map(|response| response.status);
            let _ = commands.send(Command::FinalOfBye { call_id, response });
            let _ = done.send(status.context("BYE was never answered"));
        });
    }

    async fn send_cancel(&mut self, call_id: &str) {
        let cancel = self
            .shared
            .calls
            .lock()
            .get(call_id)
            .map(|call| tandem_sip::dialog::cancel_for(&call.invite));
        if let Some(cancel) = cancel {
            self.send(&cancel.to_bytes(), self.options.server).await;
        }
    }

    async fn on_response(&mut self, response: Response) {
        let branch = response
            .headers
            .via
            .first()
            .and_then(|via| via.params.iter().find(|param| param.name == "branch"))
            .and_then(|param| param.value.clone())
            .unwrap_or_default();
        if response.headers.cseq.method == Method::Invite {
            self.on_invite_response(&response).await;
        }
        self.exchanges.on_response(&branch, &response);
    }

    async fn on_invite_response(&mut self, response: &Response) {
        let call_id = response.headers.call_id.clone();
        let via = self.via();
        let mut send = None;
        if let Some(call) = self.shared.calls.lock().get_mut(&call_id) {
            match response.status {
                180..=199 => call.ringing = true,
                200..=299 => send = self.on_answer(call, response, via),
                300..=699 => {
                    let ack = tandem_sip::dialog::ack_for_failure(&call.invite, response);
                    send = Some(ack.to_bytes());
                }
                _ => {}
            }
        }
        if let Some(bytes) = send {
            self.send(&bytes, self.options.server).await;
        }
    }

    /// A 2xx: the first one is taken, a repeated one is acknowledged again with the same ACK.
    fn on_answer(&self, call: &mut Call, response: &Response, via: Via) -> Option<Vec<u8>> {
        let bytes = response.to_bytes();
        if let Some(first) = &call.answer {
            if *first != bytes {
                self.shared
                    .violations
                    .lock()
                    .push(Violation::AnswerChanged { call_id: call.call_id.clone() });
            }
            return call.acked.clone();
        }
        call.answer = Some(bytes);
        call.answered_at = Some(Instant::now());
        let dialog = Dialog::as_uac(&call.invite, response).ok()?;
        let ack = dialog.ack(call.invite.headers.cseq.number, via).to_bytes();
        call.dialog = Some(dialog);
        call.acked = Some(ack.clone());
        if let (Ok(audio), Some(endpoint)) = (Audio::parse(&response.body), &call.media) {
            self.talk(endpoint, &audio);
        }
        Some(ack)
    }

    fn talk(&self, endpoint: &Endpoint, audio: &Audio) {
        let codec = audio.payloads.first().map_or(Codec::Pcmu, |payload| payload.codec);
        endpoint.talk(SocketAddr::new(audio.address, audio.port), codec, self.options.tone_hz);
    }

    fn end(&self, call_id: &str, ended: Ended) {
        if let Some(call) = self.shared.calls.lock().get_mut(call_id)
            && call.end == CallEnd::Live
        {
            call.end = CallEnd::Over(ended);
            call.repeat = None;
            if let Some(endpoint) = &call.media {
                endpoint.hush();
            }
        }
    }

    // --- what is asked of the phone ------------------------------------------------------------

    async fn on_request(&mut self, request: Request, source: SocketAddr) {
        let key = (branch(&request), request.method.to_string());
        if request.method != Method::Ack
            && let Some(bytes) = self.answers.get(&key)
        {
            let bytes = bytes.clone();
            self.send(&bytes, source).await;
            return;
        }
        match request.method {
            Method::Invite => self.on_invite(request, source).await,
            Method::Ack => {
                if let Some(call) = self.shared.calls.lock().get_mut(&request.headers.call_id) {
                    call.repeat = None;
                }
            }
            Method::Cancel => self.on_cancel(request, source).await,
            Method::Bye => {
                self.check_cseq(&request);
                let known = self.shared.calls.lock().contains_key(&request.headers.call_id);
                self.end(&request.headers.call_id, Ended::ByPeer);
                self.respond(&request, if known { 200 } else { 481 }, source).await;
            }
            Method::Options | Method::Info | Method::Update => {
                self.check_cseq(&request);
                self.respond(&request, 200, source).await;
            }
            _ => self.respond(&request, 405, source).await,
        }
    }

    fn check_cseq(&self, request: &Request) {
        if let Some(call) = self.shared.calls.lock().get_mut(&request.headers.call_id) {
            let got = request.headers.cseq.number;
            if got <= call.remote_cseq {
                self.shared.violations.lock().push(Violation::CseqNotHigher {
                    call_id: call.call_id.clone(),
                    had: call.remote_cseq,
                    got,
                });
            }
            call.remote_cseq = got;
        }
    }

    async fn respond(&mut self, request: &Request, status: u16, to: SocketAddr) {
        let tag = self
            .shared
            .calls
            .lock()
            .get(&request.headers.call_id)
            .map(|call| call.local_tag.clone())
            .filter(|tag| !tag.is_empty());
        let response = request.respond(status, None, tag.as_deref());
        let bytes = response.to_bytes();
        self.answers.insert((branch(request), request.method.to_string()), bytes.clone());
        self.send(&bytes, to).await;
    }

    async fn on_invite(&mut self, request: Request, source: SocketAddr) {
        let call_id = request.headers.call_id.clone();
        let known = self.shared.calls.lock().contains_key(&call_id);
        let in_dialog = request.headers.to.params.iter().any(|param| param.name == "tag");
        if known && in_dialog {
            self.check_cseq(&request);
            self.on_reinvite(request, source).await;
            return;
        }
        if known {
            let same = self.seen_branches.contains(&(call_id.clone(), branch(&request)));
            if !same {
                self.shared.violations.lock().push(Violation::SecondTransaction { call_id });
            }
            return;
        }
        self.seen_branches.insert((call_id.clone(), branch(&request)));
        let now = Instant::now();
        let call = Call {
            call_id: call_id.clone(),
            incoming: true,
            peer: request.headers.from.uri.user.clone().unwrap_or_default(),
            ringing: true,
            answered_at: None,
            invited_at: now,
            end: CallEnd::Live,
            media: None,
            dialog: None,
            local_tag: format!("{:08x}", rand::random::<u32>()),
            remote_cseq: request.headers.cseq.number,
            invite: request.clone(),
            answer: None,
            repeat: None,
            acked: None,
        };
        self.shared.calls.lock().insert(call_id.clone(), call);
        match self.options.incoming {
            Incoming::Answer { after_ms } => {
                self.respond_invite(&call_id, 180, source).await;
                self.answer_at.insert(call_id, now + Duration::from_millis(after_ms));
            }
            Incoming::Ring => self.respond_invite(&call_id, 180, source).await,
            Incoming::Reject { status } => {
                self.respond_invite(&call_id, status, source).await;
                self.end(&call_id, Ended::Refused { status });
            }
        }
    }

    /// A response without SDP to the INVITE that came in.
    async fn respond_invite(&mut self, call_id: &str, status: u16, to: SocketAddr) {
        let made = self.shared.calls.lock().get(call_id).map(|call| {
            let mut response = call.invite.respond(status, None, Some(&call.local_tag));
            response.headers.contact = vec![bare(self.own_uri())];
            (response.to_bytes(), branch(&call.invite))
        });
        if let Some((bytes, branch)) = made {
            self.answers.insert((branch, "INVITE".into()), bytes.clone());
            self.send(&bytes, to).await;
        }
    }

    async fn pick_up(&mut self, call_id: &str) {
        let server = self.options.server;
        let media = self.open_media();
        let made = {
            let mut calls = self.shared.calls.lock();
            let call = calls.get_mut(call_id);
            call.filter(|call| call.end == CallEnd::Live && call.answered_at.is_none())
                .and_then(|call| self.accept(call, media, server))
        };
        if let Some((bytes, branch)) = made {
            self.answers.insert((branch, "INVITE".into()), bytes.clone());
            self.send(&bytes, server).await;
        }
    }

    fn accept(
        &self,
        call: &mut Call,
        media: Option<Arc<Endpoint>>,
        server: SocketAddr,
    ) -> Option<(Vec<u8>, String)> {
        let endpoint = media?;
        let offer = Audio::parse(&call.invite.body).ok()?;
        let agreed = sdp::negotiate(&offer, &[Codec::Pcmu, Codec::Pcma]).ok()?;
        let mut answer = self.audio(&endpoint);
        answer.payloads = vec![Payload { number: agreed.payload, codec: agreed.codec }];
        answer.telephone_event = agreed.telephone_event;
        self.talk(&endpoint, &offer);
        let mut response = call.invite.respond(200, None, Some(&call.local_tag));
        response.headers.contact = vec![bare(self.own_uri())];
        response.headers.content_type = Some("application/sdp".into());
        response.body = answer.compose();
        let bytes = response.to_bytes();
        let now = Instant::now();
        call.dialog = Dialog::as_uas(&call.invite, &call.local_tag).ok();
        call.answered_at = Some(now);
        call.answer = Some(bytes.clone());
        call.media = Some(endpoint);
        call.repeat = Some(Repeat {
            next: now + Duration::from_millis(T1_MS),
            interval_ms: T1_MS,
            destination: server,
        });
        Some((bytes, branch(&call.invite)))
    }

    /// Hold, retrieve or refresh: the same media again.
    async fn on_reinvite(&mut self, request: Request, source: SocketAddr) {
        let answer = {
            let calls = self.shared.calls.lock();
            calls.get(&request.headers.call_id).and_then(|call| {
                let endpoint = call.media.as_ref()?;
                let mut response = request.respond(200, None, Some(&call.local_tag));
                response.headers.contact = vec![bare(self.own_uri())];
                response.headers.content_type = Some("application/sdp".into());
                response.body = self.audio(endpoint).compose();
                Some(response.to_bytes())
            })
        };
        match answer {
            Some(bytes) => {
                self.answers.insert((branch(&request), "INVITE".into()), bytes.clone());
                self.send(&bytes, source).await;
            }
            None => self.respond(&request, 488, source).await,
        }
    }

    async fn on_cancel(&mut self, request: Request, source: SocketAddr) {
        let call_id = request.headers.call_id.clone();
        self.respond(&request, 200, source).await;
        let pending = self
            .shared
            .calls
            .lock()
            .get(&call_id)
            .is_some_and(|call| call.end == CallEnd::Live && call.answered_at.is_none());
        if pending {
            self.answer_at.remove(&call_id);
            self.respond_invite(&call_id, 487, source).await;
            self.end(&call_id, Ended::Cancelled);
        }
    }
}

fn param(name: &str, value: Option<&str>) -> Param {
    Param { name: name.into(), value: value.map(str::to_owned) }
}

fn bare(uri: Uri) -> NameAddr {
    NameAddr { display: None, uri, params: Vec::new() }
}

fn sip_uri(user: Option<&str>, host: IpAddr, port: Option<u16>) -> Uri {
    Uri {
        scheme: Scheme::Sip,
        user: user.map(str::to_owned),
        host: host.to_string(),
        port,
        params: Vec::new(),
        headers: None,
    }
}
