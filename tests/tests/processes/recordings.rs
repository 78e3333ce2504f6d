//! Recordings on two boxes: while the call runs, after `kill -9`, after the other was away; paused;
//! damaged, found and repaired.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tandem_tests::cluster::binary;
use tandem_tests::house::House;
use tandem_tests::phone::{Incoming, Phone};

const WITHIN: Duration = Duration::from_secs(30);
/// What a lost gateway may take with it.
const UNSAFE_TAIL_MS_MAX: u64 = 2_000;
/// Generous, of how long nobody hears anything when a gateway dies.
const GAP_MS_MAX: u64 = 1_000;

/// A conversation that is recorded at gateway-a.
struct Talk {
    caller: Phone,
    _agent: Phone,
    sip_call_id: String,
    call: String,
    recording: String,
}

async fn talk(house: &House) -> Result<Talk> {
    let agent = house.agent("1001", 0, Incoming::Answer { after_ms: 50 }).await?;
    let caller = house.caller("13800000001", 0).await?;
    let sip_call_id = house.call(&caller, "4001", "connected").await?;
    let shown = house.item(&format!("/v1/calls?sip_call_id={sip_call_id}")).await?;
    assert_eq!(shown["gateway"], "gateway-a");
    let recording = shown["recording"]["id"].as_str().context("it is recorded")?.to_owned();
    let call = shown["id"].as_str().context("an id")?.to_owned();
    Ok(Talk { caller, _agent: agent, sip_call_id, call, recording })
}

fn folder(house: &House, gateway: &str) -> PathBuf {
    house.cluster.dir().join("data").join(gateway).join("recordings")
}

fn original(house: &House, recording: &str, suffix: &str) -> PathBuf {
    folder(house, "gateway-a").join(format!("{recording}.{suffix}"))
}

fn copy(house: &House, recording: &str, suffix: &str) -> PathBuf {
    folder(house, "gateway-b").join("copies").join(format!("{recording}.{suffix}"))
}

/// Frames of a WAV file, both channels: read as any player would.
fn frames(wav: &[u8]) -> Result<Vec<[i16; 2]>> {
    let reader = hound::WavReader::new(wav)?;
    let spec = reader.spec();
    ensure!((spec.channels, spec.sample_rate, spec.bits_per_sample) == (2, 8_000, 16), "{spec:?}");
    let samples = reader.into_samples().collect::<Result<Vec<i16>, _>>()?;
    Ok(samples.chunks_exact(2).map(|frame| [frame[0], frame[1]]).collect())
}

fn duration_ms(wav: &[u8]) -> Result<u64> {
    Ok(frames(wav)?.len() as u64 / 8)
}

