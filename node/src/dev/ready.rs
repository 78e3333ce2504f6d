//! Asks processes for their health until they give it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::Instant;

use crate::config::{Cluster, Role};
use crate::exit::TimedOut;

/// Between two looks: health is asked for over HTTP, which tells nobody by itself.
const LOOK_AGAIN_MS: u64 = 25;
const ANSWER_MS_MAX: u64 = 1_000;

/// Until every gateway may take calls and every voter is up.
pub async fn cluster(cluster: &Cluster, within: Duration) -> Result<()> {
    let client = client()?;
    let gateways = cluster.gateways.iter().map(|gateway| (&gateway.name, gateway.api, "/readyz"));
    let members = cluster.members.iter().map(|member| {
        let path = match member.role {
            Role::Node => "/readyz",
            Role::Witness => "/startupz",
        };
        (&member.name, member.http, path)
    });
    let deadline = Instant::now() + within;
    for (name, http, path) in members.chain(gateways) {
        while !answers(&client, http, path).await {
            if Instant::now() >= deadline {
                let why = verbose(&client, http).await;
                return Err(TimedOut(format!(
                    "{name} was not ready within {} s: {why}",
                    within.as_secs()
                ))
                .into());
            }
            tokio::time::sleep(Duration::from_millis(LOOK_AGAIN_MS)).await;
        }
    }
    Ok(())
}

/// True when the process answers, false when it is dead.
pub async fn process(
    cluster: &Cluster,
    name: &str,
    within: Duration,
    alive: impl Fn() -> Option<bool>,
) -> Result<bool> {
    let client = client()?;
    let gateways = cluster.gateways.iter().map(|gateway| (&gateway.name, gateway.api));
    let mut all = cluster.members.iter().map(|member| (&member.name, member.http)).chain(gateways);
    let (_, http) = all.find(|(known, _)| *known == name).context("there is no such process")?;
    let deadline = Instant::now() + within;
    while !answers(&client, http, "/startupz").await {
        if alive() == Some(false) {
            return Ok(false);
        }
        if Instant::now() >= deadline {
            let why = verbose(&client, http).await;
            return Err(TimedOut(format!(
                "{name} did not answer within {} s: {why}",
                within.as_secs()
            ))
            .into());
        }
        tokio::time::sleep(Duration::from_millis(LOOK_AGAIN_MS)).await;
    }
    Ok(true)
}

fn client() -> Result<reqwest::Client> {
    reqwest::Client::builder()
        .timeout(Duration::from_millis(ANSWER_MS_MAX))
        .no_proxy()
        .build()
        .context("HTTP can't be spoken")
}

async fn answers(client: &reqwest::Client, http: SocketAddr, path: &str) -> bool {
    let answer = client.get(format!("http://{http}{path}")).send().await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

/// What the process says is missing, on one line.
async fn verbose(client: &reqwest::Client, http: SocketAddr) -> String {
    let text = match client.get(format!("http://{http}/readyz?verbose")).send().await {
        Ok(answer) => answer.text().await.unwrap_or_default(),
        Err(_) => format!("nothing answers at {http}"),
    };
    text.trim().replace('\n', "; ")
}
