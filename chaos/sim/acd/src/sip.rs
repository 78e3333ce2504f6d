//! What the phones say: callers behind one carrier, and one phone an agent.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tandem_core::command::{GatewayEvent, Inbound, Login, Register, TransactionKey};
use tandem_core::ids::{AgentId, GatewayId};
use tandem_sip::sdp::{Audio, Beside, Codec, Direction, Payload};
use tandem_sip::{
    CSeq, Carrier, Headers, Method, NameAddr, Param, Request, Response, Transport, Uri, Via,
};

use crate::shard::GATEWAY;

/// The number that leads to the first queue; those of the others follow it.
const QUEUE_NUMBER: usize = 800;
/// RFC 5737 and RFC 1918 addresses: no packet is ever sent.
const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const CARRIER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const PORT: u16 = 5060;
const MAX_FORWARDS: u8 = 70;
const PEER_RTP_PORT: u16 = 4_000;
const RTP_PORT_FIRST: u16 = 1_024;
const PHONE_TAG: &str = "phone";
const AGENT_FIRST: u16 = 1_001;
pub const REGISTERED_S: u32 = 3_600;

/// Agents are counted from 0; their ids are extensions.
pub fn agent_id(agent: u16) -> AgentId {
    AgentId::from((AGENT_FIRST + agent).to_string())
}

pub fn agent_of(id: &str) -> Option<u16> {
    id.parse::<u16>().ok()?.checked_sub(AGENT_FIRST)
}

pub fn queue_number(queue: usize) -> String {
    (QUEUE_NUMBER + queue).to_string()
}

/// Which queue a number leads to.
pub fn queue_of(number: &str) -> Option<usize> {
    number.parse::<usize>().ok()?.checked_sub(QUEUE_NUMBER)
}

/// Callers are counted from 0; the count is number, Call-ID and tag.
pub fn caller_of(number: &str) -> Option<u64> {
    number.parse().ok()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Caller(u64),
    Agent(u16),
}

/// Who gets a request of ours.
pub fn peer_of(request: &Request, destination: SocketAddr) -> Option<Peer> {
    let user = request.headers.to.uri.user.as_deref()?;
    if destination.ip() == IpAddr::from(CARRIER) {
        caller_of(user).map(Peer::Caller)
    } else {
        agent_of(user).map(Peer::Agent)
    }
}

fn phone(agent: u16) -> IpAddr {
    let [high, low] = agent.to_be_bytes();
    Ipv4Addr::new(10, 0, high, low).into()
}

/// The gateway brings this many ports.
pub fn login(ports: usize) -> GatewayEvent {
    // Even ports; the odd one beside each is for RTCP.
    let ports = (RTP_PORT_FIRST..=u16::MAX).step_by(2).take(ports).collect();
    GatewayEvent::Login(Login { vip: SocketAddr::new(VIP.into(), PORT), ports })
}

/// `turn` grows with each refresh.
pub fn register(agent: u16, turn: u32) -> GatewayEvent {
    let id = agent_id(agent);
    let host = phone(agent);
    let mut request = request(Method::Register, &id.0, host, &format!("r{agent}"), turn);
    request.headers.to = NameAddr::new(Uri::sip(Some(&id.0), &VIP.to_string(), None));
    request.headers.expires = Some(REGISTERED_S);
    GatewayEvent::Register(Register {
        transaction: transaction(&request),
        source: SocketAddr::new(host, PORT),
        carrier: Carrier::Udp,
        request: request.into(),
        agent: id,
    })
}

pub fn invite(caller: u64, queue: usize) -> GatewayEvent {
    let number = caller.to_string();
    let mut request = request(Method::Invite, &number, CARRIER.into(), &number, 1);
    request.uri.user = Some(queue_number(queue));
    request.headers.to.uri.user = Some(queue_number(queue));
    GatewayEvent::Invite(inbound(request, Some(audio(CARRIER.into()))))
}

/// The ACK of our 200.
pub fn ack(caller: u64, local_tag: &str) -> GatewayEvent {
    GatewayEvent::Ack {
        call_id: caller.to_string(),
        local_tag: local_tag.to_owned(),
        cseq: 1,
        answer: None,
    }
}

pub fn bye(caller: u64, local_tag: &str) -> GatewayEvent {
    let number = caller.to_string();
    let mut request = request(Method::Bye, &number, CARRIER.into(), &number, 2);
    request.headers.to.set_tag(local_tag);
    GatewayEvent::Request(inbound(request, None))
}

/// A peer's answer to a request of ours; `method` differs from the request's where a CANCEL ends
/// its INVITE.
pub fn answer(request: &Request, method: Method, status: u16) -> GatewayEvent {
    let mut response: Response = request.respond(status, None, Some(PHONE_TAG));
    response.headers.cseq.method = method;
    let host = request.uri.ip().unwrap_or(CARRIER.into());
    let takes = request.method == Method::Invite && response.is_success();
    response.headers.contact = vec![NameAddr::new(request.uri.clone())];
    GatewayEvent::Response {
        branch: request.headers.branch().to_owned(),
        response: Box::new(response),
        answer: takes.then(|| audio(host)),
    }
}

fn request(method: Method, user: &str, host: IpAddr, call_id: &str, cseq: u32) -> Request {
    let host = host.to_string();
    let address = NameAddr::new(Uri::sip(Some(user), &host, Some(PORT)));
    let mut from = address.clone();
    from.set_tag(user);
    let target = Uri::sip(Some(&queue_number(0)), &VIP.to_string(), None);
    let branch = format!("z9hG4bK{call_id}-{cseq}");
    Request {
        method: method.clone(),
        uri: target.clone(),
        headers: Headers {
            via: vec![Via {
                transport: Transport::Udp,
                host,
                port: Some(PORT),
                params: vec![Param { name: "branch".into(), value: Some(branch) }],
            }],
            from,
            to: NameAddr::new(target),
            call_id: call_id.to_owned(),
            cseq: CSeq { number: cseq, method },
            contact: vec![address],
            route: Vec::new(),
            record_route: Vec::new(),
            max_forwards: Some(MAX_FORWARDS),
            expires: None,
            content_type: None,
            other: Vec::new(),
        },
        body: Vec::new(),
    }
}

fn inbound(request: Request, offer: Option<Audio>) -> Inbound {
    Inbound {
        transaction: transaction(&request),
        source: SocketAddr::new(CARRIER.into(), PORT),
        carrier: Carrier::Udp,
        request: request.into(),
        offer,
        names: Vec::new(),
    }
}

fn transaction(request: &Request) -> TransactionKey {
    let headers = &request.headers;
    TransactionKey {
        gateway: GatewayId(GATEWAY.into()),
        branch: headers.branch().into(),
        sent_by: headers.top_via().map(Via::sent_by).unwrap_or_default().into(),
        method: request.method.as_str().into(),
    }
}

fn audio(address: IpAddr) -> Audio {
    Audio {
        address,
        port: PEER_RTP_PORT,
        payloads: vec![Payload::new(Codec::Pcma.static_payload(), Codec::Pcma)],
        telephone_event: Some(101),
        telephone_event_wide: None,
        direction: Direction::SendRecv,
        ptime_ms: Some(20),
        session_id: 1,
        session_version: 1,
        crypto: Vec::new(),
        secure: false,
        beside: Beside::default(),
    }
}
