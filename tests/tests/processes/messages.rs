//! MESSAGE (RFC 3428) between agents' phones.

use anyhow::{Context as _, Result, ensure};
use tandem_sip::{Method, Response, digest};
use tandem_tests::house::House;
use tandem_tests::raw::Raw;

/// Sends a text, and proves the password where it is asked to; the answer is still to come.
async fn send(phone: &mut Raw, house: &House, to: &str, kind: &str, text: &str) -> Result<()> {
    let (own, server) = (phone.own, house.vips[0]);
    let uri = format!("sip:{to}@{server}");
    let request = |cseq: u32, proof: &str| {
        format!(
            "MESSAGE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {own};rport;branch=z9hG4bKm{cseq}{:x}\r\n\
             From: <sip:1003@demo.tandem>;tag=m\r\nTo: <{uri}>\r\nCall-ID: m{own}\r\n\
             CSeq: {cseq} MESSAGE\r\nMax-Forwards: 70\r\nContent-Type: {kind}\r\n{proof}\
             Content-Length: {}\r\n\r\n{text}",
            rand::random::<u32>(),
            text.len()
        )
    };
    phone.send(request(1, "").as_bytes()).await?;
    let challenge = phone.response().await?;
    let value = challenge.headers.other("WWW-Authenticate");
    let value = value.with_context(|| format!("no challenge: {challenge:?}"))?;
    let proof = digest::answer(value, "1003", "tandem-1003", "MESSAGE", &uri, "m");
    let proof = proof.map_err(|error| anyhow::anyhow!("{error}"))?;
    phone.send(request(2, &format!("Authorization: {proof}\r\n")).as_bytes()).await
}

async fn refused(phone: &mut Raw, house: &House, to: &str) -> Result<Response> {
    send(phone, house, to, "text/plain", "Lunch?").await?;
    phone.response().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_of_a_phone_is_on_the_colleagues_and_its_answer_comes_back() -> Result<()> {
    let house = House::open(177).await?;
    let mut from = Raw::open(house.vips[0]).await?;
    // Registered at the other gateway.
    let mut to = Raw::open(house.vips[1]).await?;
    ensure!(refused(&mut from, &house, "1001").await?.status == 480, "no phone is registered");
    let contact = format!("Contact: <sip:1001@{}>\r\n", to.own);
    ensure!(to.register("1001", &contact).await?.status == 200, "REGISTER");

    send(&mut from, &house, "1001", "text/plain;charset=utf-8", "Mahlzeit, 一起吃饭?").await?;
    let message = to.request().await?;
    ensure!(message.method == Method::Message, "{message:?}");
    ensure!(message.body == "Mahlzeit, 一起吃饭?".as_bytes(), "{message:?}");
    ensure!(message.headers.from.uri.user.as_deref() == Some("1003"), "{message:?}");
    ensure!(message.headers.other("Authorization").is_none(), "{message:?}");
    to.send(&message.respond(486, None, Some("t")).to_bytes()).await?;
    let answer = from.response().await?;
    ensure!((answer.status, answer.headers.cseq.number) == (486, 2), "{answer:?}");

    // While nobody leads it waits; the next leader has it sent.
    house.cluster.kill(&house.cluster.leader().await?)?;
    send(&mut from, &house, "1001", "text/plain", "Lunch?").await?;
    let message = to.request().await?;
    ensure!(message.body == b"Lunch?", "{message:?}");
    to.send(&message.respond(200, None, Some("t")).to_bytes()).await?;
    ensure!(from.response().await?.status == 200, "it was read");
    ensure!(refused(&mut from, &house, "1999").await?.status == 404, "nobody is there");
    house.cluster.stop()?;
    Ok(())
}
