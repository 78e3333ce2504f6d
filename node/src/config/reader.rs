//! A TOML table read key by key. Every mistake is kept with its line, so that a file is
//! corrected in one go; an unknown key is a mistake, for it is most often a misspelt one.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Mistakes that are told of one file; the rest are counted.
pub const MISTAKES_MAX: usize = 100;

/// One thing that is wrong, where, and what should stand there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub line: usize,
    pub key: String,
    pub problem: String,
    pub expected: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.line)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}", self.problem)?;
        if !self.expected.is_empty() {
            write!(f, "; expected {}", self.expected)?;
        }
        Ok(())
    }
}

/// The text of a file and what is wrong with it so far.
pub struct Source<'a> {
    text: &'a str,
    mistakes: RefCell<Vec<Mistake>>,
}

impl<'a> Source<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, mistakes: RefCell::new(Vec::new()) }
    }

    /// The root table. Errors of syntax are mistakes like all others.
    pub fn parse(&self) -> Spanned<DeTable<'a>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            let at = error.span().unwrap_or(0..0);
            self.mistake(at, "", error.message().replace('\n', ", "), "TOML");
        }
        table
    }

    pub fn mistake(
        &self,
        at: Range<usize>,
        key: impl Into<String>,
        problem: impl Into<String>,
        expected: impl Into<String>,
    ) {
        let line = 1 + self.text.bytes().take(at.start).filter(|byte| *byte == b'\n').count();
        let mut mistakes = self.mistakes.borrow_mut();
        if mistakes.len() < MISTAKES_MAX {
            mistakes.push(Mistake {
                line,
                key: key.into(),
                problem: problem.into(),
                expected: expected.into(),
            });
        }
    }

    /// In the order of the file.
    pub fn into_mistakes(self) -> Vec<Mistake> {
        let mut mistakes = self.mistakes.into_inner();
        mistakes.sort_by_key(|mistake| mistake.line);
        mistakes
    }
}

/// A value with the place where it stands.
#[derive(Clone, Debug)]
pub struct Placed<T> {
    pub value: T,
    pub at: Range<usize>,
}

/// One table and the keys of it that have been asked for.
pub struct Reader<'s, 'a> {
    source: &'s Source<'a>,
    table: &'s DeTable<'a>,
    /// Where the table begins: a missing key is told there.
    at: Range<usize>,
    /// The dotted path of the table, for messages.
    path: String,
    known: RefCell<BTreeSet<&'static str>>,
}

impl<'s, 'a> Reader<'s, 'a> {
    pub fn new(
        source: &'s Source<'a>,
        table: &'s DeTable<'a>,
        at: Range<usize>,
        path: impl Into<String>,
    ) -> Self {
        Self { source, table, at, path: path.into(), known: RefCell::default() }
    }

    pub fn at(&self) -> Range<usize> {
        self.at.clone()
    }

    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub fn has(&self, key: &'static str) -> bool {
        self.find(key).is_some()
    }

    fn find(&self, key: &'static str) -> Option<&'s Spanned<DeValue<'a>>> {
        self.known.borrow_mut().insert(key);
        self.table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'a>>, expected: &str) {
        self.source.mistake(
            value.span(),
            self.path_of(key),
            format!("is {} {}", article(value.get_ref().type_str()), value.get_ref().type_str()),
            expected,
        );
    }

    pub fn string(&self, key: &'static str, expected: &str) -> Option<Placed<String>> {
        let value = self.find(key)?;
        match value.get_ref().as_str() {
            Some(text) => Some(Placed { value: text.to_owned(), at: value.span() }),
            None => {
                self.wrong_type(key, value, expected);
                None
            }
        }
    }

    pub fn bool(&self, key: &'static str, expected: &str) -> Option<bool> {
        let value = self.find(key)?;
        let read = value.get_ref().as_bool();
        if read.is_none() {
            self.wrong_type(key, value, expected);
        }
        read
    }

