//! The encodings against their golden files, and against what can't be read.
//!
//! `golden/<message>.<n>.txt` holds what a build wrote once: for each case the fields by name, for
//! the reviewer, then the row's key behind `@` and the bytes behind `>`. The highest `n` is what
//! today's build writes; every `n` is read for ever, so no file is ever changed.

mod generators;
mod kinds;
mod properties;
mod row_generators;
mod schema;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use prost::Message as _;
use tandem_sip::protobuf::Encode as _;

use crate::proto;
use crate::wire::{self, Error};
use kinds::{Kind, Stored, kinds};
use schema::{PACKAGE, Schema, Seen};

const BLESS: &str = "TANDEM_BLESS";
const ENCODINGS_MAX: u32 = 1_000;

fn path(kind: &dyn Kind, n: u32) -> PathBuf {
    let mut name = String::new();
    for c in kind.name().chars() {
        if c.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_lowercase());
    }
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(format!("{name}.{n}.txt"))
}

/// The golden files of a message, oldest first.
fn files(kind: &dyn Kind) -> Vec<String> {
    (1..ENCODINGS_MAX).map_while(|n| std::fs::read_to_string(path(kind, n)).ok()).collect()
}

/// What the golden file of today's encoding says.
fn shown(kind: &dyn Kind, schema: &Schema, seen: &mut Seen) -> String {
    let mut text = format!("# {}\n", kind.name());
    for Stored { case, key, bytes } in kind.stored() {
        let fields = schema.show(kind.name(), &bytes, seen);
        write!(text, "\n== {case}\n{fields}").expect("a string");
        hex_lines(&mut text, '@', &key.unwrap_or_default());
        hex_lines(&mut text, '>', &bytes);
    }
    text
}

fn hex_lines(text: &mut String, mark: char, bytes: &[u8]) {
    for line in bytes.chunks(40) {
        let hex: String = line.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(text, "{mark} {hex}").expect("a string");
    }
}

/// The bytes of each case of a golden file.
fn cases(text: &str) -> BTreeMap<&str, Vec<u8>> {
    let mut cases: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    let mut case = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("== ") {
            case = name;
            assert!(cases.insert(case, Vec::new()).is_none(), "{case} stands twice");
        } else if let Some(hex) = line.strip_prefix("> ") {
            let pair = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
            let bytes = (0..hex.len()).step_by(2).map(pair);
            cases.get_mut(case).expect("a case").extend(bytes);
        }
    }
    cases
}

#[test]
fn encodings_are_those_of_the_golden_files() {
    let schema = Schema::read();
    for kind in kinds() {
        let kind = &*kind;
        let today = shown(kind, &schema, &mut Seen::new());
        let files = files(kind);
        if files.last() == Some(&today) {
            continue;
        }
        let n = u32::try_from(files.len()).expect("few") + 1;
        let new = path(kind, n);
        if std::env::var_os(BLESS).is_some() {
            std::fs::write(&new, today).expect("the golden folder");
            continue;
        }
        panic!(
            "{} is not encoded as its newest golden file says. Stored and sent bytes change only \
             by adding. If that is what was meant, keep every file and write {} with\n\n    \
             {BLESS}=1 cargo test --release -p tandem-core wire\n\nthen review it. Today's \
             encoding:\n{today}",
            kind.name(),
            new.display()
        );
    }
}

#[test]
fn every_golden_file_is_read_and_the_newest_as_todays_values() {
    for kind in kinds() {
        let files = files(&*kind);
        for (n, text) in (1..).zip(&files) {
            for (case, bytes) in cases(text) {
                let read = kind.read(&bytes);
                assert_eq!(read, Ok(()), "{} {n} {case}", kind.name());
            }
        }
        let newest = files.last().unwrap_or_else(|| panic!("{} has no golden file", kind.name()));
        let newest = cases(newest);
        let stored: BTreeSet<&str> = kind.stored().iter().map(|stored| stored.case).collect();
        assert_eq!(newest.keys().copied().collect::<BTreeSet<_>>(), stored, "{}", kind.name());
        for (case, bytes) in newest {
            kind.assert_reads(case, &bytes);
        }
    }
}

#[test]
fn every_message_that_is_stored_or_sent_has_a_golden_file() {
    let schema = Schema::read();
    let with_file: BTreeSet<&str> = kinds().iter().map(|kind| kind.name()).collect();
    let roots = schema.roots();
    let without: Vec<_> = roots.difference(&with_file).collect();
    assert!(without.is_empty(), "add to wire/tests/kinds.rs: {without:?}");
}

#[test]
fn every_field_of_every_message_stands_in_a_golden_file() {
    let schema = Schema::read();
    let mut seen = Seen::new();
    for kind in kinds() {
        for text in files(&*kind) {
            for bytes in cases(&text).values() {
                schema.show(kind.name(), bytes, &mut seen);
            }
        }
    }
    let mut missing = Vec::new();
    for (name, message) in schema.messages() {
        for (number, field) in &message.fields {
            if !seen.contains(&(format!("{PACKAGE}.{name}"), *number)) {
                missing.push(format!("{name}.{}", field.name));
            }
        }
    }
    assert!(missing.is_empty(), "show in wire/tests/values.rs: {missing:?}");
}

#[test]
fn encoding_of_an_unknown_kind_is_refused_by_name() {
    let agent = |state: &str| proto::Agent { state: state.into(), ..Default::default() };
    let unknown = kinds::read_agent(&agent("on_holiday").encode_to_vec());
    assert_eq!(unknown.err(), Some(Error::Unknown("agent state", "on_holiday".into())));
    let reserved = kinds::read_agent(&agent("reserved").encode_to_vec());
    assert_eq!(reserved.err(), Some(Error::Missing("agent.back")));

    let mut call = proto::Call::decode(&*values::calls()[3].1.encoded()).expect("own encoding");
    call.legs[0].role = "observer".into();
    let unknown = kinds::read_call(&call.encode_to_vec());
    assert_eq!(unknown.err(), Some(Error::Unknown("role", "observer".into())));
    let mut call = proto::Call::decode(&*values::calls()[3].1.encoded()).expect("own encoding");
    call.legs[0].media.as_mut().expect("media").port = 65_536;
    assert_eq!(kinds::read_call(&call.encode_to_vec()).err(), Some(Error::Range("media.port")));
    call.legs[0].id = 1;
    assert_eq!(kinds::read_call(&call.encode_to_vec()).err(), Some(Error::Missing("leg.invite")));
    call.state = None;
    assert_eq!(kinds::read_call(&call.encode_to_vec()).err(), Some(Error::Missing("call.state")));
}

#[test]
fn command_of_a_later_build_is_refused_and_not_skipped() {
    let empty = proto::Envelope { at: 1, ..Default::default() };
    assert_eq!(
        wire::decode_envelope(&empty.encode_to_vec()),
        Err(Error::Missing("envelope.command"))
    );
    // Field 18 is the next that the oneof would take.
    let mut later = empty.encode_to_vec();
    prost::encoding::encode_key(18, prost::encoding::WireType::LengthDelimited, &mut later);
    later.push(0);
    assert_eq!(wire::decode_envelope(&later), Err(Error::Missing("envelope.command")));
}
