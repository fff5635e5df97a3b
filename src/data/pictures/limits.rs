//! How large a picture may be.

use crate::files::reserve;

/// The most pixels of a picture, 8192 × 8192: 200 MB.
const PIXELS: u64 = 1 << 26;

/// The most bytes of a file.
pub(super) const FILE: u64 = 1 << 28;

/// Room for the pixels of a picture. `most` is how many pixels the file can hold at best by its length: memory
/// grows with the data that are there, not with what a header says.
///
/// # Errors
///
/// If there are no pixels, or too many.
pub(super) fn room(height: usize, width: usize, most: u64) -> Result<Vec<u8>, String> {
    let pixels = height as u64 * width as u64;
    let found = format!("{width} × {height}");
    if pixels == 0 {
        return Err(format!("expected a picture of at least one pixel, found {found}"));
    }
    if pixels > PIXELS {
        return Err(format!("expected at most {PIXELS} pixels, found {found}"));
    }
    if pixels > most {
        return Err(format!("expected at most {most} pixels from the length of the file, found {found}"));
    }
    let mut rgb = Vec::new();
    reserve(&mut rgb, 3 * pixels)?;
    rgb.resize(3 * height * width, 0);
    Ok(rgb)
}
