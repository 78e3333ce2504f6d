//! Over real sockets: who is let in, and what a frame may be.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use tandem_lease::Fence;
use tandem_sip::{Carrier, Transport, Way};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::intake::{self, Outlet};
use crate::stream::{Bounds, Life, Ports, Streams, bind_all};
use crate::{Received, Report, Undelivered, limits};

const WITHIN: Duration = Duration::from_secs(5);
const DESK: &str = "https://desk.example.net";

struct Server {
    at: SocketAddr,
    streams: Streams,
    received: Outlet,
    reports: mpsc::Receiver<Report>,
}

type Client = WebSocketStream<TcpStream>;

fn serve(bounds: Bounds, origins: &[&str]) -> Server {
    let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    // The port of a listener of its own, which is free a moment later.
    let at = std::net::TcpListener::bind(any).unwrap().local_addr().unwrap();
    let origins: Arc<[String]> = origins.iter().map(|origin| (*origin).to_owned()).collect();
    let ports = Ports { tcp: any, tls: None, ws: Some(at), wss: None, origins };
    let life = Life { number: 0, fence: Arc::new(Fence::none()), follows: false };
    let (streams, listener) = bind_all(ports, bounds, &life).unwrap();
    let (handler, received) = intake::open(limits::IN_FLIGHT_MAX);
    let (to_us, reports) = mpsc::channel(limits::REPORTS_MAX);
    tokio::spawn(listener.run(handler, to_us));
    Server { at, streams, received, reports }
}

