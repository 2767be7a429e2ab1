//! What can be wrong with a configuration, as the sentence that the operator needs.
//!
//! **Invariant:** every [`Problem`] says what was found, what was expected, or what to do.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// A configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    /// File.
    pub file: PathBuf,
    /// Line in it, from 1; `None` when it is not about a line.
    pub line: Option<usize>,
    /// Key, such as `detect.stall_after`; `None` when it is not about a key.
    pub key: Option<String>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The file does not exist.
    #[error("there is no such file; create it, or name another one")]
    Missing,
    /// The file cannot be read.
    #[error("cannot be read ({0}); make it readable for the user that tcpstall runs as")]
    Unreadable(String),
    /// The file is not text.
    #[error("holds bytes that are not UTF-8; save it as UTF-8 text")]
    NotUtf8,
    /// The file is not TOML.
    #[error("not valid TOML: {0}")]
    Syntax(String),
    /// The key does not exist.
    #[error("unknown key; {}", advice(*nearest, known))]
    UnknownKey {
        /// A key with nearly the same name.
        nearest: Option<&'static str>,
        /// All keys of this table.
        known: &'static [&'static str],
    },
    /// The value is of another type or not understood.
    #[error("found {found}, expected {expected}")]
    BadValue {
        /// As in the file.
        found: String,
        /// With an example.
        expected: String,
    },
    /// A key that must be there is not.
    #[error("is missing; add {0}")]
    MissingKey(&'static str),
    /// Two upstreams, or two hooks, have one name.
    #[error(
        "found {name:?}, which line {first_line} uses already; names must differ, so rename one \
         of the two {what} or merge them"
    )]
    DuplicateName {
        /// What they are, such as "upstreams".
        what: &'static str,
        /// The name.
        name: String,
        /// Where it was used first.
        first_line: usize,
    },
    /// An upstream has nothing to recognise it by.
    #[error("upstream {name:?} matches nothing; give at least one of {}", matchers.join(", "))]
    NoMatcher {
        /// Its name.
        name: String,
        /// What could be given.
        matchers: &'static [&'static str],
    },
}

impl Error {
    /// A file that could not be read.
    pub(super) fn reading(file: &Path, error: &io::Error) -> Self {
        let problem = match error.kind() {
            io::ErrorKind::NotFound => Problem::Missing,
            _ => Problem::Unreadable(error.to_string()),
        };
        Self {
            file: file.to_owned(),
            line: None,
            key: None,
            problem,
        }
    }

    /// The same, because `key` in `line` of `file` asked for it.
    pub(super) fn asked_for_by(self, file: &Path, line: usize, key: String) -> Self {
        let what = match self.problem {
            Problem::Missing => "which does not exist".to_owned(),
            Problem::Unreadable(why) => format!("which cannot be read ({why})"),
            other => format!("which cannot be used ({other})"),
        };
        let found = format!("{:?}, {what}", self.file.display().to_string());
        let expected = "the path of a readable file, relative to the folder of this one".to_owned();
        let problem = Problem::BadValue { found, expected };
        Self {
            file: file.to_owned(),
            line: Some(line),
            key: Some(key),
            problem,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(key) = &self.key {
            write!(f, ": {key}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

/// The bytes of `file` as text.
pub(super) fn utf8<'a>(file: &Path, bytes: &'a [u8]) -> Result<&'a str, Error> {
    std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = Some(1 + before.iter().filter(|byte| **byte == b'\n').count());
        Error {
            file: file.to_owned(),
            line,
            key: None,
            problem: Problem::NotUtf8,
        }
    })
}

fn advice(nearest: Option<&str>, known: &[&str]) -> String {
    match nearest {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => format!("expected one of {}", known.join(", ")),
    }
}
