use tandem_lease::MARGIN_MS;
use tokio::time::timeout;

use super::*;
use crate::server::solo::SoloMeta;

const PATIENCE: Duration = Duration::from_secs(10);
const NAMES: [&str; 2] = ["gateway-a", "gateway-b"];

struct Bench {
    meta: Arc<SoloMeta>,
    lines: Arc<Lines>,
    deaths: watch::Sender<BTreeMap<String, u64>>,
    calls: watch::Sender<bool>,
    frozen: watch::Sender<bool>,
    drained: watch::Sender<BTreeSet<String>>,
}

impl Bench {
    fn start() -> Self {
        let meta = Arc::new(SoloMeta::default());
        meta.take_lead();
        let (deaths, dead) = watch::channel(BTreeMap::new());
        let (calls, live) = watch::channel(false);
        let names = NAMES.map(str::to_owned).to_vec();
        let frozen = watch::Sender::new(false);
        let is_frozen = frozen.subscribe();
        let drained = watch::Sender::default();
        let sees = Sees {
            deaths: dead,
            has_calls: Box::new(move |_| *live.borrow()),
            is_frozen: Box::new(move || *is_frozen.borrow()),
            drained: drained.subscribe(),
        };
        let lines = Lines::start(meta.clone(), names, 1, sees);
        Self { meta, lines, deaths, calls, frozen, drained }
    }
}

/// A process that asks.
struct Process {
    name: &'static str,
    incarnation: u64,
    number: u64,
    reply: Reply,
    told: mpsc::Receiver<Result<pb::Told, Status>>,
    unable: Vec<String>,
}

impl Process {
    fn new(name: &'static str, incarnation: u64) -> Self {
        let (reply, told) = mpsc::channel(TOLD_MAX);
        Self { name, incarnation, number: 0, reply, told, unable: Vec::new() }
    }

    fn ask(&mut self, bench: &Bench, left: &[(&str, u64)]) {
        self.number += 1;
        let life = |(line, life): &(&str, u64)| pb::Life {
            line: (*line).to_owned(),
            life: *life,
            ..Default::default()
        };
        let ask = pb::Ask {
            process: self.name.to_owned(),
            incarnation: self.incarnation,
            number: self.number,
            left: left.iter().map(life).collect(),
            unable: self.unable.clone(),
            version: "0.1.0".into(),
        };
        bench.lines.on_ask(ask, &self.reply);
    }

    async fn answer(&mut self) -> pb::Holds {
        loop {
            let told = timeout(PATIENCE, self.told.recv()).await.expect("an answer").unwrap();
            if let Some(pb::told::Body::Holds(holds)) = told.unwrap().body {
                return holds;
            }
        }
    }

    /// The next answer: the lines that it holds with their lives, and those that are wanted back.
    async fn holds(&mut self) -> (Vec<(String, u64)>, Vec<String>) {
        let holds = self.answer().await;
        let held = holds.lives.into_iter().filter(|life| life.held);
        (held.map(|life| (life.line, life.life)).collect(), holds.wanted)
    }

