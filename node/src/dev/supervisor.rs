//! Starts, reaps and stops the processes of a box. One thread does nothing else: it sleeps in
//! `poll(2)` on a descriptor of each process, so that a death is seen as soon as the kernel
//! tells it, and told on before anything else is done about it.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::sync::oneshot;

use super::child::{self, Child, Reaper, Spec};
use crate::incarnation::Incarnations;

/// Between SIGTERM and SIGKILL.
const STOP_MS_MAX: u64 = 5_000;
/// Before a process is brought back; doubled while it goes on dying.
const BACK_OFF_MS_MIN: u64 = 100;
const BACK_OFF_MS_MAX: u64 = 5_000;
/// A process that lived so long has recovered.
const RECOVERED_MS: u64 = 30_000;
/// Orders that may wait for the thread.
const ORDERS_MAX: usize = 64;

/// A process that was reaped: proof that it does nothing any more.
#[derive(Clone, Debug)]
pub struct Death {
    pub name: String,
    pub incarnation: u64,
    /// In words, for instance `was killed by signal 9`.
    pub how: String,
    /// It was asked to stop.
    pub expected: bool,
}

/// What is known of one process.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub pid: u32,
    pub alive: bool,
}

pub type States = BTreeMap<String, State>;

/// Who hears of it, in the supervisor's own thread: must not block.
pub struct Listeners {
    /// Called first, at once after the reaping.
    pub on_death: Box<dyn Fn(&Death) + Send>,
    /// Called after each change.
    pub on_change: Box<dyn Fn(&States) + Send>,
}

enum Order {
    Add { spec: Spec },
    Start { name: String, reply: oneshot::Sender<Result<()>> },
    Stop { name: String, reply: oneshot::Sender<Result<()>> },
    Kill { name: String },
    StopAll { reply: oneshot::Sender<()> },
}

/// A handle on the thread.
#[derive(Clone)]
pub struct Supervisor {
    orders: mpsc::SyncSender<Order>,
    wake: Arc<OwnedFd>,
}

impl Supervisor {
    /// Starts the thread; no process yet.
    pub fn spawn(
        specs: Vec<Spec>,
        incarnations: Incarnations,
        restart: bool,
        listeners: Listeners,
    ) -> Result<Self> {
        let (orders, inbox) = mpsc::sync_channel(ORDERS_MAX);
        let wake = Arc::new(eventfd()?);
        let processes = specs.into_iter().map(|spec| (spec.name.clone(), Process::new(spec)));
        let thread = Thread {
            processes: processes.collect(),
            incarnations,
            restart,
            stopping: None,
            started: Vec::new(),
            inbox,
            wake: Arc::clone(&wake),
            listeners,
            reaper: Reaper::spawn().context("the thread that reaps can't be started")?,
        };
        std::thread::Builder::new()
            .name("supervisor".into())
            .spawn(move || thread.run())
            .context("the supervisor's thread can't be started")?;
        Ok(Self { orders, wake })
    }

    /// One process more, that does not run yet.
    pub fn add(&self, spec: Spec) -> Result<()> {
        self.order(Order::Add { spec })
    }

    pub async fn start(&self, name: &str) -> Result<()> {
        let (reply, done) = oneshot::channel();
        self.order(Order::Start { name: name.to_owned(), reply })?;
        done.await.context("the supervisor's thread is gone")?
    }

    /// Returns when the process is dead.
    pub async fn stop(&self, name: &str) -> Result<()> {
        let (reply, done) = oneshot::channel();
        self.order(Order::Stop { name: name.to_owned(), reply })?;
        done.await.context("the supervisor's thread is gone")?
    }

    /// SIGKILL, to one that would not hear another signal: its death is like any that nobody has asked for.
    pub fn kill(&self, name: &str) -> Result<()> {
        self.order(Order::Kill { name: name.to_owned() })
    }

    /// Returns when no process is left.
    pub async fn stop_all(&self) -> Result<()> {
        let (reply, done) = oneshot::channel();
        self.order(Order::StopAll { reply })?;
        done.await.context("the supervisor's thread is gone")
    }

