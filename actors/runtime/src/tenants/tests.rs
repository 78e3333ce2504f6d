//! Tenants on two groups whose rows are kept in memory.

use tandem_core::command::{Command, Envelope, GatewayEvent, Login, Origin};
use tandem_core::demo::demo_config;
use tandem_core::log_time::Reading;
use tandem_core::wire;
use tandem_sip::Millis;

use super::entry::ImportedRow;
use super::*;
use crate::ports::Clock;
use crate::replica::decode_reply;

struct Still;

impl Clock for Still {
    fn read(&self) -> Reading {
        Reading::default()
    }

    fn seed(&self) -> u64 {
        1
    }
}

struct Group {
    number: u16,
    tenants: Tenants,
    rows: Rows,
    index: u64,
}

fn tenants(number: u16) -> Tenants {
    let clock = Arc::new(LogClock::new(number, Arc::new(Still), 0));
    Tenants::new(number, clock)
}

impl Group {
    fn new(number: u16) -> Self {
        Self { number, tenants: tenants(number), rows: Rows::new(), index: 0 }
    }

    fn propose(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.index += 1;
        let outcome = self.tenants.apply(self.index, 3, bytes);
        for (family, prefix) in outcome.cleared {
            self.rows.retain(|(known, key), _| *known != family || !key.starts_with(&prefix));
        }
        for row in outcome.rows {
            match row.value {
                Some(value) => self.rows.insert((row.family, row.key), value),
                None => self.rows.remove(&(row.family, row.key)),
            };
        }
        self.tenants.stored(self.index);
        outcome.reply
    }

    fn step(&mut self, tenant: u16, step: Step) -> Reply {
        decode_reply(&self.propose(&entry::step(tenant, step)))
    }

    fn command(&mut self, tenant: u16, command: Command) -> Vec<u8> {
        self.command_of(tenant, None, command)
    }

    fn command_of(&mut self, tenant: u16, origin: Option<Origin>, command: Command) -> Vec<u8> {
        let (at, seed) = (Millis(self.index), self.index);
        let done = Vec::new();
        let envelope = Envelope { at, seed, version: 1, origin, done, command };
        self.propose(&entry::command(tenant, wire::encode_envelope(&envelope)))
    }

    /// As after the death of its process.
    fn restart(&mut self) {
        self.tenants = tenants(self.number);
        let live = self.rows.iter().filter(|((family, _), _)| !rows::HISTORY.contains(family));
        let rows =
            live.map(|((family, key), value)| ((*family).to_owned(), key.clone(), value.clone()));
        self.tenants.restore(&mut rows.collect::<Vec<_>>().into_iter()).unwrap();
    }

    fn live_rows(&self, tenant: u16) -> Vec<ImportedRow> {
        let of = self.rows.iter().filter_map(|((family, key), value)| {
            let key = key.strip_prefix(&prefix(tenant))?;
            let live = !rows::HISTORY.contains(family) && *family != TENANTS;
            live.then(|| ImportedRow {
                family: (*family).to_owned(),
                key: key.to_vec(),
                value: Some(value.clone()),
            })
        });
        of.collect()
    }

    fn world(&self, tenant: u16) -> Option<World> {
        let all = self.tenants.all().borrow().clone();
        Some(all.hosted.get(&tenant)?.replica.read(World::clone))
    }

    fn phase(&self, tenant: u16) -> Option<Phase> {
        self.tenants.all().borrow().standing(tenant).map(|standing| standing.phase)
    }
}

fn configure(version: u64) -> Command {
    Command::Configure(Box::new(tandem_core::config::Config { version, ..demo_config() }))
}

fn elected() -> Command {
    Command::Elected { node: "node-a".into(), dark: false }
}

