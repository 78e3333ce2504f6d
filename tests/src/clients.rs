//! Clients of the API that set agents' states and read them, all at the same time, and what each was told:
//! a history to be judged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Api;
use crate::linear::register::{Operation, Register};
use crate::linear::{self, Done, Verdict};

/// Each is a register by itself.
const AGENTS: [&str; 4] = ["1001", "1002", "1003", "1004"];
/// What each is before the first client asks.
const START: &str = "start";
/// A gateway gives up a request before that.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// Every second client mostly reads: a write waits long where nobody leads, and whoever waits sees nothing.
const WRITES_OF_WRITER: f64 = 0.8;
const WRITES_OF_READER: f64 = 0.1;
/// Between two requests of a client.
const PAUSE_MS_MAX: u64 = 40;
/// Of one agent; from there on clients only wait for the end.
const OPERATIONS_MAX: usize = 20_000;

type History = BTreeMap<String, Vec<Done<Register>>>;

pub struct Clients {
    history: Arc<Mutex<History>>,
    over: watch::Sender<bool>,
    under_way: JoinSet<Result<()>>,
}

impl Clients {
    /// So many at each of these.
    pub async fn start(apis: &[Api], at_each: u32, seed: u64) -> Result<Self> {
        for agent in AGENTS {
            let Some(api) = apis.first() else { bail!("no gateway") };
            let (status, body) = set(api, agent, START).await?;
            ensure!(status == 200, "{agent}: {status} {body}");
        }
        let (history, over) = (Arc::<Mutex<History>>::default(), watch::Sender::new(false));
        let begun = Instant::now();
        let mut under_way = JoinSet::new();
        for (number, api) in (0..).zip(apis.iter().flat_map(|api| (0..at_each).map(move |_| api))) {
            let client = Client {
                number,
                api: api.patient_for(ANSWER_WITHIN)?,
                begun,
                random: StdRng::seed_from_u64(seed ^ (u64::from(number) << 32)),
                history: Arc::clone(&history),
            };
            under_way.spawn(client.run(over.subscribe()));
        }
        Ok(Self { history, over, under_way })
    }

    /// What they were told, once each has had its last answer.
    pub async fn end(mut self) -> Result<Told> {
        self.over.send_replace(true);
        while let Some(ended) = self.under_way.join_next().await {
            ended??;
        }
        Ok(Told(std::mem::take(&mut self.history.lock())))
    }
}

struct Client {
    number: u32,
    api: Api,
    begun: Instant,
    random: StdRng,
    history: Arc<Mutex<History>>,
}

impl Client {
    async fn run(mut self, mut over: watch::Receiver<bool>) -> Result<()> {
        let writes =
            if self.number.is_multiple_of(2) { WRITES_OF_WRITER } else { WRITES_OF_READER };
        for count in 0_u64.. {
            let pause = Duration::from_millis(self.random.random_range(0..=PAUSE_MS_MAX));
            if tokio::time::timeout(pause, over.wait_for(|over| *over)).await.is_ok() {
                break;
            }
            let agent = AGENTS[self.random.random_range(0..AGENTS.len())];
            let called = self.begun.elapsed();
            let (operation, answer) = if self.random.random_bool(writes) {
                let value = format!("c{}-{count}", self.number);
                let answer = self.write(agent, &value).await?;
                (Operation::Write(value), answer)
            } else {
                (Operation::Read, self.read(agent).await?)
            };
            let answered = answer.map(|answer| (self.begun.elapsed(), answer));
            // A read that was not answered has told nobody anything.
            if operation != Operation::Read || answered.is_some() {
                let done = Done { client: self.number, operation, called, answered };
                let mut history = self.history.lock();
                let of_agent = history.entry(agent.to_owned()).or_default();
                of_agent.push(done);
                if of_agent.len() >= OPERATIONS_MAX {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Nothing where nobody knows whether it was done.
    async fn write(&self, agent: &str, value: &str) -> Result<Option<String>> {
        match set(&self.api, agent, value).await {
            Ok((200, agent)) => value_of(&agent).map(Some),
            Ok((429 | 500.., _)) | Err(_) => Ok(None),
            Ok((status, body)) => bail!("{agent} was to be {value}: {status} {body}"),
        }
    }

    async fn read(&self, agent: &str) -> Result<Option<String>> {
        match self.api.look(&format!("/v1/agents/{agent}")).await {
            Ok((200, agent)) => value_of(&agent).map(Some),
            Ok((429 | 500.., _)) | Err(_) => Ok(None),
            Ok((status, body)) => bail!("{agent} was to be read: {status} {body}"),
        }
    }
}

/// Makes the agent not ready for this reason, which the state then has.
pub async fn set(api: &Api, agent: &str, value: &str) -> Result<(u16, Value)> {
    let body = json!({ "state": "not_ready", "reason": value });
    api.post(&format!("/v1/agents/{agent}/state"), &body).await
}

/// Of an agent as the API shows it.
pub fn value_of(agent: &Value) -> Result<String> {
    match (agent["state"].as_str(), agent["reason"].as_str()) {
        (Some("not_ready"), Some(reason)) => Ok(reason.to_owned()),
        (Some(state), None) => Ok(state.to_owned()),
        _ => bail!("no agent: {agent}"),
    }
}

/// What the clients were told, by agent.
pub struct Told(History);

impl Told {
    /// Writes and reads that were answered, and writes of which nobody knows whether they were done.
    pub fn counts(&self) -> (usize, usize, usize) {
        let all = || self.0.values().flatten();
        let answered = |read| {
            all()
                .filter(|d| d.answered.is_some() && (d.operation == Operation::Read) == read)
                .count()
        };
        (answered(false), answered(true), all().filter(|d| d.answered.is_none()).count())
    }

    /// # Errors
    /// With the shortest part of what can't be, as a table.
    pub fn judge(&self) -> Result<()> {
        for (agent, history) in &self.0 {
            match linear::check(&START.to_owned(), history) {
                Verdict::Linearizable => {}
                Verdict::Undecided => {
                    bail!("agent {agent}: {} operations, undecided", history.len())
                }
                Verdict::NotLinearizable => {
                    let shown = linear::shortest(&START.to_owned(), history);
                    bail!("agent {agent} is not linearizable:\n{}", table(&shown));
                }
            }
        }
        Ok(())
    }
}

fn table(history: &[Done<Register>]) -> String {
    let row = |done: &Done<Register>| {
        let called = format!("{:?}", done.called);
        let answered = match &done.answered {
            Some((at, answer)) => format!("{at:?} {answer}"),
            None => "never".to_owned(),
        };
        format!("  client {:2}  {called:>12}  {:?} → {answered}", done.client, done.operation)
    };
    history.iter().map(row).collect::<Vec<_>>().join("\n")
}
