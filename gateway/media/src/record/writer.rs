//! Recordings on disk. The only thread of the media plane that waits for the disk.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::board::{Board, Place};
use super::copies::holding;
use super::custody::Custody;
use super::manifest::{self, Manifest, copied_path, manifest_path, wav_path};
use super::running::Recording;
use super::timeline::Chunk;
use crate::event::{Event, Held, Holding, Recorded};
use crate::limits::{HOLDINGS_EVERY_MS, HOLDINGS_MAX, TAKEN_OVER_TOLD_MS};
use crate::plan::CallKey;

/// How often an event that found no room is tried again.
const RETRY: Duration = Duration::from_millis(100);

pub enum Command {
    Begin {
        recording: u64,
        call: CallKey,
        at_ns: u64,
        unix_ms: u64,
    },
    Pause {
        recording: u64,
        at_frame: u64,
        paused: bool,
    },
    /// `missing_ms` of its audio found no room on the way here.
    Chunk {
        recording: u64,
        chunk: Chunk,
        missing_ms: u64,
    },
    Finish {
        recording: u64,
    },
    /// Another process goes on with it.
    Abandon {
        recording: u64,
    },
}

/// How a recording is told that was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sealed {
    /// It was recorded to its end here.
    Recorded,
    /// Nobody has gone on with it, as far as is known here: this is what there is here, and it takes nothing
    /// from who knows better.
    Left,
}

pub struct Writer {
    dir: PathBuf,
    events: Sender<Event>,
    open: HashMap<u64, Recording>,
    /// A finished recording must be told, even if nobody listens just now.
    untold: VecDeque<Event>,
    /// When recordings that a crash left open are looked for; none once that is done.
    orphans_due: Option<Instant>,
    orphans_after: Duration,
    /// Those that were abandoned, and when they are sealed if nobody goes on with them.
    abandoned: BTreeMap<u64, (CallKey, Instant)>,
    /// When running recordings are told of next.
    holdings_due: Instant,
    board: Arc<Board>,
    custody: Arc<Custody>,
}

impl Writer {
    pub fn new(
        dir: PathBuf,
        orphans_after: Duration,
        events: Sender<Event>,
        board: Arc<Board>,
        custody: Arc<Custody>,
    ) -> Self {
        let orphans_due = Some(Instant::now() + orphans_after);
        let holdings_due = Instant::now() + Duration::from_millis(HOLDINGS_EVERY_MS);
        let (open, untold, abandoned) = (HashMap::new(), VecDeque::new(), BTreeMap::new());
        Self {
            dir,
            events,
            open,
            untold,
            orphans_due,
            orphans_after,
            abandoned,
            holdings_due,
            board,
            custody,
        }
    }

