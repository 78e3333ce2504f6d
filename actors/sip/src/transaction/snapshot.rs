//! What another process needs to go on with a transaction.
//!
//! A snapshot holds no times: clocks of two processes need not agree. `adopt` starts the timers
//! anew, so that a peer sees at worst a later giving up, and says what to send at once.

use crate::Request;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InviteClientSnapshot {
    pub stage: InviteClientStage,
    pub reliable: bool,
    pub invite: Request,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InviteClientStage {
    Calling,
    Proceeding,
    /// The ACK with which a repeated failure is answered.
    Completed {
        ack: Vec<u8>,
    },
    Accepted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NonInviteClientSnapshot {
    pub stage: NonInviteClientStage,
    pub reliable: bool,
    pub request: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonInviteClientStage {
    Trying,
    Proceeding,
    Completed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InviteServerSnapshot {
    pub stage: InviteServerStage,
    pub reliable: bool,
    pub last_response: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InviteServerStage {
    Proceeding,
    Completed,
    Confirmed,
    Accepted { acknowledged: bool },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NonInviteServerSnapshot {
    pub stage: NonInviteServerStage,
    pub reliable: bool,
    pub last_response: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonInviteServerStage {
    Trying,
    Proceeding,
    Completed,
}
