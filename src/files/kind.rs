//! Recognises a file's kind by its first bytes, for messages that say what was found instead of the
//! expected file. Nothing is interpreted, and nothing in a pickle is executed.

use std::io::Read;
use std::path::Path;

use super::regular::open_regular;

/// Common kinds of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One `NumPy` array.
    Npy,
    /// An archive of `NumPy` arrays.
    Npz,
    /// `PyTorch`, since 1.6: a pickle in a zip archive.
    PyTorch,
    /// `PyTorch`, before 1.6: several pickles in a row, or a tar archive of them.
    OldPyTorch,
    /// A Python pickle.
    Pickle,
    /// HDF5.
    Hdf5,
    /// Safetensors.
    Safetensors,
    /// Another known kind that is not read, described in words.
    Foreign(&'static str),
    /// Text that may be JSON.
    Json,
    /// An empty file.
    Empty,
    /// None of these.
    Other,
}

impl Kind {
    /// The kind of a regular file by its first bytes; `None` if it does not exist or cannot be read:
    /// opening it then gives the error.
    #[must_use]
    pub(crate) fn of(path: &Path) -> Option<Self> {
        start_of(path, 512).map(|bytes| Self::of_bytes(&bytes))
    }

    /// The kind of a file by its first bytes; 512 are enough.
    #[must_use]
    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        /// The pickled number with which old files of `torch.save` begin.
        const OLD_PYTORCH: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
        if bytes.is_empty() {
            return Self::Empty;
        }
        // Safetensors: the header's length, then the header. This test comes first, because a length may
        // look like `PK` or like a pickle.
        if bytes.get(8) == Some(&b'{') && bytes[..8].ends_with(&[0, 0]) {
            return Self::Safetensors;
        }
        if bytes.starts_with(b"\x93NUMPY") {
            return Self::Npy;
        }
        if bytes.starts_with(b"\x89HDF\r\n\x1a\n") {
            return Self::Hdf5;
        }
        // An archive begins with its first entry, or with the end record if it is empty.
        if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
            // The name of the first entry.
            let length = bytes.get(26..28).map_or(0, |b| usize::from(u16::from_le_bytes([b[0], b[1]])));
            let name = bytes.get(30..30 + length).unwrap_or_default();
            return if name.ends_with(b"/data.pkl") || name.ends_with(b"/.format_version") {
                Self::PyTorch
            } else {
                Self::Npz
            };
        }
        if bytes.starts_with(OLD_PYTORCH) || bytes.get(257..262) == Some(b"ustar") {
            return Self::OldPyTorch;
        }
        // The next byte of a pickle is an opcode; that of a truncated safetensors file may be 0.
        if matches!(bytes, [0x80, 0..=5, 1..=0xff, ..]) || is_text_pickle(bytes) {
            return Self::Pickle;
        }
        if let Some((_, name)) = FOREIGN.iter().find(|(start, _)| bytes.starts_with(start)) {
            return Self::Foreign(name);
        }
        let begin = bytes.trim_ascii_start();
        let is = |tag: &[u8]| begin.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag));
        if is(b"<!doctype html") || is(b"<html") {
            return Self::Foreign("an HTML page, perhaps from a failed download");
        }
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        if matches!(text.trim_ascii_start().first(), Some(b'{' | b'[')) { Self::Json } else { Self::Other }
    }

    /// A description for messages.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Npy => "a .npy file (one NumPy array)",
            Self::Npz => "a zip archive (npz)",
            Self::PyTorch => "a file from torch.save (a Python pickle in a zip archive)",
            Self::OldPyTorch => "a file from torch.save before PyTorch 1.6 (Python pickles)",
            Self::Pickle => "a Python pickle",
            Self::Hdf5 => "an HDF5 file",
            Self::Safetensors => "a safetensors file",
            Self::Foreign(name) => name,
            Self::Json => "text, perhaps JSON",
            Self::Empty => "an empty file",
            Self::Other => "a file of an unknown kind",
        }
    }

    /// Whether loading it in Python may execute code in it.
    #[must_use]
    pub(crate) fn is_pickle(self) -> bool {
        matches!(self, Self::PyTorch | Self::OldPyTorch | Self::Pickle)
    }

    /// Whether it may be plain text.
    #[must_use]
    pub(crate) fn may_be_text(self) -> bool {
        matches!(self, Self::Json | Self::Empty | Self::Other)
    }
}

