//! A tenant is added, or becomes another: its configuration is a value of the meta shard, which who leads the
//! tenant brings into its world.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message as _;
use tandem_core::config::Config;
use tandem_core::wire;
use tandem_gateway::link::pb;

use super::desk::Moved;
use super::meta::{self, Meta};
use super::place::{self, Place};
use super::tenants::FIRST;
use crate::config;

/// Counts the changes of tenants: of two that know the same of the others, one is made.
const REVISION: &str = "tenant/revision";
/// A meta shard's value goes over the link between nodes in one piece.
const CONFIG_BYTES_MAX: usize = 512 * 1024;
/// As many as a cluster of this version is for.
const TENANTS_MAX: usize = 1_000;

pub struct Puts {
    pub meta: Arc<dyn Meta>,
    /// How many shards there are for tenants.
    pub shards: u16,
}

impl Puts {
    pub async fn put(&self, asked: &pb::PutTenant) -> Moved {
        let given = match read(asked) {
            Ok(given) => given,
            Err(why) => return Moved::Refused(why),
        };
        let revision = self.meta.get(REVISION);
        let configs = meta::configs(self.meta.as_ref());
        let mut all = BTreeMap::new();
        for (number, stored) in &configs {
            let Some(config) = meta::read_config(stored) else {
                return Moved::Refused(format!(
                    "tenant number {number} can't be read: see the alarms"
                ));
            };
            all.insert(*number, config);
        }
        if !all.contains_key(&FIRST) {
            return Moved::Refused(
                "the cluster has not begun: its first tenant is not there".into(),
            );
        }
        let known = all.iter().find(|(_, config)| config.tenant == given.tenant);
        let known = known.map(|(number, config)| (*number, config));
        if known.is_some_and(|(number, _)| number == FIRST) {
            let name = &given.tenant;
            let why = format!("{name} is what the cluster's file says: change it there");
            return Moved::Refused(why);
        }
        let places = self.places();
        let number = match known {
            Some((number, _)) => number,
            None if all.len() >= TENANTS_MAX => {
                return Moved::Refused(format!(
                    "there are {TENANTS_MAX} tenants, which is the most"
                ));
            }
            // Never one that another had.
            None => {
                match all.keys().chain(places.keys()).max().and_then(|last| last.checked_add(1)) {
                    Some(number) => number,
                    None => return Moved::Refused("every number of a tenant was given".into()),
                }
            }
        };
        if let Some(why) = meta::clash(number, &given, &all) {
            return Moved::Refused(why);
        }
        let place = match (known, self.shard(&asked.shard, &places)) {
            (Some(_), _) if !asked.shard.is_empty() => {
                let name = &given.tenant;
                let why = format!("{name} has a shard: `tandem tenant move` puts it into another");
                return Moved::Refused(why);
            }
            (Some(_), _) => None,
            (None, Some(group)) => Some(Place { group: group.into(), ..Place::default() }),
            (None, None) => return Moved::Unknown(format!("shard {:?}", asked.shard)),
        };
        let stored = known.map(|(_, config)| config);
        let Some(wanted) = meta::wanted(stored, &given, meta::fresh_secret) else {
            return Moved::Done;
        };
        let config = wire::encode_config(&wanted);
        if config.len() > CONFIG_BYTES_MAX {
            let (is, most) = (config.len(), CONFIG_BYTES_MAX);
            return Moved::Refused(format!(
                "its configuration is {is} bytes long; {most} is the most"
            ));
        }
        let mut also = vec![(meta::config_key(number), config)];
        also.extend(place.map(|place| (place::key(number), place.encode_to_vec())));
        self.commit(revision, also).await
    }

    async fn commit(&self, revision: Option<Vec<u8>>, also: Vec<(String, Vec<u8>)>) -> Moved {
        let known = revision.as_deref().and_then(|bytes| bytes.try_into().ok());
        let next = known.map_or(1, |known| u64::from_be_bytes(known) + 1);
        let value = next.to_be_bytes().to_vec();
        match self.meta.replace(REVISION, revision, value, also).await {
            Ok(true) => Moved::Done,
            Ok(false) => Moved::Refused("another tenant was changed meanwhile: try again".into()),
            Err(error) => Moved::Refused(error.to_string()),
        }
    }

    fn places(&self) -> BTreeMap<u16, Place> {
        let all = self.meta.under(place::PLACES).into_iter();
        let read = |(key, stored): (String, Vec<u8>)| {
            let number = key.strip_prefix(place::PLACES)?.parse().ok()?;
            Some((number, Place::read(Some(&stored)).ok()?))
        };
        all.filter_map(read).collect()
    }

    /// The one of that name, or the one with the fewest tenants.
    fn shard(&self, name: &str, places: &BTreeMap<u16, Place>) -> Option<u16> {
        let mut all = 0..self.shards;
        if !name.is_empty() {
            return all.find(|shard| format!("s{shard}") == name);
        }
        let mut tenants = vec![0_usize; usize::from(self.shards)];
        // The first one may have no place yet: it is where it began.
        let first = (!places.contains_key(&FIRST)).then_some(0);
        let of = |place: &Place| place.to.unwrap_or(place.group);
        for group in places.values().map(of).chain(first) {
            let count = usize::try_from(group).ok().and_then(|group| tenants.get_mut(group));
            count.into_iter().for_each(|count| *count += 1);
        }
        all.min_by_key(|shard| tenants.get(usize::from(*shard)).copied())
    }
}

/// What the text makes of it.
///
/// # Errors
/// Each mistake with its line.
fn read(asked: &pb::PutTenant) -> Result<Config, String> {
    let file = config::parse(&asked.config).map_err(|mistakes| {
        let mistakes: Vec<String> = mistakes.iter().map(|it| format!("line {it}")).collect();
        mistakes.join("; ")
    })?;
    let given = file.only_tenant()?;
    if given.tenant != asked.tenant {
        return Err(format!(
            "its name is {}, and the request is about {}",
            given.tenant, asked.tenant
        ));
    }
    Ok(given)
}

#[cfg(test)]
mod tests;
