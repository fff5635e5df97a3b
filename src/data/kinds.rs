//! What a file is by its first bytes, for messages about a file that is not what its name says.

use std::io::Read;
use std::path::Path;

use crate::files::open_regular;

/// The first bytes of a regular file, at most so many; none if it cannot be read.
pub(crate) fn start_of(path: &Path, most: u64) -> Vec<u8> {
    let mut start = Vec::new();
    if let Ok((file, _)) = open_regular(path) {
        let _ = file.take(most).read_to_end(&mut start);
    }
    start
}

/// The kind of a file, if it is one of those that people put in place of another.
#[must_use]
pub(crate) fn kind(start: &[u8]) -> Option<&'static str> {
    const BEGINNINGS: [(&[u8], &str); 15] = [
        (b"\x93NUMPY", "a .npy array"),
        (b"PK\x03\x04", "a zip archive (.npz files and PyTorch's .pt files are such archives)"),
        (b"\x1f\x8b", "compressed by gzip: unpack it first"),
        (b"BZh", "compressed by bzip2: unpack it first"),
        (b"\xfd7zXZ", "compressed by xz: unpack it first"),
        (b"\x28\xb5\x2f\xfd", "compressed by zstd: unpack it first"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"MATLAB 5.0", "a MATLAB file"),
        (b"PAR1", "a Parquet file"),
        (b"ARROW1", "an Arrow file"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"version https://git-lfs", "a Git LFS pointer, not the file itself: `git lfs pull` fetches it"),
        (b"%PDF", "a PDF file"),
        (b"\xff\xd8\xff", "a JPEG picture"),
        (b"\x89PNG", "a PNG picture"),
    ];
    if let Some((_, kind)) = BEGINNINGS.iter().find(|(beginning, _)| start.starts_with(beginning)) {
        return Some(kind);
    }
    if start.len() > 1 && start[0] == 0x80 && (2..=5).contains(&start[1]) {
        return Some("a Python pickle");
    }
    if start.len() > 8 && start[8] == b'{' && start[4..8] == [0; 4] {
        return Some("a safetensors file");
    }
    let text = start.trim_ascii_start();
    let page = text.len() >= 14 && text[..14].eq_ignore_ascii_case(b"<!doctype html")
        || text.len() >= 5 && text[..5].eq_ignore_ascii_case(b"<html");
    page.then_some("an HTML page, as a failed download leaves")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_by_their_first_bytes() {
        let named =
            |bytes: &[u8]| kind(bytes).unwrap_or("none").split([' ', ',']).take(3).collect::<Vec<_>>().join(" ");
        assert_eq!(named(b"\x93NUMPY\x01\x00"), "a .npy array");
        assert_eq!(named(b"PK\x03\x04rest"), "a zip archive");
        assert_eq!(named(b"\x80\x04\x95"), "a Python pickle");
        assert_eq!(named(b"H\0\0\0\0\0\0\0{\"a\":"), "a safetensors file");
        assert_eq!(named(b"\n<!DOCTYPE html><p>"), "an HTML page");
        assert_eq!(named(b"version https://git-lfs.github.com/spec/v1\n"), "a Git LFS");
        for text in ["a dog", "", "PKs are", "<start> a dog", "BZ"] {
            assert_eq!(kind(text.as_bytes()), None, "{text}");
        }
    }
}
