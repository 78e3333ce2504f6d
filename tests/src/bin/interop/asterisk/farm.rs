//! Asterisk as a farm of phones.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tandem_tests::house::House;
use tandem_tests::phone::{Incoming, Phone};

use super::TONE_HZ;
use super::ari::Ari;
use super::config::PHONES;
use super::process::Asterisk;
use crate::listen::{
    COLLEAGUE_HZ, COMES_OF_ASTERISK, CUSTOMER_HZ, WITHIN, has_heard, hears, hears_music_instead_of,
    keeps_hearing,
};
use crate::report::{Feature, Report};
use crate::tenant::{FARM, FARM_COLLEAGUE};

/// The phones that hold a customer, and send one on.
const HOLDS: &str = "1007";
const TRANSFERS: &str = "1008";

pub async fn try_all(house: &House, asterisk: &Asterisk, talk: Duration, report: &Report) {
    let peer = super::PHONES;
    if !report.note(peer, Feature::Registers, registers(house, asterisk).await) {
        return;
    }
    let busy = Incoming::Reject { status: 486 };
    let customer = match house.phone_with_tone("13800001005", 0, busy, CUSTOMER_HZ).await {
        Ok(customer) => customer,
        Err(error) => {
            report.note(peer, Feature::IsCalled, Err(error));
            return;
        }
    };
    let called = is_called(house, asterisk, &customer, talk).await;
    report.note(peer, Feature::IsCalled, called);
    report.note(peer, Feature::Holds, holds(house, asterisk, &customer).await);
    report.note(peer, Feature::Transfers, transfers(house, asterisk, &customer).await);
}

async fn registers(house: &House, asterisk: &Asterisk) -> Result<()> {
    let phones = FARM.count();
    let all = |said: &str| said.matches("Registered").count() == phones;
    asterisk.until("pjsip show registrations", all).await?;
    for agent in FARM {
        house.agent_is(&agent.to_string(), "ready").await?;
    }
    Ok(())
}

async fn is_called(
    house: &House,
    asterisk: &Asterisk,
    customer: &Phone,
    talk: Duration,
) -> Result<()> {
    for agent in FARM {
        let agent = agent.to_string();
        let call = house.call(customer, &agent, "connected").await?;
        let first = agent == FARM.start().to_string();
        if first {
            keeps_hearing(customer, &call, TONE_HZ, talk, COMES_OF_ASTERISK).await?;
        } else {
            hears(customer, &call, TONE_HZ).await?;
        }
        ensure!(customer.hang_up(&call).await? == 200, "our BYE is not answered 200");
        asterisk.is_free(PHONES).await?;
        if first {
            has_heard(&asterisk.heard(&agent), CUSTOMER_HZ, talk).await?;
        }
        house.agent_is(&agent, "ready").await?;
    }
    Ok(())
}

async fn holds(house: &House, asterisk: &Asterisk, customer: &Phone) -> Result<()> {
    let mut ari = Ari::open().await?;
    let call = house.call(customer, HOLDS, "connected").await?;
    hears(customer, &call, TONE_HZ).await?;
    let channel = asterisk.channel(PHONES).await?;
    asterisk.ask(&format!("channel redirect {channel} phones,held,1")).await?;
    let channel = ari.given().await?;
    hears(customer, &call, TONE_HZ).await?;
    ari.hold(&channel, true).await?;
    house.agent_is(HOLDS, "held").await?;
    hears_music_instead_of(customer, &call, TONE_HZ).await?;
    ari.hold(&channel, false).await?;
    house.agent_is(HOLDS, "talking").await?;
    hears(customer, &call, TONE_HZ).await?;
    ensure!(customer.hang_up(&call).await? == 200, "our BYE is not answered 200");
    asterisk.is_free(PHONES).await?;
    house.agent_is(HOLDS, "ready").await
}

/// `Transfer()` of its dialplan: a REFER on a call that it has answered.
async fn transfers(house: &House, asterisk: &Asterisk, customer: &Phone) -> Result<()> {
    let quick = Incoming::Answer { after_ms: 50 };
    let colleague = house.agent_with_tone(FARM_COLLEAGUE, 1, quick, COLLEAGUE_HZ).await?;
    let call = house.call(customer, TRANSFERS, "connected").await?;
    hears(customer, &call, TONE_HZ).await?;
    let channel = asterisk.channel(PHONES).await?;
    asterisk.ask(&format!("channel redirect {channel} phones,away,1")).await?;
    let asked = colleague.called(WITHIN).await?;
    hears(customer, &call, COLLEAGUE_HZ).await?;
    hears(&colleague, &asked, CUSTOMER_HZ).await?;
    asterisk.is_free(PHONES).await?;
    house.agent_is(TRANSFERS, "ready").await?;
    ensure!(customer.hang_up(&call).await? == 200, "our BYE is not answered 200");
    colleague.ended(&asked, WITHIN).await?;
    asterisk.says("TRANSFERRED", "SUCCESS").await?;
    let cdr = house.cdr(&call).await?;
    let moves = cdr["transfers"].as_array().context("the record has no transfers")?;
    let moves: Vec<_> = moves.iter().map(|it| [&it["agent"], &it["to"], &it["outcome"]]).collect();
    let wanted = json!([[TRANSFERS, FARM_COLLEAGUE, "went_over"]]);
    ensure!(json!(moves) == wanted, "the record says {moves:?}");
    Ok(())
}
