//! What a seed decides before anything happens: the house, who calls, and which faults strike. It
//! is a list, so that a failing run can be cut down to what it needs.

use crate::consensus::NODES;
use crate::limits::FAULT_MS_MIN;
use crate::peer::switch::SWITCHES;
use crate::random::Random;

/// The house that this run simulates.
#[derive(Clone, Debug)]
pub struct Settings {
    pub agents: u16,
    pub channels: u16,
    /// Of each trunk outward.
    pub channels_out: u16,
    /// New calls a second by the first trunk outward; 0 for no limit.
    pub pace: u16,
    /// So long a carrier's switch may say nothing.
    pub reply_ms: u64,
    pub ring_ms_max: u64,
    pub no_answer_ms: u64,
    pub acw_ms: u64,
    pub guard_ms: u64,
    pub call_ms_max: u64,
    pub waiting_max: u32,
    /// A commit takes up to this long.
    pub commit_ms_max: u64,
    /// A packet takes up to this long.
    pub packet_ms_max: u64,
    pub link_ms_max: u64,
    /// Registrations last this long, seconds.
    pub expires_s: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    Carrier { tcp: bool },
    Agent(u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    Support,
    Sales,
    Echo,
    Extension(u16),
    Nowhere,
    /// The menu.
    Flow,
    /// The announcement.
    Notice,
    /// A number that a trunk outward leads to.
    Outside,
}

/// A key that a caller presses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Press {
    /// So long after the answer.
    pub after: u64,
    pub key: char,
}

/// A call that an operator asks for.
#[derive(Clone, Debug)]
pub struct Placed {
    pub at: u64,
    pub from: u16,
    pub to: To,
    /// Asks again so long after, whatever the answer was; with another body for the same key
    /// where it is muddled.
    pub again_after: Option<u64>,
    pub muddled: bool,
}

#[derive(Clone, Debug)]
pub struct Call {
    pub at: u64,
    pub gateway: usize,
    pub from: From,
    pub to: To,
    /// CANCEL so long after the INVITE, if there is no answer.
    pub cancel_after: u64,
    /// BYE so long after the answer.
    pub talk_ms: u64,
    /// The ACK comes so late; never, where it is none.
    pub ack_after: Option<u64>,
    /// Holds so long after the answer, for so long.
    pub hold: Option<(u64, u64)>,
    /// Vanishes without a word so long after the INVITE.
    pub vanish_after: Option<u64>,
    /// The INVITE offers no SDP.
    pub offerless: bool,
    pub keys: Vec<Press>,
    /// Its keys go in INFOs, not in RTP.
    pub by_info: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Ready,
    NotReady,
    LoggedOut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    KillLeader { empty_disk: bool },
    KillFollower { empty_disk: bool },
    StopWitness,
    MoveLeader,
    CutLeader,
    PauseLeader,
    CutLink { gateway: usize, node: usize },
    KillGateway { gateway: usize },
    PauseGateway { gateway: usize },
    JumpClock { node: usize, ms: i64 },
    PanicActor { pick: u64, times: u32 },
    PanicCommand,
    SlowCommits { ms: u64 },
    Overload,
    Loss { percent: u64 },
    Duplicates { percent: u64 },
    Jitter { ms: u64 },
    PhoneGone { agent: u16 },
    PhoneMoves { agent: u16 },
    PhoneReboots { agent: u16 },
    Ask { agent: u16, wish: Wish },
    Release { pick: u64 },
    SwitchGone { switch: usize },
    LoseProposals { percent: u64 },
}

#[derive(Clone, Debug)]
pub struct Strike {
    pub at: u64,
    pub lasts_ms: u64,
    pub fault: Fault,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub settings: Settings,
    pub calls: Vec<Call>,
    pub placed_calls: Vec<Placed>,
    pub strikes: Vec<Strike>,
    /// From here on nothing strikes, and what was broken is mended.
    pub heal_at: u64,
}

impl Fault {
    pub const KINDS: [&'static str; 24] = [
        "kill leader",
        "kill follower",
        "stop witness",
        "move leader",
        "cut leader off",
        "pause leader",
        "cut link",
        "kill gateway",
        "pause gateway",
        "jump clock",
        "panic actor",
        "panic command",
        "slow commits",
        "overload",
        "loss",
        "duplicates",
        "jitter",
        "phone gone",
        "phone moves",
        "phone reboots",
        "agent asks",
        "operator releases",
        "switch gone",
        "lose proposals",
    ];

