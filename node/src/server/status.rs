//! The cluster's state as `GET /v1/cluster` and `tandem cluster status --json` give it.

use std::time::Duration;

use serde_json::{Map, Value, json};

/// A voter as its peers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voter {
    pub name: String,
    pub box_name: String,
    pub witness: bool,
    /// A learner does not.
    pub votes: bool,
    pub healthy: bool,
    /// `None` where it has not been heard.
    pub version: Option<String>,
    pub leads: Vec<String>,
    /// Entries that it is behind, of the shard where it is furthest.
    pub lag: Option<u64>,
    /// Of a hundred syncs of its log one took longer in the last minute. `None` where nothing was synced, or it is not heard.
    pub sync_p99_us: Option<u64>,
    /// It holds everything that is committed.
    pub caught_up: bool,
    /// Of some shard its state is not what the group has, and is being made again: it votes, and serves nobody.
    pub differs: bool,
    /// It is to lead nothing.
    pub drained: bool,
}

impl Voter {
    fn decides(&self) -> bool {
        self.healthy && self.caught_up
    }

    fn runs_calls(&self) -> bool {
        self.decides() && !self.witness && !self.differs
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    pub name: String,
    pub box_name: String,
    pub vips: Vec<String>,
    pub calls: u64,
    pub logged_in: bool,
    /// `None` where it does not ask.
    pub version: Option<String>,
    /// It is to serve no line.
    pub drained: bool,
}

/// Voters that may die before the rest can no longer decide.
pub fn failure_tolerance(members: &[Voter]) -> usize {
    let voters: Vec<&Voter> = members.iter().filter(|member| member.votes).collect();
    let healthy = voters.iter().filter(|voter| voter.decides()).count();
    let majority = voters.len() / 2 + 1;
    // Somebody who runs calls must be left, too.
    let nodes = voters.iter().filter(|voter| voter.runs_calls()).count();
    healthy.saturating_sub(majority).min(nodes.saturating_sub(1))
}

/// `age`: since a majority last answered to who tells this, so that it led then.
pub fn cluster(
    voters: &[Voter],
    gateways: &[Gateway],
    feature_version: u32,
    age: Duration,
) -> Value {
    let nodes = voters.iter().map(|voter| {
        json!({
            "name": voter.name,
            "box": voter.box_name,
            "role": match (voter.votes, voter.witness) {
                (false, _) => "learner",
                (true, true) => "witness",
                (true, false) => "node",
            },
            "healthy": voter.healthy,
            "version": voter.version,
            "leads": voter.leads,
            "lag": voter.lag,
            "sync_p99_us": voter.sync_p99_us,
            "drained": voter.drained,
        })
    });
    let rows = gateways.iter().map(|gateway| {
        json!({
            "name": gateway.name,
            "box": gateway.box_name,
            "healthy": gateway.logged_in,
            "version": gateway.version,
            "vips": gateway.vips,
            "calls": gateway.calls,
            "drained": gateway.drained,
        })
    });
    json!({
        "failure_tolerance": failure_tolerance(voters),
        "nodes": nodes.collect::<Vec<_>>(),
        "gateways": rows.collect::<Vec<_>>(),
        "can_lose": can_lose(voters, gateways),
        "feature_version": feature_version,
        "age_ms": u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
    })
}

/// For every process and every box.
fn can_lose(voters: &[Voter], gateways: &[Gateway]) -> Map<String, Value> {
    let mut verdicts = Map::new();
    let mut tell = |name: &str, lost: &dyn Fn(&str, &str) -> bool| {
        let Unsafe { why, wait_for } = why_not(voters, gateways, lost).unwrap_or_default();
        let verdict = json!({"ok": why.is_empty(), "why": why, "wait_for": wait_for});
        verdicts.insert(name.to_owned(), verdict);
    };
    for voter in voters {
        tell(&voter.name, &|name, _| name == voter.name);
    }
    for gateway in gateways {
        tell(&gateway.name, &|name, _| name == gateway.name);
    }
    for name in voters
        .iter()
        .map(|v| &v.box_name)
        .filter(|it| !it.is_empty())
        .chain(gateways.iter().map(|g| &g.box_name))
    {
        tell(name, &|_, box_name| box_name == name);
    }
    verdicts
}

/// Whether there is a process or a box of that name.
pub fn has(voters: &[Voter], gateways: &[Gateway], name: &str) -> bool {
    let voters = voters.iter().map(|voter| (&voter.name, &voter.box_name));
    let gateways = gateways.iter().map(|gateway| (&gateway.name, &gateway.box_name));
    voters.chain(gateways).any(|(own, box_name)| own == name || box_name == name)
}

/// Why a process or a box must keep what it has: nobody could take it, or the cluster would not live without it.
pub fn why_not_drain(voters: &[Voter], gateways: &[Gateway], drained: &str) -> Option<String> {
    let is_it = |name: &str, box_name: &str| name == drained || box_name == drained;
    if let Some(Unsafe { why, .. }) = why_not(voters, gateways, &is_it) {
        return Some(why);
    }
    let mut nodes = voters.iter().filter(|voter| voter.votes && !voter.witness);
    let takes = |voter: &Voter| {
        voter.votes && voter.runs_calls() && !voter.drained && !is_it(&voter.name, &voter.box_name)
    };
    if nodes.any(|voter| is_it(&voter.name, &voter.box_name)) && !voters.iter().any(takes) {
        return Some("no node would be left that may lead: the others are drained".to_owned());
    }
    let mut all = gateways.iter();
    let takes = |gateway: &Gateway| {
        gateway.logged_in && !gateway.drained && !is_it(&gateway.name, &gateway.box_name)
    };
    if all.any(|gateway| is_it(&gateway.name, &gateway.box_name)) && !gateways.iter().any(takes) {
        return Some("no gateway would be left that may serve calls".to_owned());
    }
    None
}

/// Why something must not be lost now.
#[derive(Default)]
struct Unsafe {
    why: String,
    /// What would make it safe.
    wait_for: String,
}

/// What would let this voter decide again.
fn mended(voter: &Voter) -> String {
    let Voter { name, healthy, lag, .. } = voter;
    match (healthy, lag) {
        (false, _) => format!("{name} to be back with a disk that writes"),
        (true, Some(lag)) => format!("{name} to catch up, by {lag} entries"),
        (true, None) => format!("{name} to catch up"),
    }
}

fn all_of<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    parts.collect::<Vec<_>>().join(" and ")
}

