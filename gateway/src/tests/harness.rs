//! A node that is played by the test, a phone, and a gateway between them.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tandem_core::command::{GatewayEvent, Inbound, TransactionKey};
use tandem_core::demo::demo_config;
use tandem_core::effect::{Body, Effect, EffectId, MediaPlan};
use tandem_core::ids::{EntityId, GatewayId};
use tandem_core::wire;
use tandem_http::TokenHash;
use tandem_lease::Fence;
use tandem_pki::Texts;
use tandem_sip::{Message, Request, Response};
use tandem_wire::Bounds;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request as Rpc, Response as Reply, Status, Streaming};

use crate::link::pb;
use crate::link::pb::link_server::{Link, LinkServer};
use crate::media::Media;
use crate::media::{LineMedia, MediaPlane, Told};
use tandem_media::record::board::Board;
use tandem_media::record::custody::Custody;

use crate::line::Spec;
use crate::run::serve_within;
use crate::{Error, Node, Options};

pub const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough for a mistake to show, short enough for a test.
pub const QUIET: Duration = Duration::from_millis(150);
pub const TOKEN: &str = "a token";
pub const GATEWAY: &str = "gateway-t";
pub const PORTS: [u16; 2] = [20_000, 20_002];

type Down = mpsc::Sender<Result<pb::Down, Status>>;

/// What the played node says to whoever logs in.
#[derive(Clone, Debug, Default)]
struct Says {
    leading: Option<pb::Leading>,
    routing: bool,
}

struct Service {
    says: Mutex<Says>,
    down: watch::Sender<Option<Down>>,
    events: mpsc::UnboundedSender<(u64, GatewayEvent)>,
    done: Mutex<Vec<pb::EffectRef>>,
    queries: Mutex<Result<Vec<u8>, Status>>,
    /// None: the line of the test, in the life of the process.
    holds: Mutex<Option<Vec<pb::Life>>>,
    nodes: watch::Sender<pb::Nodes>,
    tells_lines: AtomicBool,
}

#[async_trait]
impl Link for Arc<Service> {
    type SessionStream = ReceiverStream<Result<pb::Down, Status>>;
    type LinesStream = ReceiverStream<Result<pb::Told, Status>>;

