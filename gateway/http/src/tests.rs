use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::backend::{Audio, Command, Error, Executed, Gateway, Readiness};
use crate::{Backend, TokenHash, limits, openapi, serve};

/// Knows one call, one agent and one recording; has no leader on demand.
#[derive(Clone, Default)]
struct Fake {
    leader: bool,
    tenant: Option<String>,
}

#[async_trait]
impl Backend for Fake {
    fn of_tenant(self: Arc<Self>, tenant: &str) -> Arc<dyn Backend> {
        Arc::new(Self { tenant: Some(tenant.to_owned()), ..(*self).clone() })
    }

    async fn query(
        &self,
        kind: &'static str,
        params: BTreeMap<String, String>,
    ) -> Result<Option<Value>, Error> {
        if !self.leader {
            return Err(Error::NoLeader);
        }
        Ok(match (kind, params.get("name").map(String::as_str)) {
            ("queues", _) => Some(json!({"items": [{"tenant": self.tenant}], "next": null})),
            ("call", _) if self.tenant.as_deref() == Some("nobody") => {
                return Err(Error::Unknown("tenant \"nobody\"".into()));
            }
            ("calls", _) => Some(json!({"items": [{"params": params}], "next": null})),
            ("call", Some("c1")) | ("agent", Some("1001")) => Some(json!({"id": "x"})),
            _ => None,
        })
    }

    async fn execute(&self, command: Command, _key: Option<String>) -> Result<Executed, Error> {
        Ok(match command {
            Command::ReleaseCall { call } if call == "c1" => Executed::Done(None),
            Command::SetAgentState { agent, .. } if agent == "1001" => Executed::Done(None),
            Command::SetAgentState { agent, .. } if agent == "1002" => {
                Executed::Refused("agent 1002 is not registered".into())
            }
            Command::TransferCall { call, to } if call == "c1" && to == "4001" => {
                Executed::Done(Some(json!({"id": "c1"})))
            }
            Command::PauseRecording { call, paused } if call == "c1" => {
                Executed::Done(Some(json!({"recording": {"paused": paused}})))
            }
            Command::TransferCall { call, .. } if call == "c1" => {
                Executed::Refused("call c1 is queued".into())
            }
            Command::Consult { call, .. } | Command::CancelConsult { call } if call == "c1" => {
                Executed::Done(Some(json!({"id": "c1"})))
            }
            Command::Conference { call } | Command::CompleteConsult { call } if call == "c1" => {
                Executed::Refused("nobody is consulted".into())
            }
            Command::Originate { from, .. } if from == "1001" => {
                Executed::Done(Some(json!({"id": "c1"})))
            }
            Command::Originate { from, .. } if from == "1002" => Executed::KeyReused,
            Command::Originate { from, .. } => {
                Executed::NotFound(Some(format!("extension {from:?}")))
            }
            Command::MoveLeader { shard, .. } if shard == "s0" => Executed::Done(None),
            Command::MoveLeader { shard, .. } if shard == "s1" => {
                Executed::Refused("nobody leads s1 now".into())
            }
            Command::MoveLeader { shard, .. } => {
                Executed::NotFound(Some(format!("shard {shard:?}")))
            }
            Command::MoveTenant { tenant, shard } if tenant == "demo" && shard == "s2" => {
                Executed::Done(None)
            }
            Command::MoveTenant { tenant, .. } if tenant == "demo" => {
                Executed::Refused("demo is on its way to s1".into())
            }
            Command::MoveTenant { tenant, .. } => {
                Executed::NotFound(Some(format!("tenant {tenant:?}")))
            }
            Command::PutTenant { tenant, shard, .. } if tenant == "acme" && shard.is_none() => {
                Executed::Done(None)
            }
            Command::PutTenant { .. } => Executed::Refused("line 1".into()),
            Command::Drain { name, .. } if name == "gateway-a" => Executed::Done(None),
            Command::Drain { name, drained } if name == "gateway-b" && drained => {
                Executed::Refused("no gateway would be left".into())
            }
            Command::Drain { name, .. } => {
                Executed::NotFound(Some(format!("process or box {name:?}")))
            }
            Command::AddMember { name, .. } | Command::ReplaceMember { name }
                if name == "node-b" =>
            {
                Executed::Done(None)
            }
            Command::RemoveMember { name } if name == "node-b" => {
                Executed::Refused("the quorum would be lost".into())
            }
            Command::AddMember { name, .. }
            | Command::ReplaceMember { name }
            | Command::RemoveMember { name } => {
                Executed::NotFound(Some(format!("member {name:?}")))
            }
            Command::ReleaseCall { .. }
            | Command::SetAgentState { .. }
            | Command::TransferCall { .. }
            | Command::PauseRecording { .. }
            | Command::Consult { .. }
            | Command::Conference { .. }
            | Command::CompleteConsult { .. }
            | Command::CancelConsult { .. } => Executed::NotFound(None),
        })
    }

