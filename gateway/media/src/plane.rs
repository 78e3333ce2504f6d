//! What the engines of a process share, one engine for each line that it serves: music, prompts, the recorder.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use crate::engine::Error;
use crate::event::Event;
use crate::limits::EVENTS_MAX;
use crate::music::Music;
use crate::prompts::Prompts;
use crate::record::board::Board;
use crate::record::custody::Custody;
use crate::record::{self, Recorder};
use crate::stats::{Counters, Totals};
use crate::tones;

/// Longer than a gateway takes to log in and be told its calls.
const ORPHAN_MS_MAX_DEFAULT: u64 = 60_000;
/// Metrics are brought up to date this often at most.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);

/// What the lines of a process share: what is played, and what is recorded.
#[derive(Clone, Debug)]
pub struct Common {
    pub recordings_dir: PathBuf,
    /// Where lists of music lie; none: a melody of our own.
    pub music: Option<PathBuf>,
    /// Where prompts lie as NAME.wav, before those that are built in.
    pub prompts: Option<PathBuf>,
    /// A recording that a crash left open is finished after so long, if no plan goes on with it.
    pub orphan_ms_max: u64,
    /// Another box has copies of the recordings, as far as [`Plane::board`] is told.
    pub copied: bool,
}

impl Common {
    pub fn new(recordings_dir: PathBuf) -> Self {
        Self {
            recordings_dir,
            music: None,
            prompts: None,
            orphan_ms_max: ORPHAN_MS_MAX_DEFAULT,
            copied: false,
        }
    }
}

/// What is shared by the engines of a process, one for each line: what they play, and the recorder.
pub struct Plane {
    pub(crate) music: Arc<Music>,
    pub(crate) ringback: Arc<tones::Ringback>,
    pub(crate) prompts: Arc<Prompts>,
    pub(crate) recorder: Recorder,
    threads: Option<record::Threads>,
    board: Arc<Board>,
    pub(crate) counters: Arc<Mutex<Vec<Arc<Counters>>>>,
    pub(crate) outbox: Sender<Event>,
    pub(crate) events: Receiver<Event>,
}

impl Plane {
    /// # Errors
    /// What can't be had: folders, threads.
    pub fn start(common: Common) -> Result<Arc<Self>, Error> {
        let music = Arc::new(Music::load(common.music.as_deref())?);
        let prompts = Arc::new(Prompts::load(common.prompts.as_deref())?);
        let (outbox, events) = bounded(EVENTS_MAX);
        let counters = Arc::new(Mutex::new(Vec::new()));
        let dir = common.recordings_dir;
        let publish = publisher(Arc::clone(&counters));
        let orphans_after = Duration::from_millis(common.orphan_ms_max);
        let board = Arc::new(Board::new(common.copied));
        let told = Arc::clone(&board);
        let (recorder, threads) =
            Recorder::start(dir.clone(), orphans_after, outbox.clone(), told, publish)
                .map_err(|error| Error::Recordings { path: dir, error })?;
        let (ringback, threads) = (Arc::new(tones::Ringback::new()), Some(threads));
        Ok(Arc::new(Self {
            music,
            ringback,
            prompts,
            recorder,
            threads,
            board,
            counters,
            outbox,
            events,
        }))
    }

    /// How far the recordings are, for whoever copies them to another box.
    pub fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// Whose recordings these are, for who takes copies of others'.
    pub fn custody(&self) -> Arc<Custody> {
        self.recorder.custody()
    }

    /// What becomes of recordings. Fetched by one: each event is delivered once.
    pub fn events(&self) -> Receiver<Event> {
        self.events.clone()
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.stop();
        }
    }
}

/// Adds to the process's metrics what the workers have counted since the last time.
fn publisher(counters: Arc<Mutex<Vec<Arc<Counters>>>>) -> impl FnMut() + Send {
    let (mut before, mut ended) = (Totals::default(), Totals::default());
    let mut due = Instant::now();
    move || {
        let now = Instant::now();
        if now < due {
            return;
        }
        due = now + PUBLISH_EVERY;
        let mut counters = counters.lock();
        // Those of workers that have gone count on.
        counters.retain(|worker| {
            let lives = Arc::strong_count(worker) > 1;
            if !lives {
                ended.add(worker);
            }
            lives
        });
        let mut totals = ended;
        for worker in counters.iter() {
            totals.add(worker);
        }
        totals.publish(&before);
        before = totals;
    }
}
