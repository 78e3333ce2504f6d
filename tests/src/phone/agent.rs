//! The user agent: one line, one task, any number of calls.

mod called;
mod calling;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tandem_media::endpoint::{Endpoint, EndpointPool};
use tandem_media::{Keys, Rollover};
use tandem_sip::dialog::Dialog;
use tandem_sip::sdp::{self, Audio, Beside, Codec, Direction, Payload};
use tandem_sip::srtp::{Crypto, Key, Suite};
use tandem_sip::{
    CSeq, Headers, Message, Method, NameAddr, Param, Request, Response, Scheme, Uri, Via,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::call::{Call, CallEnd, Ended, Incoming, Options, Repeat, Violation};
use super::exchange::{Exchanges, branch};
use super::handle::Shared;
use super::line::{Event, Line};

/// A REGISTER of a phone that is back and was not taken is sent again after so long.
const REGISTER_AGAIN_MS: u64 = 500;
/// RFC 3261 §17.1.1.1; a 200 of ours is repeated at this pace until its ACK.
const T1_MS: u64 = 500;
const T2_MS: u64 = 4_000;

pub(super) enum Command {
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
    Hold {
        call_id: String,
        held: bool,
        done: oneshot::Sender<Result<u16>>,
    },
    Refer {
        call_id: String,
        to: String,
        /// The dialog whose place the call shall take.
        replaces: Option<String>,
        done: oneshot::Sender<Result<u16>>,
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
        done: oneshot::Sender<Result<u16>>,
    },
    FinalOfRegister {
        response: Option<Response>,
        first: bool,
        expires_s: u32,
        done: oneshot::Sender<Result<u16>>,
    },
}

pub(super) struct Agent {
    pub(super) options: Options,
    pub(super) address: SocketAddr,
    pub(super) line: Line,
    pub(super) pool: Arc<EndpointPool>,
    pub(super) shared: Arc<Shared>,
    pub(super) exchanges: Exchanges,
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) register_cseq: u32,
    /// For how long it has registered: what it does again over each new connection.
    pub(super) registered_s: Option<u32>,
    pub(super) register_at: Option<Instant>,
    /// Where it sends its calls.
    pub(super) moved: Option<NameAddr>,
    /// When an incoming call is to be picked up.
    pub(super) answer_at: BTreeMap<String, Instant>,
    /// Branches of INVITEs that came in, by Call-ID.
    pub(super) seen_branches: BTreeSet<(String, String)>,
    /// The last response to a request of the peer, by branch and method.
    pub(super) answers: BTreeMap<(String, String), Vec<u8>>,
}

impl Agent {
    pub(super) async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        loop {
            let wake = self.next_wake();
            let sleep = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = self.line.next() => match event {
                    Event::Message(message, source) => self.on_message(*message, source).await,
                    Event::Back => self.register_at = self.registered_s.map(|_| Instant::now()),
                },
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
        [self.exchanges.next(), repeats, answers, self.register_at].into_iter().flatten().min()
    }

    async fn send(&self, bytes: &[u8], to: SocketAddr) {
        self.line.send(bytes, to).await;
    }

    async fn on_time(&mut self) {
        let now = Instant::now();
        for (bytes, to) in self.exchanges.due(now) {
            self.send(&bytes, to).await;
        }
        if self.register_at.is_some_and(|at| at <= now) {
            self.register_at = None;
            // Nobody waits for it.
            let (done, _) = oneshot::channel();
            self.send_register(None, true, self.registered_s.unwrap_or_default(), done).await;
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
            Command::FinalOfBye { call_id, response, done } => {
                let status = response.map(|response| response.status);
                let ended = status.map_or(Ended::Silent, |status| Ended::ByMe { status });
                // Whoever is told looks at the call next.
                self.end(&call_id, ended);
                let _ = done.send(status.context("BYE was never answered"));
            }
            Command::Refer { call_id, to, replaces, done } => {
                self.send_refer(&call_id, &to, replaces, done).await;
            }
            Command::Hold { call_id, held, done } => self.send_hold(&call_id, held, done).await,
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
            transport: self.line.transport(),
            host: self
                .line
                .name()
                .map_or_else(|| tandem_sip::host(self.address.ip()), str::to_owned),
            port: self.line.name().is_none().then_some(self.address.port()),
            params: vec![
                param("branch", Some(&format!("z9hG4bK{:016x}", rand::random::<u64>()))),
                param("rport", None),
            ],
        }
    }

    fn own_uri(&self) -> Uri {
        let (ip, port) = (self.address.ip(), self.address.port());
        let mut uri = sip_uri(Some(&self.options.user), ip, Some(port));
        if let Some(name) = self.line.name() {
            (uri.host, uri.port) = (name.to_owned(), None);
        }
        uri.params.extend(self.line.uri_param().map(|name| param("transport", Some(name))));
        uri
    }

    fn server_uri(&self, user: Option<&str>) -> Uri {
        match &self.options.domain {
            Some(domain) => Uri::sip(user, domain, None),
            None => sip_uri(user, self.options.server.ip(), Some(self.options.server.port())),
        }
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
        let status = response.as_ref().map(|response| response.status);
        if status == Some(200) {
            self.registered_s = (expires_s > 0).then_some(expires_s);
            self.shared.registrations.fetch_add(1, Ordering::Relaxed);
        } else if done.is_closed() && (status != Some(401) || !first) {
            self.register_at = Some(Instant::now() + Duration::from_millis(REGISTER_AGAIN_MS));
        }
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
            payloads: self.shared.codecs.lock().iter().map(|codec| self.said(*codec)).collect(),
            telephone_event: Some(101),
            telephone_event_wide: None,
            direction: Direction::SendRecv,
            ptime_ms: Some(20),
            session_id: u64::from(endpoint.port()),
            session_version: 1,
            crypto: Vec::new(),
            secure: false,
            beside: Beside::default(),
        }
    }

    fn said(&self, codec: Codec) -> Payload {
        let fmtp = match codec {
            Codec::Pcmu | Codec::Pcma | Codec::G722 => None,
            // So that it can be told from another phone's.
            Codec::Opus => Some(format!("maxaveragebitrate={}", 20_000 + self.options.tone_hz)),
            Codec::G729 => Some("annexb=no".to_owned()),
        };
        Payload { fmtp, ..Payload::new(codec.static_payload(), codec) }
    }

    /// What the phone offers in a call of its own.
    fn offer(&self, endpoint: &Endpoint) -> Audio {
        let suite = Suite::AesCm128HmacSha1_80;
        let crypto = self.options.srtp.then(|| Crypto { tag: 1, suite, key: fresh_key(suite) });
        Audio {
            crypto: crypto.into_iter().collect(),
            secure: self.options.srtp,
            ..self.audio(endpoint)
        }
    }

    fn open_media(&self) -> Option<Arc<Endpoint>> {
        self.pool.open(self.address.ip()).map(Arc::new).ok()
    }

    /// Talks as the two descriptions say.
    fn talk(&self, endpoint: &Endpoint, own: &Audio, audio: &Audio) {
        if let Some((ours, theirs)) = own.crypto.first().zip(audio.crypto.first()) {
            let (ours, suite) = (ours.key.clone(), theirs.suite);
            let from = Rollover::default();
            endpoint.protect(&Keys { suite, ours, theirs: theirs.key.clone(), from });
        }
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

    // --- what is asked of the phone
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
        host: tandem_sip::host(host),
        port,
        params: Vec::new(),
        headers: None,
    }
}

fn fresh_key(suite: Suite) -> Key {
    Key::derive(&rand::random::<[u8; 32]>(), suite, b"phone")
}
