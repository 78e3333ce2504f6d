//! A gateway that consists of its link: it logs in to both nodes, obeys the one that leads, and brings its
//! events again until they count, as the real one does.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use tandem_core::command::GatewayEvent;
use tandem_core::wire;
use tandem_gateway::Certificates;
use tandem_gateway::link::client::{Dial, Heard, places};
use tandem_gateway::link::pb;
use tandem_gateway::link::session::{self, Input};
use tandem_gateway::options::Node;
use tandem_pki::Files;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

/// Messages of nodes that wait to be read.
const DOWN_MAX: usize = 8_192;
/// As a real gateway tells what it has done.
const DONE_BATCH_MAX: usize = 64;
const DONE_WAIT: Duration = Duration::from_millis(5);
/// What nobody answers is said again.
const AGAIN: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(500);
const SHARD: u32 = 0;

pub struct Gateway {
    shared: Arc<Mutex<Shared>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// The way to each node with a session.
    ups: Vec<Option<mpsc::Sender<pb::Up>>>,
    /// Nodes that say that they lead, with their terms.
    leading: BTreeMap<usize, u64>,
    said: u64,
    /// What does not count yet, by sequence.
    waiting: BTreeMap<u64, Waiting>,
}

struct Waiting {
    event: Vec<u8>,
    sent: Instant,
    counted: oneshot::Sender<()>,
}

impl Shared {
    fn leader(&self) -> Option<&mpsc::Sender<pb::Up>> {
        let (node, _) = self.leading.iter().max_by_key(|(_, term)| **term)?;
        self.ups.get(*node)?.as_ref()
    }

    fn send(&self, body: pb::up::Body) {
        if let Some(up) = self.leader() {
            // A session that takes no more is about to end, and what it lacks comes again.
            let _ = up.try_send(pb::Up { body: Some(body) });
        }
    }

    fn send_event(&self, sequence: u64, event: &[u8]) {
        let event = event.to_vec();
        self.send(pb::up::Body::Event(pb::Event { shard: SHARD, sequence, event }));
    }

    /// All that was sent `before` does not count yet.
    fn send_again(&mut self, before: Instant) {
        let now = Instant::now();
        let mut again = Vec::new();
        for (sequence, waiting) in &mut self.waiting {
            if waiting.sent <= before {
                waiting.sent = now;
                again.push((*sequence, waiting.event.clone()));
            }
        }
        for (sequence, event) in again {
            self.send_event(sequence, &event);
        }
    }
}

impl Gateway {
    /// `pki` has its certificate.
    pub fn start(
        name: &str,
        incarnation: u64,
        vip: &str,
        nodes: &[Node],
        pki: &Path,
    ) -> Result<Self> {
        let files = Files {
            ca: pki.join("ca.pem"),
            certificate: pki.join(format!("{name}.pem")),
            key: pki.join(format!("{name}.key")),
        };
        let tls = Certificates::open(files, name)?;
        let hello = pb::Hello {
            gateway: name.to_owned(),
            incarnation,
            version: "bench".into(),
            vip: vip.to_owned(),
        };
        let ask =
            pb::Ask { process: name.to_owned(), incarnation, number: 1, ..Default::default() };
        let clients = places();
        let (inputs, control) = mpsc::channel(DOWN_MAX);
        let (heard, hears) = mpsc::channel(DOWN_MAX);
        let shared = Arc::new(Mutex::new(Shared {
            ups: nodes.iter().map(|_| None).collect(),
            ..Shared::default()
        }));
        let mut tasks = vec![
            tokio::spawn(obey(Arc::clone(&shared), control)),
            tokio::spawn(session::keep(Arc::clone(&clients), hello, inputs)),
            tokio::spawn(ask_once(hears, ask)),
        ];
        for (at, node) in nodes.iter().enumerate() {
            let dial = Dial::new(at, node, Some(&tls))?;
            tasks.push(tokio::spawn(dial.keep(Arc::clone(&clients), heard.clone())));
        }
        Ok(Self { shared, tasks })
    }

    /// Returns when the event counts, whoever leads then.
    pub async fn tell(&self, event: &GatewayEvent) -> Result<()> {
        let event = wire::encode_event(event);
        let (counted, counts) = oneshot::channel();
        {
            let mut shared = self.shared.lock();
            shared.said += 1;
            let sequence = shared.said;
            shared.send_event(sequence, &event);
            shared.waiting.insert(sequence, Waiting { event, sent: Instant::now(), counted });
        }
        counts.await.context("the gateway has ended")
    }

    /// Whether every node has a session, and one of them leads.
    pub fn is_up(&self) -> bool {
        let shared = self.shared.lock();
        shared.ups.iter().all(Option::is_some) && shared.leader().is_some()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// Who it is, it has to say. It serves no address, so that it keeps no lease; the ways to ask are held open.
async fn ask_once(mut hears: mpsc::Receiver<Heard>, ask: pb::Ask) {
    let mut asks = Vec::new();
    while let Some(heard) = hears.recv().await {
        if let Heard::Connected { asks: open, .. } = heard {
            // It can only fail when the node has gone again.
            let _ = open.try_send(ask.clone());
            asks.retain(|known: &mpsc::Sender<pb::Ask>| !known.is_closed());
            asks.push(open);
        }
    }
}

async fn obey(shared: Arc<Mutex<Shared>>, mut inputs: mpsc::Receiver<Input>) {
    let mut done = Vec::new();
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let waits = !done.is_empty();
        tokio::select! {
            input = inputs.recv() => match input {
                Some(input) => on_input(&shared, input, &mut done),
                None => return,
            },
            () = tokio::time::sleep(DONE_WAIT), if waits => flush(&shared, &mut done),
            _ = look.tick() => {
                if let Some(before) = Instant::now().checked_sub(AGAIN) {
                    shared.lock().send_again(before);
                }
            }
        }
        if done.len() >= DONE_BATCH_MAX {
            flush(&shared, &mut done);
        }
    }
}

fn flush(shared: &Mutex<Shared>, done: &mut Vec<pb::EffectRef>) {
    let effects = std::mem::take(done);
    shared.lock().send(pb::up::Body::Done(pb::Done { shard: SHARD, effects }));
}

fn on_input(shared: &Mutex<Shared>, input: Input, done: &mut Vec<pb::EffectRef>) {
    match input {
        Input::Connected { node, up } => {
            if let Some(slot) = shared.lock().ups.get_mut(node) {
                *slot = Some(up);
            }
        }
        Input::Disconnected { node } => {
            let mut shared = shared.lock();
            shared.leading.remove(&node);
            if let Some(slot) = shared.ups.get_mut(node) {
                *slot = None;
            }
        }
        Input::Down { node, body: pb::down::Body::Leading(now) } if now.shard == SHARD => {
            let mut shared = shared.lock();
            if now.leading {
                shared.leading.insert(node, now.term);
                shared.send_again(Instant::now());
            } else {
                shared.leading.remove(&node);
            }
        }
        Input::Down { body: pb::down::Body::Accepted(accepted), .. } => {
            // What is refused for now stays, and is said again.
            if accepted.shard == SHARD && !accepted.overloaded {
                let counts = shared.lock().waiting.remove(&accepted.sequence);
                // Whoever asked may have gone.
                counts.map(|waiting| waiting.counted.send(()));
            }
        }
        Input::Down { body: pb::down::Body::Effect(message), .. } => {
            if let Ok(effect) = wire::decode_effect(&message.effect) {
                let (index, ordinal) = (effect.id.index, u32::from(effect.id.ordinal));
                done.push(pb::EffectRef { index, ordinal });
            }
        }
        Input::Down { .. } => {}
    }
}
