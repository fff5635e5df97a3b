//! Opens files. Anything but a regular file is rejected before it is opened, and a file that is too
//! large is rejected before it is read.

use std::fs::{File, Metadata};
use std::io::Read;
use std::path::Path;

use crate::error::{Error, Result};

/// Opens a regular file, following links, and returns it with its length.
///
/// # Errors
///
/// Fails if the file is missing, or is a folder, a pipe, a device or a socket: reading those may never end.
pub(crate) fn open_regular(path: &Path) -> Result<(File, u64)> {
    let failed = |e| Error::io(path, "read", e);
    // Checked before opening, because opening a pipe waits for a writer.
    check_kind(path, &std::fs::metadata(path).map_err(failed)?)?;
    let file = File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    check_kind(path, &about)?;
    Ok((file, about.len()))
}

/// The bytes of a regular file of at most `most` bytes.
///
/// # Errors
///
/// The same as [`open_regular`]; also if the file is larger, or if there is not enough memory.
pub(crate) fn read_bytes(path: &Path, most: u64) -> Result<Vec<u8>> {
    let (file, length) = open_regular(path)?;
    if length > most {
        return Err(Error::file(path, format!("expected at most {most} bytes, found {length}")));
    }
    let mut bytes = Vec::new();
    reserve(&mut bytes, length).map_err(|problem| Error::file(path, problem))?;
    file.take(length).read_to_end(&mut bytes).map_err(|e| Error::io(path, "read", e))?;
    Ok(bytes)
}

/// The text of a regular file of at most `most` bytes, UTF-8.
///
/// # Errors
///
/// The same as [`read_bytes`]; also if the file is not UTF-8 (the message gives the line of the first
/// wrong byte).
pub(crate) fn read_text(path: &Path, most: u64) -> Result<String> {
    String::from_utf8(read_bytes(path, most)?).map_err(|e| {
        let (at, bytes) = (e.utf8_error().valid_up_to(), e.as_bytes());
        let line = bytes[..at].split(|&byte| byte == b'\n').count();
        Error::line(path, line, format!("expected UTF-8, found byte 0x{:02x}", bytes[at]))
    })
}

/// Reserves room for more numbers.
///
/// # Errors
///
/// Fails if there is not enough memory; the message gives the size.
pub(crate) fn reserve<T>(numbers: &mut Vec<T>, more: u64) -> std::result::Result<(), String> {
    let bytes = more.saturating_mul(size_of::<T>() as u64);
    let fits = bytes <= SMALL || memory_left().is_none_or(|left| bytes <= left);
    match usize::try_from(more) {
        Ok(more) if fits && numbers.try_reserve_exact(more).is_ok() => Ok(()),
        _ => Err(format!("not enough memory: it takes {bytes} bytes")),
    }
}

/// Up to this size, memory is reserved without checking how much is left.
const SMALL: u64 = 1 << 28;

/// An estimate of the memory that this process may still use, if the system provides it. Linux grants
/// more than it has, and kills the process when the memory is used.
fn memory_left() -> Option<u64> {
    let free = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    });
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (folder, file) = match parts.next() {
            Some("") => ("/sys/fs/cgroup", "memory.max"),
            Some("memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => return Vec::new(),
        };
        // A container sees its own group as the root. "max", or a missing file, means no known limit.
        let group = parts.next().unwrap_or_default();
        let read = |file: String| std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
        [format!("{folder}{group}/{file}"), format!("{folder}/{file}")].into_iter().filter_map(read).collect()
    });
    limits.chain(free).min()
}

fn check_kind(path: &Path, about: &Metadata) -> Result<()> {
    if about.is_file() {
        return Ok(());
    }
    Err(Error::file(path, format!("expected a regular file, found {}", kind(about))))
}

fn kind(about: &Metadata) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = about.file_type();
        if kind.is_fifo() {
            return "a pipe";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_char_device() || kind.is_block_device() {
            return "a device";
        }
    }
    if about.is_dir() { "a folder" } else { "something else" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_within_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        std::fs::write(&path, "one\ntwo").unwrap();
        assert_eq!(read_text(&path, 7).unwrap(), "one\ntwo");
        assert_eq!(open_regular(&path).unwrap().1, 7);
        let problem = |most| read_text(&path, most).unwrap_err().to_string();
        assert!(problem(6).ends_with("a.txt: expected at most 6 bytes, found 7"), "{}", problem(6));
        std::fs::write(&path, b"one\ntw\xff").unwrap();
        assert!(problem(7).ends_with("a.txt:2: expected UTF-8, found byte 0xff"), "{}", problem(7));
        assert_eq!(read_bytes(&path, 7).unwrap(), b"one\ntw\xff");
        let problem = read_bytes(folder.path(), 7).unwrap_err().to_string();
        assert!(problem.ends_with("expected a regular file, found a folder"), "{problem}");
        let problem = read_bytes(&folder.path().join("b"), 7).unwrap_err().to_string();
        assert!(problem.contains("b: cannot read"), "{problem}");
    }

    #[cfg(unix)]
    #[test]
    fn devices_and_pipes_are_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for (path, kind) in [(&link, "a device"), (&pipe, "a pipe")] {
            let problem = open_regular(path).unwrap_err().to_string();
            assert!(problem.ends_with(&format!("expected a regular file, found {kind}")), "{problem}");
        }
    }

    #[test]
    fn a_failed_allocation_is_an_error() {
        let problem = reserve(&mut Vec::<f32>::new(), 1 << 60).unwrap_err();
        assert_eq!(problem, "not enough memory: it takes 4611686018427387904 bytes");
        assert!(reserve(&mut Vec::<f64>::new(), u64::MAX).is_err());
        let mut few = Vec::<f32>::new();
        reserve(&mut few, 3).unwrap();
        assert!(few.capacity() >= 3);
        assert!(memory_left().is_none_or(|left| left > SMALL), "this machine has more memory left");
    }
}
