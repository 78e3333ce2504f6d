//! The media plane as its owner sees it: plans go in, events come out.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, thread};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use tandem_lease::Fence;

use crate::event::Event;
use crate::limits::{COMMANDS_MAX, EVENTS_MAX, RELEASED_REMEMBERED_MAX};
use crate::music::{self, MusicRef};
use crate::plan::{self, CallKey, Plan};
use crate::plane::{Common, Plane};
use crate::ports::{self, Pair};
use crate::prompts::{self, PromptRef};
use crate::stats::{Counters, Stats, Totals};
use crate::sys::{self, Waker};
use crate::worker::{self, Command, Worker};

pub const WORKERS_MAX: usize = 64;
const RTP_SILENCE_MS_MAX_DEFAULT: u64 = 30_000;
/// RFC 3550 §6.2.
const RTCP_INTERVAL_MS_DEFAULT: u64 = 5000;
/// A worker answers within a turn; this is for one that has died.
const REPORT_WAIT: Duration = Duration::from_secs(1);

/// What is of one line.
#[derive(Clone, Debug)]
pub struct Options {
    /// RTP is received on and sent from here.
    pub address: IpAddr,
    /// Threads that carry packets; a call stays with one.
    pub workers: usize,
    /// Pairs of RTP and RTCP ports to bind up front.
    pub pairs: usize,
    /// Where the pairs are taken from; busy ports are left out.
    pub ports: RangeInclusive<u16>,
    /// A leg whose peer sends nothing for so long is told of.
    pub rtp_silence_ms_max: u64,
    /// The mean time between two reports of a leg, before it is spread (RFC 3550 §6.2).
    pub rtcp_interval_ms: u64,
    /// Of what is spread in time.
    pub seed: u64,
}

