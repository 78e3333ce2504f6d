//! The hot path allocates nothing per packet: counted by an allocator of our own.

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tandem_media::endpoint::EndpointPool;
use tandem_media::{Common, Engine, Leg, Options, Plan, Prompt, Recording, Source};
use tandem_sip::sdp::Codec;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn recorded_relay_allocates_nothing_per_packet() {
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let dir = tempfile::tempdir().expect("a folder");
    let common = Common::new(dir.path().into());
    let mut options = Options::new(address);
    options.pairs = 16;
    let engine = Engine::start(common, options).expect("the engine starts");
    let pool = EndpointPool::start().expect("a thread");
    let ports = engine.ports();
    let phones: Vec<_> = ports.iter().map(|_| pool.open(address).expect("an endpoint")).collect();
    // The last call's legs have no codec in common.
    let codec = |call, at| if (call, at) == (2, 0) { Codec::Opus } else { Codec::Pcmu };
    for (call, (phones, ports)) in phones.chunks_exact(2).zip(ports.chunks_exact(2)).enumerate() {
        let leg = |at: usize, source| Leg {
            leg: at as u64,
            port: ports[at],
            remote: Some(phones[at].address()),
            codec: codec(call, at),
            payload: codec(call, at).static_payload(),
            telephone_event: None,
            events_wide: false,
            ssrc: 1,
            source,
            role: "",
            keys: None,
        };
        let call = call as u64;
        let prompt =
            Prompt { clip: engine.prompt("notice"), play: 1, offset_ms: 0, barge_in: true };
        let legs = match call {
            // One call hears a prompt instead.
            1 => vec![leg(0, Source::Prompt(prompt)), leg(1, Source::Prompt(prompt))],
            // One is mixed.
            3 => vec![leg(0, Source::Mix(vec![1])), leg(1, Source::Mix(vec![0]))],
            _ => vec![leg(0, Source::Leg(1)), leg(1, Source::Leg(0))],
        };
        let recording = (call == 0).then_some(Recording {
            id: 1,
            left: 0,
            right: 1,
            mixed: false,
            paused: false,
        });
        engine.apply(Plan { call: call.into(), version: 1, legs, recording }).expect("a good plan");
        for (at, (phone, port)) in phones.iter().zip(ports).enumerate() {
            phone.talk(SocketAddr::new(address, *port), codec(call as usize, at), 440);
        }
    }
    let received = || phones.iter().map(|phone| phone.stats().received).sum::<u64>();
    let begun = Instant::now();
    let wait = |packets: u64| {
        while received() < packets {
            assert!(begun.elapsed() < Duration::from_secs(20), "too few packets");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    wait(200);
    let (packets, allocations) = (received(), ALLOCATIONS.load(Relaxed));
    wait(packets + 1600);
    let (packets, allocations) = (received() - packets, ALLOCATIONS.load(Relaxed) - allocations);
    // The recorder and the writer make a few a second, for chunks and lines.
    assert!(allocations < packets / 10, "{allocations} allocations in {packets} packets");
}
