//! Turns the bytes of a file into text in UTF-8.

use std::fmt::Write;
use std::path::Path;

use crate::error::{Error, Result};
use crate::files::{Kind, read_bytes, start_of};

/// The largest caption file in bytes: two hundred times that of COCO.
const MOST: u64 = 1 << 32;

/// The bytes of a file. If the beginning shows that it is not text, only the beginning is read.
pub(super) fn read_text_of(path: &Path) -> Result<Vec<u8>> {
    const START: u64 = 1 << 16;
    let mut start = start_of(path, START).unwrap_or_default();
    match start.iter().rposition(|&byte| byte == 0) {
        Some(zero) if start.len() as u64 == START => {
            start.truncate(zero + 1);
            Ok(start)
        }
        _ => read_bytes(path, MOST),
    }
}

/// UTF-8, without a byte-order mark at the beginning.
pub(super) fn decode(path: &Path, bytes: Vec<u8>) -> Result<String> {
    let kind = Kind::of_bytes(&bytes);
    if !kind.may_be_text() {
        return Err(Error::file(path, format!("expected text in UTF-8, one caption per line, found {}", kind.name())));
    }
    if let Some((encoding, marked)) = other_encoding(&bytes) {
        let how = if marked { "it begins with its byte-order mark" } else { "by the places of its zero bytes" };
        let problem = format!("this is {encoding} ({how}); expected UTF-8. {}", convert(path, encoding));
        return Err(Error::line(path, 1, problem));
    }
    let text = String::from_utf8(bytes).map_err(|e| {
        let (bytes, at) = (e.as_bytes(), e.utf8_error().valid_up_to());
        let line = bytes[..at].split(|&b| b == b'\n').count();
        let mut problem = format!("expected UTF-8, found byte 0x{:02x}", bytes[at]);
        if let Some((byte, letter)) = as_western(bytes[at]) {
            let _ = write!(
                problem,
                ". If the file is in Latin-1 or Windows-1252, where 0x{byte:02x} is {letter}: {}",
                convert(path, "WINDOWS-1252")
            );
        }
        Error::line(path, line, problem)
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

/// The character of a byte in Windows-1252 (Latin-1 except for 0x80 to 0x9f), if captions may contain it.
fn as_western(byte: u8) -> Option<(u8, char)> {
    let letter = match byte {
        0x80 => '€',
        0x85 => '…',
        0x91 => '‘',
        0x92 => '’',
        0x93 => '“',
        0x94 => '”',
        0x96 => '–',
        0x97 => '—',
        0xa0..=0xff => char::from(byte),
        _ => return None,
    };
    (byte != 0xa0).then_some((byte, letter))
}

/// Recognises UTF-16 and UTF-32. The second value says whether a byte-order mark shows it.
fn other_encoding(bytes: &[u8]) -> Option<(&'static str, bool)> {
    const MARKS: [(&[u8], &str); 4] =
        [(b"\xff\xfe\0\0", "UTF-32"), (b"\0\0\xfe\xff", "UTF-32"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16")];
    if let Some((_, name)) = MARKS.iter().find(|(mark, _)| bytes.starts_with(mark)) {
        return Some((name, true));
    }
    // Without a mark: an ASCII letter is one byte and zeros, always in the same place.
    let mut zeros = [0usize; 4];
    for (at, _) in bytes.iter().enumerate().filter(|&(_, &byte)| byte == 0) {
        zeros[at % 4] += 1;
    }
    let quarter = bytes.len() / 4;
    let full = |at: usize| quarter > 0 && zeros[at] * 2 > quarter;
    match [full(0), full(1), full(2), full(3)] {
        [false, true, true, true] => Some(("UTF-32LE", false)),
        [true, true, true, false] => Some(("UTF-32BE", false)),
        [false, true, false, true] => Some(("UTF-16LE", false)),
        [true, false, true, false] => Some(("UTF-16BE", false)),
        _ => None,
    }
}

fn convert(path: &Path, encoding: &str) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    format!("To convert it: iconv -f {encoding} -t UTF-8 '{file}' > new.txt && mv new.txt '{file}'")
}
