//! A shard and a meta shard without consensus, in memory: the twin that tests of the node use.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use anyhow::Result;
use async_trait::async_trait;
use parking_lot::Mutex;
use tandem_core::command::{Command, Envelope, GatewayEvent, Origin};
use tandem_core::effect::EffectId;
use tandem_core::ids::{EntityId, GatewayId};
use tandem_core::rows;
use tandem_core::world::{Meta as At, Reply, World};
use tandem_lease::clock;
use tandem_sip::Millis;
use tokio::sync::watch;

use super::meta::Meta;
use super::records::Rows;
use super::shard::{Error, Lead, Records, Shard};

pub struct Solo {
    state: Mutex<State>,
    lead: watch::Sender<Lead>,
    cut_off: AtomicBool,
}

struct State {
    world: World,
    rows: BTreeMap<(&'static str, Vec<u8>), Vec<u8>>,
}

impl Default for Solo {
    fn default() -> Self {
        Self {
            state: Mutex::new(State { world: World::new(0), rows: BTreeMap::new() }),
            lead: watch::Sender::new(Lead::default()),
            cut_off: AtomicBool::new(false),
        }
    }
}

impl Solo {
    pub fn take_lead(&self, here: bool) {
        self.lead.send_modify(|lead| *lead = Lead { term: lead.term + 1, here });
    }

    /// It goes on to take itself for the leader.
    pub fn cut_off(&self) {
        self.cut_off.store(true, Relaxed);
    }

    fn apply(&self, origin: Option<Origin>, command: Command) -> Reply {
        let state = &mut *self.state.lock();
        let index = state.world.index + 1;
        let at = Millis(1_795_521_600_000 + index);
        let at = At { at, seed: index, version: 1, shard: 0, index, term: 1 };
        let envelope = Envelope {
            at: at.at,
            seed: at.seed,
            version: at.version,
            origin,
            done: Vec::new(),
            command,
        };
        let applied = state.world.apply(&at, &envelope);
        for row in applied.rows {
            match row.value {
                Some(value) => state.rows.insert((row.family, row.key), value),
                None => state.rows.remove(&(row.family, row.key)),
            };
        }
        applied.reply
    }
}

#[async_trait]
impl Shard for Solo {
    fn id(&self) -> u16 {
        0
    }

    fn lead(&self) -> watch::Receiver<Lead> {
        self.lead.subscribe()
    }

    async fn confirm(&self) -> Result<(), Error> {
        if self.cut_off.load(Relaxed) { Err(Error::Unconfirmed) } else { Ok(()) }
    }

    fn look(&self, at: &mut dyn FnMut(&World)) {
        at(&self.state.lock().world);
    }

    async fn propose(&self, command: Command) -> Result<Reply, Error> {
        if !self.lead.borrow().here {
            return Err(Error::NotLeading);
        }
        Ok(self.apply(None, command))
    }

    fn on_event(&self, origin: Origin, event: GatewayEvent) {
        self.apply(Some(origin), Command::Gateway(event));
    }

    fn on_done(&self, _gateway: &GatewayId, _effects: Vec<EffectId>) {}

    fn on_session(&self, _gateway: &GatewayId) {}

    fn records(&self, records: Records) -> Box<dyn Rows + '_> {
        let family = match records {
            Records::Cdrs => rows::CDRS,
            Records::Recordings => rows::RECORDINGS,
            Records::Qualities => rows::QUALITIES,
        };
        let state = self.state.lock();
        let of_family = state.rows.iter().filter(|((known, _), _)| *known == family);
        Box::new(Copied(of_family.map(|((_, key), value)| (key.clone(), value.clone())).collect()))
    }

    fn panic_actor(&self, entity: &EntityId) -> bool {
        self.state.lock().world.has(entity)
    }
}

struct Copied(BTreeMap<Vec<u8>, Vec<u8>>);

impl Rows for Copied {
    fn scan_down(&self, before: Option<&[u8]>, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) {
        let below = |key: &Vec<u8>| before.is_none_or(|before| key.as_slice() < before);
        for (key, value) in self.0.iter().rev().filter(|(key, _)| below(key)) {
            if !visit(key, value) {
                return;
            }
        }
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.get(key).cloned()
    }
}

#[derive(Default)]
pub struct SoloMeta {
    values: Mutex<BTreeMap<String, Vec<u8>>>,
    lead: watch::Sender<Lead>,
    applied: watch::Sender<u64>,
}

impl SoloMeta {
    pub fn lose_lead(&self) {
        self.lead.send_modify(|lead| lead.here = false);
    }

    pub fn take_lead(&self) {
        self.lead.send_modify(|lead| *lead = Lead { term: lead.term + 1, here: true });
    }
}

#[async_trait]
impl Meta for SoloMeta {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.values.lock().get(key).cloned()
    }

    fn under(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let values = self.values.lock();
        let under = values.iter().filter(|(key, _)| key.starts_with(prefix));
        under.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    async fn replace(
        &self,
        key: &str,
        known: Option<Vec<u8>>,
        value: Vec<u8>,
        also: Vec<(String, Vec<u8>)>,
    ) -> Result<bool> {
        let mut values = self.values.lock();
        if values.get(key) != known.as_ref() {
            return Ok(false);
        }
        values.insert(key.to_owned(), value);
        values.extend(also);
        self.applied.send_modify(|applied| *applied += 1);
        Ok(true)
    }

    async fn put(&self, key: &str, value: Vec<u8>) -> Result<()> {
        self.values.lock().insert(key.to_owned(), value);
        self.applied.send_modify(|applied| *applied += 1);
        Ok(())
    }

    fn lead(&self) -> watch::Receiver<Lead> {
        self.lead.subscribe()
    }

    fn reigns_since_ms(&self) -> u64 {
        clock::boot_ms()
    }

    async fn confirm(&self) -> Result<()> {
        anyhow::ensure!(self.lead.borrow().here, "it does not lead");
        Ok(())
    }

    fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }
}
