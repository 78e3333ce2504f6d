//! The cluster's authority is replaced while three voters commit, and nobody notices.

use std::path::Path;
use std::sync::Arc;

use crate::common::{Bench, Pki, WITHIN};
use tandem_cluster::{Timers, Tls, link, pb};
use tandem_pki::{Files, Live, Texts};
use tandem_storage::raft::NodeId;
use tokio::sync::watch;
use tonic::Code;

const VOTERS: [NodeId; 3] = [1, 2, 3];
const DOMAIN: &str = "tandem";
/// Between the moments at which two voters take a step.
const COMMITS: u64 = 50;

fn write(dir: &Path, name: &str, texts: &Texts) -> Files {
    let at = |what: &str| dir.join(format!("{name}.{what}"));
    let files = Files { ca: at("ca.pem"), certificate: at("pem"), key: at("key") };
    std::fs::write(&files.ca, &texts.ca).unwrap();
    std::fs::write(&files.certificate, &texts.certificate).unwrap();
    std::fs::write(&files.key, &texts.key).unwrap();
    files
}

fn tls(certificates: Arc<Live>) -> Tls {
    Tls { certificates, domain: DOMAIN.to_owned() }
}

/// Whether a new connection is made, and both sides are believed: who is no supervisor is answered
/// that it is none, and who is no member gets no answer.
async fn is_believed(bench: &Bench, from: &Tls, to: NodeId) -> bool {
    let address = bench.address(to).to_string();
    let Ok(channel) = link::connect(&address, &from.client()).await else { return false };
    let mut client = pb::control_client::ControlClient::new(channel);
    let answer = tokio::time::timeout(WITHIN, client.obituaries(futures::stream::pending())).await;
    let refused = answer.expect("an answer").expect_err("it is no supervisor");
    refused.code() == Code::PermissionDenied
}

async fn all_believe_each_other(bench: &Bench, step: &str) {
    for from in VOTERS {
        for to in VOTERS.into_iter().filter(|to| *to != from) {
            let believed = is_believed(bench, &bench.certificates[&from], to).await;
            assert!(believed, "{step}: {from} to {to}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authority_is_replaced_under_load_without_an_election_or_a_lost_commit() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(Timers::default());
    let (old, new) = (Pki::new(), Pki::new());
    let names = VOTERS.map(|id| bench.name(id).to_owned());
    let before = [0, 1, 2].map(|at| old.texts(&names[at]));
    for (at, id) in VOTERS.into_iter().enumerate() {
        let files = write(dir.path(), &names[at], &before[at]);
        let live = Live::open(files, &names[at]).unwrap();
        bench.certificates.insert(id, tls(live));
    }
    let mut bench = bench.run().await;
    let leader = bench.leader().await;
    let stand = bench.voter(leader).leadership();

    let (committed, mut commits) = watch::channel(0);
    let load = async {
        while !committed.is_closed() {
            let last = *committed.borrow();
            let index = bench.voter(leader).put("n", &last.to_string()).await.unwrap();
            assert!(index > last, "{index} after {last}");
            committed.send_replace(index);
        }
    };
    let rotate = async {
        let after = [0, 1, 2].map(|at| new.texts(&names[at]));
        let (first, second) = (&before[0].ca, &after[0].ca);
        let both = format!("{first}{second}");
        let trusted = before.clone().map(|it| Texts { ca: both.clone(), ..it });
        let signed = after.clone().map(|it| Texts { ca: both.clone(), ..it });
        for (step, texts) in [("trust", trusted), ("sign", signed), ("drop", after)] {
            for (at, id) in VOTERS.into_iter().enumerate() {
                write(dir.path(), &names[at], &texts[at]);
                bench.certificates[&id].certificates.reload().unwrap();
                // Some have taken the step and some have not.
                all_believe_each_other(&bench, step).await;
                let enough = *commits.borrow() + COMMITS;
                let more = commits.wait_for(|index| *index >= enough);
                tokio::time::timeout(WITHIN, more).await.expect("commits").unwrap();
            }
        }
        drop(commits);
    };
    tokio::join!(load, rotate);
    assert_eq!(bench.voter(leader).leadership(), stand, "nobody was elected");

    // Who kept the old certificate is out, whatever it trusts.
    let late = Texts { ca: new.texts("any").ca, ..before[0].clone() };
    for late in [late, before[0].clone()] {
        let late = tls(Live::of(&late).unwrap());
        assert!(!is_believed(&bench, &late, leader).await);
    }
    // Whoever starts again finds the others, with a majority that needs it.
    let [other, gone] = if leader == 1 { [3, 2] } else { [3, 1] };
    bench.stop(other).await;
    bench.start(other).await;
    bench.stop(gone).await;
    bench.voter(leader).put("after", "yes").await.unwrap();
    assert_eq!(bench.voter(leader).leadership(), stand, "nobody was elected");
}
