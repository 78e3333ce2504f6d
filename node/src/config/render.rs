//! The text of a server's file, as `tandem dev` writes it. Passwords are digests by now.

use tandem_core::config::{Config, Strategy, Target};
use tandem_core::ivr::flow::{Action, Choice, Flow, Gather, StepId};
use tandem_core::trunk::numbers::Rewrite;
use toml::{Table, Value};

use super::{Address, Cluster, Process, Sip, Sounds, Tls};

/// # Errors
/// Never for what these types can hold; the serializer's signature says otherwise.
pub fn server(
    cluster: &Cluster,
    tls: &Tls,
    (sip, address): (Option<&Sip>, Option<&Address>),
    process: &Process,
    tenant: Option<&Config>,
    sounds: &Sounds,
) -> Result<String, toml::ser::Error> {
    let mut root = Table::new();
    root.insert("cluster".into(), Value::try_from(cluster)?);
    root.insert("tls".into(), Value::try_from(tls)?);
    if let Some(sip) = sip {
        root.insert("sip".into(), Value::try_from(sip)?);
    }
    if let Some(address) = address {
        root.insert("address".into(), Value::try_from(address)?);
    }
    root.insert("process".into(), Value::try_from(process)?);
    if let Some(tenant) = tenant {
        root.extend(tables_of(tenant));
    }
    root.extend(folders_of(sounds));
    toml::to_string(&root)
}

/// The tables of a tenant and its prompts, readable again.
pub fn tenant(config: &Config, sounds: &Sounds) -> Result<String, toml::ser::Error> {
    let mut root = tables_of(config);
    root.extend(folders_of(sounds));
    toml::to_string(&root)
}

fn folders_of(sounds: &Sounds) -> impl Iterator<Item = (String, Value)> {
    let folders = [("prompts", &sounds.prompts), ("music", &sounds.music)];
    folders.into_iter().filter_map(|(name, folder)| {
        let folder = folder.as_ref()?.display().to_string();
        Some((
            name.to_owned(),
            Value::Table(Table::from_iter([("folder".to_owned(), folder.into())])),
        ))
    })
}

fn rewrites(row: &mut Table, key: &str, rules: &[Rewrite]) {
    if rules.is_empty() {
        return;
    }
    let rules = rules.iter().map(|rule| (rule.from.clone(), rule.to.clone().into()));
    row.insert(key.into(), Value::Table(rules.collect()));
}

fn tables_of(config: &Config) -> Table {
    let rows = |rows: Vec<Table>| Value::Array(rows.into_iter().map(Value::Table).collect());
    let trunks = config.trunks.iter().map(|trunk| {
        let mut row = Table::new();
        row.insert("name".into(), trunk.id.to_string().into());
        row.insert("channels".into(), i64::from(trunk.channels).into());
        if trunk.shared {
            row.insert("shared".into(), true.into());
        }
        row.insert("guard_ms".into(), millis(trunk.guard_ms));
        let sources = trunk.sources.iter().map(|source| Value::from(source.to_string()));
        row.insert("sources".into(), Value::Array(sources.collect()));
        if let Some(name) = &trunk.tls.client_name {
            row.insert("tls_client_name".into(), name.clone().into());
        }
        row.insert("tls_verify".into(), (!trunk.tls.unverified).into());
        if let Some(out) = &trunk.out {
            let peers = out.peers.iter().map(|peer| Value::from(peer.to_string()));
            row.insert("peers".into(), Value::Array(peers.collect()));
            row.insert("priority".into(), i64::from(out.priority).into());
            row.insert("weight".into(), i64::from(out.weight).into());
            row.insert("calls_per_second".into(), i64::from(out.calls_per_second).into());
            row.insert("reply_ms".into(), millis(out.reply_ms));
            row.insert("no_answer_ms".into(), millis(out.no_answer_ms));
            if let Some(number) = &out.caller_id {
                row.insert("caller_id".into(), number.clone().into());
            }
            row.insert("hide_caller".into(), out.hide_caller.into());
            row.insert("options_s".into(), i64::from(out.options_s).into());
            if let Some(register) = &out.register {
                let of_record = format!("{}@{}", register.user, register.domain);
                row.insert("register".into(), of_record.into());
                row.insert("registrar".into(), register.registrar.to_string().into());
                row.insert("register_s".into(), i64::from(register.expires_s).into());
            }
            if let Some(credentials) = &out.credentials {
                row.insert("auth_user".into(), credentials.user.clone().into());
                row.insert("auth_realm".into(), credentials.realm.clone().into());
                for (key, ha1) in [
                    ("auth_ha1_md5", &credentials.ha1_md5),
                    ("auth_ha1_sha256", &credentials.ha1_sha256),
                ] {
                    if !ha1.is_empty() {
                        row.insert(key.into(), ha1.clone().into());
                    }
                }
            }
            rewrites(&mut row, "called_out", &out.called);
            rewrites(&mut row, "calling_out", &out.calling);
        }
        rewrites(&mut row, "called_in", &trunk.incoming.called);
        rewrites(&mut row, "calling_in", &trunk.incoming.calling);
        if !trunk.codecs.is_empty() {
            let names: Vec<&str> = trunk.codecs.iter().map(|codec| codec.name()).collect();
            row.insert("codecs".into(), names.into());
        }
        row
    });
    let routes = config.routes.iter().map(|route| {
        let mut row = Table::new();
        row.insert("prefix".into(), route.prefix.clone().into());
        let trunks = route.trunks.iter().map(|trunk| Value::from(trunk.to_string()));
        row.insert("trunks".into(), Value::Array(trunks.collect()));
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
        if let Some(list) = &queue.music {
            row.insert("music".into(), list.to_string().into());
        }
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
            Target::Flow(flow) => row.insert("flow".into(), flow.to_string().into()),
        };
        row
    });
    let mut tenant = Table::new();
    tenant.insert("name".into(), config.tenant.clone().into());
    tenant.insert("realm".into(), config.realm.clone().into());
    tenant.insert("acw_ms".into(), millis(config.acw_ms));
    tenant.insert("no_answer_ms".into(), millis(config.no_answer_ms));
    tenant.insert("call_ms_max".into(), millis(config.call_ms_max));
    tenant.insert("session_expires_s".into(), i64::from(config.session_expires_s).into());
    tenant.insert("tls_verify".into(), (!config.tls_unverified).into());
    tenant.insert("srtp".into(), config.srtp.offer.as_str().into());
    tenant.insert("country".into(), config.country.as_str().into());
    let mut root = Table::new();
    root.insert("tenant".into(), Value::Table(tenant));
    root.insert("trunk".into(), rows(trunks.collect()));
    if !config.routes.is_empty() {
        root.insert("route".into(), rows(routes.collect()));
    }
    root.insert("queue".into(), rows(queues.collect()));
    root.insert("agent".into(), rows(agents.collect()));
    root.insert("number".into(), rows(numbers.collect()));
    if !config.flows.is_empty() {
        root.insert("flow".into(), rows(config.flows.iter().map(|flow| flow_of(flow)).collect()));
    }
    root
}

