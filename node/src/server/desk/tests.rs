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
    tokio::spawn(meta::keep(meta.clone(), given, 4));
    tokio::spawn(tasks::tell_routing(meta.clone(), told_routing));
    let (of, serves) = (shard.clone(), meta.clone());
    let tenants = Tenants::start(
        meta.clone(),
        move |_| of.clone(),
        move |_, shard| {
            tokio::spawn(tasks::tell_leading(shard.clone(), told_leading.clone()));
            tokio::spawn(tasks::configure(shard, serves.clone()));
        },
    );
    meta.take_lead();
    routing.wait_for(|routing| !routing.is_empty()).await.unwrap();
    let desk = Desk {
        move_leader: Arc::new(|_, _| Box::pin(async { Moved::Refused("alone".to_owned()) })),
        name: "node-a".into(),
        tenants,
        leading,
        routing,
        nodes: watch::channel(pb::Nodes::default()).1,
        cluster: Arc::new(|| None),
        members: Arc::new(|| None),
        change_members: Arc::new(|_| Box::pin(async { Moved::Refused("alone".to_owned()) })),
        drain: Arc::new(|_, _| Box::pin(async { None })),
        places: Arc::new(|| None),
        move_tenant: Arc::new(|_, _| Box::pin(async { Moved::Refused("alone".to_owned()) })),
        put_tenant: Arc::new(|_| Box::pin(async { Moved::Refused("alone".to_owned()) })),
    };
    assert_eq!(meta.get(meta::NONCE_KEY).unwrap().len(), 32);
    (desk, shard)
}

async fn leading() -> Desk {
    leading_with_shard().await.0
}

async fn leading_with_shard() -> (Desk, Arc<Solo>) {
    let (desk, shard) = configured().await;
    shard.take_lead(true);
    let mut told = desk.leading.clone();
    told.wait_for(|leading| leading.iter().any(|leading| leading.leading)).await.unwrap();
    while desk.served("").unwrap().read(|world| world.config.is_none()) == Some(true) {
        tokio::task::yield_now().await;
    }
    (desk, shard)
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

fn once(key: &str, command: pb::execute_request::Command) -> pb::ExecuteRequest {
    let (idempotency_key, keep_ms, command) = (key.into(), 60_000, Some(command));
    pb::ExecuteRequest { idempotency_key, keep_ms, command, tenant: String::new() }
}

#[tokio::test]
async fn desk_refuses_reads_and_commands_when_another_leads() {
    let (desk, _shard) = configured().await;
    let refused = ask(&desk, "calls", &[]).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    let refused = desk.execute(once("", set_state("1001", "ready"))).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
}

#[tokio::test]
async fn desk_tells_nothing_when_no_majority_confirms_that_it_leads() {
    let (desk, shard) = leading_with_shard().await;
    assert!(ask(&desk, "agent", &[("name", "1001")]).await.unwrap().is_some());
    shard.cut_off();
    for kind in ["agent", "agents", "queues", "calls", "cdrs", "recordings"] {
        let refused = ask(&desk, kind, &[("name", "1001")]).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unavailable, "{kind}");
    }
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
    let ask = |state: &str| desk.execute(once("k", set_state("1001", state)));
    let first = ask("not_ready").await.unwrap();
    let agent: Value = serde_json::from_slice(&first.json).unwrap();
    assert_eq!((first.found, &agent["state"]), (true, &json!("not_ready")));
    desk.execute(once("", set_state("1001", "logged_out"))).await.unwrap();
    assert_eq!(ask("not_ready").await.unwrap(), first);
    let other = ask("logged_out").await.unwrap();
    assert!(other.key_reused, "{other:?}");
}

#[tokio::test]
async fn desk_finds_nobody_when_the_agent_is_unknown() {
    let desk = leading().await;
    let reply = desk.execute(once("", set_state("9999", "ready"))).await.unwrap();
    assert_eq!((reply.found, reply.missing.as_str()), (false, "agent 9999"));
    let release = pb::execute_request::Command::ReleaseCall(pb::ReleaseCall { call: "x".into() });
    assert!(!desk.execute(once("", release)).await.unwrap().found);
    let refused = desk.execute(once("", set_state("1001", "dancing"))).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
}

#[tokio::test]
async fn desk_refuses_to_place_a_call_without_a_phone_and_says_so_again() {
    let desk = leading().await;
    let place = |key: &str, from: &str| {
        let originate = pb::Originate { from: from.into(), to: "4003".into() };
        desk.execute(once(key, pb::execute_request::Command::Originate(originate)))
    };
    let refused = place("k", "1001").await.unwrap();
    assert_eq!(refused.refusal, "extension 1001 has no registered phone");
    assert_eq!(place("k", "1001").await.unwrap(), refused);
    let missing = place("other", "1999").await.unwrap();
    assert_eq!((missing.found, missing.missing.as_str()), (false, "extension \"1999\""));
    // Without a key it might be placed twice.
    assert_eq!(place("", "1001").await.unwrap_err().code(), tonic::Code::InvalidArgument);
    let transfer = pb::TransferCall { call: "01".into(), to: "4003".into() };
    let transfer = once("t", pb::execute_request::Command::TransferCall(transfer));
    assert!(!desk.execute(transfer).await.unwrap().found);
}