    pub fn kind(self) -> usize {
        match self {
            Self::KillLeader { .. } => 0,
            Self::KillFollower { .. } => 1,
            Self::StopWitness => 2,
            Self::MoveLeader => 3,
            Self::CutLeader => 4,
            Self::PauseLeader => 5,
            Self::CutLink { .. } => 6,
            Self::KillGateway { .. } => 7,
            Self::PauseGateway { .. } => 8,
            Self::JumpClock { .. } => 9,
            Self::PanicActor { .. } => 10,
            Self::PanicCommand => 11,
            Self::SlowCommits { .. } => 12,
            Self::Overload => 13,
            Self::Loss { .. } => 14,
            Self::Duplicates { .. } => 15,
            Self::Jitter { .. } => 16,
            Self::PhoneGone { .. } => 17,
            Self::PhoneMoves { .. } => 18,
            Self::PhoneReboots { .. } => 19,
            Self::Ask { .. } => 20,
            Self::Release { .. } => 21,
            Self::SwitchGone { .. } => 22,
            Self::LoseProposals { .. } => 23,
        }
    }

    pub fn name(self) -> &'static str {
        Self::KINDS[self.kind()]
    }
}

/// Names of the random streams.
const HOUSE: u64 = 1;
const CALLS: u64 = 2;
const FAULTS: u64 = 3;
const PLACED: u64 = 4;
const REFUSED: u64 = 5;
/// One caller every so often, on average.
const ARRIVAL_MS: u64 = 450;
const FIRST_CALL_MS: u64 = 1_200;
/// Those of the menu, the agent's more than the others', and some that it does not know.
const KEYS: [char; 12] = ['0', '0', '0', '1', '2', '3', '4', '4', '5', '9', '#', 'A'];

impl Plan {
    pub fn of(seed: u64, virtual_ms: u64) -> Self {
        let settings = house(&mut Random::stream(seed, HOUSE));
        let mut calls = callers(&mut Random::stream(seed, CALLS), &settings, virtual_ms);
        let strikes = faults(&mut Random::stream(seed, FAULTS), &settings, virtual_ms);
        let placed_calls = placed(&mut Random::stream(seed, PLACED), &settings, virtual_ms);
        calls.extend(refused_in_the_last_moment(&mut Random::stream(seed, REFUSED), &strikes));
        calls.sort_by_key(|call| call.at);
        Self { settings, calls, placed_calls, strikes, heal_at: virtual_ms * 7 / 10 }
    }
}

fn house(random: &mut Random) -> Settings {
    Settings {
        agents: random.between(3, 8) as u16,
        channels: random.between(6, 30) as u16,
        ring_ms_max: *random.pick(&[1_500, 4_000, 8_000]),
        no_answer_ms: *random.pick(&[2_000, 6_000]),
        acw_ms: *random.pick(&[0, 200, 1_000, 3_000]),
        guard_ms: *random.pick(&[0, 0, 250]),
        call_ms_max: *random.pick(&[20_000, 40_000]),
        waiting_max: *random.pick(&[3, 8, 100]),
        commit_ms_max: *random.pick(&[2, 5, 20]),
        packet_ms_max: *random.pick(&[2, 10, 40]),
        link_ms_max: *random.pick(&[1, 3, 15]),
        expires_s: *random.pick(&[15, 60]),
        channels_out: random.between(1, 4) as u16,
        pace: *random.pick(&[0, 1, 3]),
        reply_ms: *random.pick(&[600, 2_000]),
    }
}

fn callers(random: &mut Random, settings: &Settings, virtual_ms: u64) -> Vec<Call> {
    let last = virtual_ms * 9 / 10;
    let count = virtual_ms / ARRIVAL_MS;
    let mut calls: Vec<Call> = (0..count).map(|_| caller(random, settings, last)).collect();
    calls.sort_by_key(|call| call.at);
    calls
}

/// One every so often, on average.
const PLACED_MS: u64 = 5_000;

