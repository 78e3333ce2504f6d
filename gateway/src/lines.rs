//! Which lines this process serves. It asks every node again and again; who leads the meta shard answers. What it holds
//! it serves, until it is told otherwise or is told nothing for the time of a lease: then its fences
//! silence it, and nothing here need hurry.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tandem_control::Status;
use tandem_lease::{Fence, RENEW_MS, clock};
use tandem_wire::Life;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};

use crate::limits;
use crate::line::{Line, Shared, Spec};
use crate::link::client::Heard;
use crate::link::dialer::Dialer;
use crate::link::pb;
use crate::media::Told;
use crate::obituaries::Death;
use crate::options::Error;

/// In the process's data folder: the lines that it serves and their lives, a line each, for its supervisor.
pub const SERVED: &str = "lines";

/// What others in the process know of its lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Serves {
    /// Their names, in order.
    pub lines: Vec<String>,
    /// The process that serves its own line in its place.
    pub stands_by_for: Option<String>,
}

/// Where others hear of it.
pub struct Outlook {
    pub serves: watch::Sender<Serves>,
    /// As one of the lines knows the cluster.
    pub status: watch::Sender<Status>,
    /// Who takes what the process has to tell.
    pub reporter: watch::Sender<Option<mpsc::Sender<Told>>>,
}

enum Served {
    Starting { life: u64, fence: Arc<Fence> },
    Serving(Line),
}

impl Served {
    fn life(&self) -> u64 {
        match self {
            Self::Starting { life, .. } => *life,
            Self::Serving(line) => line.life,
        }
    }

    fn fence(&self) -> &Fence {
        match self {
            Self::Starting { fence, .. } => fence,
            Self::Serving(line) => line.fence(),
        }
    }
}

pub struct Lines {
    shared: Arc<Shared>,
    /// The process's own first.
    specs: Vec<Spec>,
    served: BTreeMap<String, Served>,
    starting: JoinSet<(String, u64, Result<Line, Error>)>,
    /// Lives that it serves no more and may still be said to hold.
    left: BTreeMap<String, u64>,
    asks: Vec<Option<mpsc::Sender<pb::Ask>>>,
    /// The last questions, and when they were asked by the boot clock.
    asked: VecDeque<(u64, u64)>,
    /// The latest life of each line that was told of.
    lives: BTreeMap<String, u64>,
    stands_by_for: Option<String>,
    dialer: Dialer,
    heard: mpsc::Receiver<Heard>,
    obituaries: mpsc::Receiver<Death>,
    /// The last life of each process that its supervisor has reaped.
    dead: BTreeMap<String, u64>,
    /// The latest life in which each node has said that it leads, by its place.
    living: BTreeMap<usize, u64>,
    outlook: Outlook,
    /// Follows the status of the line that speaks for the process.
    speaker: Option<(String, JoinHandle<()>)>,
    /// Its own line was another's since the process began.
    stood_by: bool,
}

impl Lines {
    pub fn new(
        shared: Arc<Shared>,
        dialer: Dialer,
        heard: mpsc::Receiver<Heard>,
        obituaries: mpsc::Receiver<Death>,
        outlook: Outlook,
    ) -> Self {
        Self {
            specs: shared.options.lines(),
            shared,
            served: BTreeMap::new(),
            starting: JoinSet::new(),
            left: BTreeMap::new(),
            asks: (0..limits::NODES_MAX).map(|_| None).collect(),
            asked: VecDeque::new(),
            lives: BTreeMap::new(),
            stands_by_for: None,
            dialer,
            heard,
            obituaries,
            dead: BTreeMap::new(),
            living: BTreeMap::new(),
            outlook,
            speaker: None,
            stood_by: false,
        }
    }

