//! A call centre in virtual time: the production machines of `tandem-core`, played by callers who
//! arrive, wait, give up and talk, and by agents who answer. It says what a staffing plan would
//! come to, and proves the distributor against queueing theory.
//!
//! Read in this order: [`scenario`] (what is asked), [`random`] (where chance comes from),
//! [`shard`] (the world and its log), [`sip`] (what the phones say), [`laboratory`] (who does what
//! when), [`tally`] (what is counted), [`textbook`] (the same callers without a core), [`erlang`],
//! [`erlang_a`] and [`model`] (what theory expects), [`report`] (all of it side by side).
//!
//! # What a scenario may have
//!
//! * One queue, its keys in the open, or several as `[[queues]]`, each with callers, talk times,
//!   patience and service level of its own, and agents `{ first, last }`: ranges that overlap share.
//! * `arrivals.per_hour`, or `arrivals.profile`: a day of intervals, `{ hours, per_hour }`, over and
//!   over. Each is reported for itself; a caller counts for the interval in which he came.
//! * `ignored_rings`: an agent lets the phone ring with a `probability`; after `ring_out_s` the caller
//!   is taken back, with place and waiting time, and `back_after_s` later the agent asks for calls.
//!
//! # What the formulas assume, and where this differs
//!
//! * Time has steps of 1 ms. Times are rounded to the nearest step, arrivals without drift, so the
//!   means stay as they are; with handling times of seconds and more nothing of it can be seen.
//! * No two callers come in the same millisecond; at 360 an hour that moves one in 10,000 by one.
//! * Erlang's agent is busy from the moment of the match. Ours rings first: with an `answer_delay_s`
//!   of 0 the phone answers in the millisecond in which it rings and the two are the same; else the
//!   delay counts as handling time, and the model's waits are made longer by it.
//! * Erlang C and A know exponential handling times. The agent's whole time counts, after-call work
//!   included, and that is constant: leave it 0 where agreement is to be measured.
//! * Erlang A knows exponential patience; it must outlast the ringing, too: see [`model`]. With
//!   constant patience no model is shown.
//! * The formulas are about means over all time. How far a play of some hours may be off by chance
//!   alone stands beside each figure, as a 95 % confidence interval.

pub mod erlang;
pub mod erlang_a;
pub mod laboratory;
pub mod model;
pub mod random;
pub mod report;
pub mod scenario;
pub mod shard;
pub mod sip;
mod table;
pub mod tally;
pub mod textbook;

pub use report::Report;
pub use scenario::{BUILT_IN, Error, Scenario};

/// Plays a scenario, given as TOML or as the name of one of [`BUILT_IN`]. A seed given here goes
/// before the scenario's own; the same seed gives the same report, byte for byte.
///
/// # Errors
/// Where the scenario is unknown or says what can't be played: the key and what it may be.
pub fn run(scenario: &str, seed: impl Into<Option<u64>>) -> Result<Report, Error> {
    let scenario = Scenario::read(scenario)?;
    let seed = seed.into().or(scenario.seed).unwrap_or(random::SEED_DEFAULT);
    let tally = laboratory::Laboratory::new(&scenario, seed).run();
    let textbook = textbook::Sums::expected(&scenario, seed);
    Ok(Report::new(scenario, seed, &tally, &textbook))
}
