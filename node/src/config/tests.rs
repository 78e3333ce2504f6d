use tandem_core::config::Target;

use super::parse;

/// A tenant without a mistake.
const TENANT: &str = r#"
[tenant]
name = "acme"
realm = "acme.example"
acw_ms = 3000

[[trunk]]
name = "carrier"
channels = 30

[[queue]]
name = "support"
agents = ["2001"]
record = true

[[agent]]
id = "2001"
password = "secret"

[[number]]
digits = "5000"
queue = "support"
"#;

/// The mistakes of a text, a line each.
fn mistakes(text: &str) -> Vec<String> {
    parse(text).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn config_is_read_when_tenant_is_right() {
    let config = parse(TENANT).unwrap().tenant.unwrap();
    assert_eq!(config.acw_ms, 3_000);
    assert_eq!(config.queues[0].ring_ms_max, 20_000);
    assert_eq!(config.numbers[0].target, Target::Queue("support".into()));
    // md5("2001:acme.example:secret")
    assert_eq!(config.agents[0].ha1, tandem_sip::digest::ha1("2001", "acme.example", "secret"));
    assert!(!format!("{:?}", config.agents[0].ha1).contains("secret"));
}

#[test]
fn config_is_demo_when_file_is_empty() {
    assert_eq!(parse("").unwrap().tenant, None);
}

#[test]
fn config_names_line_when_key_is_unknown() {
    let text = format!("{TENANT}\n[dev]\nport_ofset = 2\n");
    assert_eq!(
        mistakes(&text),
        [
            "25: dev.port_ofset: is not a key of this table; expected one of: address_base, port_offset"
        ]
    );
}

#[test]
fn config_tells_all_mistakes_when_there_are_many() {
    let text = TENANT
        .replace("channels = 30", "channels = \"30\"")
        .replace("agents = [\"2001\"]", "agents = [\"2002\"]")
        .replace("queue = \"support\"", "queue = \"sales\"")
        .replace("acw_ms = 3000", "acw_ms = -1");
    assert_eq!(
        mistakes(&text),
        [
            "5: tenant.acw_ms: is -1; expected milliseconds: an integer from 0 to 86400000",
            "9: trunk.channels: is a string; expected an integer from 1 to 10000",
            "13: queue.agents: names \"2002\", who is not there; expected the id of an [[agent]]",
            "22: number.queue: names \"sales\", which is not there; expected the name of a [[queue]]",
        ]
    );
}

#[test]
fn config_names_line_when_syntax_is_wrong() {
    let found = mistakes("[dev]\nport_offset = = 2\n");
    assert!(found[0].starts_with("2: "), "{found:?}");
}

#[test]
fn config_hides_what_stands_there_when_ha1_is_wrong() {
    let text = TENANT.replace("password = \"secret\"", "ha1 = \"secret\"");
    let found = mistakes(&text).join("\n");
    assert!(found.starts_with("18: agent.ha1: is not a digest"), "{found}");
    assert!(!found.contains("secret"), "{found}");
}

#[test]
fn config_refuses_name_when_it_is_taken() {
    let text = format!("{TENANT}\n[[number]]\ndigits = \"2001\"\necho = true\n");
    assert_eq!(
        mistakes(&text),
        ["25: number.digits: is \"2001\", which is taken; expected a name that no other has"]
    );
}

#[test]
fn config_refuses_address_base_when_it_is_no_loopback_block() {
    let found = mistakes("[dev]\naddress_base = \"10.0.0.0\"\n");
    assert!(found[0].starts_with("2: dev.address_base: is \"10.0.0.0\""), "{found:?}");
}
