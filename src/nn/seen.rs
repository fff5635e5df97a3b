//! What a convolution sees, as the right factor of a matrix product.
//!
//! The numbers that the kernel sees at one output are a **column** of K = C kh kw numbers, so that for each picture
//! y [O, outputs] = W [O, K] · columns [K, outputs]. The columns are nowhere in memory: a thread writes those of some
//! outputs into the panels of a product, uses them while they are in its cache, and writes the next ones.
//!
//! Before that, it lays out what its outputs see, with zeros for the padding, so that adjacent outputs see adjacent
//! numbers: with a stride s, every s-th row and column together, [C, s, s, rows, columns]. A kernel of 1 × 1 with
//! stride 1 sees the picture as it is.
//!
//! Which outputs a thread computes at a time depends on the shapes alone, and no bit depends on it.

use std::ops::Range;

use ndarray::{ArrayViewMut2, ArrayViewMut3, Axis, s};

use crate::error::{Error, Result};
use crate::linalg::{self, Panels, Tiles};
use crate::real::Scalar;
use crate::simd::{Memory, vectorized};

/// The letters of [`conv`](super::conv); `oh` and `ow` are Ho and Wo.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) n: usize,
    pub(super) c: usize,
    pub(super) h: usize,
    pub(super) w: usize,
    pub(super) o: usize,
    pub(super) kh: usize,
    pub(super) kw: usize,
    pub(super) oh: usize,
    pub(super) ow: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
}

impl Sizes {
    /// For pictures x [N, C, H, W] and a weight [O, C, kh, kw].
    pub(super) fn of(
        (n, c, h, w): (usize, usize, usize, usize),
        (o, channels, kh, kw): (usize, usize, usize, usize),
        stride: usize,
        padding: usize,
    ) -> Result<Self> {
        assert!(stride > 0, "a stride of 0");
        if c != channels || h + 2 * padding < kh || w + 2 * padding < kw {
            let least = |kernel: usize| kernel.saturating_sub(2 * padding);
            let expected = format!(
                "[N, {channels}, H ≥ {}, W ≥ {}] for a kernel of {kh} × {kw} and padding {padding}",
                least(kh),
                least(kw)
            );
            return Err(Error::shape("x", expected, &[n, c, h, w]));
        }
        let (oh, ow) = ((h + 2 * padding - kh) / stride + 1, (w + 2 * padding - kw) / stride + 1);
        Ok(Self { n, c, h, w, o, kh, kw, oh, ow, stride, padding })
    }

    /// K, the length of a column.
    pub(super) fn k(&self) -> usize {
        self.c * self.kh * self.kw
    }

    /// Whether the columns of a picture are its pixels.
    pub(super) fn sees_pixels(&self) -> bool {
        (self.kh, self.kw, self.stride, self.padding) == (1, 1, 1, 0)
    }

    /// The sums of every output, from w [O, K] and pictures x. `finish` writes them to y [N, O, Ho Wo]: it gets the
    /// place of some outputs, their sums, and where they belong.
    pub(super) fn correlate<T: Scalar>(
        &self,
        w: &Panels<T>,
        x: &[T],
        y: ArrayViewMut3<'_, T>,
        finish: impl Fn(Place, &[T], &mut [T]) + Sync,
    ) {
        let outputs = self.oh * self.ow;
        assert!(self.k() > 0, "a convolution of nothing");
        assert_eq!(y.dim(), (self.n, self.o, outputs), "the shape of y");
        if y.is_empty() {
            return;
        }
        let most = (self.n * outputs * self.o * self.k() / 8).clamp(1 << 18, 1 << 27);
        Correlation { sizes: self, w, x, finish, most }.split(&[0..self.n, 0..w.count(), 0..outputs], y);
    }
}

/// Some adjacent outputs of one channel of a picture.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) picture: usize,
    /// o
    pub(super) channel: usize,
    /// The first output, as a place in a plane of y.
    pub(super) first: usize,
}

/// What one thread computes, along the axes of y: pictures, channels as panels of the weight, and outputs as places in
/// a plane.
type Task = [Range<usize>; 3];

