//! The one task that owns the gateway's control and does what it says. Whatever happens comes to
//! it as a message, so that nothing here needs a lock.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tandem_control::link::{Accepted, Down, Leading, Routing, Up};
use tandem_control::sip::Transmit;
use tandem_control::{Control, Identity, Output, Status};
use tandem_core::wire;
use tandem_sip::{Carrier, Millis};
use tandem_wire::intake::Outlet;
use tandem_wire::{Received, Report, Socket, Streams, Undelivered};
use tokio::sync::{mpsc, oneshot, watch};

use crate::limits;
use crate::link::pb;
use crate::link::session::Input;
use crate::media::{Media, Told};
use crate::trace::Tracer;

/// Messages of one kind that are handled before others get their turn.
const TURN_MAX: usize = 64;
/// How often gauges are set.
const GAUGES_MS: u64 = 1_000;

/// Where messages come from.
pub struct Inputs {
    pub wire: Outlet,
    pub reports: mpsc::Receiver<Report>,
    pub link: mpsc::Receiver<Input>,
    pub media: mpsc::Receiver<Told>,
    /// The process ends; who asks is told when carriers have heard.
    pub leaving: mpsc::Receiver<oneshot::Sender<()>>,
}

pub struct Task {
    control: Control,
    socket: Arc<Socket>,
    streams: Streams,
    media: Box<dyn Media>,
    status: watch::Sender<Status>,
    /// The origin of [`Millis`] here: time that never jumps.
    epoch: Instant,
    /// The way up to each node with a session.
    ups: Vec<Option<mpsc::Sender<pb::Up>>>,
    gauges_at: Millis,
    tracer: Tracer,
    left: Option<oneshot::Sender<()>>,
}

impl Task {
    pub fn new(
        identity: Identity,
        socket: Arc<Socket>,
        streams: Streams,
        media: Box<dyn Media>,
        status: watch::Sender<Status>,
        tracer: Tracer,
    ) -> Self {
        Self {
            ups: (0..limits::NODES_MAX).map(|_| None).collect(),
            control: Control::new(Millis(0), identity),
            socket,
            streams,
            media,
            status,
            epoch: Instant::now(),
            gauges_at: Millis(0),
            tracer,
            left: None,
        }
    }

