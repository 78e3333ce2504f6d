//! Who is heard: every party plays a tone of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tandem_media::endpoint::Endpoint;
use tandem_media::tones;
use tandem_tests::phone::Phone;
use tokio::time::Instant;

pub const CUSTOMER_HZ: u32 = 440;
pub const COLLEAGUE_HZ: u32 = 700;
pub const WITHIN: Duration = Duration::from_secs(20);
pub const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// One look covers so much, so that nothing between two looks is missed.
const LOOK_MS: u32 = 200;
/// Of the power of what is heard, for it to be this tone. A packet lost costs less.
const SHARE_MIN: f64 = 0.5;
/// Quieter is no music.
const AUDIBLE: f64 = 100.0;
/// Of a WAV file, in samples: what a call takes to begin, and one look.
const BEGINNING: usize = 8_000;
const LOOK_SAMPLES: usize = 1_600;
const SAMPLES_PER_S: usize = 8_000;
const PACKET_MS: u128 = 20;
/// Of the packets that a peer's time has room for, those that come. Asterisk leaves out more where the
/// machine has too much to do.
pub const COMES: f64 = 0.9;
pub const COMES_OF_ASTERISK: f64 = 0.75;
/// Of a minute, what a peer has written of it.
const WRITTEN: f64 = 0.75;
const GAP_MS_MAX: u64 = 2_000;

fn media(phone: &Phone, call_id: &str) -> Result<Arc<Endpoint>> {
    let media = phone.with_calls(|calls| calls.get(call_id)?.media.clone());
    media.context("the call has no media")
}

pub async fn hears(phone: &Phone, call_id: &str, hz: u32) -> Result<()> {
    let media = media(phone, call_id)?;
    let deadline = Instant::now() + WITHIN;
    while media.heard_share(hz, LOOK_MS) < SHARE_MIN {
        let heard = media.heard_hz(LOOK_MS);
        ensure!(Instant::now() < deadline, "{} hears {heard:?} Hz, not {hz}", phone.user);
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// Something, and not that tone.
pub async fn hears_music_instead_of(phone: &Phone, call_id: &str, hz: u32) -> Result<()> {
    let media = media(phone, call_id)?;
    let deadline = Instant::now() + WITHIN;
    while media.heard_share(hz, LOOK_MS) >= SHARE_MIN || media.heard_level(LOOK_MS) < AUDIBLE {
        ensure!(Instant::now() < deadline, "{} hears no music", phone.user);
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// The tone is there all the time, in more packets than the share that is to come.
pub async fn keeps_hearing(
    phone: &Phone,
    call_id: &str,
    hz: u32,
    talk: Duration,
    comes: f64,
) -> Result<()> {
    hears(phone, call_id, hz).await?;
    let media = media(phone, call_id)?;
    media.mark();
    let began = Instant::now();
    while began.elapsed() < talk {
        tokio::time::sleep(LOOK_AGAIN).await;
        let share = media.heard_share(hz, LOOK_MS);
        let heard = media.heard_hz(LOOK_MS);
        let after = began.elapsed();
        ensure!(share >= SHARE_MIN, "{} hears {heard:?} Hz after {after:?}", phone.user);
    }
    let stats = media.stats();
    let (received, expected) = (stats.received, began.elapsed().as_millis() / PACKET_MS);
    ensure!(received as f64 > expected as f64 * comes, "{received} of {expected} packets");
    let gap_ms = stats.spacing_ms_max;
    ensure!(gap_ms <= GAP_MS_MAX, "nothing came for {gap_ms} ms");
    Ok(())
}

/// What a peer has written of what it heard: this tone, for so long. The file is whole only some
/// time after the call.
pub async fn has_heard(wav: &Path, hz: u32, talk: Duration) -> Result<()> {
    let wanted = (talk.as_secs_f64() * SAMPLES_PER_S as f64 * WRITTEN) as usize;
    let deadline = Instant::now() + WITHIN;
    let samples = loop {
        match read(wav) {
            Ok(samples) if samples.len() >= wanted => break samples,
            Ok(samples) => {
                let had = samples.len();
                ensure!(Instant::now() < deadline, "it heard {had} of {wanted} samples");
            }
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => {}
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    };
    let parts = samples.get(BEGINNING..).unwrap_or_default().chunks_exact(LOOK_SAMPLES);
    let (same, all) = parts.fold((0, 0), |(same, all), part| {
        let heard = tones::share_at(part, f64::from(hz)) >= SHARE_MIN;
        (same + u32::from(heard), all + 1)
    });
    ensure!(all > 0 && same * 10 >= all * 9, "it heard {hz} Hz in {same} of {all} parts");
    Ok(())
}

fn read(path: &Path) -> Result<Vec<i16>> {
    let mut wav = hound::WavReader::open(path).context("what the peer has heard")?;
    let spec = wav.spec();
    ensure!(spec.sample_rate as usize == SAMPLES_PER_S && spec.channels == 1, "{spec:?}");
    Ok(wav.samples::<i16>().collect::<Result<_, _>>()?)
}
