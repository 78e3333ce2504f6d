//! The gateway's process dies, or is drained, while a call is in each of the states that a call can be in, one after the other.

use anyhow::Result;
use tandem_tests::house::House;
use tandem_tests::scene::{Loss, Over, Scene, State};

/// Generous; how long it is, is a benchmark's to say.
const GAP_MS_MAX: u64 = 2_000;

async fn plays(block: u8, loss: Loss) -> Result<()> {
    let house = House::open(block).await?;
    let mut wrong = Vec::new();
    for state in State::ALL {
        loss.awaits(&house).await?;
        let mut scene = Scene::enter(&house, state, Over::Udp, 0).await?;
        scene.strike().await?;
        let lost = loss.strike(&house, 0).await?;
        match scene.leave().await {
            Ok(gap) if gap.is_none_or(|gap| gap <= GAP_MS_MAX) => {
                println!("{}: {} lost, gap {gap:?} ms", state.name(), lost.join(" and "));
            }
            Ok(gap) => wrong.push(format!("{}: nothing was heard for {gap:?} ms", state.name())),
            Err(error) => wrong.push(format!("{}: {error:#}", state.name())),
        }
        loss.mend(&house, &lost).await?;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    house.cluster.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_in_every_state_go_on_when_the_gateway_is_killed() -> Result<()> {
    plays(238, Loss::Gateway).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_in_every_state_go_on_when_the_box_is_killed() -> Result<()> {
    plays(240, Loss::Box).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_in_every_state_go_on_when_the_gateway_is_drained() -> Result<()> {
    plays(241, Loss::Drain).await
}
