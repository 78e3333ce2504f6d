//! What the meta shard holds for this version: the tenants' configurations and the key of the
//! digest nonces. Whoever leads it puts there what the file says; every node reads them.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use tandem_core::config::{Config, Number, Secret, Srtp};
use tandem_core::wire;
use tandem_gateway::link::pb;
use tokio::sync::watch;

use super::shard::Lead;
use super::tenants::FIRST;

/// The first tenant's configuration, as `tandem_core::wire` writes it; others' have their number behind it, in
/// five digits.
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
    /// What is under the keys that begin so, in their order.
    fn under(&self, prefix: &str) -> Vec<(String, Vec<u8>)>;
    /// Answered when it is committed; only the leader may.
    async fn put(&self, key: &str, value: Vec<u8>) -> Result<()>;
    /// From any node: puts it, and the others with it, where the key's value is still what was `known`. False
    /// where it is another.
    async fn replace(
        &self,
        key: &str,
        known: Option<Vec<u8>>,
        value: Vec<u8>,
        also: Vec<(String, Vec<u8>)>,
    ) -> Result<bool>;
    /// Who leads the meta shard, as this node knows it.
    fn lead(&self) -> watch::Receiver<Lead>;
    /// Where this node leads, since when it alone can have renewed leases, by the boot clock.
    fn reigns_since_ms(&self) -> u64;
    /// Where it succeeds, this node leads and what its replica has is no older than the call.
    async fn confirm(&self) -> Result<()>;
    /// Changes whenever something was applied to this node's replica.
    fn applied(&self) -> watch::Receiver<u64>;
}

