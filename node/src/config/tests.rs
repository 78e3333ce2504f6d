use tandem_core::config::Target;
use tandem_core::trunk::outward::Credentials;
use tandem_sip::sdp::Codec;

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

/// A tenant with a flow, whose step names stand at known lines.
fn with_flow(step: &str) -> String {
    format!(
        "{TENANT}\n[[number]]\ndigits = \"4000\"\nflow = \"main\"\n\n[[flow]]\nname = \"main\"\n\n\
         [[flow.step]]\nname = \"ask\"\n{step}\n[[flow.step]]\nname = \"end\"\ndo = \"hang_up\"\n"
    )
}

const MENU: &str = "do = \"menu\"\nprompt = \"menu\"\nchoices = { 1 = \"end\" }\n\
                    no_input = \"end\"\nno_match = \"end\"";

#[test]
fn config_reads_a_flow_and_writes_it_so_that_it_is_read_again() {
    let menu = format!("{MENU}\nterminator = \"#\"\ndigits_max = 4\nbarge_in = false");
    let config = parse(&with_flow(&menu)).unwrap().tenant.unwrap();
    assert_eq!(config.numbers[1].target, Target::Flow("main".into()));
    let steps = &config.flows[0].steps;
    assert_eq!((&*steps[0].name, &*steps[1].name), ("ask", "end"));
    let demo = tandem_core::demo::demo_config();
    for config in [config, demo] {
        let text = super::render::tenant(&config, &super::Sounds::default()).unwrap();
        let read = parse(&text).unwrap().tenant.unwrap();
        assert_eq!(read, tandem_core::config::Config { version: 0, ..config });
    }
}

#[test]
fn config_reads_an_announcement_as_a_flow_of_its_own() {
    let text = format!("{TENANT}\n[[number]]\ndigits = \"4004\"\nannouncement = \"notice\"\n");
    let config = parse(&text).unwrap().tenant.unwrap();
    assert_eq!(config.numbers[1].target, Target::Flow("announcement-notice".into()));
    assert_eq!(config.flows[0].problems(), []);
    let found = mistakes(&text.replace("\"notice\"", "\"no_such\""));
    assert!(found[0].starts_with("26: number.announcement: names \"no_such\""), "{found:?}");
}

#[test]
fn config_refuses_what_a_flow_names_and_nobody_knows() {
    let found = mistakes(&with_flow(&MENU.replace("\"menu\"\nchoices", "\"absent\"\nchoices")));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("34: flow.step.prompt: names \"absent\""), "{found:?}");
    let found = mistakes(&with_flow(&MENU.replace("1 = \"end\"", "1 = \"nowhere\"")));
    assert!(found[0].contains("flow.step.choices: names \"nowhere\""), "{found:?}");
    let queue = "do = \"queue\"\nqueue = \"sales\"\nfull = \"end\"";
    assert!(mistakes(&with_flow(queue))[0].contains("flow.step.queue: names \"sales\""));
    let flow = with_flow(MENU).replace("flow = \"main\"", "flow = \"other\"");
    assert!(mistakes(&flow)[0].contains("number.flow: names \"other\""));
    let twice = with_flow(MENU).replace("name = \"end\"", "name = \"ask\"");
    assert!(mistakes(&twice).iter().any(|mistake| mistake.contains("which is taken")));
}

#[test]
fn config_refuses_a_flow_that_goes_round_without_a_key() {
    let silent = MENU.replace("no_input = \"end\"", "no_input = \"ask\"");
    let found = mistakes(&with_flow(&silent));
    let expected = "31: flow.step: \"ask\" goes round without a key of the caller: ask → ask";
    assert_eq!(found, [expected]);
    let slow = format!("{MENU}\ninter_digit_ms = 10001");
    assert!(mistakes(&with_flow(&slow))[0].contains("inter_digit_ms: is 10001"));
}

#[test]
fn config_takes_prompts_of_a_folder_and_refuses_one_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("hello.wav"), "its format is the gateway's concern").unwrap();
    let step = MENU.replace("prompt = \"menu\"", "prompt = \"hello\"");
    let folder = |path: &std::path::Path| format!("[prompts]\nfolder = {:?}\n", path);
    let text = format!("{}{}", folder(dir.path()), with_flow(&step));
    assert_eq!(parse(&text).unwrap().sounds.prompts.as_deref(), Some(dir.path()));
    let text = format!("{}{}", folder(&dir.path().join("absent")), with_flow(MENU));
    assert!(mistakes(&text)[0].starts_with("2: prompts.folder: is no use"));
}

