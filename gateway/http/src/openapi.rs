//! The API described for machines (OpenAPI 3.1). A test holds it against the router.

use axum::Json;
use serde_json::{Map, Value, json};

use crate::limits;
use crate::routes::TENANT;

/// Method, path, what it does, the answer's schema, further statuses, query parameters, and what a
/// POST takes.
struct Operation {
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    schema: &'static str,
    statuses: &'static [u16],
    params: &'static [&'static str],
    takes: &'static str,
}

const fn read(
    path: &'static str,
    summary: &'static str,
    schema: &'static str,
    statuses: &'static [u16],
    params: &'static [&'static str],
) -> Operation {
    Operation { method: "get", path, summary, schema, statuses, params, takes: "" }
}

/// A POST that takes nothing.
const fn post(path: &'static str, summary: &'static str, schema: &'static str) -> Operation {
    let statuses = &[200, 400, 401, 404, 409, 422, 429, 503];
    Operation { method: "post", path, summary, schema, statuses, params: &[], takes: "" }
}

const LIST: &[u16] = &[200, 400, 401, 429, 503];
const ONE: &[u16] = &[200, 400, 401, 404, 429, 503];

const OPERATIONS: &[Operation] = &[
    read("/v1/calls", "Live calls", "CallPage", LIST, &["state", "sip_call_id", "limit", "cursor"]),
    Operation {
        method: "post",
        path: "/v1/calls",
        summary: "Click-to-dial: ring the extension `from`, then dial `to` for it",
        schema: "Call",
        statuses: &[201, 400, 401, 404, 409, 413, 415, 422, 429, 503],
        params: &[],
        takes: "OriginateRequest",
    },
    read("/v1/calls/{id}", "One live call", "Call", ONE, &[]),
    Operation {
        method: "delete",
        path: "/v1/calls/{id}",
        summary: "Hang up every leg of a call",
        schema: "",
        statuses: &[204, 400, 401, 404, 409, 429, 503],
        params: &[],
        takes: "",
    },
    Operation {
        method: "post",
        path: "/v1/calls/{id}/transfer",
        summary: "Send the caller of a connected call on to `to`; back where nobody takes it",
        schema: "Call",
        statuses: &[200, 400, 401, 404, 409, 413, 415, 422, 429, 503],
        params: &[],
        takes: "TransferRequest",
    },
    post("/v1/calls/{id}/recording/pause", "Record silence, while a card's number is said", "Call"),
    post("/v1/calls/{id}/recording/resume", "Record again", "Call"),
    Operation {
        method: "post",
        path: "/v1/calls/{id}/consult",
        summary: "Ring the extension `to` for the agent of a connected call; the caller hears music",
        schema: "Call",
        statuses: &[200, 400, 401, 404, 409, 413, 415, 422, 429, 503],
        params: &[],
        takes: "TransferRequest",
    },
    Operation {
        method: "delete",
        path: "/v1/calls/{id}/consult",
        summary: "End the consultation: the agent is back with the caller",
        schema: "Call",
        statuses: &[200, 400, 401, 404, 409, 429, 503],
        params: &[],
        takes: "",
    },
    Operation {
        method: "post",
        path: "/v1/calls/{id}/consult/conference",
        summary: "Caller, agent and whoever is consulted speak together",
        schema: "Call",
        statuses: &[200, 400, 401, 404, 409, 422, 429, 503],
        params: &[],
        takes: "",
    },
    Operation {
        method: "post",
        path: "/v1/calls/{id}/consult/complete",
        summary: "The caller goes to whoever is consulted, at once or when that one answers",
        schema: "Call",
        statuses: &[200, 400, 401, 404, 409, 422, 429, 503],
        params: &[],
        takes: "",
    },
    read(
        "/v1/calls/{id}/trace",
        "What a call said and did, live or ended within the last day",
        "Trace",
        ONE,
        &[],
    ),
    read("/v1/queues", "Queues with who waits", "QueuePage", LIST, &["limit", "cursor"]),
    read("/v1/queues/{name}", "One queue", "Queue", ONE, &[]),
    read("/v1/agents", "Agents", "AgentPage", LIST, &["limit", "cursor"]),
    read("/v1/agents/{id}", "One agent", "Agent", ONE, &[]),
    Operation {
        method: "post",
        path: "/v1/agents/{id}/state",
        summary: "Ask for an agent state",
        schema: "Agent",
        statuses: &[200, 400, 401, 404, 409, 413, 415, 422, 429, 503],
        params: &[],
        takes: "AgentStateRequest",
    },
    read("/v1/trunks", "Trunks", "TrunkPage", LIST, &["limit", "cursor"]),
    read(
        "/v1/trunks/{name}/channels",
        "The channels of a trunk",
        "ChannelPage",
        ONE,
        &["limit", "cursor"],
    ),
    read(
        "/v1/cdrs",
        "Call detail records, written once at a call's end",
        "CdrPage",
        LIST,
        &["sip_call_id", "since", "call", "limit", "cursor"],
    ),
    read(
        "/v1/recordings",
        "Recordings",
        "RecordingPage",
        LIST,
        &["call", "since", "limit", "cursor"],
    ),
    read("/v1/recordings/{id}", "One recording's manifest", "Recording", ONE, &[]),
    read(
        "/v1/recordings/{id}/audio",
        "WAV: caller left, agent right",
        "wav",
        &[200, 206, 400, 401, 404, 416, 429, 503],
        &[],
    ),
    read("/v1/recordings/{id}/verify", "Read every copy again", "Verdict", ONE, &[]),
    post("/v1/recordings/{id}/repair", "Make damaged copies right from a good one", "Verdict"),
    read("/v1/cluster", "Who leads, who lags, what may be lost", "Cluster", LIST, &["within_ms"]),
    Operation {
        method: "post",
        path: "/v1/cluster/shards/{shard}/leader",
        summary: "Give the lead of a shard to a node; its calls go on",
        schema: "",
        statuses: &[204, 400, 401, 404, 409, 413, 415, 422, 429, 503],
        params: &[],
        takes: "LeaderRequest",
    },
    Operation {
        method: "put",
        path: "/v1/cluster/drains/{name}",
        summary: "A process or box has no lead and no service address from now on; its live calls go elsewhere",
        schema: "",
        statuses: &[202, 400, 401, 404, 409, 422, 429, 503],
        params: &[],
        takes: "",
    },
    Operation {
        method: "delete",
        path: "/v1/cluster/drains/{name}",
        summary: "A process or box that was drained may have its part again",
        schema: "",
        statuses: &[204, 400, 401, 404, 409, 422, 429, 503],
        params: &[],
        takes: "",
    },
    read("/v1/tenants", "The shard of each tenant, and its live calls", "TenantPage", LIST, &[]),
    Operation {
        method: "put",
        path: "/v1/tenants/{tenant}",
        summary: "Add a tenant, or change what it is",
        schema: "",
        statuses: &[204, 400, 401, 404, 409, 413, 415, 422, 429, 503],
        params: &[],
        takes: "TenantRequest",
    },
    Operation {
        method: "post",
        path: "/v1/tenants/{tenant}/move",
        summary: "Put a tenant into another shard; its calls go on",
        schema: "",
        statuses: &[202, 400, 401, 404, 409, 413, 415, 422, 429, 503],
        params: &[],
        takes: "MoveRequest",
    },
    read("/v1/cluster/members", "Who belongs to the cluster", "Members", LIST, &[]),
    Operation {
        method: "post",
        path: "/v1/cluster/members",
        summary: "Let in a voter that waits with an empty folder at `address`",
        schema: "",
        statuses: &[202, 400, 401, 404, 409, 413, 415, 422, 429, 503],
        params: &[],
        takes: "MemberRequest",
    },
    Operation {
        method: "delete",
        path: "/v1/cluster/members/{name}",
        summary: "Remove a voter; refused where the quorum would be lost",
        schema: "",
        statuses: &[202, 400, 401, 404, 409, 429, 503],
        params: &[],
        takes: "",
    },
    Operation {
        method: "post",
        path: "/v1/cluster/members/{name}/replace",
        summary: "Let a voter that has lost its folder in again, as another replica",
        schema: "",
        statuses: &[202, 400, 401, 404, 409, 422, 429, 503],
        params: &[],
        takes: "",
    },
    read("/livez", "The process runs", "text", &[200], &[]),
    read("/readyz", "May it take new calls", "text", &[200, 503], &["verbose"]),
    read("/startupz", "Has it started", "text", &[200, 503], &[]),
    read("/metrics", "Prometheus text", "text", &[200], &[]),
    read("/openapi.json", "This document", "any", &[200], &[]),
];

