//! Whoever watches a colleague is told what is so: versions and CSeq numbers of a subscription only
//! rise, whichever leader and gateway it has, and at rest the lamp shows what was said last.

use std::collections::BTreeMap;

use tandem_core::effect::Body;
use tandem_core::subscription::state::Package;

use crate::simulation::Simulation;
use crate::violation::Checked;
use crate::watch::Step;

#[derive(Debug, Default)]
pub struct Watchers {
    /// By Call-ID and our tag.
    told: BTreeMap<(String, String), (u32, u32)>,
}

impl Watchers {
    pub fn after(&mut self, step: &Step<'_>) -> Checked {
        for effect in &step.applied.effects {
            let Body::Notify { request, .. } = &effect.body else { continue };
            let headers = &request.headers;
            let tag = headers.from_tag().unwrap_or_default().to_owned();
            let text = String::from_utf8_lossy(&request.body);
            let version = text.split_once("<dialog-info ").and_then(|(_, document)| {
                document.split_once("version=\"")?.1.split_once('"')?.0.parse().ok()
            });
            let Some(version) = version else { continue };
            let (number, id) = (headers.cseq.number, headers.call_id.clone());
            if let Some((cseq, before)) = self.told.insert((id.clone(), tag), (number, version)) {
                hold!(cseq < number, "CSeq {number} of {id} comes after {cseq}");
                hold!(before < version, "version {version} of {id} comes after {before}");
            }
        }
        Ok(())
    }
}

/// Nothing is on its way any more.
pub fn at_rest(simulation: &Simulation) -> Checked {
    for known in simulation.front().subscriptions.values().filter(|known| known.is_active()) {
        let Package::Dialog(watched) = &known.package else { continue };
        let mut peers = simulation.peers.iter().filter(|peer| peer.alive);
        let phone = peers.find(|peer| {
            let dialog = peer.watching.dialog.as_ref();
            dialog.is_some_and(|dialog| dialog.remote_tag == known.dialog.local_tag)
        });
        let Some(phone) = phone else { continue };
        let (name, of) = (phone.name(), &watched.agent);
        let shown = phone.watching.version.map_or(0, |version| version + 1);
        hold!(
            shown == watched.version,
            "{name} has been told {shown} times of agent {of}, and not {}",
            watched.version
        );
        let dark = phone.watching.shown == ["terminated"];
        hold!(dark, "the lamp of {name} for agent {of} shows {:?}", phone.watching.shown);
    }
    Ok(())
}
