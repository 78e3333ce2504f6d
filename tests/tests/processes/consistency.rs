//! Whoever asks is told what is so, through whichever gateway, while leaders die and boxes are cut off: what
//! concurrent clients were told is linearizable.
//!
//! `TANDEM_CONSISTENCY_SEED` for another schedule, `TANDEM_CONSISTENCY_ROUNDS` for a longer one.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use tandem_tests::boxes::Boxes;
use tandem_tests::boxes::network::{Cut, Place};
use tandem_tests::clients::{Clients, set, value_of};
use tandem_tests::house::House;

const CUT_BLOCK: u8 = 194;
const KILL_BLOCK: u8 = 195;
const SEED: u64 = 1;
/// Over each kind of fault; a round is some 30 s.
const ROUNDS: u64 = 1;
const KILLS_A_ROUND: u64 = 6;
const CLIENTS_AT_EACH: u32 = 4;
const WITHIN: Duration = Duration::from_secs(15);
/// How long a fault lasts, ms: shorter than an election takes, and longer.
const FAULT_MS: std::ops::RangeInclusive<u64> = 150..=2_500;
/// More where clients still reach who was cut off: that is when it could tell them what was so before.
const STALE: Duration = Duration::from_millis(1_500);
const FLAPS: u32 = 6;
const FLAP_CUT_MS: u64 = 200;
const FLAP_WHOLE_MS: u64 = 300;
const AGENT: &str = "1001";
const AGENT_PATH: &str = "/v1/agents/1001";

/// Two clusters on two cores would starve each other.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn asked(name: &str, or: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(or)
}

fn other(place: Place) -> Place {
    if place == Place::A { Place::B } else { Place::A }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Whole,
    FromBoxes,
    BothWays,
    OneWay,
    Deaf,
    Flapping,
    Death,
}

const FAULTS: [Fault; 7] = [
    Fault::Whole,
    Fault::FromBoxes,
    Fault::BothWays,
    Fault::OneWay,
    Fault::Deaf,
    Fault::Flapping,
    Fault::Death,
];

async fn suffer(boxes: &Boxes, fault: Fault, random: &mut StdRng) -> Result<()> {
    let leader = boxes.leader().await?;
    let mut lasts = Duration::from_millis(random.random_range(FAULT_MS));
    if fault == Fault::FromBoxes {
        lasts += STALE;
    }
    println!("{fault:?} of box {} for {lasts:?}", leader.box_name());
    let cut = match fault {
        Fault::Whole => Cut::Whole(leader),
        Fault::FromBoxes => Cut::FromBoxes(leader),
        Fault::BothWays => Cut::BothWays(leader, other(leader)),
        Fault::OneWay => Cut::OneWay { from: leader, to: other(leader) },
        Fault::Deaf => Cut::Deaf(leader),
        Fault::Flapping => {
            for _ in 0..FLAPS {
                boxes.network.cut(Cut::FromBoxes(leader))?;
                pause(random.random_range(FLAP_CUT_MS / 2..=2 * FLAP_CUT_MS)).await;
                boxes.network.mend(Cut::FromBoxes(leader))?;
                pause(random.random_range(FLAP_WHOLE_MS / 2..=2 * FLAP_WHOLE_MS)).await;
            }
            return boxes.restore().await;
        }
        Fault::Death => {
            boxes.kill(&boxes.node_in(leader)?.name)?;
            tokio::time::sleep(lasts).await;
            return boxes.restore().await;
        }
    };
    boxes.network.cut(cut)?;
    tokio::time::sleep(lasts).await;
    boxes.restore().await
}

async fn pause(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_are_told_is_linearizable_over_cuts_and_silent_deaths() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let seed = asked("TANDEM_CONSISTENCY_SEED", SEED);
    let rounds = asked("TANDEM_CONSISTENCY_ROUNDS", ROUNDS);
    let boxes = Boxes::open(CUT_BLOCK).await?;
    let apis = [boxes.api_of(Place::A)?, boxes.api_of(Place::B)?];
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..rounds {
        let clients = Clients::start(&apis, CLIENTS_AT_EACH, random.random()).await?;
        let mut faults = FAULTS;
        faults.shuffle(&mut random);
        for fault in faults {
            suffer(&boxes, fault, &mut random).await.with_context(|| format!("{fault:?}"))?;
        }
        let told = clients.end().await?;
        let (writes, reads, unknown) = told.counts();
        println!("{writes} writes and {reads} reads, {unknown} writes of unknown end");
        told.judge().with_context(|| again(seed, rounds))?;
        ensure!(writes > 100 && reads > 100, "the clients did not get far");
    }
    boxes.settled().await?;
    let logs = boxes.compare_logs()?;
    println!("logs of both nodes: {logs}");
    Ok(())
}

