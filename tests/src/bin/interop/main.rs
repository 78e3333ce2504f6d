//! `make interop`: phones and a PBX that are not ours, against a cluster of real processes. Prints
//! what each can do with us; exits 0 only if all of it works.
//!
//! The peers are Debian's: baresip of this machine, and Asterisk of Debian 11 in a folder of its
//! own, for Debian 12 has none. All are tried at the same time, each with agents of its own.

mod asterisk;
mod baresip;
mod listen;
mod report;
mod tenant;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tandem_tests::house::House;

use baresip::Way;
use report::Report;

/// The first second of what a peer has heard is left out.
const SECONDS_MIN: u64 = 3;
const OPTIONS: &str = "tandem-interop [--asterisk ROOT | --without-asterisk WHY] [--seconds N]";

enum Asterisk {
    /// The root of a Debian that has it.
    Within(PathBuf),
    /// It isn't tried, for this reason.
    LeftOut(String),
}

struct Flags {
    asterisk: Asterisk,
    /// How long a conversation is listened to.
    talk: Duration,
}

fn flags() -> Result<Flags> {
    let left_out = Asterisk::LeftOut("no --asterisk ROOT".into());
    let mut flags = Flags { asterisk: left_out, talk: Duration::from_secs(5) };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--asterisk" => {
                let root = args.next().context("--asterisk needs a folder")?;
                flags.asterisk = Asterisk::Within(root.into());
            }
            "--without-asterisk" => {
                let why = args.next().context("--without-asterisk needs a reason")?;
                flags.asterisk = Asterisk::LeftOut(why);
            }
            "--seconds" => {
                let seconds = args.next().context("--seconds needs a number")?;
                let seconds = seconds.parse().context("--seconds")?;
                ensure!(seconds >= SECONDS_MIN, "--seconds: {SECONDS_MIN} at least");
                flags.talk = Duration::from_secs(seconds);
            }
            "--help" => {
                println!("{OPTIONS}");
                std::process::exit(0);
            }
            other => anyhow::bail!("unknown option {other}: {OPTIONS}"),
        }
    }
    Ok(flags)
}

fn main() -> ExitCode {
    let run = || -> Result<bool> {
        let flags = flags()?;
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?
            .block_on(interop(&flags))
    };
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the peers could not be tried: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn interop(flags: &Flags) -> Result<bool> {
    let house = House::open_with(tenant::BLOCK, &tenant::config()).await?;
    let report = Report::default();
    let processes = house.cluster.processes()?;
    let tls = processes.sip[0].tls.parse()?;
    let by_tls = Way::TlsSrtp { roots: processes.sip_ca_file };
    let phone = async |way: &Way, server| {
        baresip::try_all(&house, server, way, flags.talk, &report).await;
    };
    let asterisk = async {
        match &flags.asterisk {
            Asterisk::Within(root) => {
                asterisk::try_all(&house, root, flags.talk, &report).await;
            }
            Asterisk::LeftOut(why) => asterisk::leave_out(why, &report),
        }
    };
    tokio::join!(
        phone(&Way::Udp, house.vips[0]),
        phone(&Way::Tcp, house.vips[0]),
        phone(&by_tls, tls),
        asterisk,
    );
    house.cluster.stop()?;
    report.print();
    Ok(report.all_work())
}
