//! The recorder: taps on two legs → one stereo timeline → chunks of a second → the writer.
//!
//! Workers push and never wait; this thread never waits for the disk; the writer does. What finds
//! no room on the way becomes a gap that the recording reports.

pub mod board;
pub mod copies;
pub mod custody;
pub mod manifest;
pub mod marks;
mod running;
pub mod source;
#[cfg(test)]
mod tests;
pub mod timeline;
pub mod verify;
pub mod wav;
pub(crate) mod writer;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::event::Event;
use crate::limits::{
    PIECE_SAMPLES_MAX, PTIME_MS, RECORDER_CONTROLS_MAX, RECORDER_PIECES_MAX, WRITER_CHUNKS_MAX,
};
use crate::plan::CallKey;
use crate::sys;
use board::Board;
use custody::Custody;
use timeline::{Audio, Chunk, Timeline};

pub use timeline::Channel;

/// How often audio is fetched while something is recorded. Far below what the queue holds.
const ROUND: Duration = Duration::from_millis(100);
const ROUND_IDLE: Duration = Duration::from_secs(1);
/// Commands beside chunks that wait for the writer.
const WRITER_SPARE: usize = 128;
const NS_PER_MS: u64 = 1_000_000;

enum Control {
    Begin { recording: u64, call: CallKey, at_ns: u64, unix_ms: u64, lost: Arc<AtomicU64> },
    Pause { recording: u64, at_ns: u64, paused: bool },
    End { recording: u64, at_ns: u64, ending: Ending },
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Seal,
    /// Another process goes on with it.
    Abandon,
}

/// A packet's audio, or a part of it, by value: pushing it allocates nothing.
struct Piece {
    recording: u64,
    channel: Channel,
    arrived_ns: u64,
    ssrc: u32,
    timestamp: u32,
    len: u8,
    samples: [i16; PIECE_SAMPLES_MAX],
}

const _: () = assert!(PIECE_SAMPLES_MAX <= u8::MAX as usize);

/// What a worker holds of one recorded leg.
#[derive(Clone)]
pub struct Tap {
    pub recording: u64,
    pub channel: Channel,
    /// What is heard goes no further than here.
    paused: bool,
    lost: Arc<AtomicU64>,
}

impl Tap {
    /// The same recording's other or same channel.
    pub fn of(&self, channel: Channel) -> Self {
        Self { channel, ..self.clone() }
    }

    pub fn is_paused(&self) -> bool {
        self.paused
    }

    pub fn paused(self, paused: bool) -> Self {
        Self { paused, ..self }
    }
}

/// What workers push to.
#[derive(Clone)]
pub struct Recorder {
    controls: Sender<Control>,
    pieces: Sender<Piece>,
    custody: Arc<Custody>,
}

/// The recorder's and the writer's threads.
pub struct Threads {
    controls: Sender<Control>,
    recorder: JoinHandle<()>,
    writer: JoinHandle<()>,
}

impl Recorder {
    pub fn start(
        dir: PathBuf,
        orphans_after: Duration,
        events: Sender<Event>,
        board: Arc<Board>,
        publish: impl FnMut() + Send + 'static,
    ) -> io::Result<(Self, Threads)> {
        std::fs::create_dir_all(&dir)?;
        // A full or read-only disk is told at the start, not by the first call.
        let probe = dir.join("probe.tmp");
        std::fs::write(&probe, b"probe")?;
        std::fs::remove_file(&probe)?;
        let (controls, control_inbox) = bounded(RECORDER_CONTROLS_MAX);
        let (pieces, piece_inbox) = bounded(RECORDER_PIECES_MAX);
        let (chunks, chunk_inbox) = bounded(WRITER_CHUNKS_MAX + WRITER_SPARE);
        let custody = Arc::new(Custody::new(dir.clone(), Arc::clone(&board)));
        let writer = writer::Writer::new(dir, orphans_after, events, board, Arc::clone(&custody));
        let writer = thread::Builder::new()
            .name("media-writer".into())
            .spawn(move || writer.run(&chunk_inbox))?;
        let work = Work {
            controls: control_inbox,
            pieces: piece_inbox,
            writer: chunks,
            live: HashMap::new(),
            ends: Vec::new(),
            stopped: false,
            publish: Box::new(publish),
        };
        let recorder =
            thread::Builder::new().name("media-recorder".into()).spawn(move || work.run())?;
        let threads = Threads { controls: controls.clone(), recorder, writer };
        Ok((Self { controls, pieces, custody }, threads))
    }