/// Why the cluster would not go on without those that `lost` names.
fn why_not(
    voters: &[Voter],
    gateways: &[Gateway],
    lost: &dyn Fn(&str, &str) -> bool,
) -> Option<Unsafe> {
    let voters: Vec<&Voter> = voters.iter().filter(|voter| voter.votes).collect();
    let left: Vec<_> = voters.iter().filter(|voter| !lost(&voter.name, &voter.box_name)).collect();
    let up: Vec<_> = left.iter().filter(|voter| voter.decides()).collect();
    let majority = voters.len() / 2 + 1;
    if left.len() < voters.len() && up.len() < majority {
        let missing: Vec<_> = left.iter().filter(|voter| !voter.decides()).collect();
        return Some(if missing.is_empty() {
            let (up, all) = (up.len(), voters.len());
            Unsafe {
                why: format!("{up} of {all} voters would be left, {majority} are needed"),
                wait_for: "another voter: `tandem cluster add`".to_owned(),
            }
        } else {
            let names = all_of(missing.iter().map(|voter| voter.name.as_str()));
            let wait_for: Vec<String> = missing.iter().map(|voter| mended(voter)).collect();
            Unsafe {
                why: format!("{names} would be missing, too"),
                wait_for: wait_for.join(" and "),
            }
        });
    }
    if left.len() < voters.len() && !up.iter().any(|voter| voter.runs_calls()) {
        if let Some(differs) = up.iter().find(|voter| voter.differs) {
            let name = &differs.name;
            return Some(Unsafe {
                why: format!("the state of {name} is not its leader's, and is being made again"),
                wait_for: format!("the state of {name} to be made again"),
            });
        }
        let nodes = left.iter().filter(|voter| !voter.witness && !voter.decides());
        let wait_for: Vec<String> = nodes.map(|voter| mended(voter)).collect();
        return Some(Unsafe {
            why: "no node that runs calls would be left".to_owned(),
            wait_for: if wait_for.is_empty() {
                "another node: `tandem cluster add`".to_owned()
            } else {
                wait_for.join(" or ")
            },
        });
    }
    let serving = |gateway: &&Gateway| gateway.logged_in && !lost(&gateway.name, &gateway.box_name);
    let loses_gateway =
        gateways.iter().any(|gateway| gateway.logged_in && lost(&gateway.name, &gateway.box_name));
    if loses_gateway && !gateways.iter().any(|gateway| serving(&gateway)) {
        let away = gateways.iter().filter(|it| !it.logged_in && !lost(&it.name, &it.box_name));
        let away = away.map(|gateway| gateway.name.as_str()).collect::<Vec<_>>().join(" or ");
        return Some(Unsafe {
            why: "no gateway would be left".to_owned(),
            wait_for: if away.is_empty() {
                "another gateway".to_owned()
            } else {
                format!("{away} to log in")
            },
        });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voter(name: &str, box_name: &str) -> Voter {
        Voter {
            name: name.into(),
            box_name: box_name.into(),
            witness: name == "witness",
            votes: true,
            healthy: true,
            version: Some("0.1.0".into()),
            leads: Vec::new(),
            lag: Some(0),
            sync_p99_us: None,
            caught_up: true,
            differs: false,
            drained: false,
        }
    }

    fn gateway(name: &str, box_name: &str) -> Gateway {
        Gateway {
            name: name.into(),
            box_name: box_name.into(),
            vips: Vec::new(),
            calls: 0,
            logged_in: true,
            version: Some("0.1.0".into()),
            drained: false,
        }
    }

    fn healthy() -> (Vec<Voter>, Vec<Gateway>) {
        (
            vec![voter("node-a", "a"), voter("node-b", "b"), voter("witness", "w")],
            vec![gateway("gateway-a", "a"), gateway("gateway-b", "b")],
        )
    }

    fn verdict(voters: &[Voter], gateways: &[Gateway], name: &str) -> (bool, String) {
        let status = cluster(voters, gateways, 1, Duration::ZERO);
        let verdict = &status["can_lose"][name];
        (verdict["ok"].as_bool().unwrap(), verdict["why"].as_str().unwrap().to_owned())
    }

    #[test]
    fn status_lets_any_box_go_when_all_are_healthy() {
        let (voters, gateways) = healthy();
        for name in ["node-a", "node-b", "witness", "gateway-a", "gateway-b", "a", "b", "w"] {
            assert_eq!(verdict(&voters, &gateways, name), (true, String::new()), "{name}");
        }
        assert_eq!(failure_tolerance(&voters), 1);
    }

    #[test]
    fn status_keeps_the_last_node_when_the_other_is_down() {
        let (mut voters, gateways) = healthy();
        voters[1].healthy = false;
        assert_eq!(failure_tolerance(&voters), 0);
        assert_eq!(
            verdict(&voters, &gateways, "node-a"),
            (false, "node-b would be missing, too".into())
        );
        // Nothing is lost with what is down already.
        assert!(verdict(&voters, &gateways, "node-b").0);
    }

    #[test]
    fn status_keeps_a_node_when_the_other_is_behind() {
        let (mut voters, gateways) = healthy();
        voters[1].caught_up = false;
        assert!(!verdict(&voters, &gateways, "a").0);
    }

    #[test]
    fn status_says_what_to_wait_for() {
        let wait_for = |voters: &[Voter], gateways: &[Gateway], name: &str| {
            let status = cluster(voters, gateways, 1, Duration::ZERO);
            status["can_lose"][name]["wait_for"].as_str().unwrap().to_owned()
        };
        let (mut voters, mut gateways) = healthy();
        assert_eq!(wait_for(&voters, &gateways, "a"), "");
        (voters[1].caught_up, voters[1].lag) = (false, Some(1_203));
        assert_eq!(wait_for(&voters, &gateways, "a"), "node-b to catch up, by 1203 entries");
        voters[1].healthy = false;
        let back = "node-b to be back with a disk that writes";
        assert_eq!(wait_for(&voters, &gateways, "node-a"), back);
        let (voters, _) = healthy();
        assert_eq!(wait_for(&voters[..2], &gateways, "b"), "another voter: `tandem cluster add`");
        gateways[1].logged_in = false;
        assert_eq!(wait_for(&voters, &gateways, "gateway-a"), "gateway-b to log in");
        assert_eq!(wait_for(&voters, &gateways[..1], "gateway-a"), "another gateway");
    }

    #[test]
    fn status_keeps_a_node_when_the_state_of_the_other_differs() {
        let (mut voters, gateways) = healthy();
        voters[1].differs = true;
        let (ok, why) = verdict(&voters, &gateways, "node-a");
        assert_eq!((ok, why.starts_with("the state of node-b is not")), (false, true), "{why}");
        assert!(!verdict(&voters, &gateways, "a").0);
        assert_eq!(failure_tolerance(&voters), 0);
        // Its vote counts.
        assert!(verdict(&voters, &gateways, "witness").0);
        assert!(verdict(&voters, &gateways, "node-b").0);
    }

    #[test]
    fn gateway_may_be_lost_with_its_calls_where_another_goes_on_with_them() {
        let (voters, mut gateways) = healthy();
        gateways[0].calls = 3;
        assert!(verdict(&voters, &gateways, "gateway-a").0);
        assert!(verdict(&voters, &gateways, "a").0);
        gateways[1].logged_in = false;
        assert!(!verdict(&voters, &gateways, "gateway-a").0);
        assert!(!verdict(&voters, &gateways, "a").0);
        assert!(verdict(&voters, &gateways, "node-a").0);
    }

    #[test]
    fn box_is_drained_where_the_other_can_have_what_it_has() {
        let (mut voters, mut gateways) = healthy();
        for name in ["a", "node-b", "gateway-b", "witness"] {
            assert_eq!(why_not_drain(&voters, &gateways, name), None, "{name}");
            assert!(has(&voters, &gateways, name), "{name}");
        }
        assert!(!has(&voters, &gateways, "c"));
        gateways[1].drained = true;
        let why = why_not_drain(&voters, &gateways, "a").unwrap_or_default();
        assert_eq!(why, "no gateway would be left that may serve calls");
        assert_eq!(why_not_drain(&voters, &gateways, "node-a"), None);
        assert_eq!(why_not_drain(&voters, &gateways, "b"), None, "the rest of it");
        voters[1].drained = true;
        assert!(why_not_drain(&voters, &gateways, "node-a").is_some());
        voters[1].drained = false;
        voters[2].healthy = false;
        let why = why_not_drain(&voters, &gateways, "node-a").unwrap_or_default();
        assert_eq!(why, "witness would be missing, too");
    }

    #[test]
    fn status_counts_no_learner() {
        let (mut voters, gateways) = healthy();
        voters[2].healthy = false;
        voters.push(Voter { votes: false, ..voter("node-c", "c") });
        assert_eq!(failure_tolerance(&voters), 0);
        assert!(!verdict(&voters, &gateways, "node-a").0);
        assert!(verdict(&voters, &gateways, "node-c").0);
    }

    #[test]
    fn status_says_zero_tolerance_when_there_are_two_voters() {
        let (voters, _) = healthy();
        assert_eq!(failure_tolerance(&voters[..2]), 0);
    }
}
