//! What the control task needs of the media plane, and the engine that gives it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tandem_core::cdr::{Manifest, Side};
use tandem_core::command::{Gap, GatewayEvent, Quality, Recorded};
use tandem_core::config::Country;
use tandem_core::effect::{MediaLeg, MediaPlan, Prompt, Rollover, Source};
use tandem_core::ids::{CallId, GatewayId, LegId, MusicId, RecordingId};
use tandem_core::ivr::keys::Digit;
use tandem_lease::Fence;
use tandem_media::record::board::Board;
use tandem_media::record::custody::Custody;
use tandem_media::{CallKey, Common, Engine, Event, Held, Holding, MusicRef, Plane, Rest};
use tandem_sip::Millis;
use tokio::sync::mpsc;

use crate::limits;
use crate::line::Spec;
use crate::options::{Error, Options};

/// Obeys plans; reports by events of its own.
pub trait Media: Send {
    /// Local RTP ports that are bound, even ones.
    fn ports(&self) -> Vec<u16>;

    /// Reconciles the media of one call of a tenant with the plan.
    ///
    /// # Errors
    /// Why the plan can't be obeyed. It is not tried again.
    fn apply(&mut self, tenant: u16, plan: &MediaPlan) -> Result<(), String>;
}

impl Media for Engine {
    fn ports(&self) -> Vec<u16> {
        Engine::ports(self)
    }

    fn apply(&mut self, tenant: u16, plan: &MediaPlan) -> Result<(), String> {
        // An older version than one before is no mistake: effects may come again.
        Engine::apply(self, plan_of(tenant, plan, self))
            .map(|_| ())
            .map_err(|error| error.to_string())
    }
}

/// What is reported, and whose call it is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub tenant: u16,
    pub event: GatewayEvent,
}

/// Of one line.
pub struct LineMedia {
    pub media: Box<dyn Media>,
    pub events: mpsc::Receiver<Told>,
    /// Where more of them are told.
    pub report: mpsc::Sender<Told>,
    /// To be bound meanwhile.
    pub rest: Option<Rest>,
}

/// What carries the media of a process, whatever lines it serves.
pub trait MediaPlane: Send + Sync {
    /// Begins to carry a line's. `busy`: of a line that goes on, the ports that others have.
    ///
    /// # Errors
    /// What it can't bind.
    fn line(
        &self,
        spec: &Spec,
        fence: Arc<Fence>,
        busy: Option<&BTreeSet<u16>>,
    ) -> Result<LineMedia, Error>;

    /// How far its recordings are.
    fn board(&self) -> Arc<Board>;

    /// Whose recordings are whose, on this box.
    fn custody(&self) -> Arc<Custody>;

    /// What it tells of recordings, whatever line their calls are of, and where more of that is told. Asked for once.
    ///
    /// # Errors
    /// What it can't start.
    fn told(&mut self) -> Result<(mpsc::Sender<Told>, mpsc::Receiver<Told>), Error>;
}

/// The engines, one for each line.
pub struct Engines {
    plane: Arc<Plane>,
    options: Options,
}

/// Starts what the engines share.
///
/// # Errors
/// What it can't write or read.
pub fn start(options: &Options) -> Result<Box<dyn MediaPlane>, Error> {
    let mut common = Common::new(options.recordings());
    common.music = options.music.clone();
    common.prompts = options.prompts.clone();
    common.copied = options.copy_to.is_some();
    let plane = Plane::start(common).map_err(|error| Error::Media(error.to_string()))?;
    Ok(Box::new(Engines { plane, options: options.clone() }))
}

impl MediaPlane for Engines {
    fn line(
        &self,
        spec: &Spec,
        fence: Arc<Fence>,
        busy: Option<&BTreeSet<u16>>,
    ) -> Result<LineMedia, Error> {
        let mut line = tandem_media::Options::new(spec.media_ip);
        line.workers = self.options.media_workers;
        line.pairs = self.options.rtp_pairs;
        line.ports = self.options.rtp_ports.clone();
        line.rtp_silence_ms_max = limits::RTP_SILENCE_MS_MAX;
        let plane = Arc::clone(&self.plane);
        let started = match busy {
            Some(busy) => Engine::of_line_that_goes_on(plane, line, fence, busy)
                .map(|(engine, rest)| (engine, Some(rest))),
            None => Engine::of_line(plane, line, fence).map(|engine| (engine, None)),
        };
        let (engine, rest) = started.map_err(|error| Error::Media(error.to_string()))?;
        let (report, events) = mpsc::channel(limits::MEDIA_EVENTS_MAX);
        carry(engine.events(), self.options.name.clone(), report.clone())?;
        Ok(LineMedia { media: Box::new(engine), events, report, rest })
    }

