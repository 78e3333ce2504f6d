//! The box whose gateway carries fifty calls is cut off, twenty times, as if its cable were drawn: nobody can tell that it is dead, so
//! leases alone decide, and the address moves to another host. How long callers hear nothing. The calls are the same ones all the time,
//! and go to and fro.

use std::time::Duration;

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use tandem_tests::boxes::network::{Cut, Place};
use tandem_tests::boxes::{Boxes, Guests};
use tandem_tests::phone::Phone;
use tokio::time::{Instant, sleep};

use crate::{load_average, print_histogram};

const BLOCK: u8 = 198;
const CUTS: u32 = 20;
const CALLS: usize = 50;
const WITHIN: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);
/// So many packets after a cut the gap is behind.
const PACKETS: u64 = 25;

pub async fn run() -> Result<()> {
    // SAFETY: geteuid(2) takes nothing and always succeeds.
    if unsafe { libc::geteuid() } != 0 {
        println!("cut: not measured, for only root can lay networks");
        return Ok(());
    }
    let boxes = Boxes::open(BLOCK).await?;
    Guests::of(&boxes, Place::B)?.served_in(Place::A, Place::A).await?;
    let phone = Guests::of(&boxes, Place::B)?.caller("13800000000", Place::A).await?;
    let mut calls = Vec::new();
    for _ in 0..CALLS {
        let call = phone.dial("4003")?;
        phone.answered(&call, WITHIN).await?;
        calls.push(call);
    }
    // The leader of everything may be in the box, or in the other one.
    let (mut with_leader, mut without) = (Histogram::<u64>::new(3)?, Histogram::<u64>::new(3)?);
    let mut all = Histogram::<u64>::new(3)?;
    let mut place = Place::A;
    for _ in 0..CUTS {
        let leads = boxes.leader().await? == place;
        let gaps = cut(&boxes, place, &phone, &calls).await?;
        let kind = if leads { &mut with_leader } else { &mut without };
        for gap in gaps {
            kind.record(gap)?;
            all.record(gap)?;
        }
        place = other(place);
    }
    print_histogram("a box is cut off → its calls are heard again", "ms", &all);
    print_histogram("  one whose node led the tenant's shard", "ms", &with_leader);
    print_histogram("  one whose node did not", "ms", &without);
    let mut kept = 0;
    for call in &calls {
        kept += usize::from(phone.hang_up(call).await.is_ok_and(|status| status == 200));
    }
    println!("  {kept} of {CALLS} calls ended as their caller wished");
    Ok(())
}

fn other(place: Place) -> Place {
    if place == Place::A { Place::B } else { Place::A }
}

/// The longest silence of each call.
async fn cut(boxes: &Boxes, place: Place, phone: &Phone, calls: &[String]) -> Result<Vec<u64>> {
    let guests = Guests::of(boxes, other(place))?;
    phone.mark();
    let before: Vec<u64> = calls.iter().map(|call| heard(phone, call)).collect();
    boxes.network.cut(Cut::Whole(place))?;
    let cut = Instant::now();
    guests.served_in(Place::A, other(place)).await?;
    for (call, before) in calls.iter().zip(before) {
        while heard(phone, call) < before + PACKETS {
            ensure!(cut.elapsed() < WITHIN, "{call} hears nothing after {place:?} was cut off");
            sleep(LOOK).await;
        }
    }
    let gaps: Vec<u64> = calls.iter().filter_map(|call| phone.spacing_ms_max(call)).collect();
    let longest = gaps.iter().max().copied().unwrap_or_default();
    println!(
        "  box {} cut off: the longest gap is {longest} ms (load {})",
        place.box_name(),
        load_average().split(' ').next().unwrap_or_default()
    );
    boxes.restore().await?;
    // It knows by then that its line is another's, and could take it.
    let gateway = format!("http://{}", boxes.gateway_in(place)?.http);
    let api = boxes.api();
    while !api.probe(&gateway, "/readyz?verbose").await?.1.contains("serves its line") {
        ensure!(cut.elapsed() < 2 * WITHIN, "the gateway in {place:?} does not stand by");
        sleep(LOOK).await;
    }
    Ok(gaps)
}

fn heard(phone: &Phone, call: &str) -> u64 {
    phone.with_calls(|calls| {
        let media = calls.get(call).and_then(|call| call.media.as_ref());
        media.map_or(0, |media| media.stats().received)
    })
}
