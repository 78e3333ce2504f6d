//! The thread that has the copies: it writes what comes, and syncs what has come together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tandem_media::Holding;
use tandem_media::record::copies::{self, Have, Synced};
use tandem_media::record::custody::{Custody, Standing};
use tandem_media::record::marks::Mark;
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
        theirs: Standing,
        reply: Reply,
    },
    CutBack {
        session: u64,
        recording: u64,
        mark: Mark,
        theirs: Standing,
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
    /// This process's name.
    name: String,
    custody: Arc<Custody>,
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
    pub fn new(
        name: String,
        custody: Arc<Custody>,
        orders: mpsc::Receiver<Order>,
        reports: mpsc::Sender<Told>,
    ) -> Self {
        // Whoever recorded these may have gone while we were away.
        let unsealed = custody.unsealed().unwrap_or_else(|error| {
            tracing::error!(%error, "TD0321 copies of recordings can't be looked through");
            Vec::new()
        });
        let left = |recording| (recording, Followed { session: None, left_at: Instant::now() });
        let followed = unsealed.into_iter().map(left).collect();
        Self { name, custody, orders, reports, followed, replies: BTreeMap::new() }
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
            Order::Ask { session, recording, theirs, reply } => {
                let have = self.custody.have(recording, theirs);
                self.answer(session, recording, have, &reply);
            }
            Order::CutBack { session, recording, mark, theirs, reply } => {
                let have = self.custody.cut_back(recording, &mark, theirs);
                self.answer(session, recording, have, &reply);
            }
            Order::Put { session, item, reply } => {
                let pb::Item { recording, at, line, audio } = item;
                match self.custody.put(recording, at, &line, &audio) {
                    Ok(()) => {
                        self.follow(Some(session), recording);
                        metrics::counter!("tandem_recording_copy_bytes_total")
                            .increment((line.len() + audio.len()) as u64);
                        self.replies.insert(recording, reply);
                    }
                    Err(error) => say(&reply, self.refusal(Some(session), recording, &error)),
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

    fn follow(&mut self, session: Option<u64>, recording: u64) {
        let followed = Followed { session, left_at: Instant::now() };
        self.followed.insert(recording, followed);
    }

    fn answer(
        &mut self,
        session: u64,
        recording: u64,
        have: Result<Have, copies::Error>,
        reply: &Reply,
    ) {
        let body = match have {
            Ok(Have { place, hash, marks }) => {
                self.follow(Some(session), recording);
                let mark = |mark: Mark| pb::Mark { bytes: mark.bytes, hash: mark.hash.to_vec() };
                pb::down::Body::Have(pb::Have {
                    recording,
                    bytes: place.bytes,
                    frames: place.frames,
                    hash: hash.to_vec(),
                    marks: marks.into_iter().map(mark).collect(),
                })
            }
            Err(error) => self.refusal(Some(session), recording, &error),
        };
        say(reply, body);
    }

    /// Who was refused asks again, and is still there; but what this box has itself is nobody's to follow.
    fn refusal(
        &mut self,
        session: Option<u64>,
        recording: u64,
        error: &copies::Error,
    ) -> pb::down::Body {
        let (ours, busy) =
            (matches!(error, copies::Error::Ours), matches!(error, copies::Error::Busy));
        let id = format!("{recording:016x}");
        if ours || busy {
            self.followed.remove(&recording);
            tracing::debug!(recording = id, %error, "a recording's copy is not taken");
        } else {
            self.follow(session, recording);
            metrics::counter!("tandem_recording_copies_refused_total").increment(1);
            tracing::warn!(recording = id, %error, "TD0322 a recording's copy does not go on");
        }
        pb::down::Body::Refused(pb::Refused { recording, why: error.to_string(), ours, busy })
    }

    fn sync(&mut self) {
        let replies = std::mem::take(&mut self.replies);
        if replies.is_empty() {
            return;
        }
        let began = Instant::now();
        let mut whole = Vec::new();
        for (recording, synced) in self.custody.sync() {
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
                    self.custody.close(recording);
                    let session = self.followed.get(&recording).and_then(|it| it.session);
                    self.refusal(session, recording, &error)
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
            match self.custody.cut(recording) {
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
            for told in holdings_of(part, &self.name) {
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

#[cfg(test)]
mod tests {
    use tandem_media::record::board::Board;
    use tandem_media::record::manifest::Line;

    use super::*;

    const ID: u64 = 0xa1;
    const FRAMES: u64 = 8;
    const SESSION: u64 = 1;

    /// A keeper that has begun a copy, and whoever sent it is gone.
    struct Bench {
        keeper: Keeper,
        told: mpsc::Receiver<Told>,
        answers: mpsc::Receiver<Result<pb::Down, tonic::Status>>,
        reply: Reply,
        _dir: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let board = Arc::new(Board::new(false));
            let custody = Arc::new(Custody::new(dir.path().to_owned(), board));
            custody.open_copies().unwrap();
            let (_, orders) = mpsc::channel(1);
            let (reports, told) = mpsc::channel(8);
            let (reply, answers) = mpsc::channel(8);
            let keeper = Keeper::new("gateway-b".into(), custody, orders, reports);
            let mut bench = Self { keeper, told, answers, reply, _dir: dir };
            let audio = vec![1; FRAMES as usize * 4];
            let blake3 = blake3::hash(&audio).to_hex().to_string();
            let begun =
                Line::Begun { recording: format!("{ID:016x}"), call: 7, unix_ms: 5, tenant: 0 };
            let at = bench.put(0, &begun, Vec::new());
            bench.put(at, &Line::Chunk { at_frame: 0, frames: FRAMES, blake3 }, audio);
            bench.keeper.sync();
            bench
        }

        /// Where the next line goes.
        fn put(&mut self, at: u64, line: &Line, audio: Vec<u8>) -> u64 {
            let line = (serde_json::to_string(line).unwrap() + "\n").into_bytes();
            let next = at + line.len() as u64;
            let item = pb::Item { recording: ID, at, line, audio };
            let reply = self.reply.clone();
            self.keeper.take(Order::Put { session: SESSION, item, reply });
            next
        }

        fn answer(&mut self) -> pb::down::Body {
            self.answers.try_recv().unwrap().unwrap().body.unwrap()
        }

        fn look_when_it_is_long_left(&mut self) {
            let long = Duration::from_millis(limits::CUT_AFTER_MS + 1_000);
            for followed in self.keeper.followed.values_mut() {
                followed.left_at = Instant::now().checked_sub(long).unwrap();
            }
            self.keeper.look_for_cut();
        }
    }

    #[test]
    fn copy_that_nobody_goes_on_with_is_told_as_cut_once_by_this_process() {
        let mut bench = Bench::new();
        bench.look_when_it_is_long_left();
        assert!(bench.told.try_recv().is_err(), "its session is there");
        bench.keeper.take(Order::Over { session: SESSION });
        bench.look_when_it_is_long_left();
        let told = bench.told.try_recv().unwrap();
        let tandem_core::command::GatewayEvent::Holdings(rows) = told.event else { panic!() };
        assert_eq!((rows[0].cut, rows[0].gateway.to_string()), (true, "gateway-b".into()));
        bench.look_when_it_is_long_left();
        assert!(bench.told.try_recv().is_err());
    }

    #[test]
    fn copy_that_was_taken_over_is_never_told_as_cut_and_its_sender_is_told_to_wait() {
        let mut bench = Bench::new();
        bench.keeper.take(Order::Over { session: SESSION });
        assert!(matches!(bench.answer(), pb::down::Body::Kept(_)));
        bench.keeper.custody.take_over(ID).unwrap();
        bench.look_when_it_is_long_left();
        assert!(bench.told.try_recv().is_err());
        // Whoever sent it is back, and asks what is there.
        let theirs = Standing { frames: 99 * FRAMES, sealed: false };
        let reply = bench.reply.clone();
        bench.keeper.take(Order::Ask { session: 2, recording: ID, theirs, reply });
        let body = bench.answer();
        assert!(
            matches!(body, pb::down::Body::Refused(pb::Refused { busy: true, .. })),
            "{body:?}"
        );
        assert!(bench.keeper.followed.is_empty());
    }
}
