//! Session timers of legs.

use tandem_sip::Millis;
use tandem_sip::protobuf::{Encode, Writer};

use super::Error;
use crate::call::session_timer::{Refresh, Refresher, SessionTimer};
use crate::proto;

impl Encode for SessionTimer {
    fn encode(&self, to: &mut Writer) {
        let refresher = match self.refresher {
            Refresher::We => "we",
            Refresher::Peer => "peer",
        };
        to.uint(1, self.interval_s);
        to.text(2, refresher);
        to.uint(3, self.expires_at.0);
        to.some_uint(4, self.refresh_at.map(|at| at.0));
        to.some_message(5, self.refresh.as_ref());
        to.flag(6, self.update);
    }
}

impl Encode for Refresh {
    fn encode(&self, to: &mut Writer) {
        to.text(1, &self.branch);
        to.flag(2, self.invite);
        to.uint(3, self.cseq);
        to.flag(4, self.answered);
    }
}

pub(super) fn timer_from(row: proto::SessionTimer) -> Result<SessionTimer, Error> {
    let refresher = match row.refresher.as_str() {
        "we" => Refresher::We,
        "peer" => Refresher::Peer,
        _ => return Err(Error::Unknown("refresher", row.refresher)),
    };
    let refresh = row.refresh.map(|of| Refresh {
        branch: of.branch,
        invite: of.invite,
        cseq: of.cseq,
        answered: of.answered,
    });
    Ok(SessionTimer {
        interval_s: row.interval_s,
        refresher,
        expires_at: Millis(row.expires_at),
        refresh_at: row.refresh_at.map(Millis),
        refresh,
        update: row.update,
    })
}