    async fn lines(
        &self,
        request: Rpc<Streaming<pb::Ask>>,
    ) -> Result<Reply<Self::LinesStream>, Status> {
        let mut asks = request.into_inner();
        let (told, stream) = mpsc::channel(16);
        let service = Arc::clone(self);
        tokio::spawn(async move {
            let mut nodes = service.nodes.subscribe();
            nodes.mark_changed();
            loop {
                let body = tokio::select! {
                    ask = asks.message() => {
                        let Ok(Some(ask)) = ask else { return };
                        if !service.tells_lines.load(Ordering::Relaxed) {
                            continue;
                        }
                        let holds = service.holds.lock().clone();
                        let lives = holds.unwrap_or_else(|| {
                            vec![pb::Life { line: GATEWAY.into(), life: ask.incarnation, held: true, ..Default::default() }]
                        });
                        let number = ask.number;
                        pb::told::Body::Holds(pb::Holds { number, lives, wanted: Vec::new(), frozen: false, })
                    }
                    Ok(()) = nodes.changed() => pb::told::Body::Nodes(nodes.borrow().clone()),
                };
                if told.send(Ok(pb::Told { body: Some(body), incarnation: 1 })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Reply::new(ReceiverStream::new(stream)))
    }

    async fn session(
        &self,
        request: Rpc<Streaming<pb::Up>>,
    ) -> Result<Reply<Self::SessionStream>, Status> {
        let mut up = request.into_inner();
        let (down, stream) = mpsc::channel(4_096);
        let service = Arc::clone(self);
        tokio::spawn(async move {
            let hello = up.message().await;
            assert!(matches!(hello, Ok(Some(pb::Up { body: Some(pb::up::Body::Hello(_)) }))));
            let says = service.says.lock().clone();
            let mut first = vec![pb::down::Body::Welcome(pb::Welcome::default())];
            if says.routing {
                first.push(pb::down::Body::Routing(routing()));
            }
            first.extend(says.leading.map(pb::down::Body::Leading));
            for body in first {
                let _ = down.send(Ok(pb::Down { body: Some(body) })).await;
            }
            service.down.send_replace(Some(down));
            while let Ok(Some(up)) = up.message().await {
                match up.body {
                    Some(pb::up::Body::Event(event)) => {
                        let decoded = wire::decode_event(&event.event).expect("an event");
                        let _ = service.events.send((event.sequence, decoded));
                    }
                    Some(pb::up::Body::Done(done)) => service.done.lock().extend(done.effects),
                    Some(pb::up::Body::Hello(_)) | None => {}
                }
            }
        });
        Ok(Reply::new(ReceiverStream::new(stream)))
    }

    async fn query(
        &self,
        _request: Rpc<pb::QueryRequest>,
    ) -> Result<Reply<pb::QueryReply>, Status> {
        let json = self.queries.lock().clone()?;
        Ok(Reply::new(pb::QueryReply { found: !json.is_empty(), json }))
    }

    async fn execute(
        &self,
        request: Rpc<pb::ExecuteRequest>,
    ) -> Result<Reply<pb::ExecuteReply>, Status> {
        self.queries.lock().clone()?;
        let key = request.into_inner().idempotency_key;
        Ok(Reply::new(pb::ExecuteReply { found: true, refusal: key, ..Default::default() }))
    }
}

fn routing() -> pb::Routing {
    pb::Routing {
        config: wire::encode_config(&demo_config()),
        shard: 0,
        nonce_key: vec![9; 32],
        tenants: vec![0],
    }
}

static INDEX: AtomicU64 = AtomicU64::new(1);

/// A node that says and does what the test tells it.
pub struct FakeNode {
    pub name: String,
    address: SocketAddr,
    service: Arc<Service>,
    down: watch::Receiver<Option<Down>>,
    events: mpsc::UnboundedReceiver<(u64, GatewayEvent)>,
    server: JoinHandle<()>,
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl FakeNode {
    /// `term`: it says that it leads in this one.
    pub async fn start(name: &str, term: Option<u64>) -> Self {
        Self::start_with(name, term, None).await
    }

    /// With mutual TLS.
    pub async fn start_with(name: &str, term: Option<u64>, tls: Option<Texts>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let leading = term.map(|term| pb::Leading { shard: 0, term, leading: true });
        let (down, watched) = watch::channel(None);
        let (to_test, events) = mpsc::unbounded_channel();
        let service = Arc::new(Service {
            says: Mutex::new(Says { leading, routing: true }),
            down,
            events: to_test,
            done: Mutex::default(),
            queries: Mutex::new(Err(Status::failed_precondition("does not lead"))),
            holds: Mutex::default(),
            nodes: watch::channel(pb::Nodes::default()).0,
            tells_lines: AtomicBool::new(true),
        });
        let link = LinkServer::new(Arc::clone(&service));
        let server = tokio::spawn(async move {
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            let mut server = Server::builder();
            if let Some(tls) = tls {
                let config = ServerTlsConfig::new()
                    .identity(Identity::from_pem(&tls.certificate, &tls.key))
                    .client_ca_root(Certificate::from_pem(&tls.ca));
                server = server.tls_config(config).unwrap();
            }
            server.add_service(link).serve_with_incoming(incoming).await.unwrap();
        });
        Self { name: name.into(), address, service, down: watched, events, server }
    }

    /// What it says from now on of lines.
    pub fn grant(&self, lives: Vec<pb::Life>) {
        *self.service.holds.lock() = Some(lives);
    }

    /// Whether it answers which lines are served.
    pub fn tell_lines(&self, tells: bool) {
        self.service.tells_lines.store(tells, Ordering::Relaxed);
    }

    /// Where the gateway finds nodes.
    pub fn tell_nodes(&self, nodes: Vec<pb::NodeAt>) {
        self.service.nodes.send_replace(pb::Nodes { nodes });
    }

    /// How the other nodes name it.
    pub fn at(&self) -> pb::NodeAt {
        pb::NodeAt { name: self.name.clone(), address: self.address.to_string() }
    }

    pub async fn say(&mut self, body: pb::down::Body) {
        let down = {
            let session = timeout(PATIENCE, self.down.wait_for(Option::is_some)).await;
            session.expect("a session").unwrap().clone().unwrap()
        };
        down.send(Ok(pb::Down { body: Some(body) })).await.unwrap();
    }

    pub async fn lead(&mut self, term: u64, leading: bool) {
        self.service.says.lock().leading = Some(pb::Leading { shard: 0, term, leading });
        self.say(pb::down::Body::Leading(pb::Leading { shard: 0, term, leading })).await;
    }

    /// Ends the session; the gateway comes back.
    pub fn hang_up(&self) {
        self.service.down.send_replace(None);
    }

    pub async fn next(&mut self) -> (u64, GatewayEvent) {
        timeout(PATIENCE, self.events.recv()).await.expect("an event").unwrap()
    }

    /// The next event that is no login, accepted.
    pub async fn event(&mut self) -> GatewayEvent {
        loop {
            let (sequence, event) = self.next().await;
            self.accept(sequence).await;
            if !matches!(event, GatewayEvent::Login(_)) {
                return event;
            }
        }
    }

    pub async fn invite(&mut self) -> Inbound {
        match self.event().await {
            GatewayEvent::Invite(inbound) => inbound,
            other => panic!("{other:?} instead of an INVITE"),
        }
    }

    pub async fn quiet(&mut self) {
        let event = timeout(QUIET, self.events.recv()).await;
        assert!(event.is_err(), "{event:?} was not expected");
    }

    pub async fn accept(&mut self, sequence: u64) {
        let accepted = pb::Accepted { shard: 0, sequence, ..Default::default() };
        self.say(pb::down::Body::Accepted(accepted)).await;
    }

    pub async fn effect(&mut self, term: u64, body: Body) -> EffectId {
        let id = EffectId { shard: 0, index: INDEX.fetch_add(1, Ordering::Relaxed), ordinal: 0 };
        self.effect_again(term, id, body).await;
        id
    }

    pub async fn effect_again(&mut self, term: u64, id: EffectId, body: Body) {
        let gateway = GatewayId(GATEWAY.into());
        let effect = Effect { id, entity: EntityId::Gateway(gateway.clone()), gateway, body };
        let effect = wire::encode_effect(&effect);
        self.say(pb::down::Body::Effect(pb::Effect { shard: 0, term, effect })).await;
    }

    pub async fn respond(&mut self, term: u64, to: &TransactionKey, response: Response) {
        let body = Body::Respond { transaction: to.clone(), response: response.into() };
        self.effect(term, body).await;
    }

    /// How often an effect was reported as done, once it was `times`.
    pub async fn done(&self, id: EffectId, times: usize) {
        let count = || {
            let done = self.service.done.lock();
            done.iter().filter(|done| done.index == id.index).count()
        };
        timeout(PATIENCE, async {
            while count() < times {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await
        .expect("the effect is done");
        assert_eq!(count(), times);
    }

    pub fn answers(&self, answer: Result<Vec<u8>, Status>) {
        *self.service.queries.lock() = answer;
    }
}

struct FakeMedia(mpsc::UnboundedSender<MediaPlan>);

impl Media for FakeMedia {
    fn ports(&self) -> Vec<u16> {
        PORTS.to_vec()
    }

    fn apply(&mut self, _tenant: u16, plan: &MediaPlan) -> Result<(), String> {
        let _ = self.0.send(plan.clone());
        Ok(())
    }
}

/// Every line's media is the test's.
struct FakePlane {
    plans: mpsc::UnboundedSender<MediaPlan>,
    told: Mutex<Option<(mpsc::Sender<Told>, mpsc::Receiver<Told>)>>,
    board: Arc<Board>,
    custody: Arc<Custody>,
}

impl MediaPlane for FakePlane {
    fn line(
        &self,
        _spec: &Spec,
        _fence: Arc<Fence>,
        _busy: Option<&BTreeSet<u16>>,
    ) -> Result<LineMedia, Error> {
        let media = Box::new(FakeMedia(self.plans.clone()));
        let (report, events) = mpsc::channel(16);
        Ok(LineMedia { media, events, report, rest: None })
    }

    fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    fn custody(&self) -> Arc<Custody> {
        Arc::clone(&self.custody)
    }

    fn told(&mut self) -> Result<(mpsc::Sender<Told>, mpsc::Receiver<Told>), Error> {
        Ok(self.told.lock().take().expect("asked for once"))
    }
}

static ADDRESS: AtomicU8 = AtomicU8::new(1);

/// An address of this test alone.
fn address() -> Ipv4Addr {
    let process = (std::process::id() % 250) as u8;
    Ipv4Addr::new(127, 99, process, ADDRESS.fetch_add(1, Ordering::Relaxed))
}

/// A service address of this test alone.
pub fn vip() -> SocketAddr {
    (address(), 5060).into()
}

/// Options of a gateway on an address of its own.
pub fn options(nodes: &[&FakeNode], data: &std::path::Path) -> Options {
    let ip = address();
    Options {
        name: GATEWAY.into(),
        incarnation: 7,
        version: "test".into(),
        vip: (ip, 5060).into(),
        way: Default::default(),
        media_ip: ip.into(),
        api: (ip, 8080).into(),
        nodes: nodes
            .iter()
            .map(|node| Node { name: node.name.clone(), address: node.address })
            .collect(),
        peers: Vec::new(),
        copies: None,
        copy_to: None,
        tls: None,
        sip_tls: None,
        websocket: None,
        reload: Arc::default(),
        data_dir: data.to_owned(),
        token: TokenHash::of(TOKEN),
        rtp_pairs: 2,
        rtp_ports: 20_000..=20_010,
        media_workers: 1,
        music: None,
        prompts: None,
        metrics: Arc::new(|| "metrics 1\n".into()),
        trace_bytes_max: 1 << 20,
    }
}

pub struct Gateway {
    pub vip: SocketAddr,
    pub api: SocketAddr,
    /// Told, the gateway reads its SIP certificate anew.
    pub reload: Arc<Notify>,
    pub plans: mpsc::UnboundedReceiver<MediaPlan>,
    pub reports: mpsc::Sender<Told>,
    pub task: JoinHandle<Result<(), Error>>,
    pub data: tempfile::TempDir,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Gateway {
    pub async fn start(nodes: &[&FakeNode]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let options = options(nodes, data.path());
        Self::start_with(options, data).await
    }

    pub async fn start_with(options: Options, data: tempfile::TempDir) -> Self {
        Self::start_within(options, data, Bounds::default()).await
    }

    pub async fn start_within(options: Options, data: tempfile::TempDir, bounds: Bounds) -> Self {
        let (vip, api) = (options.vip, options.api);
        let reload = Arc::clone(&options.reload);
        let (to_test, plans) = mpsc::unbounded_channel();
        let (reports, told) = mpsc::channel(16);
        let board = Arc::new(Board::new(false));
        let custody = Arc::new(Custody::new(options.recordings(), Arc::clone(&board)));
        let told = Mutex::new(Some((reports.clone(), told)));
        let plane = Box::new(FakePlane { plans: to_test, told, board, custody });
        let task = tokio::spawn(serve_within(options, bounds, plane, std::future::pending()));
        Self { vip, api, reload, plans, reports, task, data }
    }

    /// A gateway that has logged in to the one node, which leads in term 1.
    pub async fn with_leader() -> (Self, FakeNode) {
        Self::with_bounds(Bounds::default()).await
    }

    /// The same with bounds of the test's for connections.
    pub async fn with_bounds(bounds: Bounds) -> (Self, FakeNode) {
        let mut node = FakeNode::start("node-a", Some(1)).await;
        let data = tempfile::tempdir().unwrap();
        let options = options(&[&node], data.path());
        let gateway = Self::start_within(options, data, bounds).await;
        let (sequence, login) = node.next().await;
        assert!(matches!(login, GatewayEvent::Login(login) if login.vip == gateway.vip
            && login.ports == PORTS));
        assert_eq!(sequence, 1);
        node.accept(sequence).await;
        (gateway, node)
    }
}

pub struct Phone {
    socket: UdpSocket,
    server: SocketAddr,
}

impl Phone {
    pub async fn new(gateway: &Gateway) -> Self {
        Self::at(gateway.vip).await
    }

    /// Of whoever serves that address.
    pub async fn at(server: SocketAddr) -> Self {
        Self { socket: UdpSocket::bind("127.0.0.1:0").await.unwrap(), server }
    }

    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// A request outside of dialogs, with more headers (`"Name: value\r\n"`) and a body.
    pub fn text(&self, method: &str, branch: &str, more: &str, body: &str) -> String {
        let address = self.address();
        format!(
            "{method} sip:4003@demo SIP/2.0\r\nVia: SIP/2.0/UDP {address};branch=z9hG4bK{branch}\r\n\
             From: <sip:alice@demo>;tag=f{branch}\r\nTo: <sip:4003@demo>\r\n\
             Call-ID: call-{branch}\r\nCSeq: 1 {method}\r\nContact: <sip:alice@{address}>\r\n\
             {more}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    pub fn invite(&self, branch: &str) -> String {
        let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
                   m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n";
        self.text("INVITE", branch, "Max-Forwards: 70\r\nContent-Type: application/sdp\r\n", sdp)
    }

    pub async fn send(&self, text: &str) {
        self.send_bytes(text.as_bytes()).await;
    }

    pub async fn send_bytes(&self, bytes: &[u8]) {
        self.socket.send_to(bytes, self.server).await.unwrap();
    }

    pub async fn next(&self) -> Message {
        let mut buffer = vec![0; 65_536];
        let received = timeout(PATIENCE, self.socket.recv_from(&mut buffer)).await;
        let (length, from) = received.expect("a datagram").unwrap();
        assert_eq!(from, self.server);
        tandem_sip::parse(&buffer[..length]).expect("SIP")
    }

    pub async fn response(&self) -> Response {
        match self.next().await {
            Message::Response(response) => response,
            Message::Request(request) => panic!("{request:?} instead of a response"),
        }
    }

    pub async fn request(&self) -> Request {
        match self.next().await {
            Message::Request(request) => request,
            Message::Response(response) => panic!("{response:?} instead of a request"),
        }
    }

    /// Sends and waits for the answer's status.
    pub async fn ask(&self, text: &str) -> Response {
        self.send(text).await;
        self.response().await
    }

    /// Whether anything comes.
    pub async fn heard_within(&self, within: Duration) -> bool {
        let mut buffer = vec![0; 65_536];
        matches!(timeout(within, self.socket.recv_from(&mut buffer)).await, Ok(Ok(_)))
    }

    pub async fn quiet(&self) {
        let mut buffer = vec![0; 65_536];
        let received = timeout(QUIET, self.socket.recv_from(&mut buffer)).await;
        if let Ok(received) = received {
            let (length, _) = received.unwrap();
            panic!("{:?} was not expected", String::from_utf8_lossy(&buffer[..length]));
        }
    }
}

pub fn parse(text: &str) -> Request {
    match tandem_sip::parse(text.as_bytes()).unwrap() {
        Message::Request(request) => request,
        Message::Response(response) => panic!("{response:?} is no request"),
    }
}

/// Numbers without a source of randomness: the same in each run (SplitMix64).
pub struct Numbers(pub u64);

impl Numbers {
    pub fn below(&mut self, max: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % max as u64) as usize
    }

    /// Changes some bytes of a message; some always stay.
    pub fn mutate(&mut self, message: &mut Vec<u8>) {
        for _ in 0..=self.below(6) {
            let at = self.below(message.len());
            let end = (at + self.below(30)).min(message.len());
            let with: Vec<u8> = (0..self.below(12)).map(|_| self.below(256) as u8).collect();
            message.splice(at..end, with);
            if message.is_empty() {
                message.push(0);
            }
        }
    }
}
