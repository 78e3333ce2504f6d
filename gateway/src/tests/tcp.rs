//! SIP over TCP, over real connections.

use std::net::SocketAddr;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use tandem_core::command::GatewayEvent;
use tandem_core::effect::Body;
use tandem_sip::dialog::{Dialog, cancel_for};
use tandem_sip::{Carrier, Message, Method, Request, Response, Transport, digest};
use tandem_wire::Bounds;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::harness::{FakeNode, Gateway, Numbers, PATIENCE, QUIET, parse};

/// A phone with one connection, and a port that it listens at.
struct Phone {
    stream: TcpStream,
    listener: TcpListener,
    read: Vec<u8>,
}

impl Phone {
    async fn new(gateway: &Gateway) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(gateway.vip).await.unwrap();
        Self { stream, listener, read: Vec::new() }
    }

    /// Where it listens.
    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// Where its own connection comes from.
    fn source(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    fn text(&self, method: &str, branch: &str, more: &str, body: &str) -> String {
        let address = self.address();
        format!(
            "{method} sip:4003@demo SIP/2.0\r\nVia: SIP/2.0/TCP {address};branch=z9hG4bK{branch}\r\n\
             From: <sip:alice@demo>;tag=f{branch}\r\nTo: <sip:4003@demo>\r\n\
             Call-ID: call-{branch}\r\nCSeq: 1 {method}\r\n\
             Contact: <sip:alice@{address};transport=tcp>\r\n\
             {more}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    fn invite(&self, branch: &str) -> String {
        let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
                   m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n";
        self.text("INVITE", branch, "Max-Forwards: 70\r\nContent-Type: application/sdp\r\n", sdp)
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// The gateway opens a connection of its own to the phone.
    async fn accept(&mut self) {
        let accepted = timeout(PATIENCE, self.listener.accept()).await.expect("a connection");
        self.stream = accepted.unwrap().0;
        self.read.clear();
    }

    async fn more(&mut self) -> usize {
        let read = self.stream.read_buf(&mut self.read);
        timeout(PATIENCE, read).await.expect("bytes").unwrap_or(0)
    }

    async fn next(&mut self) -> Message {
        loop {
            let end = self.read.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(head) = end.map(|end| end + 4) {
                let body = tandem_sip::body_length(&self.read[..head]).unwrap().unwrap();
                if self.read.len() >= head + body {
                    let bytes: Vec<u8> = self.read.drain(..head + body).collect();
                    return tandem_sip::parse(&bytes).expect("SIP");
                }
            }
            assert_ne!(self.more().await, 0, "the gateway has closed the connection");
        }
    }

    async fn response(&mut self) -> Response {
        match self.next().await {
            Message::Response(response) => response,
            Message::Request(request) => panic!("{request:?} instead of a response"),
        }
    }

    async fn request(&mut self) -> Request {
        match self.next().await {
            Message::Request(request) => request,
            Message::Response(response) => panic!("{response:?} instead of a request"),
        }
    }

    async fn ask(&mut self, text: &str) -> Response {
        self.send(text).await;
        self.response().await
    }

    /// The gateway has closed the connection, and said nothing more.
    async fn closed(&mut self) {
        while self.more().await > 0 {}
        assert_eq!(String::from_utf8_lossy(&self.read), "");
    }

    async fn quiet(&mut self) {
        let read = timeout(QUIET, self.stream.read_buf(&mut self.read)).await;
        assert!(read.is_err(), "{:?} was not expected", String::from_utf8_lossy(&self.read));
    }
}

pub async fn respond(
    node: &mut FakeNode,
    to: &tandem_core::command::Inbound,
    status: u16,
) -> Response {
    let response = to.request.respond(status, None, Some("ours"));
    node.respond(1, &to.transaction, response.clone()).await;
    response
}

pub async fn send(
    node: &mut FakeNode,
    request: &Request,
    destination: SocketAddr,
    carrier: Carrier,
) {
    let body = Body::Send { request: request.clone().into(), destination, carrier };
    node.effect(1, body).await;
}

/// An INVITE of ours to the phone's contact, as the core makes it.
fn our_invite(gateway: &Gateway, phone: &Phone, branch: &str, transport: &str) -> Request {
    let vip = gateway.vip;
    parse(&format!(
        "INVITE sip:1001@{};transport=tcp SIP/2.0\r\n\
         Via: SIP/2.0/{transport} {vip};branch=z9hG4bK{branch};rport\r\n\
         From: <sip:4001@{1}>;tag=ours\r\nTo: <sip:1001@{1}>\r\nCall-ID: out-{branch}\r\n\
         CSeq: 1 INVITE\r\nContact: <sip:tandem@{vip};transport=tcp>\r\nMax-Forwards: 70\r\n\r\n",
        phone.address(),
        vip.ip()
    ))
}

/// What the cluster knows of the phone's connection, once it has called.
async fn carrier_of(node: &mut FakeNode, phone: &mut Phone) -> Carrier {
    phone.send(phone.invite("carrier")).await;
    node.invite().await.carrier
}

pub async fn reported(node: &mut FakeNode) -> Response {
    match node.event().await {
        GatewayEvent::Response { response, .. } => *response,
        other => panic!("{other:?} instead of a response"),
    }
}

#[tokio::test]
async fn call_is_made_and_ended_over_one_connection() {
    let (gateway, mut node) = Gateway::with_leader().await;
    let mut phone = Phone::new(&gateway).await;
    phone.send(phone.invite("a")).await;
    let invite = node.invite().await;
    assert_eq!(invite.source, phone.source());
    assert!(matches!(invite.carrier, Carrier::Tcp { connection: Some(_) }));
    respond(&mut node, &invite, 100).await;
    assert_eq!(phone.response().await.status, 100);
    respond(&mut node, &invite, 200).await;
    // A 2xx is repeated until its ACK over any transport (RFC 3261 §13.3.1.4).
    assert_eq!(phone.response().await.status, 200);
    assert_eq!(phone.response().await.status, 200);
    let in_dialog = |text: String| text.replace("To: <sip:4003@demo>", "To: <sip:x>;tag=ours");
    phone.send(in_dialog(phone.text("ACK", "b", "", "")).replace("call-b", "call-a")).await;
    assert!(matches!(node.event().await, GatewayEvent::Ack { call_id, .. } if call_id == "call-a"));
    phone.send(in_dialog(phone.text("BYE", "c", "", ""))).await;
    let GatewayEvent::Request(bye) = node.event().await else { panic!("no BYE") };
    assert_eq!((&bye.request.method, bye.carrier), (&Method::Bye, invite.carrier));
    node.respond(1, &bye.transaction, bye.request.respond(200, None, None)).await;
    assert_eq!(phone.response().await.status, 200);
    phone.quiet().await;
    node.quiet().await;
}

#[tokio::test]
async fn cancel_over_a_connection_is_answered_at_once_and_a_failure_is_said_once() {
    let (gateway, mut node) = Gateway::with_leader().await;
    let mut phone = Phone::new(&gateway).await;
    phone.send(phone.invite("a")).await;
    let invite = node.invite().await;
    let cancel = phone.text("CANCEL", "a", "", "");
    assert_eq!(phone.ask(&cancel).await.headers.cseq.method, Method::Cancel);
    assert!(matches!(node.event().await, GatewayEvent::Cancel { .. }));
    respond(&mut node, &invite, 487).await;
    assert_eq!(phone.response().await.status, 487);
    // Timer G sends it again over UDP alone, after half a second.
    let again = timeout(Duration::from_millis(700), phone.more()).await;
    assert!(again.is_err(), "a failure is not repeated over a reliable transport");
}

#[tokio::test]
async fn agent_registers_with_a_password_and_is_rung_over_the_same_connection() {
    let (gateway, mut node) = Gateway::with_leader().await;
    let mut phone = Phone::new(&gateway).await;
    let register = |phone: &Phone, branch: &str, more: &str| {
        phone.text("REGISTER", branch, more, "").replace("<sip:4003@demo>", "<sip:1001@demo>")
    };
    let text = register(&phone, "a", "");
    let challenge = phone.ask(&text).await;
    assert_eq!(challenge.status, 401);
    let value = challenge.headers.other("WWW-Authenticate").unwrap();
    let answer = digest::answer(value, "1001", "tandem-1001", "REGISTER", "sip:demo", "c").unwrap();
    let text = register(&phone, "b", &format!("Authorization: {answer}\r\n"));
    phone.send(text).await;
    let GatewayEvent::Register(proven) = node.event().await else { panic!("no register") };
    assert_eq!(proven.source, phone.source());
    node.respond(1, &proven.transaction, proven.request.respond(200, None, Some("t"))).await;
    assert_eq!(phone.response().await.status, 200);
    // The contact is one that nobody could reach, as behind a NAT.
    let mut invite = our_invite(&gateway, &phone, "c", "TCP");
    invite.uri.host = "192.0.2.1".into();
    send(&mut node, &invite, proven.source, proven.carrier).await;
    assert_eq!(phone.request().await, invite);
    // Nothing is sent again over a reliable transport (RFC 3261 §17.1.1.2).
    let again = timeout(Duration::from_millis(700), phone.more()).await;
    assert!(again.is_err());
    let mut ok = invite.respond(200, None, Some("theirs"));
    ok.headers.contact = vec![format!("<sip:1001@{}>", phone.address()).parse().unwrap()];
    phone.send(ok.to_bytes()).await;
    assert_eq!(reported(&mut node).await.status, 200);
    let ack = Dialog::as_uac(&invite, &ok).unwrap().ack(1, invite.headers.via[0].clone());
    send(&mut node, &ack, proven.source, proven.carrier).await;
    assert_eq!(phone.request().await, ack);
    // Its ACK was lost on the way: the peer repeats its 200.
    phone.send(ok.to_bytes()).await;
    assert_eq!(phone.request().await, ack);
    node.quiet().await;
}

#[tokio::test]
async fn messages_are_told_apart_however_they_are_cut() {
    let (gateway, _node) = Gateway::with_leader().await;
    let mut phone = Phone::new(&gateway).await;
    let (first, second) =
        (phone.text("OPTIONS", "a", "", "body"), phone.text("OPTIONS", "b", "", ""));
    phone.send(format!("{first}{second}")).await;
    assert_eq!(phone.response().await.headers.branch(), "z9hG4bKa");
    assert_eq!(phone.response().await.headers.branch(), "z9hG4bKb");
    phone.stream.set_nodelay(true).unwrap();
    for byte in first.into_bytes() {
        phone.send([byte]).await;
    }
    assert_eq!(phone.response().await.status, 200);
}

#[tokio::test]
async fn keep_alive_is_answered_with_one_empty_line() {
    let (gateway, _node) = Gateway::with_leader().await;
    let mut phone = Phone::new(&gateway).await;
    phone.send("\r\n\r\n").await;
    while phone.read.len() < 2 {
        assert_ne!(phone.more().await, 0);
    }
    assert_eq!(std::mem::take(&mut phone.read), b"\r\n");
    let options = phone.text("OPTIONS", "a", "", "");
    assert_eq!(phone.ask(&options).await.status, 200);
    phone.quiet().await;
}

#[tokio::test]
async fn answer_comes_over_a_new_connection_when_that_of_the_request_is_gone() {
    let (gateway, mut node) = Gateway::with_leader().await;
    let mut phone = Phone::new(&gateway).await;
    phone.send(phone.invite("a")).await;
    let invite = node.invite().await;
    phone.stream.shutdown().await.unwrap();
    phone.closed().await;
    respond(&mut node, &invite, 180).await;
    phone.accept().await;
    assert_eq!(phone.response().await.status, 180);
    // The same connection takes the next one.
    respond(&mut node, &invite, 486).await;
    assert_eq!(phone.response().await.status, 486);
}

#[tokio::test]
async fn request_comes_over_a_new_connection_when_the_known_one_is_of_an_earlier_life() {
    let (gateway, mut node) = Gateway::with_leader().await;
    let mut phone = Phone::new(&gateway).await;
    let invite = our_invite(&gateway, &phone, "a", "TCP");
    let carrier = Carrier::Tcp { connection: Some(tandem_sip::ConnectionId(5)) };
    send(&mut node, &invite, "127.0.0.1:9".parse().unwrap(), carrier).await;
    phone.accept().await;
    assert_eq!(phone.request().await, invite);
    phone.send(invite.respond(180, None, Some("theirs")).to_bytes()).await;
    assert_eq!(reported(&mut node).await.status, 180);
    let cancel = cancel_for(&invite);
    send(&mut node, &cancel, "127.0.0.1:9".parse().unwrap(), carrier).await;
    assert_eq!(phone.request().await, cancel);
}

#[tokio::test]
async fn unanswered_request_is_tried_at_the_contact_when_its_connection_is_closed() {
    let (gateway, mut node) = Gateway::with_leader().await;
    let mut phone = Phone::new(&gateway).await;
    let carrier = carrier_of(&mut node, &mut phone).await;
    let invite = our_invite(&gateway, &phone, "a", "TCP");
    send(&mut node, &invite, phone.source(), carrier).await;
    assert_eq!(phone.request().await, invite);
    phone.accept_after_closing().await;
    assert_eq!(phone.request().await, invite);
    // That one ends, too, and with it the attempts.
    drop(phone);
    let GatewayEvent::ClientTimeout { branch } = node.event().await else { panic!("no failure") };
    assert_eq!(branch, "z9hG4bKa");
}

impl Phone {
    async fn accept_after_closing(&mut self) {
        self.stream.shutdown().await.unwrap();
        self.accept().await;
    }
}

#[tokio::test]
async fn request_fails_at_once_when_nobody_listens() {
    let (gateway, mut node) = Gateway::with_leader().await;
    let phone = Phone::new(&gateway).await;
    let invite = our_invite(&gateway, &phone, "a", "TCP");
    let source = phone.source();
    drop(phone);
    send(&mut node, &invite, source, Carrier::TCP).await;
    let GatewayEvent::ClientTimeout { branch } = node.event().await else { panic!("no failure") };
    assert_eq!(branch, "z9hG4bKa");
    node.quiet().await;
}

#[tokio::test]
async fn long_request_goes_over_a_connection_and_as_a_datagram_where_there_is_none() {
    let (gateway, mut node) = Gateway::with_leader().await;
    let mut phone = Phone::new(&gateway).await;
    let mut invite = our_invite(&gateway, &phone, "a", "UDP");
    invite.headers.push_other("Subject", &"s".repeat(1_300));
    send(&mut node, &invite, phone.address(), Carrier::Udp).await;
    phone.accept().await;
    let told = phone.request().await;
    assert_eq!(told.headers.via[0].transport, Transport::Tcp);
    phone.send(told.respond(180, None, Some("theirs")).to_bytes()).await;
    assert_eq!(reported(&mut node).await.status, 180);
    // Its CANCEL goes the same way, short as it is (RFC 3261 §9.1).
    send(&mut node, &cancel_for(&invite), phone.address(), Carrier::Udp).await;
    assert_eq!(phone.request().await.headers.via[0].transport, Transport::Tcp);

    let by_udp = super::harness::Phone::new(&gateway).await;
    let mut invite = our_invite(&gateway, &phone, "b", "UDP");
    invite.headers.push_other("Subject", &"s".repeat(1_300));
    send(&mut node, &invite, by_udp.address(), Carrier::Udp).await;
    assert_eq!(by_udp.request().await, invite);
    assert_eq!(by_udp.request().await, invite, "a datagram is repeated");
}

#[tokio::test]
async fn junk_is_refused_where_it_can_be_and_its_connection_closed() {
    let (gateway, mut node) = Gateway::with_leader().await;
    let mut live = Phone::new(&gateway).await;
    let mut phone = Phone::new(&gateway).await;
    let options = phone.text("OPTIONS", "a", "", "");
    let without_length = options.replace("Content-Length: 0\r\n", "");
    let long = options.replace("Content-Length: 0", "Content-Length: 70000");
    for (junk, status) in [
        (without_length, Some(400)),
        (options.replace("Content-Length: 0", "Content-Length: x"), Some(400)),
        (long, Some(513)),
        ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".to_owned(), None),
        ("\u{16}\u{3}\u{1}\u{2}".to_owned(), None),
    ] {
        let mut phone = Phone::new(&gateway).await;
        phone.send(&junk).await;
        if let Some(status) = status {
            assert_eq!(phone.response().await.status, status, "{junk}");
        }
        phone.closed().await;
    }
    // What has an end is refused, and the next message is read.
    let mismatch = options.replace("1 OPTIONS", "1 BYE");
    assert_eq!(phone.ask(&mismatch).await.status, 400);
    assert_eq!(phone.ask(&options).await.status, 200);
    assert_eq!(live.ask(&options).await.status, 200);
    node.quiet().await;
}

#[tokio::test]
async fn malformed_streams_harm_nobody_and_leave_no_connection_behind() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _local = metrics::set_default_local_recorder(&recorder);
    let (gateway, mut node) = Gateway::with_leader().await;
    let mut live = Phone::new(&gateway).await;
    let options = live.text("OPTIONS", "a", "", "");
    let mut numbers = Numbers(5);
    for _ in 0..500 {
        let mut hostile = Phone::new(&gateway).await;
        let mut stream = Vec::new();
        for _ in 0..=numbers.below(3) {
            let text = match numbers.below(4) {
                0 => hostile.invite("z"),
                1 => hostile.text("REGISTER", "y", "Authorization: Digest realm=\"x\"\r\n", ""),
                2 => "\r\n\r\n".to_owned(),
                _ => options.clone(),
            };
            stream.extend_from_slice(text.as_bytes());
        }
        numbers.mutate(&mut stream);
        // The gateway may have closed it already.
        let _ = hostile.stream.write_all(&stream).await;
        assert_eq!(live.ask(&options).await.status, 200);
        while let Ok((sequence, _)) = timeout(Duration::ZERO, node.next()).await {
            node.accept(sequence).await;
        }
    }
    while !handle.render().contains("tandem_sip_connections 1\n") {
        tokio::task::yield_now().await;
    }
    assert_eq!(live.ask(&options).await.status, 200);
}

#[tokio::test]
async fn connections_beyond_the_bound_are_closed_while_a_live_one_goes_on() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _local = metrics::set_default_local_recorder(&recorder);
    let bounds = Bounds { accepted_per_source_max: 20, ..Bounds::default() };
    let (gateway, _node) = Gateway::with_bounds(bounds).await;
    let mut live = Phone::new(&gateway).await;
    let options = live.text("OPTIONS", "a", "", "");
    assert_eq!(live.ask(&options).await.status, 200);
    let mut flood = Vec::new();
    for _ in 0..100 {
        flood.push(Phone::new(&gateway).await);
    }
    assert_eq!(live.ask(&options).await.status, 200);
    for refused in flood.iter_mut().skip(19) {
        refused.closed().await;
    }
    for taken in flood.iter_mut().take(19) {
        assert_eq!(taken.ask(&options).await.status, 200);
    }
    assert_eq!(live.ask(&options).await.status, 200);
    let text = handle.render();
    assert!(text.contains("tandem_sip_connections_refused_total{reason=\"source\"} 81"), "{text}");
    assert!(text.contains("tandem_sip_connections 20"), "{text}");
}