#[test]
fn queue_names_a_list_of_music_that_is_a_folder_in_that_of_the_music() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("brand")).unwrap();
    let queue = |list: &str| {
        format!(
            "[music]\nfolder = {:?}\n{TENANT}[[queue]]\nname = \"vip\"\nagents = []\nmusic = {list:?}\n",
            dir.path()
        )
    };
    let file = parse(&queue("brand")).unwrap();
    assert_eq!(file.sounds.music.as_deref(), Some(dir.path()));
    let queues = file.tenant.unwrap().queues;
    let lists: Vec<_> =
        queues.iter().map(|queue| queue.music.as_ref().map(|list| &*list.0)).collect();
    assert_eq!(lists, [None, Some("brand")]);
    let found = mistakes(&queue("jazz"));
    assert!(found[0].contains("queue.music: names \"jazz\", which is not there"), "{found:?}");
    let without = mistakes(&queue("brand").replace("[music]", "[prompts]"));
    assert!(without[0].contains("queue.music: names \"brand\""), "{without:?}");
}

#[test]
fn tones_are_of_the_country_that_the_file_says_else_of_china() {
    use tandem_core::config::Country;
    let with = |line: &str| TENANT.replace("acw_ms = 3000", line);
    let country = |line: &str| parse(&with(line)).unwrap().tenant.unwrap().country;
    assert_eq!(country(""), Country::Cn);
    for known in Country::ALL {
        assert_eq!(country(&format!("country = \"{}\"", known.as_str())), known);
    }
    assert_eq!(
        mistakes(&with("country = \"uk\"")),
        ["5: tenant.country: is \"uk\"; expected \"cn\", \"de\", \"fr\", \"gb\", \"jp\" or \"us\""]
    );
}

#[test]
fn srtp_is_offered_as_the_file_says_and_never_by_itself() {
    use tandem_core::config::OfferSrtp;
    let with = |line: &str| TENANT.replace("acw_ms = 3000", line);
    let offer = |line: &str| parse(&with(line)).unwrap().tenant.unwrap().srtp.offer;
    assert_eq!(offer(""), OfferSrtp::Never);
    assert_eq!(offer("srtp = \"welcome\""), OfferSrtp::Welcome);
    assert_eq!(offer("srtp = \"required\""), OfferSrtp::Required);
    assert_eq!(
        mistakes(&with("srtp = \"always\"")),
        ["5: tenant.srtp: is \"always\"; expected \"never\", \"welcome\" or \"required\""]
    );
}

/// The tenant's trunk with a part outward.
fn with_peers(more: &str, route: &str) -> String {
    let trunk = format!("channels = 30\npeers = [\"192.0.2.7:5060\"]\n{more}");
    format!("{}\n[[route]]\n{route}\n", TENANT.replace("channels = 30", &trunk))
}

#[test]
fn config_reads_trunk_outward_and_writes_it_as_it_was() {
    let more = "priority = 2\nweight = 5\ncalls_per_second = 20\ncaller_id = \"+4930100\"\n\
                options_s = 30\nregister = \"4930100@carrier.example\"\nhide_caller = true\ncalled_out = { \"00\" = \"+\", \"0\" = \"+49\" }\n\
                calling_out = { \"1\" = \"+49301\" }\ncalled_in = { \"+4930\" = \"\" }\n\
                calling_in = { \"+\" = \"00\" }\nauth_user = \"us\"\nauth_realm = \"carrier\"\n\
                auth_password = \"hush\"\ncodecs = [\"PCMA\", \"opus\"]";
    let config = parse(&with_peers(more, "prefix = \"00\"\ntrunks = [\"carrier\"]")).unwrap();
    let tenant = config.tenant.unwrap();
    let out = tenant.trunks[0].out.as_ref().unwrap();
    assert_eq!((out.priority, out.weight, out.calls_per_second), (2, 5, 20));
    assert_eq!((out.reply_ms, out.no_answer_ms, out.options_s), (4_000, 60_000, 30));
    let register = out.register.as_ref().unwrap();
    assert_eq!((register.registrar, register.expires_s), (out.peers[0], 3_600));
    assert_eq!(register.address_of_record().to_string(), "sip:4930100@carrier.example");
    assert_eq!((out.hide_caller, out.called.len(), out.calling.len()), (true, 2, 1));
    assert_eq!(out.credentials, Some(Credentials::new("us", "carrier", "hush")));
    assert_eq!(tenant.trunks[0].codecs, [Codec::Pcma, Codec::Opus]);
    let incoming = &tenant.trunks[0].incoming;
    assert_eq!((incoming.called[0].from.as_str(), incoming.called[0].to.as_str()), ("+4930", ""));
    assert_eq!((tenant.routes[0].prefix.as_str(), tenant.routes[0].trunks.len()), ("00", 1));
    let text = super::render::tenant(&tenant, &super::Sounds::default()).unwrap();
    assert!(!text.contains("hush"), "{text}");
    let again = parse(&text).unwrap().tenant.unwrap();
    assert_eq!((again.trunks, again.routes), (tenant.trunks, tenant.routes));
}