    /// An integer within `bounds`.
    pub fn integer(
        &self,
        key: &'static str,
        bounds: std::ops::RangeInclusive<u64>,
        expected: &str,
    ) -> Option<u64> {
        let value = self.find(key)?;
        let Some(integer) = value.get_ref().as_integer() else {
            self.wrong_type(key, value, expected);
            return None;
        };
        match u64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if bounds.contains(&number) => Some(number),
            Ok(_) | Err(_) => {
                self.source.mistake(
                    value.span(),
                    self.path_of(key),
                    format!("is {}", integer.as_str()),
                    expected,
                );
                None
            }
        }
    }

    /// A string that has a stricter form.
    pub fn parsed<T: FromStr>(&self, key: &'static str, expected: &str) -> Option<Placed<T>> {
        let text = self.string(key, expected)?;
        match text.value.parse() {
            Ok(value) => Some(Placed { value, at: text.at }),
            Err(_) => {
                self.source.mistake(
                    text.at,
                    self.path_of(key),
                    format!("is {:?}", text.value),
                    expected,
                );
                None
            }
        }
    }

    pub fn strings(&self, key: &'static str, expected: &str) -> Option<Vec<Placed<String>>> {
        let value = self.find(key)?;
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(key, value, expected);
            return None;
        };
        let mut read = Vec::new();
        for item in array.iter() {
            match item.get_ref().as_str() {
                Some(text) => read.push(Placed { value: text.to_owned(), at: item.span() }),
                None => self.wrong_type(key, item, expected),
            }
        }
        Some(read)
    }

    /// A table with keys of any name, and a text for each.
    pub fn texts(
        &self,
        key: &'static str,
        expected: &str,
    ) -> Option<Vec<(Placed<String>, Placed<String>)>> {
        let value = self.find(key)?;
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(key, value, expected);
            return None;
        };
        let mut read = Vec::new();
        for (name, value) in table.iter() {
            match value.get_ref().as_str() {
                Some(text) => read.push((
                    Placed { value: name.get_ref().to_string(), at: name.span() },
                    Placed { value: text.to_owned(), at: value.span() },
                )),
                None => self.wrong_type(key, value, expected),
            }
        }
        Some(read)
    }

    pub fn table(&self, key: &'static str) -> Option<Reader<'s, 'a>> {
        let value = self.find(key)?;
        match value.get_ref().as_table() {
            Some(table) => Some(Reader::new(self.source, table, value.span(), self.path_of(key))),
            None => {
                self.wrong_type(key, value, &format!("a table: [{}]", self.path_of(key)));
                None
            }
        }
    }

    pub fn tables(&self, key: &'static str) -> Vec<Reader<'s, 'a>> {
        let Some(value) = self.find(key) else { return Vec::new() };
        let expected = format!("tables: [[{}]]", self.path_of(key));
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(key, value, &expected);
            return Vec::new();
        };
        let mut read = Vec::new();
        for item in array.iter() {
            match item.get_ref().as_table() {
                Some(table) => {
                    read.push(Reader::new(self.source, table, item.span(), self.path_of(key)));
                }
                None => self.wrong_type(key, item, &expected),
            }
        }
        read
    }

    /// The value, or a mistake that it is missing where nothing stands there.
    pub fn required<T>(&self, key: &'static str, value: Option<T>, expected: &str) -> Option<T> {
        if value.is_none() && !self.has(key) {
            self.source.mistake(self.at(), self.path_of(key), "is missing", expected);
        }
        value
    }

    pub fn mistake(
        &self,
        key: &str,
        at: Range<usize>,
        problem: impl Into<String>,
        expected: impl Into<String>,
    ) {
        self.source.mistake(at, self.path_of(key), problem, expected);
    }

    /// Call last: every key that nobody asked for is a mistake.
    pub fn finish(self) {
        let known = self.known.borrow();
        for name in self.table.keys() {
            if !known.contains(name.get_ref().as_ref()) {
                let known: Vec<_> = known.iter().copied().collect();
                self.source.mistake(
                    name.span(),
                    self.path_of(name.get_ref()),
                    "is not a key of this table",
                    format!("one of: {}", known.join(", ")),
                );
            }
        }
    }
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}
