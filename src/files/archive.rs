//! Reads zip archives, as far as npz and PyTorch files need it: the directory, and one entry at a time.
//!
//! Only the directory at the end of the file is used. It is first compared with the file's size, its
//! entries must not overlap, and an entry never yields more bytes than its declared size.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use flate2::Crc;
use flate2::read::DeflateDecoder;

use crate::escape;

/// An entry of the directory.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) name: String,
    method: u16,
    encrypted: bool,
    crc: u32,
    /// Its size in the archive, in bytes.
    packed: u64,
    /// The size of its content, in bytes.
    pub(super) size: u64,
    /// The offset of its own header.
    start: u64,
}

const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// Reads an entry's content, up to the declared size, and compares the checksum at the end.
pub(super) struct Content<R> {
    inner: R,
    left: u64,
    crc: Crc,
    expected: u32,
}

/// Reads the directory of an archive of `length` bytes.
///
/// # Errors
///
/// Fails if there is no directory at the end, or if its entries overlap.
pub(super) fn read_directory(file: &mut File, length: u64) -> Result<Vec<Entry>, String> {
    /// The most entries that are accepted, more than any file of arrays has. It bounds their memory.
    const ENTRIES: u64 = 1 << 14;
    /// The size of the record at the end without its comment; a comment has at most 65,535 bytes.
    const END: u64 = 22;
    let tail = read_at(file, length.saturating_sub(END + 0xffff), length.min(END + 0xffff)).map_err(explain)?;
    let at = (0..tail.len().saturating_sub(21)).rev().find(|&at| {
        tail[at..].starts_with(b"PK\x05\x06") && at + 22 + usize::from(u16_at(&tail, at + 20)) == tail.len()
    });
    let at = at.ok_or("it has no directory at its end")?;
    let end = &tail[at..];
    let end_at = length - tail.len() as u64 + at as u64;
    let (mut entries, mut size, mut start) =
        (u64::from(u16_at(end, 10)), u64::from(u32_at(end, 12)), u64::from(u32_at(end, 16)));
    let mut directory_end = end_at;
    // With more than 65,535 entries or 4 GiB there is another record before this one, and a pointer to it.
    // PyTorch always writes both.
    let is_large = entries == 0xffff || size == 0xffff_ffff || start == 0xffff_ffff;
    let pointer = read_at(file, end_at.saturating_sub(20), end_at.min(20)).map_err(explain)?;
    let has_pointer = pointer.len() == 20 && pointer.starts_with(b"PK\x06\x07");
    if is_large && !has_pointer {
        return Err("its directory is cut off".into());
    }
    if has_pointer {
        directory_end = u64_at(&pointer, 8);
        if directory_end.checked_add(56).is_none_or(|end| end > end_at) {
            return Err("its directory is cut off".into());
        }
        let record = read_at(file, directory_end, 56).map_err(explain)?;
        if !record.starts_with(b"PK\x06\x06") {
            return Err("its directory is cut off".into());
        }
        (entries, size, start) = (u64_at(&record, 32), u64_at(&record, 40), u64_at(&record, 48));
    }
    if start.checked_add(size).is_none_or(|end| end != directory_end) {
        return Err(format!("expected a directory of {size} bytes from {start} to {directory_end}"));
    }
    if entries > ENTRIES {
        return Err(format!("expected at most {ENTRIES} entries, found {entries}"));
    }
    let mut directory = Vec::new();
    super::regular::reserve(&mut directory, size)?;
    file.seek(SeekFrom::Start(start)).map_err(explain)?;
    file.take(size).read_to_end(&mut directory).map_err(explain)?;
    let all = parse(&directory, entries)?;
    check_places(&all, start)?;
    Ok(all)
}

fn parse(directory: &[u8], entries: u64) -> Result<Vec<Entry>, String> {
    /// The size of a record without its name, its extra field and its comment.
    const FIXED: usize = 46;
    let cut = || "its directory is cut off".to_owned();
    let mut all = Vec::new();
    let mut rest = directory;
    for _ in 0..entries {
        if rest.len() < FIXED || !rest.starts_with(b"PK\x01\x02") {
            return Err(cut());
        }
        let [name, extra, comment] = [28, 30, 32].map(|at| usize::from(u16_at(rest, at)));
        let record = rest.get(..FIXED + name + extra + comment).ok_or_else(cut)?;
        rest = &rest[record.len()..];
        let name_of = &record[FIXED..FIXED + name];
        let mut wide = wide_fields(&record[FIXED + name..FIXED + name + extra]);
        let mut number = |at: usize| match u32_at(record, at) {
            u32::MAX => wide.next().ok_or_else(cut),
            few => Ok(few.into()),
        };
        let (size, packed, start) = (number(24)?, number(20)?, number(42)?);
        all.push(Entry {
            name: String::from_utf8_lossy(name_of).into_owned(),
            method: u16_at(record, 10),
            encrypted: u16_at(record, 8) & 1 == 1,
            crc: u32_at(record, 16),
            packed,
            size,
            start,
        });
    }
    if rest.is_empty() { Ok(all) } else { Err(format!("expected {entries} entries, found more")) }
}