/// The audio at one gateway, once there is so much.
async fn audio_of(house: &House, at: usize, recording: &str, ms_min: u64) -> Result<Vec<u8>> {
    let api = house.api.only(at);
    let give_up = Instant::now() + WITHIN;
    loop {
        let seen = api.bytes(&format!("/v1/recordings/{recording}/audio")).await;
        if let Ok(wav) = &seen
            && duration_ms(wav)? >= ms_min
        {
            return seen;
        }
        ensure!(Instant::now() < give_up, "no {ms_min} ms of audio at {at}: {:?}", seen.err());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn manifest(
    house: &House,
    recording: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let path = format!("/v1/recordings/{recording}");
    house.api.until(&path, WITHIN, |seen| wanted(seen).then(|| seen.clone())).await
}

fn is_on_both(seen: &Value) -> bool {
    seen["sealed"] == true && seen["copies"] == serde_json::json!(["gateway-a", "gateway-b"])
}

fn assert_equal_files(house: &House, recording: &str) -> Result<()> {
    for suffix in ["wav", "manifest"] {
        let ours = std::fs::read(original(house, recording, suffix))?;
        let theirs = std::fs::read(copy(house, recording, suffix))?;
        assert!(ours == theirs, "the {suffix} differs: {} and {} bytes", ours.len(), theirs.len());
    }
    Ok(())
}

fn tandem(house: &House, args: &[&str]) -> Result<Output> {
    let mut command = Command::new(binary("tandem")?);
    command.arg("recordings").args(args).arg("--dir").arg(house.cluster.dir());
    Ok(command.output()?)
}

fn flip_a_byte(file: &Path, at: usize) -> Result<()> {
    let mut bytes = std::fs::read(file)?;
    bytes[at] ^= 0x20;
    Ok(std::fs::write(file, bytes)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recording_is_on_two_boxes_and_damage_is_found_and_repaired() -> Result<()> {
    let house = House::open(100).await?;
    let Talk { caller, sip_call_id, call, recording, .. } = &talk(&house).await?;
    // Either gateway gives it while the call runs, up to the last chunk.
    for at in [0, 1] {
        audio_of(&house, at, recording, 2_000).await?;
    }

    // What is said while it is paused is on no disk, and what comes after lies where it should.
    let path = format!("/v1/calls/{call}/recording");
    let (status, seen) = house.api.post(&format!("{path}/pause"), &Value::Null).await?;
    assert_eq!((status, &seen["recording"]["paused"]), (200, &Value::Bool(true)), "{seen}");
    // A takeover changes nothing about it.
    let leader = house.cluster.leader().await?;
    house.cluster.kill(&leader)?;
    let live = format!("/v1/calls/{call}");
    let live = house.api.until(&live, WITHIN, |seen| Some(seen.clone())).await?;
    assert_eq!(live["recording"]["paused"], true);
    let before = duration_ms(&audio_of(&house, 0, recording, 2_000).await?)?;
    audio_of(&house, 0, recording, before + 2_500).await?;
    let (status, seen) = house.api.post(&format!("{path}/resume"), &Value::Null).await?;
    assert_eq!((status, &seen["recording"]["paused"]), (200, &Value::Bool(false)), "{seen}");
    let before = duration_ms(&audio_of(&house, 0, recording, 2_000).await?)?;
    audio_of(&house, 0, recording, before + 2_000).await?;
    assert_eq!(caller.hang_up(sip_call_id).await?, 200);

    // Once it is said to be whole, either gateway gives all of it, wherever its copy is by then.
    let sealed = manifest(&house, recording, |seen| seen["sealed"] == true).await?;
    for at in [0, 1] {
        let wav = house.api.only(at).bytes(&format!("/v1/recordings/{recording}/audio")).await?;
        assert_eq!(sealed["duration_ms"], duration_ms(&wav)?, "gateway {at}");
    }
    let sealed = manifest(&house, recording, is_on_both).await?;
    assert_eq!(sealed["cut"], false);
    assert_equal_files(&house, recording)?;
    let wav = house.api.bytes(&format!("/v1/recordings/{recording}/audio")).await?;
    let frames = frames(&wav)?;
    assert_eq!(sealed["duration_ms"], frames.len() / 8);
    let pauses = sealed["pauses"].as_array().context("pauses")?;
    assert_eq!(pauses.len(), 1, "{sealed}");
    let from = pauses[0]["at_ms"].as_u64().context("at_ms")? as usize * 8;
    let to = from + pauses[0]["len_ms"].as_u64().context("len_ms")? as usize * 8;
    assert!(to - from >= 2_500 * 8, "{sealed}");
    // A packet may lie a little behind the moment in which it was heard.
    let margin = 250 * 8;
    let silent = |part: &[[i16; 2]]| part.iter().all(|frame| *frame == [0, 0]);
    assert!(silent(&frames[from + margin..to - margin]), "the pause is not silent");
    assert!(!silent(&frames[from - 8_000..from]) && !silent(&frames[to + margin..]));

    // The command line: what there is, the audio, whether it is right.
    let listed = tandem(&house, &["list", "--call", call, "--json"])?;
    let listed: Value = serde_json::from_slice(&listed.stdout)?;
    assert_eq!(listed["items"][0]["id"], recording.as_str());
    let file = house.cluster.dir().join("talk.wav");
    let got = tandem(&house, &["get", recording, "-o", file.to_str().context("UTF-8")?])?;
    assert!(got.status.success(), "{got:?}");
    assert!(std::fs::read(&file)? == wav);
    let good = tandem(&house, &["verify", "--all"])?;
    assert_eq!(good.status.code(), Some(0), "{good:?}");

    for damaged in [copy(&house, recording, "wav"), original(&house, recording, "wav")] {
        flip_a_byte(&damaged, 44 + 4 * 8_000 + 100)?;
        let found = tandem(&house, &["verify", recording])?;
        let said = String::from_utf8_lossy(&found.stderr).into_owned();
        assert_eq!(found.status.code(), Some(1), "{found:?}");
        let gateway = if damaged.parent().is_some_and(|dir| dir.ends_with("copies")) {
            "gateway-b"
        } else {
            "gateway-a"
        };
        let expected = format!("the copy of {gateway} has a damaged chunk: 2 at 1000 ms");
        assert!(said.contains(&expected), "{said}");
        let repaired = tandem(&house, &["verify", recording, "--repair"])?;
        assert_eq!(repaired.status.code(), Some(0), "{repaired:?}");
        assert_equal_files(&house, recording)?;
        assert_eq!(tandem(&house, &["verify", recording])?.status.code(), Some(0));
    }
    std::fs::remove_file(copy(&house, recording, "wav"))?;
    std::fs::remove_file(copy(&house, recording, "manifest"))?;
    let gone = tandem(&house, &["verify", recording])?;
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("gateway-b has no copy any more"));
    assert!(tandem(&house, &["verify", recording, "--repair"])?.status.success());
    assert_equal_files(&house, recording)?;
    house.cluster.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recording_goes_on_in_the_other_gateway_when_its_own_is_killed() -> Result<()> {
    let house = House::open(101).await?;
    let Talk { caller, sip_call_id, recording, .. } = &talk(&house).await?;
    let connected_at = Instant::now();
    audio_of(&house, 1, recording, 5_000).await?;
    // The worst moment: the next chunk is almost there.
    tokio::time::sleep(Duration::from_millis(800)).await;
    let killed_at = house.cluster.bury("gateway-a").await?;
    let heard_ms = u64::try_from((killed_at - connected_at).as_millis())?;
    let going_on = audio_of(&house, 1, recording, heard_ms + 3_000).await?;
    assert_eq!(caller.hang_up(sip_call_id).await?, 200);
    let talked_ms = u64::try_from(connected_at.elapsed().as_millis())?;
    let sealed = manifest(&house, recording, |seen| seen["sealed"] == true).await?;
    let here = (&sealed["cut"], &sealed["copies"]);
    assert_eq!(here, (&false.into(), &serde_json::json!(["gateway-b"])), "{sealed}");

    // One gap, up to where the other went on, and the rest is as long as the talk.
    let gaps = sealed["gaps"].as_array().context("gaps")?;
    let [gap] = &gaps[..] else { anyhow::bail!("{sealed}") };
    let of_gap = |name: &str| gap[name].as_u64().context("a number");
    let (at_ms, len_ms) = (of_gap("at_ms")?, of_gap("len_ms")?);
    println!(
        "heard {heard_ms} ms when it was killed; the gap is {len_ms} ms long, from {at_ms} ms on"
    );
    ensure!(len_ms <= UNSAFE_TAIL_MS_MAX + GAP_MS_MAX, "{len_ms} ms");
    ensure!((heard_ms..heard_ms + GAP_MS_MAX).contains(&(at_ms + len_ms)), "{gap}");
    let duration_ms = sealed["duration_ms"].as_u64().context("a duration")?;
    ensure!(duration_ms.abs_diff(talked_ms) <= GAP_MS_MAX, "{duration_ms} of {talked_ms} ms");
    let whole = audio_of(&house, 1, recording, duration_ms).await?;
    let (whole, part) = (frames(&whole)?, frames(&going_on)?);
    let before = at_ms as usize * 8;
    assert!(whole[..before] == part[..before], "what was heard before has not changed");
    assert!(whole[before..before + len_ms as usize * 8].iter().all(|frame| *frame == [0, 0]));

    // Back again, it gets all of it in the place of its own beginning.
    house.cluster.revive("gateway-a")?;
    let both = serde_json::json!(["gateway-b", "gateway-a"]);
    manifest(&house, recording, |seen| seen["sealed"] == true && seen["copies"] == both).await?;
    for suffix in ["wav", "manifest"] {
        let name = format!("{recording}.{suffix}");
        let here = std::fs::read(folder(&house, "gateway-b").join(&name))?;
        let there = std::fs::read(folder(&house, "gateway-a").join("copies").join(&name))?;
        assert!(here == there, "the {suffix} differs: {} and {} bytes", here.len(), there.len());
    }
    let verified = tandem(&house, &["verify", recording])?;
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
    let there = audio_of(&house, 0, recording, duration_ms).await?;
    assert!(frames(&there)? == whole);
    house.cluster.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copy_catches_up_when_the_other_gateway_was_stopped_and_when_it_was_killed() -> Result<()> {
    let house = House::open_sparing_stopped(102).await?;
    let Talk { caller, sip_call_id, recording, .. } = &talk(&house).await?;
    audio_of(&house, 1, recording, 1_000).await?;
    house.cluster.signal("gateway-b", libc::SIGSTOP)?;
    audio_of(&house, 0, recording, 6_000).await?;
    house.cluster.signal("gateway-b", libc::SIGCONT)?;
    audio_of(&house, 1, recording, 6_000).await?;
    house.cluster.kill("gateway-b")?;
    audio_of(&house, 0, recording, 10_000).await?;
    house.cluster.revive("gateway-b")?;
    audio_of(&house, 1, recording, 10_000).await?;
    assert_eq!(caller.hang_up(sip_call_id).await?, 200);
    let sealed = manifest(&house, recording, is_on_both).await?;
    assert_eq!(sealed["gaps"], serde_json::json!([]));
    assert_equal_files(&house, recording)?;
    // Nothing of it was taken for another recording.
    assert!(!folder(&house, "gateway-b").join("copies/aside").exists());
    house.cluster.stop()?;
    Ok(())
}
