//! The messages as the `.proto` files declare them, and bytes shown by those declarations.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use prost::encoding::{WireType, decode_key, decode_varint};

/// What `core.proto` and what it imports declare: the one source of truth for both encodings.
pub struct Schema {
    messages: BTreeMap<String, Message>,
}

#[derive(Default)]
pub struct Message {
    pub fields: BTreeMap<u32, Field>,
}

pub struct Field {
    pub name: String,
    /// A scalar's name, or a message's full one.
    pub kind: String,
}

/// A field that bytes have shown: its message's full name and its number.
pub type Seen = BTreeSet<(String, u32)>;

const CORE: &str = include_str!("../../../proto/tandem/core/v1/core.proto");
const SIP: &str = include_str!("../../../../sip/proto/tandem/sip/v1/sip.proto");
pub const PACKAGE: &str = "tandem.core.v1";

impl Schema {
    pub fn read() -> Self {
        let mut schema = Self { messages: BTreeMap::new() };
        schema.add(CORE);
        schema.add(SIP);
        schema.resolve();
        schema
    }

    /// The messages of the core, by their names within its package.
    pub fn messages(&self) -> impl Iterator<Item = (&str, &Message)> {
        self.messages.iter().filter_map(|(name, message)| {
            Some((name.strip_prefix(PACKAGE)?.strip_prefix('.')?, message))
        })
    }

    /// Messages of the core that no other message carries: what is stored or sent by itself.
    pub fn roots(&self) -> BTreeSet<&str> {
        let fields = self.messages.values().flat_map(|message| message.fields.values());
        let carried: BTreeSet<&str> = fields.map(|field| field.kind.as_str()).collect();
        let is_root = |name: &str| !carried.contains(format!("{PACKAGE}.{name}").as_str());
        self.messages().map(|(name, _)| name).filter(|name| is_root(name)).collect()
    }

    fn add(&mut self, text: &str) {
        let mut scope: Vec<String> = Vec::new();
        for statement in statements(text) {
            let words: Vec<&str> = statement.split_whitespace().collect();
            match words.as_slice() {
                ["syntax" | "import", ..] => {}
                ["package", name] => scope = vec![(*name).to_owned()],
                ["message", name, "{"] => {
                    scope.push((*name).to_owned());
                    self.messages.insert(scope.join("."), Message::default());
                }
                // A oneof's fields are its message's.
                ["oneof", _, "{"] => scope.push(String::new()),
                ["}"] => drop(scope.pop()),
                [label @ .., kind, name, "=", number] => {
                    assert!(matches!(label, [] | ["optional" | "repeated"]), "{statement}");
                    let of: Vec<&str> =
                        scope.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
                    let field = Field { name: (*name).to_owned(), kind: (*kind).to_owned() };
                    let message = self.messages.get_mut(&of.join(".")).expect("a message");
                    let before = message.fields.insert(number.parse().expect("a number"), field);
                    assert!(before.is_none(), "{statement}: the number is taken");
                }
                _ => panic!("{statement:?} is not read here"),
            }
        }
        assert_eq!(scope.len(), 1, "every brace is closed");
    }

    /// Gives each field's message its full name: the innermost scope that knows it.
    fn resolve(&mut self) {
        let known: BTreeSet<String> = self.messages.keys().cloned().collect();
        for (message, declared) in &mut self.messages {
            for field in declared.fields.values_mut() {
                let mut scope = message.as_str();
                let full = loop {
                    let full = format!("{scope}.{}", field.kind);
                    if known.contains(&full) {
                        break Some(full);
                    }
                    match scope.rsplit_once('.') {
                        Some((outer, _)) => scope = outer,
                        None => break known.get(&field.kind).cloned(),
                    }
                };
                let scalar = matches!(
                    &*field.kind,
                    "bool" | "uint32" | "uint64" | "fixed64" | "string" | "bytes"
                );
                assert!(full.is_some() || scalar, "{message}: {} is unknown", field.kind);
                field.kind = full.unwrap_or_else(|| field.kind.clone());
            }
        }
    }

