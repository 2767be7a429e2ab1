//! A TOML document whose values know their file, line and key.
//!
//! **Invariant:** knows nothing of what the keys mean.

use std::{ops::Range, path::Path};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Error, Problem};

/// A file and its text.
pub(super) struct Document<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

/// A table of it, all of whose keys are known.
pub(super) struct Section<'a> {
    document: &'a Document<'a>,
    name: &'static str,
    table: &'a DeTable<'a>,
}

/// A value of it.
pub(super) struct Value<'a> {
    document: &'a Document<'a>,
    key: String,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Document<'a> {
    /// The document as a tree.
    pub(super) fn tree(&self) -> Result<Spanned<DeTable<'a>>, Error> {
        DeTable::parse(self.text).map_err(|error| Error {
            file: self.path.to_owned(),
            line: error.span().map(|span| self.line(&span)),
            key: None,
            problem: Problem::Syntax(error.message().to_owned()),
        })
    }

    fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.as_bytes().get(..span.start).unwrap_or_default();
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }
}

impl<'a> Section<'a> {
    /// The table called `name`, if it has no keys but the `known` ones.
    pub(super) fn new(
        document: &'a Document<'a>,
        name: &'static str,
        table: &'a DeTable<'a>,
        known: &'static [&'static str],
    ) -> Result<Self, Error> {
        let section = Self {
            document,
            name,
            table,
        };
        match table
            .keys()
            .find(|key| !known.contains(&key.get_ref().as_ref()))
        {
            None => Ok(section),
            Some(key) => Err(Error {
                file: document.path.to_owned(),
                line: Some(document.line(&key.span())),
                key: Some(section.path(key.get_ref())),
                problem: Problem::UnknownKey {
                    nearest: nearest(key.get_ref(), known),
                    known,
                },
            }),
        }
    }

    /// The value of `key`, if it is there.
    pub(super) fn get(&self, key: &str) -> Option<Value<'a>> {
        let value = self.table.get(key)?;
        Some(Value {
            document: self.document,
            key: self.path(key),
            value,
        })
    }

    /// `key` should be in this table, which begins at `line`.
    pub(super) fn missing(&self, key: &str, line: usize, problem: Problem) -> Error {
        let file = self.document.path.to_owned();
        Error {
            file,
            line: Some(line),
            key: Some(self.path(key)),
            problem,
        }
    }

    fn path(&self, key: &str) -> String {
        match self.name {
            "" => key.escape_debug().to_string(),
            name => format!("{name}.{}", key.escape_debug()),
        }
    }
}

impl<'a> Value<'a> {
    /// A string that `read` understands.
    pub(super) fn string<T>(
        &self,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, Error> {
        self.read(expected, |value| read(value.as_str()?))
    }

    /// A value that `read` understands.
    pub(super) fn read<T>(
        &self,
        expected: &str,
        read: impl FnOnce(&DeValue<'a>) -> Option<T>,
    ) -> Result<T, Error> {
        read(self.value.get_ref()).ok_or_else(|| {
            let span = self.value.span();
            let found = self.document.text.get(span).unwrap_or_default();
            self.error(Problem::BadValue {
                found: shorten(found),
                expected: expected.to_owned(),
            })
        })
    }

    /// The values of a list.
    pub(super) fn list(&self, expected: &str) -> Result<Vec<Value<'a>>, Error> {
        let value: &'a Spanned<DeValue<'a>> = self.value;
        let array = self.read(expected, |_| value.get_ref().as_array())?;
        let item = |value| Value {
            document: self.document,
            key: self.key.clone(),
            value,
        };
        Ok(array.iter().map(item).collect())
    }

    /// A table with no keys but the `known` ones.
    pub(super) fn section(
        &self,
        name: &'static str,
        expected: &str,
        known: &'static [&'static str],
    ) -> Result<Section<'a>, Error> {
        let value: &'a Spanned<DeValue<'a>> = self.value;
        let table = self.read(expected, |_| value.get_ref().as_table())?;
        Section::new(self.document, name, table, known)
    }

    /// Its line, from 1.
    pub(super) fn line(&self) -> usize {
        self.document.line(&self.value.span())
    }

    /// Its key, such as `detect.ignore`.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Something is wrong with it.
    pub(super) fn error(&self, problem: Problem) -> Error {
        Error {
            file: self.document.path.to_owned(),
            line: Some(self.line()),
            key: Some(self.key.clone()),
            problem,
        }
    }
}

/// The first line of a piece of the file, fit for a message.
fn shorten(text: &str) -> String {
    const LONGEST: usize = 60;
    let line = text.lines().next().unwrap_or_default();
    let mut short: String = line.chars().take(LONGEST).flat_map(escape).collect();
    if short.is_empty() {
        short.push_str("nothing");
    } else if line.chars().count() > LONGEST || text.lines().count() > 1 {
        short.push('…');
    }
    short
}

fn escape(char: char) -> impl Iterator<Item = char> {
    let escaped = char.is_control().then(|| char.escape_default());
    let plain = (!char.is_control()).then_some(char);
    escaped.into_iter().flatten().chain(plain)
}

/// The known key that `key` was probably meant to be.
fn nearest(key: &str, known: &'static [&'static str]) -> Option<&'static str> {
    known
        .iter()
        .map(|candidate| (distance(key, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(3))
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many letters must be changed, added or dropped to turn one word into the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    // Keys are short; a long one is unlike all of them.
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().take(64).enumerate() {
        let mut corner = i;
        let mut left = i + 1;
        for (b, above) in other.iter().zip(row.iter_mut().skip(1)) {
            let here = (corner + usize::from(a != *b))
                .min(left + 1)
                .min(*above + 1);
            corner = std::mem::replace(above, here);
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}