fn placed(random: &mut Random, settings: &Settings, virtual_ms: u64) -> Vec<Placed> {
    let last = virtual_ms * 8 / 10;
    let one = |random: &mut Random| Placed {
        at: random.between(FIRST_CALL_MS, last.max(FIRST_CALL_MS)),
        from: random.below(u64::from(settings.agents)) as u16,
        to: match random.below(14) {
            10.. => To::Outside,
            0..=2 => To::Echo,
            3..=5 => To::Extension(random.below(u64::from(settings.agents)) as u16),
            6 | 7 => To::Sales,
            8 => To::Support,
            _ => To::Nowhere,
        },
        again_after: random.percent(60).then(|| random.between(1, 4_000)),
        muddled: random.percent(10),
    };
    (0..virtual_ms / PLACED_MS).map(|_| one(random)).collect()
}

fn caller(random: &mut Random, settings: &Settings, last: u64) -> Call {
    let agent = |random: &mut Random| random.below(u64::from(settings.agents)) as u16;
    let from = match random.below(20) {
        0 | 1 => From::Agent(agent(random)),
        2..=5 => From::Carrier { tcp: true },
        _ => From::Carrier { tcp: false },
    };
    let to = match random.below(32) {
        20..=30 => To::Flow,
        31 => To::Notice,
        0 | 1 => To::Echo,
        2..=4 => To::Extension(agent(random)),
        5..=8 => To::Sales,
        9 => To::Nowhere,
        _ => To::Support,
    };
    // An agent's phone calls out now and then; who comes in by a trunk tries in vain.
    let tries = match from {
        From::Agent(_) => 50,
        From::Carrier { .. } => 1,
    };
    let to = if random.percent(tries) { To::Outside } else { to };
    let patience_ms_max = *random.pick(&[300, 900, 3_000, 20_000, 20_000]);
    let talk_ms_max = *random.pick(&[2_000, 6_000, 15_000]);
    Call {
        at: random.between(FIRST_CALL_MS, last.max(FIRST_CALL_MS)),
        gateway: random.index(2),
        from,
        to,
        cancel_after: random.between(5, patience_ms_max),
        talk_ms: random.between(200, talk_ms_max),
        ack_after: match random.below(30) {
            0 => None,
            1 | 2 => Some(random.between(300, 4_000)),
            _ => Some(0),
        },
        hold: random.percent(15).then(|| (random.between(100, 3_000), random.between(100, 3_000))),
        vanish_after: random.percent(4).then(|| random.between(10, 8_000)),
        offerless: random.percent(8),
        keys: if matches!(to, To::Flow | To::Notice) { keys(random) } else { Vec::new() },
        by_info: random.percent(15),
    }
}

/// Callers whose refusal a gateway may die with: its next life is asked again.
fn refused_in_the_last_moment(random: &mut Random, strikes: &[Strike]) -> Vec<Call> {
    let mut calls = Vec::new();
    for strike in strikes {
        let Fault::KillGateway { gateway } = strike.fault else { continue };
        let before = random.between(1, 120);
        if strike.at < FIRST_CALL_MS + before || !random.percent(60) {
            continue;
        }
        calls.push(Call {
            at: strike.at - before,
            gateway,
            from: From::Carrier { tcp: false },
            to: To::Nowhere,
            cancel_after: 20_000,
            talk_ms: 1_000,
            ack_after: Some(0),
            hold: None,
            vanish_after: None,
            offerless: false,
            keys: Vec::new(),
            by_info: false,
        });
    }
    calls
}

/// Some press nothing, some what the menu offers, some several keys faster than anybody hears them.
fn keys(random: &mut Random) -> Vec<Press> {
    let first_ms_max = *random.pick(&[200, 2_000, 5_000]);
    let mut after = random.between(20, first_ms_max);
    let mut keys = Vec::new();
    for _ in 0..random.below(7) {
        keys.push(Press { after, key: *random.pick(&KEYS) });
        let pause_ms_max = *random.pick(&[60, 60, 700, 3_000]);
        after += random.between(10, pause_ms_max);
    }
    keys
}

