//! Answers to operators' commands, by key: who asks again, after a takeover too, gets the same
//! answer, and nothing is done twice.

use tandem_sip::Millis;

use crate::command::OperatorCommand;

#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    pub key: String,
    /// Forgotten with the first command after.
    pub until: Millis,
    /// The key names this command, and no other.
    pub command: OperatorCommand,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With the thing that it was about as it was then, in JSON as [`view`](crate::view) has it;
    /// empty where there was none.
    Done { json: Vec<u8> },
    /// What there was not.
    NotFound { what: String },
    /// Why.
    Refused { sentence: String },
}