#[test]
fn config_explains_what_is_wrong_with_peers_and_routes() {
    let cases = [
        ("", "prefix = \"00\"\ntrunks = [\"other\"]", "names \"other\", which is not there"),
        ("", "prefix = \"0x\"\ntrunks = [\"carrier\"]", "is \"0x\"; expected digits"),
        ("", "prefix = \"00\"\ntrunks = []", "has 0 of them"),
        ("", "prefix = \"00\"", "route.trunks: is missing"),
        (
            "",
            "prefix = \"0\"\ntrunks = [\"carrier\"]\n[[route]]\nprefix = \"0\"\n\
             trunks = [\"carrier\"]",
            "which has a route",
        ),
        ("caller_id = \"bob\"", "prefix = \"0\"\ntrunks = [\"carrier\"]", "is \"bob\""),
        ("called_out = { \"x\" = \"+\" }", "prefix = \"0\"\ntrunks = [\"carrier\"]", "has \"x\""),
        ("calling_in = { \"0\" = \"a\" }", "prefix = \"0\"\ntrunks = [\"carrier\"]", "has \"a\""),
        (
            "auth_password = \"hush\"",
            "prefix = \"0\"\ntrunks = [\"carrier\"]",
            "auth_user: is missing",
        ),
        (
            "auth_user = \"us\"\nauth_realm = \"r\"",
            "prefix = \"0\"\ntrunks = [\"carrier\"]",
            "auth_password: is missing",
        ),
        (
            "auth_user = \"us\"\nauth_realm = \"r\"\nauth_ha1_md5 = \"hush\"",
            "prefix = \"0\"\ntrunks = [\"carrier\"]",
            "auth_ha1_md5: is not a digest",
        ),
        ("codecs = [\"G711\"]", "prefix = \"0\"\ntrunks = [\"carrier\"]", "names \"G711\""),
        ("codecs = []", "prefix = \"0\"\ntrunks = [\"carrier\"]", "names none"),
        (
            "codecs = [\"PCMA\", \"PCMA\"]",
            "prefix = \"0\"\ntrunks = [\"carrier\"]",
            "names \"PCMA\" twice",
        ),
        ("reply_ms = 1", "prefix = \"0\"\ntrunks = [\"carrier\"]", "from 500 to 32000"),
    ];
    for (more, route, expected) in cases {
        let found = mistakes(&with_peers(more, route)).join("\n");
        assert!(found.contains(expected), "{expected:?} is not in {found:?}");
    }
    for peer in ["sbc.example.net:5060", "192.0.2.7", "192.0.2.7:5060;transport=sctp"] {
        let trunk = format!("channels = 30\npeers = [\"{peer}\"]");
        let found = mistakes(&TENANT.replace("channels = 30", &trunk)).join("\n");
        assert!(found.contains(peer) && found.contains("IP addresses with ports"), "{found}");
    }
    let found = mistakes(&TENANT.replace("channels = 30", "channels = 30\nweight = 1")).join("\n");
    assert!(found.contains("stands there without peers"), "{found}");
    let route = "\n[[route]]\nprefix = \"00\"\ntrunks = [\"carrier\"]\n";
    let found = mistakes(&format!("{TENANT}{route}")).join("\n");
    assert!(found.contains("which has no peers"), "{found}");
}

#[test]
fn websockets_are_served_where_the_file_says_so_and_with_tls_where_there_is_a_certificate() {
    let tls = "[sip.tls]\ncertificate = \"a.pem\"\nkey = \"a.key\"\n";
    let read = |text: &str| parse(text).unwrap().sip.unwrap_or_default().websocket;
    assert_eq!(read(""), None);
    assert_eq!(read(tls), None);
    let plain = read("[sip.websocket]\nws = true\norigins = [\"https://desk.example\"]\n").unwrap();
    assert_eq!((plain.ws, plain.wss), (true, false));
    assert_eq!(plain.origins, ["https://desk.example"]);
    let secure = read(&format!("{tls}[sip.websocket]\n")).unwrap();
    assert_eq!((secure.ws, secure.wss), (false, true));
    let wrong =
        "[sip.websocket]\nwss = true\norigins = [\"desk.example\", \"https://a.example/\"]\n";
    assert_eq!(
        mistakes(wrong),
        [
            "1: sip.websocket.wss: has no certificate; expected a table [sip.tls]",
            "3: sip.websocket.origins: has \"desk.example\"; expected origins, for instance [\"https://desk.example.net\"]",
            "3: sip.websocket.origins: has \"https://a.example/\"; expected origins, for instance [\"https://desk.example.net\"]",
        ]
    );
}

