//! RFC 3262 over real processes: a caller who takes only reliable answers, and a leader that dies
//! between a 180 and its PRACK.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tandem_sip::reliable;
use tandem_tests::hand::{Hand, to_tag};
use tandem_tests::house::House;
use tandem_tests::phone::Incoming;
use tokio::net::UdpSocket;

const WITHIN: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leader_that_dies_before_the_prack_costs_nothing() -> Result<()> {
    let house = House::open(110).await?;
    let agent = house.agent("1001", 1, Incoming::Ring).await?;
    let carrier = Hand::new(house.vips[0], "1001").await?;
    let sdp = carrier.sdp(1, &carrier.audio)?;
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
    house.call_is(&carrier.call_id, "connected").await?;
    let to = to_tag(&rings)?;
    carrier.send((2, "PRACK"), &to, &format!("RAck: {rseq} 1 INVITE\r\n"), "").await?;
    let mut said = Vec::new();
    let answer = loop {
        let response = carrier.any_response().await?;
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
    let cdr = house.cdr(&carrier.call_id).await?;
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
    let carrier = Hand::new(house.vips[0], "1001").await?;
    let other = UdpSocket::bind("127.0.0.1:0").await?;
    let (first, moved) = (carrier.sdp(1, &carrier.audio)?, carrier.sdp(2, &other)?);
    carrier.send((1, "INVITE"), "", "Require: 100rel\r\n", &first).await?;
    let rings = carrier.response("INVITE").await?;
    let rseq = reliable::rseq(&rings).context("a reliable 180")?;
    let to = to_tag(&rings)?;
    // Its PRACK has not come.
    carrier.send((2, "UPDATE"), &to, "", &moved).await?;
    let waits = carrier.response("UPDATE").await?;
    assert_eq!((waits.status, waits.headers.other("Retry-After").is_some()), (500, true));
    carrier.send((3, "PRACK"), &to, &format!("RAck: {rseq} 1 INVITE\r\n"), "").await?;
    assert_eq!(carrier.response("PRACK").await?.status, 200);
    carrier.send((4, "UPDATE"), &to, "", &moved).await?;
    let answer = carrier.response("UPDATE").await?;
    assert_eq!((answer.status, answer.body.starts_with(b"v=0")), (200, true));
    // Our ringing tone goes where it said last.
    let mut packet = [0; 2_048];
    tokio::time::timeout(WITHIN, other.recv(&mut packet)).await.context("no tone")??;

    let ringing = agent.with_calls(|calls| calls.keys().next().cloned()).context("it rings")?;
    agent.answer(&ringing)?;
    let answer = carrier.response("INVITE").await?;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    carrier.send((1, "ACK"), &to, "", "").await?;
    carrier.send((5, "BYE"), &to, "", "").await?;
    assert_eq!(house.cdr(&carrier.call_id).await?["disposition"], "answered");
    house.cluster.stop()?;
    Ok(())
}
