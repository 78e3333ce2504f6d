//! A call in each of its states, and what dies or is emptied then: whether it goes on as its people wish, and how long the
//! caller heard nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tandem_tests::house::House;
use tandem_tests::scene::{Loss, Scene, State};

const BLOCK: u8 = 239;
const ROUNDS: &str = "TANDEM_STATES_ROUNDS";
const ROUNDS_DEFAULT: u32 = 3;

/// What became of one kind of scene.
#[derive(Default)]
struct Row {
    kept: u32,
    gaps_ms: Vec<u64>,
}

pub async fn run() -> Result<()> {
    let rounds = crate::minutes(ROUNDS, ROUNDS_DEFAULT)?;
    let house = House::open(BLOCK).await?;
    let mut rows: BTreeMap<(State, Loss), Row> = BTreeMap::new();
    for loss in Loss::ALL {
        for state in State::ALL {
            for _ in 0..rounds {
                let row = rows.entry((state, loss)).or_default();
                match play(&house, state, loss).await {
                    Ok(gap) => {
                        row.kept += 1;
                        row.gaps_ms.extend(gap);
                    }
                    Err(error) => println!("  {} and {}: {error:#}", state.name(), loss.name()),
                }
            }
        }
    }
    println!("{:<24}{}", "state", Loss::ALL.map(|loss| format!("{:>26}", loss.name())).concat());
    for state in State::ALL {
        let cells = Loss::ALL.iter().map(|loss| {
            let row = rows.get(&(state, *loss));
            let Some(Row { kept, gaps_ms }) = row else { return String::new() };
            let gap = gaps_ms.iter().max().map(|gap| format!(", gap {gap} ms"));
            format!("{:>26}", format!("{kept} of {rounds}{}", gap.unwrap_or_default()))
        });
        println!("{:<24}{}", state.name(), cells.collect::<String>());
    }
    house.cluster.stop()?;
    Ok(())
}

async fn play(house: &House, state: State, loss: Loss) -> Result<Option<u64>> {
    loss.awaits(house).await?;
    let mut scene = Scene::enter(house, state, 0).await?;
    scene.strike().await?;
    let lost = loss.strike(house, 0).await.context("nothing was lost")?;
    let left = tokio::time::timeout(Duration::from_secs(120), scene.leave()).await;
    loss.mend(house, &lost).await?;
    left.context("it has no end")?
}
