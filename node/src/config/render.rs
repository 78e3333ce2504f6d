//! The text of a server's file, as `tandem dev` writes it. Passwords are digests by now.

use tandem_core::config::{Config, Strategy, Target};
use toml::{Table, Value};

use super::{Cluster, Process, Sip, Tls};

/// # Errors
/// Never for what these types can hold; the serializer's signature says otherwise.
pub fn server(
    cluster: &Cluster,
    tls: &Tls,
    sip: Option<&Sip>,
    process: &Process,
    tenant: Option<&Config>,
) -> Result<String, toml::ser::Error> {
    let mut root = Table::new();
    root.insert("cluster".into(), Value::try_from(cluster)?);
    root.insert("tls".into(), Value::try_from(tls)?);
    if let Some(sip) = sip {
        root.insert("sip".into(), Value::try_from(sip)?);
    }
    root.insert("process".into(), Value::try_from(process)?);
    if let Some(tenant) = tenant {
        root.extend(tables_of(tenant));
    }
    toml::to_string(&root)
}

/// The tables of a tenant, readable again.
pub fn tenant(config: &Config) -> Result<String, toml::ser::Error> {
    toml::to_string(&tables_of(config))
}

fn tables_of(config: &Config) -> Table {
    let rows = |rows: Vec<Table>| Value::Array(rows.into_iter().map(Value::Table).collect());
    let trunks = config.trunks.iter().map(|trunk| {
        let mut row = Table::new();
        row.insert("name".into(), trunk.id.to_string().into());
        row.insert("channels".into(), i64::from(trunk.channels).into());
        row.insert("guard_ms".into(), millis(trunk.guard_ms));
        let sources = trunk.sources.iter().map(|source| Value::from(source.to_string()));
        row.insert("sources".into(), Value::Array(sources.collect()));
        if let Some(name) = &trunk.tls.client_name {
            row.insert("tls_client_name".into(), name.clone().into());
        }
        row.insert("tls_verify".into(), (!trunk.tls.unverified).into());
        row
    });
    let queues = config.queues.iter().map(|queue| {
        let mut row = Table::new();
        row.insert("name".into(), queue.id.to_string().into());
        let strategy = match queue.strategy {
            Strategy::LongestIdle => "longest_idle",
        };
        row.insert("strategy".into(), strategy.into());
        let agents = queue.agents.iter().map(|agent| Value::from(agent.to_string()));
        row.insert("agents".into(), Value::Array(agents.collect()));
        row.insert("ring_ms_max".into(), millis(queue.ring_ms_max));
        row.insert("record".into(), queue.record.into());
        row.insert("waiting_max".into(), i64::from(queue.waiting_max).into());
        row
    });
    let agents = config.agents.iter().map(|agent| {
        let mut row = Table::new();
        row.insert("id".into(), agent.id.to_string().into());
        row.insert("ha1".into(), agent.ha1.clone().into());
        row
    });
    let numbers = config.numbers.iter().map(|number| {
        let mut row = Table::new();
        row.insert("digits".into(), number.digits.clone().into());
        match &number.target {
            Target::Queue(queue) => row.insert("queue".into(), queue.to_string().into()),
            Target::Echo => row.insert("echo".into(), true.into()),
        };
        row
    });
    let mut tenant = Table::new();
    tenant.insert("name".into(), config.tenant.clone().into());
    tenant.insert("realm".into(), config.realm.clone().into());
    tenant.insert("acw_ms".into(), millis(config.acw_ms));
    tenant.insert("no_answer_ms".into(), millis(config.no_answer_ms));
    tenant.insert("call_ms_max".into(), millis(config.call_ms_max));
    tenant.insert("tls_verify".into(), (!config.tls_unverified).into());
    let mut root = Table::new();
    root.insert("tenant".into(), Value::Table(tenant));
    root.insert("trunk".into(), rows(trunks.collect()));
    root.insert("queue".into(), rows(queues.collect()));
    root.insert("agent".into(), rows(agents.collect()));
    root.insert("number".into(), rows(numbers.collect()));
    root
}

fn millis(millis: u64) -> Value {
    Value::Integer(i64::try_from(millis).unwrap_or(i64::MAX))
}
