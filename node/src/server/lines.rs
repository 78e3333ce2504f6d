//! Which gateway's process serves which line: what processes are answered, and what who leads the meta shard decides.
//! The rule is `tandem_lease::book`.
//!
//! ```text
//! ask ── the lease of what it holds counts anew ── a majority confirms that this node leads ──▶ who holds what
//! a lease is over, or an obituary ── the meta shard says who is next ──▶ told at once
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::StreamExt as _;
use futures::future::join_all;
use parking_lot::Mutex;
use prost::Message as _;
use tandem_gateway::link::pb;
use tandem_lease::{Asker, Book, Grant, LEASE_MS, Next, clock};
use tokio::sync::{Notify, mpsc, watch};
use tonic::{Status, Streaming};

use super::meta::Meta;

/// Answers that wait for one process; one that does not take them asks again.
pub const TOLD_MAX: usize = 16;
/// A line that another process serves goes back to its own when that one has been there for so long.
const BACK_AFTER_MS: u64 = 2_000;
/// A grant that could not be written is tried again after this.
const AGAIN: Duration = Duration::from_millis(50);

/// Who serves a line, as it is stored.
#[derive(Clone, PartialEq, prost::Message)]
struct Stored {
    #[prost(string, tag = "1")]
    process: String,
    #[prost(uint64, tag = "2")]
    incarnation: u64,
    #[prost(uint64, tag = "3")]
    life: u64,
}

fn key(line: &str) -> String {
    format!("lease/line/{line}")
}

fn write(grant: &Grant) -> Vec<u8> {
    let Grant { process, incarnation, life } = grant.clone();
    Stored { process, incarnation, life }.encode_to_vec()
}

fn read(stored: &[u8]) -> Option<Grant> {
    let Stored { process, incarnation, life } = Stored::decode(stored)
        .inspect_err(|error| tracing::error!(%error, "TD0215 who serves a line can't be read"))
        .ok()?;
    Some(Grant { process, incarnation, life })
}

pub type Reply = mpsc::Sender<Result<pb::Told, Status>>;

/// A process that asks.
struct Asking {
    incarnation: u64,
    /// Of its last question, and when that was heard.
    number: u64,
    heard_ms: u64,
    /// Since when it has asked without a break.
    since_ms: u64,
    /// Lines that it could not serve of late.
    unable: BTreeSet<String>,
    version: String,
    reply: Reply,
}

#[derive(Default)]
struct Inner {
    book: Book,
    askers: BTreeMap<String, Asking>,
    /// Lines whose grant is being written.
    writing: BTreeSet<String>,
    /// None: this node does not lead.
    term: Option<u64>,
}

/// What decides about lines besides the rule.
pub struct Sees {
    /// The last life of each process that is proven dead.
    pub deaths: watch::Receiver<BTreeMap<String, u64>>,
    /// Whether calls live on a line.
    pub has_calls: Box<dyn Fn(&str) -> bool + Send + Sync>,
    /// Whether so many voters are proven dead that nobody can decide anything.
    pub is_frozen: Box<dyn Fn() -> bool + Send + Sync>,
    /// Processes that are to serve no line where another can.
    pub drained: watch::Receiver<BTreeSet<String>>,
}

pub struct Lines {
    meta: Arc<dyn Meta>,
    /// Each is the name of its own process, too.
    names: Vec<String>,
    /// Of this node's process.
    incarnation: u64,
    sees: Sees,
    inner: Mutex<Inner>,
    changed: Notify,
}

impl Lines {
    pub fn start(
        meta: Arc<dyn Meta>,
        names: Vec<String>,
        incarnation: u64,
        sees: Sees,
    ) -> Arc<Self> {
        let (inner, changed) = (Mutex::default(), Notify::new());
        let lines = Arc::new(Self { meta, names, incarnation, sees, inner, changed });
        tokio::spawn(Arc::clone(&lines).keep());
        lines
    }

    fn stored(&self, line: &str) -> Option<Grant> {
        self.meta.get(&key(line)).as_deref().and_then(read)
    }

    /// The lines that a process serves, by this node's own replica.
    pub fn of(&self, process: &str) -> Vec<String> {
        let is_its =
            |line: &&String| self.stored(line).is_some_and(|grant| grant.process == process);
        self.names.iter().filter(is_its).cloned().collect()
    }

    /// Whether the process has asked of late.
    pub fn is_here(&self, process: &str) -> bool {
        self.version_of(process).is_some()
    }

    /// Of the build that the process runs, where it asks.
    pub fn version_of(&self, process: &str) -> Option<String> {
        let now = clock::boot_ms();
        let inner = self.inner.lock();
        let asking = inner.askers.get(process).filter(|asking| asking.is_here(now));
        asking.map(|asking| asking.version.clone())
    }