/// Deaths that a supervisor sees: obituaries end leases, and reads must not rest on those.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_are_told_is_linearizable_over_deaths_of_leaders() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let seed = asked("TANDEM_CONSISTENCY_SEED", SEED);
    let rounds = asked("TANDEM_CONSISTENCY_ROUNDS", ROUNDS);
    let house = House::open(KILL_BLOCK).await?;
    let apis = [house.api.only(0), house.api.only(1)];
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..rounds {
        let clients = Clients::start(&apis, CLIENTS_AT_EACH, random.random()).await?;
        for _ in 0..KILLS_A_ROUND {
            // Too soon, and nobody leads.
            let deadline = Instant::now() + WITHIN;
            let leader = loop {
                match house.cluster.leader().await {
                    Ok(leader) => break leader,
                    Err(error) if Instant::now() > deadline => bail!(error),
                    Err(_) => pause(20).await,
                }
            };
            house.cluster.bury(&leader).await?;
            pause(random.random_range(0..=400)).await;
            house.cluster.revive(&leader)?;
            pause(random.random_range(0..=1_500)).await;
        }
        let told = clients.end().await?;
        let (writes, reads, unknown) = told.counts();
        println!("{writes} writes and {reads} reads, {unknown} writes of unknown end");
        told.judge().with_context(|| again(seed, rounds))?;
        ensure!(writes > 100 && reads > 100, "the clients did not get far");
    }
    house.cluster.stop()?;
    Ok(())
}

fn again(seed: u64, rounds: u64) -> String {
    format!(
        "again: TANDEM_CONSISTENCY_SEED={seed} TANDEM_CONSISTENCY_ROUNDS={rounds} \
         cargo test --release --locked --workspace --test processes consistency::"
    )
}

/// The leader's box is cut off from the other boxes, and its clients still reach it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leader_that_was_cut_off_answers_no_read_and_says_that_it_leads_no_longer() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let boxes = Boxes::open(CUT_BLOCK).await?;
    let leader = boxes.leader().await?;
    let (cut_off, on) = (boxes.api_of(leader)?, boxes.api_of(other(leader))?);
    let (status, body) = set(&cut_off, AGENT, "before").await?;
    ensure!(status == 200, "{status} {body}");
    boxes.network.cut(Cut::FromBoxes(leader))?;
    let cut = Instant::now();
    while set(&on, AGENT, "after").await?.0 != 200 {
        ensure!(cut.elapsed() < WITHIN, "the other side does not go on");
    }
    println!("the other side has taken a command after {:?}", cut.elapsed());
    let (status, problem) = cut_off.look(AGENT_PATH).await?;
    ensure!(status == 503 && problem["status"] == 503, "{status} {problem}");
    ensure!(value_of(&on.get(AGENT_PATH).await?)? == "after");
    let (status, _) = set(&cut_off, AGENT, "never").await?;
    ensure!(status == 503, "it has taken a command: {status}");

    // What it can tell of the cluster has an age.
    let old = |status: &serde_json::Value| (status["age_ms"].as_u64()? > 1_000).then_some(());
    cut_off.until("/v1/cluster", WITHIN, old).await?;
    let node = &boxes.node_in(leader)?.name;
    while boxes.metric(node, "tandem_raft_leader{shard=\"s0\"}").await? != Some(0.0) {
        ensure!(cut.elapsed() < WITHIN, "it goes on to lead");
        pause(20).await;
    }
    // New calls are sent to the other box.
    let base = cut_off.base(0)?.to_owned();
    while cut_off.probe(&base, "/readyz").await?.0 != 503 {
        ensure!(cut.elapsed() < WITHIN, "its gateway takes calls");
        pause(20).await;
    }
    println!("its gateway says that it takes no calls after {:?}", cut.elapsed());

    boxes.restore().await?;
    ensure!(value_of(&cut_off.get(AGENT_PATH).await?)? == "after");
    Ok(())
}