async fn open(at: SocketAddr, headers: &[(&'static str, &str)]) -> Result<Client, Error> {
    let mut request = format!("ws://{at}/").into_client_request()?;
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    let stream = TcpStream::connect(at).await.unwrap();
    Ok(tokio_tungstenite::client_async(request, stream).await?.0)
}

const ASKS: (&str, &str) = ("Sec-WebSocket-Protocol", "xmpp, sip");

fn status(outcome: Result<Client, Error>) -> u16 {
    match outcome {
        Err(Error::Http(response)) => response.status().as_u16(),
        other => panic!("{other:?}"),
    }
}

fn options(branch: &str) -> String {
    format!(
        "OPTIONS sip:tandem SIP/2.0\r\nVia: SIP/2.0/WS df7jal23ls0d.invalid;branch={branch}\r\n\
         From: <sip:1001@demo>;tag=1\r\nTo: <sip:demo>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n\r\n"
    )
}

async fn next(server: &mut Server) -> Received {
    timeout(WITHIN, server.received.recv()).await.unwrap().unwrap()
}

/// The next frame that is no ping; none where the peer has closed.
async fn frame(client: &mut Client) -> Option<Message> {
    loop {
        match timeout(WITHIN, client.next()).await.unwrap() {
            Some(Ok(Message::Ping(_))) => {}
            Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
            Some(Ok(message)) => return Some(message),
        }
    }
}

#[tokio::test]
async fn only_who_asks_for_sip_is_let_in_and_only_from_pages_that_are_named() {
    let server = serve(Bounds::default(), &[DESK]);
    assert_eq!(status(open(server.at, &[]).await), 400);
    assert_eq!(status(open(server.at, &[("Sec-WebSocket-Protocol", "xmpp")]).await), 400);
    let foreign = [ASKS, ("Origin", "https://elsewhere.example.net")];
    assert_eq!(status(open(server.at, &foreign).await), 403);
    let twice = [ASKS, ("Origin", DESK), ("Origin", "null")];
    assert_eq!(status(open(server.at, &twice).await), 403);
    // A browser may write it like that; a phone that is none says nothing.
    assert!(open(server.at, &[ASKS, ("Origin", "HTTPS://desk.example.net")]).await.is_ok());
    assert!(open(server.at, &[ASKS]).await.is_ok());
    let anybody = serve(Bounds::default(), &[]);
    assert!(open(anybody.at, &foreign).await.is_ok());
}

#[tokio::test]
async fn frame_is_a_message_whatever_its_kind_and_is_answered_over_its_connection() {
    let mut server = serve(Bounds::default(), &[]);
    let mut client = open(server.at, &[ASKS]).await.unwrap();
    client.send(Message::text(options("z9hG4bKtext"))).await.unwrap();
    let text = next(&mut server).await;
    client.send(Message::binary(options("z9hG4bKbinary"))).await.unwrap();
    let binary = next(&mut server).await;
    assert_eq!(text.flow, binary.flow);
    let Carrier::Ws { connection: Some(_) } = text.flow.carrier else {
        panic!("{:?}", text.flow.carrier)
    };
    let tandem_sip::Message::Request(request) = text.message else { panic!("a response") };
    assert_eq!(request.headers.top_via().unwrap().transport, Transport::Ws);
    let response = request.respond(200, None, Some("t"));
    let way = text.flow.way_back(&response);
    assert_eq!(way, Way { open: None, ..way.clone() }, "a name of .invalid is never resolved");
    server.streams.send(response.to_bytes(), &way, None).unwrap();
    let answer = frame(&mut client).await.unwrap();
    assert!(answer.is_text() && answer.into_data().starts_with(b"SIP/2.0 200"));
    // RFC 7118 §5.1: what is no text goes as it is.
    server.streams.send(vec![0xff; 3], &way, None).unwrap();
    assert_eq!(frame(&mut client).await.unwrap(), Message::binary(vec![0xff; 3]));
    // RFC 5626 §4.4.1.
    client.send(Message::text("\r\n\r\n")).await.unwrap();
    assert_eq!(frame(&mut client).await.unwrap(), Message::text("\r\n"));
}

#[tokio::test]
async fn request_over_a_websocket_that_is_gone_is_told_to_be_undelivered() {
    let mut server = serve(Bounds::default(), &[]);
    let mut client = open(server.at, &[ASKS]).await.unwrap();
    client.send(Message::text(options("z9hG4bKa"))).await.unwrap();
    let received = next(&mut server).await;
    let (carrier, to) = (received.flow.carrier, received.flow.remote);
    let way = Way { carrier, ..Way::udp(to) };
    // The peer takes it and goes before it answers: nobody can say that it did.
    server.streams.send(b"x".to_vec(), &way, Some(tandem_sip::Ticket(7))).unwrap();
    frame(&mut client).await.unwrap();
    drop(client);
    let undelivered = timeout(WITHIN, server.reports.recv()).await.unwrap().unwrap();
    let expected = Undelivered { ticket: tandem_sip::Ticket(7), opened: false };
    assert_eq!(undelivered, Report::Undelivered(expected));
    let closed = timeout(WITHIN, server.reports.recv()).await.unwrap().unwrap();
    let connection = carrier.connection().unwrap();
    assert_eq!(closed, Report::Closed { remote: to, connection });
    assert!(server.streams.send(b"x".to_vec(), &way, Some(tandem_sip::Ticket(8))).is_err());
}

#[tokio::test]
async fn phone_that_has_lost_its_websocket_is_reached_over_its_next_one() {
    let mut server = serve(Bounds::default(), &[]);
    let mut client = open(server.at, &[ASKS]).await.unwrap();
    client.send(Message::text(options("z9hG4bKa"))).await.unwrap();
    let received = next(&mut server).await;
    let tandem_sip::Message::Request(request) = received.message else { panic!("a response") };
    let response = request.respond(200, None, Some("t"));
    let way = received.flow.way_back(&response);
    drop(client);
    timeout(WITHIN, server.reports.recv()).await.unwrap().unwrap();
    let sent = |server: &Server| {
        let ticket = Some(tandem_sip::Ticket(1));
        server.streams.send(response.to_bytes(), &way, ticket)
    };
    assert!(sent(&server).is_err(), "nobody is there");
    // Another phone has another name.
    let mut other = open(server.at, &[ASKS]).await.unwrap();
    let renamed = options("z9hG4bKb").replace(".invalid", ".other.invalid");
    other.send(Message::text(renamed)).await.unwrap();
    next(&mut server).await;
    assert!(sent(&server).is_err(), "somebody else is there");
    let mut again = open(server.at, &[ASKS]).await.unwrap();
    again.send(Message::text(options("z9hG4bKc"))).await.unwrap();
    next(&mut server).await;
    sent(&server).unwrap();
    assert!(frame(&mut again).await.unwrap().into_data().starts_with(b"SIP/2.0 200"));
}

#[tokio::test]
async fn frame_that_is_too_long_or_junk_ends_the_connection() {
    let mut server = serve(Bounds::default(), &[]);
    let long = Message::text("x".repeat(tandem_sip::MESSAGE_BYTES_MAX + 1));
    let zeros = Message::binary(vec![0; 64]);
    let many = vec![zeros; limits::MALFORMED_MAX as usize];
    for junk in [vec![long], vec![Message::text("GET / HTTP/1.1\r\n\r\n")], many] {
        let mut client = open(server.at, &[ASKS]).await.unwrap();
        for frame in junk {
            client.send(frame).await.unwrap();
        }
        assert_eq!(frame(&mut client).await, None);
    }
    assert!(server.received.try_recv().is_err());
}

#[tokio::test]
async fn silent_peer_is_closed_and_one_that_answers_pings_is_not() {
    let ping = Duration::from_millis(100);
    let bounds = Bounds { first_message: Duration::from_secs(1), ping, ..Bounds::default() };
    let mut server = serve(bounds, &[]);
    // Empty lines are no message.
    let mut says_nothing = open(server.at, &[ASKS]).await.unwrap();
    says_nothing.send(Message::text("\r\n\r\n")).await.unwrap();
    assert_eq!(frame(&mut says_nothing).await, Some(Message::text("\r\n")));
    assert_eq!(frame(&mut says_nothing).await, None);

    let mut lives = open(server.at, &[ASKS]).await.unwrap();
    lives.send(Message::text(options("z9hG4bKlives"))).await.unwrap();
    let flow = next(&mut server).await.flow;
    let way = Way { carrier: flow.carrier, ..Way::udp(flow.remote) };
    // Whoever reads answers pings: far longer than a peer is waited for that does not.
    let beyond = ping * limits::PINGS_MAX * 4;
    assert!(timeout(beyond, frame(&mut lives)).await.is_err(), "it was closed");
    // From here on it is not read, and its pongs do not come.
    tokio::time::sleep(ping * limits::PINGS_MAX * 2).await;
    assert!(server.streams.send(b"x".to_vec(), &way, Some(tandem_sip::Ticket(1))).is_err());
}