    /// # Errors
    /// Why the process can't go on.
    pub async fn run(mut self, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error> {
        // What an earlier life of the process served.
        self.note("")
            .map_err(|why| Error::Served { dir: self.shared.options.data_dir.clone(), why })?;
        let mut tick = tokio::time::interval(Duration::from_millis(RENEW_MS));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                heard = self.heard.recv() => match heard {
                    Some(Heard::Connected { node, asks }) => {
                        if let Some(slot) = self.asks.get_mut(node) {
                            *slot = Some(asks);
                        }
                        self.ask();
                    }
                    Some(Heard::Told { node, incarnation, body }) => {
                        // One that does not lead can give a line to nobody.
                        if leads(&body) {
                            let known = self.living.entry(node).or_default();
                            *known = incarnation.max(*known);
                        }
                        self.on_told(body).await;
                    }
                    None => return Err(Error::Control("nobody hears the nodes".into())),
                },
                Some(death) = self.obituaries.recv() => self.on_death(death),
                _ = tick.tick() => self.ask(),
                Some(started) = self.starting.join_next() => match started {
                    Ok((name, life, started)) => self.on_started(name, life, started).await?,
                    Err(error) => return Err(Error::Control(error.to_string())),
                },
                (line, error) = failed(&mut self.served) => self.on_failed(line, error).await?,
            }
        }
        self.starting.shutdown().await;
        let goes_on = self.specs.len() > 1;
        let leaving = std::mem::take(&mut self.served).into_values().filter_map(|it| match it {
            Served::Serving(line) => Some(line.leave(goes_on)),
            Served::Starting { .. } => None,
        });
        futures::future::join_all(leaving).await;
        self.tell();
        Ok(())
    }

    fn ask(&mut self) {
        self.keep_alone();
        let number = self.asked.back().map_or(1, |(number, _)| number + 1);
        if self.asked.len() == limits::ASKED_MAX {
            self.asked.pop_front();
        }
        self.asked.push_back((number, clock::boot_ms()));
        let left = self.left.iter().map(|(line, life)| pb::Life {
            line: line.clone(),
            life: *life,
            ..Default::default()
        });
        let ask = pb::Ask {
            process: self.shared.options.name.clone(),
            incarnation: self.shared.options.incarnation,
            number,
            left: left.collect(),
        };
        for slot in &mut self.asks {
            // A node that takes none is asked again with the next one.
            if slot.as_ref().is_some_and(mpsc::Sender::is_closed) {
                *slot = None;
            }
            if let Some(asks) = slot {
                let _ = asks.try_send(ask.clone());
            }
        }
    }

    fn on_death(&mut self, Death { process, incarnation }: Death) {
        let known = self.dead.entry(process).or_default();
        *known = incarnation.max(*known);
        self.keep_alone();
    }

    /// Where every node is proven dead nobody can give a line to another: what it holds it goes on with.
    fn keep_alone(&self) {
        let is_dead = |(at, name): (usize, &String)| {
            let living = self.living.get(&at).copied().unwrap_or_default();
            self.dead.get(name).is_some_and(|dead| *dead >= living)
        };
        if self.dialer.names().iter().enumerate().all(is_dead) {
            let now = clock::boot_ms();
            self.served.values().for_each(|served| served.fence().keep(now, now));
        }
    }

    async fn on_told(&mut self, body: pb::told::Body) {
        match body {
            pb::told::Body::Nodes(nodes) => self.dialer.learn(nodes),
            pb::told::Body::Begun(_) => self.ask(),
            pb::told::Body::Holds(holds) => self.on_holds(holds).await,
        }
    }

    async fn on_holds(&mut self, holds: pb::Holds) {
        let asked = self.asked.iter().find(|(number, _)| *number == holds.number);
        let Some(asked_ms) = asked.map(|(_, at_ms)| *at_ms) else { return };
        if holds.frozen {
            let now = clock::boot_ms();
            let kept = holds.lives.iter().filter(|it| it.held);
            for pb::Life { line, life, .. } in kept {
                let served = self.served.get(line).filter(|served| served.life() == *life);
                served.inspect(|served| served.fence().keep(asked_ms, now));
            }
            return;
        }
        for pb::Life { line, life, held, process } in holds.lives {
            let known = self.lives.entry(line.clone()).or_default();
            if life < *known {
                continue;
            }
            *known = life;
            if self.is_own(&line) {
                let another = (!held && !process.is_empty()).then_some(process);
                self.stands_by_for = another.filter(|it| *it != self.shared.options.name);
            }
            if self.served.get(&line).is_some_and(|served| !held || served.life() != life) {
                self.lose(&line).await;
            }
            match self.served.get(&line) {
                _ if !held => drop(self.left.remove(&line)),
                Some(served) => served.fence().renew(asked_ms),
                None if self.left.get(&line) == Some(&life) => {}
                None => self.start(&line, life, asked_ms),
            }
        }
        self.stood_by |= self.stands_by_for.is_some();
        for line in holds.wanted {
            if let Some(Served::Serving(serving)) = self.served.remove(&line) {
                tracing::info!(line, "given back to its own process");
                // At once: the other line's lease is waiting, and carriers hear of this one again in a moment.
                let life = serving.life;
                serving.lose().await;
                self.left.insert(line, life);
            }
        }
        if !self.left.is_empty() {
            self.ask();
        }
        self.tell();
    }

    async fn lose(&mut self, line: &str) {
        match self.served.remove(line) {
            Some(Served::Serving(lost)) => {
                tracing::warn!(line, "TD0341 this line is in another life now, here or elsewhere");
                lost.lose().await;
            }
            // It is found out when it has started.
            Some(Served::Starting { fence, .. }) => fence.end(),
            None => {}
        }
    }

    fn start(&mut self, line: &str, life: u64, asked_ms: u64) {
        let Some(spec) = self.specs.iter().find(|spec| spec.name == line).cloned() else {
            tracing::error!(
                line,
                "TD0342 a line that the configuration does not name can't be served"
            );
            self.left.insert(line.to_owned(), life);
            return;
        };
        let fence = Arc::new(Fence::asked_at(asked_ms));
        let follows = self.stood_by || !self.is_own(line);
        self.served.insert(line.to_owned(), Served::Starting { life, fence: Arc::clone(&fence) });
        let shared = Arc::clone(&self.shared);
        self.starting.spawn(async move {
            let life = Life { number: life, fence, follows };
            let started = start(&shared, &spec, life.clone()).await;
            (spec.name, life.number, started)
        });
    }

    fn is_own(&self, line: &str) -> bool {
        self.specs.first().is_some_and(|own| own.name == line)
    }

    async fn on_started(
        &mut self,
        name: String,
        life: u64,
        started: Result<Line, Error>,
    ) -> Result<(), Error> {
        let wanted = self.served.get(&name).is_some_and(|served| served.life() == life);
        match started {
            Ok(line) if wanted => {
                self.served.insert(name, Served::Serving(line));
            }
            Ok(line) => line.lose().await,
            Err(error) if self.is_own(&name) && !self.stood_by => return Err(error),
            Err(error) => {
                tracing::error!(line = name, %error, "TD0343 the line can't be served: it is given back");
                if wanted {
                    self.served.remove(&name);
                    self.left.insert(name, life);
                }
            }
        }
        self.tell();
        Ok(())
    }

    async fn on_failed(&mut self, line: String, error: Error) -> Result<(), Error> {
        let Error::BusyPorts(busy) = error else { return Err(error) };
        tracing::error!(
            line,
            ?busy,
            "TD0345 RTP ports are other programs': the line begins anew without them"
        );
        if let Some(Served::Serving(failed)) = self.served.remove(&line) {
            self.shared.busy.lock().entry(line.clone()).or_default().extend(busy);
            self.left.insert(line, failed.life);
            failed.lose().await;
            self.ask();
        }
        self.tell();
        Ok(())
    }

    /// Whoever wants to know what is served hears it.
    fn tell(&mut self) {
        let serving = self.served.iter().filter_map(|(name, served)| match served {
            Served::Serving(line) => Some((name, line)),
            Served::Starting { .. } => None,
        });
        let serving: Vec<(&String, &Line)> = serving.collect();
        let own = self.specs.first().map(|spec| spec.name.as_str());
        let front = serving.iter().find(|(name, _)| Some(name.as_str()) == own);
        let front = front.or(serving.first());
        let id = |(name, line): &(&String, &Line)| format!("{name} {}\n", line.life);
        if self.speaker.as_ref().map(|(id, _)| id.as_str()) != front.map(id).as_deref() {
            if let Some((_, follows)) = self.speaker.take() {
                follows.abort();
            }
            self.outlook.reporter.send_replace(front.map(|(_, line)| line.report.clone()));
            self.speaker = front.map(|it| {
                let follows = follow(it.1.status.clone(), self.outlook.status.clone());
                (id(it), tokio::spawn(follows))
            });
        }
        let lines: Vec<String> = serving.iter().map(|(name, _)| (*name).clone()).collect();
        let serves = Serves { lines, stands_by_for: self.stands_by_for.clone() };
        let text: String = serving.iter().map(id).collect();
        let changed = self.outlook.serves.send_if_modified(|known| {
            let changed = *known != serves;
            *known = serves;
            changed
        });
        if changed && let Err(error) = self.note(&text) {
            tracing::error!(%error, "TD0344 the supervisor can't be told which lines are served");
        }
    }

    fn note(&self, text: &str) -> io::Result<()> {
        let dir = &self.shared.options.data_dir;
        let (new, path) = (dir.join(format!("{SERVED}.new")), dir.join(SERVED));
        std::fs::write(&new, text)?;
        std::fs::rename(&new, &path)
    }
}

