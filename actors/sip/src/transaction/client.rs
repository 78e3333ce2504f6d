//! The client's side: figures 5 and 6 of RFC 3261, figure 5 as RFC 6026 §7.2 corrects it.

use super::{
    Event, GIVE_UP_MS, InviteClientSnapshot, InviteClientStage, NonInviteClientSnapshot,
    NonInviteClientStage, Output, T1_MS, T2_MS, T4_MS, TIMER_D_MS,
};
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
    Calling {
        repeat: Option<(Millis, u64)>,
        give_up: Millis,
    },
    Proceeding,
    /// Timer D; a repeated failure is acknowledged again.
    Completed {
        ack: Vec<u8>,
        over: Millis,
    },
    /// Timer M; every 2xx goes to the user, who acknowledges it.
    Accepted {
        over: Millis,
    },
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

    /// Goes on where another process stopped. An INVITE that nobody has answered is sent again;
    /// one that proceeds is not: its final response is awaited.
    pub fn adopt(now: Millis, snapshot: InviteClientSnapshot) -> (Self, Vec<Output>) {
        let InviteClientSnapshot { stage, reliable, invite } = snapshot;
        let state = match stage {
            InviteClientStage::Calling => return Self::start(now, invite, reliable),
            InviteClientStage::Proceeding => InviteState::Proceeding,
            InviteClientStage::Completed { ack } => {
                InviteState::Completed { ack, over: now.after(TIMER_D_MS) }
            }
            InviteClientStage::Accepted => InviteState::Accepted { over: now.after(GIVE_UP_MS) },
        };
        (Self { state, reliable, invite }, Vec::new())
    }

    /// `None` where it is over.
    pub fn snapshot(&self) -> Option<InviteClientSnapshot> {
        let stage = match &self.state {
            InviteState::Calling { .. } => InviteClientStage::Calling,
            InviteState::Proceeding => InviteClientStage::Proceeding,
            InviteState::Completed { ack, .. } => InviteClientStage::Completed { ack: ack.clone() },
            InviteState::Accepted { .. } => InviteClientStage::Accepted,
            InviteState::Terminated => return None,
        };
        Some(InviteClientSnapshot { stage, reliable: self.reliable, invite: self.invite.clone() })
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
                *at = now.after(*interval_ms);
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

    /// The request or the ACK could not be sent.
    pub fn handle_transport_error(&mut self) -> Vec<Output> {
        match self.state {
            InviteState::Calling { .. } => {
                self.state = InviteState::Terminated;
                vec![Output::ToUser(Event::TimedOut)]
            }
            // The user has its final response already (figure 5 tells it, to no use).
            InviteState::Completed { .. } => {
                self.state = InviteState::Terminated;
                Vec::new()
            }
            InviteState::Proceeding | InviteState::Accepted { .. } | InviteState::Terminated => {
                Vec::new()
            }
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
    Trying {
        repeat: Option<(Millis, u64)>,
        give_up: Millis,
    },
    Proceeding {
        repeat: Option<Millis>,
        give_up: Millis,
    },
    /// Timer K.
    Completed {
        over: Millis,
    },
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

    /// Goes on where another process stopped. A request that nobody has answered is sent again.
    pub fn adopt(now: Millis, snapshot: NonInviteClientSnapshot) -> (Self, Vec<Output>) {
        let NonInviteClientSnapshot { stage, reliable, request: bytes } = snapshot;
        let give_up = now.after(GIVE_UP_MS);
        let (state, outputs) = match stage {
            NonInviteClientStage::Trying => {
                let repeat = (!reliable).then(|| (now.after(T1_MS), T1_MS));
                let outputs = vec![Output::Transmit(bytes.clone())];
                (NonInviteState::Trying { repeat, give_up }, outputs)
            }
            NonInviteClientStage::Proceeding => {
                let repeat = (!reliable).then(|| now.after(T2_MS));
                (NonInviteState::Proceeding { repeat, give_up }, Vec::new())
            }
            NonInviteClientStage::Completed => {
                (NonInviteState::Completed { over: now.after(T4_MS) }, Vec::new())
            }
        };
        (Self { state, reliable, bytes }, outputs)
    }

    /// `None` where it is over.
    pub fn snapshot(&self) -> Option<NonInviteClientSnapshot> {
        let stage = match self.state {
            NonInviteState::Trying { .. } => NonInviteClientStage::Trying,
            NonInviteState::Proceeding { .. } => NonInviteClientStage::Proceeding,
            NonInviteState::Completed { .. } => NonInviteClientStage::Completed,
            NonInviteState::Terminated => return None,
        };
        let request = self.bytes.clone();
        Some(NonInviteClientSnapshot { stage, reliable: self.reliable, request })
    }

    pub fn handle_response(&mut self, now: Millis, response: &Response) -> Vec<Output> {
        let (repeat, give_up) = match self.state {
            NonInviteState::Trying { repeat, give_up } => (repeat.map(|(at, _)| at), give_up),
            NonInviteState::Proceeding { repeat, give_up } => (repeat, give_up),
            NonInviteState::Completed { .. } | NonInviteState::Terminated => return Vec::new(),
        };
        self.state = match (response.is_provisional(), self.reliable) {
            // Timer E runs on; only its next interval is T2.
            (true, _) => NonInviteState::Proceeding { repeat, give_up },
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
                *at = now.after(*interval_ms);
                vec![Output::Transmit(self.bytes.clone())]
            }
            NonInviteState::Proceeding { repeat: Some(at), .. } if now >= *at => {
                *at = now.after(T2_MS);
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

    /// The request could not be sent.
    pub fn handle_transport_error(&mut self) -> Vec<Output> {
        match self.state {
            NonInviteState::Trying { .. } | NonInviteState::Proceeding { .. } => {
                self.state = NonInviteState::Terminated;
                vec![Output::ToUser(Event::TimedOut)]
            }
            NonInviteState::Completed { .. } | NonInviteState::Terminated => Vec::new(),
        }
    }

    pub fn is_terminated(&self) -> bool {
        self.state == NonInviteState::Terminated
    }
}
