//! Asterisk's files: its phones, itself as a carrier, its dialplan.

use std::net::SocketAddr;

use super::process::FOLDER;
use super::trunk::{OUTWARD, OUTWARD_KEYS};
use super::{TONE_HZ, ari};
use crate::tenant::{ACCOUNT, ACCOUNT_PASSWORD, ASTERISK, FARM, FARM_COLLEAGUE, KEYS};

/// The endpoint of its phones: whoever calls from the service address.
pub const PHONES: &str = "phones";
/// The endpoints that call us as a carrier does.
pub const TRUNK: &str = "trunk";
pub const TRUNK_TCP: &str = "trunk-tcp";

/// By name. Its calls end by themselves after `wait_s`.
pub fn files(server: SocketAddr, wait_s: u64) -> Vec<(&'static str, String)> {
    let folder = format!("/{FOLDER}");
    let asterisk = format!(
        "[directories]\nastetcdir => {folder}\nastmoddir => /usr/lib/asterisk/modules\nastvarlibdir => /var/lib/asterisk\n\
         astdatadir => /usr/share/asterisk\nastdbdir => {folder}\nastspooldir => {folder}\nastrundir => {folder}\nastlogdir => {folder}\n\
         [options]\n"
    );
    let modules = ["chan_sip", "chan_skinny", "chan_mgcp", "chan_unistim", "chan_iax2"];
    let modules = modules.iter().chain(&["pbx_dundi", "res_hep"]);
    let modules: String = modules.map(|name| format!("noload => {name}.so\n")).collect();
    vec![
        ("asterisk.conf", asterisk),
        ("modules.conf", format!("[modules]\nautoload=yes\n{modules}")),
        ("logger.conf", "[general]\n[logfiles]\nmessages => notice,warning,error\n".into()),
        ("rtp.conf", "[general]\nrtpstart=28100\nrtpend=28199\n".into()),
        ("http.conf", ari::http_conf()),
        ("ari.conf", ari::ari_conf()),
        ("extensions.conf", dialplan(server, wait_s)),
        ("pjsip.conf", pjsip(server)),
    ]
}

fn pjsip(server: SocketAddr) -> String {
    let ip = ASTERISK.ip();
    // A carrier's customer is known by the account of its From, all others by their address.
    let mut text = format!(
        "[global]\ntype=global\nendpoint_identifier_order=username,ip\n\
         [udp]\ntype=transport\nprotocol=udp\nbind={ASTERISK}\n\
         [tcp]\ntype=transport\nprotocol=tcp\nbind={ASTERISK}\n"
    );
    let mut endpoint = |name: &str, transport: &str, context: &str, more: &str| {
        text.push_str(&format!(
            "[{name}]\ntype=endpoint\ntransport={transport}\ncontext={context}\ndisallow=all\nallow=alaw,ulaw\n\
             aors={name}\ndirect_media=no\ndtmf_mode=rfc4733\nmedia_address={ip}\nbind_rtp_to_media_address=yes\n\
             moh_passthrough=yes\n{more}"
        ));
    };
    endpoint(PHONES, "udp", "phones", "");
    endpoint(TRUNK, "udp", "nobody", "");
    endpoint(TRUNK_TCP, "tcp", "nobody", "");
    endpoint(ACCOUNT, "udp", "customer", "auth=customer\n");
    text.push_str(&format!(
        "[{PHONES}]\ntype=aor\n[{PHONES}]\ntype=identify\nendpoint={PHONES}\nmatch={}\n\
         [{TRUNK}]\ntype=aor\ncontact=sip:{server}\n\
         [{TRUNK_TCP}]\ntype=aor\ncontact=sip:{server}\\;transport=tcp\n\
         [{ACCOUNT}]\ntype=aor\nmax_contacts=2\nremove_existing=yes\n\
         [customer]\ntype=auth\nauth_type=userpass\nusername={ACCOUNT}\npassword={ACCOUNT_PASSWORD}\n",
        server.ip()
    ));
    for agent in FARM {
        text.push_str(&format!(
            "[agent{agent}]\ntype=registration\ntransport=udp\nserver_uri=sip:{server}\nclient_uri=sip:{agent}@{server}\n\
             contact_user={agent}\noutbound_auth=agent{agent}\nexpiration=300\nretry_interval=5\n\
             [agent{agent}]\ntype=auth\nauth_type=userpass\nusername={agent}\npassword=tandem-{agent}\n"
        ));
    }
    text
}

fn dialplan(server: SocketAddr, wait_s: u64) -> String {
    let hears =
        |name: &str| format!("MixMonitor(/{FOLDER}/both-{name}.wav,r(/{FOLDER}/heard-{name}.wav))");
    let tone = format!("PlayTones({TONE_HZ})");
    let wait = format!("Wait({wait_s})");
    let plays = |first: &[&str]| -> Vec<String> {
        let rest = [tone.as_str(), &wait, "Hangup()"];
        first.iter().chain(&rest).map(|step| (*step).to_owned()).collect()
    };
    let held = [tone.clone(), format!("Stasis({})", ari::APP), "Hangup()".into()];
    let away = [
        format!("Transfer(PJSIP/sip:{FARM_COLLEAGUE}@{server})"),
        "Set(GLOBAL(TRANSFERRED)=${TRANSFERSTATUS})".into(),
        wait.clone(),
        "Hangup()".into(),
    ];
    let reads = ["Answer()", "Read(PRESSED,,4,,1,15)", "Set(GLOBAL(PRESSED)=${PRESSED})"];
    let keys = format!("SendDTMF({KEYS}#)");
    [
        "[phones]\n".into(),
        extension("_100X", &plays(&["Answer()", &hears("${EXTEN}")])),
        extension("held", &held),
        extension("away", &away),
        "[customer]\n".into(),
        extension(OUTWARD, &plays(&["Answer()", &hears("outward")])),
        extension(OUTWARD_KEYS, &plays(&reads)),
        "[nobody]\n[calls]\n".into(),
        extension("queue", &plays(&[&hears("queue")])),
        extension("echo", &plays(&[&hears("echo")])),
        extension("echo-tcp", &plays(&[&hears("echo-tcp")])),
        extension("flow", &plays(&[])),
        extension("keys", &plays(&[&keys])),
    ]
    .concat()
}

/// A number of the dialplan, and what is done there.
fn extension(number: &str, steps: &[String]) -> String {
    let mut text = format!("exten => {number},1,NoOp()\n");
    for step in steps {
        text += &format!("same => n,{step}\n");
    }
    text
}