    /// Asks until it holds just these.
    async fn holds_at_last(&mut self, bench: &Bench, lines: &[&str]) -> Vec<(String, u64)> {
        let until = async {
            loop {
                self.ask(bench, &[]);
                let (held, _) = self.holds().await;
                if held.iter().map(|(line, _)| line.as_str()).eq(lines.iter().copied()) {
                    return held;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, until).await.expect("it holds them")
    }
}

/// Both ask until something is wanted of `holder`.
async fn wanted_at_last(bench: &Bench, other: &mut Process, holder: &mut Process) -> Vec<String> {
    let wanted = async {
        loop {
            other.ask(bench, &[]);
            holder.ask(bench, &[]);
            let (_, wanted) = holder.holds().await;
            if !wanted.is_empty() {
                return wanted;
            }
        }
    };
    timeout(PATIENCE, wanted).await.expect("it is wanted")
}

#[tokio::test]
async fn each_process_gets_its_own_line_and_the_other_one_after_an_obituary() {
    let bench = Bench::start();
    let (mut a, mut b) = (Process::new(NAMES[0], 7), Process::new(NAMES[1], 8));
    let of_a = a.holds_at_last(&bench, &NAMES[..1]).await;
    let of_b = b.holds_at_last(&bench, &NAMES[1..]).await;
    bench.deaths.send_replace(BTreeMap::from([(NAMES[0].to_owned(), 7)]));
    // It is told without having to ask.
    let both = loop {
        let (held, _) = b.holds().await;
        if held.len() == 2 {
            break held;
        }
    };
    assert!(both[0].1 > of_a[0].1, "a later life: {both:?}");
    assert_eq!(both[1], of_b[0]);
    assert_eq!(bench.lines.of(NAMES[1]), NAMES);
}

#[tokio::test]
async fn silent_process_loses_its_line_when_the_lease_is_over_and_not_before() {
    let bench = Bench::start();
    let (mut a, mut b) = (Process::new(NAMES[0], 7), Process::new(NAMES[1], 8));
    b.holds_at_last(&bench, &NAMES[1..]).await;
    a.holds_at_last(&bench, &NAMES[..1]).await;
    let asked = clock::boot_ms();
    b.holds_at_last(&bench, &NAMES).await;
    // Its last question was heard a moment before.
    let waited = clock::boot_ms() - asked;
    assert!(waited + 50 >= LEASE_MS + MARGIN_MS, "after {waited} ms");
}

#[tokio::test]
async fn line_goes_back_to_its_own_process_when_no_calls_live_on_it() {
    let bench = Bench::start();
    let mut b = Process::new(NAMES[1], 8);
    bench.calls.send_replace(true);
    // Nobody has served it yet: its own process is waited for.
    b.holds_at_last(&bench, &NAMES[1..]).await;
    let held = b.holds_at_last(&bench, &NAMES).await;
    let mut a = Process::new(NAMES[0], 9);
    let begun = clock::boot_ms();
    while clock::boot_ms() - begun < BACK_AFTER_MS + 300 {
        a.ask(&bench, &[]);
        b.ask(&bench, &[]);
        assert_eq!(a.holds().await.0, []);
        assert_eq!(b.holds().await, (held.clone(), Vec::new()));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bench.calls.send_replace(false);
    assert_eq!(wanted_at_last(&bench, &mut a, &mut b).await, [NAMES[0]]);
    b.ask(&bench, &[(NAMES[0], held[0].1)]);
    let given = a.holds_at_last(&bench, &NAMES[..1]).await;
    assert!(given[0].1 > held[0].1);
}

#[tokio::test]
async fn drained_process_gives_its_line_to_another_with_its_calls_and_has_it_again_when_it_may() {
    let bench = Bench::start();
    let (mut a, mut b) = (Process::new(NAMES[0], 7), Process::new(NAMES[1], 8));
    let of_a = a.holds_at_last(&bench, &NAMES[..1]).await;
    b.holds_at_last(&bench, &NAMES[1..]).await;
    bench.calls.send_replace(true);
    bench.drained.send_replace(BTreeSet::from([NAMES[0].to_owned()]));
    a.ask(&bench, &[]);
    assert_eq!(a.holds().await, (of_a.clone(), vec![NAMES[0].to_owned()]));
    a.ask(&bench, &[(NAMES[0], of_a[0].1)]);
    // It is told without having to ask.
    let held = loop {
        let (held, _) = b.holds().await;
        if held.len() == 2 {
            break held;
        }
    };
    assert!(held[0].1 > of_a[0].1, "a later life: {held:?}");
    // As long as it is drained it is not its own again, whether calls live or not.
    bench.calls.send_replace(false);
    let begun = clock::boot_ms();
    while clock::boot_ms() - begun < BACK_AFTER_MS + 300 {
        a.ask(&bench, &[]);
        b.ask(&bench, &[]);
        assert_eq!(b.holds().await, (held.clone(), Vec::new()));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bench.drained.send_replace(BTreeSet::new());
    b.ask(&bench, &[]);
    assert_eq!(b.holds().await.1, [NAMES[0]]);
}

#[tokio::test]
async fn drained_process_keeps_its_line_where_nobody_else_is_there() {
    let bench = Bench::start();
    let mut a = Process::new(NAMES[0], 7);
    let held = a.holds_at_last(&bench, &NAMES[..1]).await;
    bench.drained.send_replace(BTreeSet::from([NAMES[0].to_owned()]));
    a.ask(&bench, &[]);
    assert_eq!(a.holds().await, (held, Vec::new()));
}

#[tokio::test]
async fn line_that_its_own_process_cannot_serve_is_the_others_until_it_can() {
    let bench = Bench::start();
    let (mut a, mut b) = (Process::new(NAMES[0], 7), Process::new(NAMES[1], 8));
    let held = a.holds_at_last(&bench, &NAMES[..1]).await;
    b.holds_at_last(&bench, &NAMES[1..]).await;
    a.unable = vec![NAMES[0].to_owned(), "a line of nobody".to_owned()];
    a.ask(&bench, &[(NAMES[0], held[0].1)]);
    b.holds_at_last(&bench, &NAMES).await;
    // It is there, and wants nothing back.
    let begun = clock::boot_ms();
    while clock::boot_ms() - begun < BACK_AFTER_MS + 300 {
        a.ask(&bench, &[]);
        b.ask(&bench, &[]);
        assert_eq!(a.holds().await.0, []);
        assert_eq!(b.holds().await.1, Vec::<String>::new());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    a.unable.clear();
    assert_eq!(wanted_at_last(&bench, &mut a, &mut b).await, [NAMES[0]]);
}

#[tokio::test]
async fn node_that_does_not_lead_answers_nobody() {
    let bench = Bench::start();
    let mut a = Process::new(NAMES[0], 7);
    a.holds_at_last(&bench, &NAMES[..1]).await;
    bench.meta.lose_lead();
    a.ask(&bench, &[]);
    let quiet = timeout(Duration::from_millis(100), a.told.recv()).await;
    assert!(quiet.is_err(), "{quiet:?}");
}

#[tokio::test]
async fn who_is_left_of_a_majority_that_is_proven_dead_lets_holders_go_on() {
    let bench = Bench::start();
    let mut a = Process::new(NAMES[0], 7);
    let held = a.holds_at_last(&bench, &NAMES[..1]).await;
    bench.meta.lose_lead();
    bench.frozen.send_replace(true);
    while a.told.try_recv().is_ok() {}
    a.ask(&bench, &[]);
    let answer = a.answer().await;
    assert!(answer.frozen);
    assert_eq!(answer.number, a.number);
    assert_eq!((answer.lives[0].life, answer.lives[0].held), (held[0].1, true));
}

#[test]
fn grant_is_read_as_it_was_written() {
    let grant = Grant { process: "gateway-a".to_owned(), incarnation: 3, life: 9 };
    assert_eq!(read(&write(&grant)), Some(grant));
    assert_eq!(read(&[0xff]), None);
}
