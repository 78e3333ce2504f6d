//! The gateway's process dies, or is drained, while a call is in each of the states that a call can be in, one after the other.

use anyhow::Result;
use tandem_tests::house::House;
use tandem_tests::scene::{Loss, Over, Scene, State};

/// Generous; how long it is, is a benchmark's to say.
const GAP_MS_MAX: u64 = 2_000;

async fn plays(block: u8, loss: Loss, over: &[Over]) -> Result<()> {
    let house = House::open(block).await?;
    let mut wrong = Vec::new();
    let all = over.iter().flat_map(|over| State::ALL.map(|state| (*over, state)));
    for (over, state) in all.filter(|(over, state)| over.has(*state)) {
        loss.awaits(&house).await?;
        let what = format!("{}, {}", over.name(), state.name());
        let mut scene = Scene::enter(&house, state, over, 0).await?;
        scene.strike().await?;
        let lost = loss.strike(&house, 0).await?;
        match scene.leave().await {
            Ok(gap) if gap.is_none_or(|gap| gap <= GAP_MS_MAX) => {
                println!("{what}: {} lost, gap {gap:?} ms", lost.join(" and "));
            }
            Ok(gap) => wrong.push(format!("{what}: nothing was heard for {gap:?} ms")),
            Err(error) => wrong.push(format!("{what}: {error:#}")),
        }
        loss.mend(&house, &lost).await?;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    house.cluster.stop()?;
    Ok(())
}

/// Where nothing is on its way, and for long enough.
const LASTING: [State; 6] =
    [State::Called, State::Ringing, State::Talking, State::Held, State::Prompt, State::Queued];

/// What has gone on once goes on again: in the process that came back meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_on_when_the_gateway_that_went_on_with_them_dies_too() -> Result<()> {
    let house = House::open(66).await?;
    let mut wrong = Vec::new();
    for state in LASTING {
        Loss::Gateway.awaits(&house).await?;
        let mut scene = Scene::enter(&house, state, Over::Udp, 0).await?;
        scene.strike().await?;
        let mut lost = Vec::new();
        for _ in 0..2 {
            Loss::Gateway.awaits(&house).await?;
            lost = Loss::Gateway.strike(&house, 0).await?;
            // Who is asked for what may be lost must know who serves.
            let other =
                if lost.iter().any(|it| it == "gateway-a") { "gateway-b" } else { "gateway-a" };
            house.cluster.served_by(0, other).await?;
            Loss::Gateway.mend(&house, &lost).await?;
        }
        match scene.leave().await {
            Ok(gap) => {
                println!("{}: {} lost last, gap {gap:?} ms", state.name(), lost.join(" and "))
            }
            Err(error) => wrong.push(format!("{}: {error:#}", state.name())),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    house.cluster.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_in_every_state_go_on_when_the_gateway_is_killed() -> Result<()> {
    plays(238, Loss::Gateway, &Over::ALL).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_in_every_state_go_on_when_the_box_is_killed() -> Result<()> {
    plays(240, Loss::Box, &[Over::Udp]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_in_every_state_go_on_when_the_gateway_is_drained() -> Result<()> {
    plays(241, Loss::Drain, &[Over::Udp]).await
}