impl Options {
    pub fn new(address: IpAddr) -> Self {
        Self {
            address,
            workers: 1,
            pairs: 512,
            ports: ports::RANGE_DEFAULT,
            rtp_silence_ms_max: RTP_SILENCE_MS_MAX_DEFAULT,
            rtcp_interval_ms: RTCP_INTERVAL_MS_DEFAULT,
            seed: sys::realtime_ns() ^ (u64::from(std::process::id()) << 32),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Ports(#[from] ports::Error),
    #[error(transparent)]
    Music(#[from] music::Error),
    #[error(transparent)]
    Prompts(#[from] prompts::Error),
    #[error(transparent)]
    Plan(#[from] plan::Error),
    #[error("media has {0} workers; it takes 1 to {WORKERS_MAX}")]
    Workers(usize),
    #[error("the recordings' folder {path} can't be used: {error}", path = path.display())]
    Recordings { path: PathBuf, error: io::Error },
    #[error("a media thread can't be started: {0}")]
    Thread(io::Error),
    #[error("the media engine has been shut down")]
    Stopped,
}

/// What became of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    Now,
    /// A plan of this version, or a later one, was applied before.
    Before,
}

pub struct Engine {
    workers: Vec<Handle>,
    books: Arc<Mutex<Books>>,
    /// Those that may be granted.
    granted: Vec<u16>,
    address: IpAddr,
    fence: Arc<Fence>,
    events: Receiver<Event>,
    plane: Arc<Plane>,
}

/// What an engine is made of besides its options.
struct Parts {
    fence: Arc<Fence>,
    bound: Vec<Arc<Pair>>,
    granted: Vec<u16>,
    outbox: Sender<Event>,
    events: Receiver<Event>,
}

/// The ports of a line that goes on, to be bound while its calls are served.
pub struct Rest {
    books: Arc<Mutex<Books>>,
    ports: Vec<u16>,
    address: IpAddr,
    fence: Arc<Fence>,
}

impl Rest {
    /// For a thread that may wait.
    ///
    /// # Errors
    /// Those that somebody else has.
    pub fn bind(self) -> Result<(), BTreeSet<u16>> {
        let mut busy = BTreeSet::new();
        for port in self.ports {
            if self.fence.has_ended() {
                return Ok(());
            }
            // Plans come in between.
            if self.books.lock().pair(self.address, port, &self.fence).is_err() {
                busy.insert(port);
            }
        }
        if busy.is_empty() { Ok(()) } else { Err(busy) }
    }
}

struct Handle {
    commands: Sender<Command>,
    waker: Arc<Waker>,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

/// Who has which port, and how far each call's plans have come.
struct Books {
    pairs: HashMap<u16, Arc<Pair>>,
    /// The call that has the port.
    taken: HashMap<u16, CallKey>,
    calls: HashMap<CallKey, Entry>,
    /// Released calls, oldest first.
    released: VecDeque<(CallKey, u64)>,
}

struct Entry {
    version: u64,
    /// Empty: released.
    ports: Vec<u16>,
}

impl Engine {
    /// The only engine of a plane of its own; all events are its.
    ///
    /// # Errors
    /// What can't be had: ports, folders, threads.
    pub fn start(common: Common, options: Options) -> Result<Self, Error> {
        let plane = Plane::start(common)?;
        let (outbox, events) = (plane.outbox.clone(), plane.events());
        let fence = Arc::new(Fence::none());
        let bound = ports::bind(options.address, &options.ports, options.pairs, &fence)?;
        let granted = bound.iter().map(|pair| pair.port).collect();
        Self::with(plane, options, Parts { fence, bound, granted, outbox, events })
    }

    /// Of a line that is served in this life, beside others of the plane. Its events are what happens to legs.
    ///
    /// # Errors
    /// What can't be had: ports, threads.
    pub fn of_line(plane: Arc<Plane>, options: Options, fence: Arc<Fence>) -> Result<Self, Error> {
        let (outbox, events) = bounded(EVENTS_MAX);
        let bound = ports::bind(options.address, &options.ports, options.pairs, &fence)?;
        let granted = bound.iter().map(|pair| pair.port).collect();
        Self::with(plane, options, Parts { fence, bound, granted, outbox, events })
    }

    /// The same of a line that another process had before: its callers wait. So ports are bound when a plan names
    /// them, all but the `busy` are taken to be free, as they were a moment ago, and [`Rest`] binds them meanwhile.
    ///
    /// # Errors
    /// As above.
    pub fn of_line_that_goes_on(
        plane: Arc<Plane>,
        options: Options,
        fence: Arc<Fence>,
        busy: &BTreeSet<u16>,
    ) -> Result<(Self, Rest), Error> {
        let (outbox, events) = bounded(EVENTS_MAX);
        let granted = ports::likely(&options.ports, options.pairs, busy);
        let (bound, address) = (Vec::new(), options.address);
        let parts = Parts { fence: Arc::clone(&fence), bound, granted, outbox, events };
        let engine = Self::with(plane, options, parts)?;
        let (books, ports) = (Arc::clone(&engine.books), engine.granted.clone());
        Ok((engine, Rest { books, ports, address, fence }))
    }

    fn with(plane: Arc<Plane>, options: Options, parts: Parts) -> Result<Self, Error> {
        if options.workers == 0 || options.workers > WORKERS_MAX {
            return Err(Error::Workers(options.workers));
        }
        let Parts { fence, bound, granted, outbox, events } = parts;
        let mut engine = Self {
            workers: Vec::with_capacity(options.workers),
            books: Arc::new(Mutex::new(Books::new(bound))),
            granted,
            address: options.address,
            fence,
            events,
            plane,
        };
        for number in 0..options.workers {
            let (commands, inbox) = bounded(COMMANDS_MAX);
            let waker = Arc::new(Waker::new().map_err(Error::Thread)?);
            let counters: Arc<Counters> = Arc::default();
            let plane = &engine.plane;
            plane.counters.lock().push(Arc::clone(&counters));
            let worker = Worker::new(worker::Parts {
                commands: inbox,
                waker: Arc::clone(&waker),
                events: outbox.clone(),
                counters: Arc::clone(&counters),
                recorder: plane.recorder.clone(),
                music: Arc::clone(&plane.music),
                ringback: Arc::clone(&plane.ringback),
                prompts: Arc::clone(&plane.prompts),
                fence: Arc::clone(&engine.fence),
                rtp_silence_ms_max: options.rtp_silence_ms_max,
                rtcp_interval_ms: options.rtcp_interval_ms,
                seed: options.seed.wrapping_add(number as u64),
            })
            .map_err(Error::Thread)?;
            let thread = thread::Builder::new()
                .name(format!("media-{number}"))
                .spawn(move || worker.run())
                .map_err(Error::Thread)?;
            engine.workers.push(Handle { commands, waker, counters, thread: Some(thread) });
        }
        Ok(engine)
    }

    /// The RTP ports that may be granted, in order.
    pub fn ports(&self) -> Vec<u16> {
        self.granted.clone()
    }

    /// What plans call the prompt of that name; none where there is none.
    pub fn prompt(&self, name: &str) -> Option<PromptRef> {
        self.plane.prompts.find(name)
    }

    pub fn music(&self, list: &str) -> Option<MusicRef> {
        self.plane.music.find(list)
    }

    /// Makes the call's media what the plan says; returns before it is so, at most a turn of a
    /// worker. A port that was granted by a gateway before this one is taken over.
    ///
    /// # Errors
    /// The plan contradicts itself, or a port can't be had; then nothing changes.
    pub fn apply(&self, plan: Plan) -> Result<Applied, Error> {
        plan.check()?;
        let mut books = self.books.lock();
        if books.calls.get(&plan.call).is_some_and(|entry| entry.version >= plan.version) {
            return Ok(Applied::Before);
        }
        let mut pairs = Vec::with_capacity(plan.legs.len());
        for leg in &plan.legs {
            pairs.push(books.pair(self.address, leg.port, &self.fence)?);
        }
        // The books stay locked: commands reach workers in the order in which ports changed hands.
        for (call, port) in books.enter(&plan) {
            self.command(call, Command::Withdraw { call, port })?;
        }
        self.command(plan.call, Command::Apply { plan, pairs })?;
        Ok(Applied::Now)
    }

    pub fn plane(&self) -> &Arc<Plane> {
        &self.plane
    }

    /// Fetched by one: each event is delivered once.
    pub fn events(&self) -> Receiver<Event> {
        self.events.clone()
    }

    pub fn stats(&self) -> Stats {
        let mut totals = Totals::default();
        let mut legs = Vec::new();
        let deadline = Instant::now() + REPORT_WAIT;
        for worker in &self.workers {
            totals.add(&worker.counters);
            let (reply, answer) = bounded(1);
            if worker.send(Command::Report { reply }).is_ok()
                && let Ok(states) = answer.recv_deadline(deadline)
            {
                legs.extend(states);
            }
        }
        let books = self.books.lock();
        Stats { totals, ports_free: books.pairs.len() - books.taken.len(), legs }
    }

    /// Lets all calls go and finishes their recordings; events of these can still be fetched.
    pub fn shutdown(self) -> Receiver<Event> {
        self.events.clone()
    }

    fn command(&self, call: CallKey, command: Command) -> Result<(), Error> {
        let worker = usize::try_from(call.call % self.workers.len() as u64).unwrap_or(0);
        self.workers[worker].send(command)
    }

    fn stop(&mut self) {
        for worker in &mut self.workers {
            // It can only fail when the worker has gone already.
            let _ = worker.send(Command::Stop);
        }
        for worker in &mut self.workers {
            if worker.thread.take().is_some_and(|thread| thread.join().is_err()) {
                tracing::error!("a media worker has panicked");
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Handle {
    /// Waits for room, which a worker makes within a turn.
    fn send(&self, command: Command) -> Result<(), Error> {
        self.commands.send(command).map_err(|_| Error::Stopped)?;
        self.waker.wake();
        Ok(())
    }
}

impl Books {
    fn new(pairs: Vec<Arc<Pair>>) -> Self {
        Self {
            pairs: pairs.into_iter().map(|pair| (pair.port, pair)).collect(),
            taken: HashMap::new(),
            calls: HashMap::new(),
            released: VecDeque::new(),
        }
    }

    fn pair(
        &mut self,
        address: IpAddr,
        port: u16,
        fence: &Arc<Fence>,
    ) -> Result<Arc<Pair>, ports::Error> {
        if let Some(pair) = self.pairs.get(&port) {
            return Ok(Arc::clone(pair));
        }
        let pair = ports::adopt(address, port, fence)?;
        tracing::debug!(port, "took over an RTP port that was granted before");
        self.pairs.insert(port, Arc::clone(&pair));
        Ok(pair)
    }

    /// Writes the plan down; the ports that other calls lose by it. A call's release may be told
    /// after its port was granted anew, so the later plan is right.
    fn enter(&mut self, plan: &Plan) -> Vec<(CallKey, u16)> {
        let ports: Vec<u16> = plan.legs.iter().map(|leg| leg.port).collect();
        let entry = Entry { version: plan.version, ports: ports.clone() };
        if let Some(before) = self.calls.insert(plan.call, entry) {
            for port in before.ports {
                if self.taken.get(&port) == Some(&plan.call) {
                    self.taken.remove(&port);
                }
            }
        }
        let mut lost = Vec::new();
        for port in &ports {
            if let Some(other) = self.taken.insert(*port, plan.call) {
                lost.push((other, *port));
            }
        }
        let free = self.pairs.len() - self.taken.len();
        metrics::gauge!("tandem_media_ports_free").set(free as f64);
        if ports.is_empty() {
            self.released.push_back((plan.call, plan.version));
            self.forget();
        }
        lost
    }

    /// Versions of the oldest released calls.
    fn forget(&mut self) {
        while self.released.len() > RELEASED_REMEMBERED_MAX {
            let Some((call, version)) = self.released.pop_front() else { return };
            if self.calls.get(&call).is_some_and(|entry| entry.version == version) {
                self.calls.remove(&call);
            }
        }
    }
}
