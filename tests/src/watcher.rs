//! A phone's lamp: it subscribes to a colleague's dialogs, or to the own mailbox, over UDP.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use parking_lot::Mutex;
use tandem_sip::dialog::Dialog;
use tandem_sip::{Message, Method, NameAddr, Param, Request, Response, Transport, Via, digest};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

const WITHIN: Duration = Duration::from_secs(20);
const REPEAT: Duration = Duration::from_millis(500);
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// One NOTIFY.
#[derive(Clone, Debug)]
pub struct Told {
    pub cseq: u32,
    /// Active or terminated, with what else it says.
    pub state: String,
    pub body: String,
}

impl Told {
    /// Of a document of dialogs.
    pub fn version(&self) -> Option<u32> {
        let (_, document) = self.body.split_once("<dialog-info ")?;
        between(document, "version=\"", "\"")?.parse().ok()
    }

    /// State and direction of each dialog.
    pub fn lamp(&self) -> Vec<String> {
        let dialogs = self.body.split("<dialog ").skip(1).map(|dialog| {
            let state = between(dialog, "<state>", "<").unwrap_or_default();
            match between(dialog, "direction=\"", "\"") {
                Some(direction) => format!("{state} {direction}"),
                None => state.to_owned(),
            }
        });
        dialogs.collect()
    }

    /// The dialog that rings, as Replaces names it.
    pub fn replaces(&self) -> Option<String> {
        let name = |name: &str| between(&self.body, &format!(" {name}=\""), "\"");
        let (call_id, to, from) = (name("call-id")?, name("local-tag")?, name("remote-tag")?);
        Some(format!("{call_id};to-tag={to};from-tag={from}"))
    }
}

fn between<'t>(text: &'t str, from: &str, to: &str) -> Option<&'t str> {
    Some(text.split_once(from)?.1.split_once(to)?.0)
}

struct Shared {
    /// What NOTIFYs are answered.
    answer: Mutex<u16>,
    told: watch::Sender<Vec<Told>>,
}