    /// The taps for the caller's and the agent's leg.
    pub fn begin(&self, recording: u64, call: CallKey) -> [Tap; 2] {
        let lost = Arc::new(AtomicU64::new(0));
        self.control(Control::Begin {
            recording,
            call,
            at_ns: sys::monotonic_ns(),
            unix_ms: sys::realtime_ns() / NS_PER_MS,
            lost: Arc::clone(&lost),
        });
        [Channel::Left, Channel::Right].map(|channel| Tap {
            recording,
            channel,
            paused: false,
            lost: Arc::clone(&lost),
        })
    }

    /// Whose recordings these are, for who takes copies of others'.
    pub fn custody(&self) -> Arc<Custody> {
        Arc::clone(&self.custody)
    }

    pub fn end(&self, recording: u64) {
        let at_ns = sys::monotonic_ns();
        self.control(Control::End { recording, at_ns, ending: Ending::Seal });
    }

    /// Its call is another process's by now, that goes on with its copy: what was heard until now is kept, and
    /// not sealed.
    pub fn abandon(&self, recording: u64) {
        let at_ns = sys::monotonic_ns();
        self.control(Control::End { recording, at_ns, ending: Ending::Abandon });
    }

    /// The taps are paused by whoever has them; this is for the manifest.
    pub fn pause(&self, recording: u64, paused: bool) {
        self.control(Control::Pause { recording, at_ns: sys::monotonic_ns(), paused });
    }

    /// Never waits; false if there was no room for all of it.
    pub fn push(
        &self,
        tap: &Tap,
        arrived_ns: u64,
        ssrc: u32,
        timestamp: u32,
        samples: &[i16],
    ) -> bool {
        if tap.paused {
            return true;
        }
        let mut timestamp = timestamp;
        for part in samples.chunks(PIECE_SAMPLES_MAX) {
            let mut samples = [0; PIECE_SAMPLES_MAX];
            samples[..part.len()].copy_from_slice(part);
            let piece = Piece {
                recording: tap.recording,
                channel: tap.channel,
                arrived_ns,
                ssrc,
                timestamp,
                len: part.len() as u8,
                samples,
            };
            if self.pieces.try_send(piece).is_err() {
                tap.lost.fetch_add(1, Relaxed);
                return false;
            }
            timestamp = timestamp.wrapping_add(part.len() as u32);
        }
        true
    }

    fn control(&self, control: Control) {
        // A full queue means that the recorder has stood still through thousands of calls. A
        // worker must not wait for it.
        if self.controls.try_send(control).is_err() {
            metrics::counter!("tandem_media_recording_errors_total").increment(1);
            tracing::error!("the recorder takes no commands; a recording is lost");
        }
    }
}

impl Threads {
    /// Ends when all recordings are finished. Workers must have stopped.
    pub fn stop(self) {
        // It can only fail when the recorder has gone already.
        let _ = self.controls.send(Control::Stop);
        for thread in [self.recorder, self.writer] {
            if thread.join().is_err() {
                tracing::error!("a thread of the recorder has panicked");
            }
        }
    }
}

struct Work {
    controls: Receiver<Control>,
    pieces: Receiver<Piece>,
    writer: Sender<writer::Command>,
    live: HashMap<u64, Live>,
    /// Recordings to finish once the pieces pushed before are fetched.
    ends: Vec<(u64, u64, Ending)>,
    stopped: bool,
    publish: Box<dyn FnMut() + Send>,
}

struct Live {
    timeline: Timeline,
    lost: Arc<AtomicU64>,
}

impl Work {
    fn run(mut self) {
        while !self.stopped {
            let wait = if self.live.is_empty() { ROUND_IDLE } else { ROUND };
            match self.controls.recv_timeout(wait) {
                Ok(control) => self.handle(control),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => self.stopped = true,
            }
            self.round();
        }
        let now_ns = sys::monotonic_ns();
        let left: Vec<u64> = self.live.keys().copied().collect();
        for recording in left {
            self.finish(recording, now_ns, Ending::Seal);
        }
        (self.publish)();
    }

