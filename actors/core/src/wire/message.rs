//! Texts under way.

use std::sync::Arc;

use tandem_sip::Millis;
use tandem_sip::protobuf::{Encode, Writer};

use super::{Error, need};
use crate::message::state::Relayed;
use crate::proto;

impl Encode for Relayed {
    fn encode(&self, to: &mut Writer) {
        to.text(1, &self.branch);
        to.text(2, &self.to.0);
        to.message(3, &self.transaction);
        to.message(4, &*self.request);
        to.uint(5, self.until.0);
    }
}

pub(crate) fn relayed_from(row: proto::Relayed) -> Result<Relayed, Error> {
    Ok(Relayed {
        branch: row.branch,
        to: row.to.into(),
        transaction: need(row.transaction, "relayed.transaction")?.into(),
        request: Arc::new(need(row.request, "relayed.request")?.try_into()?),
        until: Millis(row.until),
    })
}
