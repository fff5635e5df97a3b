//! What becomes of a picture: its centre, ten crops, or a random crop.
//!
//! ```text
//! short side  the short side becomes R, the long one ⌊R · long / short⌋
//! centre      C × C pixels from round((n − C)/2) on, halves to even; a smaller picture gets zeros around it
//! ten crops   top left, top right, bottom left, bottom right and centre; then those of the mirrored picture
//! random      up to ten times: area = A · U(0.08, 1),  ratio = exp U(ln ¾, ln 4⁄3),
//!             width = round(√(area · ratio)),  height = round(√(area / ratio)),
//!             until both fit; top and left are uniform. Otherwise the largest centred box with a ratio in
//!             [¾, 4⁄3]. The box is cut out and resized to C × C, and mirrored with probability ½
//! ```

use std::fmt::{self, Display};

use ndarray_rand::rand::RngCore;

use super::picture::Picture;
use super::resize::{Window, resize};
use crate::error::{Error, Result};
use crate::random::below;

/// The law of random crops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RandomCrop {
    /// torchvision's of today.
    Today,
    /// torchvision's before 2019, when VSE++ was published: the ratio is U(¾, 4⁄3), width and height are exchanged
    /// with probability ½, and what never fits is the largest centred square.
    Before2019,
}

/// What a picture becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crops {
    /// R: the short side of a picture before its centre or its ten crops are cut out.
    pub resize: usize,
    /// C: height and width of a crop.
    pub crop: usize,
    /// How a picture is cropped in training; its centre if there is no law.
    pub random: Option<RandomCrop>,
    /// Whether pictures are turned by the orientation in their EXIF data.
    pub upright: bool,
}

/// Everything that decides about them, in one line.
impl Display for Crops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resize, crop, random, upright } = self;
        write!(f, "{resize} {crop} {random:?} {upright}")
    }
}

impl Default for Crops {
    /// 256, 224, the centre, not turned.
    fn default() -> Self {
        Self { resize: 256, crop: 224, random: None, upright: false }
    }
}

/// The largest side of a crop, and of what it is cut from.
const MOST: usize = 4096;

impl Crops {
    /// # Errors
    ///
    /// If a size is 0 or above 4096.
    pub(crate) fn check(&self) -> Result<()> {
        for (key, size) in [("resize", self.resize), ("crop", self.crop)] {
            if !(1..=MOST).contains(&size) {
                return Err(Error::config(key, format!("a number of pixels from 1 to {MOST}"), size));
            }
        }
        Ok(())
    }

    /// The centre, C × C.
    #[must_use]
    pub fn centre(&self, picture: &Picture) -> Picture {
        let [height, width] = short_side(picture.size(), self.resize);
        let [(top, above, rows), (left, before, columns)] = [height, width].map(|n| centre(n, self.crop));
        let part = Window { top, left, height: rows, width: columns };
        let found = resize(picture, Window::all(picture.size()), [height, width], part);
        if [rows, columns] == [self.crop; 2] {
            return found;
        }
        let mut all = Picture { width: self.crop, height: self.crop, rgb: vec![0; 3 * self.crop * self.crop] };
        for y in 0..rows {
            let at = 3 * ((above + y) * self.crop + before);
            all.rgb[at..at + 3 * columns].copy_from_slice(found.row(y));
        }
        all
    }

    /// The ten crops, each C × C.
    ///
    /// # Errors
    ///
    /// If R < C: there are no ten crops then.
    pub fn ten(&self, picture: &Picture) -> Result<[Picture; 10]> {
        let c = self.crop;
        if self.resize < c {
            let expected = format!("at least the side of a crop, {c}, for ten crops");
            return Err(Error::config("resize", expected, self.resize));
        }
        let [height, width] = short_side(picture.size(), self.resize);
        let (bottom, right) = (height - c, width - c);
        let (middle, centre) = (centre(height, c).0, centre(width, c).0);
        let places = [(0, 0), (0, right), (bottom, 0), (bottom, right), (middle, centre)];
        let part = |top, left| {
            let part = Window { top, left, height: c, width: c };
            resize(picture, Window::all(picture.size()), [height, width], part)
        };
        Ok(std::array::from_fn(|k| {
            let (top, left) = places[k % 5];
            // What is at `left` of the mirrored picture.
            if k < 5 { part(top, left) } else { part(top, right - left).flipped() }
        }))
    }

