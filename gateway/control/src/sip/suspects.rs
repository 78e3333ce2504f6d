//! Who asks for much and proves nothing: guesses of passwords cost time, scanners are not talked
//! to, strangers' calls are counted. All of it is the gateway's own memory, bounded, and about new
//! registrations and calls alone: whoever has a call, or has proven a password from there, is let be.

use std::collections::HashSet;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroUsize;

use lru::LruCache;
use tandem_core::config::Config;
use tandem_sip::{Method, Millis, NameAddr, Request};

use crate::limits;

/// What the User-Agents of scanners say, in lower case; some write it into From and To instead.
const SCANNERS: [&str; 10] = [
    "friendly-scanner",
    "sipvicious",
    "sipcli",
    "sip-scan",
    "sipscan",
    "sundayddr",
    "pplsip",
    "iwar",
    "sivus",
    "gulp",
];

/// Sources from which calls are awaited.
#[derive(Debug)]
pub struct Admitted {
    /// A trunk names no sources: whoever calls is let in.
    all: bool,
    sources: HashSet<IpAddr>,
}

impl Admitted {
    pub fn of(config: &Config) -> Self {
        let trunks = &config.trunks;
        Self {
            all: trunks.iter().any(|trunk| trunk.sources.is_empty()),
            sources: trunks.iter().flat_map(|trunk| trunk.sources.iter().copied()).collect(),
        }
    }

    fn has(&self, source: IpAddr) -> bool {
        self.all || self.sources.contains(&source)
    }
}

/// What is done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meets {
    Served,
    /// It is told to go, or when to come back.
    Refused {
        retry_after_s: u32,
    },
    /// Not a word: each would be one more for whoever listens.
    Silence,
}

#[derive(Debug)]
pub struct Suspects {
    /// Wrong passwords of one source for one account, of one source, and for one account.
    guesses: LruCache<(IpAddr, String), Guesses>,
    by_source: LruCache<IpAddr, Guesses>,
    by_account: LruCache<String, Guesses>,
    /// Passwords that were proven.
    proven: LruCache<(IpAddr, String), Proven>,
    /// Sources from which some password was proven, and when.
    phones: LruCache<IpAddr, Millis>,
    scanners: LruCache<IpAddr, Millis>,
    challenges: LruCache<IpAddr, Window>,
    invites: LruCache<IpAddr, Window>,
    unknown_dialogs: LruCache<IpAddr, Window>,
    /// An operator was told of those then.
    told: Option<Millis>,
}

#[derive(Clone, Copy, Debug)]
struct Guesses {
    count: u32,
    last: Millis,
    /// Until then none is looked at.
    until: Millis,
}

#[derive(Clone, Copy, Debug)]
struct Proven {
    at: Millis,
    wrong_since: u32,
}

/// How many came since it began.
#[derive(Clone, Copy, Debug)]
struct Window {
    began: Millis,
    count: u32,
}

fn room<K: Hash + Eq, V>() -> LruCache<K, V> {
    LruCache::new(NonZeroUsize::new(limits::SUSPECTS_MAX).unwrap_or(NonZeroUsize::MIN))
}

impl Default for Suspects {
    fn default() -> Self {
        Self {
            guesses: room(),
            by_source: room(),
            by_account: room(),
            proven: room(),
            phones: room(),
            scanners: room(),
            challenges: room(),
            invites: room(),
            unknown_dialogs: room(),
            told: None,
        }
    }
}

