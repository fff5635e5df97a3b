//! A picture.

/// A picture: rows from top to bottom, pixels from left to right, each red, green, blue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Three bytes per pixel, `width · height · 3` in total.
    pub rgb: Vec<u8>,
}

impl Picture {
    /// Red, green and blue of a pixel, as integers to compute with.
    pub(super) fn pixel(&self, x: usize, y: usize) -> [i32; 3] {
        let at = 3 * (y * self.width + x);
        let [red, green, blue] = [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]];
        [red.into(), green.into(), blue.into()]
    }
}
