//! What a call said and did at this gateway, kept for a day: the messages of SIP and what the
//! cluster decided, for `tandem call trace`.
//!
//! Read in this order: [`Tracer`] is what the control task holds, [`record`] one thing that was
//! seen, [`mask`] what is never written, [`segments`] where it lies, [`writer`] who puts it there.
//!
//! The control task never waits for it: what finds no room is left out and counted
//! (`tandem_trace_dropped_total`).

pub mod mask;
pub mod record;
pub mod segments;
mod show;
mod writer;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{SystemTime, UNIX_EPOCH};

use tandem_core::command::GatewayEvent;
use tandem_core::effect::{Body as EffectBody, Effect, MediaPlan, Source};
use tandem_core::ids::{CallId, EntityId};
use tandem_sip::{Flow, Message, Way};
use tokio::sync::oneshot;

use record::{Body, Direction, Record};
use writer::Order;

/// Records on the way to the writer; beyond it they are left out.
const RECORDS_WAITING_MAX: usize = 8_192;

/// What is written where, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub dir: PathBuf,
    /// Bytes on the disk; the oldest go first.
    pub bytes_max: u64,
    /// Older records are forgotten.
    pub age_ms_max: u64,
}

impl Options {
    /// A day, within 512 MiB: some 40,000 calls.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, bytes_max: 512 << 20, age_ms_max: 24 * 3_600_000 }
    }
}

/// Hands over what was seen. Copies hand over to the same writer.
#[derive(Clone, Debug)]
pub struct Tracer {
    orders: SyncSender<Order>,
}

impl Tracer {
    /// # Errors
    /// Why the folder can't be used.
    pub fn start(options: Options) -> std::io::Result<Self> {
        let writer = writer::Writer::open(options)?;
        let (orders, inbox) = sync_channel(RECORDS_WAITING_MAX);
        std::thread::Builder::new().name("trace".into()).spawn(move || writer.run(&inbox))?;
        Ok(Self { orders })
    }

    pub fn received(&self, flow: &Flow, message: &Message) {
        let headers = message.headers();
        if !is_of_a_call(headers.cseq.method.as_str()) {
            return;
        }
        self.note(None, || Body::Sip {
            direction: Direction::Received,
            transport: flow.carrier.transport(),
            local: flow.local,
            peer: flow.remote,
            call_id: headers.call_id.clone(),
            bytes: message.to_bytes(),
        });
    }

    /// What left, or was handed to a connection.
    pub fn sent(&self, local: std::net::SocketAddr, way: &Way, bytes: &[u8]) {
        let Some((method, call_id)) = record::names_of(bytes) else { return };
        if !is_of_a_call(method) {
            return;
        }
        self.note(None, || Body::Sip {
            direction: Direction::Sent,
            transport: way.carrier.transport(),
            local,
            peer: way.to,
            call_id: call_id.to_owned(),
            bytes: bytes.to_vec(),
        });
    }

    /// What a leader had this gateway do. It says which dialogs are of which call.
    pub fn effect(&self, effect: &Effect) {
        let EntityId::Call(call) = effect.entity else { return };
        self.note(Some(call), || match &effect.body {
            EffectBody::Respond { response, .. } => Body::Effect {
                call_id: Some(response.headers.call_id.clone()),
                what: format!(
                    "the cluster answers {} {} to {}",
                    response.status, response.reason, response.headers.cseq.method
                ),
            },
            EffectBody::Send { request, .. } | EffectBody::Notify { request, .. } => Body::Effect {
                call_id: Some(request.headers.call_id.clone()),
                what: format!("the cluster sends {}", request.method),
            },
            EffectBody::Media(plan) => Body::Effect { call_id: None, what: words_of(plan) },
        });
    }

    /// What the media plane reports.
    pub fn media(&self, event: &GatewayEvent) {
        let (call, what) = match event {
            GatewayEvent::RtpSilence { call, since_ms, .. } => {
                (*call, format!("no RTP for {since_ms} ms"))
            }
            GatewayEvent::Recorded(recorded) => {
                let (id, ms) = (recorded.recording, recorded.duration_ms);
                (recorded.call, format!("recording {id} is sealed: {ms} ms"))
            }
            // Which one is nobody's business: it may be of a card's number.
            GatewayEvent::Digit { call, number, .. } => (*call, format!("key {number} is pressed")),
            GatewayEvent::PromptEnded { call, missing: false, .. } => {
                (*call, "the prompt is over".to_owned())
            }
            GatewayEvent::PromptEnded { call, missing: true, .. } => {
                (*call, "the prompt is missing".to_owned())
            }
            _ => return,
        };
        self.note(Some(call), || Body::Effect { call_id: None, what });
    }

    /// Everything that is known of a call, in the order of time. Reads the disk.
    pub async fn of_call(&self, call: CallId) -> std::io::Result<Vec<Record>> {
        let (reply, answer) = oneshot::channel();
        let orders = self.orders.clone();
        let gone = || std::io::Error::other("the trace's writer is gone");
        // The queue may be full, and whoever asks may wait.
        let asked = tokio::task::spawn_blocking(move || orders.send(Order::Flush(reply)).is_ok());
        if !asked.await.map_err(std::io::Error::other)? {
            return Err(gone());
        }
        let segments = answer.await.map_err(|_| gone())??;
        tokio::task::spawn_blocking(move || segments::search(&segments, call))
            .await
            .map_err(std::io::Error::other)?
    }

    fn note(&self, call: Option<CallId>, body: impl FnOnce() -> Body) {
        let record = Record { at_us: unix_us(), call, body: body() };
        if self.orders.try_send(Order::Note(record)).is_err() {
            metrics::counter!("tandem_trace_dropped_total").increment(1);
        }
    }
}

/// Registrations and capability queries are no calls.
fn is_of_a_call(method: &str) -> bool {
    !matches!(method, "REGISTER" | "OPTIONS")
}

fn words_of(plan: &MediaPlan) -> String {
    if plan.legs.is_empty() {
        return format!("media version {}: released", plan.version);
    }
    let hears = plan.legs.iter().map(|leg| {
        let what = match &leg.source {
            Source::Silence => "silence".to_owned(),
            Source::Music(None) => "music".to_owned(),
            Source::Music(Some(list)) => format!("music {list}"),
            Source::Ringback(_) => "ringback".to_owned(),
            Source::Echo => "itself".to_owned(),
            Source::Prompt(prompt) => {
                format!("prompt {} from {} ms", prompt.prompt, prompt.offset_ms)
            }
            Source::Mix(legs) => {
                let of = |leg: &tandem_core::ids::LegId| port_of(plan, *leg).to_string();
                let ports: Vec<String> = legs.iter().map(of).collect();
                format!("the legs of ports {} together", ports.join(", "))
            }
            Source::Leg(other) => format!("the leg of port {}", port_of(plan, *other)),
        };
        let to = leg.remote.map_or_else(|| "nobody yet".to_owned(), |remote| remote.to_string());
        format!("port {} to {to} hears {what}", leg.port)
    });
    let hears: Vec<String> = hears.collect();
    let recorded = if plan.recording.is_some() { "; recorded" } else { "" };
    format!("media version {}: {}{recorded}", plan.version, hears.join(", "))
}

fn port_of(plan: &MediaPlan, leg: tandem_core::ids::LegId) -> u16 {
    plan.legs.iter().find(|known| known.leg == leg).map_or(0, |known| known.port)
}

fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

pub use show::show;