    /// Protobuf's text format of `bytes`, with the names of the fields that they show. Follows
    /// from bytes and declarations alone.
    pub fn show(&self, message: &str, bytes: &[u8], seen: &mut Seen) -> String {
        let mut text = String::new();
        self.show_into(&format!("{PACKAGE}.{message}"), bytes, 0, &mut text, seen);
        text
    }

    fn show_into(
        &self,
        name: &str,
        bytes: &[u8],
        depth: usize,
        text: &mut String,
        seen: &mut Seen,
    ) {
        let message = &self.messages[name];
        let indent = "  ".repeat(depth);
        let mut rest = bytes;
        while !rest.is_empty() {
            let (number, wire) = decode_key(&mut rest).expect("a key");
            let field = message.fields.get(&number);
            let Some(Field { name: field, kind }) = field else {
                panic!("{name} declares no field {number}");
            };
            seen.insert((name.to_owned(), number));
            let value = match wire {
                WireType::Varint => decode_varint(&mut rest).expect("a number").to_string(),
                WireType::SixtyFourBit => {
                    let (eight, behind) = rest.split_at(8);
                    rest = behind;
                    let eight = eight.try_into().expect("eight bytes");
                    format!("0x{:016x}", u64::from_le_bytes(eight))
                }
                WireType::LengthDelimited => {
                    let len = decode_varint(&mut rest).expect("a length");
                    let (inner, behind) = rest.split_at(usize::try_from(len).expect("a length"));
                    rest = behind;
                    if self.messages.contains_key(kind) {
                        writeln!(text, "{indent}{field} {{").expect("a string");
                        self.show_into(kind, inner, depth + 1, text, seen);
                        writeln!(text, "{indent}}}").expect("a string");
                        continue;
                    }
                    scalar_of(kind, inner)
                }
                WireType::ThirtyTwoBit | WireType::StartGroup | WireType::EndGroup => {
                    panic!("{name}.{field} is {wire:?}, which no field here is")
                }
            };
            writeln!(text, "{indent}{field}: {value}").expect("a string");
        }
    }
}

/// Declarations one by one, each without its semicolon; braces end one, too.
fn statements(text: &str) -> Vec<String> {
    let mut statements = vec![String::new()];
    for line in text.lines() {
        let code = line.split("//").next().unwrap_or("");
        for c in code.chars() {
            let last = statements.last_mut().expect("never empty");
            match c {
                ';' => statements.push(String::new()),
                '{' => {
                    last.push_str(" {");
                    statements.push(String::new());
                }
                '}' => {
                    last.push('}');
                    statements.push(String::new());
                }
                '=' => last.push_str(" = "),
                other => last.push(other),
            }
        }
        statements.last_mut().expect("never empty").push(' ');
    }
    statements.retain(|statement| !statement.trim().is_empty());
    statements
}

fn scalar_of(kind: &str, bytes: &[u8]) -> String {
    match kind {
        "string" => format!("{:?}", std::str::from_utf8(bytes).expect("UTF-8")),
        "bytes" => format!("\"{}\"", bytes.escape_ascii()),
        _ => {
            let mut rest = bytes;
            let mut numbers = Vec::new();
            while !rest.is_empty() {
                numbers.push(decode_varint(&mut rest).expect("a packed number"));
            }
            format!("{numbers:?}")
        }
    }
}

#[test]
fn declarations_are_read_with_their_scopes() {
    let schema = Schema::read();
    let leg = &schema.messages["tandem.core.v1.Leg"];
    assert_eq!(leg.fields[&10].kind, "tandem.sip.v1.Request");
    let deadline = &schema.messages["tandem.core.v1.Deadline"];
    assert_eq!(deadline.fields[&2].kind, "tandem.core.v1.Deadline.Since");
    assert_eq!(deadline.fields[&4].kind, "tandem.core.v1.Channel.Id");
    assert_eq!(schema.messages().count(), schema_words("message"));
}

/// How often `core.proto` says so at the beginning of a line.
fn schema_words(word: &str) -> usize {
    CORE.lines().filter(|line| line.trim_start().starts_with(&format!("{word} "))).count()
}