#[test]
fn address_of_a_line_comes_by_an_interface_or_a_hook_as_the_file_says() {
    use tandem_gateway::{Hook, Way};
    let read = |text: &str| parse(text).unwrap().address;
    let way = |text: &str| read(text).as_ref().map(Way::from);
    assert_eq!(way(""), None);
    let eth0 = |prefix| Some(Way::Interface { name: "eth0".into(), prefix });
    assert_eq!(way("[address]\ninterface = \"eth0\"\n"), eth0(None));
    let with_prefix = "[address]\ninterface = \"eth0\"\nprefix = 24\n";
    assert_eq!(way(with_prefix), eth0(Some(24)));
    let hook = Hook { command: "/bin/move".into(), arguments: vec!["fast".into()] };
    let text = "[address]\nhook = [\"/bin/move\", \"fast\"]\n";
    assert_eq!(way(text), Some(Way::Hook(hook)));
    // As `tandem dev` writes it.
    for text in [with_prefix, text] {
        let address = read(text);
        let mut root = toml::Table::new();
        root.insert("address".into(), toml::Value::try_from(&address).unwrap());
        assert_eq!(read(&toml::to_string(&root).unwrap()), address);
    }
}

#[test]
fn config_explains_what_is_wrong_with_an_address() {
    let cases = [
        ("", "1: address.interface: is missing; expected it, or hook"),
        ("interface = \"no such/name\"", "2: address.interface: is \"no such/name\""),
        ("interface = \"an-interface-too-long\"", "2: address.interface: is \"an-int"),
        ("interface = \"eth0\"\nprefix = 0", "3: address.prefix: is 0; expected the length"),
        ("interface = \"eth0\"\nprefix = 64", "is 64, and 10.0.0.1 has 32 bits"),
        ("interface = \"eth0\"\nhook = [\"/bin/move\"]", "address.hook: stands beside interface"),
        ("hook = []", "address.hook: names no command"),
        ("hook = [\"move\"]", "2: address.hook: begins with \"move\"; expected a command by"),
        ("hook = \"/bin/move\"", "2: address.hook: is a string"),
        ("hook = [\"/bin/move\"]\nprefix = 32", "address.prefix: stands there without interface"),
        ("interface = \"eth0\"\nmask = 1", "address.mask: is not a key of this table"),
    ];
    let cluster = "[cluster]\nid = \"0123456789abcdef0123456789abcdef\"\n[[cluster.member]]\n\
                   name = \"a\"\nbox = \"a\"\nrole = \"witness\"\nraft = \"10.0.0.9:1\"\n\
                   http = \"10.0.0.9:2\"\n[[cluster.gateway]]\nname = \"g\"\nbox = \"a\"\n\
                   vip = \"10.0.0.1:5060\"\napi = \"10.0.0.9:3\"\n";
    for (text, expected) in cases {
        let found = mistakes(&format!("[address]\n{text}\n{cluster}"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(expected), "{expected:?} is not in {found:?}");
    }
}

#[test]
fn cluster_with_a_name_or_an_address_twice_is_a_mistake() {
    let member = |name: &str, port: u16| {
        format!(
            "[[cluster.member]]\nname = \"{name}\"\nbox = \"a\"\nrole = \"node\"\n\
             raft = \"127.0.0.1:{port}\"\nlink = \"127.0.0.1:{}\"\nhttp = \"127.0.0.1:{}\"\n",
            port + 1,
            port + 2
        )
    };
    let cluster = "[cluster]\nid = \"0123456789abcdef0123456789abcdef\"\n";
    let right = format!("{cluster}{}{}", member("node-a", 7_100), member("node-b", 7_200));
    assert_eq!(parse(&right).unwrap().cluster.unwrap().shards, 1, "of an earlier version");
    let names = format!("{cluster}{}{}", member("node-a", 7_100), member("node-a", 7_200));
    assert!(mistakes(&names)[0].contains("\"node-a\" names two processes"), "{names}");
    let addresses = format!("{cluster}{}{}", member("node-a", 7_100), member("node-b", 7_101));
    assert!(mistakes(&addresses)[0].contains("127.0.0.1:7101 is given twice"), "{addresses}");
}
