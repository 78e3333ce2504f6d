//! `make interop`: phones and a PBX that are not ours, against a cluster of real processes. Prints
//! what each can do with us; exits 0 only if all of it works.
//!
//! The peers are Debian's: baresip of this machine, and Asterisk of Debian 11 in a folder of its
//! own, for Debian 12 has none.

mod asterisk;
mod baresip;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tandem_tests::house::House;

use report::Report;

/// Third octets of the clusters' addresses.
const BLOCK: u8 = 71;

struct Flags {
    /// The root of a Debian with Asterisk; none: it is left out.
    asterisk: Option<PathBuf>,
    /// How long each conversation is listened to.
    talk: Duration,
}

fn flags() -> Result<Flags> {
    let mut flags = Flags { asterisk: None, talk: Duration::from_secs(5) };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--asterisk" => {
                flags.asterisk = Some(args.next().context("--asterisk needs a folder")?.into());
            }
            "--seconds" => {
                let seconds = args.next().context("--seconds needs a number")?;
                flags.talk = Duration::from_secs(seconds.parse().context("--seconds")?);
            }
            "--help" => {
                println!("tandem-interop [--asterisk ROOT] [--seconds N]");
                std::process::exit(0);
            }
            other => anyhow::bail!("unknown option {other}; there are --asterisk and --seconds"),
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
    let house = House::open(BLOCK).await?;
    let mut report = Report::default();
    for transport in ["udp", "tcp"] {
        baresip::try_all(&house, transport, flags.talk, &mut report).await;
    }
    match &flags.asterisk {
        Some(root) => asterisk::try_all(&house, root, flags.talk, &mut report).await,
        None => println!("Asterisk is left out: no --asterisk ROOT"),
    }
    report.print();
    house.cluster.stop()?;
    Ok(report.all_work())
}
