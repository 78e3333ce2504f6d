//! `tandem call trace`: what a call said is found after its end, from every gateway, without secrets.

use std::process::{Command, Output};

use anyhow::{Context as _, Result};
use tandem_tests::cluster::binary;
use tandem_tests::house::House;
use tandem_tests::phone::Incoming;

fn trace(house: &House, args: &[&str]) -> Result<Output> {
    let mut command = Command::new(binary("tandem")?);
    command.args(["call", "trace"]).args(args).arg("--dir").arg(house.cluster.dir());
    Ok(command.output()?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn call_of_two_gateways_is_one_ladder_a_page_and_a_capture() -> Result<()> {
    let house = House::open(71).await?;
    // The caller is at the first gateway, the agent at the second.
    let caller = house.caller("13800000001", 0).await?;
    let agent = house.agent("1001", 1, Incoming::Answer { after_ms: 50 }).await?;
    let call = house.call(&caller, "4001", "connected").await?;
    assert_eq!(caller.hang_up(&call).await?, 200);
    let cdr = house.cdr(&call).await?;
    let id = cdr["call"].as_str().context("the call's id")?;

    let said = trace(&house, &[id])?;
    let text = String::from_utf8(said.stdout)?;
    assert!(said.status.success(), "{text}");
    let place = |words: &str| text.find(words).with_context(|| format!("no {words:?} in\n{text}"));
    // Each side in its order; the two gateways act at the same time.
    for side in [
        ["INVITE 4001", "100 Trying", "200 OK (INVITE)", "BYE"],
        ["INVITE 4001", "INVITE 1001", "180 Ringing", "BYE"],
    ] {
        let places: Vec<usize> = side.iter().map(|words| place(words)).collect::<Result<_>>()?;
        assert!(places.is_sorted(), "{text}");
    }
    for party in ["gateway-a", "gateway-b", "media version"] {
        place(party)?;
    }

    let (page, capture) = (house.cluster.dir().join("c.html"), house.cluster.dir().join("c.pcap"));
    let [page_arg, capture_arg] = [&page, &capture].map(|path| path.to_string_lossy());
    let said = trace(&house, &[id, "--html", &page_arg, "--pcap", &capture_arg])?;
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert!(std::fs::read_to_string(page)?.contains("INVITE sip:4001@"));
    // Little-endian, microseconds.
    assert_eq!(std::fs::read(capture)?[..4], [0xd4, 0xc3, 0xb2, 0xa1]);

    let said = trace(&house, &["0000000000000001"])?;
    let why = String::from_utf8(said.stderr)?;
    assert_eq!((said.status.code(), why.contains("no gateway has seen")), (Some(1), true), "{why}");
    let said = trace(&house, &["../../secret"])?;
    assert_eq!(said.status.code(), Some(1));
    assert_eq!((caller.violations(), agent.violations()), (vec![], vec![]));
    house.cluster.stop()?;
    Ok(())
}
