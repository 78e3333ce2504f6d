//! What a read of the API costs: one client that asks again as soon as it is answered, then many.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use tandem_tests::house::House;

use crate::print_histogram;

const BLOCK: u8 = 197;
const CLIENTS: [u32; 2] = [1, 32];
const FOR: Duration = Duration::from_secs(10);
const PATH: &str = "/v1/agents/1001";

pub async fn run() -> Result<()> {
    let house = House::open(BLOCK).await?;
    for clients in CLIENTS {
        let mut under_way = tokio::task::JoinSet::new();
        for _ in 0..clients {
            let api = house.cluster.api()?;
            under_way.spawn(async move {
                let mut taken_us = Histogram::<u64>::new(3)?;
                let begun = Instant::now();
                while begun.elapsed() < FOR {
                    let asked = Instant::now();
                    let agent = api.get(PATH).await?;
                    ensure!(agent["id"] == "1001", "{agent}");
                    taken_us.record(u64::try_from(asked.elapsed().as_micros())?)?;
                }
                anyhow::Ok(taken_us)
            });
        }
        let mut all = Histogram::<u64>::new(3)?;
        while let Some(of_client) = under_way.join_next().await {
            all.add(of_client??)?;
        }
        let a_second = all.len() / FOR.as_secs();
        print_histogram(&format!("{clients} clients read, {a_second} times a second"), "µs", &all);
    }
    house.cluster.stop()?;
    Ok(())
}