fn flow_of(flow: &Flow) -> Table {
    let steps = flow.steps.iter().map(|step| {
        let mut row = step_of(flow, &step.action);
        row.insert("name".into(), step.name.to_string().into());
        Value::Table(row)
    });
    let mut table = Table::new();
    table.insert("name".into(), flow.name.to_string().into());
    table.insert("step".into(), Value::Array(steps.collect()));
    table
}

fn step_of(flow: &Flow, action: &Action) -> Table {
    let to = |step: &StepId| Value::from(flow.step_name(*step));
    let choices = |choices: &[Choice]| {
        let choices = choices.iter().map(|choice| (choice.digits.clone(), to(&choice.step)));
        Value::Table(choices.collect())
    };
    let rows: Vec<(&str, Value)> = match action {
        Action::Play { prompt, next } => {
            vec![("do", "play".into()), ("prompt", prompt.to_string().into()), ("next", to(next))]
        }
        Action::Menu { gather, choices: offered } => {
            let menu = vec![("do", "menu".into()), ("choices", choices(offered))];
            [menu, gather_of(flow, gather)].concat()
        }
        Action::Collect { gather, digits_min, next } => {
            let digits_min = i64::from(*digits_min).into();
            let collect =
                vec![("do", "collect".into()), ("digits_min", digits_min), ("next", to(next))];
            [collect, gather_of(flow, gather)].concat()
        }
        Action::Branch { cases, otherwise } => {
            vec![("do", "branch".into()), ("cases", choices(cases)), ("otherwise", to(otherwise))]
        }
        Action::Queue { queue, full } => {
            vec![("do", "queue".into()), ("queue", queue.to_string().into()), ("full", to(full))]
        }
        Action::Extension { agent, failed } => vec![
            ("do", "extension".into()),
            ("extension", agent.to_string().into()),
            ("failed", to(failed)),
        ],
        Action::HangUp => vec![("do", "hang_up".into())],
    };
    rows.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn gather_of(flow: &Flow, gather: &Gather) -> Vec<(&'static str, Value)> {
    let to = |step: StepId| Value::from(flow.step_name(step));
    let prompt = gather.prompt.as_ref().map(|prompt| ("prompt", prompt.to_string().into()));
    let terminator = gather.terminator.map(|key| ("terminator", key.to_string().into()));
    let rows = vec![
        ("barge_in", gather.barge_in.into()),
        ("digits_max", i64::from(gather.digits_max).into()),
        ("first_digit_ms", millis(gather.first_digit_ms)),
        ("inter_digit_ms", millis(gather.inter_digit_ms)),
        ("tries_max", i64::from(gather.tries_max).into()),
        ("no_input", to(gather.no_input)),
        ("no_match", to(gather.no_match)),
    ];
    prompt.into_iter().chain(terminator).chain(rows).collect()
}

fn millis(millis: u64) -> Value {
    Value::Integer(i64::try_from(millis).unwrap_or(i64::MAX))
}
