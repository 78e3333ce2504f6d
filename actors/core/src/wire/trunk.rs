//! Trunks outward, and the calls that go out by them.

use tandem_sip::Millis;
use tandem_sip::protobuf::{Encode, Writer};

use super::{Error, narrow, parse, parse_some};
use crate::call::state::{Hop, Outward as CallOutward};
use crate::cdr::Outward as CdrOutward;
use crate::ids::{GatewayId, TrunkId};
use crate::proto;
use crate::trunk::numbers::Rewrite;
use crate::trunk::outward::{Credentials, Outward, Registration, Route};
use crate::trunk::state::{Health, Hold, PeerChange, RegistrationChange, Trunk};

impl Encode for Route {
    fn encode(&self, to: &mut Writer) {
        to.text(1, &self.prefix);
        to.texts(2, self.trunks.iter().map(|trunk| &*trunk.0));
    }
}

pub(super) fn route_from(route: proto::Route) -> Route {
    let trunks = route.trunks.into_iter().map(TrunkId::from).collect();
    Route { prefix: route.prefix, trunks }
}

impl Encode for Credentials {
    fn encode(&self, to: &mut Writer) {
        to.text(1, &self.user);
        to.text(2, &self.realm);
        to.text(3, &self.ha1_md5);
        to.text(4, &self.ha1_sha256);
    }
}

fn credentials_from(of: proto::trunk::Credentials) -> Credentials {
    let proto::trunk::Credentials { user, realm, ha1_md5, ha1_sha256 } = of;
    Credentials { user, realm, ha1_md5, ha1_sha256 }
}

impl Encode for Rewrite {
    fn encode(&self, to: &mut Writer) {
        to.text(1, &self.from);
        to.text(2, &self.to);
    }
}

pub(super) fn rewrites_from(rules: Vec<proto::trunk::Rewrite>) -> Vec<Rewrite> {
    rules.into_iter().map(|rule| Rewrite { from: rule.from, to: rule.to }).collect()
}

impl Encode for Outward {
    fn encode(&self, to: &mut Writer) {
        for peer in &self.peers {
            to.shown(1, peer);
        }
        to.uint(2, self.priority);
        to.uint(3, self.weight);
        to.uint(4, self.calls_per_second);
        to.uint(5, self.reply_ms);
        to.uint(6, self.no_answer_ms);
        to.some_text(7, self.caller_id.as_deref());
        to.flag(8, self.hide_caller);
        to.messages(9, &self.called);
        to.messages(10, &self.calling);
        to.some_message(11, self.credentials.as_ref());
        to.uint(100, self.options_s);
        to.some_message(101, self.register.as_ref());
    }
}

impl Encode for Registration {
    fn encode(&self, to: &mut Writer) {
        to.text(1, &self.user);
        to.text(2, &self.domain);
        to.shown(3, &self.registrar);
        to.uint(4, self.expires_s);
    }
}

fn registration_from(of: proto::trunk::Registration) -> Result<Registration, Error> {
    let proto::trunk::Registration { user, domain, registrar, expires_s } = of;
    let registrar = parse(&registrar, "registration.registrar")?;
    Ok(Registration { user, domain, registrar, expires_s })
}

pub(super) fn outward_from(out: proto::trunk::Outward) -> Result<Outward, Error> {
    let peers = out.peers.iter().map(|peer| parse(peer, "trunk.peer"));
    Ok(Outward {
        peers: peers.collect::<Result<_, _>>()?,
        priority: narrow(out.priority, "trunk.priority")?,
        weight: narrow(out.weight, "trunk.weight")?,
        calls_per_second: narrow(out.calls_per_second, "trunk.calls_per_second")?,
        reply_ms: out.reply_ms,
        no_answer_ms: out.no_answer_ms,
        caller_id: out.caller_id,
        hide_caller: out.hide_caller,
        called: rewrites_from(out.called),
        calling: rewrites_from(out.calling),
        credentials: out.credentials.map(credentials_from),
        options_s: narrow(out.options_s, "trunk.options_s")?,
        register: out.register.map(registration_from).transpose()?,
    })
}

impl Encode for CallOutward {
    fn encode(&self, to: &mut Writer) {
        to.text(1, &self.number);
        to.messages(2, &self.left);
        to.some_message(3, self.channel.as_ref());
        to.some_socket(4, self.peer.as_ref());
    }
}

impl Encode for Hop {
    fn encode(&self, to: &mut Writer) {
        to.text(1, &self.trunk.0);
        to.shown(2, &self.peer);
    }
}

