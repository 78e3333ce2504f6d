use std::collections::BTreeSet;

use metrics_exporter_prometheus::PrometheusBuilder;
use tandem_core::cdr::Side;
use tandem_core::command::GatewayEvent;
use tandem_core::effect::{Body, MediaLeg, MediaPlan, Source};
use tandem_core::ids::{CallId, LegId};
use tandem_sip::sdp::Codec;

use super::harness::{FakeNode, Gateway, Numbers, Phone, options};
use crate::run;

#[tokio::test]
async fn request_that_cannot_be_right_is_refused_at_the_edge() {
    let (gateway, mut node) = Gateway::with_leader().await;
    let phone = Phone::new(&gateway).await;
    let invite = phone.invite("a");
    let in_dialog = |text: String| text.replace("To: <sip:4003@demo>", "To: <sip:4003@demo>;tag=t");
    for (text, status, header) in [
        (phone.text("MESSAGE", "b", "", ""), 415, Some("Accept")),
        (phone.text("DANCE", "c", "", ""), 501, Some("Allow")),
        (in_dialog(phone.text("PUBLISH", "d", "", "")), 405, Some("Allow")),
        (phone.text("SUBSCRIBE", "l", "Event: presence\r\n", ""), 489, Some("Allow-Events")),
        (
            phone.text("SUBSCRIBE", "m", "Event: dialog\r\nExpires: 9\r\n", ""),
            423,
            Some("Min-Expires"),
        ),
        (invite.replace("INVITE sip:4003@demo", "INVITE gopher:4003"), 416, None),
        (phone.text("INVITE", "e", "Require: 101rel\r\n", ""), 420, Some("Unsupported")),
        (invite.replace("Max-Forwards: 70", "Max-Forwards: 0"), 483, None),
        (invite.replace("application/sdp", "text/plain"), 415, Some("Accept")),
        (invite.replace("v=0\r\n", "v=x\r\n"), 400, Some("Warning")),
        (invite.replace("m=audio", "m=video"), 488, Some("Warning")),
        (invite.replace("Contact:", "X-Contact:"), 400, None),
        (invite.replace("call-a", &"c".repeat(400)), 400, None),
        (phone.text("BYE", "f", "", ""), 481, None),
        (phone.text("UPDATE", "g", "", ""), 481, None),
        (phone.text("REFER", "i", "", ""), 481, None),
        (phone.text("NOTIFY", "j", "", ""), 481, None),
        (phone.text("OPTIONS", "k", "Replaces: a;to-tag=1;from-tag=2\r\n", ""), 400, None),
        (phone.text("OPTIONS", "h", "Max-Forwards: 0\r\n", ""), 200, Some("Allow")),
        (invite.replace("1 INVITE", "1 BYE"), 400, None),
        (invite.replace("4003@demo SIP/2.0", "4003@demo SIP/7.0"), 505, None),
    ] {
        let response = phone.ask(&text).await;
        assert_eq!(response.status, status, "{text}");
        if let Some(header) = header {
            assert!(response.headers.other(header).is_some(), "{header} of {text}");
        }
        // A stateless answer is the same each time.
        assert_eq!(phone.ask(&text).await, response, "{text}");
    }
    node.quiet().await;
}

#[tokio::test]
async fn malformed_datagrams_are_counted_and_harm_nobody() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    // All tasks of this test share its one thread.
    let _local = metrics::set_default_local_recorder(&recorder);
    let (gateway, mut node) = Gateway::with_leader().await;
    let (hostile, phone) = (Phone::new(&gateway).await, Phone::new(&gateway).await);
    let mut numbers = Numbers(3);
    let sources: Vec<Vec<u8>> = [
        hostile.invite("z"),
        hostile.text("REGISTER", "y", "Authorization: Digest realm=\"demo.tandem\"\r\n", ""),
        hostile.text("ACK", "x", "", ""),
        hostile.text("CANCEL", "w", "", ""),
        hostile.text("BYE", "v", "", ""),
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 127.0.0.1\r\n\r\n".to_owned(),
    ]
    .into_iter()
    .map(String::into_bytes)
    .collect();
    for count in 0..4_000 {
        let mut datagram = sources[numbers.below(sources.len())].clone();
        numbers.mutate(&mut datagram);
        hostile.send_bytes(&datagram).await;
        if count % 50 == 0 {
            // Now and then somebody else wants something.
            let options = phone.text("OPTIONS", &format!("o{count}"), "", "");
            assert_eq!(phone.ask(&options).await.status, 200);
            while let Ok(Some((sequence, _))) =
                tokio::time::timeout(std::time::Duration::ZERO, async { Some(node.next().await) })
                    .await
            {
                node.accept(sequence).await;
            }
        }
    }
    let text = handle.render();
    let reasons: BTreeSet<&str> =
        text.lines().filter(|line| line.starts_with("tandem_sip_malformed_total{")).collect();
    assert!(reasons.len() >= 5, "{reasons:?}");
    assert!(text.contains("tandem_sip_requests_total{method=\"OPTIONS\"}"));
    assert!(!gateway.task.is_finished());
}

#[tokio::test]
async fn gateway_says_so_when_an_address_is_busy() {
    let node = FakeNode::start("node-a", Some(1)).await;
    let data = tempfile::tempdir().unwrap();
    let mut options = options(&[&node], data.path());
    let holder = std::net::TcpListener::bind(options.api).unwrap();
    let why = async |options| run(options, std::future::pending()).await.unwrap_err().to_string();
    assert_eq!(
        why(options.clone()).await,
        format!("the API can't be served: {} is in use by another program", options.api)
    );
    drop(holder);
    let holder = std::net::UdpSocket::bind(options.vip).unwrap();
    assert_eq!(
        why(options.clone()).await,
        format!("SIP can't be served: {} is in use by another program", options.vip)
    );
    drop(holder);
    options.rtp_ports = 20_000..=20_001;
    assert!(why(options).await.starts_with("media can't be served: only 1 of 2 pairs"));
}

#[tokio::test]
async fn gateway_serves_with_its_own_media_until_it_is_stopped() {
    let mut node = FakeNode::start("node-a", Some(1)).await;
    let data = tempfile::tempdir().unwrap();
    let options = options(&[&node], data.path());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = tokio::spawn(run(options, async {
        let _ = stopped.await;
    }));
    let (_, login) = node.next().await;
    assert!(matches!(login, GatewayEvent::Login(login) if login.ports.len() == 2));
    let leg = MediaLeg {
        leg: LegId(1),
        port: 20_000,
        remote: None,
        codec: Codec::Pcmu,
        payload: 0,
        telephone_event: None,
        events_wide: false,
        ssrc: 1,
        source: Source::Echo,
        role: Some(Side::Caller),
        keys: None,
    };
    let plan = MediaPlan { call: CallId(1), version: 1, legs: vec![leg], recording: None };
    let id = node.effect(1, Body::Media(plan)).await;
    node.done(id, 1).await;
    stop.send(()).unwrap();
    served.await.unwrap().unwrap();
}
