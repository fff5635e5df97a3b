//! Files of PyTorch 1.6 and later: an archive with the entries `NAME/data.pkl`, the pickle; `NAME/data/KEY`, a
//! storage; and since 2.1 `NAME/byteorder`.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use super::super::archive::{Entry, count_names};
use super::super::elements::Order;
use super::super::regular::reserve;
use super::names::{Tensors, tensors};
use super::objects::shown;
use super::pickle::{self, LONGEST};
use super::strided::Storage;

/// The name of the entry that makes an archive a PyTorch file.
const PICKLE: &str = "/data.pkl";

/// The pickle of a PyTorch file; `None` if the archive is another file.
pub(in crate::files) fn find_pickle(entries: &[Entry]) -> Option<&Entry> {
    entries.iter().find(|entry| entry.name.ends_with(PICKLE))
}

/// The tensors of an archive with this pickle. Reads no numbers.
///
/// # Errors
///
/// If the pickle is not one that `torch.save` writes.
pub(in crate::files) fn read_zip(file: &mut File, entries: &[Entry], pickle: &Entry) -> Result<Tensors, String> {
    let folder = pickle.name.strip_suffix(PICKLE).unwrap_or_default();
    let counts = count_names(entries.iter().map(|entry| entry.name.as_str()));
    let by_name: HashMap<&str, &Entry> = entries.iter().map(|entry| (entry.name.as_str(), entry)).collect();
    let one = |name: &str| match counts.get(name) {
        None => Ok(None),
        Some(1) => Ok(by_name.get(name).copied()),
        Some(count) => Err(format!("{}: expected one entry of this name, found {count}", shown(name))),
    };
    let order = match one(&format!("{folder}/byteorder"))? {
        None => Order::Little,
        Some(entry) => match &*content(entry, file, 16)? {
            b"little" => Order::Little,
            b"big" => Order::Big,
            other => {
                let other = shown(&String::from_utf8_lossy(other));
                return Err(format!("{}: expected little or big, found {other}", shown(&entry.name)));
            }
        },
    };
    one(&pickle.name)?;
    let bytes = content(pickle, file, LONGEST)?;
    let pickled = pickle::read(&bytes, 0).map_err(|problem| format!("{}: {problem}", shown(&pickle.name)))?;
    let mut storages: HashMap<&[u8], Arc<Storage>> = HashMap::new();
    tensors(&pickled, order, |storage| {
        let name = format!("{folder}/data/{}", String::from_utf8_lossy(storage.key));
        let entry =
            one(&name)?.ok_or_else(|| format!("its numbers are missing: there is no entry {}", shown(&name)))?;
        let expected = storage.len.checked_mul(storage.numbers.bytes() as u64);
        if expected != Some(entry.size) {
            let (name, len, size) = (shown(&name), storage.len, entry.size);
            return Err(format!("expected {len} numbers in the entry {name}, found {size} bytes"));
        }
        Ok(Arc::clone(storages.entry(storage.key).or_insert_with(|| Arc::new(Storage::entry(entry.clone())))))
    })
}

/// A small entry's content.
fn content(entry: &Entry, file: &mut File, most: u64) -> Result<Vec<u8>, String> {
    let named = |problem: String| format!("{}: {problem}", shown(&entry.name));
    if entry.size > most {
        return Err(named(format!("expected at most {most} bytes, found {}", entry.size)));
    }
    let mut bytes = Vec::new();
    reserve(&mut bytes, entry.held()).map_err(named)?;
    entry.open(file).map_err(named)?.read_to_end(&mut bytes).map_err(|e| named(format!("cannot read it: {e}")))?;
    Ok(bytes)
}