    async fn recording_audio(&self, id: &str) -> Result<Option<Audio>, Error> {
        Ok((id == "r1").then(|| Audio::File("/nonexistent.wav".into())))
    }

    async fn verify_recording(&self, id: &str, repair: bool) -> Result<Option<Value>, Error> {
        let copy = json!({"gateway": "gateway-a", "good": repair});
        Ok((id == "r1").then_some(copy))
    }

    async fn call_trace(&self, id: &str) -> Result<Vec<Value>, Error> {
        Ok(if id == "c1" { vec![json!({"at_us": 2}), json!({"at_us": 1})] } else { Vec::new() })
    }

    /// One that nobody answers for.
    fn gateways(&self) -> Vec<Gateway> {
        vec![Gateway { name: "gateway-b".into(), base: "http://127.0.0.1:9".into() }]
    }

    fn readiness(&self) -> Readiness {
        Readiness { may_take_calls: self.leader, ..Readiness::default() }
    }

    fn metrics(&self) -> String {
        "up 1\n".into()
    }
}

async fn api(leader: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(serve(
        listener,
        Arc::new(Fake { leader, ..Fake::default() }),
        TokenHash::of("secret"),
        std::future::pending(),
    ));
    format!("http://{address}")
}

async fn get(base: &str, path: &str) -> reqwest::Response {
    reqwest::Client::new()
        .get(format!("{base}{path}"))
        .bearer_auth("secret")
        .send()
        .await
        .expect("answered")
}

#[tokio::test]
async fn v1_without_the_token_is_refused_and_health_is_not() {
    let base = api(true).await;
    let client = reqwest::Client::new();
    for (path, status) in [("/v1/calls", 401), ("/livez", 200), ("/readyz", 200)] {
        let answer = client.get(format!("{base}{path}")).send().await.expect("answered");
        assert_eq!(answer.status(), status, "{path}");
    }
    let wrong = client.get(format!("{base}/v1/calls")).bearer_auth("guess").send().await;
    assert_eq!(wrong.expect("answered").status(), 401);
}

