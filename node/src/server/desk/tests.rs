use serde_json::json;

use super::*;
use crate::server::meta::{self, Meta as _};
use crate::server::solo::{Solo, SoloMeta};
use crate::server::tasks;

/// A node whose tenant is the demo one, once it leads.
async fn configured() -> (Desk, Arc<Solo>) {
    let (shard, meta) = (Arc::new(Solo::default()), Arc::new(SoloMeta::default()));
    let (told_leading, leading) = watch::channel(Vec::new());
    let (told_routing, mut routing) = watch::channel(Vec::new());
    let given = tandem_core::demo::demo_config();
    tokio::spawn(meta::keep(meta.clone(), given));
    tokio::spawn(tasks::tell_leading(shard.clone(), told_leading));
    tokio::spawn(tasks::tell_routing(meta.clone(), 0, told_routing));
    tokio::spawn(tasks::configure(shard.clone(), meta.clone()));
    meta.take_lead();
    routing.wait_for(|routing| !routing.is_empty()).await.unwrap();
    let desk = Desk {
        name: "node-a".into(),
        shard: shard.clone(),
        leading,
        routing,
        cluster: Arc::new(|| None),
        answered: Mutex::default(),
    };
    assert_eq!(meta.get(meta::NONCE_KEY).unwrap().len(), 32);
    (desk, shard)
}

async fn leading() -> Desk {
    let (desk, shard) = configured().await;
    shard.take_lead(true);
    let mut told = desk.leading.clone();
    told.wait_for(|leading| leading.iter().any(|leading| leading.leading)).await.unwrap();
    while desk.read(|world| world.config.is_none()) == Some(true) {
        tokio::task::yield_now().await;
    }
    desk
}

async fn ask(desk: &Desk, kind: &str, params: &[(&str, &str)]) -> Result<Option<Value>, Status> {
    let params = params.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let found = desk.query(kind, params).await?;
    Ok(found.map(|json| serde_json::from_slice(&json).unwrap()))
}

fn set_state(agent: &str, state: &str) -> pb::execute_request::Command {
    pb::execute_request::Command::SetAgentState(pb::SetAgentState {
        agent: agent.into(),
        state: state.into(),
        reason: String::new(),
    })
}

#[tokio::test]
async fn desk_refuses_reads_and_commands_when_another_leads() {
    let (desk, _shard) = configured().await;
    let refused = ask(&desk, "calls", &[]).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    let refused = desk.execute(String::new(), set_state("1001", "ready")).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
}

#[tokio::test]
async fn desk_shows_the_configured_tenant_when_it_leads() {
    let desk = leading().await;
    let queues = ask(&desk, "queues", &[]).await.unwrap().unwrap();
    let names: Vec<_> = queues["items"].as_array().unwrap().iter().map(|q| &q["name"]).collect();
    assert_eq!(names, ["sales", "support"]);
    let agent = ask(&desk, "agent", &[("name", "1001")]).await.unwrap().unwrap();
    assert_eq!(agent["state"], "logged_out");
    assert_eq!(ask(&desk, "agent", &[("name", "9999")]).await.unwrap(), None);
    assert_eq!(
        ask(&desk, "channels", &[("name", "carrier")]).await.unwrap().unwrap()["next"],
        Value::Null
    );
    assert_eq!(ask(&desk, "channels", &[("name", "other")]).await.unwrap(), None);
    for kind in ["calls", "cdrs", "recordings"] {
        let empty = ask(&desk, kind, &[]).await.unwrap().unwrap();
        assert_eq!(empty, json!({"items": [], "next": null}), "{kind}");
    }
    assert_eq!(ask(&desk, "recording", &[("name", "00")]).await.unwrap(), None);
}

#[tokio::test]
async fn desk_says_what_is_wrong_when_a_parameter_is() {
    let desk = leading().await;
    for (kind, name, value) in
        [("calls", "limit", "0"), ("cdrs", "since", "soon"), ("cdrs", "cursor", "x")]
    {
        let refused = ask(&desk, kind, &[(name, value)]).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{kind} {name}");
    }
}

#[tokio::test]
async fn desk_does_a_command_once_when_its_key_is_repeated() {
    let desk = leading().await;
    let first = desk.execute("k".into(), set_state("1001", "not_ready")).await.unwrap();
    let again = desk.execute("k".into(), set_state("1001", "ready")).await.unwrap();
    assert_eq!(first, again);
}

#[tokio::test]
async fn desk_finds_nobody_when_the_agent_is_unknown() {
    let desk = leading().await;
    let reply = desk.execute(String::new(), set_state("9999", "ready")).await.unwrap();
    assert!(!reply.found);
    let release = pb::execute_request::Command::ReleaseCall(pb::ReleaseCall { call: "x".into() });
    assert!(!desk.execute(String::new(), release).await.unwrap().found);
    let refused = desk.execute(String::new(), set_state("1001", "dancing")).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
}

#[test]
fn answers_are_forgotten_in_order_when_there_are_many() {
    let mut answered = Answered::default();
    for key in 0..=KEYS_MAX {
        answered.put(key.to_string(), pb::ExecuteReply { found: true, ..Default::default() });
    }
    assert_eq!(answered.get("0"), None);
    assert!(answered.get("1").is_some());
    assert_eq!(answered.by_key.len(), KEYS_MAX);
}
