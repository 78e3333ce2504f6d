//! What the API needs of the process that it runs in.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

/// Asks the shard's leader, through the gateway's link.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// The same for calls, agents and records of the tenant of that name; as it is, for those of the first.
    fn of_tenant(self: Arc<Self>, tenant: &str) -> Arc<dyn Backend>;

    /// `kind` and `params` as in the link's `QueryRequest`. `None`: the one thing that was asked
    /// for is not there.
    async fn query(
        &self,
        kind: &'static str,
        params: BTreeMap<String, String>,
    ) -> Result<Option<Value>, Error>;

    /// Answered when the command is committed.
    async fn execute(
        &self,
        command: Command,
        idempotency_key: Option<String>,
    ) -> Result<Executed, Error>;

    /// Where the audio of a recording lies: here, if any of it does.
    async fn recording_audio(&self, id: &str) -> Result<Option<Audio>, Error>;

    /// Reads what lies here of a recording again, and says how it was found; `repair`: first makes it
    /// right from another gateway's, if it is not. `None`: there is nothing of it here.
    async fn verify_recording(&self, id: &str, repair: bool) -> Result<Option<Value>, Error>;

    /// What this gateway saw of a call in the last day, in the order of time.
    async fn call_trace(&self, id: &str) -> Result<Vec<Value>, Error>;

    /// The other gateways, which saw the rest.
    fn gateways(&self) -> Vec<Gateway>;

    fn readiness(&self) -> Readiness;

    /// The Prometheus text exposition.
    fn metrics(&self) -> String;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    SetAgentState {
        agent: String,
        state: AgentState,
        reason: Option<String>,
    },
    ReleaseCall {
        call: String,
    },
    /// The lead of a shard to a node.
    MoveLeader {
        shard: String,
        node: String,
    },
    /// A tenant to a shard.
    MoveTenant {
        tenant: String,
        shard: String,
    },
    /// What a tenant is from now on, in TOML; where it is new, in which shard.
    PutTenant {
        tenant: String,
        config: String,
        shard: Option<String>,
    },
    /// A process or box has no lead and no line from now on, or may have them again.
    Drain {
        name: String,
        drained: bool,
    },
    AddMember {
        name: String,
        address: String,
        witness: bool,
    },
    RemoveMember {
        name: String,
    },
    /// The same name with an empty folder, as another replica.
    ReplaceMember {
        name: String,
    },
    /// Click-to-dial: rings the extension `from`, then dials `to` for it.
    Originate {
        from: String,
        to: String,
    },
    /// Nothing is recorded while it is paused.
    PauseRecording {
        call: String,
        paused: bool,
    },
    /// Sends the caller of a connected call on.
    TransferCall {
        call: String,
        to: String,
    },
    /// Rings an extension for the agent of a connected call, while the caller waits.
    Consult {
        call: String,
        to: String,
    },
    /// Caller, agent and whoever is consulted speak together.
    Conference {
        call: String,
    },
    /// The caller goes to whoever is consulted.
    CompleteConsult {
        call: String,
    },
    /// The agent goes back to the caller.
    CancelConsult {
        call: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    Ready,
    NotReady,
    LoggedOut,
}

impl AgentState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::NotReady => "not_ready",
            Self::LoggedOut => "logged_out",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Executed {
    /// With the thing as it is now, where the command has one.
    Done(Option<Value>),
    /// There is no such thing; what it is, where that is known.
    NotFound(Option<String>),
    /// The state machine refused; the sentence says why.
    Refused(String),
    /// The idempotency key was used for another request.
    KeyReused,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audio {
    /// It is whole.
    File(PathBuf),
    Open(Open),
    /// Another gateway holds all of it: the base URL of its API, and what there is of it here.
    Peer {
        base: String,
        here: Option<Open>,
    },
}

/// It ends, for now, with so many bytes behind a header of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    pub path: PathBuf,
    pub header: Vec<u8>,
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    pub name: String,
    /// The base URL of its API.
    pub base: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Sockets are bound, a leader is known: new calls are welcome.
    pub may_take_calls: bool,
    /// Calls that live go on.
    pub may_hold_calls: bool,
    /// The first start is over.
    pub started: bool,
    pub checks: Vec<Check>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: String,
    pub ok: bool,
    pub why: String,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no node leads the shard at the moment; try again")]
    NoLeader,
    #[error("too many requests are under way; try again in {retry_after_s} s")]
    Overloaded { retry_after_s: u32 },
    /// Of what the request names: there is none such.
    #[error("there is no {0}")]
    Unknown(String),
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Internal(String),
}