/// Writes what is missing or has been changed in the file, each time this node comes to lead.
pub async fn keep(meta: Arc<dyn Meta>, given: Config, shards: u16) {
    let mut leads = meta.lead();
    while leads.wait_for(|lead| lead.here).await.is_ok() {
        if let Err(error) = write(meta.as_ref(), &given, shards).await {
            // Another leads by now, or nobody can; the next leader does the same.
            tracing::warn!(%error, "the meta shard was not written");
        }
        if leads.wait_for(|lead| !lead.here).await.is_err() {
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
        if let Some(why) = clash(FIRST, given, &others(meta)) {
            tracing::error!(
                why,
                "TD0212 the file's tenant stays as it was: it clashes with another"
            );
            return Ok(());
        }
        tracing::info!(version = wanted.version, tenant = %wanted.tenant, "configuration changed");
        meta.put(CONFIG, wire::encode_config(&wanted)).await.context("the configuration")?;
    }
    Ok(())
}

fn others(meta: &dyn Meta) -> BTreeMap<u16, Config> {
    let all = configs(meta).into_iter();
    all.filter_map(|(number, stored)| Some((number, read_config(&stored)?))).collect()
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

pub fn fresh_secret() -> Secret {
    let secret: [u8; SECRET_BYTES] = rand::random();
    Secret::new(secret.to_vec())
}

/// The configuration that has to be stored, where it is another than the stored one. Its secret is
/// drawn once: keys of live calls follow from it.
pub fn wanted(
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

/// Where a tenant's configuration is.
pub fn config_key(number: u16) -> String {
    if number == FIRST { CONFIG.to_owned() } else { format!("{CONFIG}/{number:05}") }
}

/// Each tenant's configuration as it is stored, by number.
pub fn configs(meta: &dyn Meta) -> BTreeMap<u16, Vec<u8>> {
    configs_of(meta.under(CONFIG))
}

/// The same, of what is under [`CONFIG`].
pub fn configs_of(under: Vec<(String, Vec<u8>)>) -> BTreeMap<u16, Vec<u8>> {
    let number = |key: &str| match key.strip_prefix(CONFIG)?.strip_prefix('/') {
        Some(digits) => digits.parse().ok(),
        None => (key == CONFIG).then_some(FIRST),
    };
    under.into_iter().filter_map(|(key, stored)| Some((number(&key)?, stored))).collect()
}

/// What gateways are told of each tenant, once the first is there.
pub fn routing(meta: &dyn Meta) -> Vec<pb::Routing> {
    let (configs, nonce_key) = (configs(meta), meta.get(NONCE_KEY));
    let Some(nonce_key) = nonce_key.filter(|_| configs.contains_key(&FIRST)) else {
        return Vec::new();
    };
    let tenants: Vec<u32> = configs.keys().copied().map(u32::from).collect();
    let of = |(number, config): (u16, Vec<u8>)| pb::Routing {
        config,
        shard: number.into(),
        nonce_key: nonce_key.clone(),
        tenants: tenants.clone(),
    };
    configs.into_iter().map(of).collect()
}

/// A tenant's configuration, for the leader of its shard to propose.
pub fn config(meta: &dyn Meta, number: u16) -> Option<Config> {
    read_config(&meta.get(&config_key(number))?)
}

pub fn read_config(stored: &[u8]) -> Option<Config> {
    wire::decode_config(stored)
        .inspect_err(|error| tracing::error!(%error, "TD0203 the configuration can't be read"))
        .ok()
}

/// Why a tenant can't be beside the others: a gateway could not say whose a request is.
pub fn clash(number: u16, given: &Config, all: &BTreeMap<u16, Config>) -> Option<String> {
    let others = all.iter().filter(|(other, _)| **other != number);
    others.map(|(_, other)| other).find_map(|other| {
        let name = &other.tenant;
        if *name == given.tenant {
            return Some(format!("there is another tenant {name}"));
        }
        if other.realm.eq_ignore_ascii_case(&given.realm) {
            return Some(format!("the realm {} is that of tenant {name}", given.realm));
        }
        let pairs = given
            .trunks
            .iter()
            .flat_map(|ours| other.trunks.iter().map(move |theirs| (ours, theirs)));
        for (ours, theirs) in pairs {
            if ours.shared && theirs.shared && ours.id == theirs.id {
                let (has, theirs) = (ours.channels, theirs.channels);
                if has != theirs {
                    let id = &ours.id;
                    return Some(format!(
                        "trunk {id} has {theirs} channels with {name}, and {has} here"
                    ));
                }
            }
            let same = ours.sources.iter().any(|source| theirs.sources.contains(source))
                || (ours.sources.is_empty() && theirs.sources.is_empty());
            let known = |digits: &str| other.numbers.iter().any(|it| it.digits == digits);
            let twice = given.numbers.iter().find(|it| same && known(&it.digits));
            if let Some(Number { digits, .. }) = twice {
                let id = &ours.id;
                return Some(format!(
                    "number {digits} is one of tenant {name}, and trunk {id} is of both"
                ));
            }
        }
        None
    })
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
    fn tenants_that_a_gateway_could_not_tell_apart_are_refused() {
        let demo = tandem_core::demo::demo_config();
        let all = BTreeMap::from([(0, demo.clone())]);
        assert_eq!(clash(0, &demo, &all), None, "itself");
        let mut other =
            Config { tenant: "acme".into(), realm: "acme.example".into(), ..demo.clone() };
        other.numbers.retain(|number| number.digits == "4003");
        let why = |config: &Config| clash(1, config, &all).unwrap_or_default();
        assert_eq!(why(&other), "number 4003 is one of tenant demo, and trunk carrier is of both");
        other.trunks[0].sources = vec!["192.0.2.1".parse().unwrap()];
        assert_eq!(why(&other), "");
        let realm = Config { realm: demo.realm.to_ascii_uppercase(), ..other.clone() };
        assert!(why(&realm).ends_with("is that of tenant demo"), "{}", why(&realm));
        assert_eq!(
            why(&Config { tenant: "demo".into(), ..other.clone() }),
            "there is another tenant demo"
        );
        let mut all = all.clone();
        all.get_mut(&0).unwrap().trunks[0].shared = true;
        (other.trunks[0].shared, other.trunks[0].channels) = (true, 30);
        let why = clash(1, &other, &all).unwrap();
        assert_eq!(why, "trunk carrier has 120 channels with demo, and 30 here");
    }

    #[test]
    fn configuration_of_before_there_was_a_secret_gets_one() {
        let given = tandem_core::demo::demo_config();
        let next = wanted(Some(&given), &given, seven).unwrap();
        assert_eq!(next.srtp.secret, seven());
    }
}
