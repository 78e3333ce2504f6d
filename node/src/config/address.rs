//! `[address]`: how the address of a line comes to the host of the gateway that serves it.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::Serialize;
use tandem_gateway::{Hook, Way};

use super::Cluster;
use super::reader::Reader;

/// As the kernel has it (`IFNAMSIZ`, without the zero at its end).
const INTERFACE_BYTES_MAX: usize = 15;
const AN_INTERFACE: &str = "the name of a network interface, for instance \"eth0\"";
const A_HOOK: &str =
    "a command by its whole path and its arguments, for instance [\"/usr/local/bin/move-address\"]";
const A_PREFIX: &str = "the length of a prefix: 1 to 32 for IPv4, to 128 for IPv6";

/// One of both; without the table addresses are there, or moved by somebody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Address {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<u8>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hook: Vec<String>,
}

impl From<&Address> for Way {
    fn from(address: &Address) -> Self {
        match (&address.interface, address.hook.split_first()) {
            (Some(name), _) => Self::Interface { name: name.clone(), prefix: address.prefix },
            (None, Some((command, arguments))) => {
                Self::Hook(Hook { command: PathBuf::from(command), arguments: arguments.to_vec() })
            }
            (None, None) => Self::AsIs,
        }
    }
}

pub fn read(root: &Reader<'_, '_>, cluster: Option<&Cluster>) -> Option<Address> {
    let reader = root.table("address")?;
    let interface = reader.string("interface", AN_INTERFACE);
    if let Some(name) = &interface
        && (name.value.is_empty()
            || name.value.len() > INTERFACE_BYTES_MAX
            || name.value.contains(|it: char| it == '/' || it.is_whitespace()))
    {
        reader.mistake("interface", name.at.clone(), format!("is {:?}", name.value), AN_INTERFACE);
    }
    let prefix = reader.integer("prefix", 1..=128, A_PREFIX).and_then(|it| u8::try_from(it).ok());
    let hook = reader.strings("hook", A_HOOK);
    if let Some(hook) = &hook {
        match hook.first() {
            None => reader.mistake("hook", reader.at(), "names no command", A_HOOK),
            Some(command) if !command.value.starts_with('/') => {
                let is = format!("begins with {:?}", command.value);
                reader.mistake("hook", command.at.clone(), is, A_HOOK);
            }
            Some(_) => {}
        }
    }
    match (&interface, &hook) {
        (Some(_), Some(_)) => {
            let expected = "either the interface, or who else moves the address";
            reader.mistake("hook", reader.at(), "stands beside interface", expected);
        }
        (None, None) if !reader.has("interface") && !reader.has("hook") => {
            reader.mistake("interface", reader.at(), "is missing", "it, or hook");
        }
        _ => {}
    }
    if let Some(prefix) = prefix {
        let gateways = cluster.map_or(&[][..], |cluster| &cluster.gateways);
        let too_short = gateways.iter().map(|it| it.vip.ip()).find(|ip| prefix > bits(*ip));
        if let Some(address) = too_short {
            let problem = format!("is {prefix}, and {address} has {} bits", bits(address));
            reader.mistake("prefix", reader.at(), problem, A_PREFIX);
        }
        if hook.is_some() {
            let expected = "interface; a hook knows its own";
            reader.mistake("prefix", reader.at(), "stands there without interface", expected);
        }
    }
    reader.finish();
    let hook = hook.unwrap_or_default().into_iter().map(|it| it.value).collect();
    Some(Address { interface: interface.map(|it| it.value), prefix, hook })
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}
