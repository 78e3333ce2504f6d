//! What a phone would be too quick for.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tandem_sip::{Method, NameAddr, Request, Response, Uri, reliable};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

use super::{State, WITHIN};
use crate::hand::{Hand, to_tag};
use crate::house::House;
use crate::phone::Phone;
use crate::raw::Raw;

const AGENT: &str = "1003";
/// RFC 3261 §17.1.1.1.
const T1: Duration = Duration::from_millis(500);

pub enum ByHand {
    /// An agent's phone that was invited, and where it would hear.
    Called { phone: Raw, audio: UdpSocket, invite: Box<Request>, call: String },
    /// A caller who has had this response.
    Caller { state: State, hand: Hand, heard: Box<Response>, to: String },
}

impl ByHand {
    pub async fn enter(house: &House, state: State, at: usize, caller: &Phone) -> Result<Self> {
        if state == State::Called {
            let mut phone = Raw::open(house.vips[at]).await?;
            register(&mut phone, 600).await?;
            house.agent_is(AGENT, "ready").await?;
            let call = caller.dial(AGENT)?;
            let invite = Box::new(phone.request().await?);
            let audio = UdpSocket::bind("127.0.0.1:0").await?;
            return Ok(Self::Called { phone, audio, invite, call });
        }
        let number = if state == State::Reliable { "1001" } else { "4003" };
        let hand = Hand::new(house.vips[at], number).await?;
        let sdp = hand.sdp(1, &hand.audio)?;
        let more = if state == State::Reliable { "Require: 100rel\r\n" } else { "" };
        let heard = Box::new(invite(&hand, more, &sdp).await?);
        let expected = if state == State::Reliable { 180 } else { 200 };
        ensure!(heard.status == expected, "INVITE was answered {}", heard.status);
        let to = to_tag(&heard)?;
        if state == State::Reinviting {
            hand.send((1, "ACK"), &to, "", "").await?;
            house.call_is(&hand.call_id, "in_flow").await?;
        }
        Ok(Self::Caller { state, hand, heard, to })
    }

    pub async fn strike(&self) -> Result<()> {
        if let Self::Caller { hand, to, .. } = self {
            hand.send((2, "INVITE"), to, "", &hand.sdp(2, &hand.audio)?).await?;
        }
        Ok(())
    }

    /// The Call-ID of the caller, whose call is over then.
    pub async fn go_on(
        &mut self,
        house: &House,
        caller: &Phone,
        agent: Option<&Phone>,
    ) -> Result<String> {
        match self {
            Self::Called { phone, audio, invite, call } => {
                answer(phone, invite, audio.local_addr()?.port()).await?;
                caller.answered(call, WITHIN).await?;
                house.call_is(call, "connected").await?;
                let status = caller.hang_up(call).await?;
                ensure!(status == 200, "BYE was answered {status}");
                let bye = next(phone, invite, &Method::Bye).await?;
                phone.send(&bye.respond(200, None, None).to_bytes()).await?;
                register(phone, 0).await?;
                Ok(call.clone())
            }
            Self::Caller { state, hand, heard, to } => {
                match state {
                    State::Reliable => {
                        let again = hand.response("INVITE").await?;
                        ensure!(again == **heard, "it was repeated otherwise: {again:?}");
                        let rseq = reliable::rseq(heard).context("a reliable 180")?;
                        let rack = format!("RAck: {rseq} 1 INVITE\r\n");
                        let acknowledged = hand.insist((2, "PRACK"), to, &rack, "").await?;
                        ensure!(acknowledged.status == 200, "{}", acknowledged.status);
                        let agent = agent.context("an agent")?;
                        let offered = agent.with_calls(|calls| calls.keys().next().cloned());
                        agent.answer(&offered.context("it rings")?)?;
                        let answer = hand.response("INVITE").await?;
                        ensure!(answer.status == 200, "{}", answer.status);
                        hand.send((1, "ACK"), to, "", "").await?;
                    }
                    State::Unacknowledged => {
                        let again = hand.response("INVITE").await?;
                        ensure!(again == **heard, "it was repeated otherwise: {again:?}");
                        hand.send((1, "ACK"), to, "", "").await?;
                    }
                    _ => {
                        let sdp = hand.sdp(2, &hand.audio)?;
                        let answer = hand.insist((2, "INVITE"), to, "", &sdp).await?;
                        ensure!(answer.status == 200, "re-INVITE: {}", answer.status);
                        hand.send((2, "ACK"), to, "", "").await?;
                    }
                }
                let bye = hand.insist((3, "BYE"), to, "", "").await?;
                ensure!(bye.status == 200, "BYE was answered {}", bye.status);
                Ok(hand.call_id.clone())
            }
        }
    }
}

/// Says it again until it is heard: an address may be on its way from one gateway to the other.
async fn invite(hand: &Hand, more: &str, sdp: &str) -> Result<Response> {
    let give_up = Instant::now() + WITHIN;
    while Instant::now() < give_up {
        hand.send((1, "INVITE"), "", more, sdp).await?;
        if let Ok(response) = timeout(T1, hand.response("INVITE")).await {
            return response;
        }
    }
    bail!("nobody hears an INVITE")
}

/// The same.
async fn register(phone: &mut Raw, expires_s: u32) -> Result<()> {
    let contact = format!("Contact: <sip:{AGENT}@{}>\r\nExpires: {expires_s}\r\n", phone.own);
    let give_up = Instant::now() + WITHIN;
    while Instant::now() < give_up {
        if let Ok(answer) = timeout(2 * T1, phone.register(AGENT, &contact)).await {
            let status = answer?.status;
            ensure!(status == 200, "REGISTER was answered {status}");
            return Ok(());
        }
    }
    bail!("nobody hears a REGISTER")
}

/// Rings, and picks up.
async fn answer(phone: &Raw, invite: &Request, port: u16) -> Result<()> {
    let tag = Some("by-hand");
    let host = phone.own.ip().to_string();
    let contact = NameAddr::new(Uri::sip(Some(AGENT), &host, Some(phone.own.port())));
    let respond = |status| {
        let mut response = invite.respond(status, None, tag);
        response.headers.contact = vec![contact.clone()];
        response
    };
    phone.send(&respond(180).to_bytes()).await?;
    let mut ok = respond(200);
    ok.headers.content_type = Some("application/sdp".into());
    ok.body = format!(
        "v=0\r\no=h 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0\r\n"
    )
    .into_bytes();
    // RFC 3261 §13.3.1.4: until its ACK comes.
    let give_up = Instant::now() + WITHIN;
    while Instant::now() < give_up {
        phone.send(&ok.to_bytes()).await?;
        if let Ok(acknowledged) = timeout(T1, next(phone, invite, &Method::Ack)).await {
            acknowledged?;
            return Ok(());
        }
    }
    bail!("a 200 is not acknowledged")
}

/// The next request of that method. An INVITE is the one that is known, again, or one too many.
async fn next(phone: &Raw, invite: &Request, method: &Method) -> Result<Request> {
    loop {
        let request = phone.request().await?;
        if request.method == *method {
            return Ok(request);
        }
        let branch = |request: &Request| request.headers.via.first().cloned();
        let again = branch(&request) == branch(invite);
        ensure!(
            again,
            "a second transaction for one call: {} {:?}",
            request.method,
            request.headers
        );
    }
}
