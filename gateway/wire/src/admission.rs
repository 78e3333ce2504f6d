//! Which messages are let in: existing calls first, agents second, new calls last.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tandem_sip::{Message, Method, Request};

use crate::limits;

const WINDOW: Duration = Duration::from_secs(1);

/// What each address has sent in the current second.
#[derive(Debug)]
pub struct Sources {
    window_end: Instant,
    by_address: HashMap<IpAddr, Counts>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    datagrams: u32,
    refusals: u32,
    turned_away: u32,
}

impl Sources {
    pub fn new(now: Instant) -> Self {
        Self { window_end: now + WINDOW, by_address: HashMap::new() }
    }

    fn counts(&mut self, now: Instant, address: IpAddr) -> &mut Counts {
        let full =
            self.by_address.len() >= limits::SOURCES_MAX && !self.by_address.contains_key(&address);
        if now >= self.window_end || full {
            self.by_address.clear();
            self.window_end = now + WINDOW;
        }
        self.by_address.entry(address).or_default()
    }

    /// Counts one datagram; false where its address has sent too many.
    pub fn admits(&mut self, now: Instant, address: IpAddr) -> bool {
        let counts = self.counts(now, address);
        counts.datagrams = counts.datagrams.saturating_add(1);
        counts.datagrams <= limits::SOURCE_DATAGRAMS_PER_S_MAX
    }

    /// Counts one stateless refusal; false where it must not be sent.
    pub fn may_refuse(&mut self, now: Instant, address: IpAddr) -> bool {
        let counts = self.counts(now, address);
        counts.refusals = counts.refusals.saturating_add(1);
        counts.refusals <= limits::SOURCE_REFUSALS_PER_S_MAX
    }

    /// Counts one request that is refused for want of room; false where nothing must be said to it.
    pub fn may_turn_away(&mut self, now: Instant, address: IpAddr, rank: Rank) -> bool {
        if rank != Rank::NewCall {
            return self.may_refuse(now, address);
        }
        let counts = self.counts(now, address);
        counts.turned_away = counts.turned_away.saturating_add(1);
        counts.turned_away <= limits::SOURCE_TURNED_AWAY_PER_S_MAX
    }
}

/// How much a message matters when not all can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    NewCall,
    /// A REGISTER, an OPTIONS: whatever else belongs to no dialog.
    Outside,
    /// Of a call that lives, or a response, ACK or CANCEL. It is never refused: by UDP it is better lost, for
    /// its peer sends it again; on a connection it waits.
    Existing,
}

impl Rank {
    pub fn of(message: &Message) -> Self {
        match message {
            Message::Request(request) => Self::of_request(request),
            Message::Response(_) => Self::Existing,
        }
    }

    pub fn of_request(request: &Request) -> Self {
        match (&request.method, request.is_in_dialog()) {
            (Method::Ack | Method::Cancel, _) | (_, true) => Self::Existing,
            (Method::Invite, false) => Self::NewCall,
            (_, false) => Self::Outside,
        }
    }

    /// Whether one more is taken while `waiting` wait for the handler.
    pub fn admits(self, waiting: usize) -> bool {
        waiting
            < match self {
                Self::NewCall => limits::IN_FLIGHT_NEW_CALLS_MAX,
                Self::Outside => limits::IN_FLIGHT_OUTSIDE_MAX,
                Self::Existing => limits::IN_FLIGHT_MAX,
            }
    }
}