    /// A random crop, C × C, by a law.
    pub(crate) fn random(&self, picture: &Picture, law: RandomCrop, rng: &mut impl RngCore) -> Picture {
        let window = random_box(picture.size(), law, rng);
        let crop = resize(picture, window, [self.crop; 2], Window::all([self.crop; 2]));
        if coin(rng) { crop.flipped() } else { crop }
    }
}

/// Height and width once the short side is `short`.
fn short_side([height, width]: [usize; 2], short: usize) -> [usize; 2] {
    if height < width { [short, short * width / height] } else { [short * height / width, short] }
}

/// Where the middle `crop` of `n` numbers are: the first of them, how many zeros are before them, and how many
/// they are.
#[allow(clippy::manual_midpoint)] // a difference, halved
fn centre(n: usize, crop: usize) -> (usize, usize, usize) {
    match n.checked_sub(crop) {
        // Halves to even: 1/2 is 0, 3/2 is 2.
        Some(rest) => (rest / 2 + usize::from(rest % 4 == 3), 0, crop),
        None => (0, (crop - n) / 2, n),
    }
}

/// U(0, 1): 53 bits of a `u64`.
fn uniform(rng: &mut impl RngCore) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// True with probability ½.
fn coin(rng: &mut impl RngCore) -> bool {
    rng.next_u64() >> 63 == 1
}

/// The whole number nearest to a number that is not negative, halves to even.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn rounded(x: f64) -> usize {
    x.round_ties_even() as usize
}

const AREA: [f64; 2] = [0.08, 1.0];
const RATIO: [f64; 2] = [3.0 / 4.0, 4.0 / 3.0];

