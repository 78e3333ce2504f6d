//! The way to the handler, and who is turned away there: new calls, while the handler is behind. A
//! refusal here costs it nothing, and is said at once; behind a thousand others it would come after the caller
//! has asked again.
//!
//! As in `CoDel` (RFC 8289 §4): a wait that is over soon is a burst and does no harm, one that stands is too
//! much work. From then on whoever would wait too long is turned away, until nobody would for a while.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tandem_sip::{Method, Request};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::{TryRecvError, TrySendError};

use crate::admission::Rank;
use crate::limits;
use crate::received::Received;

/// The way in: cheap to clone.
#[derive(Clone, Debug)]
pub struct Intake {
    messages: mpsc::Sender<Received>,
    turns: Arc<Turns>,
}

/// Where the handler takes what has come.
#[derive(Debug)]
pub struct Outlet {
    messages: mpsc::Receiver<Received>,
    turns: Arc<Turns>,
}

/// Why a message is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    Full,
    /// Nobody handles anything any more.
    Over,
}

/// A way to a handler for which so many messages may wait.
pub fn open(messages_max: usize) -> (Intake, Outlet) {
    let (to, from) = mpsc::channel(messages_max);
    let turns = Arc::new(Turns::new(Instant::now()));
    (Intake { messages: to, turns: Arc::clone(&turns) }, Outlet { messages: from, turns })
}

#[derive(Debug)]
struct Turns {
    opened: Instant,
    /// Nobody who waits came before, in microseconds since the way was opened.
    since_us: AtomicU64,
    lag: Mutex<Lag>,
}

impl Turns {
    fn new(now: Instant) -> Self {
        Self { opened: now, since_us: AtomicU64::new(0), lag: Mutex::default() }
    }

    fn us(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.opened);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    /// Whoever came before this has had a turn, or there was nobody.
    fn on_turn(&self, at: Instant) {
        self.since_us.fetch_max(self.us(at), Ordering::Relaxed);
    }

    /// How long the first of those that wait has waited, or a little more.
    fn wait(&self, now: Instant, waiting: usize) -> Duration {
        if waiting == 0 {
            self.on_turn(now);
            return Duration::ZERO;
        }
        let since_us = self.since_us.load(Ordering::Relaxed);
        Duration::from_micros(self.us(now).saturating_sub(since_us))
    }
}

impl Intake {
    /// Whether one more of this rank is let in.
    pub fn admits(&self, now: Instant, rank: Rank) -> bool {
        let waiting = self.messages.max_capacity() - self.messages.capacity();
        let wait = self.turns.wait(now, waiting);
        let is_behind = || self.turns.lag.lock().refuses(now, wait);
        rank.admits(waiting) && !(rank == Rank::NewCall && is_behind())
    }

    /// # Errors
    /// Where it is full, or nobody handles anything any more.
    pub fn try_send(&self, received: Received) -> Result<(), NotTaken> {
        self.messages.try_send(received).map_err(|error| match error {
            TrySendError::Full(_) => NotTaken::Full,
            TrySendError::Closed(_) => NotTaken::Over,
        })
    }

    /// Waits for room.
    ///
    /// # Errors
    /// Where nobody handles anything any more.
    pub async fn send(&self, received: Received) -> Result<(), NotTaken> {
        self.messages.send(received).await.map_err(|_| NotTaken::Over)
    }

    pub fn is_closed(&self) -> bool {
        self.messages.is_closed()
    }

    /// Once nobody handles anything any more.
    pub async fn closed(&self) {
        self.messages.closed().await;
    }
}

impl Outlet {
    pub async fn recv(&mut self) -> Option<Received> {
        let received = self.messages.recv().await?;
        self.turns.on_turn(received.at);
        Some(received)
    }

    /// # Errors
    /// Where nothing waits, or nothing will come any more.
    pub fn try_recv(&mut self) -> Result<Received, TryRecvError> {
        let received = self.messages.try_recv()?;
        self.turns.on_turn(received.at);
        Ok(received)
    }
}

/// Whether the handler is behind, as those who come find it.
#[derive(Debug, Default)]
struct Lag {
    /// Since when everybody would have waited for too long, and when somebody came last.
    stands: Option<(Instant, Instant)>,
    sheds_until: Option<Instant>,
}

