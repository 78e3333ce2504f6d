use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tandem_sip::{Message, Method};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::admission::{Rank, Sources};
use crate::{Error, Received, Socket, limits};

const PATIENCE: Duration = Duration::from_secs(5);

fn request(method: &str, to_tag: &str) -> String {
    format!(
        "{method} sip:4003@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:9;rport;branch=z9hG4bKa\r\n\
         From: <sip:a@x>;tag=1\r\nTo: <sip:b@x>{to_tag}\r\nCall-ID: c\r\nCSeq: 1 {method}\r\n\
         Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
}

struct Bench {
    peer: UdpSocket,
    server: SocketAddr,
    received: mpsc::Receiver<Received>,
}

impl Bench {
    async fn open(capacity: usize) -> Self {
        let socket = Arc::new(Socket::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap());
        let server = socket.local();
        let (handler, received) = mpsc::channel(capacity);
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
    let first = Socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let second = Socket::bind(first.local()).unwrap();
    assert_eq!(first.local(), second.local());
}

#[tokio::test]
async fn socket_says_so_when_its_port_is_busy() {
    let holder = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap();
    let error = Socket::bind(address).unwrap_err();
    assert!(matches!(error, Error::Busy(busy) if busy == address));
    assert_eq!(error.to_string(), format!("{address} is in use by another program"));
    let elsewhere = "192.0.2.1:5060".parse().unwrap();
    assert!(matches!(Socket::bind(elsewhere), Err(Error::NoSuchAddress(_))));
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
