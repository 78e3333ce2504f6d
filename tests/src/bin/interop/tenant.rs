//! The house of all peers: each has agents, a queue and colleagues of its own, so that they can be
//! tried at the same time.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The third octet of the cluster's addresses.
pub const BLOCK: u8 = 180;
/// Where Asterisk lives, so that a trunk can be told by its address.
pub const ASTERISK: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, BLOCK, 60)), 28_060);

pub const ECHO: &str = "4003";
/// A flow that asks for [`KEYS`] and `#`, and goes to the step `right` with them.
pub const FLOW: &str = "4000";
pub const KEYS: &str = "1470";
/// Asterisk as a carrier knows us by it, and calls us under it.
pub const ACCOUNT: &str = "4930100";
pub const ACCOUNT_PASSWORD: &str = "hush";

/// The phones of baresip and those whom they call, one a transport.
pub const PHONES: [(&str, &str); 3] = [("1001", "1011"), ("1002", "1012"), ("1003", "1013")];
/// Asterisk's phones, and one of ours to which it transfers.
pub const FARM: std::ops::RangeInclusive<u16> = 1005..=1008;
pub const FARM_COLLEAGUE: &str = "1018";
/// The agent of the queue that Asterisk calls as a carrier.
pub const TRUNK_AGENT: &str = "1021";

/// The number of the queue of one agent.
pub fn queue_of(agent: &str) -> String {
    format!("5{}", &agent[1..])
}

pub fn config() -> String {
    let mut text = format!(
        r##"
[tenant]
name = "demo"
realm = "demo.tandem"
srtp = "required"

[[trunk]]
name = "asterisk"
channels = 30
sources = ["{ip}"]
peers = ["{ASTERISK}"]
options_s = 5
register = "{ACCOUNT}@carrier.example"
register_s = 60
auth_user = "{ACCOUNT}"
auth_realm = "asterisk"
auth_password = "{ACCOUNT_PASSWORD}"
caller_id = "{ACCOUNT}"

[[trunk]]
name = "in"
channels = 30

[[route]]
prefix = "00"
trunks = ["asterisk"]

[[number]]
digits = "{ECHO}"
echo = true

[[number]]
digits = "{ACCOUNT}"
queue = "q{TRUNK_AGENT}"

[[number]]
digits = "{FLOW}"
flow = "keys"

[[flow]]
name = "keys"

[[flow.step]]
name = "ask"
do = "collect"
prompt = "menu"
digits_min = 1
digits_max = 8
terminator = "#"
inter_digit_ms = 10000
first_digit_ms = 20000
no_input = "wrong"
no_match = "wrong"
next = "compare"

[[flow.step]]
name = "compare"
do = "branch"
cases = {{ {KEYS} = "right" }}
otherwise = "wrong"

[[flow.step]]
name = "right"
do = "play"
prompt = "notice"
next = "wrong"

[[flow.step]]
name = "wrong"
do = "hang_up"
"##,
        ip = ASTERISK.ip()
    );
    let farm = FARM.map(|agent| agent.to_string());
    let phones = PHONES.iter().flat_map(|(phone, colleague)| [*phone, *colleague]);
    let ours = phones.chain([FARM_COLLEAGUE, TRUNK_AGENT]).map(str::to_owned);
    for agent in farm.chain(ours) {
        text += &format!("[[agent]]\nid = \"{agent}\"\npassword = \"tandem-{agent}\"\n");
    }
    for agent in PHONES.iter().map(|(phone, _)| *phone).chain([TRUNK_AGENT]) {
        text += &format!(
            "[[queue]]\nname = \"q{agent}\"\nagents = [\"{agent}\"]\n\
             [[number]]\ndigits = \"{}\"\nqueue = \"q{agent}\"\n",
            queue_of(agent)
        );
    }
    text
}
