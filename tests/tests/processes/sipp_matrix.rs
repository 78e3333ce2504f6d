//! What a SIP peer that is not ours may do in and around a call: SIPp plays each scenario of
//! `src/sipp/matrix`, and the cluster keeps every call and loses none.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use tandem_tests::house::House;
use tandem_tests::phone::Incoming;
use tandem_tests::sipp::{Scenario, Sipp};

const WITHIN: Duration = Duration::from_secs(40);
/// Scenarios at one time, each from ports of its own.
const AT_ONCE: usize = 4;
/// Below those that a system gives to connections of its own choice (Linux: from 32,768 on).
const FIRST_PORT: u16 = 29_000;
const PORTS_EACH: u16 = 10;
const ECHO: &str = "4003";
/// An agent whose phone rings and rings: where a caller can give up, or be forked.
const RINGS: &str = "1001";
/// And by TCP, too.
const BY_TCP: [&str; 8] = [
    "basic",
    "late_offer",
    "hold_sendonly",
    "multipart",
    "compact",
    "cancel_while_ringing",
    "unknown_method",
    "no_common_codec",
];

/// Name and number of each scenario file.
fn scenarios() -> Result<Vec<(String, PathBuf, &'static str)>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/sipp/matrix");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let number = match name.as_str() {
            "cancel_while_ringing" | "invite_forked" | "invite_repeated" | "reliable_ringing" => {
                RINGS
            }
            _ => ECHO,
        };
        found.push((name, path, number));
    }
    found.sort();
    Ok(found)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sipp_plays_each_scenario_and_no_call_is_left_behind() -> Result<()> {
    let house = House::open(61).await?;
    // By another service address, so that SIPp's own is not a phone's.
    let _rings = house.agent(RINGS, 1, Incoming::Ring).await?;
    let scenarios = scenarios()?;
    let known: BTreeSet<&str> = scenarios.iter().map(|(name, _, _)| name.as_str()).collect();
    ensure!(BY_TCP.iter().all(|name| known.contains(name)), "a scenario of TCP has no file");
    let mut runs: Vec<(&str, Scenario)> = Vec::new();
    for (name, path, number) in &scenarios {
        for tcp in [false, true] {
            if !tcp || BY_TCP.contains(&name.as_str()) {
                let port = FIRST_PORT + PORTS_EACH * u16::try_from(runs.len())?;
                runs.push((name, Scenario { file: path, number, tcp, port }));
            }
        }
    }
    // An agent has one call at a time, so what rings goes one after the other.
    let (ringing, mut rest): (Vec<_>, Vec<_>) =
        runs.into_iter().partition(|(_, run)| run.number == RINGS);
    let mut failures = Vec::new();
    let mut play = async |batch: &[(&str, Scenario<'_>)]| -> Result<()> {
        let mut playing = Vec::new();
        for (name, run) in batch {
            playing.push((*name, run.tcp, Sipp::play(house.vips[0], run)?));
        }
        for (name, tcp, mut sipp) in playing {
            let status = sipp.ended(WITHIN).await?;
            if !status.success() {
                failures.push(format!("{name} tcp={tcp}: {status}\n{}", sipp.errors()));
            }
        }
        Ok(())
    };
    for run in &ringing {
        play(std::slice::from_ref(run)).await?;
        house.agent_is(RINGS, "ready").await?;
    }
    while !rest.is_empty() {
        let batch: Vec<_> = rest.drain(..rest.len().min(AT_ONCE)).collect();
        play(&batch).await?;
    }
    ensure!(failures.is_empty(), "{} scenarios failed:\n{}", failures.len(), failures.join("\n"));
    // Every channel is free again, and every call has its record.
    house
        .api
        .until("/v1/trunks", WITHIN, |page| (page["items"].get(0)?["busy"] == 0).then_some(()))
        .await?;
    house.cluster.stop()?;
    Ok(())
}