impl Suspects {
    pub fn len(&self) -> usize {
        self.guesses.len()
            + self.by_source.len()
            + self.by_account.len()
            + self.proven.len()
            + self.phones.len()
            + self.scanners.len()
            + self.challenges.len()
            + self.invites.len()
            + self.unknown_dialogs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A request named a dialog that nobody knows. True where an operator should hear of its source: of one in each window,
    /// for whoever forges requests may forge sources, too.
    pub fn on_unknown_dialog(&mut self, now: Millis, source: IpAddr) -> bool {
        let max = limits::UNKNOWN_DIALOGS_MAX;
        if count(&mut self.unknown_dialogs, source, now, max) == Meets::Served {
            return false;
        }
        let lately = |told| now.since(told) < limits::STRANGER_WINDOW_MS;
        if self.told.is_some_and(lately) {
            return false;
        }
        self.told = Some(now);
        true
    }

    /// A request of a scanner is answered once; then its source's are not, for a while after each.
    /// What others send from there is served.
    pub fn on_scanner(&mut self, now: Millis, source: IpAddr) -> Meets {
        let known = self.scanners.push(source, now).filter(|(known, _)| *known == source);
        match known {
            Some((_, at)) if now.since(at) < limits::SCANNER_MS => Meets::Silence,
            Some(_) | None => Meets::Refused { retry_after_s: 0 },
        }
    }

    /// Whether an attempt to prove a password is looked at.
    pub fn on_attempt(&mut self, now: Millis, source: IpAddr, account: &str) -> Meets {
        let pair = (source, account.to_owned());
        let known = self.proven.get(&pair).is_some_and(|proven| {
            now.since(proven.at) < limits::PROVEN_MS
                && proven.wrong_since < limits::WRONG_OF_PROVEN_MAX
        });
        if known {
            return Meets::Served;
        }
        let until = [
            self.guesses.get(&pair).map(|it| it.until),
            self.by_source.get(&source).map(|it| it.until),
            self.by_account.get(account).map(|it| it.until),
        ];
        match until.into_iter().flatten().max().filter(|until| *until > now) {
            Some(until) => {
                let left_s = until.since(now).div_ceil(1_000);
                Meets::Refused { retry_after_s: u32::try_from(left_s).unwrap_or(u32::MAX) }
            }
            None => Meets::Served,
        }
    }

    /// A password was wrong. `known`: there is such an account; others are too many to remember.
    pub fn on_wrong(&mut self, now: Millis, source: IpAddr, account: &str, known: bool) {
        let pair = (source, account.to_owned());
        if let Some(proven) = self.proven.get_mut(&pair) {
            proven.wrong_since += 1;
        }
        wrong(&mut self.by_source, source, now, limits::WRONG_OF_SOURCE_FREE);
        if known {
            wrong(&mut self.guesses, pair, now, limits::WRONG_FREE);
            wrong(&mut self.by_account, account.to_owned(), now, limits::WRONG_FOR_ACCOUNT_FREE);
        }
    }

    pub fn on_proven(&mut self, now: Millis, source: IpAddr, account: &str) {
        let pair = (source, account.to_owned());
        self.guesses.pop(&pair);
        self.challenges.pop(&source);
        self.proven.put(pair, Proven { at: now, wrong_since: 0 });
        self.phones.put(source, now);
    }

    /// A REGISTER that brings no proof.
    pub fn on_challenge(&mut self, now: Millis, source: IpAddr) -> Meets {
        if self.is_phone(now, source) {
            return Meets::Served;
        }
        count(&mut self.challenges, source, now, limits::CHALLENGES_MAX)
    }

    /// A new call.
    pub fn on_invite(&mut self, now: Millis, source: IpAddr, admitted: &Admitted) -> Meets {
        if admitted.has(source) || self.is_phone(now, source) {
            return Meets::Served;
        }
        count(&mut self.invites, source, now, limits::STRANGER_INVITES_MAX)
    }

    fn is_phone(&mut self, now: Millis, source: IpAddr) -> bool {
        self.phones.get(&source).is_some_and(|at| now.since(*at) < limits::PROVEN_MS)
    }
}

/// Each wrong one beyond those that are free doubles the time in which none is looked at; with time
/// they are forgiven, one after the other.
fn wrong<K: Hash + Eq>(of: &mut LruCache<K, Guesses>, key: K, now: Millis, free: u32) {
    let nobody = || Guesses { count: 0, last: now, until: now };
    let guesses = of.get_or_insert_mut(key, nobody);
    let forgiven = now.since(guesses.last) / limits::WRONG_FORGIVEN_MS;
    let kept = guesses.count.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX));
    guesses.count = kept.saturating_add(1);
    guesses.last = now;
    if let Some(beyond) = guesses.count.checked_sub(free + 1) {
        let ms = limits::WRONG_DELAY_MS << beyond.min(31);
        guesses.until = now.after(ms.min(limits::WRONG_DELAY_MS_MAX));
    }
}

