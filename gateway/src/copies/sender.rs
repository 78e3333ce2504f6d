//! Sends what this gateway records to another, while it records.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use tandem_media::record::board::{Board, Entry, Place};
use tandem_media::record::manifest::copied_path;
use tandem_media::record::source::{self, Item};
use tandem_media::record::timeline::FRAME_BYTES;
use tandem_media::record::wav::FRAMES_PER_MS;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use super::pb;
use super::pb::copies_client::CopiesClient;
use crate::limits;
use crate::link::client::Way;

pub struct Sender {
    /// This gateway's name, and the other's.
    pub name: String,
    pub to: String,
    pub(crate) way: Way,
    pub dir: PathBuf,
    pub board: Arc<Board>,
}

/// Where one recording's copy is, as far as this session knows.
#[derive(Debug)]
pub(super) enum Copy {
    /// The other was asked how far it is.
    Asked,
    /// It has been sent up to `sent`; the ends of what it has not said to have yet.
    Sending { sent: u64, under_way: VecDeque<u64> },
    /// It was refused: nothing until then.
    Refused { until: Instant },
}

/// What the other box is known to have, and what is under way to it: without time or disk, so that
/// every order of answers can be tried.
#[derive(Debug, Default)]
pub(super) struct Session {
    copies: BTreeMap<u64, Copy>,
    asked: usize,
    under_way: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Ask,
    /// Lines from the first place to the second.
    Send {
        from: u64,
        to: u64,
    },
}

impl Session {
    /// What is to be done for a recording of which the board says that there is more.
    pub(super) fn next(&mut self, recording: u64, entry: &Entry, now: Instant) -> Option<Next> {
        match self.copies.get(&recording) {
            None => {}
            Some(Copy::Refused { until }) if *until <= now => {}
            Some(Copy::Refused { .. } | Copy::Asked) => return None,
            Some(Copy::Sending { sent, .. }) => {
                let (from, to) = (*sent, entry.written.bytes);
                let room = self.under_way < limits::COPY_ITEMS_UNDER_WAY_MAX;
                return (from < to && room).then_some(Next::Send { from, to });
            }
        }
        if self.asked >= limits::COPY_ASKED_MAX {
            return None;
        }
        self.copies.insert(recording, Copy::Asked);
        self.asked += 1;
        Some(Next::Ask)
    }

    /// The other goes on from there.
    pub(super) fn on_have(&mut self, recording: u64, bytes: u64) {
        self.forget(recording);
        let under_way = VecDeque::new();
        self.copies.insert(recording, Copy::Sending { sent: bytes, under_way });
    }

    /// A line was sent. False where it is no longer wanted: its copy was refused meanwhile.
    pub(super) fn on_sent(&mut self, recording: u64, at: u64, end: u64) -> bool {
        match self.copies.get_mut(&recording) {
            Some(Copy::Sending { sent, under_way }) if *sent == at => {
                *sent = end;
                under_way.push_back(end);
                self.under_way += 1;
                true
            }
            Some(Copy::Sending { .. } | Copy::Asked | Copy::Refused { .. }) | None => false,
        }
    }

    pub(super) fn on_kept(&mut self, recording: u64, bytes: u64) {
        if let Some(Copy::Sending { under_way, .. }) = self.copies.get_mut(&recording) {
            let before = under_way.len();
            under_way.retain(|end| *end > bytes);
            self.under_way -= before - under_way.len();
        }
    }

    pub(super) fn on_refused(&mut self, recording: u64, until: Instant) {
        self.forget(recording);
        self.copies.insert(recording, Copy::Refused { until });
    }

    /// All of it is there.
    pub(super) fn forget(&mut self, recording: u64) {
        match self.copies.remove(&recording) {
            Some(Copy::Sending { under_way, .. }) => self.under_way -= under_way.len(),
            Some(Copy::Asked) => self.asked -= 1,
            Some(Copy::Refused { .. }) | None => {}
        }
    }
}

impl Sender {
    /// For as long as the gateway serves.
    pub async fn keep(self) {
        let sender = Arc::new(self);
        let mut wait_ms = limits::CONNECT_WAIT_MS_MIN;
        let mut alarmed = false;
        loop {
            let began = Instant::now();
            let why = Arc::clone(&sender).session(&mut alarmed).await;
            tracing::info!(gateway = sender.to, why, "takes no recordings");
            if began.elapsed() > Duration::from_millis(limits::CONNECT_MS_MAX) {
                wait_ms = limits::CONNECT_WAIT_MS_MIN;
            }
            sender.set_gauges(&mut alarmed);
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            wait_ms = (wait_ms * 2).min(limits::CONNECT_WAIT_MS_MAX);
        }
    }