    fn board(&self) -> Arc<Board> {
        self.plane.board()
    }

    fn custody(&self) -> Arc<Custody> {
        self.plane.custody()
    }

    fn told(&mut self) -> Result<(mpsc::Sender<Told>, mpsc::Receiver<Told>), Error> {
        let (report, told) = mpsc::channel(limits::MEDIA_EVENTS_MAX);
        carry(self.plane.events(), self.options.name.clone(), report.clone())?;
        Ok((report, told))
    }
}

/// The engine's channel is of threads, not of tasks; it ends with the engine.
fn carry(
    events: impl IntoIterator<Item = Event> + Send + 'static,
    process: String,
    told: mpsc::Sender<Told>,
) -> Result<(), Error> {
    std::thread::Builder::new()
        .name("media-events".into())
        .spawn(move || {
            for event in events {
                let events = event_of(event, &process);
                if events.into_iter().any(|event| told.blocking_send(event).is_err()) {
                    break;
                }
            }
        })
        .map(|_| ())
        .map_err(|error| Error::Media(format!("a thread can't be started: {error}")))
}

fn plan_of(tenant: u16, plan: &MediaPlan, engine: &Engine) -> tandem_media::Plan {
    tandem_media::Plan {
        call: CallKey { tenant, call: plan.call.0 },
        version: plan.version,
        legs: plan.legs.iter().map(|leg| leg_of(leg, engine)).collect(),
        recording: plan.recording.map(|recording| tandem_media::Recording {
            id: recording.id.0,
            left: recording.left.0,
            right: recording.right.0,
            mixed: recording.mixed,
            paused: recording.paused,
        }),
    }
}

fn leg_of(leg: &MediaLeg, engine: &Engine) -> tandem_media::Leg {
    tandem_media::Leg {
        leg: leg.leg.0,
        port: leg.port,
        remote: leg.remote,
        codec: leg.codec,
        payload: leg.payload,
        telephone_event: leg.telephone_event,
        events_wide: leg.events_wide,
        ssrc: leg.ssrc,
        source: match &leg.source {
            Source::Silence => tandem_media::Source::Silence,
            Source::Music(list) => tandem_media::Source::Music(music_of(list.as_ref(), engine)),
            Source::Ringback(country) => tandem_media::Source::Ringback(country_of(*country)),
            Source::Echo => tandem_media::Source::Echo,
            Source::Leg(other) => tandem_media::Source::Leg(other.0),
            Source::Mix(legs) => tandem_media::Source::Mix(legs.iter().map(|leg| leg.0).collect()),
            Source::Prompt(prompt) => tandem_media::Source::Prompt(prompt_of(prompt, engine)),
        },
        role: leg.role.map_or("", Side::as_str),
        keys: leg.keys.as_ref().map(|keys| tandem_media::Keys {
            suite: keys.suite,
            ours: keys.ours.clone(),
            theirs: keys.theirs.clone(),
            from: tandem_media::Rollover {
                sent: keys.rollover.sent,
                received: keys.rollover.received,
            },
        }),
    }
}

fn country_of(country: Country) -> tandem_media::tones::Country {
    use tandem_media::tones::Country as To;
    match country {
        Country::Cn => To::Cn,
        Country::De => To::De,
        Country::Fr => To::Fr,
        Country::Gb => To::Gb,
        Country::Jp => To::Jp,
        Country::Us => To::Us,
    }
}

/// For a list that is not here there is the one without a name, and an operator hears of it.
fn music_of(list: Option<&MusicId>, engine: &Engine) -> MusicRef {
    let Some(name) = list else { return MusicRef::default() };
    engine.music(&name.0).unwrap_or_else(|| {
        metrics::counter!("tandem_media_music_missing_total").increment(1);
        tracing::error!(list = %name, "TD0326 a list of music is missing: callers hear the one without a name");
        MusicRef::default()
    })
}

/// One that is not here ends at once: its flow goes on, and an operator hears of it.
fn prompt_of(prompt: &Prompt, engine: &Engine) -> tandem_media::Prompt {
    let clip = engine.prompt(&prompt.prompt.0);
    if clip.is_none() {
        metrics::counter!("tandem_media_prompts_missing_total").increment(1);
        tracing::error!(prompt = %prompt.prompt, "TD0307 a prompt is missing: its flow goes on without it");
    }
    let Prompt { play, offset_ms, barge_in, .. } = *prompt;
    tandem_media::Prompt { clip, play, offset_ms, barge_in }
}