/// The most columns that are written at a time.
pub(super) const COLUMNS: usize = 128;

struct Correlation<'a, T, F> {
    sizes: &'a Sizes,
    w: &'a Panels<T>,
    x: &'a [T],
    finish: F,
    /// A task with more multiplications is divided.
    most: usize,
}

impl<T: Scalar, F: Fn(Place, &[T], &mut [T]) + Sync> Correlation<'_, T, F> {
    /// Halves a task, unless a half had so few outputs that the last panel of its columns, which is not full, would
    /// weigh, or so few channels that to write the columns would.
    fn split(&self, task: &Task, y: ArrayViewMut3<'_, T>) {
        /// The least outputs, and panels of channels, of a half.
        const LEAST: (usize, usize) = (512, 16);
        let [pictures, channels, outputs] = task;
        let columns = pictures.len() * outputs.len();
        let large = columns * self.w.lines_in(channels.clone()) * self.sizes.k() > self.most;
        let axis = match (columns >= 2 * LEAST.0, pictures.len()) {
            _ if !large => return self.run(task, y),
            (true, 1) => 2,
            (true, _) => 0,
            (false, _) if channels.len() >= 2 * LEAST.1 => 1,
            (false, _) => return self.run(task, y),
        };
        let half = task[axis].len() / 2;
        let half = if axis == 2 { half.next_multiple_of(T::shape().columns) } else { half };
        let [mut task0, mut task1] = [task.clone(), task.clone()];
        task0[axis].end = task[axis].start + half;
        task1[axis].start = task0[axis].end;
        let (y0, y1) = y.split_at(Axis(axis), if axis == 1 { self.w.lines_in(task0[1].clone()) } else { half });
        rayon::join(|| self.split(&task0, y0), || self.split(&task1, y1));
    }

    /// Computes a task, some columns at a time.
    fn run(&self, task: &Task, mut y: ArrayViewMut3<'_, T>) {
        let [pictures, channels, outputs] = task;
        let columns = pictures.len() * outputs.len();
        let some = columns.div_ceil(columns.div_ceil(COLUMNS)).next_multiple_of(T::shape().columns);
        let mut memory = T::memory(Memory::Columns).take();
        let seen = Seen::lay_out(self.sizes, self.x, task, &mut memory);
        for first in (0..columns).step_by(some) {
            let these = first..columns.min(first + some);
            let write = |terms, panels: &mut [T]| seen.write(terms, these.clone(), panels);
            linalg::matmul_written(self.w, channels, these.len(), write, |tiles| {
                let mut at = first;
                while at < these.end {
                    let (n, output) = (at / outputs.len(), at % outputs.len());
                    let end = these.end.min((n + 1) * outputs.len());
                    let place = Place {
                        picture: pictures.start + n,
                        channel: self.w.start(channels.start),
                        first: outputs.start + output,
                    };
                    let y = y.index_axis_mut(Axis(0), n);
                    self.store(place, tiles, at - first..end - first, y.slice_move(s![.., output..output + end - at]));
                    at = end;
                }
            });
        }
        T::memory(Memory::Columns).set(memory);
    }

    /// Finishes the sums of some columns of a picture. `place` is that of y [channels, outputs].
    fn store(&self, place: Place, tiles: &Tiles<'_, T>, columns: Range<usize>, mut y: ArrayViewMut2<'_, T>) {
        vectorized(
            #[inline(always)]
            || {
                for row in tiles.rows.clone() {
                    let mut place = Place { channel: place.channel + row, ..place };
                    let mut y = y.row_mut(row);
                    let mut y = y.as_slice_mut().expect("a plane is contiguous");
                    for sums in tiles.pieces(row, columns.clone()) {
                        let these;
                        (these, y) = y.split_at_mut(sums.len());
                        (self.finish)(place, sums, these);
                        place.first += sums.len();
                    }
                }
            },
        );
    }
}

