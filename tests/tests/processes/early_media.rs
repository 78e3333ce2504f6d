//! What a carrier lets be heard before anybody answers, over real processes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use tandem_media::endpoint::Endpoint;
use tandem_sip::dialog::Dialog;
use tandem_sip::sdp::{Audio, Codec};
use tandem_sip::{Message, Method, Param, Request, Response, Transport, Via, parse, reliable};
use tandem_tests::carrier;
use tandem_tests::house::House;
use tandem_tests::phone::{Ended, Incoming, Phone};
use tandem_tests::scene::Loss;
use tokio::net::UdpSocket;

const WITHIN: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// As of a conversation: see `takeover`.
const SPACING_MS_MAX: u64 = 60 + 60;
/// Generous; how long it is, is a benchmark's to say.
const TAKEOVER_MS_MAX: u64 = 2_000;
const PRESSED_AGAIN: Duration = Duration::from_millis(500);
const QUICK: Incoming = Incoming::Answer { after_ms: 50 };
const OUT: &str = "0049301";
/// What `carrier::takes` plays, and what an agent's phone does.
const CARRIER_HZ: u32 = 700;
const AGENT_HZ: u32 = 440;

fn config(peer: SocketAddr) -> String {
    format!(
        "[tenant]\nname = \"demo\"\nrealm = \"demo.tandem\"\n\
         [[trunk]]\nname = \"in\"\nchannels = 30\n\
         [[trunk]]\nname = \"north\"\nchannels = 30\nsources = [\"192.0.2.1\"]\n\
         peers = [\"{peer}\"]\n\
         [[route]]\nprefix = \"00\"\ntrunks = [\"north\"]\n\
         [[agent]]\nid = \"1001\"\npassword = \"tandem-1001\"\n\
         [[queue]]\nname = \"support\"\nagents = [\"1001\"]\n"
    )
}

fn media_of(phone: &Phone, call: &str) -> Result<Arc<Endpoint>> {
    phone.with_calls(|calls| calls.get(call)?.media.clone()).context("no audio yet")
}