/// Whether only who leads says so.
fn leads(body: &pb::told::Body) -> bool {
    match body {
        pb::told::Body::Begun(_) => true,
        pb::told::Body::Holds(holds) => !holds.frozen,
        pb::told::Body::Nodes(_) => false,
    }
}

/// Which of them fails, and of what.
async fn failed(served: &mut BTreeMap<String, Served>) -> (String, Error) {
    let lines = served.iter_mut().filter_map(|(name, served)| match served {
        Served::Serving(line) => Some(Box::pin(async move { (name.clone(), line.failed().await) })),
        Served::Starting { .. } => None,
    });
    let lines: Vec<_> = lines.collect();
    if lines.is_empty() {
        return std::future::pending().await;
    }
    futures::future::select_all(lines).await.0
}

/// An address may be in use for a moment more.
async fn start(shared: &Shared, spec: &Spec, life: Life) -> Result<Line, Error> {
    let give_up = Instant::now() + Duration::from_millis(limits::SERVE_MS_MAX);
    loop {
        let error = match Line::start(shared, spec, life.clone()) {
            Ok(line) => return Ok(line),
            Err(error) => error,
        };
        if !life.follows || life.fence.has_ended() || Instant::now() >= give_up {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(limits::SERVE_AGAIN_MS)).await;
    }
}

async fn follow(mut from: watch::Receiver<Status>, to: watch::Sender<Status>) {
    loop {
        let now = from.borrow_and_update().clone();
        to.send_replace(now);
        if from.changed().await.is_err() {
            return;
        }
    }
}
