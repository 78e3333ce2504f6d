//! Protocol buffers written from borrowed values, byte for byte what `prost` writes of the same
//! message. A message of prost's own is built first, with a copy of every string; that was half of
//! what it cost to apply a command. Reading is prost's.

use std::cell::Cell;
use std::fmt::{Display, Write as _};
use std::net::SocketAddr;

/// A buffer that grew beyond it is not kept.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// Of 64 bits, seven in each byte.
const VARINT_BYTES_MAX: usize = 10;

/// A value with a message in a `.proto` file.
pub trait Encode {
    /// Writes the fields in the order of their numbers.
    fn encode(&self, to: &mut Writer);

    fn encoded(&self) -> Vec<u8> {
        let mut to = Writer { bytes: BUFFER.take() };
        to.bytes.clear();
        self.encode(&mut to);
        let bytes = to.bytes.as_slice().into();
        if to.bytes.capacity() <= BUFFER_BYTES_MAX {
            BUFFER.set(to.bytes);
        }
        bytes
    }
}

thread_local! {
    /// Where values are written before their length is known, so that what is kept of them has no
    /// room left over and is allocated once.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The fields of one message. Those named `some_…` are written wherever there is a value: they are
/// `optional`, or of a `oneof`. The others are left out where they are 0, false or empty.
#[derive(Debug)]
pub struct Writer {
    bytes: Vec<u8>,
}

/// How a field's value is delimited.
#[derive(Clone, Copy)]
enum Kind {
    Varint = 0,
    Fixed64 = 1,
    Length = 2,
}

impl Writer {
    pub fn uint(&mut self, field: u32, value: impl Into<u64>) {
        let value = value.into();
        self.some_uint(field, (value != 0).then_some(value));
    }

    pub fn some_uint(&mut self, field: u32, value: Option<impl Into<u64>>) {
        if let Some(value) = value {
            self.key(field, Kind::Varint);
            self.varint(value.into());
        }
    }

    pub fn flag(&mut self, field: u32, value: bool) {
        self.uint(field, value);
    }

    pub fn fixed(&mut self, field: u32, value: u64) {
        self.some_fixed(field, (value != 0).then_some(value));
    }

    pub fn some_fixed(&mut self, field: u32, value: Option<u64>) {
        if let Some(value) = value {
            self.key(field, Kind::Fixed64);
            self.bytes.extend_from_slice(&value.to_le_bytes());
        }
    }

    pub fn text(&mut self, field: u32, value: &str) {
        self.blob(field, value.as_bytes());
    }

    pub fn some_text(&mut self, field: u32, value: Option<&str>) {
        if let Some(value) = value {
            self.some_blob(field, Some(value.as_bytes()));
        }
    }

    /// A string field: an address and its port, as it shows itself.
    pub fn socket(&mut self, field: u32, value: &SocketAddr) {
        let SocketAddr::V4(value) = value else {
            self.shown(field, value);
            return;
        };
        // By far the most common text of a row, and formatting is slow.
        self.delimited(field, |to| {
            for (at, part) in value.ip().octets().into_iter().enumerate() {
                if at > 0 {
                    to.bytes.push(b'.');
                }
                to.decimal(part.into());
            }
            to.bytes.push(b':');
            to.decimal(value.port());
        });
    }

    pub fn some_socket(&mut self, field: u32, value: Option<&SocketAddr>) {
        if let Some(value) = value {
            self.socket(field, value);
        }
    }

    fn decimal(&mut self, value: u16) {
        let divisors = [10_000, 1_000, 100, 10].into_iter();
        for divisor in divisors.skip_while(|divisor| value < *divisor) {
            self.bytes.push(b'0' + (value / divisor % 10) as u8);
        }
        self.bytes.push(b'0' + (value % 10) as u8);
    }

    /// A string field, as the value shows itself.
    pub fn shown(&mut self, field: u32, value: &impl Display) {
        self.delimited(field, |to| {
            // The writer itself never fails.
            let _ = write!(to, "{value}");
        });
    }

    pub fn blob(&mut self, field: u32, value: &[u8]) {
        if !value.is_empty() {
            self.some_blob(field, Some(value));
        }
    }

    pub fn some_blob(&mut self, field: u32, value: Option<&[u8]>) {
        let Some(value) = value else { return };
        self.key(field, Kind::Length);
        self.varint(value.len() as u64);
        self.bytes.extend_from_slice(value);
    }

    pub fn message(&mut self, field: u32, value: &impl Encode) {
        self.delimited(field, |to| value.encode(to));
    }

    pub fn some_message(&mut self, field: u32, value: Option<&impl Encode>) {
        if let Some(value) = value {
            self.message(field, value);
        }
    }

    pub fn messages<'v, M: Encode + 'v>(
        &mut self,
        field: u32,
        values: impl IntoIterator<Item = &'v M>,
    ) {
        for value in values {
            self.message(field, value);
        }
    }

    pub fn texts<'v>(&mut self, field: u32, values: impl IntoIterator<Item = &'v str>) {
        for value in values {
            self.some_text(field, Some(value));
        }
    }

    /// A repeated integer.
    pub fn packed(&mut self, field: u32, values: impl IntoIterator<Item = u64>) {
        let mut values = values.into_iter().peekable();
        if values.peek().is_some() {
            self.delimited(field, |to| values.for_each(|value| to.varint(value)));
        }
    }

    /// What `write` writes, with its length before it. The length is not known yet and mostly fits
    /// in one byte: a longer one moves what was written.
    pub fn delimited(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        self.key(field, Kind::Length);
        self.bytes.push(0);
        let start = self.bytes.len();
        write(self);
        let length = self.bytes.len() - start;
        if let Ok(short @ 0..=0x7f) = u8::try_from(length) {
            self.bytes[start - 1] = short;
            return;
        }
        let end = self.bytes.len();
        self.varint(length as u64);
        // The length stands behind what it is of: one byte of it has its place, the others make room.
        let more = self.bytes.len() - end - 1;
        let mut prefix = [0; VARINT_BYTES_MAX];
        prefix[..=more].copy_from_slice(&self.bytes[end..]);
        self.bytes.pop();
        self.bytes.copy_within(start..end, start + more);
        self.bytes[start - 1..start + more].copy_from_slice(&prefix[..=more]);
    }

    fn key(&mut self, field: u32, kind: Kind) {
        self.varint(u64::from(field) << 3 | kind as u64);
    }

    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
}

impl std::fmt::Write for Writer {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.bytes.extend_from_slice(text.as_bytes());
        Ok(())
    }
}
