//! Client transactions of a phone: RFC 3261 §17.1 by its retransmission rules.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tandem_sip::{Request, Response};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// RFC 3261 §17.1.1.1.
const T1_MS: u64 = 500;
const T2_MS: u64 = 4_000;
/// Timer B and F.
const GIVE_UP_MS: u64 = 64 * T1_MS;

/// A request that waits for its final response.
struct Pending {
    bytes: Vec<u8>,
    destination: SocketAddr,
    invite: bool,
    proceeding: bool,
    reliable: bool,
    interval_ms: u64,
    next: Instant,
    give_up: Instant,
    answer: Option<oneshot::Sender<Option<Response>>>,
}

pub(super) struct Exchanges {
    /// The transport itself repeats what was lost.
    reliable: bool,
    by_branch: BTreeMap<String, Pending>,
}

impl Exchanges {
    pub fn new(reliable: bool) -> Self {
        Self { reliable, by_branch: BTreeMap::new() }
    }

    /// Begins a transaction; the bytes are the caller's to send once now. The receiver gets the
    /// final response, or nothing when the peer never answered.
    pub fn begin(
        &mut self,
        now: Instant,
        request: &Request,
        destination: SocketAddr,
    ) -> (Vec<u8>, oneshot::Receiver<Option<Response>>) {
        let bytes = request.to_bytes();
        let (answer, answered) = oneshot::channel();
        let invite = request.method == tandem_sip::Method::Invite;
        self.by_branch.insert(
            branch(request),
            Pending {
                bytes: bytes.clone(),
                destination,
                invite,
                proceeding: false,
                reliable: self.reliable,
                interval_ms: T1_MS,
                next: now + Duration::from_millis(T1_MS),
                give_up: now + Duration::from_millis(GIVE_UP_MS),
                answer: Some(answer),
            },
        );
        (bytes, answered)
    }

    /// Takes a response. True where it is the first final one of its transaction.
    pub fn on_response(&mut self, branch: &str, response: &Response) -> bool {
        if response.status < 200 {
            if let Some(pending) = self.by_branch.get_mut(branch) {
                pending.proceeding = true;
                // An INVITE that proceeds may ring for as long as it likes.
                if pending.invite {
                    pending.give_up = Instant::now() + Duration::from_secs(180);
                }
            }
            return false;
        }
        let Some(mut pending) = self.by_branch.remove(branch) else { return false };
        if let Some(answer) = pending.answer.take() {
            // Nobody may be waiting any more; that is the waiter's business.
            let _ = answer.send(Some(response.clone()));
        }
        true
    }

    pub fn next(&self) -> Option<Instant> {
        self.by_branch
            .values()
            .map(|pending| if pending.repeats() { pending.next } else { pending.give_up })
            .min()
    }

    /// What has to be sent again at `now`.
    pub fn due(&mut self, now: Instant) -> Vec<(Vec<u8>, SocketAddr)> {
        let mut again = Vec::new();
        self.by_branch.retain(|_, pending| {
            if now >= pending.give_up {
                if let Some(answer) = pending.answer.take() {
                    let _ = answer.send(None);
                }
                return false;
            }
            if pending.repeats() && now >= pending.next {
                again.push((pending.bytes.clone(), pending.destination));
                pending.interval_ms = if pending.proceeding {
                    T2_MS
                } else if pending.invite {
                    pending.interval_ms * 2
                } else {
                    (pending.interval_ms * 2).min(T2_MS)
                };
                pending.next = now + Duration::from_millis(pending.interval_ms);
            }
            true
        });
        again
    }
}

impl Pending {
    /// RFC 3261 §17.1.1.2: an INVITE is not repeated once a provisional response came.
    fn repeats(&self) -> bool {
        !(self.reliable || self.invite && self.proceeding)
    }
}

pub(super) fn branch(request: &Request) -> String {
    request
        .headers
        .via
        .first()
        .and_then(|via| via.params.iter().find(|param| param.name == "branch"))
        .and_then(|param| param.value.clone())
        .unwrap_or_default()
}
