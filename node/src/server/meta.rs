//! What the meta shard holds for this version: the tenant's configuration and the key of the
//! digest nonces. Whoever leads it puts them there; every node reads them.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use tandem_cluster::meta::MetaState;
use tandem_core::config::{Config, Secret, Srtp};
use tandem_core::wire;
use tandem_gateway::link::pb;
use tokio::sync::watch;

/// The tenant's configuration, as `tandem_core::wire` writes it.
pub const CONFIG: &str = "tenant/config";
/// 32 random bytes. Never logged.
pub const NONCE_KEY: &str = "nonce_key";
/// How many tenant shards the cluster was made with: a tenant is where that puts it.
pub const SHARDS: &str = "cluster/shards";
const SECRET_BYTES: usize = 32;

/// The meta shard's keys and values.
#[async_trait]
pub trait Meta: Send + Sync + 'static {
    /// From this node's own replica.
    fn get(&self, key: &str) -> Option<Vec<u8>>;
    /// Answered when it is committed; only the leader may.
    async fn put(&self, key: &str, value: Vec<u8>) -> Result<()>;
    /// True while this node leads the meta shard.
    fn leads(&self) -> watch::Receiver<bool>;
    /// Changes whenever something was applied to this node's replica.
    fn applied(&self) -> watch::Receiver<u64>;
}

/// Writes what is missing or has been changed in the file, each time this node comes to lead.
pub async fn keep(meta: Arc<dyn Meta>, given: Config, shards: u16) {
    let mut leads = meta.leads();
    while leads.wait_for(|leads| *leads).await.is_ok() {
        if let Err(error) = write(meta.as_ref(), &given, shards).await {
            // Another leads by now, or nobody can; the next leader does the same.
            tracing::warn!(%error, "the meta shard was not written");
        }
        if leads.wait_for(|leads| !*leads).await.is_err() {
            return;
        }
    }
}

async fn write(meta: &dyn Meta, given: &Config, shards: u16) -> Result<()> {
    if meta.get(SHARDS).is_none() {
        let shards = shards.to_be_bytes().to_vec();
        meta.put(SHARDS, shards).await.context("the number of shards")?;
    }
    if meta.get(NONCE_KEY).is_none() {
        let key: [u8; SECRET_BYTES] = rand::random();
        meta.put(NONCE_KEY, key.to_vec()).await.context("the nonce key")?;
    }
    let stored = meta.get(CONFIG).and_then(|bytes| wire::decode_config(&bytes).ok());
    if let Some(wanted) = wanted(stored.as_ref(), given, fresh_secret) {
        tracing::info!(version = wanted.version, tenant = %wanted.tenant, "configuration changed");
        meta.put(CONFIG, wire::encode_config(&wanted)).await.context("the configuration")?;
    }
    Ok(())
}

/// Once this node knows that the cluster has another number of shards than its file says: that one.
pub async fn other_shards(meta: Arc<dyn Meta>, shards: u16) -> u16 {
    let mut applied = meta.applied();
    loop {
        applied.mark_unchanged();
        let known = meta.get(SHARDS).and_then(|known| known.try_into().ok());
        if let Some(known) = known.map(u16::from_be_bytes)
            && known != shards
        {
            return known;
        }
        if applied.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

pub fn wrong_shards(known: u16, asked: u16) -> anyhow::Error {
    anyhow::anyhow!(
        "cluster.shards is {asked}, but this cluster was made with {known}, which can't be changed"
    )
}

fn fresh_secret() -> Secret {
    let secret: [u8; SECRET_BYTES] = rand::random();
    Secret::new(secret.to_vec())
}

/// The configuration that has to be stored, where it is another than the stored one. Its secret is
/// drawn once: keys of live calls follow from it.
fn wanted(
    stored: Option<&Config>,
    given: &Config,
    draw: impl FnOnce() -> Secret,
) -> Option<Config> {
    let version = stored.map_or(1, |stored| stored.version);
    let known = stored.map(|stored| stored.srtp.secret.clone());
    let secret = known.filter(|secret| !secret.bytes().is_empty()).unwrap_or_else(draw);
    let srtp = Srtp { secret, ..given.srtp };
    let mut wanted = Config { version, srtp, ..given.clone() };
    match stored {
        Some(stored) if *stored == wanted => None,
        Some(_) => {
            wanted.version += 1;
            Some(wanted)
        }
        None => Some(wanted),
    }
}

/// What gateways are told of the tenant, once it is there.
pub fn routing(meta: &dyn Meta, shard: u16) -> Vec<pb::Routing> {
    match (meta.get(CONFIG), meta.get(NONCE_KEY)) {
        (Some(config), Some(nonce_key)) => {
            vec![pb::Routing { config, shard: u32::from(shard), nonce_key }]
        }
        (_, _) => Vec::new(),
    }
}

/// The tenants by their numbers, and their names.
pub fn tenants(meta: &MetaState) -> Vec<(u16, String)> {
    let config = meta.get(CONFIG).and_then(|bytes| wire::decode_config(&bytes).ok());
    config.map(|config| (0, config.tenant)).into_iter().collect()
}

/// The tenant's configuration, for the leader of its shard to propose.
pub fn config(meta: &dyn Meta) -> Option<Config> {
    let bytes = meta.get(CONFIG)?;
    wire::decode_config(&bytes)
        .inspect_err(|error| tracing::error!(%error, "TD0203 the configuration can't be read"))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seven() -> Secret {
        Secret::new(vec![7; SECRET_BYTES])
    }

    fn never() -> Secret {
        panic!("a secret is drawn once")
    }

    #[test]
    fn configuration_is_stored_once_when_it_stays_the_same() {
        let given = tandem_core::demo::demo_config();
        let first = wanted(None, &given, seven).unwrap();
        assert_eq!((first.version, &first.srtp.secret), (1, &seven()));
        assert_eq!(wanted(Some(&first), &given, never), None);
    }

    #[test]
    fn configuration_gets_a_new_version_and_keeps_its_secret_when_the_file_was_changed() {
        let given = tandem_core::demo::demo_config();
        let stored = Config { version: 4, ..wanted(None, &given, seven).unwrap() };
        let changed = Config { acw_ms: 5_000, ..given };
        let next = wanted(Some(&stored), &changed, never).unwrap();
        assert_eq!((next.version, next.srtp.secret), (5, seven()));
    }

    #[test]
    fn configuration_of_before_there_was_a_secret_gets_one() {
        let given = tandem_core::demo::demo_config();
        let next = wanted(Some(&given), &given, seven).unwrap();
        assert_eq!(next.srtp.secret, seven());
    }
}
