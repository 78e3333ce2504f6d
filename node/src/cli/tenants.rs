//! `tandem tenant list`, `apply` and `move`.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, runtime};
use super::status::{plain, rows, table};
use super::{ApplyTenant, MoveTenant, Status};
use crate::config::{self, Sounds};
use crate::exit::{TimedOut, Unsafe};

/// Between two looks at how far a move has come.
const LOOK_MS: u64 = 20;
const PATH: &str = "/v1/tenants";

pub fn list(asked: &Status) -> Result<()> {
    let client = Client::of(&asked.which)?;
    let tenants = runtime()?.block_on(client.get(PATH))?;
    if asked.json {
        println!("{}", serde_json::to_string_pretty(&tenants)?);
        return Ok(());
    }
    let mut all =
        table(["tenant", "shard", "takes calls", "calls", "on its way to", "last move given up"]);
    for tenant in rows(&tenants["items"]) {
        let of = |key: &str| plain(&tenant[key]);
        let ready = if tenant["ready"] == true { "yes" } else { "no" }.to_owned();
        let (moving, given_up) = (of("moving_to"), of("given_up"));
        all.add_row([of("name"), of("shard"), ready, of("calls"), moving, given_up]);
    }
    println!("{all}");
    Ok(())
}

/// Adds the tenant or changes it, and waits until it takes calls.
pub fn apply(asked: &ApplyTenant) -> Result<()> {
    let ApplyTenant { file, shard, timeout, which } = asked;
    let tenant = config::load(file)?.only_tenant();
    let tenant = tenant.map_err(|why| anyhow!("{}: {why}", file.display()))?;
    // What goes to the cluster has no password in it.
    let text =
        config::render::tenant(&tenant, &Sounds::default()).context("it can't be written")?;
    let name = tenant.tenant;
    let client = Client::of(which)?;
    let deadline = Instant::now() + Duration::from_secs(*timeout);
    runtime()?.block_on(async {
        let body = json!({"config": text, "shard": shard});
        client.order(Method::PUT, &format!("{PATH}/{name}"), Some(&body)).await?;
        loop {
            let now = client.get(PATH).await.unwrap_or_default();
            let found = rows(&now["items"]).iter().find(|known| known["name"] == *name);
            if let Some(known) = found.filter(|known| known["ready"] == true) {
                println!("{name} takes calls in {}", plain(&known["shard"]));
                return Ok(());
            }
            if Instant::now() >= deadline {
                let why = format!("{name} is added, and takes no calls after {timeout} s");
                return Err(TimedOut(why).into());
            }
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    })
}

/// Asks for it, and waits until the tenant is there.
pub fn go(asked: &MoveTenant) -> Result<()> {
    let MoveTenant { tenant, shard, timeout, which } = asked;
    let client = Client::of(which)?;
    let deadline = Instant::now() + Duration::from_secs(*timeout);
    runtime()?.block_on(async {
        let body = json!({"shard": shard});
        client.order(Method::POST, &format!("{PATH}/{tenant}/move"), Some(&body)).await?;
        loop {
            // A gateway may have nobody to ask for a moment: it is no failure of the move.
            let now = client.get(PATH).await.unwrap_or_default();
            match come(&now, tenant, shard) {
                Come::There => {
                    println!("{tenant} is in {shard}");
                    return Ok(());
                }
                Come::GivenUp(why) => {
                    return Err(Unsafe(format!("the move was given up: {why}")).into());
                }
                Come::OnItsWay if Instant::now() >= deadline => {
                    return Err(TimedOut(format!(
                        "not done within {timeout} s, and goes on without this command"
                    ))
                    .into());
                }
                Come::OnItsWay => tokio::time::sleep(Duration::from_millis(LOOK_MS)).await,
            }
        }
    })
}

/// How far a move has come.
#[derive(Debug, PartialEq, Eq)]
enum Come {
    There,
    OnItsWay,
    GivenUp(String),
}

fn come(tenants: &Value, tenant: &str, shard: &str) -> Come {
    let found = rows(&tenants["items"]).iter().find(|known| known["name"] == tenant);
    match found {
        Some(known) if known["shard"] == shard && known["moving_to"].is_null() => Come::There,
        Some(known) if known["moving_to"].is_null() => match known["given_up"].as_str() {
            Some(why) => Come::GivenUp(why.to_owned()),
            None => Come::OnItsWay,
        },
        Some(_) | None => Come::OnItsWay,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn move_is_done_when_the_tenant_is_there_and_over_when_it_is_given_up() {
        let of = |shard: &str, to: Option<&str>, given_up: Option<&str>| {
            json!({"items": [
                {"name": "other", "shard": "s2", "moving_to": null, "given_up": null},
                {"name": "demo", "shard": shard, "moving_to": to, "given_up": given_up},
            ]})
        };
        assert_eq!(come(&of("s2", None, None), "demo", "s2"), Come::There);
        assert_eq!(come(&of("s0", Some("s2"), None), "demo", "s2"), Come::OnItsWay);
        // Of an earlier one.
        assert_eq!(come(&of("s0", Some("s2"), Some("late")), "demo", "s2"), Come::OnItsWay);
        assert_eq!(come(&of("s0", None, Some("late")), "demo", "s2"), Come::GivenUp("late".into()));
        assert_eq!(come(&Value::Null, "demo", "s2"), Come::OnItsWay);
    }
}