pub(crate) async fn document() -> Json<Value> {
    Json(describe())
}

pub(crate) fn describe() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in OPERATIONS {
        let entry = paths.entry(operation.path).or_insert_with(|| json!({}));
        entry[operation.method] = describe_operation(operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tandem",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Times are RFC 3339 UTC with milliseconds; ids are strings; errors are RFC 9457.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas(),
        },
    })
}

fn describe_operation(operation: &Operation) -> Value {
    let mut responses = Map::new();
    for status in operation.statuses {
        responses.insert(status.to_string(), describe_response(operation, *status));
    }
    let mut parameters = Vec::new();
    if let Some((_, rest)) = operation.path.split_once('{') {
        let name = rest.split('}').next().unwrap_or_default();
        parameters.push(json!({
            "name": name, "in": "path", "required": true,
            "schema": {"type": "string", "minLength": 1, "maxLength": limits::NAME_BYTES_MAX},
        }));
    }
    if operation.method == "post" {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header",
            "description": "The same key brings the same answer for a day, and does nothing twice",
            "schema": {"type": "string", "minLength": 1, "maxLength": limits::KEY_BYTES_MAX,
                "pattern": "^[ -~]+$"},
        }));
    }
    let of_cluster = ["/v1/cluster", "/v1/tenants"].iter().any(|it| operation.path.starts_with(it));
    if operation.path.starts_with("/v1") && !of_cluster {
        parameters.push(json!({
            "name": TENANT, "in": "query", "description": "whose it is; without it the first one's",
            "schema": {"type": "string", "minLength": 1, "maxLength": limits::NAME_BYTES_MAX},
        }));
    }
    for name in operation.params {
        let schema = match *name {
            "limit" => {
                json!({"type": "integer", "minimum": 1, "maximum": limits::PAGE_ITEMS_MAX})
            }
            "since" => json!({"type": "string", "format": "date-time"}),
            // What was seen last will do where no node tells anything newer in that time.
            "within_ms" => {
                json!({"type": "integer", "minimum": 1, "maximum": limits::WITHIN_MS_MAX})
            }
            "state" => json!({"type": "string", "enum": CALL_STATES}),
            // Bytes in hexadecimal, as `next` gave them.
            "cursor" => json!({
                "type": "string", "pattern": "^([0-9a-f]{2})*$",
                "maxLength": limits::NAME_BYTES_MAX,
            }),
            "verbose" => json!({"type": "string"}),
            _ => json!({"type": "string", "maxLength": limits::NAME_BYTES_MAX}),
        };
        parameters.push(json!({"name": name, "in": "query", "schema": schema}));
    }
    let mut described = json!({
        "summary": operation.summary,
        "parameters": parameters,
        "responses": responses,
    });
    if operation.path.starts_with("/v1") {
        described["security"] = json!([{"token": []}]);
    }
    if !operation.takes.is_empty() {
        let takes = format!("#/components/schemas/{}", operation.takes);
        described["requestBody"] =
            json!({"required": true, "content": {"application/json": {"schema": {"$ref": takes}}}});
    }
    described
}

