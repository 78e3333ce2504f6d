//! The thread that has the copies: it writes what comes, and syncs what has come together.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tandem_media::Holding;
use tandem_media::record::copies::{Copies, Have, Synced};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::pb;
use crate::limits;
use crate::media::{Told, holdings_of};

pub type Reply = mpsc::Sender<Result<pb::Down, tonic::Status>>;

/// What a session of another gateway asks for.
pub enum Order {
    Ask {
        session: u64,
        recording: u64,
        reply: Reply,
    },
    Put {
        session: u64,
        item: pb::Item,
        reply: Reply,
    },
    /// The session is over.
    Over {
        session: u64,
    },
}

pub struct Keeper {
    copies: Copies,
    orders: mpsc::Receiver<Order>,
    /// Where what is whole, or cut, is told.
    reports: mpsc::Sender<Told>,
    followed: BTreeMap<u64, Followed>,
    /// Whom to tell when it is on the disk.
    replies: BTreeMap<u64, Reply>,
}

/// A copy that is not whole.
struct Followed {
    session: Option<u64>,
    /// Since when nobody goes on with it.
    left_at: Instant,
}

impl Keeper {
    pub fn new(copies: Copies, orders: mpsc::Receiver<Order>, reports: mpsc::Sender<Told>) -> Self {
        // Whoever recorded these may have gone while we were away.
        let unsealed = copies.unsealed().unwrap_or_else(|error| {
            tracing::error!(%error, "TD0321 copies of recordings can't be looked through");
            Vec::new()
        });
        let left = |recording| (recording, Followed { session: None, left_at: Instant::now() });
        let followed = unsealed.into_iter().map(left).collect();
        Self { copies, orders, reports, followed, replies: BTreeMap::new() }
    }

    /// Until nobody can order any more. For a thread of its own: it waits for the disk.
    pub fn run(mut self, runtime: &Handle) {
        let tick = Duration::from_millis(limits::COPIES_TICK_MS);
        let gather = Duration::from_millis(limits::COPIES_GATHER_MS);
        loop {
            match runtime.block_on(async { timeout(tick, self.orders.recv()).await }) {
                Ok(Some(order)) => {
                    self.take(order);
                    // What comes within a moment shares one commit of the file system's journal.
                    let until = Instant::now() + gather;
                    while !self.replies.is_empty() && self.replies.len() < limits::COPIES_BATCH_MAX
                    {
                        let left = until.saturating_duration_since(Instant::now());
                        let next =
                            runtime.block_on(async { timeout(left, self.orders.recv()).await });
                        let Ok(Some(order)) = next else { break };
                        self.take(order);
                    }
                    self.sync();
                }
                Ok(None) => return,
                Err(_) => {}
            }
            self.look_for_cut();
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Ask { session, recording, reply } => {
                self.follow(session, recording);
                let body = match self.copies.have(recording) {
                    Ok(Have { place, hash }) => pb::down::Body::Have(pb::Have {
                        recording,
                        bytes: place.bytes,
                        frames: place.frames,
                        hash: hash.to_vec(),
                    }),
                    Err(error) => self.refusal(recording, &error),
                };
                say(&reply, body);
            }
            Order::Put { session, item, reply } => {
                let pb::Item { recording, at, line, audio } = item;
                self.follow(session, recording);
                match self.copies.put(recording, at, &line, &audio) {
                    Ok(()) => {
                        metrics::counter!("tandem_recording_copy_bytes_total")
                            .increment((line.len() + audio.len()) as u64);
                        self.replies.insert(recording, reply);
                    }
                    Err(error) => say(&reply, self.refusal(recording, &error)),
                }
            }
            Order::Over { session } => {
                let of_session = |followed: &&mut Followed| followed.session == Some(session);
                for followed in self.followed.values_mut().filter(of_session) {
                    followed.session = None;
                    followed.left_at = Instant::now();
                }
            }
        }
    }

    fn follow(&mut self, session: u64, recording: u64) {
        let followed = Followed { session: Some(session), left_at: Instant::now() };
        self.followed.insert(recording, followed);
    }

    fn refusal(
        &self,
        recording: u64,
        error: &tandem_media::record::copies::Error,
    ) -> pb::down::Body {
        metrics::counter!("tandem_recording_copies_refused_total").increment(1);
        let id = format!("{recording:016x}");
        tracing::warn!(recording = id, %error, "TD0322 a recording's copy does not go on");
        pb::down::Body::Refused(pb::Refused { recording, why: error.to_string() })
    }

    fn sync(&mut self) {
        let replies = std::mem::take(&mut self.replies);
        if replies.is_empty() {
            return;
        }
        let began = Instant::now();
        let mut whole = Vec::new();
        for (recording, synced) in self.copies.sync() {
            let body = match synced {
                Ok(Synced { place, whole: now }) => {
                    if now.is_some() {
                        self.followed.remove(&recording);
                    }
                    whole.extend(now);
                    let (bytes, frames) = (place.bytes, place.frames);
                    pb::down::Body::Kept(pb::Kept { recording, bytes, frames })
                }
                Err(error) => {
                    // It is not known what of it is on the disk.
                    self.copies.close(recording);
                    self.refusal(recording, &error)
                }
            };
            if let Some(reply) = replies.get(&recording) {
                say(reply, body);
            }
        }
        metrics::histogram!("tandem_recording_copy_sync_seconds").record(began.elapsed());
        self.report(whole);
    }

    /// Whoever recorded them has not been heard of for a while.
    fn look_for_cut(&mut self) {
        let after = Duration::from_millis(limits::CUT_AFTER_MS);
        let is_left =
            |followed: &Followed| followed.session.is_none() && followed.left_at.elapsed() >= after;
        let left: Vec<u64> = self
            .followed
            .iter()
            .filter(|(_, followed)| is_left(followed))
            .map(|(recording, _)| *recording)
            .collect();
        let mut cut = Vec::new();
        for recording in left {
            self.followed.remove(&recording);
            match self.copies.cut(recording) {
                Ok(holding) => cut.extend(holding),
                Err(error) => {
                    let id = format!("{recording:016x}");
                    tracing::error!(recording = id, %error, "TD0323 a copy can't be read");
                }
            }
        }
        for holding in &cut {
            let (recording, duration_ms) = (holding.recording, holding.duration_ms);
            let id = format!("{recording:016x}");
            tracing::warn!(recording = id, duration_ms, "TD0314 its gateway is gone: it ends here");
        }
        self.report(cut);
    }

    fn report(&self, holdings: Vec<Holding>) {
        for part in holdings.chunks(tandem_core::limits::HOLDINGS_MAX) {
            for told in holdings_of(part) {
                if self.reports.blocking_send(told).is_err() {
                    tracing::debug!("the gateway ends");
                }
            }
        }
    }
}

/// A session that takes no answer asks again.
fn say(reply: &Reply, body: pb::down::Body) {
    if reply.try_send(Ok(pb::Down { body: Some(body) })).is_err() {
        tracing::debug!("an answer about a copy found nobody");
    }
}
