//! Which lines this process serves. It asks every node again and again; who leads the meta shard answers. What it holds
//! it serves, until it is told otherwise or is told nothing for the time of a lease: then its fences
//! silence it, and nothing here need hurry.

mod left;
mod nodes;
mod outlook;
mod served;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tandem_address::Held;
use tandem_lease::{Fence, RENEW_MS, clock};
use tandem_wire::Life;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use crate::limits;
use crate::line::{Line, Shared, Spec};
use crate::link::client::Heard;
use crate::link::dialer::Dialer;
use crate::link::pb;
use crate::obituaries::Death;
use crate::options::Error;
use left::{Left, Unable};
use nodes::Nodes;
use outlook::follow;
pub use outlook::{Outlook, SERVED, Serves};
use served::{Served, failed, start};

pub struct Lines {
    shared: Arc<Shared>,
    /// The process's own first.
    specs: Vec<Spec>,
    served: BTreeMap<String, Served>,
    starting: JoinSet<(String, u64, Result<Line, Error>)>,
    left: Left,
    unable: Unable,
    /// Lines that end; what is given back then, with its life.
    leaving: JoinSet<Option<(String, u64)>>,
    asks: Vec<Option<mpsc::Sender<pb::Ask>>>,
    /// The last questions, and when they were asked by the boot clock.
    asked: VecDeque<(u64, u64)>,
    /// The latest life of each line that was told of.
    lives: BTreeMap<String, u64>,
    stands_by_for: Option<String>,
    dialer: Dialer,
    heard: mpsc::Receiver<Heard>,
    obituaries: mpsc::Receiver<Death>,
    nodes: Nodes,
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
            left: Left::default(),
            unable: Unable::default(),
            leaving: JoinSet::new(),
            asks: (0..limits::NODES_MAX).map(|_| None).collect(),
            asked: VecDeque::new(),
            lives: BTreeMap::new(),
            stands_by_for: None,
            dialer,
            heard,
            obituaries,
            nodes: Nodes::default(),
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
        self.shared.addresses.clear().await;
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
                        self.nodes.on_told(node, incarnation, &body);
                        self.on_told(body).await;
                    }
                    None => return Err(Error::Control("nobody hears the nodes".into())),
                },
                Some(death) = self.obituaries.recv() => {
                    self.nodes.on_death(death);
                    self.keep_alone();
                }
                _ = tick.tick() => self.ask(),
                Some(started) = self.starting.join_next() => match started {
                    Ok((name, life, started)) => self.on_started(name, life, started)?,
                    Err(error) => return Err(Error::Control(error.to_string())),
                },
                Some(Ok(given_back)) = self.leaving.join_next() => self.on_gone(given_back),
                (line, error) = failed(&mut self.served) => self.on_failed(line, error)?,
            }
        }
        self.end().await;
        Ok(())
    }

    async fn end(&mut self) {
        let goes_on = self.specs.len() > 1;
        let leaving = std::mem::take(&mut self.served).into_values().filter_map(|it| match it {
            Served::Serving(line) => Some(async move { line.leave(goes_on).await.give_up().await }),
            Served::Starting { fence, .. } => {
                fence.end();
                None
            }
        });
        futures::future::join_all(leaving).await;
        // What has been brought here for a line that begins is taken away as well.
        while let Some(started) = self.starting.join_next().await {
            if let Ok((_, _, Ok(line))) = started {
                line.lose().await.give_up().await;
            }
        }
        while self.leaving.join_next().await.is_some() {}
        self.tell();
    }

    fn ask(&mut self) {
        self.keep_alone();
        let number = self.asked.back().map_or(1, |(number, _)| number + 1);
        if self.asked.len() == limits::ASKED_MAX {
            self.asked.pop_front();
        }
        self.asked.push_back((number, clock::boot_ms()));
        let left = self.left.given_back();
        let left =
            left.map(|(line, life)| pb::Life { line: line.into(), life, ..Default::default() });
        let ask = pb::Ask {
            process: self.shared.options.name.clone(),
            incarnation: self.shared.options.incarnation,
            number,
            left: left.collect(),
            unable: self.unable.at(clock::boot_ms()).cloned().collect(),
            version: self.shared.options.version.clone(),
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

    /// Where every node is proven dead nobody can give a line to another: what it holds it goes on with.
    fn keep_alone(&self) {
        if self.nodes.are_all_dead(self.dialer.names()) {
            let now = clock::boot_ms();
            self.served.values().for_each(|served| served.keep(now, now));
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
                served.inspect(|served| served.keep(asked_ms, now));
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
                _ if !held => self.left.forget(&line),
                Some(served) => served.renew(asked_ms),
                None if self.left.has(&line, life) => {}
                None => self.start(&line, life, asked_ms),
            }
        }
        self.stood_by |= self.stands_by_for.is_some();
        for line in holds.wanted {
            if let Some(Served::Serving(serving)) = self.served.remove(&line) {
                tracing::info!(line, "given back, for another process wants it");
                // At once: carriers hear of it again in a moment.
                self.give_back(&line, serving);
            }
        }
        if self.left.given_back().next().is_some() {
            self.ask();
        }
        self.tell();
    }

    /// When its address is away; at once where that stays: it says nothing any more, and who binds its ports next has
    /// them while they are closed here.
    fn give_back(&mut self, line: &str, serving: Line) {
        let life = serving.life;
        serving.fence().end();
        if serving.has_address_moved() {
            self.left.is_leaving(line, life);
            return self.part(serving.lose(), Some((line.to_owned(), life)));
        }
        self.left.is_gone(line, life);
        self.part(serving.lose(), None);
    }

    /// When a line has ended. That may take its time, and so may a hook for the address: other lines are served meanwhile.
    fn part(
        &mut self,
        ended: impl Future<Output = Arc<Held>> + Send + 'static,
        given_back: Option<(String, u64)>,
    ) {
        self.leaving.spawn(async move {
            ended.await.give_up().await;
            given_back
        });
    }

    fn on_gone(&mut self, given_back: Option<(String, u64)>) {
        if let Some((line, life)) = given_back {
            self.left.is_gone(&line, life);
            self.ask();
        }
    }

    async fn lose(&mut self, line: &str) {
        match self.served.remove(line) {
            Some(Served::Serving(lost)) => {
                tracing::warn!(line, "TD0341 this line is in another life now, here or elsewhere");
                // Its next life may begin here: it needs the ports.
                let address = lost.lose().await;
                self.part(std::future::ready(address), None);
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
            self.left.is_gone(line, life);
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

    fn on_started(
        &mut self,
        name: String,
        life: u64,
        started: Result<Line, Error>,
    ) -> Result<(), Error> {
        let wanted = self.served.get(&name).is_some_and(|served| served.life() == life);
        match started {
            Ok(line) if wanted => {
                self.unable.served(&name);
                self.served.insert(name, Served::Serving(line));
            }
            Ok(line) => self.part(line.lose(), None),
            Err(Error::Address(error)) => {
                no_address(&name, &error);
                self.on_unable(&name, life);
            }
            Err(error) if self.is_own(&name) && !self.stood_by => return Err(error),
            Err(error) => {
                tracing::error!(line = name, %error, "TD0343 the line can't be served: it is given back");
                self.on_unable(&name, life);
            }
        }
        self.tell();
        Ok(())
    }

    /// A line that could not be started: another may be able to serve it.
    fn on_unable(&mut self, line: &str, life: u64) {
        self.unable.failed(line, clock::boot_ms());
        if self.served.get(line).is_some_and(|served| served.life() == life) {
            self.served.remove(line);
            self.left.is_gone(line, life);
        }
        self.ask();
    }

    fn on_failed(&mut self, line: String, error: Error) -> Result<(), Error> {
        match error {
            Error::BusyPorts(busy) => {
                tracing::error!(
                    line,
                    ?busy,
                    "TD0345 RTP ports are other programs': the line begins anew without them"
                );
                self.shared.busy.lock().entry(line.clone()).or_default().extend(busy);
            }
            Error::Address(error) => {
                no_address(&line, &error);
                self.unable.failed(&line, clock::boot_ms());
            }
            error => return Err(error),
        }
        if let Some(Served::Serving(failed)) = self.served.remove(&line) {
            self.give_back(&line, failed);
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

fn no_address(line: &str, error: &tandem_address::Error) {
    tracing::error!(
        line,
        %error,
        "TD0350 the address of a line can't be brought to this host: the line is given back"
    );
}