    /// Until the process hangs up. It is told of `nodes`, too.
    pub async fn serve(
        self: Arc<Self>,
        first: pb::Ask,
        mut asks: Streaming<pb::Ask>,
        mut nodes: watch::Receiver<pb::Nodes>,
        reply: Reply,
    ) {
        if self.inner.lock().term.is_some() {
            self.say(&reply, pb::told::Body::Begun(pb::Begun {}));
        }
        nodes.mark_changed();
        let process = first.process.clone();
        self.on_ask(first, &reply);
        loop {
            tokio::select! {
                ask = asks.next() => match ask {
                    Some(Ok(ask)) if ask.process == process => self.on_ask(ask, &reply),
                    // It asks in another's name, or not at all.
                    Some(_) | None => break,
                },
                Ok(()) = nodes.changed() => {
                    let now = nodes.borrow_and_update().clone();
                    self.say(&reply, pb::told::Body::Nodes(now));
                }
            }
        }
        self.inner.lock().askers.retain(|_, asking| !asking.reply.same_channel(&reply));
    }

    fn on_ask(self: &Arc<Self>, ask: pb::Ask, reply: &Reply) {
        let now = clock::boot_ms();
        let pb::Ask { process, incarnation, number, left, unable, version } = ask;
        let unable = unable.into_iter().filter(|line| self.names.contains(line)).collect();
        {
            let mut inner = self.inner.lock();
            let before = inner.askers.get(&process);
            if before.is_some_and(|before| before.incarnation > incarnation) {
                return;
            }
            let same = before.filter(|it| it.incarnation == incarnation && it.is_here(now));
            let since_ms = same.map_or(now, |before| before.since_ms);
            let reply = reply.clone();
            let asking =
                Asking { incarnation, number, heard_ms: now, since_ms, unable, version, reply };
            inner.askers.insert(process.clone(), asking);
            // It has its folder's lock: whoever had it before is dead.
            inner.book.mourn(&process, incarnation.saturating_sub(1));
            if (self.sees.is_frozen)() {
                drop(inner);
                return self.answer(&process, Some(number), true);
            }
            if inner.term.is_none() {
                return;
            }
            for line in &self.names {
                if let Some(grant) = self.stored(line)
                    && grant.process == process
                    && grant.incarnation == incarnation
                {
                    inner.book.renew(line, grant.life, now);
                }
            }
        }
        let lines = Arc::clone(self);
        tokio::spawn(async move {
            join_all(left.iter().map(|life| lines.give_back(&process, life))).await;
            // Whoever was deposed and does not know must not say that nothing has changed.
            if lines.meta.confirm().await.is_ok() {
                lines.answer(&process, Some(number), false);
            }
        });
        self.changed.notify_one();
    }

    async fn give_back(&self, process: &str, left: &pb::Life) {
        let key = key(&left.line);
        let Some(stored) = self.meta.get(&key) else { return };
        let Some(grant) = read(&stored) else { return };
        if grant.process != process || grant.life != left.life {
            return;
        }
        let free = Grant { life: grant.life + 1, ..Grant::default() };
        // To the next one in the same entry, if there is one: calls are waiting.
        let next = self.next(&self.inner.lock(), &left.line, Some(&free), clock::boot_ms());
        let grant = match next {
            Next::Give { process, incarnation } => self.grant(Some(&free), process, incarnation),
            Next::Nothing | Next::Wait { .. } => free,
        };
        if !self.inner.lock().writing.insert(left.line.clone()) {
            return;
        }
        tracing::info!(line = left.line, process, "given back");
        self.write(&left.line, Some(stored), grant).await;
    }

    /// Tells the process who holds what. `number`: of the question that is answered; none: of its last one.
    fn answer(&self, process: &str, number: Option<u64>, frozen: bool) {
        let now = clock::boot_ms();
        let inner = self.inner.lock();
        let Some(asking) = inner.askers.get(process) else { return };
        let (mut lives, mut wanted) = (Vec::new(), Vec::new());
        for line in &self.names {
            let Some(grant) = self.stored(line) else { continue };
            let held = grant.process == process && grant.incarnation == asking.incarnation;
            lives.push(pb::Life {
                line: line.clone(),
                life: grant.life,
                held,
                process: grant.process,
            });
            if held && self.is_wanted(&inner, line, process, now) {
                wanted.push(line.clone());
            }
        }
        let number = number.unwrap_or(asking.number);
        self.say(&asking.reply, pb::told::Body::Holds(pb::Holds { number, lives, wanted, frozen }));
    }