    fn round(&mut self) {
        self.take_controls();
        // Fetched up to now, so that this ends however fast others push.
        let now_ns = sys::monotonic_ns();
        for _ in 0..RECORDER_PIECES_MAX {
            let Ok(piece) = self.pieces.try_recv() else { break };
            if !self.live.contains_key(&piece.recording) {
                // Its beginning may have been told after this round began.
                self.take_controls();
            }
            self.put(&piece);
        }
        for (recording, at_ns, ending) in std::mem::take(&mut self.ends) {
            self.finish(recording, at_ns, ending);
        }
        for (recording, live) in &mut self.live {
            while let Some(chunk) = live.timeline.take_due(now_ns) {
                hand_over(&self.writer, *recording, chunk, &live.lost);
            }
        }
        (self.publish)();
    }

    fn take_controls(&mut self) {
        while let Ok(control) = self.controls.try_recv() {
            self.handle(control);
        }
    }

    fn handle(&mut self, control: Control) {
        match control {
            Control::Begin { recording, call, at_ns, unix_ms, lost } => {
                // The same recording was ended a moment ago: that end comes first.
                let pending = self.ends.iter().position(|(ended, ..)| *ended == recording);
                if let Some(at) = pending {
                    let (_, ended_ns, ending) = self.ends.swap_remove(at);
                    self.finish(recording, ended_ns, ending);
                }
                self.command(writer::Command::Begin { recording, call, at_ns, unix_ms });
                self.live.insert(recording, Live { timeline: Timeline::new(at_ns), lost });
                metrics::gauge!("tandem_media_recordings_active").set(self.live.len() as f64);
            }
            Control::Pause { recording, at_ns, paused } => {
                if let Some(live) = self.live.get(&recording) {
                    let at_frame = live.timeline.frame_at(at_ns);
                    self.command(writer::Command::Pause { recording, at_frame, paused });
                }
            }
            Control::End { recording, at_ns, ending } => {
                self.ends.push((recording, at_ns, ending));
            }
            Control::Stop => self.stopped = true,
        }
    }

    fn put(&mut self, piece: &Piece) {
        let Some(live) = self.live.get_mut(&piece.recording) else { return };
        while live.timeline.is_full(piece.arrived_ns) {
            let chunk = live.timeline.take_forced();
            hand_over(&self.writer, piece.recording, chunk, &live.lost);
        }
        let heard = live.timeline.put(&Audio {
            channel: piece.channel,
            arrived_ns: piece.arrived_ns,
            ssrc: piece.ssrc,
            timestamp: piece.timestamp,
            samples: &piece.samples[..usize::from(piece.len)],
        });
        if !heard {
            metrics::counter!("tandem_media_recorder_late_total").increment(1);
        }
    }

    fn finish(&mut self, recording: u64, at_ns: u64, ending: Ending) {
        let Some(mut live) = self.live.remove(&recording) else { return };
        while let Some(chunk) = live.timeline.take_rest(at_ns) {
            hand_over(&self.writer, recording, chunk, &live.lost);
        }
        self.command(match ending {
            Ending::Seal => writer::Command::Finish { recording },
            Ending::Abandon => writer::Command::Abandon { recording },
        });
        metrics::gauge!("tandem_media_recordings_active").set(self.live.len() as f64);
    }

    /// Beginnings and ends wait for the writer if they must; chunks never do.
    fn command(&self, command: writer::Command) {
        if self.writer.send(command).is_err() {
            tracing::error!("the recordings' writer has gone");
        }
    }
}

fn hand_over(
    writer: &Sender<writer::Command>,
    recording: u64,
    chunk: Chunk,
    lost: &Arc<AtomicU64>,
) {
    let missing_ms = lost.swap(0, Relaxed) * u64::from(PTIME_MS);
    if writer.len() >= WRITER_CHUNKS_MAX {
        // The writer sees the hole and marks it.
        metrics::counter!("tandem_media_recorder_chunks_dropped_total").increment(1);
        return;
    }
    let command = writer::Command::Chunk { recording, chunk, missing_ms };
    if writer.send(command).is_err() {
        tracing::error!("the recordings' writer has gone");
    }
}