fn describe_response(operation: &Operation, status: u16) -> Value {
    let schema = |name: &str| json!({"schema": {"$ref": format!("#/components/schemas/{name}")}});
    let content = match (status, operation.schema) {
        (202, _) => return json!({"description": "begun"}),
        (204, _) => return json!({"description": "done"}),
        (200 | 503, "text") => json!({"text/plain": {"schema": {"type": "string"}}}),
        (200, "any") => json!({"application/json": {"schema": {"type": "object"}}}),
        (200 | 206, "wav") => json!({"audio/wav": {}}),
        (201, name) => {
            return json!({
                "description": "placed",
                "headers": {"Location": {"schema": {"type": "string"}}},
                "content": {"application/json": schema(name)},
            });
        }
        (200, name) => json!({"application/json": schema(name)}),
        (416, _) => return json!({"description": "no such range"}),
        _ => json!({"application/problem+json": schema("Problem")}),
    };
    json!({"description": if status < 400 { "done" } else { "refused" }, "content": content})
}

pub(crate) const CALL_STATES: &[&str] = &[
    "routing",
    "in_flow",
    "queued",
    "dialing",
    "bridging",
    "connected",
    "consulting",
    "conferenced",
    "conferenced",
];
const AGENT_STATES: &[&str] =
    &["logged_out", "not_ready", "ready", "reserved", "talking", "held", "acw"];