    /// Whether another process shall have the line that this one holds: its own one, when no calls live on it; any, when
    /// this one is drained.
    fn is_wanted(&self, inner: &Inner, line: &str, process: &str, now: u64) -> bool {
        let drained = self.sees.drained.borrow();
        let could = |other: &str| {
            let here = inner.askers.get(other).filter(|asking| asking.is_here(now));
            here.filter(|asking| {
                other != process && !drained.contains(other) && !asking.unable.contains(line)
            })
        };
        if drained.contains(process) {
            return inner.askers.keys().any(|other| could(other).is_some());
        }
        let is_back = |home: &Asking| now.saturating_sub(home.since_ms) >= BACK_AFTER_MS;
        could(line).is_some_and(is_back) && !(self.sees.has_calls)(line)
    }

    /// Who does not take it asks again.
    fn say(&self, reply: &Reply, body: pb::told::Body) {
        let told = pb::Told { body: Some(body), incarnation: self.incarnation };
        let _ = reply.try_send(Ok(told));
    }

    async fn keep(self: Arc<Self>) {
        let mut deaths = self.sees.deaths.clone();
        let mut lead = self.meta.lead();
        lead.mark_changed();
        loop {
            let until_ms = self.look();
            let wait_ms = until_ms.map_or(u64::MAX, |at| at.saturating_sub(clock::boot_ms()));
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep(Duration::from_millis(wait_ms)), if until_ms.is_some() => {}
                changed = lead.changed() => match changed {
                    Ok(()) => {
                        let now = *lead.borrow_and_update();
                        self.on_lead(now.here.then_some(now.term));
                    }
                    Err(_) => return,
                },
                Ok(()) = deaths.changed() => {
                    let dead = deaths.borrow_and_update().clone();
                    let mut inner = self.inner.lock();
                    for (process, incarnation) in dead {
                        inner.book.mourn(&process, incarnation);
                    }
                }
            }
        }
    }

    fn on_lead(&self, term: Option<u64>) {
        let mut inner = self.inner.lock();
        if inner.term == term {
            return;
        }
        inner.term = term;
        if term.is_none() {
            return;
        }
        inner.book.begin(self.meta.reigns_since_ms());
        // Leases run out while nobody leads.
        for asking in inner.askers.values() {
            self.say(&asking.reply, pb::told::Body::Begun(pb::Begun {}));
        }
    }

    /// Gives what is free to whom it is due; when to look again.
    fn look(self: &Arc<Self>) -> Option<u64> {
        let now = clock::boot_ms();
        let mut inner = self.inner.lock();
        inner.term?;
        let mut until = None;
        for line in &self.names {
            if inner.writing.contains(line) {
                continue;
            }
            let stored = self.meta.get(&key(line));
            let grant = stored.as_deref().and_then(read);
            match self.next(&inner, line, grant.as_ref(), now) {
                Next::Nothing => {}
                Next::Wait { until_ms } => {
                    until = Some(until.map_or(until_ms, |until: u64| until.min(until_ms)));
                }
                Next::Give { process, incarnation } => {
                    inner.writing.insert(line.clone());
                    let grant = self.grant(grant.as_ref(), process, incarnation);
                    let (lines, line) = (Arc::clone(self), line.clone());
                    tokio::spawn(async move { lines.write(&line, stored, grant).await });
                }
            }
        }
        until
    }

    fn next(&self, inner: &Inner, line: &str, grant: Option<&Grant>, now: u64) -> Next {
        let drained = self.sees.drained.borrow();
        let here = inner.askers.iter().filter(|(_, asking)| asking.is_here(now));
        let askers = here.map(|(process, asking)| Asker {
            process: process.clone(),
            incarnation: asking.incarnation,
            serves: self.of(process).len(),
            drained: drained.contains(process),
            unable: asking.unable.contains(line),
        });
        let askers: Vec<Asker> = askers.collect();
        inner.book.next(line, line, grant, &askers, now)
    }

    /// The next life of a line, behind all that its process itself counted before there were leases.
    fn grant(&self, last: Option<&Grant>, process: String, incarnation: u64) -> Grant {
        let last = last.map_or(0, |grant| grant.life + 1);
        Grant { process, incarnation, life: last.max(unix_ms()).max(incarnation) }
    }

    /// Puts it into the meta shard, and tells whoever has the line then.
    async fn write(&self, line: &str, stored: Option<Vec<u8>>, grant: Grant) {
        let given = self.meta.replace(&key(line), stored, write(&grant), Vec::new()).await;
        match &given {
            Ok(true) => {
                let Grant { process, life, .. } = &grant;
                tracing::info!(line, process, life, "is given the line");
                self.inner.lock().book.renew(line, grant.life, clock::boot_ms());
                self.answer(&grant.process, None, false);
            }
            // Somebody else has written.
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(line, %error, "TD0216 who serves a line can't be written");
                tokio::time::sleep(AGAIN).await;
            }
        }
        self.inner.lock().writing.remove(line);
        self.changed.notify_one();
    }
}

impl Asking {
    fn is_here(&self, now_ms: u64) -> bool {
        !self.reply.is_closed() && now_ms.saturating_sub(self.heard_ms) < LEASE_MS
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