#[tokio::test]
async fn bad_parameters_are_named_in_a_problem() {
    let base = api(true).await;
    for (path, names) in [
        ("/v1/calls?colour=red", "colour"),
        ("/v1/calls?limit=0", "limit"),
        ("/v1/cdrs?limit=many", "limit"),
    ] {
        let answer = get(&base, path).await;
        assert_eq!(answer.status(), 400, "{path}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let problem: Value = answer.json().await.expect("json");
        assert!(problem["detail"].as_str().is_some_and(|text| text.contains(names)), "{problem}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_404_and_no_leader_is_503_with_retry_after() {
    let base = api(true).await;
    for path in ["/v1/calls/c2", "/v1/agents/9", "/v1/recordings/r2/audio", "/v1/nothing"] {
        assert_eq!(get(&base, path).await.status(), 404, "{path}");
    }
    let base = api(false).await;
    let answer = get(&base, "/v1/calls").await;
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    assert_eq!(get(&base, "/readyz").await.status(), 503);
}

#[tokio::test]
async fn trace_is_in_the_order_of_time_and_names_gateways_that_do_not_say() {
    let base = api(true).await;
    let trace: Value = get(&base, "/v1/calls/c1/trace").await.json().await.expect("json");
    assert_eq!(trace["items"], json!([{"at_us": 1}, {"at_us": 2}]));
    assert_eq!(trace["missing"], json!(["gateway-b"]));
    let answer = get(&base, "/v1/calls/c2/trace").await;
    assert_eq!(answer.status(), 404);
    let problem: Value = answer.json().await.expect("json");
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("c2")), "{problem}");
}

#[tokio::test]
async fn call_that_is_placed_is_201_with_its_place() {
    let base = api(true).await;
    let post = async |body: Value, key: &str| {
        reqwest::Client::new()
            .post(format!("{base}/v1/calls"))
            .bearer_auth("secret")
            .header("idempotency-key", key)
            .json(&body)
            .send()
            .await
            .expect("answered")
    };
    let placed = post(json!({"from": "1001", "to": "4003"}), "k").await;
    assert_eq!(placed.status(), 201);
    assert_eq!(placed.headers()["location"], "/v1/calls/c1");
    assert_eq!(placed.json::<Value>().await.expect("json"), json!({"id": "c1"}));
    let reused = post(json!({"from": "1002", "to": "4003"}), "k").await;
    assert_eq!(reused.status(), 422);
    let missing = post(json!({"from": "1009", "to": "4003"}), "k").await;
    assert_eq!(missing.status(), 404);
    let problem: Value = missing.json().await.expect("json");
    assert_eq!(problem["detail"], "there is no extension \"1009\"");
    let long = "k".repeat(257);
    assert_eq!(post(json!({"from": "1001", "to": "4003"}), &long).await.status(), 400);
    assert_eq!(post(json!({"from": "1001"}), "k").await.status(), 422);
}

#[tokio::test]
async fn transfer_shows_the_call_and_a_refusal_is_409() {
    let base = api(true).await;
    let post = async |call: &str, body: Value| {
        let url = format!("{base}/v1/calls/{call}/transfer");
        let client = reqwest::Client::new();
        let answer = client.post(url).bearer_auth("secret").json(&body).send();
        answer.await.expect("answered").status().as_u16()
    };
    assert_eq!(post("c1", json!({"to": "4001"})).await, 200);
    assert_eq!(post("c1", json!({"to": "1002"})).await, 409);
    assert_eq!(post("c2", json!({"to": "4001"})).await, 404);
    assert_eq!(post("c1", json!({"to": "4".repeat(257)})).await, 400);
    assert_eq!(post("c1", json!({"from": "1001"})).await, 422);
}

#[tokio::test]
async fn lead_is_given_away_and_a_refusal_is_409() {
    let base = api(true).await;
    let post = async |shard: &str, body: Value| {
        let url = format!("{base}/v1/cluster/shards/{shard}/leader");
        let client = reqwest::Client::new();
        let answer = client.post(url).bearer_auth("secret").json(&body).send();
        answer.await.expect("answered").status().as_u16()
    };
    assert_eq!(post("s0", json!({"node": "node-b"})).await, 204);
    assert_eq!(post("s1", json!({"node": "node-b"})).await, 409);
    assert_eq!(post("s9", json!({"node": "node-b"})).await, 404);
    assert_eq!(post("s0", json!({"node": "n".repeat(257)})).await, 400);
    assert_eq!(post("s0", json!({})).await, 422);
}

#[tokio::test]
async fn tenant_is_sent_on_its_way_and_a_refusal_is_409() {
    let base = api(true).await;
    let post = async |tenant: &str, body: Value| {
        let url = format!("{base}/v1/tenants/{tenant}/move");
        let client = reqwest::Client::new();
        let answer = client.post(url).bearer_auth("secret").json(&body).send();
        answer.await.expect("answered").status().as_u16()
    };
    assert_eq!(post("demo", json!({"shard": "s2"})).await, 202);
    assert_eq!(post("demo", json!({"shard": "s3"})).await, 409);
    assert_eq!(post("nobody", json!({"shard": "s2"})).await, 404);
    assert_eq!(post("demo", json!({"shard": "s".repeat(257)})).await, 400);
    assert_eq!(post("demo", json!({"node": "s2"})).await, 422);
}

#[tokio::test]
async fn tenant_is_put_with_a_body_that_may_be_long() {
    let base = api(true).await;
    let put = async |tenant: &str, body: Value| {
        let url = format!("{base}/v1/tenants/{tenant}");
        let answer = reqwest::Client::new().put(url).bearer_auth("secret").json(&body).send();
        answer.await.expect("answered").status().as_u16()
    };
    let agents = "[[agent]]\n".repeat(20_000);
    assert_eq!(put("acme", json!({"config": agents})).await, 204);
    assert_eq!(put("acme", json!({"config": "", "shard": "s1"})).await, 409);
    assert_eq!(put("acme", json!({"shard": "s1"})).await, 422);
    assert_eq!(put("acme", json!({"config": "x".repeat(limits::TENANT_BYTES_MAX)})).await, 413);
    let url = format!("{base}/v1/tenants/acme");
    assert_eq!(reqwest::Client::new().put(url).send().await.expect("answered").status(), 401);
}

#[tokio::test]
async fn request_is_of_the_tenant_that_it_names() {
    let base = api(true).await;
    let whose = async |query: &str| -> Value {
        let page: Value =
            get(&base, &format!("/v1/queues{query}")).await.json().await.expect("json");
        page["items"][0]["tenant"].clone()
    };
    assert_eq!(whose("").await, Value::Null);
    assert_eq!(whose("?tenant=acme").await, "acme");
    assert_eq!(whose("?limit=3&tenant=a%20c").await, "a c");
    let long = format!("/v1/queues?tenant={}", "a".repeat(257));
    for refused in ["/v1/queues?tenant=a&tenant=b", "/v1/queues?tenant=", &long] {
        assert_eq!(get(&base, refused).await.status(), 400, "{refused}");
    }
    assert_eq!(get(&base, "/v1/calls/c1?tenant=acme").await.status(), 200);
    assert_eq!(get(&base, "/v1/calls/c1?tenant=nobody").await.status(), 404);
}

#[tokio::test]
async fn recording_is_paused_and_resumed_by_paths_of_their_own() {
    let base = api(true).await;
    let post = async |call: &str, what: &str| {
        let url = format!("{base}/v1/calls/{call}/recording/{what}");
        let answer = reqwest::Client::new().post(url).bearer_auth("secret").send();
        let answer = answer.await.expect("answered");
        (answer.status().as_u16(), answer.json::<Value>().await.expect("json"))
    };
    let shown = |paused: bool| (200, json!({"recording": {"paused": paused}}));
    assert_eq!(post("c1", "pause").await, shown(true));
    assert_eq!(post("c1", "resume").await, shown(false));
    assert_eq!(post("c2", "pause").await.0, 404);
}

#[tokio::test]
async fn copies_are_verified_and_repaired_and_a_silent_gateway_is_named() {
    let base = api(true).await;
    let verdict: Value = get(&base, "/v1/recordings/r1/verify").await.json().await.expect("json");
    let copies = |good: bool| json!([{"gateway": "gateway-a", "good": good}]);
    assert_eq!((&verdict["copies"], &verdict["missing"]), (&copies(false), &json!(["gateway-b"])));
    let url = format!("{base}/v1/recordings/r1/repair");
    let answer = reqwest::Client::new().post(url).bearer_auth("secret").send().await;
    let repaired: Value = answer.expect("answered").json().await.expect("json");
    assert_eq!(repaired["copies"], copies(true));
    assert_eq!(get(&base, "/v1/recordings/r2/verify").await.status(), 404);
}

#[tokio::test]
async fn consultation_is_begun_completed_and_cancelled_by_its_own_paths() {
    let base = api(true).await;
    let client = reqwest::Client::new();
    let ask = async |method: reqwest::Method, path: &str, body: Option<Value>| {
        let request = client.request(method, format!("{base}/v1/calls/{path}"));
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        let answer = request.bearer_auth("secret").send().await.expect("answered");
        answer.status().as_u16()
    };
    let (post, delete) = (reqwest::Method::POST, reqwest::Method::DELETE);
    let to = || Some(json!({"to": "1002"}));
    assert_eq!(ask(post.clone(), "c1/consult", to()).await, 200);
    assert_eq!(ask(post.clone(), "c2/consult", to()).await, 404);
    assert_eq!(ask(post.clone(), "c1/consult", Some(json!({}))).await, 422);
    assert_eq!(ask(post.clone(), "c1/consult/complete", None).await, 409);
    assert_eq!(ask(post.clone(), "c1/consult/conference", None).await, 409);
    assert_eq!(ask(post.clone(), "c2/consult/conference", None).await, 404);
    assert_eq!(ask(post, "c2/consult/complete", None).await, 404);
    assert_eq!(ask(delete.clone(), "c1/consult", None).await, 200);
    assert_eq!(ask(delete, "c2/consult", None).await, 404);
}

#[tokio::test]
async fn agent_state_is_checked_and_a_refusal_is_409() {
    let base = api(true).await;
    let post = async |agent: &str, body: &str| {
        reqwest::Client::new()
            .post(format!("{base}/v1/agents/{agent}/state"))
            .bearer_auth("secret")
            .header("content-type", "application/json")
            .body(body.to_owned())
            .send()
            .await
            .expect("answered")
            .status()
            .as_u16()
    };
    assert_eq!(post("1001", r#"{"state":"ready"}"#).await, 200);
    assert_eq!(post("1002", r#"{"state":"ready"}"#).await, 409);
    assert_eq!(post("1009", r#"{"state":"ready"}"#).await, 404);
    assert_eq!(post("1001", r#"{"state":"asleep"}"#).await, 422);
    assert_eq!(post("1001", "{").await, 400);
}

#[tokio::test]
async fn openapi_names_only_paths_that_the_router_has() {
    let base = api(true).await;
    let client = reqwest::Client::new();
    for (method, path) in openapi::operations() {
        let path = path.replace("{id}", "c1").replace("{name}", "c1");
        // TRACE is routed nowhere: 405 shows that the path is known, 404 that it is not.
        let answer = client
            .request(reqwest::Method::TRACE, format!("{base}{path}"))
            .bearer_auth("secret")
            .send()
            .await
            .expect("answered");
        assert_eq!(answer.status(), 405, "{method} {path}");
    }
    let document: Value = get(&base, "/openapi.json").await.json().await.expect("json");
    assert_eq!(document["openapi"], "3.1.0");
}
