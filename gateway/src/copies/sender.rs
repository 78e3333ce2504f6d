//! Sends what this gateway records to another, while it records.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use tandem_media::record::board::{Board, Place};
use tandem_media::record::custody::{Custody, Standing};
use tandem_media::record::manifest::copied_path;
use tandem_media::record::marks::{self, Mark};
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
use super::session::{Next, Session};
use crate::limits;
use crate::link::client::Way;

pub struct Sender {
    /// This gateway's name, and the other's.
    pub name: String,
    pub to: String,
    pub(crate) way: Way,
    pub dir: PathBuf,
    pub board: Arc<Board>,
    pub custody: Arc<Custody>,
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
                        self.on_down(&mut session, &up, body).await;
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
                    let ask =
                        pb::Ask { recording, frames: entry.written.frames, sealed: entry.sealed };
                    let body = pb::up::Body::Ask(ask);
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
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    // It goes on elsewhere, and is a copy here by now.
                    session.forget(recording);
                    self.board.forget(recording);
                    continue;
                }
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

    async fn on_down(
        &self,
        session: &mut Session,
        up: &mpsc::Sender<pb::Up>,
        body: pb::down::Body,
    ) {
        match body {
            pb::down::Body::Have(have) => {
                let pb::Have { recording, bytes, frames, hash, marks } = have;
                let end = pb::Mark { bytes, hash };
                match self.common(recording, marks, end).await {
                    Some(mark) if mark.bytes == bytes => {
                        session.on_have(recording, bytes);
                        self.on_kept(session, recording, Place { bytes, frames });
                    }
                    Some(mark) => {
                        // It has more of what was recorded before another process went on with it.
                        let mark = pb::Mark { bytes: mark.bytes, hash: mark.hash.to_vec() };
                        let Standing { frames, sealed } = self.board.standing(recording);
                        let cut_back = pb::CutBack { recording, mark: Some(mark), frames, sealed };
                        let body = Some(pb::up::Body::CutBack(cut_back));
                        if up.try_send(pb::Up { body }).is_err() {
                            session.on_refused(recording, Instant::now() + again());
                        }
                    }
                    // Another recording under this name: it begins anew, and the other puts its own aside.
                    None => session.on_have(recording, 0),
                }
            }
            pb::down::Body::Kept(pb::Kept { recording, bytes, frames }) => {
                self.on_kept(session, recording, Place { bytes, frames });
            }
            pb::down::Body::Refused(pb::Refused { recording, ours: true, .. }) => {
                self.on_theirs(session, recording).await;
            }
            pb::down::Body::Refused(pb::Refused { recording, busy: true, .. }) => {
                session.on_refused(recording, Instant::now() + again());
            }
            pb::down::Body::Refused(pb::Refused { recording, why, .. }) => {
                metrics::counter!("tandem_recording_resent_total").increment(1);
                let (id, to) = (format!("{recording:016x}"), &self.to);
                tracing::warn!(recording = id, why, to, "TD0311 a recording's copy was refused");
                session.on_refused(recording, Instant::now() + again());
            }
        }
    }

    /// The other has as much of it. One that runs here is asked for again: it gets longer, or is abandoned.
    async fn on_theirs(&self, session: &mut Session, recording: u64) {
        let (id, to) = (format!("{recording:016x}"), &self.to);
        tracing::debug!(recording = id, to, "the other has more of a recording");
        if self.board.is_running(recording) {
            session.on_refused(recording, Instant::now() + again());
            return;
        }
        session.forget(recording);
        self.board.forget(recording);
        let custody = Arc::clone(&self.custody);
        let moved = spawn_blocking(move || custody.yield_to_other(recording)).await;
        if let Err(error) = moved.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            tracing::error!(recording = id, %error, "TD0329 a recording can't be made a copy");
        }
    }

    /// Up to where what the other has is what lies here.
    async fn common(&self, recording: u64, marks: Vec<pb::Mark>, end: pb::Mark) -> Option<Mark> {
        let marks = marks.into_iter().chain([end]).filter_map(mark_of).collect::<Vec<_>>();
        let dir = self.dir.clone();
        let known = spawn_blocking(move || marks::common(&dir, recording, &marks)).await;
        known.ok()?.ok()?
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

/// None where it is no hash.
pub(super) fn mark_of(mark: pb::Mark) -> Option<Mark> {
    Some(Mark { bytes: mark.bytes, hash: mark.hash.try_into().ok()? })
}

type Read = Vec<(u64, std::io::Result<Vec<Item>>)>;

fn read_all(dir: &Path, wanted: Vec<(u64, u64, u64)>) -> Read {
    let most = limits::COPY_TURN_BYTES_MAX;
    let read = |(recording, from, to)| (recording, source::read(dir, recording, from, to, most));
    wanted.into_iter().map(read).collect()
}
