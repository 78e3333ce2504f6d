//! What a node does by itself, besides answering: it tells gateways who leads and what they may
//! cache, and gives each shard that it leads its tenant's configuration.

use std::sync::Arc;

use tandem_core::command::Command;
use tandem_core::leases::Leases;
use tandem_core::world::Reply;
use tandem_gateway::link::pb;
use tokio::sync::watch;

use super::meta::{self, Meta};
use super::shard::Shard;
use super::tenants::FIRST;

/// Turns a shard's leadership into what sessions send, beside that of others.
pub async fn tell_leading(shard: Arc<dyn Shard>, told: watch::Sender<Vec<pb::Leading>>) {
    let mut lead = shard.lead();
    loop {
        let now = *lead.borrow_and_update();
        let number = u32::from(shard.id());
        let leading = pb::Leading { shard: number, term: now.term, leading: now.here };
        told.send_if_modified(|told| {
            let at = told.partition_point(|known| known.shard < number);
            match told.get_mut(at).filter(|known| known.shard == number) {
                Some(known) if *known == leading => false,
                Some(known) => {
                    *known = leading;
                    true
                }
                None => {
                    told.insert(at, leading);
                    true
                }
            }
        });
        if lead.changed().await.is_err() {
            return;
        }
    }
}

/// Turns what the meta shard holds into what sessions send.
pub async fn tell_routing(meta: Arc<dyn Meta>, told: watch::Sender<Vec<pb::Routing>>) {
    let mut applied = meta.applied();
    loop {
        applied.mark_unchanged();
        let routing = meta::routing(meta.as_ref());
        told.send_if_modified(|told| {
            let changed = *told != routing;
            *told = routing;
            changed
        });
        if applied.changed().await.is_err() {
            return;
        }
    }
}

/// While this node leads the shard, its world has the configuration of the meta shard.
pub async fn configure(shard: Arc<dyn Shard>, meta: Arc<dyn Meta>) {
    let mut applied = meta.applied();
    let mut lead = shard.lead();
    loop {
        applied.mark_unchanged();
        lead.mark_unchanged();
        if lead.borrow().here
            && let Some(config) = meta::config(meta.as_ref(), shard.id())
            && version_of(shard.as_ref()) != Some(config.version)
            && uses_its_own(shard.as_ref()).await
        {
            let version = config.version;
            match shard.propose(Command::Configure(Box::new(config))).await {
                Ok(Reply::Done) => tracing::info!(version, "the shard has its configuration"),
                Ok(Reply::Rejected(rejection)) => {
                    tracing::error!(version, %rejection, "TD0204 the configuration was refused");
                }
                // The next leader does it.
                Err(error) => tracing::warn!(version, %error, "the shard was not configured"),
            }
        }
        tokio::select! {
            changed = applied.changed() => if changed.is_err() { return },
            changed = lead.changed() => if changed.is_err() { return },
        }
    }
}

/// Of what tenants share, none but the first uses what was not leased to it: not for a moment.
async fn uses_its_own(shard: &dyn Shard) -> bool {
    let mut is_leased = shard.id() == FIRST;
    shard.look(&mut |world| is_leased |= world.leases.is_some());
    let lease = async || shard.propose(Command::Lease(Leases::default())).await;
    is_leased || lease().await == Ok(Reply::Done)
}

fn version_of(shard: &dyn Shard) -> Option<u64> {
    let mut version = None;
    shard.look(&mut |world| version = world.config.as_ref().map(|config| config.version));
    version
}
