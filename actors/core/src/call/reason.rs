//! Why a leg or a call ends, as SIP and the telephone network say it (RFC 3326, ITU-T Q.850).
//!
//! What a peer gives as its cause goes into the record and on to the other leg; where it gives
//! none, the cause follows from the record's own word.

use tandem_sip::Response;
use tandem_sip::reason::Q850;

use super::state::Call;
use super::{attended, ending};
use crate::draft::Draft;
use crate::ids::CallId;

/// What stands for a record's cause.
pub fn of_cause(cause: &str) -> Option<Q850> {
    match cause {
        ending::NORMAL | attended::TRANSFERRED => Some(Q850::NORMAL),
        ending::NO_ACK | ending::SESSION_EXPIRED => Some(Q850::TIMER_EXPIRED),
        ending::TOO_LONG => Some(Q850::NORMAL),
        ending::RTP_SILENCE
        | ending::CALLER_UNREACHABLE
        | ending::AGENT_UNREACHABLE
        | ending::CALLEE_UNREACHABLE => Some(Q850::TEMPORARY_FAILURE),
        status => status.parse().ok().and_then(Q850::of_status),
    }
}

/// Of a BYE: why the call ends. A leg that leaves a call which goes on is let go in peace.
pub fn of_bye(draft: &Draft<'_>, id: CallId) -> String {
    draft.call(&id).and_then(|call| call.q850).unwrap_or(Q850::NORMAL).to_string()
}

/// Of a CANCEL: why the call ends, or that nobody has answered in time.
pub fn of_cancel(draft: &Draft<'_>, id: CallId) -> String {
    let over = draft.call(&id).filter(|call| !call.is_live());
    let why = over.map_or(Some(Q850::NO_ANSWER), |call: &Call| call.q850);
    why.unwrap_or(Q850::NORMAL).to_string()
}

/// In place of what stands there.
pub fn put(response: &mut Response, q850: Option<Q850>) {
    if let Some(q850) = q850 {
        response.headers.remove_other("Reason");
        response.headers.push_other("Reason", &q850.to_string());
    }
}