/// Beyond `max` in one window the first is told when to come back, the rest are not answered.
fn count(of: &mut LruCache<IpAddr, Window>, source: IpAddr, now: Millis, max: u32) -> Meets {
    let window = of.get_or_insert_mut(source, || Window { began: now, count: 0 });
    if now.since(window.began) >= limits::STRANGER_WINDOW_MS {
        *window = Window { began: now, count: 0 };
    }
    window.count = window.count.saturating_add(1);
    if window.count <= max {
        return Meets::Served;
    }
    if window.count > max + 1 {
        return Meets::Silence;
    }
    let left_ms = limits::STRANGER_WINDOW_MS - now.since(window.began);
    Meets::Refused { retry_after_s: u32::try_from(left_ms.div_ceil(1_000)).unwrap_or(u32::MAX) }
}

/// It says of itself that it is a scanner.
pub fn is_scanner(request: &Request) -> bool {
    if request.method == Method::Ack {
        return false;
    }
    let says = |text: &str| {
        let text = text.to_ascii_lowercase();
        SCANNERS.iter().any(|name| text.contains(name))
    };
    let named = |name: &NameAddr| {
        name.display.as_deref().is_some_and(says) || name.uri.user.as_deref().is_some_and(says)
    };
    let headers = &request.headers;
    headers.other("User-Agent").is_some_and(says) || named(&headers.from) || named(&headers.to)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    /// How long an attempt is not looked at.
    fn delay_s(suspects: &mut Suspects, now: Millis, source: IpAddr, account: &str) -> u32 {
        match suspects.on_attempt(now, source, account) {
            Meets::Served => 0,
            Meets::Refused { retry_after_s } => retry_after_s,
            Meets::Silence => panic!("an attempt is always answered"),
        }
    }

    #[test]
    fn each_guess_costs_more_time_than_the_last_and_time_forgives() {
        let mut suspects = Suspects::default();
        let mut now = Millis(1_000);
        let mut delays = Vec::new();
        for _ in 0..14 {
            suspects.on_wrong(now, SOURCE, "1001", true);
            let delay = delay_s(&mut suspects, now, SOURCE, "1001");
            delays.push(delay);
            assert_eq!(delay_s(&mut suspects, now, OTHER, "1001"), 0, "another source");
            assert_eq!(delay_s(&mut suspects, now, SOURCE, "1002"), 0, "another account");
            now = now.after(u64::from(delay) * 1_000);
            assert_eq!(delay_s(&mut suspects, now, SOURCE, "1001"), 0);
        }
        assert_eq!(delays[..10], [0, 0, 0, 1, 2, 4, 8, 16, 32, 64]);
        assert!(delays.iter().all(|delay| u64::from(*delay) * 1_000 <= limits::WRONG_DELAY_MS_MAX));
        now = now.after(20 * limits::WRONG_FORGIVEN_MS);
        suspects.on_wrong(now, SOURCE, "1001", true);
        assert_eq!(delay_s(&mut suspects, now, SOURCE, "1001"), 0, "it was long ago");
    }

    #[test]
    fn many_accounts_of_one_source_and_many_sources_of_one_account_are_noticed() {
        let mut suspects = Suspects::default();
        let now = Millis(0);
        for n in 0..=limits::WRONG_OF_SOURCE_FREE {
            assert_eq!(delay_s(&mut suspects, now, SOURCE, "1001"), 0);
            suspects.on_wrong(now, SOURCE, &n.to_string(), false);
        }
        assert_eq!(delay_s(&mut suspects, now, SOURCE, "1001"), 1);
        assert_eq!(delay_s(&mut suspects, now, OTHER, "1001"), 0);
        for n in 0..=limits::WRONG_FOR_ACCOUNT_FREE {
            let source = IpAddr::from([10, 0, 0, u8::try_from(n).unwrap()]);
            suspects.on_wrong(now, source, "1001", true);
        }
        assert_eq!(delay_s(&mut suspects, now, OTHER, "1001"), 1);
    }

    #[test]
    fn phone_that_has_proven_its_password_is_not_delayed_by_others() {
        let mut suspects = Suspects::default();
        let now = Millis(0);
        suspects.on_proven(now, SOURCE, "1001");
        for n in 0..100 {
            suspects.on_wrong(now, SOURCE, "1002", true);
            suspects.on_wrong(now, IpAddr::from([10, 0, 0, n]), "1001", true);
        }
        assert!(delay_s(&mut suspects, now, SOURCE, "1002") > 60);
        assert!(delay_s(&mut suspects, now, OTHER, "1001") > 60);
        assert_eq!(delay_s(&mut suspects, now, SOURCE, "1001"), 0);
        // But whoever sits behind the same NAT may not guess for ever.
        for _ in 0..limits::WRONG_OF_PROVEN_MAX {
            assert_eq!(delay_s(&mut suspects, now, SOURCE, "1001"), 0);
            suspects.on_wrong(now, SOURCE, "1001", true);
        }
        assert!(delay_s(&mut suspects, now, SOURCE, "1001") > 0);
    }

    #[test]
    fn strangers_calls_are_bounded_and_those_of_trunks_and_phones_are_not() {
        let mut suspects = Suspects::default();
        let nobody = Admitted { all: false, sources: HashSet::new() };
        let trunk = Admitted { all: false, sources: HashSet::from([SOURCE]) };
        let everybody = Admitted { all: true, sources: HashSet::new() };
        let now = Millis(500);
        for _ in 0..limits::STRANGER_INVITES_MAX {
            assert_eq!(suspects.on_invite(now, SOURCE, &nobody), Meets::Served);
        }
        let refused = Meets::Refused { retry_after_s: 10 };
        assert_eq!(suspects.on_invite(now, SOURCE, &nobody), refused);
        assert_eq!(suspects.on_invite(now, SOURCE, &nobody), Meets::Silence);
        assert_eq!(suspects.on_invite(now, OTHER, &nobody), Meets::Served);
        assert_eq!(suspects.on_invite(now, SOURCE, &trunk), Meets::Served);
        assert_eq!(suspects.on_invite(now, SOURCE, &everybody), Meets::Served);
        let later = now.after(limits::STRANGER_WINDOW_MS);
        assert_eq!(suspects.on_invite(later, SOURCE, &nobody), Meets::Served);
        suspects.on_proven(now, SOURCE, "1001");
        for _ in 0..1_000 {
            assert_eq!(suspects.on_invite(now, SOURCE, &nobody), Meets::Served);
        }
    }

    #[test]
    fn operator_hears_of_one_source_of_unknown_dialogs_in_each_window() {
        let mut suspects = Suspects::default();
        let now = Millis(500);
        for _ in 0..limits::UNKNOWN_DIALOGS_MAX {
            assert!(!suspects.on_unknown_dialog(now, SOURCE), "a peer that is late");
            assert!(!suspects.on_unknown_dialog(now, OTHER));
        }
        assert!(suspects.on_unknown_dialog(now, SOURCE));
        assert!(!suspects.on_unknown_dialog(now, SOURCE));
        assert!(!suspects.on_unknown_dialog(now, OTHER), "sources are forged, too");
        let later = now.after(limits::STRANGER_WINDOW_MS);
        for _ in 0..limits::UNKNOWN_DIALOGS_MAX {
            assert!(!suspects.on_unknown_dialog(later, SOURCE));
        }
        assert!(suspects.on_unknown_dialog(later, SOURCE), "it goes on");
    }

    #[test]
    fn memory_of_suspects_is_bounded_whoever_comes() {
        let mut suspects = Suspects::default();
        for n in 0..50_000_u32 {
            let source = IpAddr::from(n.to_be_bytes());
            let now = Millis(u64::from(n));
            suspects.on_wrong(now, source, &n.to_string(), true);
            suspects.on_proven(now, source, &n.to_string());
            suspects.on_scanner(now, source);
            suspects.on_challenge(now, source);
            suspects.on_unknown_dialog(now, source);
            suspects.on_invite(now, source, &Admitted { all: false, sources: HashSet::new() });
        }
        assert!(suspects.len() <= 9 * limits::SUSPECTS_MAX, "{}", suspects.len());
    }
}