    /// Until one of the sources is gone.
    pub async fn run(mut self, mut inputs: Inputs) {
        loop {
            let wake = self.wake_at();
            tokio::select! {
                input = inputs.link.recv() => match input {
                    Some(input) => self.on_link(input),
                    None => return,
                },
                received = inputs.wire.recv() => match received {
                    Some(received) => self.on_received(received),
                    None => return,
                },
                Some(report) = inputs.reports.recv() => {
                    self.on_report(report);
                }
                Some(Told { tenant, event }) = inputs.media.recv() => {
                    self.tracer.media(&event);
                    self.control.on_media(tenant.into(), event);
                }
                Some(left) = inputs.leaving.recv() => {
                    self.control.leave(self.now());
                    self.perform();
                    self.left = Some(left);
                }
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            for _ in 0..TURN_MAX {
                let Ok(input) = inputs.link.try_recv() else { break };
                self.on_link(input);
            }
            for _ in 0..TURN_MAX {
                let Ok(received) = inputs.wire.try_recv() else { break };
                self.on_received(received);
            }
            self.on_time();
        }
    }

    fn now(&self) -> Millis {
        let elapsed = self.epoch.elapsed().as_millis();
        Millis(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    fn wake_at(&self) -> Instant {
        let next = self.control.wake_at().map_or(self.gauges_at, |at| at.min(self.gauges_at));
        // A millisecond is counted when it is over: waking within it would find nothing due.
        self.epoch + Duration::from_millis(next.0)
    }

    fn on_received(&mut self, received: Received) {
        let now = self.now();
        self.tracer.received(&received.flow, &received.message);
        let waited_ms = u64::try_from(received.at.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.control.on_turn(now, waited_ms);
        self.control.on_message(now, unix_ms(), &received.flow, received.message);
        self.perform();
    }

    fn on_report(&mut self, report: Report) {
        let now = self.now();
        match report {
            Report::Undelivered(Undelivered { ticket, opened }) => {
                self.control.on_undelivered(now, ticket, opened);
            }
            Report::Closed { remote, connection } => self.control.on_closed(remote, connection),
        }
        self.perform();
    }

    fn on_time(&mut self) {
        let now = self.now();
        self.control.on_time(now);
        self.perform();
        if self.left.is_some() && self.control.has_left() {
            // Where nobody waits any more the process has ended.
            self.left.take().map(|left| left.send(()));
        }
        if now >= self.gauges_at {
            self.gauges_at = now.after(GAUGES_MS);
            self.control.set_gauges();
        }
        let status = self.control.status(now);
        self.status.send_if_modified(|old| {
            let changed = *old != status;
            *old = status;
            changed
        });
    }

    // --- what is to be done ----------------------------------------------------------------------

    fn perform(&mut self) {
        while let Some(output) = self.control.next_output() {
            match output {
                Output::Transmit(transmit) => self.transmit(transmit),
                Output::Up { node, up } => self.send_up(node, up),
                Output::Media { tenant, plan } => {
                    // A tenant's number has sixteen bits; see `tandem_core::world::World`.
                    let tenant = u16::try_from(tenant).unwrap_or_default();
                    if let Err(why) = self.media.apply(tenant, &plan) {
                        metrics::counter!("tandem_media_plans_refused_total").increment(1);
                        tracing::error!(call = %plan.call, why, "TD0304 media plan refused");
                    }
                }
            }
        }
    }

    fn transmit(&mut self, transmit: Transmit) {
        let Transmit { bytes, way, ticket } = transmit;
        self.tracer.sent(self.socket.local(), &way, &bytes);
        match way.carrier {
            Carrier::Udp => self.socket.send(&bytes, way.to),
            Carrier::Tcp { .. }
            | Carrier::Tls { .. }
            | Carrier::Ws { .. }
            | Carrier::Wss { .. } => {
                if let Err(undelivered) = self.streams.send(bytes, &way, ticket) {
                    let now = self.now();
                    self.control.on_undelivered(now, undelivered.ticket, undelivered.opened);
                }
            }
        }
    }

    fn send_up(&mut self, node: usize, up: Up) {
        let Some(slot) = self.ups.get_mut(node) else { return };
        let Some(session) = slot else { return };
        let body = body_of(up);
        if session.try_send(pb::Up { body: Some(body) }).is_err() {
            // A session that takes nothing: hanging up makes its task open a new one.
            *slot = None;
            tracing::warn!(node, up_max = limits::UP_MAX, "stuck");
            self.control.on_session_over(self.now(), node);
        }
    }

    // --- what nodes say --------------------------------------------------------------------------

    fn on_link(&mut self, input: Input) {
        let now = self.now();
        match input {
            Input::Connected { node, up } => {
                if let Some(slot) = self.ups.get_mut(node) {
                    *slot = Some(up);
                    self.control.on_session(now, node);
                }
            }
            Input::Disconnected { node } => {
                if let Some(slot) = self.ups.get_mut(node) {
                    *slot = None;
                }
                self.control.on_session_over(now, node);
            }
            Input::Down { node, body } => {
                if let Some(message) = read(body) {
                    if let Down::Effect { effect, .. } = &message {
                        self.tracer.effect(effect);
                    }
                    self.control.on_down(now, node, message);
                }
            }
        }
        self.perform();
    }
}

fn body_of(up: Up) -> pb::up::Body {
    match up {
        Up::Event { shard, sequence, event } => {
            pb::up::Body::Event(pb::Event { shard, sequence, event: wire::encode_event(&event) })
        }
        Up::Done { shard, effects } => {
            let reference = |id: &tandem_core::effect::EffectId| pb::EffectRef {
                index: id.index,
                ordinal: u32::from(id.ordinal),
            };
            pb::up::Body::Done(pb::Done { shard, effects: effects.iter().map(reference).collect() })
        }
    }
}

/// A node's message as a value; none where it says nothing, or nothing that this build can read.
fn read(body: pb::down::Body) -> Option<Down> {
    match body {
        pb::down::Body::Welcome(welcome) => {
            tracing::debug!(node = welcome.node, version = welcome.version, "welcome");
            None
        }
        pb::down::Body::Leading(pb::Leading { shard, term, leading }) => {
            Some(Down::Leading(Leading { shard, term, leading }))
        }
        pb::down::Body::Accepted(accepted) => Some(Down::Accepted(Accepted {
            shard: accepted.shard,
            sequence: accepted.sequence,
            overloaded: accepted.overloaded,
            retry_after_s: accepted.retry_after_s,
        })),
        pb::down::Body::Effect(message) => match wire::decode_effect(&message.effect) {
            Ok(effect) => Some(Down::Effect {
                shard: message.shard,
                term: message.term,
                effect: Arc::new(effect),
            }),
            Err(error) => {
                // It stays in the outbox until a build that knows it takes over.
                metrics::counter!("tandem_effects_unreadable_total").increment(1);
                tracing::error!(%error, "TD0303 unreadable effect");
                None
            }
        },
        pb::down::Body::Routing(routing) => match wire::decode_config(&routing.config) {
            Ok(config) => Some(Down::Routing(Routing {
                shard: routing.shard,
                all: routing.tenants,
                config: config.into(),
                nonce_key: routing.nonce_key,
            })),
            Err(error) => {
                tracing::error!(%error, "TD0302 the routing can't be read");
                None
            }
        },
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
