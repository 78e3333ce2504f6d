use std::sync::Arc;

use tandem_sip::{Millis, Request};

use crate::command::TransactionKey;
use crate::ids::AgentId;

/// A text whose phone has not answered yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Relayed {
    /// Of the Via of what we have sent: names it.
    pub branch: String,
    /// Whose phone has it.
    pub to: AgentId,
    /// Who waits for the answer.
    pub transaction: TransactionKey,
    /// What that answer is made of; the text itself is not kept.
    pub request: Arc<Request>,
    /// Forgotten with the first command after.
    pub until: Millis,
}