#[tokio::test]
async fn slow_and_silent_peers_are_closed() {
    // Long enough for a peer that is only on a busy machine.
    let short = Duration::from_secs(1);
    let bounds = Bounds { first_message: short, message: short, ..Bounds::default() };
    let (gateway, _node) = Gateway::with_bounds(bounds).await;
    let mut live = Phone::new(&gateway).await;
    let options = live.text("OPTIONS", "a", "", "");
    assert_eq!(live.ask(&options).await.status, 200);
    let (mut silent, mut slow) = (Phone::new(&gateway).await, Phone::new(&gateway).await);
    slow.send("OPTIONS sip:x").await;
    silent.closed().await;
    slow.closed().await;
    // Empty lines are no message.
    let mut empty = Phone::new(&gateway).await;
    empty.send("\r\n").await;
    empty.closed().await;
    // One that has said something may rest.
    assert_eq!(live.ask(&options).await.status, 200);
}

#[tokio::test]
async fn connection_that_rests_too_long_is_closed_and_one_that_is_kept_alive_is_not() {
    let bounds = Bounds { idle: Duration::from_secs(1), ..Bounds::default() };
    let (gateway, _node) = Gateway::with_bounds(bounds).await;
    let (mut idle, mut kept) = (Phone::new(&gateway).await, Phone::new(&gateway).await);
    let options = kept.text("OPTIONS", "a", "", "");
    for phone in [&mut idle, &mut kept] {
        assert_eq!(phone.ask(&options).await.status, 200);
    }
    let closed = idle.closed();
    tokio::pin!(closed);
    loop {
        tokio::select! {
            () = &mut closed => break,
            () = tokio::time::sleep(Duration::from_millis(100)) => kept.send("\r\n\r\n").await,
        }
    }
    kept.read.clear();
    kept.send(&options).await;
    while !String::from_utf8_lossy(&kept.read).contains("SIP/2.0 200") {
        assert_ne!(kept.more().await, 0);
    }
}

