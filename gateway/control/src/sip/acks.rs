//! ACKs of 2xx responses: they belong to no transaction, and are sent again each time the peer
//! repeats its 2xx (RFC 3261 §13.2.2.4).

use std::collections::{HashMap, VecDeque};

use tandem_sip::transaction::GIVE_UP_MS;
use tandem_sip::{Millis, Request, Response};

use super::Transmit;
use crate::limits;

/// Call-ID, the peer's tag, CSeq number.
type Name = (String, String, u32);

#[derive(Debug, Default)]
pub struct Acks {
    /// What is sent when the 2xx comes again.
    by_name: HashMap<Name, Transmit>,
    order: VecDeque<(Millis, Name)>,
}

impl Acks {
    pub fn len(&self) -> usize {
        self.order.len()
    }

    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Keeps an ACK for as long as its 2xx may come again.
    pub fn put(&mut self, now: Millis, ack: &Request, transmit: Transmit) {
        while self.order.front().is_some_and(|(at, _)| now.since(*at) > GIVE_UP_MS)
            || self.order.len() >= limits::ACKS_MAX
        {
            if let Some((_, name)) = self.order.pop_front() {
                self.by_name.remove(&name);
            }
        }
        let headers = &ack.headers;
        let tag = headers.to_tag().unwrap_or_default().to_owned();
        let name = (headers.call_id.clone(), tag, headers.cseq.number);
        if self.by_name.insert(name.clone(), transmit).is_none() {
            self.order.push_back((now, name));
        }
    }

    /// The ACK of a 2xx that came again.
    pub fn of(&self, response: &Response) -> Option<&Transmit> {
        let headers = &response.headers;
        let tag = headers.to_tag().unwrap_or_default().to_owned();
        self.by_name.get(&(headers.call_id.clone(), tag, headers.cseq.number))
    }
}
