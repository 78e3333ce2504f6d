//! Members come and go while groups run: on real sockets and disks, with leaders that die meanwhile.

use crate::common::{Bench, WITHIN};
use tandem_cluster::link::{self, Me};
use tandem_cluster::pb::peer_client::PeerClient;
use tandem_cluster::{Change, Refused, Timers};
use tandem_storage::raft::NodeId;

fn replace(name: &str) -> Change {
    Change::Replace { name: name.to_owned() }
}

/// Asks whoever leads until it is begun: leads may move.
async fn begin(bench: &Bench, change: Change) {
    let deadline = tokio::time::Instant::now() + WITHIN;
    loop {
        let leader = bench.leader().await;
        match bench.voter(leader).cluster.change(change.clone()).await {
            Ok(()) => return,
            Err(why) => assert!(tokio::time::Instant::now() < deadline, "{why}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Until every group has exactly these voters.
async fn settled(bench: &Bench, ids: &[NodeId]) {
    let deadline = tokio::time::Instant::now() + WITHIN;
    loop {
        let standings = bench.voters.values().find_map(|voter| voter.cluster.standings());
        if let Some((true, members)) = &standings {
            let mut there: Vec<NodeId> = members.iter().map(|it| it.member.id).collect();
            there.sort_unstable();
            if there == ids {
                return;
            }
        }
        assert!(tokio::time::Instant::now() < deadline, "{standings:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Whoever still means the old replica is not answered by the fresh one at its address: what that
/// has voted and acknowledged, this one has not.
async fn is_not_taken_for(bench: &Bench, fresh: NodeId, old: NodeId) {
    let me =
        Me { cluster: "test".to_owned(), name: "witness".to_owned(), replica: 3, incarnation: 9 };
    let address = bench.address(fresh).to_string();
    let channel = link::connect(&address, &bench.pki.tls("witness").client()).await.unwrap();
    let mut client = PeerClient::new(channel);
    for (to, refused) in [(old, true), (fresh, false)] {
        let mut request = tonic::Request::new(tokio_stream::pending());
        me.introduce_to(to, request.metadata_mut()).unwrap();
        let said = client.link(request).await.err().map(|status| status.message().to_owned());
        assert_eq!(
            said.is_some_and(|why| why.contains("this is replica 4 of")),
            refused,
            "to {to}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_lost_its_folder_comes_back_as_another_replica() {
    let mut bench = Bench::running(Timers::default()).await;
    let leader = bench.leader().await;
    let lost = if leader == 1 { 2 } else { 1 };
    let name = bench.name(lost).to_owned();
    bench.voter(leader).put("before", "yes").await.unwrap();
    settled(&bench, &[1, 2, 3]).await;
    let said = bench.voter(leader).cluster.change(replace(&name)).await;
    assert!(matches!(said, Err(Refused::Unsafe(why)) if why.contains("nothing to let in")));
    bench.stop(lost).await;
    bench.wipe(lost);
    let joining = bench.wait_to_join(lost);
    begin(&bench, replace(&name)).await;
    let identity = joining.await.unwrap();
    assert_eq!((identity.id, identity.founds), (4, false));
    bench.start_as(lost, identity).await;
    let ids: Vec<NodeId> = [1, 2, 3, 4].into_iter().filter(|id| *id != lost).collect();
    settled(&bench, &ids).await;
    bench.voter(4).has("before", "yes").await;
    is_not_taken_for(&bench, 4, lost).await;

    // With the witness's vote it leads.
    bench.stop(leader).await;
    bench.voter(4).until(|now| now.leading).await;
    bench.voter(4).put("after", "yes").await.unwrap();

    // The other one, too, and whoever has joined lets it in.
    bench.wipe(leader);
    let joining = bench.wait_to_join(leader);
    begin(&bench, replace(bench.name(leader))).await;
    let identity = joining.await.unwrap();
    bench.start_as(leader, identity).await;
    settled(&bench, &[3, 4, 5]).await;
    bench.voter(5).has("after", "yes").await;
}

/// Whoever begins a change may die at any moment: here at once, before the fresh one has anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_goes_on_when_its_leader_dies_in_the_middle() {
    let mut bench = Bench::running(Timers::default()).await;
    let leader = bench.leader().await;
    let other = if leader == 1 { 2 } else { 1 };
    settled(&bench, &[1, 2, 3]).await;
    // The witness is replaced, so that either node can die.
    bench.stop(3).await;
    bench.wipe(3);
    let joining = bench.wait_to_join(3);
    begin(&bench, replace("witness")).await;
    let identity = joining.await.unwrap();
    bench.stop(leader).await;
    bench.start_as(3, identity).await;
    bench.start(leader).await;
    settled(&bench, &[1, 2, 4]).await;
    bench.stop(leader).await;
    bench.voter(other).until(|now| now.leading).await;
    bench.voter(other).put("after", "yes").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_removed_gives_its_lead_away_and_the_last_two_stay() {
    let bench = Bench::running(Timers::default()).await;
    let leader = bench.leader().await;
    let (other, name) = (if leader == 1 { 2 } else { 1 }, bench.name(leader).to_owned());
    settled(&bench, &[1, 2, 3]).await;
    begin(&bench, Change::Remove { name }).await;
    settled(&bench, &[other, 3]).await;
    bench.voter(other).until(|now| now.leading).await;
    bench.voter(other).put("on", "yes").await.unwrap();
    let remove = |name: &str| Change::Remove { name: name.to_owned() };
    let last = bench.voter(other).cluster.change(remove(bench.name(other))).await;
    assert!(matches!(last, Err(Refused::Unsafe(why)) if why.contains("no node that runs calls")));
    let gone = bench.voter(other).cluster.change(remove(bench.name(leader))).await;
    assert!(matches!(gone, Err(Refused::Unknown(_))));
}
