//! `tandem call trace`: what a call said and did, as a ladder (RFC 3665 draws such), a page or a
//! capture.

mod html;
mod ladder;
mod pcap;
mod text;

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::Trace;
use super::client::{Client, runtime};

/// Digits of a call's id.
const ID_DIGITS: usize = 16;

pub fn run(args: &Trace) -> Result<()> {
    let digits = args.id.len() == ID_DIGITS && args.id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !digits {
        bail!("{:?} is no call: an id is {ID_DIGITS} hex digits, as a CDR has it", args.id);
    }
    let client = Client::of(&args.which)?;
    let runtime = runtime()?;
    let answer = runtime.block_on(client.get(&format!("/v1/calls/{}/trace", args.id)))?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&answer)?);
        return Ok(());
    }
    let trace: ladder::Trace =
        serde_json::from_value(answer).context("the gateway's answer is of another version")?;
    if let Some(file) = &args.html {
        write(file, html::page(&trace).as_bytes())?;
    }
    if let Some(file) = &args.pcap {
        write(file, &pcap::capture(&trace)?)?;
    }
    if args.html.is_none() && args.pcap.is_none() {
        print!("{}", text::ladder(&trace));
    }
    Ok(())
}

fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(file, bytes).with_context(|| format!("{} can't be written", file.display()))
}
