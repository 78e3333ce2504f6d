//! Asterisk as a farm of phones that register as agents, and as a carrier's switch: it registers us,
//! sends calls and takes them.

mod ari;
mod config;
mod farm;
mod process;
mod trunk;

use std::path::Path;
use std::time::Duration;

use tandem_tests::house::House;

use crate::report::{Feature, Report};
use process::Asterisk;

const TONE_HZ: u32 = 800;
/// Its calls end by themselves so long after they have been listened to, if nobody ends them.
const AT_MOST: Duration = Duration::from_secs(60);

const PHONES: &str = "Asterisk, phones";
const TRUNK: &str = "Asterisk, trunk";
const TRUNK_TCP: &str = "Asterisk, tcp";

pub async fn try_all(house: &House, root: &Path, talk: Duration, report: &Report) {
    let wait = talk + AT_MOST;
    let asterisk = match Asterisk::start(root, house, wait.as_secs()).await {
        Ok(asterisk) => asterisk,
        Err(error) => {
            report.note(PHONES, Feature::Registers, Err(error));
            return;
        }
    };
    tokio::join!(
        farm::try_all(house, &asterisk, talk, report),
        trunk::try_all(house, &asterisk, talk, report),
        trunk::try_tcp(&asterisk, talk, report),
    );
}

pub fn leave_out(why: &str, report: &Report) {
    for peer in [PHONES, TRUNK, TRUNK_TCP] {
        report.leave_out(peer, why);
    }
}