#[tokio::test]
async fn peer_whose_messages_are_all_malformed_is_closed_after_some() {
    let (gateway, _node) = Gateway::with_leader().await;
    let mut phone = Phone::new(&gateway).await;
    let mismatch = phone.text("OPTIONS", "a", "", "").replace("1 OPTIONS", "1 BYE");
    for _ in 0..tandem_wire::limits::MALFORMED_MAX {
        assert_eq!(phone.ask(&mismatch).await.status, 400);
    }
    phone.closed().await;
}

#[tokio::test]
async fn peer_that_takes_nothing_is_closed_and_others_are_served() {
    let bounds = Bounds { unsent_bytes_max: 16 * 1024, ..Bounds::default() };
    let (gateway, mut node) = Gateway::with_bounds(bounds).await;
    let (mut stuck, mut live) = (Phone::new(&gateway).await, Phone::new(&gateway).await);
    let carrier = carrier_of(&mut node, &mut stuck).await;
    let options = live.text("OPTIONS", "a", "", "");
    let failed = async {
        // The buffers of the kernel take megabytes before the gateway's own fill.
        for n in 0.. {
            let mut invite = our_invite(&gateway, &stuck, &n.to_string(), "TCP");
            (invite.method, invite.headers.cseq.method) = (Method::Info, Method::Info);
            invite.headers.push_other("Subject", &"s".repeat(15_000));
            send(&mut node, &invite, stuck.source(), carrier).await;
            if n % 50 == 0 {
                assert_eq!(live.ask(&options).await.status, 200);
                if let Ok(event) = timeout(Duration::ZERO, node.next()).await {
                    return event.1;
                }
            }
        }
        unreachable!("it fails before it has sent for ever")
    };
    let failed = timeout(6 * PATIENCE, failed).await.expect("a stuck peer is noticed");
    assert!(matches!(failed, GatewayEvent::ClientTimeout { .. }), "{failed:?}");
    assert_eq!(live.ask(&options).await.status, 200);
}
