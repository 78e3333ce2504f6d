//! What the log of a group holds: the commands of its tenants, and the steps of tenants that move.

use std::borrow::Cow;

use prost::Message as _;

/// No envelope begins so: it is no protobuf.
const MARK: u8 = 0;
/// Rows of one [`Import`] are cut behind this: an entry stays well below what a log takes.
pub const PART_BYTES: usize = 256 << 10;

/// Bytes that this build can't read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("not an encoding: {0}")]
    Protobuf(#[from] prost::DecodeError),
    #[error("tenant {0} is out of range")]
    Tenant(u32),
    #[error("a step that this build doesn't know")]
    Unknown,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Entry<'a> {
    /// An envelope.
    Command(Cow<'a, [u8]>),
    Step(Step),
    /// Of no tenant: how far whoever led had come, and to what (see [`super::chain`]).
    Check {
        index: u64,
        hash: u64,
    },
}

/// Of the way of one tenant to another group; each names the epoch (see [`super::standing`]).
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// In the group that has it: no more commands.
    Freeze(u64),
    /// It stays after all.
    Thaw(u64),
    /// In the group that gets it: its rows, part by part, while it is served where it is; the last part
    /// says what has changed until it was frozen.
    Import(Import),
    /// It is there, or begins there.
    Open(u64),
    /// It is elsewhere: its rows go, but not its history.
    Drop(u64),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Import {
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    #[prost(uint32, tag = "2")]
    pub part: u32,
    #[prost(bool, tag = "3")]
    pub last: bool,
    #[prost(message, repeated, tag = "4")]
    pub rows: Vec<ImportedRow>,
    /// Of the sender, greater than those of earlier ones: parts of two attempts don't mix.
    #[prost(uint64, tag = "5")]
    pub attempt: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ImportedRow {
    #[prost(string, tag = "1")]
    pub family: String,
    #[prost(bytes = "vec", tag = "2")]
    pub key: Vec<u8>,
    /// None where the row is gone.
    #[prost(bytes = "vec", optional, tag = "3")]
    pub value: Option<Vec<u8>>,
}

impl ImportedRow {
    pub fn bytes(&self) -> usize {
        self.family.len() + self.key.len() + self.value.as_ref().map_or(0, Vec::len)
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Encoded {
    #[prost(uint32, tag = "1")]
    tenant: u32,
    #[prost(oneof = "What", tags = "2, 3, 4, 5, 6, 7, 8")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum What {
    #[prost(bytes = "vec", tag = "2")]
    Command(Vec<u8>),
    #[prost(uint64, tag = "3")]
    Freeze(u64),
    #[prost(uint64, tag = "4")]
    Thaw(u64),
    #[prost(message, tag = "5")]
    Import(Import),
    #[prost(uint64, tag = "6")]
    Open(u64),
    #[prost(uint64, tag = "7")]
    Drop(u64),
    #[prost(message, tag = "8")]
    Check(Check),
}

#[derive(Clone, PartialEq, prost::Message)]
struct Check {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(fixed64, tag = "2")]
    hash: u64,
}

/// The first tenant's stand as they are, as they did when there was no other.
pub fn command(tenant: u16, envelope: Vec<u8>) -> Vec<u8> {
    if tenant == 0 { envelope } else { encode(tenant, What::Command(envelope)) }
}

pub fn step(tenant: u16, step: Step) -> Vec<u8> {
    let what = match step {
        Step::Freeze(epoch) => What::Freeze(epoch),
        Step::Thaw(epoch) => What::Thaw(epoch),
        Step::Import(import) => What::Import(import),
        Step::Open(epoch) => What::Open(epoch),
        Step::Drop(epoch) => What::Drop(epoch),
    };
    encode(tenant, what)
}

pub fn check(index: u64, hash: u64) -> Vec<u8> {
    encode(0, What::Check(Check { index, hash }))
}

fn encode(tenant: u16, what: What) -> Vec<u8> {
    let mut bytes = vec![MARK];
    bytes.extend(Encoded { tenant: tenant.into(), what: Some(what) }.encode_to_vec());
    bytes
}

/// Whose it is, and what.
///
/// # Errors
/// Where this build can't read it.
pub fn read(bytes: &[u8]) -> Result<(u16, Entry<'_>), Error> {
    let Some(marked) = bytes.strip_prefix(&[MARK]) else {
        return Ok((0, Entry::Command(Cow::Borrowed(bytes))));
    };
    let Encoded { tenant, what } = Encoded::decode(marked)?;
    let tenant = u16::try_from(tenant).map_err(|_| Error::Tenant(tenant))?;
    let step = match what.ok_or(Error::Unknown)? {
        What::Command(envelope) => return Ok((tenant, Entry::Command(Cow::Owned(envelope)))),
        What::Freeze(epoch) => Step::Freeze(epoch),
        What::Thaw(epoch) => Step::Thaw(epoch),
        What::Import(import) => Step::Import(import),
        What::Open(epoch) => Step::Open(epoch),
        What::Drop(epoch) => Step::Drop(epoch),
        What::Check(Check { index, hash }) => return Ok((tenant, Entry::Check { index, hash })),
    };
    Ok((tenant, Entry::Step(step)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is in logs stays readable: these bytes never change.
    #[test]
    fn entries_are_read_as_they_were_written_once() {
        let row = |value| ImportedRow { family: "calls".into(), key: vec![1, 2], value };
        let rows = vec![row(Some(b"\x08\x01".to_vec())), row(None)];
        let import = Import { epoch: 3, part: 1, last: true, rows, attempt: 9 };
        let cases: [(u16, Step, &[u8]); 5] = [
            (0, Step::Freeze(2), b"\0\x18\x02"),
            (7, Step::Thaw(300), b"\0\x08\x07\x20\xac\x02"),
            (
                7,
                Step::Import(import),
                b"\0\x08\x07\x2a\x26\x08\x03\x10\x01\x18\x01\x22\x0f\x0a\x05calls\x12\x02\x01\x02\x1a\x02\x08\x01\
                  \x22\x0b\x0a\x05calls\x12\x02\x01\x02\x28\x09",
            ),
            (7, Step::Open(0), b"\0\x08\x07\x30\0"),
            (65_535, Step::Drop(1), b"\0\x08\xff\xff\x03\x38\x01"),
        ];
        for (tenant, what, bytes) in cases {
            assert_eq!(step(tenant, what.clone()), bytes, "{what:?}");
            assert_eq!(read(bytes), Ok((tenant, Entry::Step(what))));
        }
        let bytes = b"\0\x42\x0b\x08\x05\x11\x01\0\0\0\0\0\0\x80";
        assert_eq!(check(5, 1 << 63 | 1), bytes);
        assert_eq!(read(bytes), Ok((0, Entry::Check { index: 5, hash: 1 << 63 | 1 })));
        let envelope = b"\x08\x01envelope".to_vec();
        let of_tenant = |tenant| {
            let bytes = command(tenant, envelope.clone());
            assert_eq!(read(&bytes), Ok((tenant, Entry::Command(Cow::Borrowed(&envelope)))));
            bytes
        };
        assert_eq!(of_tenant(0), envelope);
        assert_eq!(of_tenant(9), b"\0\x08\x09\x12\x0a\x08\x01envelope");
    }

    #[test]
    fn entry_that_says_nothing_or_is_of_nobody_is_refused() {
        assert_eq!(read(b"\0\x08\x07"), Err(Error::Unknown));
        assert_eq!(read(b"\0\x08\x80\x80\x04\x30\0"), Err(Error::Tenant(65_536)));
        assert!(matches!(read(b"\0\x08"), Err(Error::Protobuf(_))));
        // An empty command is none of ours.
        assert_eq!(read(b""), Ok((0, Entry::Command(Cow::Borrowed(b"")))));
    }
}
