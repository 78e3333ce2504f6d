//! A SIP message on its way. Peers' are carried as values; gateways' are read from their bytes.
//! Whoever sends composes, so that the bytes of two sendings can be compared.

use std::rc::Rc;

use tandem_sip::{Headers, Request, Response};

use crate::digest::Digest;

#[derive(Clone, Debug)]
pub enum Content {
    Request(Rc<Request>),
    Response(Rc<Response>),
}

#[derive(Clone, Debug)]
pub struct Packet {
    pub content: Content,
    /// Of the bytes.
    pub digest: u64,
}

impl Packet {
    pub fn request(request: Rc<Request>, bytes: &[u8]) -> Rc<Self> {
        Rc::new(Self { content: Content::Request(request), digest: Digest::of(bytes) })
    }

    pub fn response(response: Rc<Response>, bytes: &[u8]) -> Rc<Self> {
        Rc::new(Self { content: Content::Response(response), digest: Digest::of(bytes) })
    }

    pub fn headers(&self) -> &Headers {
        match &self.content {
            Content::Request(request) => &request.headers,
            Content::Response(response) => &response.headers,
        }
    }

    /// One line for a story.
    pub fn words(&self) -> String {
        let headers = self.headers();
        let call = headers.call_id.get(..8).unwrap_or(&headers.call_id);
        match &self.content {
            Content::Request(request) => {
                format!("{} {} of {call}", request.method, headers.cseq.number)
            }
            Content::Response(response) => {
                format!("{} to {} of {call}", response.status, headers.cseq)
            }
        }
    }
}
