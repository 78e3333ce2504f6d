//! NOTIFYs of subscriptions: one at a time is on its way, for one that overtakes another would be
//! refused for its CSeq; each has the whole state, so of those behind it only the newest goes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tandem_core::effect::EffectId;
use tandem_sip::{Carrier, Request};

/// Call-ID and our tag.
pub type Name = (String, String);

/// An effect, and whose it is.
pub type Of = (u32, EffectId);

#[derive(Clone, Debug)]
pub struct Notify {
    pub of: Of,
    pub request: Arc<Request>,
    pub destination: SocketAddr,
    pub carrier: Carrier,
}

#[derive(Debug)]
struct UnderWay {
    notify: Notify,
    next: Option<Notify>,
}

/// As many at most as there are transactions.
#[derive(Debug, Default)]
pub struct Notifies {
    by_name: HashMap<Name, UnderWay>,
    /// By the branch of what is on its way.
    names: HashMap<String, Name>,
}

/// What becomes of one.
#[derive(Debug)]
pub enum Put {
    Send(Notify),
    /// For the answer to the one before. What it takes the place of is done.
    Waits {
        instead: Option<Of>,
    },
    /// A newer one has gone.
    Old,
    /// It is on its way.
    Known,
}

/// What an answer, or none, has settled.
#[derive(Debug)]
pub struct Settled {
    pub name: Name,
    pub done: Of,
    /// The subscription was over with it.
    pub last: bool,
    /// The newest of those that waited.
    pub next: Option<Notify>,
}

impl Notifies {
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Whether the effect is not done yet.
    pub fn holds(&self, of: Of, request: &Request) -> bool {
        let known = self.by_name.get(&name(request));
        known.is_some_and(|known| {
            known.notify.of == of || known.next.as_ref().is_some_and(|next| next.of == of)
        })
    }

    pub fn put(&mut self, notify: Notify) -> Put {
        let name = name(&notify.request);
        let Some(known) = self.by_name.get_mut(&name) else {
            self.names.insert(notify.request.headers.branch().to_owned(), name.clone());
            self.by_name.insert(name, UnderWay { notify: notify.clone(), next: None });
            return Put::Send(notify);
        };
        let newest = known.next.as_ref().unwrap_or(&known.notify);
        if newest.of == notify.of {
            return Put::Known;
        }
        if cseq(&newest.request) >= cseq(&notify.request) {
            return Put::Old;
        }
        Put::Waits { instead: known.next.replace(notify).map(|next| next.of) }
    }

    /// It was answered, or never will be. None where it is none of those.
    pub fn settle(&mut self, branch: &str) -> Option<Settled> {
        let name = self.names.remove(branch)?;
        let UnderWay { notify, next } = self.by_name.remove(&name)?;
        Some(Settled { name, done: notify.of, last: is_last(&notify.request), next })
    }
}

fn name(request: &Request) -> Name {
    let headers = &request.headers;
    (headers.call_id.clone(), headers.from_tag().unwrap_or_default().to_owned())
}

fn cseq(request: &Request) -> u32 {
    request.headers.cseq.number
}

fn is_last(request: &Request) -> bool {
    let state = request.headers.other("Subscription-State").unwrap_or_default();
    state.starts_with("terminated")
}

/// Whether that answer ends a subscription (RFC 6665 §4.2.2, RFC 5057 §5.1): no other will follow.
pub fn ends(status: u16) -> bool {
    matches!(status, 404 | 405 | 408 | 410 | 416 | 480..=485 | 489 | 501 | 604)
}

#[cfg(test)]
mod tests {
    use tandem_sip::Message;

    use super::*;

    fn notify(dialog: &str, cseq: u32, state: &str) -> Notify {
        let text = format!(
            "NOTIFY sip:1002@h SIP/2.0\r\nVia: SIP/2.0/UDP g;branch=z9hG4bK{dialog}{cseq}\r\n\
             From: <sip:1001@d>;tag=t\r\nTo: <sip:1002@d>;tag=p\r\nCall-ID: {dialog}\r\n\
             CSeq: {cseq} NOTIFY\r\nSubscription-State: {state}\r\n\r\n"
        );
        let Ok(Message::Request(request)) = tandem_sip::parse(text.as_bytes()) else {
            panic!("no request: {text}")
        };
        Notify {
            of: (0, EffectId { shard: 0, index: cseq.into(), ordinal: 0 }),
            request: request.into(),
            destination: "127.0.0.1:7000".parse().unwrap(),
            carrier: Carrier::Udp,
        }
    }

    fn active(dialog: &str, cseq: u32) -> Notify {
        notify(dialog, cseq, "active;expires=60")
    }

    #[test]
    fn one_is_on_its_way_and_of_those_behind_it_the_newest_goes() {
        let mut notifies = Notifies::default();
        assert!(matches!(notifies.put(active("a", 1)), Put::Send(_)));
        assert!(matches!(notifies.put(active("b", 1)), Put::Send(_)), "another subscription");
        assert!(matches!(notifies.put(active("a", 1)), Put::Known));
        assert!(matches!(notifies.put(active("a", 2)), Put::Waits { instead: None }));
        let Put::Waits { instead: Some(instead) } = notifies.put(active("a", 4)) else {
            panic!("it waits")
        };
        assert_eq!(instead, active("a", 2).of);
        assert!(matches!(notifies.put(active("a", 3)), Put::Old));
        for (cseq, holds) in [(1, true), (2, false), (3, false), (4, true)] {
            let notify = active("a", cseq);
            assert_eq!(notifies.holds(notify.of, &notify.request), holds, "{cseq}");
        }
        let settled = notifies.settle("z9hG4bKa1").unwrap();
        assert_eq!((settled.done, settled.last), (active("a", 1).of, false));
        let next = settled.next.unwrap();
        assert_eq!(next.of, active("a", 4).of);
        assert!(matches!(notifies.put(next), Put::Send(_)));
        assert!(notifies.settle("z9hG4bKa1").is_none());
        assert!(notifies.settle("z9hG4bKa4").unwrap().next.is_none());
        assert_eq!(notifies.len(), 1);
    }

    #[test]
    fn last_one_is_known_as_such() {
        let mut notifies = Notifies::default();
        notifies.put(notify("a", 7, "terminated;reason=timeout"));
        assert!(notifies.settle("z9hG4bKa7").unwrap().last);
        assert!(ends(481) && ends(408) && !ends(200) && !ends(500) && !ends(503));
    }
}
