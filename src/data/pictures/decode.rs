//! From the bytes of a file to a picture.

use std::path::Path;

use super::limits::FILE;
use super::picture::Picture;
use super::{jpeg, png};
use crate::error::{Error, Result};
use crate::files::{Kind, read_bytes};

/// The first bytes of other pictures.
const OTHERS: [(&[u8], &str); 8] = [
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"II*\0", "a TIFF picture"),
    (b"MM\0*", "a TIFF picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"<svg", "an SVG picture"),
];

impl Picture {
    /// Reads a JPEG or PNG file; its content decides, not its name. `upright` turns it by the orientation in its
    /// EXIF data. `docs/pictures.md` says what each kind of picture becomes.
    ///
    /// # Errors
    ///
    /// If the file is missing or not a regular file; if it is truncated, damaged, or another kind of file; if the
    /// picture has no pixels or more than 8192 · 8192. The message names the file, what was expected and what was
    /// found.
    pub fn read(path: &Path, upright: bool) -> Result<Self> {
        Self::decode(&read_bytes(path, FILE)?, upright).map_err(|problem| Error::file(path, problem))
    }

    /// The picture in the bytes of a file.
    pub(super) fn decode(bytes: &[u8], upright: bool) -> std::result::Result<Self, String> {
        let (picture, orientation) = if bytes.starts_with(b"\xff\xd8\xff") {
            jpeg::decode(bytes)?
        } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            png::decode(bytes)?
        } else {
            return Err(format!("expected a JPEG or PNG picture, found {}", kind(bytes)));
        };
        Ok(match orientation {
            Some(orientation) if upright => picture.upright(orientation),
            _ => picture,
        })
    }
}

/// What a file is instead.
fn kind(bytes: &[u8]) -> &'static str {
    if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        return "a WebP picture";
    }
    if bytes.get(4..8) == Some(b"ftyp") {
        return "an AVIF or HEIF picture, or a film";
    }
    let other = OTHERS.iter().find(|(start, _)| bytes.starts_with(start));
    other.map_or_else(|| Kind::of_bytes(bytes).name(), |(_, name)| name)
}