/// It answers until it is dropped.
pub struct Watcher {
    socket: Arc<UdpSocket>,
    server: SocketAddr,
    own: SocketAddr,
    user: String,
    call_id: String,
    cseq: u32,
    dialog: Option<Dialog>,
    event: String,
    shared: Arc<Shared>,
    responses: mpsc::UnboundedReceiver<Response>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watcher {
    pub async fn open(user: &str, server: SocketAddr, bind: IpAddr, event: &str) -> Result<Self> {
        let socket = Arc::new(UdpSocket::bind((bind, 0)).await?);
        let own = socket.local_addr()?;
        let told = watch::channel(Vec::new()).0;
        let shared = Arc::new(Shared { answer: Mutex::new(200), told });
        let (answered, responses) = mpsc::unbounded_channel();
        let task = tokio::spawn(listen(Arc::clone(&socket), Arc::clone(&shared), answered));
        Ok(Self {
            socket,
            server,
            own,
            user: user.to_owned(),
            call_id: format!("{:016x}@lamp", rand::random::<u64>()),
            cseq: 0,
            dialog: None,
            event: event.to_owned(),
            shared,
            responses,
            task,
        })
    }

    /// Subscribes to that extension, and proves the password where it is asked to. The final answer.
    pub async fn subscribe(&mut self, of: &str, expires_s: u32) -> Result<Response> {
        let first = self.ask(of, expires_s, None).await?;
        let Some(challenge) = first.headers.other("WWW-Authenticate") else { return Ok(first) };
        let (password, uri) = (format!("tandem-{}", self.user), self.uri(of));
        let proof = digest::answer(challenge, &self.user, &password, "SUBSCRIBE", &uri, "lamp");
        let proof = proof.map_err(|error| anyhow::anyhow!("{error}"))?;
        self.ask(of, expires_s, Some(proof)).await
    }

    fn uri(&self, of: &str) -> String {
        format!("sip:{of}@{}", self.server)
    }

    async fn ask(&mut self, of: &str, expires_s: u32, proof: Option<String>) -> Result<Response> {
        self.cseq += 1;
        let (uri, own, user, call_id) = (self.uri(of), self.own, &self.user, &self.call_id);
        let (cseq, event) = (self.cseq, &self.event);
        let proof = proof.map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default();
        let text = format!(
            "SUBSCRIBE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {own};rport;branch={}\r\n\
             From: <sip:{user}@demo.tandem>;tag=lamp\r\nTo: <{uri}>\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} SUBSCRIBE\r\nContact: <sip:{user}@{own}>\r\nMax-Forwards: 70\r\n\
             Event: {event}\r\nExpires: {expires_s}\r\n{proof}Content-Length: 0\r\n\r\n",
            branch()
        );
        let request = request_of(text.as_bytes())?;
        let response = self.exchange(&request).await?;
        if response.status == 200 {
            self.dialog = Some(Dialog::as_uac(&request, &response)?);
        }
        Ok(response)
    }

    /// A SUBSCRIBE within the dialog; 0 takes it back.
    pub async fn refresh(&mut self, expires_s: u32) -> Result<Response> {
        let param = |name: &str, value| Param { name: name.into(), value };
        let via = Via {
            transport: Transport::Udp,
            host: tandem_sip::host(self.own.ip()),
            port: Some(self.own.port()),
            params: vec![param("branch", Some(branch())), param("rport", None)],
        };
        let contact: NameAddr = format!("<sip:{}@{}>", self.user, self.own).parse()?;
        let dialog = self.dialog.as_mut().context("nothing is subscribed to")?;
        let mut request = dialog.request(Method::Subscribe, via, Some(contact));
        request.headers.expires = Some(expires_s);
        request.headers.push_other("Event", &self.event);
        self.exchange(&request).await
    }

    /// What NOTIFYs are answered from now on.
    pub fn answer(&self, status: u16) {
        *self.shared.answer.lock() = status;
    }

    /// The final answer; the request is repeated until it is there.
    async fn exchange(&mut self, request: &Request) -> Result<Response> {
        let bytes = request.to_bytes();
        let deadline = tokio::time::Instant::now() + WITHIN;
        while tokio::time::Instant::now() < deadline {
            self.socket.send_to(&bytes, self.server).await?;
            let next = async {
                loop {
                    let response = self.responses.recv().await.context("the socket is gone")?;
                    let own = response.headers.branch() == request.headers.branch();
                    if own && !response.is_provisional() {
                        return anyhow::Ok(response);
                    }
                }
            };
            if let Ok(response) = timeout(REPEAT, next).await {
                return response;
            }
        }
        bail!("nobody has answered {}", request.headers.cseq)
    }

    /// All NOTIFYs so far.
    pub fn told(&self) -> Vec<Told> {
        self.shared.told.borrow().clone()
    }

    /// Waits until the last NOTIFY is one of those.
    pub async fn is_told(&self, what: &str, wanted: impl Fn(&Told) -> bool) -> Result<Told> {
        let mut told = self.shared.told.subscribe();
        let found = async {
            loop {
                let last = told.borrow_and_update().last().cloned();
                if let Some(last) = last.filter(&wanted) {
                    return anyhow::Ok(last);
                }
                told.changed().await?;
            }
        };
        match timeout(WITHIN, found).await {
            Ok(found) => found,
            Err(_) => bail!("{} was not told {what}, but {:?}", self.user, self.told().last()),
        }
    }

    pub async fn shows(&self, lamp: &[&str]) -> Result<Told> {
        self.is_told(&format!("{lamp:?}"), |told| told.lamp() == lamp).await
    }

    /// No version and no CSeq came twice, or after a later one.
    pub fn is_in_order(&self) -> Result<()> {
        let told = self.told();
        for pair in told.windows(2) {
            ensure!(pair[0].cseq < pair[1].cseq, "CSeqs of {told:?}");
            ensure!(pair[0].version() < pair[1].version(), "versions of {told:?}");
        }
        Ok(())
    }
}

fn branch() -> String {
    format!("z9hG4bK{:016x}", rand::random::<u64>())
}

fn request_of(bytes: &[u8]) -> Result<Request> {
    match tandem_sip::parse(bytes) {
        Ok(Message::Request(request)) => Ok(request),
        other => bail!("no request: {other:?}"),
    }
}

async fn listen(
    socket: Arc<UdpSocket>,
    shared: Arc<Shared>,
    answered: mpsc::UnboundedSender<Response>,
) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    let mut known: Vec<(String, Vec<u8>)> = Vec::new();
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        match tandem_sip::parse(&buffer[..length]) {
            Ok(Message::Response(response)) => drop(answered.send(response)),
            Ok(Message::Request(request)) => {
                let branch = request.headers.branch().to_owned();
                let before = known.iter().find(|(known, _)| *known == branch);
                let answer = match before {
                    Some((_, answer)) => answer.clone(),
                    None => {
                        let status = *shared.answer.lock();
                        let answer = request.respond(status, None, None).to_bytes();
                        known.push((branch, answer.clone()));
                        if status == 200 {
                            shared.told.send_modify(|told| told.push(told_by(&request)));
                        }
                        answer
                    }
                };
                // A lost datagram is repeated by whoever waits for it.
                let _ = socket.send_to(&answer, from).await;
            }
            Err(_) => {}
        }
    }
}

fn told_by(request: &Request) -> Told {
    let state = request.headers.other("Subscription-State").unwrap_or_default();
    Told {
        cseq: request.headers.cseq.number,
        state: state.to_owned(),
        body: String::from_utf8_lossy(&request.body).into_owned(),
    }
}
