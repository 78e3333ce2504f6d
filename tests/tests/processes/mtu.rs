//! A wire that carries 1,500 bytes at a time: what is longer goes over a connection where there is one
//! (RFC 3261 §18.1.1).

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tandem_sip::{Message, Method, Request, Transport};
use tandem_tests::house::House;
use tandem_tests::raw::Raw;
use tandem_tests::wire::Wire;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

const NET: u8 = 175;
const MTU: u16 = 1_500;
const WITHIN: Duration = Duration::from_secs(20);
/// Of a name in a Contact: the INVITE to it is longer than the wire carries at a time, and the answer
/// to its REGISTER, which goes by UDP as that came, is not.
const NAME_BYTES: usize = 800;
const PAYLOAD_BYTES: usize = 60 * 1_024;

/// A phone of one port, at the far end of the wire; whether it listens for connections, too.
fn phone(wire: &Wire, listens: bool) -> Result<(UdpSocket, Option<TcpListener>)> {
    wire.inside(|| {
        let socket = UdpSocket::bind((wire.there, 0))?;
        let listener = listens.then(|| TcpListener::bind(socket.local_addr()?)).transpose()?;
        Ok((socket, listener))
    })
}

/// Registers with a Contact that is long, and has the agent call out by the API: its phone rings.
async fn rings(house: &House, phone: &mut Raw, user: &str) -> Result<()> {
    let (own, name) = (phone.own, "n".repeat(NAME_BYTES));
    let contact = format!("Contact: <sip:{user}@{own};name={name}>;expires=600\r\n");
    let registered = phone.register(user, &contact).await?;
    ensure!(registered.status == 200, "{registered:?}");
    house.agent_is(user, "ready").await?;
    let (status, call) =
        house.api.post("/v1/calls", &json!({ "from": user, "to": "4003" })).await?;
    ensure!(status < 300, "{status} {call}");
    Ok(())
}

/// The phone has refused, and the agent's call is over.
async fn over(house: &House) -> Result<()> {
    let none = |page: &serde_json::Value| page["items"].as_array()?.is_empty().then_some(());
    house.api.until("/v1/calls", WITHIN, none).await
}

async fn message(stream: &mut TcpStream) -> Result<Request> {
    let mut bytes = Vec::new();
    loop {
        if let Ok(Message::Request(request)) = tandem_sip::parse(&bytes)
            && bytes.len() > NAME_BYTES
        {
            return Ok(request);
        }
        let read = timeout(WITHIN, stream.read_buf(&mut bytes)).await??;
        ensure!(read > 0, "the connection is closed after {} bytes", bytes.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_long_for_a_datagram_goes_by_tcp_and_in_pieces_where_there_is_none()
-> Result<()> {
    let wire = Wire::lay(NET, MTU)?;
    let house = House::open_at(NET, wire.here, wire.there).await?;
    let server: SocketAddr = house.vips[0];

    // Who listens gets it over a connection, and nothing in pieces.
    let capture = wire.capture()?;
    let (socket, listener) = phone(&wire, true)?;
    let listener = listener.context("a listener")?;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut raw = Raw::over(socket, server)?;
    rings(&house, &mut raw, "1001").await?;
    let (mut stream, _) = timeout(WITHIN, listener.accept()).await??;
    let invite = message(&mut stream).await?;
    ensure!(invite.method == Method::Invite, "{invite:?}");
    ensure!(invite.to_bytes().len() > usize::from(MTU), "it is too short for this test");
    let via = invite.headers.top_via().context("a Via")?;
    ensure!(via.transport == Transport::Tcp, "{via:?}");
    stream.write_all(&invite.respond(486, None, Some("t")).to_bytes()).await?;
    over(&house).await?;
    ensure!(capture.datagrams() > 0, "the answers to REGISTER were not seen");
    ensure!(capture.fragments() == 0, "{} pieces were sent", capture.fragments());

    // Who does not listen gets it all the same.
    let (socket, _) = phone(&wire, false)?;
    let mut raw = Raw::over(socket, server)?;
    rings(&house, &mut raw, "1002").await?;
    let invite = raw.request().await?;
    ensure!(invite.method == Method::Invite, "{invite:?}");
    let via = invite.headers.top_via().context("a Via")?;
    ensure!(via.transport == Transport::Udp, "{via:?}");
    raw.send(&invite.respond(486, None, Some("t")).to_bytes()).await?;
    over(&house).await?;
    ensure!(capture.fragments() > 0, "it was longer than the wire carries at a time");

    // As long as a datagram gets, in some forty pieces.
    let (own, body) = (raw.own, "x".repeat(PAYLOAD_BYTES));
    let options = format!(
        "OPTIONS sip:{server} SIP/2.0\r\nVia: SIP/2.0/UDP {own};rport;branch=z9hG4bKlong\r\n\
         From: <sip:a@b>;tag=1\r\nTo: <sip:{server}>\r\nCall-ID: long\r\nCSeq: 1 OPTIONS\r\n\
         Max-Forwards: 70\r\nContent-Type: text/plain\r\nContent-Length: {PAYLOAD_BYTES}\r\n\r\n\
         {body}"
    );
    raw.send(options.as_bytes()).await?;
    let answer = raw.response().await?;
    ensure!(answer.status == 200 && answer.headers.call_id == "long", "{answer:?}");
    house.cluster.stop()?;
    Ok(())
}
