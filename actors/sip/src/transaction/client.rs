//! The client's side: figures 5 and 6 of RFC 3261, figure 5 as RFC 6026 §7.2 corrects it.

use super::{Event, GIVE_UP_MS, Output, T1_MS, T2_MS, T4_MS, TIMER_D_MS};
use crate::dialog::ack_for_failure;
use crate::{Millis, Request, Response};

/// An INVITE of ours.
///
/// ```text
/// Calling ──1xx──▶ Proceeding ──300–699──▶ Completed ──D──▶ Terminated
///    │  └─B─▶ Terminated  └──2xx──▶ Accepted ──M──▶ Terminated
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InviteClient {
    state: InviteState,
    reliable: bool,
    invite: Request,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum InviteState {
    /// Timers A and B.
    Calling { repeat: Option<(Millis, u64)>, give_up: Millis },
    Proceeding,
    /// Timer D; a repeated failure is acknowledged again.
    Completed { ack: Vec<u8>, over: Millis },
    /// Timer M; every 2xx goes to the user, who acknowledges it.
    Accepted { over: Millis },
    Terminated,
}

impl InviteClient {
    /// Begins with the first transmission.
    pub fn start(now: Millis, invite: Request, reliable: bool) -> (Self, Vec<Output>) {
        let bytes = invite.to_bytes();
        let state = InviteState::Calling {
            repeat: (!reliable).then(|| (now.after(T1_MS), T1_MS)),
            give_up: now.after(GIVE_UP_MS),
        };
        (Self { state, reliable, invite }, vec![Output::Transmit(bytes)])
    }

    /// Goes on with an INVITE that another process sent and that is known to proceed: nothing is
    /// sent, its final response is awaited.
    pub fn adopt(invite: Request, reliable: bool) -> Self {
        Self { state: InviteState::Proceeding, reliable, invite }
    }

    pub fn request(&self) -> &Request {
        &self.invite
    }

    pub fn handle_response(&mut self, now: Millis, response: &Response) -> Vec<Output> {
        let to_user = || Output::ToUser(Event::Response(Box::new(response.clone())));
        match (&self.state, response.status) {
            (InviteState::Calling { .. } | InviteState::Proceeding, 100..=199) => {
                self.state = InviteState::Proceeding;
                vec![to_user()]
            }
            (InviteState::Calling { .. } | InviteState::Proceeding, 200..=299) => {
                self.state = InviteState::Accepted { over: now.after(GIVE_UP_MS) };
                vec![to_user()]
            }
            (InviteState::Calling { .. } | InviteState::Proceeding, _) => {
                let ack = ack_for_failure(&self.invite, response).to_bytes();
                self.state = if self.reliable {
                    InviteState::Terminated
                } else {
                    InviteState::Completed { ack: ack.clone(), over: now.after(TIMER_D_MS) }
                };
                vec![Output::Transmit(ack), to_user()]
            }
            (InviteState::Accepted { .. }, 200..=299) => vec![to_user()],
            (InviteState::Completed { ack, .. }, 300..=699) => vec![Output::Transmit(ack.clone())],
            (InviteState::Accepted { .. } | InviteState::Completed { .. }, _)
            | (InviteState::Terminated, _) => Vec::new(),
        }
    }

    pub fn deadline(&self) -> Option<Millis> {
        match &self.state {
            InviteState::Calling { repeat, give_up } => {
                Some(repeat.map_or(*give_up, |(at, _)| at.min(*give_up)))
            }
            InviteState::Completed { over, .. } | InviteState::Accepted { over } => Some(*over),
            InviteState::Proceeding | InviteState::Terminated => None,
        }
    }

    pub fn handle_timeout(&mut self, now: Millis) -> Vec<Output> {
        match &mut self.state {
            InviteState::Calling { give_up, .. } if now >= *give_up => {
                self.state = InviteState::Terminated;
                vec![Output::ToUser(Event::TimedOut)]
            }
            // Timer A doubles without a bound; B ends it.
            InviteState::Calling { repeat: Some((at, interval_ms)), .. } if now >= *at => {
                *interval_ms *= 2;
                *at = at.after(*interval_ms);
                vec![Output::Transmit(self.invite.to_bytes())]
            }
            InviteState::Completed { over, .. } | InviteState::Accepted { over }
                if now >= *over =>
            {
                self.state = InviteState::Terminated;
                Vec::new()
            }
            InviteState::Calling { .. }
            | InviteState::Proceeding
            | InviteState::Completed { .. }
            | InviteState::Accepted { .. }
            | InviteState::Terminated => Vec::new(),
        }
    }

    pub fn is_terminated(&self) -> bool {
        self.state == InviteState::Terminated
    }
}

/// Any other request of ours.
///
/// ```text
/// Trying ──1xx──▶ Proceeding ──200–699──▶ Completed ──K──▶ Terminated
///    └──────F──────────┴─▶ Terminated
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NonInviteClient {
    state: NonInviteState,
    reliable: bool,
    bytes: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum NonInviteState {
    /// Timers E and F.
    Trying { repeat: Option<(Millis, u64)>, give_up: Millis },
    Proceeding { repeat: Option<Millis>, give_up: Millis },
    /// Timer K.
    Completed { over: Millis },
    Terminated,
}

impl NonInviteClient {
    pub fn start(now: Millis, request: &Request, reliable: bool) -> (Self, Vec<Output>) {
        let bytes = request.to_bytes();
        let state = NonInviteState::Trying {
            repeat: (!reliable).then(|| (now.after(T1_MS), T1_MS)),
            give_up: now.after(GIVE_UP_MS),
        };
        (Self { state, reliable, bytes: bytes.clone() }, vec![Output::Transmit(bytes)])
    }

    pub fn handle_response(&mut self, now: Millis, response: &Response) -> Vec<Output> {
        let give_up = match self.state {
            NonInviteState::Trying { give_up, .. } | NonInviteState::Proceeding { give_up, .. } => {
                give_up
            }
            NonInviteState::Completed { .. } | NonInviteState::Terminated => return Vec::new(),
        };
        self.state = match (response.is_provisional(), self.reliable) {
            (true, reliable) => NonInviteState::Proceeding {
                repeat: (!reliable).then(|| now.after(T2_MS)),
                give_up,
            },
            (false, true) => NonInviteState::Terminated,
            (false, false) => NonInviteState::Completed { over: now.after(T4_MS) },
        };
        vec![Output::ToUser(Event::Response(Box::new(response.clone())))]
    }

    pub fn deadline(&self) -> Option<Millis> {
        match &self.state {
            NonInviteState::Trying { repeat, give_up } => {
                Some(repeat.map_or(*give_up, |(at, _)| at.min(*give_up)))
            }
            NonInviteState::Proceeding { repeat, give_up } => {
                Some(repeat.map_or(*give_up, |at| at.min(*give_up)))
            }
            NonInviteState::Completed { over } => Some(*over),
            NonInviteState::Terminated => None,
        }
    }

    pub fn handle_timeout(&mut self, now: Millis) -> Vec<Output> {
        match &mut self.state {
            NonInviteState::Trying { give_up, .. } | NonInviteState::Proceeding { give_up, .. }
                if now >= *give_up =>
            {
                self.state = NonInviteState::Terminated;
                vec![Output::ToUser(Event::TimedOut)]
            }
            NonInviteState::Trying { repeat: Some((at, interval_ms)), .. } if now >= *at => {
                *interval_ms = (*interval_ms * 2).min(T2_MS);
                *at = at.after(*interval_ms);
                vec![Output::Transmit(self.bytes.clone())]
            }
            NonInviteState::Proceeding { repeat: Some(at), .. } if now >= *at => {
                *at = at.after(T2_MS);
                vec![Output::Transmit(self.bytes.clone())]
            }
            NonInviteState::Completed { over } if now >= *over => {
                self.state = NonInviteState::Terminated;
                Vec::new()
            }
            NonInviteState::Trying { .. }
            | NonInviteState::Proceeding { .. }
            | NonInviteState::Completed { .. }
            | NonInviteState::Terminated => Vec::new(),
        }
    }

    pub fn is_terminated(&self) -> bool {
        self.state == NonInviteState::Terminated
    }
}
