//! The server's side: figures 7 and 8 of RFC 3261, figure 7 as RFC 6026 §7.1 corrects it.

use super::{
    Event, GIVE_UP_MS, InviteServerSnapshot, InviteServerStage, NonInviteServerSnapshot,
    NonInviteServerStage, Output, T1_MS, T2_MS, T4_MS,
};
use crate::{Millis, Response, reliable};

/// An INVITE that was received.
///
/// ```text
/// Proceeding ──300–699──▶ Completed ──ACK──▶ Confirmed ──I──▶ Terminated
///     └────2xx──▶ Accepted ──L──▶ Terminated
/// ```
///
/// Two choices beyond the figure. It sends no 100 by itself: ours goes out when the call is
/// committed, so until the first response a repeated INVITE is absorbed. And in Accepted it
/// repeats the 2xx until `handle_ack` (§13.3.1.4, which RFC 3261 gives to the user), so that one
/// machine holds all that a takeover needs. A reliable 1xx is repeated until `handle_prack`
/// (RFC 3262 §3) or a final response, over every transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InviteServer {
    state: InviteState,
    reliable: bool,
    last_response: Option<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum InviteState {
    /// `early` is of the last reliable 1xx.
    Proceeding {
        early: Option<Early>,
    },
    /// Timers G and H.
    Completed {
        repeat: Option<Repeat>,
        give_up: Millis,
    },
    /// Timer I.
    Confirmed {
        over: Millis,
    },
    /// Timer L; the 2xx is repeated until its ACK.
    Accepted {
        repeat: Option<Repeat>,
        over: Millis,
    },
    Terminated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Early {
    rseq: u32,
    /// None once its PRACK has come, or was waited for in vain.
    repeat: Option<Repeat>,
    give_up: Millis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Repeat {
    at: Millis,
    interval_ms: u64,
}

impl Repeat {
    fn from(now: Millis) -> Self {
        Self { at: now.after(T1_MS), interval_ms: T1_MS }
    }

    /// Doubled up to T2.
    fn next(self, now: Millis) -> Self {
        let interval_ms = (self.interval_ms * 2).min(T2_MS);
        Self { at: now.after(interval_ms), interval_ms }
    }

    /// Doubled: a reliable 1xx knows no T2 (RFC 3262 §3).
    fn doubled(self, now: Millis) -> Self {
        let interval_ms = self.interval_ms * 2;
        Self { at: now.after(interval_ms), interval_ms }
    }
}

impl InviteServer {
    pub fn new(reliable: bool) -> Self {
        Self { state: InviteState::Proceeding { early: None }, reliable, last_response: None }
    }

    /// Goes on where another process stopped. A final response that nobody has acknowledged is
    /// sent again at once: its last repetition may have died with that process.
    pub fn adopt(now: Millis, snapshot: InviteServerSnapshot) -> (Self, Vec<Output>) {
        let InviteServerSnapshot { stage, reliable, last_response } = snapshot;
        let again = || last_response.clone().map(Output::Transmit).into_iter().collect();
        let over = now.after(GIVE_UP_MS);
        let (state, outputs) = match stage {
            InviteServerStage::Proceeding => (InviteState::Proceeding { early: None }, Vec::new()),
            InviteServerStage::Completed => {
                let repeat = (!reliable).then(|| Repeat::from(now));
                (InviteState::Completed { repeat, give_up: over }, again())
            }
            InviteServerStage::Confirmed => {
                (InviteState::Confirmed { over: now.after(T4_MS) }, Vec::new())
            }
            InviteServerStage::Accepted { acknowledged: true } => {
                (InviteState::Accepted { repeat: None, over }, Vec::new())
            }
            InviteServerStage::Accepted { acknowledged: false } => {
                (InviteState::Accepted { repeat: Some(Repeat::from(now)), over }, again())
            }
        };
        (Self { state, reliable, last_response }, outputs)
    }

    /// `None` where it is over.
    pub fn snapshot(&self) -> Option<InviteServerSnapshot> {
        let stage = match &self.state {
            InviteState::Proceeding { .. } => InviteServerStage::Proceeding,
            InviteState::Completed { .. } => InviteServerStage::Completed,
            InviteState::Confirmed { .. } => InviteServerStage::Confirmed,
            InviteState::Accepted { repeat, .. } => {
                InviteServerStage::Accepted { acknowledged: repeat.is_none() }
            }
            InviteState::Terminated => return None,
        };
        let last_response = self.last_response.clone();
        Some(InviteServerSnapshot { stage, reliable: self.reliable, last_response })
    }

    /// The INVITE came again.
    pub fn handle_retransmission(&mut self) -> Vec<Output> {
        match self.state {
            InviteState::Proceeding { .. } | InviteState::Completed { .. } => {
                self.last_response.clone().map(Output::Transmit).into_iter().collect()
            }
            // The 2xx is repeated by its own timer; an ACK says that it arrived.
            InviteState::Accepted { .. }
            | InviteState::Confirmed { .. }
            | InviteState::Terminated => Vec::new(),
        }
    }

    /// The user answers. After a final response nothing more is sent: a command that is executed
    /// again after a takeover changes nothing.
    pub fn handle_response(&mut self, now: Millis, response: &Response) -> Vec<Output> {
        let InviteState::Proceeding { early } = &mut self.state else { return Vec::new() };
        let rseq = reliable::rseq(response);
        if early.is_some_and(|early| Some(early.rseq) == rseq) {
            // Said again after a takeover: its own timer repeats it, if anything need.
            return Vec::new();
        }
        let bytes = response.to_bytes();
        let waits = early.is_some_and(|early| early.repeat.is_some());
        if waits && rseq.is_none() && response.is_provisional() {
            // What is repeated stays the one that waits for its PRACK.
            return vec![Output::Transmit(bytes)];
        }
        self.last_response = Some(bytes.clone());
        match response.status {
            100..=199 => {
                if let Some(rseq) = rseq {
                    let (repeat, give_up) = (Some(Repeat::from(now)), now.after(GIVE_UP_MS));
                    *early = Some(Early { rseq, repeat, give_up });
                }
            }
            200..=299 => {
                self.state = InviteState::Accepted {
                    repeat: Some(Repeat::from(now)),
                    over: now.after(GIVE_UP_MS),
                };
            }
            _ => {
                self.state = InviteState::Completed {
                    repeat: (!self.reliable).then(|| Repeat::from(now)),
                    give_up: now.after(GIVE_UP_MS),
                };
            }
        }
        vec![Output::Transmit(bytes)]
    }

    /// An ACK of this INVITE: of the failure by its transaction, of the 2xx by its dialog.
    /// True where it is the first.
    pub fn handle_ack(&mut self, now: Millis) -> bool {
        match &mut self.state {
            InviteState::Completed { .. } => {
                self.state = if self.reliable {
                    InviteState::Terminated
                } else {
                    InviteState::Confirmed { over: now.after(T4_MS) }
                };
                true
            }
            InviteState::Accepted { repeat, .. } => repeat.take().is_some(),
            InviteState::Proceeding { .. }
            | InviteState::Confirmed { .. }
            | InviteState::Terminated => false,
        }
    }

    /// The PRACK of a 1xx. True where it is the first for the last one.
    pub fn handle_prack(&mut self, rseq: u32) -> bool {
        match &mut self.state {
            InviteState::Proceeding { early: Some(early) } if early.rseq == rseq => {
                early.repeat.take().is_some()
            }
            InviteState::Proceeding { .. }
            | InviteState::Completed { .. }
            | InviteState::Accepted { .. }
            | InviteState::Confirmed { .. }
            | InviteState::Terminated => false,
        }
    }

    pub fn deadline(&self) -> Option<Millis> {
        match &self.state {
            InviteState::Proceeding { early } => early
                .as_ref()
                .and_then(|early| early.repeat.map(|repeat| repeat.at.min(early.give_up))),
            InviteState::Terminated => None,
            InviteState::Completed { repeat, give_up: over }
            | InviteState::Accepted { repeat, over } => {
                Some(repeat.map_or(*over, |repeat| repeat.at.min(*over)))
            }
            InviteState::Confirmed { over } => Some(*over),
        }
    }

    pub fn handle_timeout(&mut self, now: Millis) -> Vec<Output> {
        let again = self.last_response.clone().map(Output::Transmit);
        match &mut self.state {
            InviteState::Proceeding {
                early: Some(Early { repeat: waits @ Some(_), give_up, .. }),
            } if now >= *give_up => {
                *waits = None;
                vec![Output::ToUser(Event::NoPrack)]
            }
            InviteState::Proceeding { early: Some(Early { repeat: Some(repeat), .. }) }
                if now >= repeat.at =>
            {
                *repeat = repeat.doubled(now);
                again.into_iter().collect()
            }
            InviteState::Completed { give_up: over, .. } if now >= *over => {
                self.state = InviteState::Terminated;
                vec![Output::ToUser(Event::NoAck)]
            }
            InviteState::Accepted { repeat, over } if now >= *over => {
                let unacknowledged = repeat.is_some();
                self.state = InviteState::Terminated;
                unacknowledged.then_some(Output::ToUser(Event::NoAck)).into_iter().collect()
            }
            InviteState::Completed { repeat: Some(repeat), .. }
            | InviteState::Accepted { repeat: Some(repeat), .. }
                if now >= repeat.at =>
            {
                *repeat = repeat.next(now);
                again.into_iter().collect()
            }
            InviteState::Confirmed { over } if now >= *over => {
                self.state = InviteState::Terminated;
                Vec::new()
            }
            InviteState::Proceeding { .. }
            | InviteState::Completed { .. }
            | InviteState::Accepted { .. }
            | InviteState::Confirmed { .. }
            | InviteState::Terminated => Vec::new(),
        }
    }

    /// A response could not be sent. A 2xx is tried again by its own timer (RFC 6026 §7.1).
    pub fn handle_transport_error(&mut self) -> Vec<Output> {
        match self.state {
            InviteState::Proceeding { .. } | InviteState::Completed { .. } => {
                self.state = InviteState::Terminated;
                vec![Output::ToUser(Event::NoAck)]
            }
            InviteState::Accepted { .. }
            | InviteState::Confirmed { .. }
            | InviteState::Terminated => Vec::new(),
        }
    }

    /// No final response was given yet: a CANCEL still matters (RFC 3261 §9.2).
    pub fn is_pending(&self) -> bool {
        matches!(self.state, InviteState::Proceeding { .. })
    }

    pub fn is_terminated(&self) -> bool {
        self.state == InviteState::Terminated
    }
}

/// Any other request that was received.
///
/// ```text
/// Trying ──1xx──▶ Proceeding ──200–699──▶ Completed ──J──▶ Terminated
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NonInviteServer {
    state: NonInviteState,
    reliable: bool,
    last_response: Option<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum NonInviteState {
    Trying,
    Proceeding,
    /// Timer J.
    Completed {
        over: Millis,
    },
    Terminated,
}

impl NonInviteServer {
    pub fn new(reliable: bool) -> Self {
        Self { state: NonInviteState::Trying, reliable, last_response: None }
    }

    /// Goes on where another process stopped. Nothing is sent: the peer repeats its request.
    pub fn adopt(now: Millis, snapshot: NonInviteServerSnapshot) -> Self {
        let NonInviteServerSnapshot { stage, reliable, last_response } = snapshot;
        let state = match stage {
            NonInviteServerStage::Trying => NonInviteState::Trying,
            NonInviteServerStage::Proceeding => NonInviteState::Proceeding,
            NonInviteServerStage::Completed => {
                NonInviteState::Completed { over: now.after(GIVE_UP_MS) }
            }
        };
        Self { state, reliable, last_response }
    }

    /// `None` where it is over.
    pub fn snapshot(&self) -> Option<NonInviteServerSnapshot> {
        let stage = match self.state {
            NonInviteState::Trying => NonInviteServerStage::Trying,
            NonInviteState::Proceeding => NonInviteServerStage::Proceeding,
            NonInviteState::Completed { .. } => NonInviteServerStage::Completed,
            NonInviteState::Terminated => return None,
        };
        let last_response = self.last_response.clone();
        Some(NonInviteServerSnapshot { stage, reliable: self.reliable, last_response })
    }

    pub fn handle_retransmission(&mut self) -> Vec<Output> {
        match self.state {
            NonInviteState::Proceeding | NonInviteState::Completed { .. } => {
                self.last_response.clone().map(Output::Transmit).into_iter().collect()
            }
            NonInviteState::Trying | NonInviteState::Terminated => Vec::new(),
        }
    }

    pub fn handle_response(&mut self, now: Millis, response: &Response) -> Vec<Output> {
        match self.state {
            NonInviteState::Trying | NonInviteState::Proceeding => {
                let bytes = response.to_bytes();
                self.last_response = Some(bytes.clone());
                self.state = match (response.is_provisional(), self.reliable) {
                    (true, _) => NonInviteState::Proceeding,
                    (false, true) => NonInviteState::Terminated,
                    (false, false) => NonInviteState::Completed { over: now.after(GIVE_UP_MS) },
                };
                vec![Output::Transmit(bytes)]
            }
            NonInviteState::Completed { .. } | NonInviteState::Terminated => Vec::new(),
        }
    }

    pub fn deadline(&self) -> Option<Millis> {
        match self.state {
            NonInviteState::Completed { over } => Some(over),
            NonInviteState::Trying | NonInviteState::Proceeding | NonInviteState::Terminated => {
                None
            }
        }
    }

    pub fn handle_timeout(&mut self, now: Millis) -> Vec<Output> {
        if self.deadline().is_some_and(|over| now >= over) {
            self.state = NonInviteState::Terminated;
        }
        Vec::new()
    }

    /// A response could not be sent: the peer's own timers see to it.
    pub fn handle_transport_error(&mut self) {
        self.state = NonInviteState::Terminated;
    }

    pub fn is_terminated(&self) -> bool {
        self.state == NonInviteState::Terminated
    }
}
