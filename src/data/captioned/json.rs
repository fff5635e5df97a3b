//! Files of JSON. Each is read as a stream, and fields that are not asked for are skipped: COCO's captions in
//! Karpathy's format have 144 MB.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Debug;
use std::hash::Hash;
use std::io::{BufReader, Read};
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::files::open_regular;

/// The most bytes of a file, as of a file of captions.
const MOST: u64 = 1 << 32;

/// Reads a file.
///
/// # Errors
///
/// If it cannot be read, is larger than 4 GiB, or is not JSON of this form, with line and column.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let (file, length) = open_regular(path)?;
    if length > MOST {
        return Err(Error::file(path, format!("expected at most {MOST} bytes, found {length}")));
    }
    let bytes = BufReader::with_capacity(1 << 16, file.take(length));
    serde_json::from_reader(bytes).map_err(|e| Error::file(path, e.to_string()))
}

/// The number of each entry of a list by its key.
///
/// # Errors
///
/// With both entries, if two have the same key.
pub(super) fn by_key<K: Hash + Eq + Debug>(
    path: &Path,
    (list, field): (&str, &str),
    keys: impl Iterator<Item = K>,
) -> Result<HashMap<K, usize>> {
    let mut numbers = HashMap::new();
    for (number, key) in keys.enumerate() {
        match numbers.entry(key) {
            Entry::Vacant(free) => free.insert(number),
            Entry::Occupied(other) => {
                let (key, other) = (other.key(), other.get());
                let problem = format!("{list}[{number}]: {field}: {key:?} is that of {list}[{other}] too");
                return Err(Error::file(path, problem));
            }
        };
    }
    Ok(numbers)
}