/// The numbers that the outputs of a task see.
struct Seen<'a, T> {
    sizes: &'a Sizes,
    numbers: &'a [T],
    /// In each picture of the task, as places in a plane of y.
    outputs: Range<usize>,
    /// The number of numbers of a picture, of one of its planes, and of a row.
    picture: usize,
    plane: usize,
    row: usize,
    /// The row of outputs that sees the first row through the first row of the kernel.
    first: usize,
}

impl<'a, T: Scalar> Seen<'a, T> {
    /// Lays out in `memory` what a task sees of pictures x.
    fn lay_out(sizes: &'a Sizes, x: &'a [T], task: &Task, memory: &'a mut Vec<T>) -> Self {
        let [pictures, _, outputs] = task.clone();
        let Sizes { c, h, w, kh, kw, ow, stride, padding, .. } = *sizes;
        if sizes.sees_pixels() {
            let picture = c * h * w;
            let numbers = &x[pictures.start * picture..pictures.end * picture];
            return Self { sizes, numbers, outputs, picture, plane: h * w, row: w, first: 0 };
        }
        let rows = outputs.start / ow..outputs.end.div_ceil(ow);
        let (height, row) = (rows.len() + (kh - 1) / stride, ow + (kw - 1) / stride);
        let planes = c * stride.min(kh) * stride.min(kw);
        let count = pictures.len() * planes * height * row;
        if memory.len() < count {
            memory.resize(count, T::zero());
        }
        let mut lines = memory[..count].chunks_exact_mut(row);
        for plane in pictures.start * c..pictures.end * c {
            let plane = &x[plane * h * w..(plane + 1) * h * w];
            for (u, v) in (0..stride.min(kh)).flat_map(|u| (0..stride.min(kw)).map(move |v| (u, v))) {
                // Number j of line i is pixel (s i + u − p, s j + v − p).
                let inside = padding.saturating_sub(v).div_ceil(stride);
                for (i, line) in (rows.start..).zip(lines.by_ref().take(height)) {
                    let seen = (stride * i + u).checked_sub(padding).filter(|&i| i < h);
                    let seen = seen.map_or(&[][..], |i| &plane[i * w..(i + 1) * w]);
                    let (before, line) = line.split_at_mut(inside.min(row));
                    let seen = (stride * before.len() + v).checked_sub(padding).and_then(|j| seen.get(j..));
                    let seen = seen.unwrap_or_default();
                    before.fill(T::zero());
                    let (pixels, after) = line.split_at_mut(seen.len().div_ceil(stride).min(line.len()));
                    if stride == 1 {
                        pixels.copy_from_slice(&seen[..pixels.len()]);
                    } else {
                        pixels.iter_mut().zip(seen.iter().step_by(stride)).for_each(|(to, &x)| *to = x);
                    }
                    after.fill(T::zero());
                }
            }
        }
        let (picture, plane) = (planes * height * row, height * row);
        Self { sizes, numbers: &memory[..count], outputs, picture, plane, row, first: rows.start }
    }

    /// Writes columns of the task, at most [`COLUMNS`] of them, as panels [panel, k, width], with the terms of a block of
    /// K.
    fn write(&self, terms: Range<usize>, columns: Range<usize>, panels: &mut [T]) {
        let Sizes { kh, kw, stride, .. } = *self.sizes;
        let mut offsets = [0; TERMS];
        let offsets = &mut offsets[..terms.len()];
        let (mut c, mut u, mut v) = (terms.start / (kh * kw), terms.start / kw % kh, terms.start % kw);
        for offset in &mut *offsets {
            *offset = if stride == 1 {
                c * self.plane + u * self.row + v
            } else {
                let plane = (c * stride.min(kh) + u % stride) * stride.min(kw) + v % stride;
                plane * self.plane + u / stride * self.row + v / stride
            };
            v += 1;
            if v == kw {
                (u, v) = (u + 1, 0);
            }
            if u == kh {
                (c, u) = (c + 1, 0);
            }
        }
        self.runs(columns).write(self.numbers, offsets, panels);
    }

