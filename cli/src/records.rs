//! The records that a test network saves.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The lock file of this workspace: real data that is always at hand.
const LOCK_FILE: &str = include_str!("../../Cargo.lock");

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

/// Why there are no records.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordsError {
    #[error("cannot read {}: {source}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}, line {line}: there is no tab between key and value", .path.display())]
    NoTab { path: PathBuf, line: usize },
    #[error("{}, line {line}: the key is empty", .path.display())]
    NoKey { path: PathBuf, line: usize },
    #[error("{}, line {line}: its key stands in line {first} already", .path.display())]
    Repeated { path: PathBuf, line: usize, first: usize },
    #[error("{}, line {line}: the value has {size} bytes; the most is {limit}", .path.display())]
    TooLarge { path: PathBuf, line: usize, size: usize, limit: usize },
    #[error("{} has no lines", .path.display())]
    Empty { path: PathBuf },
    #[error("the lock file that is part of this program cannot be parsed: {0}")]
    LockFile(#[from] toml::de::Error),
}

/// The records of a file: `key<TAB>value` in each line. Values can have up to `limit` bytes.
pub(crate) fn of_file(path: &Path, limit: usize) -> Result<Vec<Record>, RecordsError> {
    let bytes = fs::read(path).map_err(|source| RecordsError::Read { path: path.to_owned(), source })?;
    parse(path, &bytes, limit)
}

fn parse(path: &Path, bytes: &[u8], limit: usize) -> Result<Vec<Record>, RecordsError> {
    let path = || path.to_owned();
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    if bytes.is_empty() {
        return Err(RecordsError::Empty { path: path() });
    }
    let mut records = Vec::new();
    let mut lines: HashMap<&[u8], usize> = HashMap::new();
    for (line, text) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let mut halves = text.splitn(2, |byte| *byte == b'\t');
        let (Some(key), Some(value)) = (halves.next(), halves.next()) else {
            return Err(RecordsError::NoTab { path: path(), line });
        };
        if key.is_empty() {
            return Err(RecordsError::NoKey { path: path(), line });
        }
        if value.len() > limit {
            return Err(RecordsError::TooLarge { path: path(), line, size: value.len(), limit });
        }
        match lines.entry(key) {
            Entry::Occupied(first) => {
                return Err(RecordsError::Repeated { path: path(), line, first: *first.get() });
            }
            Entry::Vacant(free) => free.insert(line),
        };
        records.push(Record { key: key.to_vec(), value: value.to_vec() });
    }
    Ok(records)
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    checksum: Option<String>,
    source: Option<String>,
}

/// The packages of this workspace's lock file: name and version of each, and its checksum (where it has none, its
/// source, and where it has no source either, that it is of the workspace).
pub(crate) fn of_lock_file() -> Result<Vec<Record>, RecordsError> {
    let lock: Lock = toml::from_str(LOCK_FILE)?;
    let record = |package: Package| {
        let Package { name, version, checksum, source } = package;
        let value = checksum.or(source).unwrap_or_else(|| "of the workspace".to_owned());
        Record { key: format!("{name}@{version}").into_bytes(), value: value.into_bytes() }
    };
    let mut records: Vec<Record> = lock.package.into_iter().map(record).collect();
    // One version can come from two sources.
    records.sort_by(|one, other| one.key.cmp(&other.key));
    records.dedup_by(|one, other| one.key == other.key);
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &[u8]) -> Result<Vec<Record>, String> {
        parse(Path::new("file"), text, 5).map_err(|error| error.to_string())
    }

    fn record(key: &[u8], value: &[u8]) -> Record {
        Record { key: key.to_vec(), value: value.to_vec() }
    }

    #[test]
    fn lines_become_records() {
        let records = parsed(b"a\t1\r\nb\t\nc c\t\xff\t3\n").unwrap();
        assert_eq!(records, [record(b"a", b"1"), record(b"b", b""), record(b"c c", b"\xff\t3")]);
    }

    #[test]
    fn errors_name_the_line() {
        let error = |text: &[u8]| parsed(text).unwrap_err();
        assert_eq!(error(b"a\t1\nb\n"), "file, line 2: there is no tab between key and value");
        assert_eq!(error(b"a\t1\n\nb\t2"), "file, line 2: there is no tab between key and value");
        assert_eq!(error(b"\t1"), "file, line 1: the key is empty");
        assert_eq!(error(b"a\t1\nb\t2\na\t3"), "file, line 3: its key stands in line 1 already");
        assert_eq!(error(b"a\t123456"), "file, line 1: the value has 6 bytes; the most is 5");
        assert_eq!(error(b""), "file has no lines");
    }

    #[test]
    fn the_lock_file_has_packages_with_and_without_checksums() {
        let records = of_lock_file().unwrap();
        let value = |start: &str| {
            let found = records.iter().find(|record| record.key.starts_with(start.as_bytes())).unwrap();
            String::from_utf8(found.value.clone()).unwrap()
        };
        assert_eq!(value("dht-cli@"), "of the workspace");
        assert_eq!(value("clap@").len(), 64);
        assert!(records.len() > 50);
    }
}
