//! What stands in for RTP: whether a leg's peer is still there, its keys, prompts, and what was
//! recorded.

use tandem_core::command::{GatewayEvent, Quality, Recorded};
use tandem_core::effect::{MediaLeg, MediaPlan, Source};
use tandem_core::ids::{CallId, LegId, PromptId, RecordingId};
use tandem_core::ivr::keys::Digit;

use super::SHARD;
use crate::draws::For;
use crate::limits;
use crate::names;
use crate::simulation::Simulation;

#[derive(Debug)]
pub struct Plan {
    pub plan: MediaPlan,
    /// Legs whose peer is gone, and since when.
    pub silent: Vec<(LegId, u64)>,
    pub recording: Option<(RecordingId, u64)>,
    /// The prompt that is heard, or was last.
    pub playing: Option<Playing>,
    /// Keys of the caller that were told in this life.
    pub presses: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct Playing {
    pub leg: LegId,
    pub play: u64,
    pub ends_at: u64,
    pub barge_in: bool,
    pub missing: bool,
    pub told: bool,
}

/// How long a prompt of the house lasts; none that it has not.
fn prompt_ms(prompt: &PromptId) -> Option<u64> {
    match &*prompt.0 {
        "menu" => Some(1_500),
        "account" => Some(700),
        "notice" => Some(2_500),
        "goodbye" => Some(300),
        tone if tone.starts_with("tone-") => Some(4_000),
        _ => None,
    }
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
        if plan.recording.is_some_and(|wanted| wanted.paused) {
            self.coverage.mark("a recording is paused");
        }
        let gone: Vec<MediaLeg> = known.map_or_else(Vec::new, |known| {
            let stays = |leg: &&MediaLeg| plan.legs.iter().any(|other| other.leg == leg.leg);
            known.plan.legs.iter().filter(|leg| !stays(leg)).cloned().collect()
        });
        let presses = known.map_or(0, |known| known.presses);
        let playing = playing(plan, known.and_then(|known| known.playing), now);
        let recording = plan
            .recording
            .map(|wanted| running.filter(|(id, _)| *id == wanted.id).unwrap_or((wanted.id, now)));
        if plan.legs.is_empty() {
            media.remove(&plan.call);
        } else {
            let silent = Vec::new();
            let plan = plan.clone();
            media.insert(plan.call, Plan { plan, silent, recording, playing, presses });
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
                pauses: Vec::new(),
                began_at: None,
                holder: "".into(),
            };
            self.gateways[g].state.control.on_media(SHARD, GatewayEvent::Recorded(recorded));
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
        self.gateways[g].state.control.on_media(SHARD, GatewayEvent::Quality(quality));
    }

    /// A key of a caller reaches the gateway that has its media, where nothing swallows it.
    pub fn press_in_rtp(&mut self, p: usize, l: usize, digit: Digit) {
        let port = self.peers[p].lines[l].rtp_port;
        let name = names::of(&[u64::from(port), digit.as_char().into()]);
        let lost = self.draws.next(For::Key, name).percent(self.weather.loss_percent);
        let of_line = |plan: &Plan| {
            let caller = plan.plan.legs.first()?;
            let here = caller.remote.is_some_and(|remote| remote.port() == port);
            here.then_some((plan.plan.call, caller.leg))
        };
        let found = self.gateways.iter().enumerate().filter(|(_, gateway)| gateway.is_up());
        let found =
            found.flat_map(|(g, gateway)| gateway.state.media.values().map(move |m| (g, m)));
        let place = found.filter_map(|(g, plan)| Some((g, of_line(plan)?))).next();
        let Some((g, (call, leg))) = place.filter(|_| !lost) else { return };
        let now = self.now;
        let Some(plan) = self.gateways[g].state.media.get_mut(&call) else { return };
        plan.presses += 1;
        let number = plan.presses;
        if let Some(playing) = plan.playing.as_mut().filter(|playing| playing.barge_in) {
            playing.ends_at = playing.ends_at.min(now);
        }
        self.tell(|sim| {
            let what = format!("hears key {digit} ({number}) in call {call}");
            (sim.gateways[g].name.to_string(), what)
        });
        let life = self.gateways[g].incarnation;
        self.watch.flows.heard((call, life, number), digit);
        let event = GatewayEvent::Digit { call, leg, number, digit, duration_ms: 100 };
        self.gateways[g].state.control.on_media(SHARD, event);
        self.serve_gateway(g);
    }

    /// Prompts that are over by now.
    pub fn end_prompts(&mut self, g: usize) {
        let now = self.now;
        let mut ended = Vec::new();
        for (call, plan) in &mut self.gateways[g].state.media {
            let playing = plan.playing.as_mut();
            let Some(playing) = playing.filter(|p| !p.told && p.ends_at <= now) else { continue };
            playing.told = true;
            let Playing { leg, play, missing, .. } = *playing;
            ended.push(GatewayEvent::PromptEnded { call: *call, leg, play, missing });
        }
        for event in ended {
            self.gateways[g].state.control.on_media(SHARD, event);
        }
    }

    /// When the next prompt ends.
    pub fn next_prompt_end(&self, g: usize) -> Option<u64> {
        let playing = self.gateways[g].state.media.values().filter_map(|plan| plan.playing);
        playing.filter(|playing| !playing.told).map(|playing| playing.ends_at).min()
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
            self.gateways[g].state.control.on_media(SHARD, report);
        }
    }
}

/// What is played with this plan: the same play goes on, another begins where the plan says.
fn playing(plan: &MediaPlan, known: Option<Playing>, now: u64) -> Option<Playing> {
    let (leg, prompt) = plan.legs.iter().find_map(|leg| match &leg.source {
        Source::Prompt(prompt) => Some((leg.leg, prompt)),
        Source::Silence
        | Source::Music(_)
        | Source::Ringback(_)
        | Source::Echo
        | Source::Leg(_)
        | Source::Mix(_) => None,
    })?;
    if let Some(known) = known.filter(|known| known.play == prompt.play) {
        return Some(known);
    }
    let length_ms = prompt_ms(&prompt.prompt);
    Some(Playing {
        leg,
        play: prompt.play,
        ends_at: now + length_ms.unwrap_or(0).saturating_sub(prompt.offset_ms),
        barge_in: prompt.barge_in,
        missing: length_ms.is_none(),
        told: false,
    })
}