    /// The columns of a task in runs. Adjacent outputs see adjacent numbers.
    fn runs(&self, columns: Range<usize>) -> Runs {
        let ow = self.sizes.ow;
        let (mut runs, mut at) = (Runs::default(), columns.start);
        while at < columns.end {
            let (n, output) = (at / self.outputs.len(), self.outputs.start + at % self.outputs.len());
            let (i, j) = (output / ow, output % ow);
            // In a picture without padding the rows are adjacent, too.
            let adjacent = if self.row == ow { self.outputs.end } else { self.outputs.end.min((i + 1) * ow) } - output;
            let length = adjacent.min(columns.end - at);
            runs.add::<T>(n * self.picture + (i - self.first) * self.row + j, at - columns.start, length);
            at += length;
        }
        runs
    }
}

/// The most terms of a block of K.
pub(super) const TERMS: usize = 512;

/// What some columns of a right factor are, of a matrix that is nowhere in memory: pieces of adjacent columns whose
/// numbers are adjacent in what is seen, for every term.
pub(super) struct Runs {
    runs: [Run; COLUMNS],
    count: usize,
}

#[derive(Clone, Copy, Default)]
struct Run {
    /// Where the first number is for a term whose offset is 0.
    from: usize,
    panel: usize,
    /// The first column in the panel.
    column: usize,
    /// So many numbers are copied: a power of two, at most [`COPIED`]. Those that are too many are in columns that are
    /// written later, or are missing.
    copied: usize,
}

/// So many numbers are copied at a time.
const COPIED: usize = 16;

impl Default for Runs {
    fn default() -> Self {
        Self { runs: [Run::default(); COLUMNS], count: 0 }
    }
}

impl Runs {
    /// Adds columns from this one on, to the right of all others.
    pub(super) fn add<T: Scalar>(&mut self, mut from: usize, mut column: usize, mut length: usize) {
        let width = T::shape().columns;
        while length > 0 {
            let room = width - column % width;
            let copied = if room >= COPIED { COPIED } else { 1 << room.min(length).ilog2() };
            self.runs[self.count] = Run { from, panel: column / width, column: column % width, copied };
            self.count += 1;
            let done = copied.min(length);
            (from, column, length) = (from + done, column + done, length - done);
        }
    }

    /// Writes panels [panel, term, width]; each term has its offset in what is seen.
    pub(super) fn write<T: Scalar>(&self, seen: &[T], offsets: &[usize], panels: &mut [T]) {
        /// So many terms at a time, so that the lines stay in the nearest cache until all their columns are there.
        const AT_ONCE: usize = 64;
        let width = T::shape().columns;
        vectorized(
            #[inline(always)]
            || {
                for (number, these) in offsets.chunks(AT_ONCE).enumerate() {
                    for run in &self.runs[..self.count] {
                        let first = (run.panel * offsets.len() + number * AT_ONCE) * width;
                        let lines = &mut panels[first..first + these.len() * width];
                        let seen = &seen[run.from..];
                        match run.copied {
                            16 => copy::<T, 16>(seen, these, lines, width, run.column),
                            8 => copy::<T, 8>(seen, these, lines, width, run.column),
                            4 => copy::<T, 4>(seen, these, lines, width, run.column),
                            2 => copy::<T, 2>(seen, these, lines, width, run.column),
                            _ => copy::<T, 1>(seen, these, lines, width, run.column),
                        }
                    }
                }
            },
        );
    }
}

/// Copies some adjacent numbers to the same columns of every line. The compiler must know how many.
#[inline(always)]
fn copy<T: Scalar, const N: usize>(seen: &[T], offsets: &[usize], lines: &mut [T], width: usize, column: usize) {
    for (line, &offset) in lines.chunks_exact_mut(width).zip(offsets) {
        let (seen, line) = (&seen[offset..], &mut line[column..]);
        if let (Some(x), Some(y)) = (seen.first_chunk::<N>(), line.first_chunk_mut()) {
            *y = *x;
        } else {
            // At the end of what is seen.
            line.iter_mut().zip(seen).for_each(|(y, &x)| *y = x);
        }
    }
}
