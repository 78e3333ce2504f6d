//! Responses to requests of an earlier life of this gateway: each is reported once.

use std::collections::{HashSet, VecDeque};

use tandem_sip::{Response, reliable};

use crate::limits;

/// Branch, status, To tag and RSeq.
type Name = (String, u16, String, Option<u32>);

#[derive(Debug, Default)]
pub struct Strays {
    known: HashSet<Name>,
    order: VecDeque<Name>,
}

impl Strays {
    pub fn len(&self) -> usize {
        self.order.len()
    }

    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// True where it is new.
    pub fn note(&mut self, response: &Response) -> bool {
        let headers = &response.headers;
        let tag = headers.to_tag().unwrap_or_default().to_owned();
        let rseq = reliable::rseq(response);
        let name = (headers.branch().to_owned(), response.status, tag, rseq);
        if !self.known.insert(name.clone()) {
            return false;
        }
        self.order.push_back(name);
        if self.order.len() > limits::STRAYS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}