    /// Why it is over.
    async fn session(self: Arc<Self>, alarmed: &mut bool) -> String {
        let channel: Channel = match self.way.connect().await {
            Ok(channel) => channel,
            Err(error) => return error.to_string(),
        };
        let (up, messages) = mpsc::channel(limits::COPY_UP_MAX);
        let hello = pb::Hello { gateway: self.name.clone() };
        if up.try_send(pb::Up { body: Some(pb::up::Body::Hello(hello)) }).is_err() {
            return "the first message found no room".to_owned();
        }
        let mut down: Streaming<pb::Down> =
            match CopiesClient::new(channel).copy(ReceiverStream::new(messages)).await {
                Ok(answer) => answer.into_inner(),
                Err(status) => return status.to_string(),
            };
        tracing::info!(gateway = self.to, "takes the recordings of this gateway");
        let mut session = Session::default();
        let mut tick = tokio::time::interval(Duration::from_millis(limits::COPY_TURN_MS));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut gauges_at = Instant::now();
        loop {
            tokio::select! {
                said = down.next() => match said {
                    Some(Ok(pb::Down { body: Some(body) })) => {
                        self.on_down(&mut session, body).await;
                    }
                    // A message of a later version.
                    Some(Ok(pb::Down { body: None })) => {}
                    Some(Err(status)) => return status.to_string(),
                    None => return "it hung up".to_owned(),
                },
                _ = tick.tick() => {
                    if let Err(why) = self.send_turn(&mut session, &up).await {
                        return why;
                    }
                    if gauges_at <= Instant::now() {
                        gauges_at = Instant::now() + Duration::from_millis(limits::COPY_GAUGES_MS);
                        self.set_gauges(alarmed);
                    }
                }
            }
        }
    }