/// The sizes and the offset that do not fit into 32 bits.
fn wide_fields(mut extra: &[u8]) -> impl Iterator<Item = u64> {
    let mut fields: &[u8] = &[];
    while extra.len() >= 4 {
        let length = usize::from(u16_at(extra, 2));
        let Some(field) = extra.get(4..4 + length) else { break };
        if u16_at(extra, 0) == 1 {
            fields = field;
        }
        extra = &extra[4 + length..];
    }
    fields.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect::<Vec<_>>().into_iter()
}

/// Fails if two entries share bytes, or if one overlaps the directory.
fn check_places(all: &[Entry], directory: u64) -> Result<(), String> {
    /// The size of an entry's shortest header.
    const HEADER: u64 = 30;
    let mut spans: Vec<&Entry> = all.iter().collect();
    spans.sort_by_key(|entry| entry.start);
    let next =
        spans.iter().skip(1).map(|entry| (entry.start, entry.name.as_str())).chain([(directory, "the directory")]);
    for (entry, (limit, next)) in spans.iter().zip(next) {
        let end = entry.start.checked_add(HEADER).and_then(|n| n.checked_add(entry.packed));
        if end.is_none_or(|end| end > limit) {
            return Err(format!("its entry {} overlaps {}", escape::name(&entry.name), escape::name(next)));
        }
    }
    Ok(())
}

/// Counts the entries of each name.
pub(super) fn count_names<'a>(names: impl Iterator<Item = &'a str>) -> HashMap<&'a str, usize> {
    let mut counts = HashMap::new();
    for name in names {
        *counts.entry(name).or_insert(0) += 1;
    }
    counts
}

impl Entry {
    /// Opens the entry.
    ///
    /// # Errors
    ///
    /// Fails if its compression method is not supported, or if it would expand more than compressed
    /// numbers can.
    pub(super) fn open<'f>(&self, file: &'f mut File) -> Result<Content<Box<dyn Read + 'f>>, String> {
        /// Any entry may expand to this size.
        const SMALL: u64 = 1 << 24;
        /// Arrays of numbers shrink to a tenth at best. A larger entry that expands by more than this
        /// factor is a zip bomb.
        const GROWTH: u64 = 256;
        let start = self.data(file)?;
        file.seek(SeekFrom::Start(start)).map_err(unreadable)?;
        let packed = file.take(self.packed);
        let inner: Box<dyn Read> = match self.method {
            STORED if self.packed == self.size => Box::new(packed),
            STORED => return Err(format!("cannot read the entry: {} bytes declared as {}", self.packed, self.size)),
            DEFLATED if self.size <= SMALL || self.size / GROWTH <= self.packed => {
                Box::new(DeflateDecoder::new(packed))
            }
            DEFLATED => {
                let problem = format!("{} bytes that would expand to {}", self.packed, self.size);
                return Err(format!("cannot read the entry: {problem}, more than {GROWTH} times as much"));
            }
            other => {
                return Err(format!(
                    "cannot read the entry: compressed by method {other}, expected 0 (none) or 8 (deflate)"
                ));
            }
        };
        Ok(Content { inner, left: self.size, crc: Crc::new(), expected: self.crc })
    }

    /// The position of the entry's data in the file.
    fn data(&self, file: &mut File) -> Result<u64, String> {
        if self.encrypted {
            return Err("cannot read the entry: it is encrypted".into());
        }
        let header = read_at(file, self.start, 30).map_err(unreadable)?;
        if !header.starts_with(b"PK\x03\x04") {
            return Err("cannot read the entry: there is no entry at its offset".into());
        }
        Ok(self.start + 30 + u64::from(u16_at(&header, 26)) + u64::from(u16_at(&header, 28)))
    }

    /// Compares the checksum of an entry that is not compressed, and returns the position of its content.
    ///
    /// # Errors
    ///
    /// As [`Self::open`]; also if the entry is compressed or the checksum differs.
    pub(super) fn check(&self, file: &mut File) -> Result<u64, String> {
        if self.method != STORED {
            return Err(format!("expected an entry that is not compressed, found {} to be", escape::name(&self.name)));
        }
        io::copy(&mut self.open(file)?, &mut io::sink()).map_err(unreadable)?;
        self.data(file)
    }

    /// A number of content bytes that the file certainly holds.
    pub(super) fn held(&self) -> u64 {
        self.size.min(self.packed)
    }
}

impl<R: Read> Read for Content<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if wanted == 0 && !buffer.is_empty() {
            // At the end no data may follow, and the checksum must agree.
            if self.inner.read(&mut [0])? > 0 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it is longer than declared"));
            }
            if self.crc.sum() != self.expected {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "invalid checksum"));
            }
            return Ok(0);
        }
        let read = self.inner.read(&mut buffer[..wanted])?;
        self.crc.update(&buffer[..read]);
        self.left -= read as u64;
        Ok(read)
    }
}

fn read_at(file: &mut File, start: u64, length: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn explain(error: io::Error) -> String {
    error.to_string()
}

fn unreadable(error: io::Error) -> String {
    format!("cannot read the entry: {error}")
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
