//! Codecs of both legs: passed on where they are the same, else transcoded, and known to no leader.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tandem_media::tones::dominant_hz;
use tandem_sip::sdp::Codec;
use tandem_tests::house::House;
use tandem_tests::phone::{Ended, Incoming, Phone};

const WITHIN: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const QUICK: Incoming = Incoming::Answer { after_ms: 50 };
const AGENT_HZ: u32 = 620;
const CALLER_HZ: u32 = 440;

async fn hears_packets(phone: &Phone, call_id: &str, count: u64) -> Result<()> {
    let media = phone.with_calls(|calls| calls.get(call_id)?.media.clone()).context("media")?;
    media.mark();
    let deadline = Instant::now() + WITHIN;
    while media.stats().received < count {
        ensure!(Instant::now() < deadline, "only {:?}", media.stats());
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

async fn incoming(phone: &Phone) -> Result<String> {
    phone.until("an offer", WITHIN, |calls| calls.keys().next().cloned()).await
}

/// The codec of each leg, as its quality tells once the call is over: the caller's first.
async fn codecs(house: &House, call_id: &str) -> Result<[String; 2]> {
    let path = format!("/v1/cdrs?sip_call_id={call_id}");
    let quality = house
        .api
        .until(&path, WITHIN, |page| {
            let legs = page["items"].get(0)?["quality"].as_array()?;
            (legs.len() == 2).then(|| legs.clone())
        })
        .await?;
    let of = |caller: bool| -> Result<String> {
        let leg = quality.iter().find(|leg| (leg["role"] == "caller") == caller);
        Ok(leg.and_then(|leg| leg["codec"].as_str()).context("a codec")?.to_owned())
    };
    Ok([of(true)?, of(false)?])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opus_goes_through_queue_recording_and_takeover_and_is_transcoded_where_it_must()
-> Result<()> {
    let house = House::open(135).await?;
    let agent = house.agent_with_tone("1001", 0, QUICK, AGENT_HZ).await?;
    agent.speak(&[Codec::Pcmu, Codec::Opus]);
    let caller = house.caller("13800000001", 1).await?;
    caller.speak(&[Codec::Opus, Codec::Pcma]);
    let call = house.call(&caller, "4001", "connected").await?;
    let offered = incoming(&agent).await?;
    let offer = agent.with_calls(|calls| calls[&offered].offer().into_owned());
    assert!(
        offer.contains("RTP/AVP 111 0 8 9 101 110\r\na=rtpmap:111 opus/48000/2\r\n"),
        "{offer}"
    );
    assert!(offer.contains("a=fmtp:111 maxaveragebitrate=20440\r\n"), "{offer}");
    caller.hears(&call, AGENT_HZ, WITHIN).await?;
    agent.hears(&offered, CALLER_HZ, WITHIN).await?;

    let leader = house.cluster.leader().await?;
    house.cluster.kill(&leader)?;
    // Spoken to by us alone: the next leader has answered.
    let echo = caller.dial("4003")?;
    caller.answered(&echo, WITHIN).await?;
    caller.hears(&echo, CALLER_HZ, WITHIN).await?;
    caller.hears(&call, AGENT_HZ, WITHIN).await?;
    agent.hears(&offered, CALLER_HZ, WITHIN).await?;
    hears_packets(&caller, &call, 50).await?;
    assert_eq!(caller.hang_up(&echo).await?, 200);
    assert_eq!(caller.hang_up(&call).await?, 200);
    assert_eq!(codecs(&house, &call).await?, ["opus", "opus"]);
    let record = house.cdr(&call).await?;
    let recording = record["recording"].as_str().context("a recording")?;
    let path = format!("/v1/recordings/{recording}");
    house.api.until(&path, WITHIN, |seen| (seen["sealed"] == true).then_some(())).await?;
    let wav = house.api.bytes(&format!("{path}/audio")).await?;
    let samples = hound::WavReader::new(wav.as_slice())?.into_samples::<i16>();
    let samples = samples.collect::<Result<Vec<_>, _>>()?;
    for (side, hz) in [(0, CALLER_HZ), (1, AGENT_HZ)] {
        let heard: Vec<i16> = samples.iter().skip(side).step_by(2).copied().collect();
        let middle = heard.len() / 2;
        let around = heard.get(middle.saturating_sub(1600)..middle).unwrap_or_default();
        let ms = heard.len() / 8;
        assert_eq!(dominant_hz(around), Some(hz), "channel {side} of {ms} ms: {record}");
    }

    // An agent without it.
    house.agent_is("1001", "ready").await?;
    agent.with_calls_mut(|calls| calls.clear());
    agent.speak(&[Codec::Pcmu]);
    let call = house.call(&caller, "4001", "connected").await?;
    let offered = incoming(&agent).await?;
    caller.hears(&call, AGENT_HZ, WITHIN).await?;
    agent.hears(&offered, CALLER_HZ, WITHIN).await?;
    assert_eq!(caller.hang_up(&call).await?, 200);
    assert_eq!(codecs(&house, &call).await?, ["opus", "PCMU"]);
    for phone in [&agent, &caller] {
        assert_eq!(phone.violations(), [], "phone {}", phone.user);
    }
    house.cluster.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caller_of_an_extension_gets_its_codec_and_g_729_is_passed_on_alone() -> Result<()> {
    let house = House::open(136).await?;
    let callee = house.agent_with_tone("1001", 0, QUICK, AGENT_HZ).await?;
    let caller = house.caller("13800000001", 1).await?;
    caller.speak(&[Codec::G729, Codec::Opus, Codec::Pcma]);
    for (spoken, expected) in [
        (vec![Codec::Pcma, Codec::G729], "G729"),
        (vec![Codec::Pcma], "PCMA"),
        (vec![Codec::Opus], "opus"),
    ] {
        callee.speak(&spoken);
        let call = caller.dial("1001")?;
        caller.answered(&call, WITHIN).await?;
        let offered = incoming(&callee).await?;
        let answer = caller.with_calls(|calls| calls[&call].answered());
        let said = match expected {
            "G729" => "a=rtpmap:18 G729/8000\r\na=fmtp:18 annexb=no\r\n",
            "opus" => "a=rtpmap:111 opus/48000/2\r\na=fmtp:111 maxaveragebitrate=20620\r\n",
            _ => "a=rtpmap:8 PCMA/8000\r\n",
        };
        assert!(answer.contains(said), "{answer}");
        if expected == "G729" {
            hears_packets(&caller, &call, 25).await?;
            hears_packets(&callee, &offered, 25).await?;
        } else {
            caller.hears(&call, AGENT_HZ, WITHIN).await?;
            callee.hears(&offered, CALLER_HZ, WITHIN).await?;
        }
        assert_eq!(caller.hang_up(&call).await?, 200);
        assert_eq!(codecs(&house, &call).await?, [expected, expected]);
        house.agent_is("1001", "ready").await?;
        callee.with_calls_mut(|calls| calls.clear());
    }

    // What has to be spoken here is spoken in another, or not at all.
    let echo = caller.dial("4003")?;
    caller.answered(&echo, WITHIN).await?;
    caller.hears(&echo, CALLER_HZ, WITHIN).await?;
    assert!(caller.with_calls(|calls| calls[&echo].answered()).contains("opus/48000/2"));
    assert_eq!(caller.hang_up(&echo).await?, 200);
    caller.speak(&[Codec::G729]);
    let call = caller.dial("4001")?;
    assert_eq!(caller.ended(&call, WITHIN).await?, Ended::Refused { status: 488 });
    for phone in [&callee, &caller] {
        assert_eq!(phone.violations(), [], "phone {}", phone.user);
    }
    house.cluster.stop()?;
    Ok(())
}

const POLICY: &str = r#"
[tenant]
name = "demo"
realm = "demo.tandem"

[[trunk]]
name = "carrier"
channels = 30
codecs = ["PCMA", "opus"]

[[number]]
digits = "4003"
echo = true
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trunk_speaks_what_its_policy_allows() -> Result<()> {
    let house = House::open_with(139, POLICY).await?;
    let caller = house.caller("13800000001", 0).await?;
    caller.speak(&[Codec::Pcmu, Codec::Opus, Codec::Pcma]);
    let call = caller.dial("4003")?;
    caller.answered(&call, WITHIN).await?;
    caller.hears(&call, CALLER_HZ, WITHIN).await?;
    assert_eq!(caller.hang_up(&call).await?, 200);
    assert_eq!(spoken(&house, &call).await?, "PCMA", "not what the caller likes best");
    caller.speak(&[Codec::Pcmu, Codec::G722]);
    let call = caller.dial("4003")?;
    assert_eq!(caller.ended(&call, WITHIN).await?, Ended::Refused { status: 488 });
    house.cluster.stop()?;
    Ok(())
}

/// The codec of a caller's leg.
async fn spoken(house: &House, call_id: &str) -> Result<String> {
    let path = format!("/v1/cdrs?sip_call_id={call_id}");
    let codec = |page: &serde_json::Value| {
        Some(page["items"].get(0)?["quality"].get(0)?["codec"].as_str()?.to_owned())
    };
    house.api.until(&path, WITHIN, codec).await
}
