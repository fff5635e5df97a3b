//! Maximum and mean of windows.
use super::*;

/// A window of k × k pixels, every s pixels, with p pixels of −∞ around the picture.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
}

impl Window {
    /// The rows of window i of a picture with n of them.
    pub(crate) fn rows(self, i: usize, n: usize) -> std::ops::Range<usize> {
        let start = i * self.stride;
        start.saturating_sub(self.padding)..(start + self.kernel).saturating_sub(self.padding).min(n)
    }
    /// How many windows n rows have.
    pub(crate) fn count(self, n: usize) -> usize {
        (n + 2 * self.padding - self.kernel) / self.stride + 1
    }
}

/// The place of the first of the largest numbers of a window, in the order of the rows.
pub(crate) fn first_maximum<T: Scalar>(x: &Array4<T>, window: Window, at: (usize, usize, usize, usize)) -> [usize; 4] {
    let (n, c, i, j) = at;
    let pixels = window.rows(i, x.dim().2).flat_map(|i| window.rows(j, x.dim().3).map(move |j| [n, c, i, j]));
    pixels.reduce(|best, next| if x[next].re() > x[best].re() { next } else { best }).expect("a pixel in each window")
}

/// x [N, C, H, W] gives y [N, C, H′, W′].
pub fn max_pool<T: Scalar>(x: &Array4<T>, window: Window) -> Array4<T> {
    let (n, c, h, w) = x.dim();
    let shape = (n, c, window.count(h), window.count(w));
    Array4::from_shape_fn(shape, |at| x[first_maximum(x, window, at)]) // (MAXPOOL-1)  y = max of x over the window
}

/// dy [N, C, H′, W′] gives dx [N, C, H, W]. Where windows overlap, their gradients add.
pub fn max_pool_backward<T: Real>(x: &Array4<T>, window: Window, dy: &Array4<T>) -> Array4<T> {
    let mut dx = Array4::zeros(x.dim());
    for (at, &dy) in dy.indexed_iter() {
        dx[first_maximum(x, window, at)] += dy; // (MAXPOOL-1′)  dx += dy at the first maximum of the window
    }
    dx
}

/// The rows of cell i of k cells over n rows.
pub(crate) fn cell(i: usize, k: usize, n: usize) -> std::ops::Range<usize> {
    i * n / k..((i + 1) * n).div_ceil(k)
}

/// x [N, C, H, W] gives y [N, C, k, k]: cells of equal size, up to a pixel that two of them share.
pub fn avg_pool<T: Scalar>(x: &Array4<T>, k: usize) -> Array4<T> {
    let (n, c, h, w) = x.dim();
    Array4::from_shape_fn((n, c, k, k), |(n, c, i, j)| {
        // (AVGPOOL-1)  y_ij = mean of x over the rows ⌊i H / k⌋ to ⌈(i + 1) H / k⌉ and the columns alike
        let pixels = x.slice(s![n, c, cell(i, k, h), cell(j, k, w)]);
        pixels.iter().fold(T::zero(), |sum, &x| sum + x) / T::from_f64(pixels.len() as f64)
    })
}

/// dy [N, C, k, k] gives dx [N, C, H, W].
pub fn avg_pool_backward<T: Real>(x: &Array4<T>, k: usize, dy: &Array4<T>) -> Array4<T> {
    let ((_, _, h, w), mut dx) = (x.dim(), Array4::zeros(x.dim()));
    for ((n, c, i, j), &dy) in dy.indexed_iter() {
        let mut pixels = dx.slice_mut(s![n, c, cell(i, k, h), cell(j, k, w)]);
        let share = dy / T::from_f64(pixels.len() as f64);
        pixels.mapv_inplace(|dx| dx + share); // (AVGPOOL-1′)  dx += dy / (pixels of the cell)
    }
    dx
}
