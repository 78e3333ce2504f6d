use super::{Error, narrow, need, parse, parse_some};
use crate::effect::{Body, Effect, MediaLeg, MediaPlan, RecordingPlan, Source};
use crate::ids::{CallId, GatewayId, LegId, RecordingId};
use crate::proto;

impl From<&Effect> for proto::Effect {
    fn from(effect: &Effect) -> Self {
        use proto::effect::Body as To;
        let body = match &effect.body {
            Body::Respond { transaction, response } => To::Respond(proto::Respond {
                transaction: Some(transaction.into()),
                response: Some((&**response).into()),
            }),
            Body::Send { request, destination } => To::Send(proto::Send {
                request: Some((&**request).into()),
                destination: destination.to_string(),
            }),
            Body::Media(plan) => To::Media(plan.into()),
        };
        Self {
            id: Some(effect.id.into()),
            entity: Some((&effect.entity).into()),
            gateway: effect.gateway.0.clone(),
            body: Some(body),
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
                response: Box::new(need(respond.response, "respond.response")?.try_into()?),
            },
            From::Send(send) => Body::Send {
                request: Box::new(need(send.request, "send.request")?.try_into()?),
                destination: parse(&send.destination, "send.destination")?,
            },
            From::Media(plan) => Body::Media(plan.try_into()?),
        };
        Ok(Self {
            id: need(effect.id, "effect.id")?.try_into()?,
            entity: need(effect.entity, "effect.entity")?.try_into()?,
            gateway: GatewayId(effect.gateway),
            body,
        })
    }
}

impl From<&MediaPlan> for proto::MediaPlan {
    fn from(plan: &MediaPlan) -> Self {
        Self {
            call: plan.call.0,
            version: plan.version,
            legs: plan.legs.iter().map(Into::into).collect(),
            recording: plan.recording.map(|recording| proto::RecordingPlan {
                id: recording.id.0,
                left: recording.left.0,
                right: recording.right.0,
            }),
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
            }),
        })
    }
}

impl From<&MediaLeg> for proto::MediaLeg {
    fn from(leg: &MediaLeg) -> Self {
        let (source, source_leg) = match leg.source {
            Source::Silence => ("silence", 0),
            Source::Music => ("music", 0),
            Source::Ringback => ("ringback", 0),
            Source::Echo => ("echo", 0),
            Source::Leg(other) => ("leg", other.0),
        };
        Self {
            leg: leg.leg.0,
            port: u32::from(leg.port),
            remote: leg.remote.map(|remote| remote.to_string()),
            codec: leg.codec.name().to_owned(),
            payload: u32::from(leg.payload),
            telephone_event: leg.telephone_event.map(u32::from),
            ssrc: leg.ssrc,
            source: source.to_owned(),
            source_leg,
        }
    }
}

impl TryFrom<proto::MediaLeg> for MediaLeg {
    type Error = Error;

    fn try_from(leg: proto::MediaLeg) -> Result<Self, Error> {
        let source = match leg.source.as_str() {
            "silence" => Source::Silence,
            "music" => Source::Music,
            "ringback" => Source::Ringback,
            "echo" => Source::Echo,
            "leg" => Source::Leg(LegId(leg.source_leg)),
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
            ssrc: leg.ssrc,
            source,
        })
    }
}