impl Lag {
    /// One more comes, and would wait for so long; whether it is turned away.
    fn refuses(&mut self, now: Instant, wait: Duration) -> bool {
        if wait <= limits::NEW_CALL_WAIT {
            self.stands = None;
            return false;
        }
        let since = match self.stands {
            // Of the time in between nobody knows anything.
            Some((since, last)) if now < last + limits::WAIT_STANDS => since,
            Some(_) | None => now,
        };
        self.stands = Some((since, now));
        let sheds =
            now >= since + limits::WAIT_STANDS || self.sheds_until.is_some_and(|until| now < until);
        if sheds {
            self.sheds_until = Some(now + limits::WAIT_CALMS);
        }
        sheds
    }
}

/// What new calls were told by UDP, so that one that asks again is told the same (RFC 3261 §8.2.7): who was
/// let in must not be turned away though no answer came yet.
#[derive(Debug)]
pub struct Told {
    hasher: RandomState,
    turned: Instant,
    now: HashMap<u64, Said>,
    before: HashMap<u64, Said>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    LetIn,
    TurnedAway,
}

impl Told {
    pub fn new(now: Instant) -> Self {
        let (now_told, before) = (HashMap::new(), HashMap::new());
        Self { hasher: RandomState::new(), turned: now, now: now_told, before }
    }

    /// The transaction's name in short: an INVITE and its ACK share it (RFC 3261 §17.1.1.3).
    fn name(&self, request: &Request) -> Option<u64> {
        let via = request.headers.top_via()?;
        Some(self.hasher.hash_one((via.branch()?, &via.host, via.port)))
    }

    fn of(&self, name: u64) -> Option<Said> {
        self.now.get(&name).or_else(|| self.before.get(&name)).copied()
    }

    fn note(&mut self, now: Instant, name: u64, said: Said) {
        if now >= self.turned + limits::TOLD_FOR || self.now.len() >= limits::TOLD_MAX {
            self.before = std::mem::take(&mut self.now);
            self.turned = now;
        }
        self.now.insert(name, said);
    }