pub(super) fn call_outward_from(row: proto::call::Outward) -> Result<CallOutward, Error> {
    let hop = |hop: proto::call::Hop| -> Result<Hop, Error> {
        Ok(Hop { trunk: hop.trunk.into(), peer: parse(&hop.peer, "hop.peer")? })
    };
    Ok(CallOutward {
        number: row.number,
        left: row.left.into_iter().map(hop).collect::<Result<_, _>>()?,
        channel: row.channel.map(TryInto::try_into).transpose()?,
        peer: parse_some(row.peer.as_deref(), "outward.peer")?,
    })
}

impl Encode for CdrOutward {
    fn encode(&self, to: &mut Writer) {
        to.text(1, &self.number);
        to.some_message(3, self.channel.as_ref());
        to.some_socket(4, self.peer.as_ref());
    }
}

pub(super) fn cdr_outward_from(row: proto::call::Outward) -> Result<CdrOutward, Error> {
    Ok(CdrOutward {
        number: row.number,
        channel: row.channel.map(TryInto::try_into).transpose()?,
        peer: parse_some(row.peer.as_deref(), "outward.peer")?,
    })
}

impl Encode for Trunk {
    fn encode(&self, to: &mut Writer) {
        to.text(1, &self.id.0);
        to.uint(2, self.full_at_us);
        for (peer, hold) in &self.held {
            to.delimited(3, |to| {
                to.socket(1, peer);
                to.uint(2, hold.until.0);
                to.uint(3, hold.status);
            });
        }
        for ((peer, gateway), health) in &self.health {
            to.delimited(100, |to| {
                to.socket(1, peer);
                put_health(to, gateway, health);
            });
        }
        for (gateway, registered) in &self.registrations {
            to.delimited(101, |to| put_health(to, gateway, registered));
        }
    }
}

fn put_health(to: &mut Writer, gateway: &GatewayId, health: &Health) {
    to.text(2, &gateway.0);
    to.uint(3, health.number);
    to.flag(4, health.up);
    to.uint(5, health.status);
    to.uint(6, health.since.0);
}

fn health_from(row: &proto::trunk_state::Health) -> Result<(GatewayId, Health), Error> {
    let status = narrow(row.status, "health.status")?;
    let (number, up, since) = (row.number, row.up, Millis(row.since));
    Ok((row.gateway.as_str().into(), Health { number, up, status, since }))
}

impl TryFrom<proto::TrunkState> for Trunk {
    type Error = Error;

    fn try_from(row: proto::TrunkState) -> Result<Self, Error> {
        let hold = |row: proto::trunk_state::Hold| -> Result<_, Error> {
            let status = narrow(row.status, "hold.status")?;
            Ok((parse(&row.peer, "hold.peer")?, Hold { until: Millis(row.until), status }))
        };
        let health = |row: proto::trunk_state::Health| -> Result<_, Error> {
            let (gateway, health) = health_from(&row)?;
            Ok(((parse(&row.peer, "health.peer")?, gateway), health))
        };
        Ok(Self {
            id: row.id.into(),
            full_at_us: row.full_at_us,
            held: row.held.into_iter().map(hold).collect::<Result<_, _>>()?,
            health: row.health.into_iter().map(health).collect::<Result<_, _>>()?,
            registrations: row.registrations.iter().map(health_from).collect::<Result<_, _>>()?,
        })
    }
}

impl Encode for PeerChange {
    fn encode(&self, to: &mut Writer) {
        to.text(1, &self.trunk.0);
        to.socket(2, &self.peer);
        to.uint(3, self.number);
        to.flag(4, self.up);
        to.uint(5, self.status);
    }
}

impl TryFrom<proto::PeerChange> for PeerChange {
    type Error = Error;

    fn try_from(change: proto::PeerChange) -> Result<Self, Error> {
        Ok(Self {
            trunk: change.trunk.into(),
            peer: parse(&change.peer, "peer_change.peer")?,
            number: change.number,
            up: change.up,
            status: narrow(change.status, "peer_change.status")?,
        })
    }
}

impl Encode for RegistrationChange {
    fn encode(&self, to: &mut Writer) {
        to.text(1, &self.trunk.0);
        to.uint(2, self.number);
        to.flag(3, self.up);
        to.uint(4, self.status);
    }
}

impl TryFrom<proto::RegistrationChange> for RegistrationChange {
    type Error = Error;

    fn try_from(change: proto::RegistrationChange) -> Result<Self, Error> {
        let status = narrow(change.status, "registration_change.status")?;
        let proto::RegistrationChange { trunk, number, up, .. } = change;
        Ok(Self { trunk: trunk.into(), number, up, status })
    }
}
