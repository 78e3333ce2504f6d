use tandem_sip::Millis;
use tandem_sip::protobuf::{Encode, Writer};

use super::{Error, narrow};
use crate::call::state::{Consult, Consulted};
use crate::proto;

impl Encode for Consult {
    fn encode(&self, to: &mut Writer) {
        to.uint(1, self.at.0);
        to.text(2, &self.agent.0);
        to.text(3, &self.to.0);
        to.text(4, self.outcome.as_str());
        match self.outcome {
            Consulted::Failed { status } => to.uint(5, status),
            Consulted::Pending
            | Consulted::Joined
            | Consulted::Completed
            | Consulted::Cancelled
            | Consulted::HungUp
            | Consulted::Ended => {}
        }
    }
}

pub(super) fn consult_from(row: proto::Consult) -> Result<Consult, Error> {
    let outcome = match row.outcome.as_str() {
        "pending" => Consulted::Pending,
        "joined" => Consulted::Joined,
        "completed" => Consulted::Completed,
        "cancelled" => Consulted::Cancelled,
        "failed" => Consulted::Failed { status: narrow(row.status, "consult.status")? },
        "hung_up" => Consulted::HungUp,
        "ended" => Consulted::Ended,
        other => return Err(Error::Unknown("outcome of a consultation", other.to_owned())),
    };
    Ok(Consult { at: Millis(row.at), agent: row.agent.into(), to: row.to.into(), outcome })
}
