//! The tenants that the meta shard names, each with its shard on this node.

use std::collections::BTreeMap;
use std::sync::Arc;

use tandem_core::config::Config;
use tandem_core::leases::Pool;
use tokio::sync::watch;

use super::meta::{self, Meta};
use super::shard::Shard;

/// The one of the file, which every cluster has.
pub const FIRST: u16 = 0;

pub struct Tenant {
    pub shard: Arc<dyn Shard>,
    /// None: this node does not know it yet, or can't read it.
    pub config: Option<Arc<Config>>,
    stored: Option<Vec<u8>>,
}

impl Tenant {
    /// Empty where it is not known.
    pub fn name(&self) -> &str {
        self.config.as_ref().map_or("", |config| &config.tenant)
    }
}

pub type All = BTreeMap<u16, Arc<Tenant>>;

pub struct Tenants {
    known: watch::Sender<Arc<All>>,
}

impl Tenants {
    /// Follows the meta shard. `of` gives a tenant's shard; `begin` starts what serves it.
    pub fn start(
        meta: Arc<dyn Meta>,
        of: impl Fn(u16) -> Arc<dyn Shard> + Send + 'static,
        begin: impl Fn(&Arc<Self>, Arc<dyn Shard>) + Send + 'static,
    ) -> Arc<Self> {
        let first = Tenant { shard: of(FIRST), config: None, stored: None };
        let begun = Arc::clone(&first.shard);
        let all = All::from([(FIRST, Arc::new(first))]);
        let tenants = Arc::new(Self { known: watch::Sender::new(Arc::new(all)) });
        begin(&tenants, begun);
        let follows = Arc::clone(&tenants);
        tokio::spawn(async move {
            let mut applied = meta.applied();
            loop {
                applied.mark_unchanged();
                for new in follows.learn(meta.as_ref(), &of) {
                    begin(&follows, new);
                }
                if applied.changed().await.is_err() {
                    return;
                }
            }
        });
        tenants
    }

    /// The shards of those that are new.
    fn learn(&self, meta: &dyn Meta, of: &impl Fn(u16) -> Arc<dyn Shard>) -> Vec<Arc<dyn Shard>> {
        let mut all = (*self.all()).clone();
        let mut new = Vec::new();
        let mut changed = false;
        for (number, stored) in meta::configs(meta) {
            let known = all.get(&number);
            if known.is_some_and(|known| known.stored.as_ref() == Some(&stored)) {
                continue;
            }
            changed = true;
            let shard = match known {
                Some(known) => Arc::clone(&known.shard),
                None => {
                    let shard = of(number);
                    new.push(Arc::clone(&shard));
                    shard
                }
            };
            let config = meta::read_config(&stored).map(Arc::new);
            all.insert(number, Arc::new(Tenant { shard, config, stored: Some(stored) }));
        }
        if changed {
            self.known.send_replace(Arc::new(all));
        }
        new
    }

    pub fn all(&self) -> Arc<All> {
        self.known.borrow().clone()
    }

    pub fn count(&self) -> usize {
        self.known.borrow().len()
    }

    pub fn get(&self, number: u16) -> Option<Arc<dyn Shard>> {
        self.known.borrow().get(&number).map(|tenant| Arc::clone(&tenant.shard))
    }

    /// By name; without one the first.
    pub fn find(&self, name: &str) -> Option<Arc<dyn Shard>> {
        if name.is_empty() {
            return self.get(FIRST);
        }
        let all = self.all();
        all.values().find(|tenant| tenant.name() == name).map(|tenant| Arc::clone(&tenant.shard))
    }

    /// How many may want some of a pool.
    pub fn sharers(&self, pool: &Pool) -> usize {
        self.all().values().filter(|tenant| shares(tenant, pool)).count()
    }

    /// Whether it is for this tenant to say first who owns what of a pool: it is the first of those that share it.
    pub fn founds(&self, pool: &Pool, number: u16) -> bool {
        let all = self.all();
        let mut sharers = all.iter().filter(|(_, tenant)| shares(tenant, pool));
        sharers.next().is_some_and(|(first, _)| *first == number)
    }
}

fn shares(tenant: &Tenant, pool: &Pool) -> bool {
    let Pool::Channels(trunk) = pool else { return true };
    let config = tenant.config.as_ref();
    config.and_then(|config| config.trunk(trunk)).is_some_and(|trunk| trunk.shared)
}
