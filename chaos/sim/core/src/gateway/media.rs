//! What stands in for RTP: whether a leg's peer is still there, and what was recorded.

use tandem_core::command::{GatewayEvent, Quality, Recorded};
use tandem_core::effect::{MediaLeg, MediaPlan};
use tandem_core::ids::{CallId, LegId, RecordingId};

use crate::limits;
use crate::simulation::Simulation;

#[derive(Debug)]
pub struct Plan {
    pub plan: MediaPlan,
    /// Legs whose peer is gone, and since when.
    pub silent: Vec<(LegId, u64)>,
    pub recording: Option<(RecordingId, u64)>,
}

impl Simulation {
    /// A later version replaces an earlier one; no legs release all.
    pub fn on_media_plan(&mut self, g: usize, plan: &MediaPlan) {
        let now = self.now;
        let media = &mut self.gateways[g].state.media;
        let known = media.get(&plan.call);
        if known.is_some_and(|known| known.plan.version >= plan.version) {
            return;
        }
        let running = known.and_then(|known| known.recording);
        let gone: Vec<MediaLeg> = known.map_or_else(Vec::new, |known| {
            let stays = |leg: &&MediaLeg| plan.legs.iter().any(|other| other.leg == leg.leg);
            known.plan.legs.iter().filter(|leg| !stays(leg)).cloned().collect()
        });
        let recording = plan
            .recording
            .map(|wanted| running.filter(|(id, _)| *id == wanted.id).unwrap_or((wanted.id, now)));
        if plan.legs.is_empty() {
            media.remove(&plan.call);
        } else {
            let silent = Vec::new();
            media.insert(plan.call, Plan { plan: plan.clone(), silent, recording });
        }
        for leg in gone {
            self.report_quality(g, plan.call, &leg);
        }
        if let (Some((id, since)), None) = (running, recording) {
            let recorded = Recorded {
                call: plan.call,
                recording: id,
                duration_ms: now - since,
                chunks: 1,
                gaps: Vec::new(),
                hash: format!("{id}"),
                bytes: 44,
            };
            self.gateways[g].state.control.on_media(GatewayEvent::Recorded(recorded));
        }
    }

    /// A leg's media is let go.
    fn report_quality(&mut self, g: usize, call: CallId, leg: &MediaLeg) {
        self.coverage.mark("the quality of a leg is reported");
        let quality = Quality {
            call,
            leg: leg.leg,
            role: leg.role,
            codec: leg.codec,
            packets_sent: 100,
            packets_received: 99,
            packets_lost: 1,
            packets_late: 0,
            packets_duplicate: 0,
            jitter_us: 125,
            round_trip_us: None,
            mos_x100: Some(383),
        };
        self.gateways[g].state.control.on_media(GatewayEvent::Quality(quality));
    }

    /// A peer that went away without a word sends no RTP.
    pub fn look_for_silence(&mut self, g: usize) {
        let now = self.now;
        let mut media = std::mem::take(&mut self.gateways[g].state.media);
        let mut reports = Vec::new();
        for plan in media.values_mut() {
            for leg in &plan.plan.legs {
                let talks = leg.remote.is_none_or(|remote| self.sends_rtp(remote));
                if talks {
                    plan.silent.retain(|(of, _)| *of != leg.leg);
                    continue;
                }
                match plan.silent.iter_mut().find(|(of, _)| *of == leg.leg) {
                    None => plan.silent.push((leg.leg, now)),
                    Some((_, since)) if now - *since >= limits::RTP_SILENCE_MS_MAX => {
                        reports.push((plan.plan.call, leg.leg, now - *since));
                        *since = now;
                    }
                    Some(_) => {}
                }
            }
        }
        self.gateways[g].state.media = media;
        for (call, leg, since_ms) in reports {
            self.coverage.mark("a peer without RTP is reported");
            let report = GatewayEvent::RtpSilence { call, leg, since_ms };
            self.gateways[g].state.control.on_media(report);
        }
    }
}
