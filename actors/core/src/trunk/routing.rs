//! Where a number that is none of ours goes out.

use super::outward::Outward;
use crate::call::state::Hop;
use crate::config::{Config, Trunk};
use crate::limits;
use crate::rng::Rng;

/// Digits, with a + in front where the number is a whole one (E.164).
pub fn is_number(digits: &str) -> bool {
    let rest = digits.strip_prefix('+').unwrap_or(digits);
    let dialled = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'*' | b'#');
    !rest.is_empty() && digits.len() <= limits::DIGITS_MAX && rest.bytes().all(dialled)
}

/// The trunks that the longest prefix of the number names, as they stand in the route.
pub fn trunks<'c>(config: &'c Config, number: &str) -> Vec<(&'c Trunk, &'c Outward)> {
    if !is_number(number) {
        return Vec::new();
    }
    let fits = config.routes.iter().filter(|route| number.starts_with(&route.prefix));
    let Some(route) = fits.max_by_key(|route| route.prefix.len()) else { return Vec::new() };
    let named = route.trunks.iter().filter_map(|id| config.trunk(id));
    named.filter_map(|trunk| Some((trunk, trunk.out.as_ref()?))).collect()
}

/// Every peer that may be tried, in order: by priority, among equals by a draw after their weights,
/// a trunk's own as they are listed.
pub fn hops(config: &Config, number: &str, rng: &mut Rng) -> Vec<Hop> {
    let mut left = trunks(config, number);
    let mut hops = Vec::new();
    while let Some(priority) = left.iter().map(|(_, out)| out.priority).min() {
        let equal = |out: &Outward| out.priority == priority;
        let total: u64 =
            left.iter().filter(|(_, out)| equal(out)).map(|(_, out)| u64::from(out.weight)).sum();
        let mut drawn = if total == 0 { 0 } else { rng.next() % total };
        let picked = left.iter().position(|(_, out)| {
            let weight = u64::from(out.weight);
            let here = equal(out) && (total == 0 || drawn < weight);
            if equal(out) && !here {
                drawn -= weight;
            }
            here
        });
        let Some(picked) = picked else { break };
        let (trunk, out) = left.remove(picked);
        hops.extend(out.peers.iter().map(|peer| Hop { trunk: trunk.id.clone(), peer: *peer }));
    }
    hops.truncate(limits::HOPS_MAX);
    hops
}
