//! The domain to and from its versioned encodings (`proto/tandem/core/v1/core.proto`). The numbers
//! in `encode` are the fields' of that file; the golden files hold them to it.

mod config;
mod consult;
mod early;
mod effect;
mod envelope;
mod event;
mod flow;
mod history;
mod leases;
mod message;
mod row;
mod subscription;
#[cfg(test)]
mod tests;
mod timer;
mod trunk;

use prost::Message as _;
use tandem_sip::protobuf::{Encode, Writer};
use tandem_sip::reason::Q850;
use tandem_sip::sdp::Codec;
use tandem_sip::{Carrier, ConnectionId};

use crate::command::{Envelope, GatewayEvent};
use crate::config::Config;
use crate::effect::Effect;
use crate::ids::{ChannelId, EntityId};
use crate::proto;

pub(crate) use history::{cdr_from, leg_quality_from, manifest_from};
pub(crate) use message::relayed_from;
pub(crate) use row::{
    Counted, Invite, answered_from, counts_from, invite_from, refused_from, transfers_from,
};

/// Bytes that this build can't read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    #[error("not an encoding: {0}")]
    Protobuf(#[from] prost::DecodeError),
    #[error(transparent)]
    Sip(#[from] tandem_sip::wire::Error),
    #[error("field {0} is missing, or of a kind that this build doesn't know")]
    Missing(&'static str),
    #[error("{0} {1:?} is not known to this build")]
    Unknown(&'static str, String),
    #[error("field {0} is out of range")]
    Range(&'static str),
}

macro_rules! codec {
    ($encode:ident, $decode:ident, $value:ty, $message:ty) => {
        pub fn $encode(value: &$value) -> Vec<u8> {
            value.encoded()
        }

        /// # Errors
        /// Where the bytes are of no encoding that this build knows.
        pub fn $decode(bytes: &[u8]) -> Result<$value, Error> {
            <$message>::decode(bytes)?.try_into()
        }
    };
}

codec!(encode_envelope, decode_envelope, Envelope, proto::Envelope);
codec!(encode_event, decode_event, GatewayEvent, proto::GatewayEvent);
codec!(encode_effect, decode_effect, Effect, proto::Effect);
codec!(encode_config, decode_config, Config, proto::Config);

fn need<T>(field: Option<T>, name: &'static str) -> Result<T, Error> {
    field.ok_or(Error::Missing(name))
}

fn narrow<T: TryFrom<u32>>(number: u32, name: &'static str) -> Result<T, Error> {
    T::try_from(number).map_err(|_| Error::Range(name))
}

fn parse<T: std::str::FromStr>(text: &str, name: &'static str) -> Result<T, Error> {
    text.parse().map_err(|_| Error::Unknown(name, text.to_owned()))
}

fn parse_some<T: std::str::FromStr>(
    text: Option<&str>,
    name: &'static str,
) -> Result<Option<T>, Error> {
    text.map(|text| parse(text, name)).transpose()
}

/// A cause beyond what Q.850 has is an encoding of somebody else's.
fn q850_from(cause: Option<u32>, name: &'static str) -> Result<Option<Q850>, Error> {
    let read = |cause| u8::try_from(cause).ok().and_then(Q850::new).ok_or(Error::Range(name));
    cause.map(read).transpose()
}

/// UDP is written as nothing: so it was before there was another.
fn codecs_from(names: &[String]) -> Result<Vec<Codec>, Error> {
    names.iter().map(|name| tandem_sip::wire::codec(name).map_err(Error::from)).collect()
}

fn put_carrier(to: &mut Writer, field: u32, carrier: Carrier) {
    let transport = match carrier {
        Carrier::Udp => None,
        Carrier::Tcp { .. } => Some("tcp"),
        Carrier::Tls { .. } => Some("tls"),
        Carrier::Ws { .. } => Some("ws"),
        Carrier::Wss { .. } => Some("wss"),
    };
    if let Some(transport) = transport {
        to.delimited(field, |to| {
            to.text(1, transport);
            to.uint(2, carrier.connection().map_or(0, |connection| connection.0));
        });
    }
}

fn carrier_from(carrier: Option<proto::Carrier>) -> Result<Carrier, Error> {
    let Some(proto::Carrier { transport, connection }) = carrier else { return Ok(Carrier::Udp) };
    let connection = (connection != 0).then_some(ConnectionId(connection));
    match transport.as_str() {
        "tcp" => Ok(Carrier::Tcp { connection }),
        "tls" => Ok(Carrier::Tls { connection }),
        "ws" => Ok(Carrier::Ws { connection }),
        "wss" => Ok(Carrier::Wss { connection }),
        other => Err(Error::Unknown("carrier", other.to_owned())),
    }
}

impl Encode for ChannelId {
    fn encode(&self, to: &mut Writer) {
        to.text(1, &self.trunk.0);
        to.uint(2, self.number);
    }
}

impl TryFrom<proto::channel::Id> for ChannelId {
    type Error = Error;

    fn try_from(id: proto::channel::Id) -> Result<Self, Error> {
        Ok(Self { trunk: id.trunk.into(), number: narrow(id.number, "channel.number")? })
    }
}

impl Encode for EntityId {
    fn encode(&self, to: &mut Writer) {
        match self {
            Self::Channel(id) => to.message(1, id),
            Self::Call(id) => to.some_fixed(2, Some(id.0)),
            Self::Agent(id) => to.some_text(3, Some(&id.0)),
            Self::Queue(id) => to.some_text(4, Some(&id.0)),
            Self::Gateway(id) => to.some_text(5, Some(&id.0)),
        }
    }
}

impl TryFrom<proto::Entity> for EntityId {
    type Error = Error;

    fn try_from(entity: proto::Entity) -> Result<Self, Error> {
        use crate::ids::CallId;
        use proto::entity::Id;
        Ok(match need(entity.id, "entity.id")? {
            Id::Channel(id) => Self::Channel(id.try_into()?),
            Id::Call(id) => Self::Call(CallId(id)),
            Id::Agent(id) => Self::Agent(id.into()),
            Id::Queue(id) => Self::Queue(id.into()),
            Id::Gateway(id) => Self::Gateway(id.into()),
        })
    }
}
