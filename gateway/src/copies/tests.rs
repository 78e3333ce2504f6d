//! Two boxes that copy to each other over the loopback interface: a recording goes from one to the other and
//! back. The phones are missing: audio is pushed to the recorder as workers do.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use tandem_core::cdr::Manifest as Row;
use tandem_core::command::GatewayEvent;
use tandem_media::record::board::Board;
use tandem_media::record::custody::{Custody, copies_in};
use tandem_media::record::manifest::{Manifest, manifest_path, wav_path};
use tandem_media::record::{Recorder, Tap, Threads};
use tandem_media::{CallKey, Event, Recorded, monotonic_ns};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::{keeper, sender, service};
use crate::limits;
use crate::link::client::Way;
use crate::media::Told;
use crate::obituaries::Obituaries;

const ID: u64 = 0xa1;
const CALL: CallKey = CallKey { tenant: 3, call: 7 };
const WITHIN: Duration = Duration::from_secs(60);
const PACKET_SAMPLES: usize = 160;
const PACKETS_A_SECOND: u32 = 50;
const PACKET_NS: u64 = 20_000_000;

/// A gateway's disk, and where it takes copies in each of its lives.
struct Place {
    name: &'static str,
    dir: tempfile::TempDir,
    listener: std::net::TcpListener,
    /// Outlives each process, as its keeper's thread does for a moment.
    runtime: Runtime,
}

impl Place {
    fn new(name: &'static str) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self { name, dir: tempfile::tempdir().unwrap(), listener, runtime: Runtime::new().unwrap() }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    fn listener(&self) -> TcpListener {
        TcpListener::from_std(self.listener.try_clone().unwrap()).unwrap()
    }
}

/// One life of a gateway's process, as far as recordings go.
struct Process {
    dir: PathBuf,
    board: Arc<Board>,
    recorder: Recorder,
    threads: Threads,
    events: Receiver<Event>,
    told: mpsc::Receiver<Told>,
    sender: AbortHandle,
    keeper: JoinHandle<()>,
    runtime: Runtime,
}

impl Process {
    fn start(at: &Place, other: &Place) -> Self {
        let dir = at.dir.path().to_owned();
        let board = Arc::new(Board::new(true));
        let (outbox, events) = unbounded();
        let (kept, minute) = (Arc::clone(&board), Duration::from_secs(60));
        let (recorder, threads) =
            Recorder::start(dir.clone(), minute, outbox, kept, || {}).unwrap();
        let custody = recorder.custody();
        custody.open_copies().unwrap();
        let (orders, ordered) = mpsc::channel(limits::COPIES_ORDERS_MAX);
        let (report, told) = mpsc::channel(limits::MEDIA_EVENTS_MAX);
        let (name, keeps) = (at.name.to_owned(), Arc::clone(&custody));
        let of_keeper = at.runtime.handle().clone();
        let keeper = std::thread::spawn(move || {
            keeper::Keeper::new(name, keeps, ordered, report).run(&of_keeper);
        });
        let runtime = Runtime::new().unwrap();
        let folders = [dir.clone(), copies_in(&dir)];
        let service = service::Service { orders, sessions: AtomicU64::new(1), folders };
        let listener = {
            let _within = runtime.enter();
            at.listener()
        };
        let obituaries = Obituaries { deaths: mpsc::channel(limits::DEATHS_MAX).0 };
        runtime.spawn(async move { service::listen(listener, service, obituaries, None).await });
        let sender = runtime.spawn(sender_to(at, other, &board, custody).keep()).abort_handle();
        Self { dir, board, recorder, threads, events, told, sender, keeper, runtime }
    }

    /// So many seconds, as fast as they can be taken.
    fn talk(&self, taps: &[Tap; 2], begun_ns: u64, seconds: std::ops::Range<u32>, sample: i16) {
        for packet in seconds.start * PACKETS_A_SECOND..seconds.end * PACKETS_A_SECOND {
            let arrived_ns = begun_ns + u64::from(packet) * PACKET_NS;
            let timestamp = packet * PACKET_SAMPLES as u32;
            for tap in taps {
                self.recorder.push(tap, arrived_ns, 1, timestamp, &[sample; PACKET_SAMPLES]);
            }
        }
    }

    fn own(&self) -> Manifest {
        Manifest::read(&manifest_path(&self.dir, ID)).unwrap()
    }

    fn copy(&self) -> Manifest {
        Manifest::read(&manifest_path(&copies_in(&self.dir), ID)).unwrap()
    }

    fn recorded(&self) -> Recorded {
        loop {
            if let Event::Recorded(recorded) = self.events.recv_timeout(WITHIN).unwrap() {
                return recorded;
            }
        }
    }

