//! 100 conversations over loopback, 50 of them recorded: what the relay costs and how well it
//! keeps time. Prints; judges nothing.
//!
//! `cargo run -p tandem-media --release --example relay_bench -- [SECONDS] [CALLS] [RECORDED]`

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tandem_media::endpoint::{Endpoint, EndpointPool};
use tandem_media::{Common, Engine, Event, Leg, Options, Plan, Recording, Source};
use tandem_sip::sdp::Codec;

/// Clock ticks a second of `/proc/*/stat` on Linux.
const TICKS_PER_S: f64 = 100.0;
const WARM_UP: Duration = Duration::from_secs(2);
const FINISH: Duration = Duration::from_secs(20);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| -> Result<u64, std::num::ParseIntError> {
        arguments.next().map_or(Ok(default), |text| text.parse())
    };
    let (seconds, calls, recorded) = (number(20)?, number(100)?, number(50)?);
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let dir = tempfile::tempdir()?;
    let common = Common::new(dir.path().to_owned());
    let mut options = Options::new(address);
    options.pairs = usize::try_from(2 * calls)?;
    let engine = Engine::start(common, options)?;
    let pool = EndpointPool::start()?;
    let ports = engine.ports();
    let mut phones = Vec::new();
    for call in 0..calls {
        let pair = [pool.open(address)?, pool.open(address)?];
        let at = usize::try_from(2 * call)?;
        engine.apply(plan(call, &pair, &ports[at..at + 2], call < recorded))?;
        for (phone, port) in pair.iter().zip(&ports[at..]) {
            phone.probe();
            phone.talk(SocketAddr::new(address, *port), Codec::Pcmu, 440);
        }
        phones.extend(pair);
    }
    std::thread::sleep(WARM_UP);
    let before = engine.stats().totals;
    let (busy, begun) = (busy_s()?, Instant::now());
    phones.iter().for_each(Endpoint::mark);
    std::thread::sleep(Duration::from_secs(seconds));
    let heard: Vec<_> = phones.iter().map(Endpoint::stats).collect();
    let busy: Vec<(String, f64)> = busy_s()?
        .into_iter()
        .map(|(name, now)| {
            let then = busy.iter().find(|(other, _)| *other == name).map_or(0.0, |(_, s)| *s);
            (name, 100.0 * (now - then) / begun.elapsed().as_secs_f64())
        })
        .collect();
    let after = engine.stats().totals;

    println!("{calls} calls ({} legs), {recorded} recorded, {seconds} s", 2 * calls);
    for (name, percent) in &busy {
        println!("  CPU {name:<16} {percent:5.1} % of a core");
    }
    let received: u64 = heard.iter().map(|heard| heard.received).sum();
    let lost: u64 = heard.iter().map(|heard| heard.lost).sum();
    println!("  received {received}, lost {lost}, dropped {}", after.dropped() - before.dropped());
    let delays: Vec<u32> = phones.iter().flat_map(Endpoint::take_delays_us).collect();
    percentiles("relay delay, phone to phone, µs", delays);
    let spacing: Result<Vec<_>, _> =
        heard.iter().map(|heard| u32::try_from(heard.spacing_us_max)).collect();
    percentiles("longest spacing of each leg, µs", spacing?);

    let events = engine.shutdown();
    let (mut finished, mut gaps) = (0, 0);
    let deadline = Instant::now() + FINISH;
    while let Ok(event) = events.recv_deadline(deadline) {
        if let Event::Recorded(recording) = event {
            finished += 1;
            gaps += recording.gaps.len();
        }
    }
    println!("  {finished} recordings finished, {gaps} gaps");
    Ok(())
}

fn plan(call: u64, pair: &[Endpoint; 2], ports: &[u16], recorded: bool) -> Plan {
    let leg = |at: usize, source| Leg {
        leg: at as u64,
        port: ports[at],
        remote: Some(pair[at].address()),
        codec: Codec::Pcmu,
        payload: 0,
        telephone_event: Some(101),
        events_wide: false,
        ssrc: u32::from(ports[at]),
        source,
        role: "",
        keys: None,
    };
    Plan {
        call: call.into(),
        version: 1,
        legs: vec![leg(0, Source::Leg(1)), leg(1, Source::Leg(0))],
        recording: recorded.then_some(Recording {
            id: call,
            left: 0,
            right: 1,
            mixed: false,
            paused: false,
        }),
    }
}

fn percentiles(what: &str, mut values: Vec<u32>) {
    values.sort_unstable();
    let at = |share: f64| {
        let last = values.len().saturating_sub(1);
        values.get((last as f64 * share) as usize).copied().unwrap_or(0)
    };
    println!("  {what}: p50 {}, p99 {}, max {}", at(0.5), at(0.99), at(1.0));
}

/// What each thread of this process has used.
fn busy_s() -> Result<Vec<(String, f64)>, Box<dyn Error>> {
    let mut threads = Vec::new();
    for entry in std::fs::read_dir("/proc/self/task")? {
        let stat = std::fs::read_to_string(entry?.path().join("stat"))?;
        let (head, tail) = stat.rsplit_once(") ").ok_or("stat has a name")?;
        let name = head.split_once('(').map_or("", |(_, name)| name).to_owned();
        let fields: Vec<&str> = tail.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok());
        let used = ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0);
        threads.push((name, used / TICKS_PER_S));
    }
    threads.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(threads)
}
