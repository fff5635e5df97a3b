//! A picture: its pixels, and the eight ways to turn it.

/// A picture: rows from top to bottom, pixels from left to right, each red, green, blue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// Pixels in a row.
    pub(crate) width: usize,
    /// Rows.
    pub(crate) height: usize,
    /// Three bytes per pixel, `width · height · 3` in total.
    pub(crate) rgb: Vec<u8>,
}

impl Picture {
    /// Height and width.
    #[must_use]
    pub fn size(&self) -> [usize; 2] {
        [self.height, self.width]
    }

    /// The pixels, [height, width, 3], row by row.
    #[must_use]
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// A row.
    pub(super) fn row(&self, y: usize) -> &[u8] {
        &self.rgb[3 * self.width * y..3 * self.width * (y + 1)]
    }

    /// Red, green and blue of a pixel, as integers to compute with.
    pub(in crate::data) fn pixel(&self, x: usize, y: usize) -> [i32; 3] {
        let at = 3 * (y * self.width + x);
        let [red, green, blue] = [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]];
        [red.into(), green.into(), blue.into()]
    }

    /// The picture with left and right exchanged.
    #[must_use]
    pub(crate) fn flipped(mut self) -> Self {
        for row in self.rgb.chunks_exact_mut((3 * self.width).max(1)) {
            row.as_chunks_mut::<3>().0.reverse();
        }
        self
    }

    /// The picture as it is to be seen, by the orientation of EXIF: how it was turned to be stored. Numbers other
    /// than 1 to 8 have no meaning and change nothing.
    pub(super) fn upright(self, orientation: u32) -> Self {
        let ([height, width], last) = (self.size(), [self.height.saturating_sub(1), self.width.saturating_sub(1)]);
        // Where the pixel in row y and column x comes from: its row and its column.
        let from: fn([usize; 2], usize, usize) -> [usize; 2] = match orientation {
            2 => return self.flipped(),
            3 => |[bottom, right], y, x| [bottom - y, right - x],
            4 => |[bottom, _], y, x| [bottom - y, x],
            5 => |_, y, x| [x, y],
            6 => |[bottom, _], y, x| [bottom - x, y],
            7 => |[bottom, right], y, x| [bottom - x, right - y],
            8 => |[_, right], y, x| [x, right - y],
            _ => return self,
        };
        let [height, width] = if orientation < 5 { [height, width] } else { [width, height] };
        let mut rgb = Vec::with_capacity(self.rgb.len());
        for y in 0..height {
            for x in 0..width {
                let [row, column] = from(last, y, x);
                rgb.extend_from_slice(&self.row(row)[3 * column..3 * column + 3]);
            }
        }
        Self { width, height, rgb }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of one letter for each pixel.
    fn picture(rows: &[&str]) -> Picture {
        let rgb = rows.iter().flat_map(|row| row.bytes().flat_map(|letter| [letter, letter, 1])).collect();
        Picture { width: rows[0].len(), height: rows.len(), rgb }
    }

    #[test]
    fn each_orientation_turns_a_picture_as_exif_says() {
        let stored = picture(&["abc", "def"]);
        let upright: [&[&str]; 8] = [
            &["abc", "def"],
            &["cba", "fed"],
            &["fed", "cba"],
            &["def", "abc"],
            &["ad", "be", "cf"],
            &["da", "eb", "fc"],
            &["fc", "eb", "da"],
            &["cf", "be", "ad"],
        ];
        for (orientation, expected) in (1..).zip(upright) {
            assert_eq!(stored.clone().upright(orientation), picture(expected), "{orientation}");
        }
        for other in [0, 9, u32::MAX] {
            assert_eq!(stored.clone().upright(other), stored, "{other}");
        }
    }
}
