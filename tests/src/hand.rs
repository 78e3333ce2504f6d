//! One call of a carrier over UDP, by hand: what is said, and when, is its test's to say.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tandem_sip::{Message, Response, parse};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

const WITHIN: Duration = Duration::from_secs(15);
const DATAGRAM_BYTES_MAX: usize = 65_536;
/// RFC 3261 §17.1.1.1.
const T1: Duration = Duration::from_millis(500);

pub struct Hand {
    socket: UdpSocket,
    me: SocketAddr,
    vip: SocketAddr,
    /// Hears what is said to it, and says nothing.
    pub audio: UdpSocket,
    number: String,
    pub call_id: String,
}

impl Hand {
    pub async fn new(vip: SocketAddr, number: &str) -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        let me = socket.local_addr()?;
        let audio = UdpSocket::bind("127.0.0.1:0").await?;
        let call_id = format!("{:016x}@hand", rand::random::<u64>());
        Ok(Self { socket, me, vip, audio, number: number.to_owned(), call_id })
    }

    /// What it would talk over: its audio, or another socket's.
    pub fn sdp(&self, version: u8, audio: &UdpSocket) -> Result<String> {
        let port = audio.local_addr()?.port();
        Ok(format!(
            "v=0\r\no=c 1 {version} IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP 8\r\n"
        ))
    }

    /// `to` is the To header's parameters, `more` further lines.
    pub async fn send(
        &self,
        (cseq, method): (u32, &str),
        to: &str,
        more: &str,
        body: &str,
    ) -> Result<()> {
        let Self { me, vip, number, call_id, .. } = self;
        let typed = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let text = format!(
            "{method} sip:{number}@{vip} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {me};branch=z9hG4bK{method}{cseq}{call_id}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:138@{me}>;tag=1\r\nTo: <sip:{number}@{vip}>{to}\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} {method}\r\nContact: <sip:138@{me}>\r\n{more}{typed}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.socket.send_to(text.as_bytes(), vip).await?;
        Ok(())
    }

    async fn next(&self, within: Duration) -> Result<Option<Response>> {
        let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
        let Ok(received) = timeout(within, self.socket.recv(&mut datagram)).await else {
            return Ok(None);
        };
        match parse(&datagram[..received?])? {
            Message::Response(response) => Ok(Some(response)),
            Message::Request(request) => bail!("a {} for who only calls", request.method),
        }
    }

    /// The next response of any kind.
    pub async fn any_response(&self) -> Result<Response> {
        self.next(WITHIN).await?.context("nothing came")
    }

    /// The next response to a request of this method, but a 100.
    pub async fn response(&self, method: &str) -> Result<Response> {
        loop {
            let next = self.next(WITHIN).await?;
            let response = next.with_context(|| format!("nothing came to the {method}"))?;
            if response.status > 100 && response.headers.cseq.method.as_str() == method {
                return Ok(response);
            }
        }
    }

    /// Says it again and again, as a client transaction does, until it has a final answer.
    pub async fn insist(
        &self,
        said: (u32, &str),
        to: &str,
        more: &str,
        body: &str,
    ) -> Result<Response> {
        let give_up = Instant::now() + WITHIN;
        loop {
            self.send(said, to, more, body).await?;
            let again = Instant::now() + T1;
            while let Some(left) = again.checked_duration_since(Instant::now()) {
                let Some(response) = self.next(left).await? else { break };
                let cseq = &response.headers.cseq;
                if response.status >= 200 && (cseq.number, cseq.method.as_str()) == said {
                    return Ok(response);
                }
            }
            ensure!(Instant::now() < give_up, "nobody answers {} {}", said.0, said.1);
        }
    }
}

/// The To parameters of a dialog that the response has begun.
pub fn to_tag(response: &Response) -> Result<String> {
    Ok(format!(";tag={}", response.headers.to_tag().context("a tag")?))
}
