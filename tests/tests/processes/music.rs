//! Lists of music: what a queue's callers hear.

use std::f64::consts::TAU;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use tandem_tests::house::House;
use tandem_tests::phone::Incoming;

const WITHIN: Duration = Duration::from_secs(15);
const EVERYBODYS_HZ: u32 = 600;
const FIRST_HZ: u32 = 900;
const SECOND_HZ: u32 = 1_200;

/// Two seconds of a tone.
fn write(path: &Path, rate: u32, hz: u32) -> Result<()> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: rate,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec)?;
    for at in 0..2 * rate {
        let wave = (TAU * f64::from(hz) * f64::from(at) / f64::from(rate)).sin() * 8_000.0;
        writer.write_sample(wave as i16)?;
    }
    Ok(writer.finalize()?)
}

fn config(music: &Path) -> String {
    format!(
        r#"
[tenant]
name = "demo"
realm = "demo.tandem"

[music]
folder = {music:?}

[[trunk]]
name = "carrier"
channels = 30

[[agent]]
id = "1001"
password = "tandem-1001"

[[queue]]
name = "support"
agents = []

[[queue]]
name = "vip"
agents = ["1001"]
music = "brand"

[[number]]
digits = "4001"
queue = "support"

[[number]]
digits = "4002"
queue = "vip"
"#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queue_plays_the_list_that_it_names_over_a_takeover_and_on_hold() -> Result<()> {
    let dir = tempfile::tempdir()?;
    std::fs::create_dir(dir.path().join("brand"))?;
    write(&dir.path().join("everybody.wav"), 8_000, EVERYBODYS_HZ)?;
    write(&dir.path().join("brand").join("1.wav"), 16_000, FIRST_HZ)?;
    write(&dir.path().join("brand").join("2.wav"), 8_000, SECOND_HZ)?;
    let house = House::open_with(156, &config(dir.path())).await?;
    let plain = house.caller("13800000001", 0).await?;
    let vip = house.caller("13800000002", 1).await?;
    let waits = house.call(&plain, "4001", "queued").await?;
    let call = house.call(&vip, "4002", "queued").await?;
    plain.hears(&waits, EVERYBODYS_HZ, WITHIN).await?;
    vip.hears(&call, FIRST_HZ, WITHIN).await?;
    house.cluster.kill(&house.cluster.leader().await?)?;
    for hz in [SECOND_HZ, FIRST_HZ] {
        vip.hears(&call, hz, WITHIN).await?;
    }
    plain.hears(&waits, EVERYBODYS_HZ, WITHIN).await?;

    let agent = house.phone("1001", 0, Incoming::Answer { after_ms: 50 }).await?;
    assert_eq!(agent.register(600).await?, 200);
    house.call_is(&call, "connected").await?;
    let offered = agent.until("an offer", WITHIN, |calls| calls.keys().next().cloned()).await?;
    assert_eq!(agent.hold(&offered, true).await?, 200);
    for hz in [FIRST_HZ, SECOND_HZ] {
        vip.hears(&call, hz, WITHIN).await?;
    }
    assert_eq!(vip.hang_up(&call).await?, 200);
    for phone in [&plain, &vip, &agent] {
        assert_eq!(phone.violations(), [], "phone {}", phone.user);
    }
    house.cluster.stop()?;
    Ok(())
}