    /// A little of each recording that is behind, so that none waits for a long one.
    async fn send_turn(
        &self,
        session: &mut Session,
        up: &mpsc::Sender<pb::Up>,
    ) -> Result<(), String> {
        let now = Instant::now();
        let mut wanted = Vec::new();
        // Never more than there is room for: answers must be heard while this gateway has much to say.
        let mut room = up.capacity();
        for (recording, entry) in self.board.behind() {
            if room == 0 {
                break;
            }
            match session.next(recording, &entry, now) {
                None => {}
                Some(Next::Ask) => {
                    let body = pb::up::Body::Ask(pb::Ask { recording });
                    let sent = up.try_send(pb::Up { body: Some(body) });
                    sent.map_err(|_| "it takes no questions".to_owned())?;
                    room -= 1;
                }
                Some(Next::Send { from, to }) => {
                    room -= 1;
                    wanted.push((recording, from, to));
                }
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let dir = self.dir.clone();
        let read = spawn_blocking(move || read_all(&dir, wanted));
        for (recording, items) in read.await.map_err(|error| error.to_string())? {
            let items = match items {
                Ok(items) => items,
                Err(error) => {
                    // What can't be read now may be later; the others go on.
                    let id = format!("{recording:016x}");
                    tracing::error!(recording = id, %error, "TD0310 a recording can't be read");
                    session.on_refused(recording, now + again());
                    continue;
                }
            };
            for Item { at, line, audio } in items {
                let end = at + line.len() as u64;
                let bytes = (line.len() + audio.len()) as u64;
                let item = pb::Item { recording, at, line, audio };
                if up.capacity() == 0 || !session.on_sent(recording, at, end) {
                    break;
                }
                let message = pb::Up { body: Some(pb::up::Body::Item(item)) };
                up.try_send(message).map_err(|_| "it takes nothing".to_owned())?;
                metrics::counter!("tandem_recording_sent_items_total").increment(1);
                metrics::counter!("tandem_recording_sent_bytes_total").increment(bytes);
            }
        }
        Ok(())
    }

    async fn on_down(&self, session: &mut Session, body: pb::down::Body) {
        match body {
            pb::down::Body::Have(have) => {
                let pb::Have { recording, bytes, frames, hash } = have;
                if self.is_ours(recording, bytes, hash).await {
                    session.on_have(recording, bytes);
                    self.on_kept(session, recording, Place { bytes, frames });
                } else {
                    // Another recording under this name: it begins anew, and the other puts its own aside.
                    session.on_have(recording, 0);
                }
            }
            pb::down::Body::Kept(pb::Kept { recording, bytes, frames }) => {
                self.on_kept(session, recording, Place { bytes, frames });
            }
            pb::down::Body::Refused(pb::Refused { recording, why }) => {
                metrics::counter!("tandem_recording_resent_total").increment(1);
                let (id, to) = (format!("{recording:016x}"), &self.to);
                tracing::warn!(recording = id, why, to, "TD0311 a recording's copy was refused");
                session.on_refused(recording, Instant::now() + again());
            }
        }
    }

    /// Is what the other has the beginning of what lies here?
    async fn is_ours(&self, recording: u64, bytes: u64, hash: Vec<u8>) -> bool {
        let dir = self.dir.clone();
        let known = spawn_blocking(move || source::prefix_hash(&dir, recording, bytes)).await;
        matches!(known, Ok(Ok(Some(known))) if known.as_slice() == hash)
    }

    fn on_kept(&self, session: &mut Session, recording: u64, place: Place) {
        session.on_kept(recording, place.bytes);
        let (tail_ms, whole) = self.board.kept(recording, place, tandem_media::monotonic_ns());
        if tail_ms > 0 {
            let seconds = Duration::from_millis(tail_ms).as_secs_f64();
            metrics::histogram!("tandem_recording_tail_at_copy_seconds").record(seconds);
        }
        if whole {
            session.forget(recording);
            let (path, to) = (copied_path(&self.dir, recording), self.to.clone());
            spawn_blocking(move || {
                // Without it, the other is asked again at the next start.
                if let Err(error) = std::fs::write(&path, to) {
                    tracing::warn!(path = %path.display(), %error, "TD0318 how far a copy has come can't be noted");
                }
            });
        }
    }

    fn set_gauges(&self, alarmed: &mut bool) {
        let tail_ms = self.board.unsafe_tail_ms(tandem_media::monotonic_ns());
        let tail = Duration::from_millis(tail_ms);
        metrics::gauge!("tandem_recording_unsafe_tail_seconds").set(tail.as_secs_f64());
        let behind = self.board.behind();
        let frames =
            behind.iter().map(|(_, entry)| entry.written.frames.saturating_sub(entry.kept.frames));
        let frames: u64 = frames.sum();
        let chunks = frames.div_ceil(FRAMES_PER_MS * tandem_media::limits::CHUNK_MS);
        metrics::gauge!("tandem_recording_behind_chunks").set(chunks as f64);
        metrics::gauge!("tandem_recording_behind_bytes").set((frames * FRAME_BYTES as u64) as f64);
        metrics::gauge!("tandem_recording_behind").set(behind.len() as f64);
        let alarming = tail_ms > limits::UNSAFE_TAIL_MS_ALARM;
        if alarming != std::mem::replace(alarmed, alarming) {
            if alarming {
                tracing::error!(to = self.to, tail_ms, "TD0313 recordings are on one disk only");
            } else {
                tracing::info!(to = self.to, "recordings are on two disks again");
            }
        }
    }
}

fn again() -> Duration {
    Duration::from_millis(limits::COPY_AGAIN_MS)
}

type Read = Vec<(u64, std::io::Result<Vec<Item>>)>;

fn read_all(dir: &Path, wanted: Vec<(u64, u64, u64)>) -> Read {
    let most = limits::COPY_TURN_BYTES_MAX;
    let read = |(recording, from, to)| (recording, source::read(dir, recording, from, to, most));
    wanted.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(bytes: u64) -> Entry {
        let board = Board::new(true);
        board.found(1, Place { bytes, frames: 0 }, false);
        board.behind()[0].1
    }

    #[test]
    fn recording_is_asked_for_once_and_goes_on_where_the_other_is() {
        let (mut session, now) = (Session::default(), Instant::now());
        assert_eq!(session.next(1, &entry(500), now), Some(Next::Ask));
        assert_eq!(session.next(1, &entry(500), now), None);
        session.on_have(1, 200);
        assert_eq!(session.next(1, &entry(500), now), Some(Next::Send { from: 200, to: 500 }));
        assert!(session.on_sent(1, 200, 350));
        // Sent twice by mistake: the other would refuse it.
        assert!(!session.on_sent(1, 200, 350));
        assert_eq!(session.next(1, &entry(500), now), Some(Next::Send { from: 350, to: 500 }));
    }

    #[test]
    fn what_is_under_way_is_bounded_and_kept_makes_room() {
        let (mut session, now) = (Session::default(), Instant::now());
        session.on_have(1, 0);
        let most = limits::COPY_ITEMS_UNDER_WAY_MAX as u64;
        for at in 0..most {
            assert!(session.on_sent(1, at, at + 1));
        }
        assert_eq!(session.next(1, &entry(9 * most), now), None);
        session.on_kept(1, most / 2);
        let next = Next::Send { from: most, to: 9 * most };
        assert_eq!(session.next(1, &entry(9 * most), now), Some(next));
    }

    #[test]
    fn questions_are_bounded_and_an_answer_makes_room() {
        let (mut session, now) = (Session::default(), Instant::now());
        let most = limits::COPY_ASKED_MAX as u64;
        for recording in 0..most {
            assert_eq!(session.next(recording, &entry(500), now), Some(Next::Ask));
        }
        assert_eq!(session.next(most, &entry(500), now), None);
        session.on_have(3, 0);
        assert_eq!(session.next(most, &entry(500), now), Some(Next::Ask));
    }

    #[test]
    fn refused_copy_is_asked_for_again_later_and_frees_its_room() {
        let (mut session, now) = (Session::default(), Instant::now());
        session.on_have(1, 0);
        assert!(session.on_sent(1, 0, 10));
        session.on_refused(1, now + again());
        assert_eq!(session.under_way, 0);
        // A line that was read meanwhile.
        assert!(!session.on_sent(1, 10, 20));
        assert_eq!(session.next(1, &entry(20), now), None);
        assert_eq!(session.next(1, &entry(20), now + again()), Some(Next::Ask));
    }
}
