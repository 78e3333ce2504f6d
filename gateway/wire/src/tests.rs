use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tandem_lease::Fence;
use tandem_sip::{Carrier, Message, Method};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::admission::{Rank, Sources};
use crate::intake::{self, Outlet};
use crate::{Bounds, Error, Received, Socket, limits, stream};

const PATIENCE: Duration = Duration::from_secs(5);

fn request(method: &str, to_tag: &str) -> String {
    format!(
        "{method} sip:4003@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:9;rport;branch=z9hG4bKa\r\n\
         From: <sip:a@x>;tag=1\r\nTo: <sip:b@x>{to_tag}\r\nCall-ID: c\r\nCSeq: 1 {method}\r\n\
         Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
}

fn bind_udp(address: SocketAddr) -> Result<Socket, Error> {
    Socket::bind(address, Arc::new(Fence::none()))
}

struct Bench {
    peer: UdpSocket,
    server: SocketAddr,
    received: Outlet,
}

impl Bench {
    async fn open(capacity: usize) -> Self {
        let socket = Arc::new(bind_udp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap());
        let server = socket.local();
        let (handler, received) = intake::open(capacity);
        tokio::spawn(socket.receive(handler));
        let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        Self { peer, server, received }
    }

    async fn send(&self, bytes: &[u8]) {
        self.peer.send_to(bytes, self.server).await.unwrap();
    }

    async fn next(&mut self) -> Received {
        timeout(PATIENCE, self.received.recv()).await.unwrap().unwrap()
    }

    async fn answer(&self) -> String {
        let mut buffer = vec![0; 2048];
        let (length, _) =
            timeout(PATIENCE, self.peer.recv_from(&mut buffer)).await.unwrap().unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }
}

#[tokio::test]
async fn request_is_handed_over_with_its_source_when_it_is_well_formed() {
    let mut bench = Bench::open(8).await;
    bench.send(b"\r\n\r\n").await;
    bench.send(request("OPTIONS", "").as_bytes()).await;
    let received = bench.next().await;
    let Message::Request(request) = received.message else { panic!("no request") };
    assert_eq!(request.method, Method::Options);
    let source = bench.peer.local_addr().unwrap();
    assert_eq!(received.flow.remote, source);
    assert_eq!(request.headers.via[0].rport(), Some(Some(source.port())));
}

#[tokio::test]
async fn malformed_request_is_answered_400_when_it_can_be() {
    let mut bench = Bench::open(8).await;
    bench.send(b"not SIP at all").await;
    bench.send(request("OPTIONS", "").replace("1 OPTIONS", "1 BYE").as_bytes()).await;
    assert!(bench.answer().await.starts_with("SIP/2.0 400 "));
    bench.send(request("OPTIONS", "").as_bytes()).await;
    bench.next().await;
}

#[tokio::test]
async fn socket_is_bound_again_when_its_holder_reuses_addresses_too() {
    let first = bind_udp("127.0.0.1:0".parse().unwrap()).unwrap();
    let second = bind_udp(first.local()).unwrap();
    assert_eq!(first.local(), second.local());
}

#[tokio::test]
async fn socket_says_so_when_its_port_is_busy() {
    let holder = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap();
    let error = bind_udp(address).unwrap_err();
    assert!(matches!(error, Error::Busy(busy) if busy == address));
    assert_eq!(error.to_string(), format!("{address} is in use by another program"));
    let elsewhere = "192.0.2.1:5060".parse().unwrap();
    assert!(matches!(bind_udp(elsewhere), Err(Error::NoSuchAddress(_))));
}

/// By UDP the rest would be dropped and sent again; nobody sends again over a connection.
#[tokio::test]
async fn stream_refuses_new_calls_under_overload_and_what_lives_waits_for_its_turn() {
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (streams, listener) = stream::bind(local, Bounds::default()).unwrap();
    let (handler, mut received) = intake::open(limits::IN_FLIGHT_NEW_CALLS_MAX + 1);
    let (reports, _undelivered) = mpsc::channel(1);
    tokio::spawn(listener.run(handler.clone(), reports));
    let mut peer = TcpStream::connect(streams.local()).await.unwrap();
    for _ in 0..limits::IN_FLIGHT_NEW_CALLS_MAX {
        peer.write_all(request("ACK", "").as_bytes()).await.unwrap();
    }
    // One more call than may wait, and what belongs to calls: more than there is room for.
    peer.write_all(request("INVITE", "").as_bytes()).await.unwrap();
    let mut answer = vec![0; 2_048];
    let length = timeout(PATIENCE, peer.read(&mut answer)).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&answer[..length]).starts_with("SIP/2.0 503 "));
    for _ in 0..3 {
        peer.write_all(request("BYE", ";tag=2").as_bytes()).await.unwrap();
    }
    let mut methods = Vec::new();
    while methods.len() < limits::IN_FLIGHT_NEW_CALLS_MAX + 3 {
        let next = timeout(PATIENCE, received.recv()).await.unwrap().unwrap();
        let Message::Request(request) = next.message else { panic!("no request") };
        assert!(matches!(next.flow.carrier, Carrier::Tcp { connection: Some(_) }));
        methods.push(request.method);
    }
    let (acks, byes) = methods.split_at(limits::IN_FLIGHT_NEW_CALLS_MAX);
    assert!(acks.iter().all(|method| *method == Method::Ack));
    assert!(byes.iter().all(|method| *method == Method::Bye));
}

#[tokio::test]
async fn listener_says_so_when_its_port_is_busy() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap();
    let error = stream::bind(address, Bounds::default()).unwrap_err();
    assert!(matches!(error, Error::Busy(busy) if busy == address));
}

#[test]
fn admission_prefers_existing_calls_when_messages_wait() {
    let rank = |text: &str| Rank::of(&tandem_sip::parse(text.as_bytes()).unwrap());
    let (call, register) = (rank(&request("INVITE", "")), rank(&request("REGISTER", "")));
    let bye = rank(&request("BYE", ";tag=2"));
    assert_eq!((call, register, bye), (Rank::NewCall, Rank::Outside, Rank::Existing));
    assert_eq!(rank(&request("ACK", "")), Rank::Existing);
    assert!(call.admits(0) && !call.admits(limits::IN_FLIGHT_NEW_CALLS_MAX));
    assert!(register.admits(limits::IN_FLIGHT_NEW_CALLS_MAX));
    assert!(!register.admits(limits::IN_FLIGHT_OUTSIDE_MAX));
    assert!(bye.admits(limits::IN_FLIGHT_OUTSIDE_MAX) && !bye.admits(limits::IN_FLIGHT_MAX));
}

#[test]
fn source_is_silenced_for_the_second_when_it_floods() {
    let now = Instant::now();
    let mut sources = Sources::new(now);
    let flood = Ipv4Addr::new(192, 0, 2, 1).into();
    for _ in 0..limits::SOURCE_DATAGRAMS_PER_S_MAX {
        assert!(sources.admits(now, flood));
    }
    assert!(!sources.admits(now, flood));
    assert!(sources.admits(now, Ipv4Addr::LOCALHOST.into()));
    assert!(sources.admits(now + Duration::from_secs(2), flood));
}