    /// What the keeper tells next.
    fn told(&mut self) -> Vec<Row> {
        let next = async { tokio::time::timeout(WITHIN, self.told.recv()).await };
        let told = self.runtime.block_on(next).unwrap().unwrap();
        assert_eq!(told.tenant, CALL.tenant);
        match told.event {
            GatewayEvent::Holdings(rows) => rows,
            other => panic!("{other:?}"),
        }
    }

    /// What was abandoned before is as a crash would leave it.
    fn kill(self) {
        self.runtime.shutdown_timeout(WITHIN);
        self.keeper.join().unwrap();
        drop(self.recorder);
        self.threads.stop();
    }
}

fn sender_to(
    at: &Place,
    other: &Place,
    board: &Arc<Board>,
    custody: Arc<Custody>,
) -> sender::Sender {
    let way = Way::to(other.name, other.address(), None).unwrap();
    let (name, to) = (at.name.to_owned(), other.name.to_owned());
    let (dir, board) = (at.dir.path().to_owned(), Arc::clone(board));
    sender::Sender { name, to, way, dir, board, custody }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let give_up = Instant::now() + WITHIN;
    while !is_so() {
        assert!(Instant::now() < give_up, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_same(ours: &Path, theirs: &Path) -> bool {
    [wav_path, manifest_path]
        .iter()
        .all(|path| std::fs::read(path(ours, ID)).ok() == std::fs::read(path(theirs, ID)).ok())
}

#[test]
fn recording_of_a_dead_gateway_goes_on_in_the_other_and_is_whole_on_both_when_it_is_back() {
    let (a, b) = (Place::new("gateway-a"), Place::new("gateway-b"));
    let (first, second) = (Process::start(&a, &b), Process::start(&b, &a));
    let taps = first.recorder.begin(ID, CALL);
    let begun_ns = monotonic_ns();
    first.talk(&taps, begun_ns, 0..6, 1_000);
    until("three seconds are there", || second.copy().chunks >= 3);
    // What is recorded while the other can't be reached dies with its gateway.
    first.sender.abort();
    first.talk(&taps, begun_ns, 6..9, 2_000);
    first.recorder.abandon(ID);
    until("it is left", || !first.board.is_running(ID));
    let left = first.own();
    first.kill();
    second.kill();
    assert!(left.chunks > 3 && !left.sealed, "{left:?}");

    // gateway-b serves the line; gateway-a is away.
    let mut second = Process::start(&b, &a);
    let had = second.copy();
    assert!(had.chunks >= 3 && had.frames < left.frames, "{had:?} {left:?}");
    let taps = second.recorder.begin(ID, CALL);
    second.talk(&taps, monotonic_ns(), 0..8, 3_000);
    until("it goes on", || second.own().chunks > had.chunks);
    assert_eq!(second.copy().bytes, 0);

    // gateway-a is back while it runs there.
    let mut first = Process::start(&a, &b);
    until("it gives way", || first.own().bytes == 0);
    let aside = copies_in(&first.dir).join("aside");
    until("its end lies aside", || std::fs::read_dir(&aside).is_ok_and(|found| found.count() == 2));
    second.recorder.end(ID);
    let recorded = second.recorded();
    assert_eq!((recorded.call, recorded.recording), (CALL, ID));
    let rows = first.told();
    let hash = blake3::Hash::from_bytes(recorded.hash).to_hex().to_string();
    let [row] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((row.gateway.to_string(), row.sealed, &row.hash), (a.name.into(), true, &hash));
    assert!(is_same(&copies_in(&first.dir), &second.dir));
    assert!(second.told.try_recv().is_err(), "its keeper has nothing to tell");
    until("both know it", || second.board.behind().is_empty());
    first.kill();
    second.kill();
}

#[test]
fn gateway_that_lost_its_line_and_lives_gives_way_and_takes_the_copy() {
    let (a, b) = (Place::new("gateway-a"), Place::new("gateway-b"));
    let (mut first, second) = (Process::start(&a, &b), Process::start(&b, &a));
    let taps = first.recorder.begin(ID, CALL);
    let begun_ns = monotonic_ns();
    first.talk(&taps, begun_ns, 0..6, 1_000);
    until("three seconds are there", || second.copy().chunks >= 3);
    // It sends on when the other has begun already: it is refused, and both go on.
    let taken = second.recorder.begin(ID, CALL);
    until("it is taken over", || second.own().chunks >= 3);
    let chunks = first.own().chunks;
    first.talk(&taps, begun_ns, 6..12, 2_000);
    until("it records on", || first.own().chunks > chunks);
    second.talk(&taken, monotonic_ns(), 0..12, 3_000);
    first.recorder.abandon(ID);
    until("it gives way", || first.own().bytes == 0);
    second.recorder.end(ID);
    second.recorded();
    let rows = first.told();
    assert!(rows[0].sealed, "{rows:?}");
    assert!(is_same(&copies_in(&first.dir), &second.dir));
    first.kill();
    second.kill();
}