fn schemas() -> Value {
    let text = || json!({"type": "string"});
    let maybe = || json!({"type": ["string", "null"]});
    let count = || json!({"type": "integer", "minimum": 0});
    let maybe_count = || json!({"type": ["integer", "null"], "minimum": 0});
    let number = || json!({"type": "number", "minimum": 0});
    let maybe_number = || json!({"type": ["number", "null"], "minimum": 0});
    let flag = || json!({"type": "boolean"});
    let time = || json!({"type": "string", "format": "date-time"});
    let maybe_time = || json!({"type": ["string", "null"], "format": "date-time"});
    let of = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    let many = |schema: Value| json!({"type": "array", "items": schema});
    let spans = || many(object(&[("at_ms", count()), ("len_ms", count())]));
    let call_state = json!({"type": "string", "enum": CALL_STATES});
    let direction = json!({"type": "string", "enum": ["in", "out", "internal"]});
    let agent_state = json!({"type": "string", "enum": AGENT_STATES});
    let mut schemas = json!({
        "Call": object(&[
            ("id", text()), ("state", call_state), ("held", flag()), ("from", text()),
            ("to", text()), ("queue", maybe()), ("agent", maybe()), ("position", maybe_count()),
            ("gateway", text()), ("shard", text()), ("started_at", time()),
            ("answered_at", maybe_time()), ("connected_at", maybe_time()),
            ("legs", many(of("Leg"))),
        ])
        .and("flow", of("Flow"))
        .and("diverted_from", text())
        .and("recording", object(&[("id", text()), ("paused", flag())]))
        .and("consult", of("Consult"))
        .and("direction", direction.clone())
        .and("trunk", text())
        .and("channel", count())
        .and("outward", of("Outward")),
        "Outward": object(&[
            ("number", text()), ("trunk", maybe()), ("channel", maybe_count()),
            ("peer", maybe()),
        ]),
        "Consult": object(&[("at", time()), ("agent", text()), ("to", text()), ("state", text())])
            .and("status", count()),
        "Flow": object(&[
            ("name", text()), ("version", count()), ("step", text()), ("prompt", maybe()),
            ("digits", text()), ("tries", count()),
        ]),
        "Leg": object(&[("role", text()), ("sip_call_id", text()), ("state", text())]),
        "Queue": object(&[
            ("name", text()), ("strategy", text()), ("waiting", many(of("Waiting"))),
            ("agents", many(of("QueueAgent"))),
        ]),
        "Waiting": object(&[("call", text()), ("position", count()), ("since", time())]),
        "QueueAgent": object(&[("id", text()), ("state", agent_state.clone())]),
        "Agent": object(&[
            ("id", text()), ("state", agent_state), ("reason", maybe()), ("since", time()),
            ("call", maybe()), ("registered", flag()), ("gateway", maybe()),
        ])
        .and("second_call", text())
        .and("phones", many(of("Phone"))),
        "Phone": object(&[
            ("contact", text()), ("gateway", text()),
            ("transport", json!({"type": "string", "enum": ["udp", "tcp", "tls", "ws", "wss"]})),
            ("until", time()),
        ]),
        "Trunk": object(&[
            ("name", text()), ("channels", count()), ("idle", count()), ("busy", count()),
        ])
        .and("peers", many(of("TrunkPeer")))
        .and("registrations", many(of("TrunkRegistration"))),
        "TrunkRegistration": object(&[
            ("gateway", text()),
            ("state", json!({"type": "string", "enum": ["registered", "absent"]})),
            ("status", count()), ("since", time()),
        ]),
        "TrunkPeer": object(&[
            ("address", text()),
            ("state", json!({"type": "string", "enum": ["up", "degraded", "down", "held"]})),
        ])
        .and("until", time())
        .and("status", count())
        .and("since", time())
        .and("options", many(of("PeerOptions"))),
        "PeerOptions": object(&[
            ("gateway", text()), ("state", json!({"type": "string", "enum": ["up", "down"]})),
            ("status", count()), ("since", time()),
        ]),
        "Channel": object(&[
            ("number", count()), ("state", text()), ("call", maybe()), ("since", time()),
        ]),
        "Cdr": object(&[
            ("id", text()), ("call", text()), ("sip_call_id", text()), ("from", text()),
            ("to", text()), ("trunk", maybe()), ("channel", maybe_count()),
            ("started_at", time()), ("answered_at", maybe_time()), ("queued_at", maybe_time()),
            ("connected_at", maybe_time()), ("ended_at", time()), ("wait_ms", maybe_count()),
            ("talk_ms", maybe_count()), ("queue", maybe()), ("agent", maybe()),
            ("disposition", text()), ("hung_up_by", text()), ("cause", text()),
            ("q850", maybe_count()), ("takeovers", count()), ("recording", maybe()),
            ("transfers", many(object(&[
                ("at", time()), ("agent", text()), ("to", text()),
                ("kind", json!({"type": "string", "enum": ["blind", "attended"]})),
                ("outcome", text()),
            ]))),
        ])
        .and("direction", direction)
        .and("outward", of("Outward"))
        .and("flow", text())
        .and("flow_path", many(text()))
        .and("asserted_from", text())
        .and("diverted_from", text())
        .and("joined", text()),
        "Quality": object(&[
            ("role", maybe()), ("gateway", text()), ("codec", text()), ("packets_sent", count()),
            ("packets_received", count()), ("packets_lost", count()), ("packets_late", count()),
            ("packets_duplicate", count()), ("jitter_ms", number()), ("rtt_ms", maybe_number()),
            ("mos", maybe_number()),
        ]),
        "Recording": object(&[
            ("id", text()), ("call", text()), ("began_at", maybe_time()), ("gateway", text()),
            ("duration_ms", count()), ("chunks", count()), ("gaps", spans()), ("pauses", spans()),
            ("copies", many(text())), ("sealed", flag()), ("cut", flag()), ("hash", text()),
        ]),
        "Verdict": object(&[
            ("id", text()), ("missing", many(text())),
            ("copies", many(object(&[
                ("gateway", text()), ("good", flag()), ("sealed", flag()), ("chunks", count()),
                ("duration_ms", count()), ("wrong_hash", flag()), ("hash", text()),
                ("damaged", many(object(&[("chunk", count()), ("at_ms", count())]))),
            ]))),
        ]),
        "Trace": object(&[
            ("call", text()), ("items", many(of("TraceItem"))), ("missing", many(text())),
        ]),
        "TraceItem": object(&[
            ("at", time()), ("at_us", count()), ("gateway", text()),
            ("kind", json!({"type": "string", "enum": ["sip", "event"]})),
            ("direction", maybe()), ("transport", maybe()), ("local", maybe()),
            ("peer", maybe()), ("sip_call_id", maybe()), ("summary", text()), ("text", maybe()),
        ]),
        "Cluster": {"type": "object"},
        "Tenant": object(&[
            ("name", text()), ("shard", text()), ("moving_to", maybe()), ("given_up", maybe()),
            ("calls", maybe_count()), ("ready", flag()),
        ]),
        "TenantRequest": {
            "type": "object", "additionalProperties": false, "required": ["config"],
            "properties": {
                "config": {"type": "string", "description": "the tables that make a tenant, in TOML"},
                "shard": {"type": ["string", "null"], "maxLength": limits::NAME_BYTES_MAX},
            },
        },
        "MoveRequest": {
            "type": "object", "additionalProperties": false, "required": ["shard"],
            "properties": {"shard": {"type": "string", "maxLength": limits::NAME_BYTES_MAX}},
        },
        "Members": object(&[("settled", flag()), ("members", many(of("Member")))]),
        "Member": object(&[
            ("id", count()), ("name", text()), ("box", text()), ("address", text()),
            ("link", maybe()), ("witness", flag()), ("healthy", flag()),
            ("role", json!({"type": "string", "enum": ["node", "witness", "learner"]})),
            // Entries that it lacks, by shard.
            ("behind", json!({"type": "object", "additionalProperties": maybe_count()})),
            ("removable", object(&[("ok", flag()), ("why", text())])),
        ]),
        "MemberRequest": {
            "type": "object", "additionalProperties": false, "required": ["name", "address"],
            "properties": {
                "name": {"type": "string", "maxLength": limits::NAME_BYTES_MAX},
                "address": {"type": "string", "maxLength": limits::NAME_BYTES_MAX},
                "witness": {"type": "boolean"},
            },
        },
        "LeaderRequest": {
            "type": "object", "additionalProperties": false, "required": ["node"],
            "properties": {"node": {"type": "string", "maxLength": limits::NAME_BYTES_MAX}},
        },
        "AgentStateRequest": {
            "type": "object", "required": ["state"], "additionalProperties": false,
            "properties": {
                "state": {"type": "string", "enum": ["ready", "not_ready", "logged_out"]},
                "reason": {"type": ["string", "null"], "maxLength": limits::NAME_BYTES_MAX},
            },
        },
        "OriginateRequest": {
            "type": "object", "required": ["from", "to"], "additionalProperties": false,
            "properties": {
                "from": {"type": "string", "maxLength": limits::NAME_BYTES_MAX},
                "to": {"type": "string", "maxLength": limits::NAME_BYTES_MAX},
            },
        },
        "TransferRequest": {
            "type": "object", "required": ["to"], "additionalProperties": false,
            "properties": {"to": {"type": "string", "maxLength": limits::NAME_BYTES_MAX}},
        },
        "Problem": object(&[
            ("type", text()), ("title", text()), ("status", count()), ("detail", text()),
        ]),
    });
    // Absent until a gateway has told.
    schemas["Cdr"]["properties"]["quality"] = many(of("Quality"));
    for name in ["Call", "Queue", "Agent", "Trunk", "Channel", "Cdr", "Recording", "Tenant"] {
        schemas[format!("{name}Page")] = object(&[("items", many(of(name))), ("next", maybe())]);
    }
    schemas
}

/// Fields that are there or not.
trait And {
    fn and(self, name: &str, schema: Value) -> Value;
}

impl And for Value {
    fn and(mut self, name: &str, schema: Value) -> Value {
        self["properties"][name] = schema;
        self
    }
}

fn object(fields: &[(&str, Value)]) -> Value {
    let properties: Map<String, Value> =
        fields.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    let required: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    json!({"type": "object", "properties": properties, "required": required})
}

/// Path and method of every operation, for the test that holds this against the router.
#[cfg(test)]
pub(crate) fn operations() -> Vec<(&'static str, &'static str)> {
    OPERATIONS.iter().map(|operation| (operation.method, operation.path)).collect()
}
