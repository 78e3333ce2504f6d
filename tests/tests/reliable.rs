//! RFC 3262 over real processes: a caller who takes only reliable answers, and a leader that dies
//! between a 180 and its PRACK.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tandem_sip::{Message, Response, parse, reliable};
use tandem_tests::house::House;
use tandem_tests::phone::Incoming;
use tokio::net::UdpSocket;

const WITHIN: Duration = Duration::from_secs(15);
const CALL_ID: &str = "reliable@carrier";

/// A carrier, by hand.
struct Carrier {
    socket: UdpSocket,
    me: SocketAddr,
    vip: SocketAddr,
}

impl Carrier {
    async fn new(vip: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        let me = socket.local_addr()?;
        Ok(Self { socket, me, vip })
    }

    /// `to` is the To header's parameters, `more` further lines.
    async fn send(
        &self,
        (cseq, method): (u32, &str),
        to: &str,
        more: &str,
        body: &str,
    ) -> Result<()> {
        let Self { me, vip, .. } = self;
        let typed = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let text = format!(
            "{method} sip:1001@{vip} SIP/2.0\r\nVia: SIP/2.0/UDP {me};branch=z9hG4bK{method}{cseq}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:138@{me}>;tag=1\r\nTo: <sip:1001@{vip}>{to}\r\n\
             Call-ID: {CALL_ID}\r\nCSeq: {cseq} {method}\r\nContact: <sip:138@{me}>\r\n{more}{typed}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.socket.send_to(text.as_bytes(), vip).await?;
        Ok(())
    }

    /// The next response to a request of this method.
    async fn response(&self, method: &str) -> Result<Response> {
        let mut datagram = vec![0; 65_536];
        loop {
            let received = self.socket.recv(&mut datagram);
            let length =
                tokio::time::timeout(WITHIN, received).await.context(method.to_owned())??;
            let Message::Response(response) = parse(&datagram[..length])? else {
                bail!("a request for a carrier")
            };
            if response.status > 100 && response.headers.cseq.method.as_str() == method {
                return Ok(response);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leader_that_dies_before_the_prack_costs_nothing() -> Result<()> {
    let house = House::open(110).await?;
    let agent = house.agent("1001", 1, Incoming::Ring).await?;
    let carrier = Carrier::new(house.vips[0]).await?;
    let audio = UdpSocket::bind("127.0.0.1:0").await?;
    let sdp = format!(
        "v=0\r\no=c 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
         m=audio {} RTP/AVP 8\r\n",
        audio.local_addr()?.port()
    );
    carrier.send((1, "INVITE"), "", "Require: 100rel\r\n", &sdp).await?;
    let rings = carrier.response("INVITE").await?;
    assert_eq!(rings.status, 180);
    let rseq = reliable::rseq(&rings).context("a reliable 180")?;
    assert!(rings.body.starts_with(b"v=0"), "it describes how it rings");
    let leader = house.cluster.leader().await?;
    house.cluster.kill(&leader)?;
    let again = carrier.response("INVITE").await?;
    assert_eq!(again, rings, "it is repeated as it was");

    // The agent answers: the caller hears of it with the PRACK, and not before.
    let ringing = agent.with_calls(|calls| calls.keys().next().cloned()).context("it rings")?;
    agent.answer(&ringing)?;
    house.call_is(CALL_ID, "connected").await?;
    let to = format!(";tag={}", rings.headers.to_tag().context("a tag")?);
    carrier.send((2, "PRACK"), &to, &format!("RAck: {rseq} 1 INVITE\r\n"), "").await?;
    let mut said = Vec::new();
    let answer = loop {
        let mut datagram = vec![0; 65_536];
        let received = carrier.socket.recv(&mut datagram);
        let length = tokio::time::timeout(WITHIN, received).await.context("an answer")??;
        let Message::Response(response) = parse(&datagram[..length])? else {
            bail!("a request for a carrier")
        };
        said.push((response.status, response.headers.cseq.method.to_string()));
        if response.status >= 200 && response.headers.cseq.number == 1 {
            break response;
        }
    };
    let pracked = said.iter().position(|said| *said == (200, "PRACK".to_owned()));
    assert_eq!(pracked, Some(said.len() - 2), "{said:?}");
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    carrier.send((1, "ACK"), &to, "", "").await?;
    carrier.send((3, "BYE"), &to, "", "").await?;
    let cdr = house.cdr(CALL_ID).await?;
    assert_eq!((&cdr["disposition"], &cdr["takeovers"]), (&"answered".into(), &1.into()));
    assert_eq!(agent.violations(), []);
    house.cluster.stop()?;
    Ok(())
}

/// RFC 3311 §5.2: what both have agreed on by 180 and PRACK may be changed before the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caller_moves_its_audio_while_it_rings() -> Result<()> {
    let house = House::open(164).await?;
    let agent = house.agent("1001", 1, Incoming::Ring).await?;
    let carrier = Carrier::new(house.vips[0]).await?;
    let audio = [UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?];
    let sdp = |version: u8, socket: &UdpSocket| -> Result<String> {
        let port = socket.local_addr()?.port();
        Ok(format!(
            "v=0\r\no=c 1 {version} IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP 8\r\n"
        ))
    };
    carrier.send((1, "INVITE"), "", "Require: 100rel\r\n", &sdp(1, &audio[0])?).await?;
    let rings = carrier.response("INVITE").await?;
    let rseq = reliable::rseq(&rings).context("a reliable 180")?;
    let to = format!(";tag={}", rings.headers.to_tag().context("a tag")?);
    // Its PRACK has not come.
    carrier.send((2, "UPDATE"), &to, "", &sdp(2, &audio[1])?).await?;
    let waits = carrier.response("UPDATE").await?;
    assert_eq!((waits.status, waits.headers.other("Retry-After").is_some()), (500, true));
    carrier.send((3, "PRACK"), &to, &format!("RAck: {rseq} 1 INVITE\r\n"), "").await?;
    assert_eq!(carrier.response("PRACK").await?.status, 200);
    carrier.send((4, "UPDATE"), &to, "", &sdp(2, &audio[1])?).await?;
    let answer = carrier.response("UPDATE").await?;
    assert_eq!((answer.status, answer.body.starts_with(b"v=0")), (200, true));
    // Our ringing tone goes where it said last.
    let mut packet = [0; 2_048];
    tokio::time::timeout(WITHIN, audio[1].recv(&mut packet)).await.context("no tone")??;

    let ringing = agent.with_calls(|calls| calls.keys().next().cloned()).context("it rings")?;
    agent.answer(&ringing)?;
    let answer = carrier.response("INVITE").await?;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    carrier.send((1, "ACK"), &to, "", "").await?;
    carrier.send((5, "BYE"), &to, "", "").await?;
    assert_eq!(house.cdr(CALL_ID).await?["disposition"], "answered");
    house.cluster.stop()?;
    Ok(())
}
