use std::collections::{BTreeMap, BTreeSet};

use tandem_sip::protobuf::{Encode, Writer};

use super::{Error, narrow};
use crate::leases::Leases;
use crate::proto;
use crate::proto::leases::Blocks as Row;

struct Blocks<'b>(&'b str, &'b BTreeSet<u16>);

impl Encode for Blocks<'_> {
    fn encode(&self, to: &mut Writer) {
        to.text(1, self.0);
        to.packed(2, self.1.iter().copied().map(u64::from));
    }
}

impl Encode for Leases {
    fn encode(&self, to: &mut Writer) {
        for (gateway, blocks) in &self.ports {
            to.message(1, &Blocks(&gateway.0, blocks));
        }
        for (trunk, blocks) in &self.channels {
            to.message(2, &Blocks(&trunk.0, blocks));
        }
    }
}

impl TryFrom<proto::Leases> for Leases {
    type Error = Error;

    fn try_from(leases: proto::Leases) -> Result<Self, Error> {
        let (ports, channels) = (blocks(leases.ports)?, blocks(leases.channels)?);
        Ok(Self { ports, channels })
    }
}

fn blocks<Of: Ord + From<String>>(rows: Vec<Row>) -> Result<BTreeMap<Of, BTreeSet<u16>>, Error> {
    let read = |row: Row| {
        let numbers = row.blocks.into_iter().map(|block| narrow(block, "leases.block"));
        Ok((row.of.into(), numbers.collect::<Result<_, _>>()?))
    };
    rows.into_iter().map(read).collect()
}
