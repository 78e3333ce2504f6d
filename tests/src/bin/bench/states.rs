//! A call in each of its states, over each transport, and what dies or is emptied then: whether it goes on as its people wish,
//! and how long the caller heard nothing.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tandem_tests::house::House;
use tandem_tests::scene::{Loss, Over, Scene, State};

const BLOCK: u8 = 239;
const ROUNDS: &str = "TANDEM_STATES_ROUNDS";
const ROUNDS_DEFAULT: u32 = 1;

pub async fn run() -> Result<()> {
    let rounds = crate::count(ROUNDS, ROUNDS_DEFAULT)?;
    let house = House::open_sparing_stopped(BLOCK).await?;
    println!("{:<32}{}", "state", Loss::ALL.map(|loss| format!("{:>26}", loss.name())).concat());
    for over in Over::ALL {
        for state in State::ALL.into_iter().filter(|state| over.has(*state)) {
            let mut row = format!("{:<32}", format!("{}, {}", over.name(), state.name()));
            for loss in Loss::ALL {
                let (mut kept, mut longest_ms) = (0, None);
                for _ in 0..rounds {
                    match play(&house, state, over, loss).await {
                        Ok(gap_ms) => (kept, longest_ms) = (kept + 1, longest_ms.max(gap_ms)),
                        Err(error) => println!("  {error:#}"),
                    }
                }
                let gap = longest_ms.map(|gap| format!(", gap {gap} ms")).unwrap_or_default();
                row += &format!("{:>26}", format!("{kept} of {rounds}{gap}"));
            }
            println!("{row}");
        }
    }
    house.cluster.stop()?;
    Ok(())
}

async fn play(house: &House, state: State, over: Over, loss: Loss) -> Result<Option<u64>> {
    let what = || format!("{}, {}, {}", over.name(), state.name(), loss.name());
    loss.awaits(house).await?;
    let mut scene = Scene::enter(house, state, over, 0).await.with_context(what)?;
    scene.strike().await?;
    let lost = loss.strike(house, 0).await.with_context(what)?;
    let left = tokio::time::timeout(Duration::from_secs(120), scene.leave()).await;
    loss.mend(house, &lost).await?;
    left.context("it has no end").flatten().with_context(what)
}
