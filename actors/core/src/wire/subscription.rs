//! Subscriptions of phones.

use std::sync::Arc;

use tandem_sip::Millis;
use tandem_sip::dialog::Dialog;
use tandem_sip::protobuf::{Encode, Writer};

use super::{Error, carrier_from, need, parse, put_carrier};
use crate::ids::{LegId, SubscriptionId};
use crate::proto;
use crate::subscription::lamp::Line;
use crate::subscription::state::{Package, State, Subscription, Watched};

impl Encode for Subscription {
    fn encode(&self, to: &mut Writer) {
        to.uint(1, self.id.0);
        to.text(2, &self.subscriber.0);
        match &self.package {
            Package::Dialog(watched) => to.message(3, watched),
            Package::MessageSummary => {}
        }
        to.some_text(4, self.event_id.as_deref());
        to.text(5, &self.gateway.0);
        to.socket(6, &self.peer);
        put_carrier(to, 7, self.carrier);
        to.message(8, &*self.dialog);
        to.uint(9, self.due_at().0);
        to.flag(10, !self.is_active());
    }
}

impl Encode for Watched {
    fn encode(&self, to: &mut Writer) {
        to.text(1, &self.agent.0);
        to.uint(2, self.version);
        to.messages(3, &self.told);
    }
}

impl Encode for Line {
    fn encode(&self, to: &mut Writer) {
        to.fixed(1, self.leg.0);
        to.text(2, self.state.as_str());
        to.flag(3, self.initiator);
    }
}

impl TryFrom<proto::Subscription> for Subscription {
    type Error = Error;

    fn try_from(row: proto::Subscription) -> Result<Self, Error> {
        let until = Millis(row.until);
        let package = match row.dialogs {
            Some(watched) => Package::Dialog(watched.try_into()?),
            None => Package::MessageSummary,
        };
        Ok(Self {
            id: SubscriptionId(row.id),
            subscriber: row.subscriber.into(),
            package,
            event_id: row.event_id,
            gateway: row.gateway.into(),
            peer: parse(&row.peer, "subscription.peer")?,
            carrier: carrier_from(row.carrier)?,
            dialog: Arc::new(Dialog::try_from(need(row.dialog, "subscription.dialog")?)?),
            state: if row.over {
                State::Over { until }
            } else {
                State::Active { expires_at: until }
            },
        })
    }
}

impl TryFrom<proto::subscription::Watched> for Watched {
    type Error = Error;

    fn try_from(row: proto::subscription::Watched) -> Result<Self, Error> {
        let line = |line: proto::subscription::Line| -> Result<Line, Error> {
            Ok(Line {
                leg: LegId(line.leg),
                state: parse(&line.state, "subscription.line.state")?,
                initiator: line.initiator,
            })
        };
        let told = row.told.into_iter().map(line).collect::<Result<_, _>>()?;
        Ok(Self { agent: row.agent.into(), version: row.version, told })
    }
}
