//! All properties of the world, checked after each entry that a replica is the first to apply.

use std::collections::BTreeMap;

use tandem_core::command::Envelope;
use tandem_core::ids::EntityId;
use tandem_core::{Applied, Meta, World};

use crate::coverage::Coverage;
use crate::plan::Settings;
use crate::violation::Checked;
use crate::{
    inv_acknowledged, inv_consult, inv_core, inv_deadlines, inv_early_media, inv_fence, inv_flows,
    inv_keys, inv_offers, inv_order, inv_outbox, inv_outward, inv_pairs, inv_pickups, inv_quality,
    inv_records, inv_reliable, inv_resources, inv_time, inv_transfers, inv_transitions,
    inv_watchers,
};

/// One entry, and what it came to.
pub struct Step<'a> {
    /// After it.
    pub world: &'a World,
    pub meta: &'a Meta,
    pub envelope: &'a Envelope,
    pub applied: &'a Applied,
    pub settings: &'a Settings,
    /// Where the command is a deadline: it had passed before.
    pub was_due: bool,
}

#[derive(Debug, Default)]
pub struct Watch {
    pub acknowledged: inv_acknowledged::Acknowledged,
    pub fence: inv_fence::Fences,
    pub flows: inv_flows::Flows,
    pub records: inv_records::Records,
    consults: inv_consult::Consults,
    early_media: inv_early_media::EarlyMedia,
    keys: inv_keys::Keys,
    offers: inv_offers::Offers,
    pickups: inv_pickups::PickUps,
    reliables: inv_reliable::Reliables,
    qualities: inv_quality::Qualities,
    order: inv_order::Order,
    outward: inv_outward::Outward,
    time: inv_time::Time,
    transfers: inv_transfers::Transfers,
    transitions: inv_transitions::Transitions,
    watchers: inv_watchers::Watchers,
    /// The last entry that changed an entity; kept only for a planted bug.
    touched: BTreeMap<EntityId, u64>,
    keeps_touched: bool,
}

impl Watch {
    pub fn new(keeps_touched: bool) -> Self {
        Self { keeps_touched, ..Self::default() }
    }

    /// The property that does not hold, and a sentence.
    ///
    /// # Errors
    /// The first of them.
    pub fn after(
        &mut self,
        step: &Step<'_>,
        coverage: &mut Coverage,
    ) -> Result<(), (&'static str, String)> {
        let named = |name: &'static str| move |what: String| (name, what);
        if self.keeps_touched {
            for entity in &step.applied.touched {
                self.touched.insert(entity.clone(), step.meta.index);
            }
        }
        inv_core::after(step).map_err(named("core"))?;
        self.time.after(step).map_err(named("time"))?;
        self.acknowledged.after(step);
        self.records.after(step).map_err(named("records"))?;
        self.qualities.after(step).map_err(named("quality"))?;
        self.keys.after(step).map_err(named("keys"))?;
        self.offers.after(step).map_err(named("offers"))?;
        self.flows.after(step, coverage).map_err(named("flows"))?;
        self.order.after(step).map_err(named("order"))?;
        self.outward.after(step, coverage).map_err(named("outward"))?;
        self.early_media.after(step, coverage).map_err(named("early media"))?;
        self.pickups.after(step, coverage).map_err(named("pickups"))?;
        self.reliables.after(step).map_err(named("PRACK"))?;
        self.transfers.after(step, coverage).map_err(named("transfers"))?;
        self.consults.after(step, coverage).map_err(named("consultations"))?;
        self.transitions.after(step, coverage).map_err(named("transitions"))?;
        self.watchers.after(step).map_err(named("watchers"))?;
        inv_deadlines::after(step).map_err(named("deadlines"))?;
        inv_outbox::after(step).map_err(named("outbox"))?;
        inv_pairs::after(step).map_err(named("pairs"))?;
        inv_resources::after(step).map_err(named("resources"))
    }

    pub fn touched_at(&self, entity: &EntityId) -> u64 {
        self.touched.get(entity).copied().unwrap_or_default()
    }

    /// Everything is over.
    ///
    /// # Errors
    /// A sentence.
    pub fn at_rest(&self) -> Checked {
        self.records.at_rest(&self.acknowledged)
    }
}