/// The parts, a few rows each, and one that says what has changed since.
fn parts(rows: Vec<ImportedRow>, changed: Vec<ImportedRow>, epoch: u64) -> Vec<Step> {
    let count = u32::try_from(rows.chunks(3).len()).unwrap();
    let import = |part, last, rows| Step::Import(Import { epoch, part, last, rows, attempt: 1 });
    let first = (0..).zip(rows.chunks(3)).map(|(part, rows)| import(part, false, rows.to_vec()));
    first.chain([import(count, true, changed)]).collect()
}

/// What is to be said of those rows to whoever knows the others.
fn changed(now: Vec<ImportedRow>, known: &[ImportedRow]) -> Vec<ImportedRow> {
    let gone = known
        .iter()
        .filter(|row| !now.iter().any(|it| (&it.family, &it.key) == (&row.family, &row.key)));
    let gone: Vec<_> = gone.map(|row| ImportedRow { value: None, ..row.clone() }).collect();
    now.into_iter().filter(|row| !known.contains(row)).chain(gone).collect()
}

#[test]
fn tenant_moves_with_all_its_rows_whoever_dies_in_between() {
    for restarts in [false, true] {
        let (mut from, mut to) = (Group::new(0), Group::new(1));
        assert_eq!(decode_reply(&from.command(0, configure(1))), Reply::Done);
        from.rows.insert((rows::CDRS, [&prefix(0)[..], b"cdr"].concat()), vec![1]);
        // Its log is shorter than that of where the tenant comes from.
        for _ in 0..20 {
            from.command(0, elected());
        }
        let login = Login { vip: "127.0.0.1:5060".parse().unwrap(), ports: vec![20_000, 20_002] };
        let origin = Origin { gateway: "gateway-a".into(), incarnation: 1, sequence: 1 };
        from.command_of(0, Some(origin), Command::Gateway(GatewayEvent::Login(login)));
        // Of what is copied while it serves, some is gone by then.
        let mut early = from.live_rows(0);
        early.push(ImportedRow {
            family: rows::MESSAGES.into(),
            key: b"gone".to_vec(),
            value: Some(vec![1]),
        });
        from.command(0, elected());
        from.command(0, configure(1));
        let before = from.world(0).unwrap();
        let again = |from: &mut Group, to: &mut Group| {
            if restarts {
                from.restart();
                to.restart();
            }
        };
        assert_eq!(from.step(0, Step::Freeze(0)), Reply::Done);
        again(&mut from, &mut to);
        assert_eq!(from.command(0, elected()), replica::MOVED);
        let late = changed(from.live_rows(0), &early);
        assert!(late.iter().any(|row| row.value.is_none()) && late.len() < early.len());
        for part in parts(early, late, 1) {
            assert_eq!(to.step(0, part.clone()), Reply::Done);
            again(&mut from, &mut to);
            assert_eq!(to.step(0, part), Reply::Done, "once more");
            assert_eq!(to.command(0, elected()), replica::MOVED);
        }
        assert_eq!(to.step(0, Step::Open(1)), Reply::Done);
        again(&mut from, &mut to);
        assert_eq!(from.step(0, Step::Drop(1)), Reply::Done);
        again(&mut from, &mut to);
        assert_eq!(from.command(0, elected()), replica::MOVED);
        assert!(from.live_rows(0).is_empty() && from.world(0).is_none());
        assert!(from.rows.contains_key(&(rows::CDRS, [&prefix(0)[..], b"cdr"].concat())));
        let mut here = to.world(0).unwrap();
        assert_eq!((std::mem::take(&mut here.home), before.home), (1, 0));
        assert_eq!(here, before);
        // Positions go on growing, though this log is shorter.
        assert_eq!(decode_reply(&to.command(0, configure(2))), Reply::Done);
        assert!(to.index < before.index && to.world(0).unwrap().index > before.index);
        // And home again.
        assert_eq!(to.step(0, Step::Freeze(1)), Reply::Done);
        for part in parts(to.live_rows(0), Vec::new(), 2) {
            from.step(0, part);
            again(&mut from, &mut to);
        }
        assert_eq!(from.step(0, Step::Open(2)), Reply::Done);
        assert_eq!(to.step(0, Step::Drop(2)), Reply::Done);
        again(&mut from, &mut to);
        assert_eq!(decode_reply(&from.command(0, configure(3))), Reply::Done);
        assert_eq!(from.world(0).unwrap().config.unwrap().version, 3);
    }
}

