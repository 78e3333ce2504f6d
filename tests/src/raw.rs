//! A peer on UDP that says what a test wants it to, word by word.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tandem_sip::{Message, Request, Response};
use tokio::net::UdpSocket;
use tokio::time::timeout;

const WITHIN: Duration = Duration::from_secs(10);
const DATAGRAM_BYTES_MAX: usize = 65_535;

pub struct Raw {
    socket: UdpSocket,
    server: SocketAddr,
    pub own: SocketAddr,
    cseq: u32,
}

impl Raw {
    pub async fn open(server: SocketAddr) -> Result<Self> {
        Self::over(std::net::UdpSocket::bind("127.0.0.1:0")?, server)
    }

    /// Over a socket of the test's.
    pub fn over(socket: std::net::UdpSocket, server: SocketAddr) -> Result<Self> {
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(socket)?;
        let own = socket.local_addr()?;
        Ok(Self { socket, server, own, cseq: 0 })
    }

    pub async fn send(&self, bytes: &[u8]) -> Result<()> {
        self.socket.send_to(bytes, self.server).await?;
        Ok(())
    }

    /// The next datagram.
    pub async fn datagram(&self) -> Result<Vec<u8>> {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        let (length, _) = timeout(WITHIN, self.socket.recv_from(&mut buffer)).await??;
        buffer.truncate(length);
        Ok(buffer)
    }

    pub async fn response(&self) -> Result<Response> {
        loop {
            match tandem_sip::parse(&self.datagram().await?) {
                Ok(Message::Response(response)) => return Ok(response),
                Ok(Message::Request(_)) => {}
                Err(error) => bail!("{error}"),
            }
        }
    }

    pub async fn request(&self) -> Result<Request> {
        loop {
            match tandem_sip::parse(&self.datagram().await?) {
                Ok(Message::Request(request)) => return Ok(request),
                Ok(Message::Response(_)) => {}
                Err(error) => bail!("{error}"),
            }
        }
    }

    /// Registers with the demo tenant's password; `headers` are lines. The final answer.
    pub async fn register(&mut self, user: &str, headers: &str) -> Result<Response> {
        let challenge = self.ask(user, headers).await?;
        let Some(value) = challenge.headers.other("WWW-Authenticate") else { return Ok(challenge) };
        let (password, uri) = (format!("tandem-{user}"), self.uri());
        let answer = tandem_sip::digest::answer(value, user, &password, "REGISTER", &uri, "raw");
        let answer = answer.map_err(|error| anyhow::anyhow!("{error}"))?;
        self.ask(user, &format!("{headers}Authorization: {answer}\r\n")).await
    }

    fn uri(&self) -> String {
        format!("sip:{}", self.server)
    }

    async fn ask(&mut self, user: &str, headers: &str) -> Result<Response> {
        self.cseq += 1;
        let (uri, own, cseq) = (self.uri(), self.own, self.cseq);
        let text = format!(
            "REGISTER {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {own};rport;branch=z9hG4bK{cseq}-{}\r\n\
             From: <sip:{user}@demo>;tag=raw\r\nTo: <sip:{user}@demo>\r\nCall-ID: raw-{}\r\n\
             CSeq: {cseq} REGISTER\r\nMax-Forwards: 70\r\n{headers}Content-Length: 0\r\n\r\n",
            own.port(),
            own.port()
        );
        self.send(text.as_bytes()).await?;
        self.response().await.with_context(|| format!("the answer to REGISTER {cseq}"))
    }
}