    fn order(&self, order: Order) -> Result<()> {
        self.orders.try_send(order).ok().context("the supervisor has too much to do")?;
        let one = 1_u64.to_ne_bytes();
        // SAFETY: write(2) of eight bytes to an eventfd that `self` keeps open.
        unsafe { libc::write(self.wake.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        Ok(())
    }
}

struct Process {
    spec: Spec,
    child: Option<Child>,
    started: Instant,
    incarnation: u64,
    back_off_ms: u64,
    restart_at: Option<Instant>,
    /// SIGKILL follows then.
    kill_at: Option<Instant>,
    waiting: Vec<oneshot::Sender<Result<()>>>,
}

impl Process {
    fn new(spec: Spec) -> Self {
        Self {
            spec,
            child: None,
            started: Instant::now(),
            incarnation: 0,
            back_off_ms: BACK_OFF_MS_MIN,
            restart_at: None,
            kill_at: None,
            waiting: Vec::new(),
        }
    }

    fn start(&mut self, incarnations: &mut Incarnations) -> Result<()> {
        if self.child.is_some() {
            bail!("{} already runs", self.spec.name);
        }
        self.restart_at = None;
        self.kill_at = None;
        // Grows over restarts of the supervisor, too: an older obituary is never believed.
        self.incarnation = incarnations.next();
        self.child = Some(child::spawn(&self.spec, self.incarnation)?);
        self.started = Instant::now();
        Ok(())
    }

    fn ask_to_stop(&mut self) {
        self.restart_at = None;
        if let Some(child) = &self.child
            && self.kill_at.is_none()
        {
            child.signal(libc::SIGTERM);
            // A stopped process hears SIGTERM only once it goes on.
            child.signal(libc::SIGCONT);
            self.kill_at = Some(Instant::now() + Duration::from_millis(STOP_MS_MAX));
        }
    }

    fn state(&self) -> State {
        match &self.child {
            Some(child) => State { pid: child.pid(), alive: true },
            None => State { pid: 0, alive: false },
        }
    }
}

struct Thread {
    processes: BTreeMap<String, Process>,
    incarnations: Incarnations,
    restart: bool,
    stopping: Option<oneshot::Sender<()>>,
    /// Answered when whoever asks can see what was done.
    started: Vec<(oneshot::Sender<Result<()>>, Result<()>)>,
    inbox: mpsc::Receiver<Order>,
    wake: Arc<OwnedFd>,
    listeners: Listeners,
    reaper: Reaper,
}

impl Thread {
    fn run(mut self) {
        child::prefer_this_thread();
        let mut last: States = States::new();
        loop {
            self.sleep();
            self.bury();
            if !self.obey() {
                return;
            }
            self.keep_times();
            let mut states: States = self
                .processes
                .iter()
                .map(|(name, process)| (name.clone(), process.state()))
                .collect();
            for (name, state) in &mut states {
                // A dead process keeps the id that it had, for those who look for it.
                if !state.alive {
                    state.pid = last.get(name).map_or(0, |state| state.pid);
                }
            }
            let same = |name: &String, state: &State| {
                last.get(name).is_some_and(|l| l.alive == state.alive && l.pid == state.pid)
            };
            if !states.iter().all(|(name, state)| same(name, state)) {
                (self.listeners.on_change)(&states);
                last = states;
            }
            for (reply, started) in self.started.drain(..) {
                // Whoever asked may have gone.
                let _ = reply.send(started);
            }
            if self.stopping.is_some() && self.processes.values().all(|p| p.child.is_none()) {
                if let Some(reply) = self.stopping.take() {
                    // Whoever asked may have gone; the processes are stopped all the same.
                    let _ = reply.send(());
                }
                return;
            }
        }
    }

    /// Until a process dies, an order comes or a time is up.
    fn sleep(&self) {
        let mut fds = vec![pollfd(self.wake.as_raw_fd())];
        fds.extend(
            self.processes.values().filter_map(|p| p.child.as_ref()).map(|c| pollfd(c.fd())),
        );
        let next = self.processes.values().flat_map(|p| [p.restart_at, p.kill_at]).flatten().min();
        let timeout_ms = next.map_or(-1, |next| {
            let left = next.saturating_duration_since(Instant::now()).as_millis() + 1;
            libc::c_int::try_from(left).unwrap_or(libc::c_int::MAX)
        });
        let count = libc::nfds_t::try_from(fds.len()).unwrap_or(0);
        // SAFETY: poll(2) on an array of `count` entries that outlives the call.
        unsafe { libc::poll(fds.as_mut_ptr(), count, timeout_ms) };
        let mut counter = [0_u8; 8];
        // SAFETY: read(2) of eight bytes from a non-blocking eventfd that `self` keeps open.
        unsafe { libc::read(self.wake.as_raw_fd(), counter.as_mut_ptr().cast(), counter.len()) };
    }

    fn bury(&mut self) {
        let restart = self.restart && self.stopping.is_none();
        for (name, process) in &mut self.processes {
            let Some(how) = process.child.as_ref().and_then(Child::death) else { continue };
            let expected = process.kill_at.is_some();
            let death =
                Death { name: name.clone(), incarnation: process.incarnation, how, expected };
            if self.stopping.is_none() {
                (self.listeners.on_death)(&death);
            }
            if let Some(dead) = process.child.take() {
                self.reaper.take(dead);
            }
            process.kill_at = None;
            if restart && !expected {
                if process.started.elapsed() > Duration::from_millis(RECOVERED_MS) {
                    process.back_off_ms = BACK_OFF_MS_MIN;
                }
                let back_off = Duration::from_millis(process.back_off_ms);
                process.restart_at = Some(Instant::now() + back_off);
                process.back_off_ms = (process.back_off_ms * 2).min(BACK_OFF_MS_MAX);
            }
            for reply in process.waiting.drain(..) {
                // As above.
                let _ = reply.send(Ok(()));
            }
        }
    }

    /// False where nobody can give orders any more.
    fn obey(&mut self) -> bool {
        loop {
            match self.inbox.try_recv() {
                Ok(Order::Add { spec }) => {
                    let name = spec.name.clone();
                    self.processes.entry(name).or_insert_with(|| Process::new(spec));
                }
                Ok(Order::Start { name, reply }) => {
                    let started = match self.processes.get_mut(&name) {
                        Some(_) if self.stopping.is_some() => {
                            Err(anyhow::anyhow!("the cluster is stopping"))
                        }
                        Some(process) => process.start(&mut self.incarnations),
                        None => Err(unknown(&name)),
                    };
                    self.started.push((reply, started));
                }
                Ok(Order::Stop { name, reply }) => match self.processes.get_mut(&name) {
                    Some(process) if process.child.is_some() => {
                        process.waiting.push(reply);
                        process.ask_to_stop();
                    }
                    Some(process) => {
                        process.restart_at = None;
                        let _ = reply.send(Err(anyhow::anyhow!("{name} does not run")));
                    }
                    None => {
                        let _ = reply.send(Err(unknown(&name)));
                    }
                },
                Ok(Order::Kill { name }) => {
                    if let Some(child) = self.processes.get(&name).and_then(|it| it.child.as_ref())
                    {
                        child.signal(libc::SIGKILL);
                    }
                }
                Ok(Order::StopAll { reply }) => {
                    self.stopping = Some(reply);
                    self.processes.values_mut().for_each(Process::ask_to_stop);
                }
                Err(mpsc::TryRecvError::Empty) => return true,
                Err(mpsc::TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn keep_times(&mut self) {
        let now = Instant::now();
        for (name, process) in &mut self.processes {
            if process.kill_at.is_some_and(|at| at <= now) {
                if let Some(child) = &process.child {
                    child.signal(libc::SIGKILL);
                }
                process.kill_at = Some(now + Duration::from_millis(STOP_MS_MAX));
            }
            if process.restart_at.is_some_and(|at| at <= now)
                && let Err(error) = process.start(&mut self.incarnations)
            {
                tracing::error!(process = %name, %error, "could not be brought back");
                process.restart_at = Some(now + Duration::from_millis(BACK_OFF_MS_MAX));
            }
        }
    }
}

fn unknown(name: &str) -> anyhow::Error {
    anyhow::anyhow!("this cluster has no process {name:?}")
}

fn eventfd() -> Result<OwnedFd> {
    // SAFETY: eventfd(2) takes plain numbers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error()).context("eventfd");
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub fn pollfd(fd: i32) -> libc::pollfd {
    libc::pollfd { fd, events: libc::POLLIN, revents: 0 }
}

#[cfg(test)]
mod tests;
