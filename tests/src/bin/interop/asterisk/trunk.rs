//! Asterisk as a carrier's switch.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tandem_tests::house::House;
use tandem_tests::phone::{Incoming, Phone};

use super::TONE_HZ;
use super::config::{TRUNK, TRUNK_TCP};
use super::process::Asterisk;
use crate::listen::{COLLEAGUE_HZ, COMES_OF_ASTERISK, WITHIN, has_heard, hears, keeps_hearing};
use crate::report::{Feature, Report};
use crate::tenant::{ACCOUNT, ECHO, FLOW, KEYS, TRUNK_AGENT};

/// Numbers outside: one that plays a tone, one that waits for keys.
pub const OUTWARD: &str = "004930101";
pub const OUTWARD_KEYS: &str = "004930102";

pub async fn try_all(house: &House, asterisk: &Asterisk, talk: Duration, report: &Report) {
    let peer = super::TRUNK;
    report.note(peer, Feature::RegistersUs, registers_us(house).await);
    report.note(peer, Feature::CallsEcho, calls_echo(asterisk, TRUNK, "echo", talk).await);
    report.note(peer, Feature::SendsKeys, sends_keys(house, asterisk).await);
    let quick = Incoming::Answer { after_ms: 50 };
    let agent = match house.agent_with_tone(TRUNK_AGENT, 1, quick, COLLEAGUE_HZ).await {
        Ok(agent) => agent,
        Err(error) => {
            report.note(peer, Feature::CallsQueue, Err(error));
            return;
        }
    };
    let queue = calls_queue(house, asterisk, &agent, talk).await;
    report.note(peer, Feature::CallsQueue, queue);
    report.note(peer, Feature::IsCalled, is_called(house, asterisk, &agent, talk).await);
    report.note(peer, Feature::HearsKeys, hears_keys(house, asterisk, &agent).await);
}

pub async fn try_tcp(asterisk: &Asterisk, talk: Duration, report: &Report) {
    let echo = calls_echo(asterisk, TRUNK_TCP, "echo-tcp", talk).await;
    report.note(super::TRUNK_TCP, Feature::CallsEcho, echo);
}

/// Each gateway, with a password.
async fn registers_us(house: &House) -> Result<()> {
    let found = |page: &Value| {
        let mut trunks = page["items"].as_array()?.iter();
        let trunk = trunks.find(|trunk| trunk["name"] == "asterisk")?;
        let all = trunk["registrations"].as_array()?;
        let both = all.len() == 2 && all.iter().all(|one| one["state"] == "registered");
        both.then_some(())
    };
    house.api.until("/v1/trunks", WITHIN, found).await
}

async fn calls_echo(asterisk: &Asterisk, by: &str, name: &str, talk: Duration) -> Result<()> {
    let number = format!("PJSIP/{ECHO}@{by}");
    asterisk.ask(&format!("channel originate {number} extension {name}@calls")).await?;
    asterisk.channel(by).await?;
    // Nobody else hears it: how long it lasts is all there is.
    tokio::time::sleep(talk + Duration::from_secs(1)).await;
    asterisk.hang_up(by).await?;
    has_heard(&asterisk.heard(name), TONE_HZ, talk).await
}

/// Once the flow asks for them.
async fn sends_keys(house: &House, asterisk: &Asterisk) -> Result<()> {
    asterisk.ask(&format!("channel originate PJSIP/{FLOW}@{TRUNK} extension flow@calls")).await?;
    let step_is = async |step: &str| {
        let found = |page: &Value| {
            let mut calls = page["items"].as_array()?.iter();
            let by_it = |call: &&Value| call["trunk"] == "asterisk" && call["to"] == FLOW;
            let call = calls.find(by_it)?;
            (call["flow"]["step"] == step).then_some(())
        };
        house.api.until("/v1/calls", WITHIN, found).await
    };
    step_is("ask").await?;
    let channel = asterisk.channel(TRUNK).await?;
    asterisk.ask(&format!("channel redirect {channel} calls,keys,1")).await?;
    step_is("right").await?;
    asterisk.hang_up(TRUNK).await
}

/// At the address that our gateway has registered.
async fn calls_queue(
    house: &House,
    asterisk: &Asterisk,
    agent: &Phone,
    talk: Duration,
) -> Result<()> {
    asterisk.ask(&format!("channel originate PJSIP/{ACCOUNT} extension queue@calls")).await?;
    let call = agent.called(WITHIN).await?;
    house.agent_is(TRUNK_AGENT, "talking").await?;
    keeps_hearing(agent, &call, TONE_HZ, talk, COMES_OF_ASTERISK).await?;
    ensure!(agent.hang_up(&call).await? == 200, "our BYE is not answered 200");
    asterisk.is_free(ACCOUNT).await?;
    has_heard(&asterisk.heard("queue"), COLLEAGUE_HZ, talk).await?;
    house.agent_is(TRUNK_AGENT, "ready").await
}

/// By an agent, with the password that it asks for.
async fn is_called(
    house: &House,
    asterisk: &Asterisk,
    agent: &Phone,
    talk: Duration,
) -> Result<()> {
    let call = house.call(agent, OUTWARD, "connected").await?;
    let live = house.item(&format!("/v1/calls?sip_call_id={call}")).await?;
    ensure!(live["outward"]["trunk"] == "asterisk", "it goes by {}", live["outward"]);
    keeps_hearing(agent, &call, TONE_HZ, talk, COMES_OF_ASTERISK).await?;
    asterisk.hang_up(ACCOUNT).await?;
    agent.ended(&call, WITHIN).await?;
    has_heard(&asterisk.heard("outward"), COLLEAGUE_HZ, talk).await?;
    house.agent_is(TRUNK_AGENT, "ready").await
}

async fn hears_keys(house: &House, asterisk: &Asterisk, agent: &Phone) -> Result<()> {
    let call = house.call(agent, OUTWARD_KEYS, "connected").await?;
    agent.press(&call, KEYS)?;
    asterisk.says("PRESSED", KEYS).await.context("what Asterisk has read")?;
    hears(agent, &call, TONE_HZ).await?;
    ensure!(agent.hang_up(&call).await? == 200, "our BYE is not answered 200");
    asterisk.is_free(ACCOUNT).await?;
    house.agent_is(TRUNK_AGENT, "ready").await
}
