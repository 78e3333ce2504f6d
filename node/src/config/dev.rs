//! `[dev]`: how `tandem dev` lays a cluster out on one machine.

use std::net::Ipv4Addr;

use super::reader::Reader;

const PORT_OFFSET_MAX: u64 = 20_000;

/// Where a cluster lives on this machine, so that several can live side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dev {
    /// All addresses are of this /24 of 127.0.0.0/8; its last octet is 0.
    pub address_base: Ipv4Addr,
    /// Added to every port.
    pub port_offset: u16,
}

impl Default for Dev {
    fn default() -> Self {
        Self { address_base: Ipv4Addr::new(127, 0, 0, 0), port_offset: 0 }
    }
}

pub fn read(root: &Reader<'_, '_>) -> Dev {
    let mut dev = Dev::default();
    let Some(reader) = root.table("dev") else { return dev };
    let expected = "a block of 256 loopback addresses, for instance \"127.0.7.0\"";
    if let Some(base) = reader.parsed::<Ipv4Addr>("address_base", expected) {
        if base.value.is_loopback() && base.value.octets()[3] == 0 {
            dev.address_base = base.value;
        } else {
            reader.mistake("address_base", base.at, format!("is \"{}\"", base.value), expected);
        }
    }
    let expected = format!("an integer from 0 to {PORT_OFFSET_MAX}");
    if let Some(offset) = reader.integer("port_offset", 0..=PORT_OFFSET_MAX, &expected) {
        dev.port_offset = u16::try_from(offset).unwrap_or(0);
    }
    reader.finish();
    dev
}
