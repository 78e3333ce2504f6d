//! Voters over real sockets and disks: election, obituaries, restart, the witness, strangers.

use std::time::Duration;

use crate::common::{Bench, Pki, SLOW, WITHIN, tls_of};
use tandem_cluster::control::Line;
use tandem_cluster::link::{CLUSTER_HEADER, INCARNATION_HEADER, NAME_HEADER, TO_HEADER};
use tandem_cluster::shard::{COMMAND_BYTES_MAX, Error};
use tandem_cluster::{Timers, Tls, pb};
use tandem_pki::Texts;
use tandem_pki::identity::SUPERVISOR;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

fn other_node(id: u64) -> u64 {
    if id == 1 { 2 } else { 1 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_committed_is_on_both_nodes_and_outlives_a_restart_of_all() {
    let mut bench = Bench::running(Timers::default()).await;
    let leader = bench.leader().await;
    bench.voter(leader).put("colour", "green").await.unwrap();
    bench.voter(1).has("colour", "green").await;
    bench.voter(2).has("colour", "green").await;
    let refused = bench.voter(other_node(leader)).put("colour", "red").await;
    assert_eq!(refused, Err(Error::NotLeader));

    for id in 1..=3 {
        bench.stop(id).await;
    }
    for id in 1..=3 {
        bench.start(id).await;
    }
    let leader = bench.leader().await;
    bench.voter(leader).has("colour", "green").await;
    bench.voter(leader).put("colour", "blue").await.unwrap();
    bench.voter(other_node(leader)).has("colour", "blue").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_are_in_the_log_in_the_order_in_which_they_were_proposed() {
    let bench = Bench::running(Timers::default()).await;
    let leader = bench.voter(bench.leader().await);
    let proposed: Vec<_> = (0..1_000).map(|n| leader.put("n", &n.to_string())).collect();
    let mut last = 0;
    for done in futures::future::join_all(proposed).await {
        let index = done.unwrap();
        assert!(index > last, "{index} after {last}");
        last = index;
    }
    let long = "x".repeat(COMMAND_BYTES_MAX);
    assert!(matches!(leader.put("long", &long).await, Err(Error::TooLong(_))));
    leader.put("n", "after").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_obituary_elects_where_no_timer_would() {
    let mut bench = Bench::running(SLOW).await;
    for round in 0..4 {
        let leader = bench.leader().await;
        let survivor = other_node(leader);
        let lines = lines_to(&bench, leader, &bench.pki.supervisor());
        bench.voter(leader).put("round", &round.to_string()).await.unwrap();
        bench.voter(survivor).has("round", &round.to_string()).await;
        bench.stop(leader).await;
        for line in &lines {
            assert!(line.report(bench.name(leader), u64::MAX));
        }
        bench.voter(survivor).until(|now| now.leading).await;
        bench.voter(survivor).put("after", &round.to_string()).await.unwrap();
        bench.start(leader).await;
        bench.voter(leader).has("after", &round.to_string()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_obituary_is_told_again_to_a_voter_that_was_away() {
    let mut bench = Bench::running(SLOW).await;
    let leader = bench.leader().await;
    let survivor = other_node(leader);
    // Nobody is there to hear of it; once they are back they do.
    bench.stop(survivor).await;
    bench.stop(3).await;
    let lines = lines_to(&bench, leader, &bench.pki.supervisor());
    bench.stop(leader).await;
    for line in &lines {
        assert!(line.report(bench.name(leader), u64::MAX));
    }
    bench.start(survivor).await;
    bench.start(3).await;
    bench.voter(survivor).until(|now| now.leading).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_obituary_of_an_earlier_life_changes_nothing() {
    let bench = Bench::running(Timers::default()).await;
    let leader = bench.leader().await;
    let term = bench.voter(leader).leadership().term;
    for line in lines_to(&bench, leader, &bench.pki.supervisor()) {
        assert!(line.report(bench.name(leader), 0));
    }
    // Longer than any election takes.
    for n in 0..50 {
        bench.voter(leader).put("n", &n.to_string()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(bench.voter(leader).leadership().term, term);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_a_majority_commits_nothing() {
    let mut bench = Bench::running(Timers::default()).await;
    let leader = bench.leader().await;
    bench.stop(other_node(leader)).await;
    bench.stop(3).await;
    let refused = bench.voter(leader).put("lost", "yes").await;
    assert!(matches!(refused, Err(Error::Unavailable | Error::NotLeader)), "{refused:?}");
    assert_eq!(bench.voter(leader).values.get("lost"), None);
}

/// The node that is left lacks what the witness has: the witness leads until the node has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_with_the_longest_log_hands_it_over() {
    let mut bench = Bench::running(Timers::default()).await;
    let leader = bench.leader().await;
    let behind = other_node(leader);
    bench.stop(behind).await;
    for n in 0..100 {
        bench.voter(leader).put("n", &n.to_string()).await.unwrap();
    }
    bench.stop(leader).await;
    bench.start(behind).await;
    bench.voter(behind).until(|now| now.leading).await;
    bench.voter(behind).has("n", "99").await;
    bench.voter(behind).put("n", "100").await.unwrap();
}

/// The same where no timer would help.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_obituary_makes_the_witness_stand_for_a_node_that_is_behind() {
    let mut bench = Bench::running(SLOW).await;
    let leader = bench.leader().await;
    let behind = other_node(leader);
    bench.stop(behind).await;
    for n in 0..100 {
        bench.voter(leader).put("n", &n.to_string()).await.unwrap();
    }
    let lines = lines_to(&bench, leader, &bench.pki.supervisor());
    bench.stop(leader).await;
    bench.start(behind).await;
    for line in &lines {
        assert!(line.report(bench.name(leader), u64::MAX));
    }
    let begun = std::time::Instant::now();
    bench.voter(behind).until(|now| now.leading).await;
    println!("led by the node that was behind after {:?}", begun.elapsed());
    bench.voter(behind).has("n", "99").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_supervisor_is_believed_and_only_a_voter_may_speak_as_itself() {
    let bench = Bench::running(Timers::default()).await;
    let at = bench.address(1);

    let code = obituary_refused(connect(at, &bench.pki.tls("node-b")).await.unwrap()).await;
    assert_eq!(code, Some(Code::PermissionDenied));
    let code = obituary_refused(connect(at, &bench.pki.supervisor()).await.unwrap()).await;
    assert_eq!(code, None);

    for (certificate, name, code) in [
        ("node-b", "node-b", None),
        ("node-b", "witness", Some(Code::PermissionDenied)),
        ("gateway-a", "gateway-a", Some(Code::PermissionDenied)),
    ] {
        let channel = connect(at, &bench.pki.tls(certificate)).await.unwrap();
        assert_eq!(link_refused(channel, name).await, code, "{certificate} as {name}");
    }

    // The same authority has signed, for another cluster.
    let channel = connect(at, &bench.pki.tls("node-b")).await.unwrap();
    let mut client = pb::peer_client::PeerClient::new(channel);
    let mut request = tonic::Request::new(futures::stream::pending());
    for (header, value) in
        [(NAME_HEADER, "node-b"), (INCARNATION_HEADER, "1"), (CLUSTER_HEADER, "another")]
    {
        request.metadata_mut().insert(header, value.parse().unwrap());
    }
    let refused = client.link(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(refused.message(), "node-b is of cluster another, this voter of test");

    // A certificate of another authority gets no answer at all.
    let stranger = Pki::new();
    let theirs = Texts { ca: bench.pki.texts("any").ca, ..stranger.texts(SUPERVISOR) };
    let theirs = tls_of(&theirs);
    let refused = match connect(at, &theirs).await {
        Ok(channel) => obituary_refused(channel).await.is_some(),
        Err(_) => true,
    };
    assert!(refused);
}

/// To every voter but the one of whose death they are to tell.
fn lines_to(bench: &Bench, dead: u64, tls: &Tls) -> Vec<Line> {
    let others = (1..=3).filter(|id| *id != dead);
    others.map(|id| Line::open(&bench.address(id).to_string(), tls.client()).unwrap()).collect()
}

async fn connect(at: std::net::SocketAddr, tls: &Tls) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{at}")).unwrap();
    endpoint.connect_timeout(WITHIN).connect_with_connector(tls.client()).await
}

async fn obituary_refused(channel: Channel) -> Option<Code> {
    let mut client = pb::control_client::ControlClient::new(channel);
    let refused = client.obituaries(futures::stream::pending()).await;
    refused.err().map(|status| status.code())
}

async fn link_refused(channel: Channel, name: &str) -> Option<Code> {
    let mut client = pb::peer_client::PeerClient::new(channel);
    let mut request = tonic::Request::new(futures::stream::pending());
    request.metadata_mut().insert(NAME_HEADER, name.parse().unwrap());
    request.metadata_mut().insert(INCARNATION_HEADER, "1".parse().unwrap());
    request.metadata_mut().insert(TO_HEADER, "1".parse().unwrap());
    let refused = client.link(request).await;
    refused.err().map(|status| status.code())
}