/// The first bytes of a regular file, at most `most`; `None` if it cannot be opened or read.
#[must_use]
pub(crate) fn start_of(path: &Path, most: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path).ok()?.0.take(most).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The first bytes of other files that people use by mistake.
const FOREIGN: [(&[u8], &str); 12] = [
    (b"\x1f\x8b", "compressed by gzip: unpack it first"),
    (b"BZh", "compressed by bzip2: unpack it first"),
    (b"\xfd7zXZ", "compressed by xz: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd: unpack it first"),
    (b"MATLAB 5.0", "a MATLAB file"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself: `git lfs pull` fetches it"),
    (b"%PDF", "a PDF file"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89PNG", "a PNG picture"),
];

/// Protocol 0 is text: a dictionary or a list with the number of its memo, or an object's module and class.
fn is_text_pickle(bytes: &[u8]) -> bool {
    let mut lines = bytes.split(|&byte| byte == b'\n');
    let (Some(first), Some(second)) = (lines.next(), lines.next()) else { return false };
    let all = |text: &[u8], is: fn(&u8) -> bool| !text.is_empty() && text.iter().all(is);
    let is_name: fn(&u8) -> bool = |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
    let memo = first.strip_prefix(b"(dp").or_else(|| first.strip_prefix(b"(lp"));
    memo.is_some_and(|memo| all(memo, u8::is_ascii_digit))
        || first == b"ccopy_reg"
        || first.strip_prefix(b"(i").is_some_and(|module| all(module, is_name) && all(second, is_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_recognised_by_their_first_bytes() {
        let zip = |name: &str| {
            let mut bytes = b"PK\x03\x04".to_vec();
            bytes.resize(26, 0);
            bytes.extend([u8::try_from(name.len()).unwrap(), 0, 0, 0]);
            bytes.extend(name.as_bytes());
            bytes
        };
        let cases: [(&[u8], Kind); 27] = [
            (b"\x80\x02\0\0\0\0\0\0{\"a\"", Kind::Safetensors),
            (b"PK\0\0\0\0\0\0{\"a\"", Kind::Safetensors),
            (b"", Kind::Empty),
            (b"\x93NUMPY\x01\x00", Kind::Npy),
            (b"\x89HDF\r\n\x1a\n\0", Kind::Hdf5),
            (&zip("images.npy"), Kind::Npz),
            (&zip("archive/data.pkl"), Kind::PyTorch),
            (&zip("model_best/data.pkl"), Kind::PyTorch),
            (b"PK\x05\x06\0\0", Kind::Npz),
            (b"PKs are\n", Kind::Other),
            (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02", Kind::OldPyTorch),
            (b"\x80\x02cvocab\nVocabulary\n", Kind::Pickle),
            (b"\x80\x04\x95", Kind::Pickle),
            (b"\x80\x02\0\0\0", Kind::Other),
            (b"(dp0\nS'a'\n", Kind::Pickle),
            (b"(ivocab\nVocabulary\np1\n", Kind::Pickle),
            (b"(in the park)\na dog\n", Kind::Other),
            (b"(dp a dog\n", Kind::Other),
            (b"\x1f\x8b\x08\x00", Kind::Foreign("compressed by gzip: unpack it first")),
            (b"\n<!DOCTYPE html><p>", Kind::Foreign("an HTML page, perhaps from a failed download")),
            (b"<start> a dog", Kind::Other),
            (b"BZ", Kind::Other),
            (b"\x80\0\0\0\0\0\0\0{\"a\"", Kind::Safetensors),
            (b"\xef\xbb\xbf {\"a\"", Kind::Json),
            (b"[1", Kind::Json),
            (b"<pad>\n<start>", Kind::Other),
            (b"\x80", Kind::Other),
        ];
        for (bytes, kind) in cases {
            assert_eq!(Kind::of_bytes(bytes), kind, "{bytes:?}");
        }
        let mut tar = vec![b'a'; 257];
        tar.extend(b"ustar\0");
        assert_eq!(Kind::of_bytes(&tar), Kind::OldPyTorch);
        assert_eq!(Kind::of(Path::new("no/such/file")), None);
    }
}