    /// Ends when the recorder has gone, and finishes what is open.
    pub fn run(mut self, commands: &Receiver<Command>) {
        self.find_uncopied();
        loop {
            match commands.recv_timeout(RETRY) {
                Ok(command) => self.handle(command),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.finish_orphans(Instant::now());
            if self.board.wants_more() {
                self.find_uncopied();
            }
            self.tell_holdings();
            self.tell();
        }
        let open: Vec<u64> = self.open.keys().copied().collect();
        for recording in open {
            self.finish(recording, Sealed::Recorded);
        }
        self.tell();
    }

    pub(super) fn handle(&mut self, command: Command) {
        match command {
            Command::Begin { recording, call, at_ns, unix_ms } => {
                if let Err(error) = self.begin(recording, call, at_ns, unix_ms) {
                    failed(recording, "can't be begun", &error);
                    self.custody.leave(recording);
                }
            }
            Command::Chunk { recording, chunk, missing_ms } => {
                let Some(open) = self.open.get_mut(&recording) else { return };
                let written = open.append(&chunk, missing_ms).or_else(|error| {
                    // The hole reads as silence, whatever was written of it.
                    open.cut_tail().and(Err(error))
                });
                match written {
                    Ok(()) => open.failed = false,
                    Err(error) if !std::mem::replace(&mut open.failed, true) => {
                        failed(recording, "has a gap, its audio can't be written", &error);
                    }
                    Err(_) => {}
                }
                self.board.wrote(recording, open.place());
            }
            Command::Pause { recording, at_frame, paused } => {
                let Some(open) = self.open.get_mut(&recording) else { return };
                if let Err(error) = open.pause(at_frame, paused) {
                    failed(recording, "can't say that it is paused", &error);
                }
                self.board.wrote(recording, open.place());
            }
            Command::Finish { recording } => self.finish(recording, Sealed::Recorded),
            Command::Abandon { recording } => self.abandon(recording),
        }
    }

    fn begin(&mut self, recording: u64, call: CallKey, at_ns: u64, unix_ms: u64) -> io::Result<()> {
        self.abandoned.remove(&recording);
        let known = self.custody.take_over(recording).unwrap_or_else(|error| {
            let id = format!("{recording:016x}");
            tracing::error!(recording = id, %error, "TD0328 a recording can't go on from its copy");
            None
        });
        // A mark that another gateway has all of it holds no more.
        manifest::remove_if_there(&copied_path(&self.dir, recording))?;
        let taken_over_ms = known.as_ref().map(Manifest::duration_ms);
        let opened = Recording::open(&self.dir, recording, call, unix_ms, known)?;
        self.board.begin(recording, at_ns, opened.offset, opened.place());
        if let Some(ms) = taken_over_ms {
            let id = format!("{recording:016x}");
            tracing::info!(recording = id, %call, ms, "a recording goes on from its copy");
            metrics::counter!("tandem_media_recordings_taken_over_total").increment(1);
            // Until then it is where nobody is any more.
            let soon = Instant::now() + Duration::from_millis(TAKEN_OVER_TOLD_MS);
            self.holdings_due = self.holdings_due.min(soon);
        }
        self.open.insert(recording, opened);
        Ok(())
    }

    /// As a crash would leave it, and treated like one that a crash has left.
    fn abandon(&mut self, recording: u64) {
        let Some(open) = self.open.remove(&recording) else { return };
        self.board.end(recording, open.place(), false);
        self.abandoned.insert(recording, (open.call, Instant::now() + self.orphans_after));
        self.custody.leave(recording);
    }

    fn finish(&mut self, recording: u64, how: Sealed) {
        let Some(mut open) = self.open.remove(&recording) else { return };
        let sealed = open.seal();
        self.board.end(recording, open.place(), sealed.is_ok());
        self.custody.leave(recording);
        match (sealed, how) {
            (Ok(_), Sealed::Left) => {
                let hash = open.manifest.hash.clone();
                let held = holding(recording, &open.manifest, Held::Whole { hash });
                self.untold.extend(held.map(|held| Event::Recording(vec![held])));
            }
            (Ok(hash), Sealed::Recorded) => {
                metrics::counter!("tandem_media_recordings_finished_total").increment(1);
                self.untold.push_back(Event::Recorded(Recorded {
                    call: open.call,
                    recording,
                    duration_ms: open.manifest.duration_ms(),
                    chunks: open.manifest.chunks,
                    gaps: open.manifest.gaps,
                    hash,
                    path: wav_path(&self.dir, recording),
                    pauses: open.manifest.pauses,
                    begun_unix_ms: open.manifest.begun_unix_ms.unwrap_or(0),
                }));
            }
            (Err(error), _) => failed(recording, "can't be finished", &error),
        }
    }

    /// Those that a crash has left, once, and those that were abandoned so long ago.
    pub(super) fn finish_orphans(&mut self, now: Instant) {
        let is_due = |(_, (_, due)): &(&u64, &(CallKey, Instant))| *due <= now;
        let mut orphans: Vec<(u64, CallKey)> =
            self.abandoned.iter().filter(is_due).map(|(id, (call, _))| (*id, *call)).collect();
        for (recording, _) in &orphans {
            self.abandoned.remove(recording);
        }
        if self.orphans_due.is_some_and(|due| now >= due) {
            self.orphans_due = None;
            match manifest::unsealed(&self.dir) {
                Ok(unsealed) => orphans.extend(unsealed),
                Err(error) => {
                    tracing::error!(%error, "recordings that a crash left open can't be looked for");
                }
            }
        }
        for (recording, call) in orphans {
            if !self.open.contains_key(&recording) && !self.abandoned.contains_key(&recording) {
                self.finish_orphan(recording, call);
            }
        }
    }

    fn finish_orphan(&mut self, recording: u64, call: CallKey) {
        let held = self.custody.hold(recording);
        // As if it went on where it ended: no gap.
        let opened = held.and_then(|held| {
            held.then(|| Recording::open(&self.dir, recording, call, 0, None)).transpose()
        });
        match opened {
            Ok(Some(opened)) => {
                self.open.insert(recording, opened);
                self.finish(recording, Sealed::Left);
            }
            // Another box goes on with it.
            Ok(None) => {}
            Err(error) => {
                failed(recording, "that a crash left open can't be finished", &error);
                self.custody.leave(recording);
            }
        }
    }

    /// Those that another gateway may not have, for whoever copies.
    pub(super) fn find_uncopied(&self) {
        if !self.board.is_wanted() {
            return;
        }
        let found = manifest::all(&self.dir).and_then(|all| {
            for recording in all {
                if self.open.contains_key(&recording)
                    || copied_path(&self.dir, recording).try_exists()?
                {
                    continue;
                }
                let Manifest { bytes, frames, sealed, .. } =
                    Manifest::read(&manifest_path(&self.dir, recording))?;
                self.board.found(recording, Place { bytes, frames }, sealed);
            }
            Ok(())
        });
        if let Err(error) = found {
            tracing::error!(%error, "TD0319 recordings that have no copy can't be looked for");
        }
    }

    /// All that run, in one event now and then.
    fn tell_holdings(&mut self) {
        if Instant::now() < self.holdings_due {
            return;
        }
        self.holdings_due = Instant::now() + Duration::from_millis(HOLDINGS_EVERY_MS);
        let running = |(id, open): (&u64, &Recording)| holding(*id, &open.manifest, Held::Running);
        let told: Vec<Holding> = self.open.iter().filter_map(running).collect();
        let parts = told.chunks(HOLDINGS_MAX).map(|part| Event::Recording(part.to_vec()));
        self.untold.extend(parts);
    }

    pub(super) fn tell(&mut self) {
        while let Some(event) = self.untold.pop_front() {
            if let Err(crossbeam_channel::TrySendError::Full(event)) = self.events.try_send(event) {
                self.untold.push_front(event);
                return;
            }
        }
    }
}

fn failed(recording: u64, what: &str, error: &io::Error) {
    metrics::counter!("tandem_media_recording_errors_total").increment(1);
    tracing::error!(recording = format!("{recording:016x}"), %error, "TD0320 the recording {what}");
}