#[test]
fn tenants_of_a_group_share_its_log_and_nothing_else() {
    let mut group = Group::new(0);
    assert_eq!(group.step(1, Step::Open(0)), Reply::Done);
    assert_eq!(group.command(2, elected()), replica::MOVED);
    group.command(0, configure(7));
    group.command(1, configure(8));
    group.restart();
    let version = |tenant| group.world(tenant).unwrap().config.unwrap().version;
    assert_eq!((version(0), version(1)), (7, 8));
    assert_eq!(group.world(1).unwrap().shard, 1);
}

#[test]
fn rows_that_this_build_can_not_read_stop_the_move_and_leave_nothing() {
    for (family, value) in [("unheard of", vec![]), (rows::CALLS, vec![0xff])] {
        let mut group = Group::new(1);
        let import = |part, last, family: &str, value| {
            let row = ImportedRow { family: family.into(), key: vec![1], value: Some(value) };
            Step::Import(Import { epoch: 1, part, last, rows: vec![row], attempt: 1 })
        };
        assert_eq!(group.step(0, import(0, false, rows::WORLD, vec![])), Reply::Done);
        let refused = group.step(0, import(1, true, family, value));
        assert!(matches!(refused, Reply::Rejected(Rejection::Refused(_))), "{refused:?}");
        assert!(group.live_rows(0).is_empty());
        assert_eq!(group.phase(0), Some(Phase::Gone));
        assert!(matches!(group.step(0, Step::Open(1)), Reply::Rejected(_)));
    }
}

#[test]
fn who_serves_a_tenant_hears_that_it_left_once_that_is_stored() {
    let mut group = Group::new(0);
    let mut all = group.tenants.all();
    all.mark_unchanged();
    group.index += 1;
    group.tenants.apply(group.index, 3, &entry::step(0, Step::Freeze(0)));
    assert!(!all.has_changed().unwrap());
    group.tenants.stored(group.index);
    assert_eq!(all.borrow_and_update().hosted[&0].standing.phase, Phase::Frozen);
    assert_eq!(group.step(0, Step::Drop(1)), Reply::Done);
    assert!(all.borrow_and_update().hosted.is_empty());
}

#[test]
fn replicas_come_to_the_same_hash_over_restarts_and_one_that_strays_is_found() {
    let (mut leads, mut follows) = (Group::new(0), Group::new(0));
    let both = |leads: &mut Group, follows: &mut Group, command: &dyn Fn() -> Command| {
        assert_eq!(leads.command(0, command()), follows.command(0, command()));
    };
    both(&mut leads, &mut follows, &|| configure(1));
    follows.restart();
    both(&mut leads, &mut follows, &elected);
    let check = |group: &Group| {
        let (index, hash) = group.tenants.chain().last().unwrap();
        entry::check(index, hash)
    };
    let told = check(&leads);
    assert_eq!(leads.propose(&told), follows.propose(&told));
    assert_eq!(leads.tenants.chain().last(), follows.tenants.chain().last());
    assert_eq!(follows.tenants.chain().differs_at(), None);
    // It applied something else, for whatever reason.
    leads.command(0, configure(2));
    follows.command(0, configure(3));
    let told = check(&leads);
    leads.propose(&told);
    follows.propose(&told);
    assert_eq!(leads.tenants.chain().differs_at(), None);
    assert_eq!(follows.tenants.chain().differs_at(), Some(4));
    // Rows of the other mend it.
    follows.rows = leads.rows.clone();
    follows.restart();
    assert_eq!(follows.tenants.chain().differs_at(), None);
    both(&mut leads, &mut follows, &elected);
    assert_eq!(leads.tenants.chain().last(), follows.tenants.chain().last());
}