async fn hears(media: &Endpoint, hz: u32) -> Result<()> {
    let deadline = Instant::now() + WITHIN;
    while media.heard_hz(200) != Some(hz) {
        ensure!(Instant::now() < deadline, "hears {:?} Hz, not {hz}", media.heard_hz(200));
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// The call as the API has it: being dialled, and answered by nobody.
async fn is_unanswered(house: &House, call: &str) -> Result<()> {
    house.call_is(call, "dialing").await?;
    let shown = house.item(&format!("/v1/calls?sip_call_id={call}")).await?;
    ensure!(shown["answered_at"].is_null() && shown["recording"].is_null(), "{shown}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn announcement_is_heard_through_a_kill_and_answers_to_keys_before_the_answer() -> Result<()>
{
    let leader_dies = async |house: &House| {
        house.cluster.kill(&house.cluster.leader().await?)?;
        Ok(())
    };
    announcement_is_heard_through(160, leader_dies, SPACING_MS_MAX).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn announcement_is_heard_in_the_other_gateway_when_its_own_or_the_whole_box_dies()
-> Result<()> {
    for (block, loss) in [(64, Loss::Gateway), (65, Loss::Box)] {
        let dies = async |house: &House| {
            loss.awaits(house).await?;
            loss.strike(house, 0).await?;
            Ok(())
        };
        announcement_is_heard_through(block, dies, TAKEOVER_MS_MAX).await?;
    }
    Ok(())
}

/// Both sides hear each other before the answer, also when something has died, and a key gets through.
async fn announcement_is_heard_through(
    block: u8,
    dies: impl AsyncFnOnce(&House) -> Result<()>,
    spacing_ms_max: u64,
) -> Result<()> {
    let carrier = carrier::takes(block, Incoming::Announce).await?;
    let house = House::open_with(block, &config(carrier.address)).await?;
    let agent = house.agent("1001", 0, QUICK).await?;
    let call = agent.dial(OUT)?;
    let announced = carrier.called(WITHIN).await?;
    let (own, theirs) = (media_of(&agent, &call)?, media_of(&carrier, &announced)?);
    hears(&own, CARRIER_HZ).await?;
    hears(&theirs, AGENT_HZ).await?;
    is_unanswered(&house, &call).await?;

    own.mark();
    theirs.mark();
    dies(&house).await?;
    // A key that nobody takes is lost like any audio: pressed until it is heard.
    let deadline = Instant::now() + WITHIN;
    let mut pressed = Instant::now();
    agent.press(&call, "5")?;
    while theirs.stats().telephone_events == 0 {
        if pressed.elapsed() > PRESSED_AGAIN {
            agent.press(&call, "5")?;
            pressed = Instant::now();
        }
        ensure!(Instant::now() < deadline, "the carrier's machine hears no key");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    is_unanswered(&house, &call).await?;
    for media in [&own, &theirs] {
        let spacing = media.stats().spacing_ms_max;
        assert!(spacing <= spacing_ms_max, "nothing was heard for {spacing} ms");
    }

    // Who goes on answers the call with what was heard, and knows how to end it.
    carrier.answer(&announced)?;
    agent.answered(&call, WITHIN).await?;
    house.call_is(&call, "connected").await?;
    let previews = agent.with_calls(|calls| {
        let call = calls.get(&call)?;
        Some((call.previews.clone(), call.answered()))
    });
    let (mut previews, answered) = previews.context("a call")?;
    // Another gateway says its last word again, for the first one may not have.
    previews.dedup();
    assert_eq!(previews, [answered], "RFC 3261 \u{a7}13.2.1: the same answer again");
    hears(&own, CARRIER_HZ).await?;
    assert_eq!(agent.hang_up(&call).await?, 200);
    assert_eq!(carrier.ended(&announced, WITHIN).await?, Ended::ByPeer);
    assert_eq!(house.cdr(&call).await?["disposition"], json!("answered"));
    assert_eq!((agent.violations(), carrier.violations()), (Vec::new(), Vec::new()));
    house.cluster.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn call_that_is_only_heard_is_cancelled_by_the_next_leader_and_click_to_dial_hears_it()
-> Result<()> {
    let carrier = carrier::takes(161, Incoming::Announce).await?;
    let house = House::open_with(161, &config(carrier.address)).await?;
    let agent = house.agent("1001", 0, QUICK).await?;
    // The first party is up already: no tone of ours, but the carrier.
    let placed = house.api.post("/v1/calls", &json!({"from": "1001", "to": OUT})).await?;
    assert_eq!(placed.0, 201, "{placed:?}");
    let own = agent.called(WITHIN).await?;
    let announced = carrier.called(WITHIN).await?;
    hears(&*media_of(&agent, &own)?, CARRIER_HZ).await?;
    house.call_is(&own, "dialing").await?;
    assert_eq!(agent.hang_up(&own).await?, 200);
    assert_eq!(carrier.ended(&announced, WITHIN).await?, Ended::Cancelled);
    house.agent_is("1001", "ready").await?;

    let call = agent.dial(OUT)?;
    let announced = carrier.called(WITHIN).await?;
    hears(&*media_of(&agent, &call)?, CARRIER_HZ).await?;
    house.cluster.kill(&house.cluster.leader().await?)?;
    agent.cancel(&call)?;
    assert_eq!(agent.ended(&call, WITHIN).await?, Ended::Cancelled);
    assert_eq!(carrier.ended(&announced, WITHIN).await?, Ended::Cancelled);
    let cdr = house.cdr(&call).await?;
    assert_eq!([&cdr["disposition"], &cdr["cause"]], [&json!("abandoned"), &json!("487")]);
    assert!(cdr["answered_at"].is_null() && cdr["recording"].is_null(), "{cdr}");
    house.cluster.stop()?;
    Ok(())
}

/// A carrier whose switch forks, by hand.
struct Fork {
    socket: UdpSocket,
    invite: Request,
    from: SocketAddr,
}

impl Fork {
    async fn called(socket: UdpSocket) -> Result<Self> {
        let (invite, from) = request(&socket, &Method::Invite).await?;
        Ok(Self { socket, invite, from })
    }

    /// A branch says so, with its own audio where it has some.
    async fn says(&self, status: u16, tag: &str, media: Option<(&Endpoint, u32)>) -> Result<()> {
        self.send(self.response(status, tag, media)?).await
    }

    fn response(
        &self,
        status: u16,
        tag: &str,
        media: Option<(&Endpoint, u32)>,
    ) -> Result<Response> {
        let mut response = self.invite.respond(status, None, Some(tag));
        let contact = format!("<sip:{tag}@{}>", self.socket.local_addr()?);
        response.headers.contact = vec![contact.parse()?];
        if let Some((media, hz)) = media {
            response.headers.content_type = Some("application/sdp".into());
            response.body = self.talks(media, hz)?;
        }
        Ok(response)
    }

    /// The endpoint talks to the caller from now on; its SDP.
    fn talks(&self, media: &Endpoint, hz: u32) -> Result<Vec<u8>> {
        let offer = Audio::parse(&self.invite.body)?;
        media.talk(offer.remote().context("an address")?, Codec::Pcmu, hz);
        let sdp = format!(
            "v=0\r\no=f 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
             m=audio {} RTP/AVP 0\r\n",
            media.port()
        );
        Ok(sdp.into_bytes())
    }

    async fn send(&self, response: Response) -> Result<()> {
        self.socket.send_to(&response.to_bytes(), self.from).await?;
        Ok(())
    }
}

/// The next request of a method.
async fn request(socket: &UdpSocket, method: &Method) -> Result<(Request, SocketAddr)> {
    let mut datagram = vec![0; 65_536];
    loop {
        let received = tokio::time::timeout(WITHIN, socket.recv_from(&mut datagram));
        let (length, from) = received.await.with_context(|| format!("no {method}"))??;
        match parse(&datagram[..length])? {
            Message::Request(request) if request.method == *method => return Ok((request, from)),
            Message::Request(_) => {}
            Message::Response(_) => bail!("a response for a carrier"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_branches_the_newest_is_heard_and_in_the_end_who_answers() -> Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    let house = House::open_with(162, &config(socket.local_addr()?)).await?;
    let agent = house.agent("1001", 0, QUICK).await?;
    let branches =
        [house.pool.open([127, 0, 0, 1].into())?, house.pool.open([127, 0, 0, 1].into())?];
    let call = agent.dial(OUT)?;
    let fork = Fork::called(socket).await?;
    let own = media_of(&agent, &call)?;
    // A branch that says 183 twice is heard by the second, which describes its audio.
    fork.says(183, "a", None).await?;
    fork.says(183, "a", Some((&branches[0], 900))).await?;
    hears(&own, 900).await?;
    fork.says(183, "b", Some((&branches[1], 1_200))).await?;
    hears(&own, 1_200).await?;
    hears(&branches[1], AGENT_HZ).await?;
    is_unanswered(&house, &call).await?;
    fork.says(200, "a", Some((&branches[0], 900))).await?;
    let (ack, _) = request(&fork.socket, &Method::Ack).await?;
    assert_eq!(ack.headers.to_tag(), Some("a"));
    agent.answered(&call, WITHIN).await?;
    hears(&own, 900).await?;
    let told = agent.with_calls(|calls| calls.get(&call).map(|call| call.previews.len()));
    assert_eq!(told, Some(1), "it is told once where to listen");
    assert_eq!(agent.hang_up(&call).await?, 200);
    request(&fork.socket, &Method::Bye).await?;
    house.cluster.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn number_that_is_gone_says_so_and_the_record_has_the_carriers_word() -> Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    let house = House::open_with(163, &config(socket.local_addr()?)).await?;
    let agent = house.agent("1001", 0, QUICK).await?;
    let announces = house.pool.open([127, 0, 0, 1].into())?;
    let call = agent.dial(OUT)?;
    let fork = Fork::called(socket).await?;
    fork.says(183, "a", Some((&announces, 900))).await?;
    hears(&*media_of(&agent, &call)?, 900).await?;
    fork.says(404, "a", None).await?;
    assert_eq!(agent.ended(&call, WITHIN).await?, Ended::Refused { status: 404 });
    let cdr = house.cdr(&call).await?;
    assert_eq!([&cdr["disposition"], &cdr["cause"]], [&json!("rejected"), &json!("404")]);
    assert!(cdr["answered_at"].is_null() && cdr["recording"].is_null(), "{cdr}");
    house.cluster.stop()?;
    Ok(())
}

/// RFC 3311 §5.1: offer and answer are complete with the reliable 183, and the next may come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn carrier_moves_its_audio_by_update_before_it_answers() -> Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    let house = House::open_with(165, &config(socket.local_addr()?)).await?;
    let agent = house.agent("1001", 0, QUICK).await?;
    let open = || house.pool.open([127, 0, 0, 1].into());
    let (first, second) = (open()?, open()?);
    let call = agent.dial(OUT)?;
    let fork = Fork::called(socket).await?;
    let own = media_of(&agent, &call)?;
    let mut rings = fork.response(183, "a", Some((&first, 900)))?;
    reliable::number_response(&mut rings, 77);
    fork.send(rings).await?;
    let (prack, _) = request(&fork.socket, &Method::Prack).await?;
    fork.send(prack.respond(200, None, None)).await?;
    hears(&own, 900).await?;

    // Whoever leads next knows of the early dialog.
    house.cluster.kill(&house.cluster.leader().await?)?;
    first.hush();
    let me = fork.socket.local_addr()?;
    let via = Via {
        transport: Transport::Udp,
        host: me.ip().to_string(),
        port: Some(me.port()),
        params: vec![Param { name: "branch".into(), value: Some("z9hG4bKupdate".into()) }],
    };
    let contact = format!("<sip:a@{me}>").parse()?;
    let mut update = Dialog::as_uas(&fork.invite, "a")?.request(Method::Update, via, Some(contact));
    update.headers.content_type = Some("application/sdp".into());
    update.body = fork.talks(&second, 1_200)?;
    let answer = asks(&fork.socket, &update, fork.from).await?;
    assert_eq!(answer.status, 200);
    Audio::parse(&answer.body).context("the answer to its offer")?;
    hears(&own, 1_200).await?;
    hears(&second, AGENT_HZ).await?;
    is_unanswered(&house, &call).await?;

    fork.says(200, "a", None).await?;
    request(&fork.socket, &Method::Ack).await?;
    agent.answered(&call, WITHIN).await?;
    hears(&own, 1_200).await?;
    assert_eq!(agent.hang_up(&call).await?, 200);
    request(&fork.socket, &Method::Bye).await?;
    house.cluster.stop()?;
    Ok(())
}

/// Sends it until it is answered (RFC 3261 §17.1.2.2).
async fn asks(socket: &UdpSocket, request: &Request, to: SocketAddr) -> Result<Response> {
    const T1: Duration = Duration::from_millis(500);
    let deadline = Instant::now() + WITHIN;
    let mut datagram = vec![0; 65_536];
    while Instant::now() < deadline {
        socket.send_to(&request.to_bytes(), to).await?;
        while let Ok(received) = tokio::time::timeout(T1, socket.recv(&mut datagram)).await {
            match parse(&datagram[..received?])? {
                Message::Response(response) if response.status >= 200 => return Ok(response),
                Message::Response(_) | Message::Request(_) => {}
            }
        }
    }
    bail!("{} was not answered", request.method)
}