/// One for each tenant that it is about. What is recorded is told as this process's, whose name it is: the lines
/// that it serves come and go.
fn event_of(event: Event, process: &str) -> Vec<Told> {
    let told = |call: CallKey, event| vec![Told { tenant: call.tenant, event }];
    match event {
        Event::Recorded(recorded) => {
            // A file that was taken away meanwhile has no bytes any more.
            let bytes = std::fs::metadata(&recorded.path).map_or(0, |file| file.len());
            let event = GatewayEvent::Recorded(Recorded {
                call: CallId(recorded.call.call),
                recording: RecordingId(recorded.recording),
                duration_ms: recorded.duration_ms,
                chunks: recorded.chunks,
                gaps: gaps_of(&recorded.gaps),
                hash: recorded.hash.iter().map(|byte| format!("{byte:02x}")).collect(),
                bytes,
                pauses: gaps_of(&recorded.pauses),
                began_at: Some(Millis(recorded.begun_unix_ms)),
                holder: GatewayId::from(process),
            });
            told(recorded.call, event)
        }
        Event::Recording(running) => holdings_of(&running, process),
        Event::RtpSilence { call, leg, since_ms } => {
            let (of, leg) = (CallId(call.call), LegId(leg));
            told(call, GatewayEvent::RtpSilence { call: of, leg, since_ms })
        }
        Event::Rollover { call, leg, sent, received } => {
            let (of, leg, rollover) = (CallId(call.call), LegId(leg), Rollover { sent, received });
            told(call, GatewayEvent::Rollover { call: of, leg, rollover })
        }
        Event::Quality(quality) => told(quality.call, GatewayEvent::Quality(quality_of(&quality))),
        Event::Dtmf { call, leg, number, digit, duration_ms } => {
            let Some(digit) = Digit::new(digit) else { return Vec::new() };
            let (of, leg) = (CallId(call.call), LegId(leg));
            told(call, GatewayEvent::Digit { call: of, leg, number, digit, duration_ms })
        }
        Event::PromptEnded { call, leg, play, missing } => {
            let (of, leg) = (CallId(call.call), LegId(leg));
            told(call, GatewayEvent::PromptEnded { call: of, leg, play, missing })
        }
    }
}

/// What this process has of recordings, told to those whose they are.
pub fn holdings_of(held: &[Holding], process: &str) -> Vec<Told> {
    let mut of_tenants: BTreeMap<u16, Vec<Manifest>> = BTreeMap::new();
    for holding in held {
        of_tenants.entry(holding.call.tenant).or_default().push(manifest_of(holding, process));
    }
    let told = |(tenant, manifests)| Told { tenant, event: GatewayEvent::Holdings(manifests) };
    of_tenants.into_iter().map(told).collect()
}

fn gaps_of(gaps: &[tandem_media::Gap]) -> Vec<Gap> {
    gaps.iter().map(|gap| Gap { at_ms: gap.at_ms, len_ms: gap.len_ms }).collect()
}

fn manifest_of(held: &Holding, process: &str) -> Manifest {
    let (sealed, cut, hash) = match &held.state {
        Held::Running => (false, false, ""),
        Held::Whole { hash } => (true, false, hash.as_str()),
        Held::Cut { hash } => (false, true, hash.as_str()),
    };
    Manifest {
        recording: RecordingId(held.recording),
        call: CallId(held.call.call),
        gateway: GatewayId::from(process),
        duration_ms: held.duration_ms,
        chunks: held.chunks,
        gaps: gaps_of(&held.gaps),
        sealed,
        hash: hash.to_owned(),
        pauses: gaps_of(&held.pauses),
        cut,
        began_at: Some(Millis(held.begun_unix_ms)),
    }
}

fn quality_of(quality: &tandem_media::Quality) -> Quality {
    let sides = [Side::Caller, Side::Agent, Side::Callee];
    Quality {
        call: CallId(quality.call.call),
        leg: LegId(quality.leg),
        role: sides.into_iter().find(|side| side.as_str() == quality.role),
        codec: quality.codec,
        packets_sent: quality.packets_sent,
        packets_received: quality.packets_received,
        packets_lost: quality.packets_lost,
        packets_late: quality.packets_late,
        packets_duplicate: quality.packets_duplicate,
        jitter_us: quality.jitter_us,
        round_trip_us: quality.round_trip_us,
        mos_x100: quality.mos_x100,
    }
}