    /// What is to be done with a request that has come for this handler.
    pub fn judge(&mut self, now: Instant, request: &Request, handler: &Intake) -> Verdict {
        let rank = Rank::of_request(request);
        let name = self.name(request);
        let said = name.and_then(|name| self.of(name));
        let verdict = |admitted| if admitted { Verdict::LetIn } else { Verdict::TurnedAway };
        match (said, rank) {
            // It ends what began here.
            (Some(Said::TurnedAway), _) if request.method == Method::Ack => Verdict::Over,
            (Some(Said::TurnedAway), Rank::NewCall) => Verdict::TurnedAway,
            (Some(Said::LetIn), Rank::NewCall) => verdict(handler.admits(now, Rank::Existing)),
            (_, Rank::Outside | Rank::Existing) => verdict(handler.admits(now, rank)),
            (None, Rank::NewCall) => {
                let admitted = handler.admits(now, rank);
                if let Some(name) = name {
                    self.note(now, name, if admitted { Said::LetIn } else { Said::TurnedAway });
                }
                verdict(admitted)
            }
        }
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    LetIn,
    TurnedAway,
    /// Nobody waits for anything.
    Over,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: Duration = Duration::from_millis(60);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn wait_that_is_over_soon_turns_nobody_away() {
        let (mut lag, begun) = (Lag::default(), Instant::now());
        for at in 0..10_000 {
            // Late for 200 of each 220 ms.
            let wait = if at % 220 < 200 { LATE } else { ms(1) };
            assert!(!lag.refuses(begun + ms(at), wait), "at {at} ms");
        }
    }

    #[test]
    fn wait_that_stands_turns_away_whoever_would_wait_until_it_calms() {
        let (mut lag, begun) = (Lag::default(), Instant::now());
        let refused = (0..2_000).filter(|at| lag.refuses(begun + ms(*at), LATE)).count();
        assert_eq!(refused, 2_000 - 250);
        // Who would not wait is let in meanwhile, and the first who would is not.
        assert!(!lag.refuses(begun + ms(2_001), ms(5)));
        assert!(lag.refuses(begun + ms(2_002), LATE));
        let calm = 2_002 + u64::try_from(limits::WAIT_CALMS.as_millis()).unwrap();
        assert!(!lag.refuses(begun + ms(calm), LATE));
    }

    #[test]
    fn two_who_come_far_apart_are_no_standing_wait() {
        let (mut lag, begun) = (Lag::default(), Instant::now());
        assert!((0..20).all(|n| !lag.refuses(begun + ms(n * 1_000), LATE)));
    }

    fn request(method: &str, branch: u32) -> Request {
        let text = format!(
            "{method} sip:4001@127.0.0.10 SIP/2.0\r\n\
             Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK{branch}\r\n\
             From: <sip:1@192.0.2.1>;tag=1\r\nTo: <sip:4001@127.0.0.10>\r\nCall-ID: {branch}\r\n\
             CSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
        );
        match tandem_sip::parse(text.as_bytes()) {
            Ok(tandem_sip::Message::Request(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_asks_again_is_told_the_same_whatever_has_changed() {
        let begun = Instant::now();
        let (handler, _outlet) = open(2);
        let mut told = Told::new(begun);
        assert_eq!(told.judge(begun, &request("INVITE", 1), &handler), Verdict::LetIn);
        // One waits, for ever: from then on new calls are turned away.
        let flow = tandem_sip::Flow::udp(
            "127.0.0.1:5060".parse().unwrap(),
            "127.0.0.1:5061".parse().unwrap(),
        );
        let message = tandem_sip::Message::Request(request("OPTIONS", 9));
        handler.try_send(Received { at: begun, flow, message }).unwrap();
        let behind = |ms: u64| begun + limits::NEW_CALL_WAIT + Duration::from_millis(ms);
        for at in 1..=250 {
            let call = request("INVITE", 100 + u32::try_from(at).unwrap());
            assert_eq!(told.judge(behind(at), &call, &handler), Verdict::LetIn);
        }
        assert_eq!(told.judge(behind(251), &request("INVITE", 2), &handler), Verdict::TurnedAway);
        assert_eq!(told.judge(behind(252), &request("INVITE", 1), &handler), Verdict::LetIn);
        assert_eq!(told.judge(behind(252), &request("REGISTER", 3), &handler), Verdict::LetIn);
        assert_eq!(told.judge(behind(252), &request("ACK", 1), &handler), Verdict::LetIn);
        assert_eq!(told.judge(behind(252), &request("ACK", 2), &handler), Verdict::Over);
        // It is over, and the one that was turned away is, still.
        drop(_outlet);
        let (idle, _outlet) = open(2);
        assert_eq!(told.judge(behind(500), &request("INVITE", 2), &idle), Verdict::TurnedAway);
        assert_eq!(told.judge(behind(500), &request("INVITE", 4), &idle), Verdict::LetIn);
    }

    #[test]
    fn what_was_said_is_known_for_as_long_as_it_is_asked_again_and_no_longer() {
        let begun = Instant::now();
        let mut told = Told::new(begun);
        told.note(begun, 1, Said::LetIn);
        told.note(begun, 2, Said::TurnedAway);
        assert_eq!((told.of(1), told.of(3)), (Some(Said::LetIn), None));
        told.note(begun + limits::TOLD_FOR, 3, Said::LetIn);
        assert_eq!(told.of(2), Some(Said::TurnedAway));
        told.note(begun + 2 * limits::TOLD_FOR, 4, Said::LetIn);
        assert_eq!((told.of(2), told.of(3)), (None, Some(Said::LetIn)));
        for name in 0..3 * u64::try_from(limits::TOLD_MAX).unwrap() {
            told.note(begun, name, Said::LetIn);
        }
        assert!(told.now.len() + told.before.len() <= 2 * limits::TOLD_MAX);
    }

    #[test]
    fn wait_is_that_of_the_first_who_had_no_turn() {
        let begun = Instant::now();
        let turns = Turns::new(begun);
        assert_eq!(turns.wait(begun + ms(900), 0), Duration::ZERO);
        assert_eq!(turns.wait(begun + ms(950), 1), ms(50));
        turns.on_turn(begun + ms(930));
        assert_eq!(turns.wait(begun + ms(950), 3), ms(20));
        assert_eq!(turns.wait(begun + ms(990), 0), Duration::ZERO);
        assert_eq!(turns.wait(begun + ms(991), 1), ms(1));
    }
}
