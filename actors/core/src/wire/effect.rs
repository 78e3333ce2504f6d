use std::sync::Arc;

use tandem_sip::protobuf::{Encode, Writer};

use super::history::side_from;
use super::{Error, carrier_from, narrow, need, parse, parse_some, put_carrier};
use crate::cdr::Side;
use crate::config::Country;
use crate::effect::{
    Body, Effect, MediaKeys, MediaLeg, MediaPlan, Prompt, RecordingPlan, Rollover, Source,
};
use crate::ids::{CallId, LegId, RecordingId};
use crate::proto;

impl Encode for Effect {
    fn encode(&self, to: &mut Writer) {
        to.message(1, &self.id);
        to.message(2, &self.entity);
        to.text(3, &self.gateway.0);
        match &self.body {
            Body::Respond { transaction, response } => to.delimited(4, |to| {
                to.message(1, transaction);
                to.message(2, &**response);
            }),
            Body::Send { request, destination, carrier } => to.delimited(5, |to| {
                to.message(1, &**request);
                to.socket(2, destination);
                put_carrier(to, 3, *carrier);
            }),
            Body::Media(plan) => to.message(6, plan),
            Body::Notify { request, destination, carrier } => to.delimited(140, |to| {
                to.message(1, &**request);
                to.socket(2, destination);
                put_carrier(to, 3, *carrier);
            }),
        }
    }
}

impl TryFrom<proto::Effect> for Effect {
    type Error = Error;

    fn try_from(effect: proto::Effect) -> Result<Self, Error> {
        use proto::effect::Body as From;
        let body = match need(effect.body, "effect.body")? {
            From::Respond(respond) => Body::Respond {
                transaction: need(respond.transaction, "respond.transaction")?.into(),
                response: Arc::new(need(respond.response, "respond.response")?.try_into()?),
            },
            From::Send(send) => Body::Send {
                request: Arc::new(need(send.request, "send.request")?.try_into()?),
                destination: parse(&send.destination, "send.destination")?,
                carrier: carrier_from(send.carrier)?,
            },
            From::Media(plan) => Body::Media(plan.try_into()?),
            From::Notify(send) => Body::Notify {
                request: Arc::new(need(send.request, "notify.request")?.try_into()?),
                destination: parse(&send.destination, "notify.destination")?,
                carrier: carrier_from(send.carrier)?,
            },
        };
        Ok(Self {
            id: need(effect.id, "effect.id")?.try_into()?,
            entity: need(effect.entity, "effect.entity")?.try_into()?,
            gateway: effect.gateway.into(),
            body,
        })
    }
}

impl Encode for MediaPlan {
    fn encode(&self, to: &mut Writer) {
        to.fixed(1, self.call.0);
        to.uint(2, self.version);
        to.messages(3, &self.legs);
        if let Some(recording) = &self.recording {
            to.delimited(4, |to| {
                to.fixed(1, recording.id.0);
                to.fixed(2, recording.left.0);
                to.fixed(3, recording.right.0);
                to.flag(4, recording.paused);
                to.flag(120, recording.mixed);
            });
        }
    }
}

impl TryFrom<proto::MediaPlan> for MediaPlan {
    type Error = Error;

    fn try_from(plan: proto::MediaPlan) -> Result<Self, Error> {
        Ok(Self {
            call: CallId(plan.call),
            version: plan.version,
            legs: plan.legs.into_iter().map(MediaLeg::try_from).collect::<Result<_, _>>()?,
            recording: plan.recording.map(|recording| RecordingPlan {
                id: RecordingId(recording.id),
                left: LegId(recording.left),
                right: LegId(recording.right),
                paused: recording.paused,
                mixed: recording.mixed,
            }),
        })
    }
}

impl Encode for MediaLeg {
    fn encode(&self, to: &mut Writer) {
        let (source, source_leg) = match &self.source {
            Source::Silence => ("silence", 0),
            Source::Music(_) => ("music", 0),
            Source::Ringback(_) => ("ringback", 0),
            Source::Echo => ("echo", 0),
            Source::Leg(other) => ("leg", other.0),
            Source::Prompt(_) => ("prompt", 0),
            Source::Mix(_) => ("mix", 0),
        };
        to.fixed(1, self.leg.0);
        to.uint(2, self.port);
        to.some_socket(3, self.remote.as_ref());
        to.text(4, self.codec.name());
        to.uint(5, self.payload);
        to.some_uint(6, self.telephone_event);
        to.uint(7, self.ssrc);
        to.text(8, source);
        to.fixed(9, source_leg);
        if let Source::Prompt(prompt) = &self.source {
            to.text(10, &prompt.prompt.0);
            to.uint(11, prompt.play);
            to.uint(12, prompt.offset_ms);
            to.flag(13, prompt.barge_in);
        }
        to.some_text(15, self.role.map(Side::as_str));
        if let Some(keys) = &self.keys {
            to.delimited(16, |to| {
                to.text(1, keys.suite.name());
                to.blob(2, keys.ours.bytes());
                to.blob(3, keys.theirs.bytes());
                to.uint(230, keys.rollover.sent);
                to.uint(231, keys.rollover.received);
            });
        }
        to.flag(80, self.events_wide);
        match &self.source {
            Source::Ringback(country) if *country != Country::default() => {
                to.text(81, country.as_str());
            }
            Source::Mix(legs) => to.packed(120, legs.iter().map(|leg| leg.0)),
            Source::Music(Some(list)) => to.some_text(150, Some(&list.0)),
            Source::Ringback(_)
            | Source::Silence
            | Source::Music(None)
            | Source::Echo
            | Source::Leg(_)
            | Source::Prompt(_) => {}
        }
    }
}

impl TryFrom<proto::MediaLeg> for MediaLeg {
    type Error = Error;

    fn try_from(leg: proto::MediaLeg) -> Result<Self, Error> {
        let source = match leg.source.as_str() {
            "silence" => Source::Silence,
            "music" => Source::Music(leg.music.map(Into::into)),
            "ringback" => Source::Ringback(super::config::country_from(&leg.country)?),
            "echo" => Source::Echo,
            "leg" => Source::Leg(LegId(leg.source_leg)),
            "mix" => Source::Mix(leg.hears.iter().copied().map(LegId).collect()),
            "prompt" => Source::Prompt(Prompt {
                prompt: leg.prompt.into(),
                play: leg.play,
                offset_ms: leg.offset_ms,
                barge_in: leg.barge_in,
            }),
            other => return Err(Error::Unknown("source", other.to_owned())),
        };
        let telephone_event = leg.telephone_event.map(|n| narrow(n, "leg.telephone_event"));
        Ok(Self {
            leg: LegId(leg.leg),
            port: narrow(leg.port, "leg.port")?,
            remote: parse_some(leg.remote.as_deref(), "leg.remote")?,
            codec: tandem_sip::wire::codec(&leg.codec)?,
            payload: narrow(leg.payload, "leg.payload")?,
            telephone_event: telephone_event.transpose()?,
            events_wide: leg.events_wide,
            ssrc: leg.ssrc,
            source,
            role: leg.role.as_deref().map(side_from).transpose()?,
            keys: leg.keys.map(keys_from).transpose()?,
        })
    }
}

fn keys_from(keys: proto::MediaKeys) -> Result<MediaKeys, Error> {
    let suite = tandem_sip::wire::suite(&keys.suite)?;
    let key = |bytes| tandem_sip::wire::key(suite, bytes);
    let rollover = Rollover { sent: keys.sent, received: keys.received };
    Ok(MediaKeys { suite, ours: key(keys.ours)?, theirs: key(keys.theirs)?, rollover })
}
