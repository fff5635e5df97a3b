//! Files before PyTorch 1.6: five pickles (a magic number, the version 1001, the system, the object, the keys of the
//! storages), then for each key the count of its numbers, 8 bytes, and the numbers, always little-endian.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use super::super::elements::Order;
use super::super::regular::reserve;
use super::names::{Tensors, tensors};
use super::objects::{Heap, Value, shown};
use super::pickle::{self, LONGEST, Pickled};
use super::strided::Storage;

/// 0x1950a86a20f9469cfc6c.
const MAGIC: &[u8] = b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
const VERSION: i64 = 1001;

/// The tensors of a file of `length` bytes. Reads no numbers.
///
/// # Errors
///
/// If the file is not one that `torch.save` writes, or a truncated one.
pub(in crate::files) fn read_legacy(file: &mut File, length: u64) -> Result<Tensors, String> {
    let mut bytes = Vec::new();
    let most = length.min(LONGEST);
    reserve(&mut bytes, most)?;
    file.seek(SeekFrom::Start(0)).and_then(|_| file.take(most).read_to_end(&mut bytes)).map_err(|e| e.to_string())?;
    if bytes.get(257..262) == Some(b"ustar") {
        return Err(
            "it is a tar archive, which PyTorch before 0.1.10 wrote: write it again with a later version".into()
        );
    }
    let mut at = 0;
    let mut next = || {
        let pickled = pickle::read(&bytes, at)?;
        at = pickled.end;
        Ok::<Pickled<'_>, String>(pickled)
    };
    if next()?.root != Value::Long(MAGIC) {
        return Err("it is a Python pickle that torch.save did not write".into());
    }
    let version = next()?.root;
    if version != Value::Int(VERSION) {
        return Err(format!("expected version {VERSION}"));
    }
    let (_system, object, keys) = (next()?, next()?, next()?);
    let places = places(file, length, at as u64, &object.heap, &self::keys(&keys)?)?;
    tensors(&object, Order::Little, |storage| match places.get(storage.key) {
        Some((place, len)) if *len == storage.len => Ok(Arc::clone(place)),
        Some((_, len)) => Err(format!("expected {} numbers in its storage, found {len}", storage.len)),
        None => Err(format!("its numbers are missing: there is no storage {}", key_shown(storage.key))),
    })
}

fn keys<'p>(keys: &Pickled<'p>) -> Result<Vec<&'p [u8]>, String> {
    let text = |key: &Value<'p>| if let Value::Text(key) = *key { Some(key) } else { None };
    let list = if let Value::List(list) = keys.root { Some(&keys.heap.lists[list]) } else { None };
    let keys = list.and_then(|list| list.iter().map(text).collect());
    keys.ok_or_else(|| "expected a list of the storages' keys".into())
}

/// The storages by key, each with the count of its numbers.
type Places<'p> = HashMap<&'p [u8], (Arc<Storage>, u64)>;

/// Finds the storages, which follow each other to the end of the file.
fn places<'p>(
    file: &mut File,
    length: u64,
    mut at: u64,
    heap: &Heap<'p>,
    keys: &[&'p [u8]],
) -> Result<Places<'p>, String> {
    let mut widths = HashMap::new();
    for storage in &heap.storages {
        let width = storage.numbers.bytes() as u64;
        if *widths.entry(storage.key).or_insert(width) != width {
            return Err(format!("the storage {} has several types", key_shown(storage.key)));
        }
    }
    let mut places = HashMap::new();
    for &key in keys {
        let problem = |problem: String| format!("storage {}: {problem}", key_shown(key));
        let width = *widths.get(key).ok_or_else(|| problem("no tensor has it".into()))?;
        let mut count = [0; 8];
        file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut count)).map_err(|e| problem(e.to_string()))?;
        let count = u64::from_le_bytes(count);
        let bytes = count.checked_mul(width);
        let end = bytes.and_then(|bytes| at.checked_add(8)?.checked_add(bytes));
        let (Some(bytes), Some(end)) = (bytes, end.filter(|&end| end <= length)) else {
            let rest = length.saturating_sub(at + 8);
            return Err(problem(format!("expected {count} numbers of {width} bytes, found {rest} bytes")));
        };
        places.insert(key, (Arc::new(Storage::piece(at + 8, bytes)), count));
        at = end;
    }
    if at < length {
        return Err(format!("expected the end of the file after its numbers, found {} more byte(s)", length - at));
    }
    Ok(places)
}

fn key_shown(key: &[u8]) -> String {
    shown(&String::from_utf8_lossy(key))
}