/// The box of a random crop of a picture of some height and width. Both are at least 1.
fn random_box([height, width]: [usize; 2], law: RandomCrop, rng: &mut impl RngCore) -> Window {
    let between = |[low, high]: [f64; 2], u: f64| low + (high - low) * u;
    for _ in 0..10 {
        let area = (height * width) as f64 * between(AREA, uniform(rng));
        let ratio = match law {
            RandomCrop::Today => libm::exp(between(RATIO.map(libm::log), uniform(rng))),
            RandomCrop::Before2019 => between(RATIO, uniform(rng)),
        };
        let (mut w, mut h) = (rounded((area * ratio).sqrt()), rounded((area / ratio).sqrt()));
        if law == RandomCrop::Before2019 && coin(rng) {
            (w, h) = (h, w);
        }
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            let (top, left) = (below(rng, height - h + 1), below(rng, width - w + 1));
            return Window { top, left, height: h, width: w };
        }
    }
    let ratio = width as f64 / height as f64;
    let (h, w) = match law {
        RandomCrop::Before2019 => (height.min(width), height.min(width)),
        RandomCrop::Today if ratio < RATIO[0] => (rounded(width as f64 / RATIO[0]), width),
        RandomCrop::Today if ratio > RATIO[1] => (height, rounded(height as f64 * RATIO[1])),
        RandomCrop::Today => (height, width),
    };
    Window { top: (height - h) / 2, left: (width - w) / 2, height: h, width: w }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::stream;

    fn windows(size: [usize; 2], law: RandomCrop) -> Vec<Window> {
        let mut rng = stream(1, "test");
        (0..20_000).map(|_| random_box(size, law, &mut rng)).collect()
    }

    #[test]
    fn the_centre_is_rounded_to_even_and_small_pictures_are_padded() {
        let offsets = [257, 259, 341, 343, 225, 224, 256].map(|n| centre(n, 224));
        assert_eq!(offsets.map(|(first, ..)| first), [16, 18, 58, 60, 0, 0, 16]);
        assert_eq!([223, 221, 1].map(|n| centre(n, 224)), [(0, 0, 223), (0, 1, 221), (0, 111, 1)]);
    }

    #[test]
    fn the_short_side_decides() {
        assert_eq!(short_side([427, 640], 256), [256, 383]);
        assert_eq!(short_side([640, 427], 256), [383, 256]);
        assert_eq!(short_side([256, 300], 256), [256, 300]);
        assert_eq!(short_side([7, 7], 256), [256, 256]);
        assert_eq!(short_side([2000, 1], 256), [512_000, 256]);
    }

    #[test]
    fn areas_and_ratios_follow_the_law() {
        let size = [2000, 2000];
        for law in [RandomCrop::Today, RandomCrop::Before2019] {
            let windows = windows(size, law);
            let n = windows.len() as f64;
            let mean = |of: &dyn Fn(&Window) -> f64| windows.iter().fold(0.0, |sum, window| sum + of(window)) / n;
            let area = |window: &Window| (window.height * window.width) as f64 / 4e6;
            let ratio = |window: &Window| window.width as f64 / window.height as f64;
            for window in &windows {
                assert!(window.top + window.height <= 2000 && window.left + window.width <= 2000);
                // Sides of at least 489 pixels are rounded by half a pixel: 0.2 % of the area and of the ratio.
                assert!((0.08 * 0.997..=1.0).contains(&area(window)), "{window:?}");
                assert!((0.75 * 0.997..=1.003 / 0.75).contains(&ratio(window)), "{window:?}");
            }
            assert!(
                windows.iter().any(|window| area(window) < 0.09) && windows.iter().any(|window| area(window) > 0.97)
            );
            // Both laws are symmetric: as often wide as high. Five deviations of a mean of n numbers within ln 4⁄3.
            let logarithm = mean(&|window| libm::log(ratio(window)));
            assert!(logarithm.abs() < 5.0 * 0.288 / n.sqrt(), "{logarithm}");
            // The mean of |ln ratio|: ½ ln 4⁄3 = 0.1438 today. Before 2019 it was the mean of |ln r| over r in
            // U(¾, 4⁄3): (∫ from ¾ to 1 of −ln r + ∫ from 1 to 4⁄3 of ln r) / (7⁄12) = 0.1456. Where a wide box does
            // not fit it is drawn again, which changes both by some 2 %, so the two are distinguished below.
            let width = mean(&|window| libm::log(ratio(window)).abs());
            assert!((0.135..0.150).contains(&width), "{width}");
            // Places: the middle of the box is uniform, so its mean is the centre: within five deviations.
            let (x, y) =
                (mean(&|w| w.left as f64 + w.width as f64 / 2.0), mean(&|w| w.top as f64 + w.height as f64 / 2.0));
            assert!(
                (x - 1000.0).abs() < 5.0 * 578.0 / n.sqrt() && (y - 1000.0).abs() < 5.0 * 578.0 / n.sqrt(),
                "{x} {y}"
            );
        }
    }

    #[test]
    fn what_never_fits_is_the_largest_centred_box() {
        let today = |size| windows(size, RandomCrop::Today)[0];
        // 5 × 200 at a ratio of at least ¾: no drawn box fits, since the smallest has √(80 · ¾) = 7.7 columns.
        assert_eq!(today([200, 5]), Window { top: 96, left: 0, height: 7, width: 5 });
        assert_eq!(today([5, 200]), Window { top: 0, left: 96, height: 5, width: 7 });
        assert_eq!(windows([200, 5], RandomCrop::Before2019)[0], Window { top: 97, left: 0, height: 5, width: 5 });
        for law in [RandomCrop::Today, RandomCrop::Before2019] {
            assert!(windows([1, 1], law).iter().all(|window| *window == Window::all([1, 1])));
            assert!(windows([1, 2000], law).iter().all(|window| window.width >= 1 && window.height == 1));
        }
    }

    #[test]
    fn sizes_are_checked() {
        assert!(Crops::default().check().is_ok());
        let message = |crops: Crops| crops.check().unwrap_err().to_string();
        let expected = "crop = 0: expected a number of pixels from 1 to 4096";
        assert_eq!(message(Crops { crop: 0, ..Crops::default() }), expected);
        assert!(Crops { resize: 5000, ..Crops::default() }.check().is_err());
        let ten = Crops { resize: 20, crop: 21, ..Crops::default() }.ten(&Picture::default()).unwrap_err();
        assert_eq!(ten.to_string(), "resize = 20: expected at least the side of a crop, 21, for ten crops");
    }
}