/// A run has only some of the kinds of faults, so that rare ones are not drowned by the others.
fn faults(random: &mut Random, settings: &Settings, virtual_ms: u64) -> Vec<Strike> {
    let kinds: Vec<u64> = (0..Fault::KINDS.len() as u64).filter(|_| random.percent(35)).collect();
    if kinds.is_empty() {
        return Vec::new();
    }
    let end = virtual_ms * 7 / 10;
    let count = random.between(1, 1 + virtual_ms / 4_000);
    let mut strikes: Vec<Strike> = Vec::new();
    for _ in 0..count {
        let mut at = random.between(200, end.max(400) - 200);
        // Faults like company: what one leaves half done is where the next one hurts.
        let company = if random.percent(45) { random.between(1, 3) } else { 0 };
        for _ in 0..=company {
            let lasts_ms_max = *random.pick(&[150, 600, 1_500, 6_000]);
            let lasts_ms = random.between(FAULT_MS_MIN, lasts_ms_max).min(end - at);
            let kind = *random.pick(&kinds);
            let fault = fault(random, kind, settings);
            strikes.push(Strike { at, lasts_ms, fault });
            if let Fault::KillGateway { gateway } = fault {
                let back = (at + lasts_ms).min(end);
                strikes.extend(new_life(random, gateway, at, back, end));
            }
            at = (at + random.below(300)).min(end);
        }
    }
    strikes.sort_by_key(|strike| strike.at);
    strikes
}

/// What may meet a gateway's new life in its first moments: another death; no way to any node, while
/// peers go on repeating what the last life owed them; commits so slow that the last life's events
/// are still on their way.
fn new_life(random: &mut Random, gateway: usize, died: u64, back: u64, end: u64) -> Vec<Strike> {
    let mut strikes = Vec::new();
    if random.percent(50) {
        let at = (back + random.between(FAULT_MS_MIN, 700)).min(end);
        let lasts_ms = random.between(FAULT_MS_MIN, 300).min(end - at);
        strikes.push(Strike { at, lasts_ms, fault: Fault::KillGateway { gateway } });
    }
    if random.percent(60) {
        let lasts_ms = random.between(200, 3_000).min(end - back);
        for node in 0..NODES {
            let fault = Fault::CutLink { gateway, node };
            strikes.push(Strike { at: back, lasts_ms, fault });
        }
    }
    if random.percent(30) {
        let lasts_ms = random.between(400, 2_000).min(end - died);
        let fault = Fault::SlowCommits { ms: random.between(200, 1_000) };
        strikes.push(Strike { at: died, lasts_ms, fault });
    }
    strikes
}

fn fault(random: &mut Random, kind: u64, settings: &Settings) -> Fault {
    let agent = random.below(u64::from(settings.agents)) as u16;
    let (gateway, node, pick) = (random.index(2), random.index(2), random.draw());
    let empty_disk = random.percent(25);
    match kind {
        0 => Fault::KillLeader { empty_disk },
        1 => Fault::KillFollower { empty_disk },
        2 => Fault::StopWitness,
        3 => Fault::MoveLeader,
        4 => Fault::CutLeader,
        5 => Fault::PauseLeader,
        6 => Fault::CutLink { gateway, node },
        7 => Fault::KillGateway { gateway },
        8 => Fault::PauseGateway { gateway },
        9 => {
            let ms = random.between(0, 6_000) as i64 - 3_000;
            // Some seconds or up to an hour.
            let times = if ms % 2 == 0 { 1 } else { 1_200 };
            Fault::JumpClock { node, ms: ms * times }
        }
        10 => Fault::PanicActor { pick, times: random.between(1, 6) as u32 },
        11 => Fault::PanicCommand,
        12 => Fault::SlowCommits { ms: random.between(50, 1_500) },
        13 => Fault::Overload,
        14 => Fault::Loss { percent: random.between(2, 40) },
        15 => Fault::Duplicates { percent: random.between(2, 60) },
        16 => Fault::Jitter { ms: random.between(20, 600) },
        17 => Fault::PhoneGone { agent },
        18 => Fault::PhoneMoves { agent },
        19 => Fault::PhoneReboots { agent },
        20 => {
            let wish = *random.pick(&[Wish::Ready, Wish::NotReady, Wish::LoggedOut]);
            Fault::Ask { agent, wish }
        }
        21 => Fault::Release { pick },
        22 => Fault::SwitchGone { switch: random.index(SWITCHES) },
        _ => Fault::LoseProposals { percent: random.between(5, 60) },
    }
}

#[test]
fn plan_of_a_seed_is_always_the_same_and_every_fault_is_planned_by_some_seed() {
    let (one, two) = (Plan::of(9, 60_000), Plan::of(9, 60_000));
    assert_eq!(format!("{one:?}"), format!("{two:?}"));
    let mut seen = [false; Fault::KINDS.len()];
    for seed in 0..200 {
        for strike in Plan::of(seed, 60_000).strikes {
            seen[strike.fault.kind()] = true;
        }
    }
    assert_eq!(seen, [true; Fault::KINDS.len()]);
}
