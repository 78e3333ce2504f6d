//! INVITEs that were refused, until their transactions are over: the gateway that said it may die
//! with the answer, and its next life is asked again (RFC 3261 §17.2.1).

use tandem_sip::Millis;

use crate::command::TransactionKey;
use crate::ids::CallId;

/// A refusal that stays in the outbox, so that it can be said again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub transaction: TransactionKey,
    /// The call that it ended, or never made.
    pub call: CallId,
    /// Forgotten with the first command after: the caller repeats nothing any more.
    pub until: Millis,
}
