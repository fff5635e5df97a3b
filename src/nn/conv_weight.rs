//! The gradient of a convolution's weight, as a matrix product: dW [O, K] += dy [O, outputs] · seen [outputs, K].
//!
//! A row of the right factor is what an output sees: K = C kh kw numbers. It is nowhere in memory: a thread writes the
//! rows of some outputs into the panels of a product. For that x is laid out with its channels side by side, and with
//! zeros for the padding: then an output sees runs of adjacent numbers.
//!
//! An element of dW is a sum over the outputs of a block in their order, and the sums of the blocks are added in
//! theirs. The borders of the blocks depend on the shapes alone, so no bit depends on the number of threads.

use std::ops::Range;

use ndarray::parallel::prelude::*;
use ndarray::{ArrayView2, ArrayView3, ArrayViewMut2, Axis, ShapeBuilder, s};
use rayon::slice::{ParallelSlice, ParallelSliceMut};

use super::seen::{COLUMNS, Runs, Sizes, TERMS};
use crate::linalg::{self, Panels, Write};
use crate::real::Scalar;
use crate::simd::Memory;

/// Outputs that are summed at once: whole rows of one picture, or several whole pictures.
pub(super) struct Block {
    pub(super) pictures: Range<usize>,
    /// In each picture, as places in a plane of y.
    pub(super) outputs: Range<usize>,
}

impl Block {
    /// Blocks of bounded size. Their borders do not depend on the number of pictures.
    pub(super) fn all(sizes: Sizes) -> impl Iterator<Item = Self> {
        /// The largest number of elements, of what the outputs see and of the outputs, unless one row of outputs has
        /// more.
        const NUMBERS: usize = 1 << 20;
        let row = sizes.k().max(sizes.o).max(1) * sizes.ow;
        let (pictures, rows) = (NUMBERS / (row * sizes.oh), NUMBERS / row);
        let (pictures, rows) = (pictures.max(1), rows.clamp(1, sizes.oh));
        (0..sizes.n).step_by(pictures).flat_map(move |n| {
            let pictures = n..sizes.n.min(n + pictures);
            (0..sizes.oh).step_by(rows).map(move |i| {
                let rows = i..sizes.oh.min(i + rows);
                Self { pictures: pictures.clone(), outputs: rows.start * sizes.ow..rows.end * sizes.ow }
            })
        })
    }

    pub(super) fn len(&self) -> usize {
        self.pictures.len() * self.outputs.len()
    }

    /// The picture, if there is one only.
    pub(super) fn picture(&self) -> Option<usize> {
        (self.pictures.len() == 1).then_some(self.pictures.start)
    }

    /// The numbers [L, outputs] of a block, from those of all pictures, [N, L, Ho Wo].
    pub(super) fn together<'a, T: Scalar>(&self, all: ArrayView3<'a, T>, memory: &'a mut Vec<T>) -> ArrayView2<'a, T> {
        if let Some(n) = self.picture() {
            return all.slice_move(s![n, .., self.outputs.clone()]);
        }
        let shape = (all.dim().1, self.len());
        if memory.len() < shape.0 * shape.1 {
            memory.resize(shape.0 * shape.1, T::zero());
        }
        let memory = &mut memory[..shape.0 * shape.1];
        let mut together = ArrayViewMut2::from_shape(shape, &mut *memory).expect("as many");
        let pictures = together.axis_chunks_iter_mut(Axis(1), self.outputs.len()).into_par_iter();
        let all = all.slice_move(s![self.pictures.clone(), .., ..]);
        pictures.zip(all.outer_iter().into_par_iter()).for_each(|(mut to, numbers)| to.assign(&numbers));
        ArrayView2::from_shape(shape, memory).expect("as many")
    }
}

/// Adds to dw [O, K] the gradient of the outputs of a block. dy is [O, outputs].
pub(super) fn add_block<T: Scalar>(
    sizes: &Sizes,
    x: &[T],
    block: &Block,
    dy: ArrayView2<'_, T>,
    mut dw: ArrayViewMut2<'_, T>,
) {
    if sizes.sees_pixels() {
        let x = ArrayView3::from_shape((sizes.n, sizes.k(), sizes.oh * sizes.ow), x).expect("pictures");
        let mut memory = T::memory(Memory::Columns).take();
        linalg::matmul_write(dy, block.together(x, &mut memory).t(), Write::Add, dw);
        T::memory(Memory::Columns).set(memory);
        return;
    }
    // Taken, not borrowed: while this thread waits for others, it may begin another product.
    let mut panels = Panels::over(T::memory(Memory::Left).take());
    panels.pack_left(dy);
    let (mut pixels, mut sums) = (T::memory(Memory::Columns).take(), T::memory(Memory::Gradient).take());
    let seen = Pixels::lay_out(sizes, x, block, &mut pixels);
    let (taps, k) = (sizes.kh * sizes.kw, sizes.k());
    if sums.len() < dw.len() {
        sums.resize(dw.len(), T::zero());
    }
    let most = (dw.len() * block.len() / 8).clamp(1 << 18, 1 << 27);
    let product = ArrayViewMut2::from_shape((sizes.o, k), &mut sums[..dw.len()]).expect("as many");
    Gradient { sizes, dy: &panels, seen, most }.split(0..panels.count(), 0..k, product);
    let rows = dw.axis_iter_mut(Axis(0)).into_par_iter().zip(sums.par_chunks_exact(k));
    rows.with_min_len(linalg::rows_at_once(k)).for_each(|(mut dw, sums)| {
        let dw = dw.as_slice_mut().expect("a row is contiguous");
        for (tap, sums) in sums.chunks_exact(sizes.c).enumerate() {
            dw[tap..].iter_mut().step_by(taps).zip(sums).for_each(|(dw, &sum)| *dw += sum);
        }
    });
    T::memory(Memory::Left).set(panels.into_memory());
    T::memory(Memory::Columns).set(pixels);
    T::memory(Memory::Gradient).set(sums);
}

/// The product for one block. The places of the kernel are in the order [kh, kw, C].
struct Gradient<'a, T> {
    sizes: &'a Sizes,
    dy: &'a Panels<T>,
    seen: Pixels<'a, T>,
    /// A task with more multiplications is divided.
    most: usize,
}

impl<T: Scalar> Gradient<'_, T> {
    /// Halves a task, some panels of dy and some places of the kernel, if it is large. Each task writes what is seen
    /// through its places, and reads all of its dy: so the places are divided, but not into fewer than two panels; dy
    /// only if there are no more.
    fn split(&self, rows: Range<usize>, places: Range<usize>, sums: ArrayViewMut2<'_, T>) {
        let large = sums.len() * self.dy.depth() > self.most;
        let width = T::shape().columns;
        if large && places.len() >= 4 * width {
            let half = (places.len() / 2).next_multiple_of(width);
            let (sums0, sums1) = sums.split_at(Axis(1), half);
            let (places0, places1, other) =
                (places.start..places.start + half, places.start + half..places.end, rows.clone());
            rayon::join(|| self.split(rows, places0, sums0), || self.split(other, places1, sums1));
        } else if large && places.len() <= 2 * width && rows.len() > 1 {
            let middle = rows.start + rows.len() / 2;
            let (sums0, sums1) = sums.split_at(Axis(0), self.dy.lines_in(rows.start..middle));
            let (rows0, rows1, other) = (rows.start..middle, middle..rows.end, places.clone());
            rayon::join(|| self.split(rows0, places, sums0), || self.split(rows1, other, sums1));
        } else {
            self.run(&rows, &places, sums);
        }
    }

    /// Computes a task, some places at a time.
    fn run(&self, rows: &Range<usize>, places: &Range<usize>, mut sums: ArrayViewMut2<'_, T>) {
        let some = places.len().div_ceil(places.len().div_ceil(COLUMNS)).next_multiple_of(T::shape().columns);
        // The places of a row of the kernel see adjacent numbers.
        let adjacent = self.sizes.kw * self.sizes.c;
        for first in places.clone().step_by(some) {
            let these = first..places.end.min(first + some);
            let (mut runs, mut place) = (Runs::default(), first);
            while place < these.end {
                let (u, at) = (place / adjacent, place % adjacent);
                let length = (adjacent - at).min(these.end - place);
                runs.add::<T>(u * self.seen.columns * self.sizes.c + at, place - first, length);
                place += length;
            }
            let write = |terms, panels: &mut [T]| self.seen.write(terms, &runs, panels);
            let mut sums = sums.slice_mut(s![.., first - places.start..these.end - places.start]);
            linalg::matmul_written(self.dy, rows, these.len(), write, |tiles| {
                for row in tiles.rows.clone() {
                    let mut sums = sums.row_mut(row);
                    let mut sums = sums.as_slice_mut().expect("a row is contiguous");
                    for piece in tiles.pieces(row, 0..these.len()) {
                        let now;
                        (now, sums) = sums.split_at_mut(piece.len());
                        now.copy_from_slice(piece);
                    }
                }
            });
        }
    }
}

/// The pixels that the outputs of a block see: [pictures, rows, columns, C].
struct Pixels<'a, T> {
    sizes: &'a Sizes,
    numbers: &'a [T],
    /// Of y, in each picture.
    outputs: Range<usize>,
    rows: usize,
    columns: usize,
}

impl<'a, T: Scalar> Pixels<'a, T> {
    fn lay_out(sizes: &'a Sizes, x: &[T], block: &Block, memory: &'a mut Vec<T>) -> Self {
        let Sizes { c, h, w, kh, kw, ow, stride, padding, .. } = *sizes;
        let (first, last) = (block.outputs.start / ow, block.outputs.end / ow - 1);
        let (rows, columns) = (stride * (last - first) + kh, stride * (ow - 1) + kw);
        let line = columns * c;
        let count = block.pictures.len() * rows * line;
        if memory.len() < count {
            memory.resize(count, T::zero());
        }
        let lines = memory[..count].par_chunks_exact_mut(line).with_min_len(linalg::rows_at_once(line));
        lines.enumerate().for_each(|(number, line)| {
            let n = block.pictures.start + number / rows;
            let i = (stride * first + number % rows).checked_sub(padding).filter(|&i| i < h);
            let (before, line) = line.split_at_mut(padding.min(columns) * c);
            let pixels = if i.is_some() { w.min(columns.saturating_sub(padding)) } else { 0 };
            let (line, after) = line.split_at_mut(pixels * c);
            before.fill(T::zero());
            after.fill(T::zero());
            if let Some(i) = i.filter(|_| pixels > 0) {
                let row = ArrayView2::from_shape((c, pixels).strides((h * w, 1)), &x[(n * c * h + i) * w..]);
                linalg::transpose(row.expect("a row of every channel"), c, line);
            }
        });
        Self { sizes, numbers: &memory[..count], outputs: block.outputs.clone(), rows, columns }
    }

    /// Writes what some outputs see through some places as panels [panel, output, width].
    fn write(&self, outputs: Range<usize>, runs: &Runs, panels: &mut [T]) {
        let Sizes { c, ow, stride, .. } = *self.sizes;
        let mut offsets = [0; TERMS];
        let offsets = &mut offsets[..outputs.len()];
        let (n, output) = (outputs.start / self.outputs.len(), outputs.start % self.outputs.len());
        let (mut n, mut i, mut j) = (n, output / ow, output % ow);
        for offset in &mut *offsets {
            *offset = ((n * self.rows + stride * i) * self.columns + stride * j) * c;
            j += 1;
            if j == ow {
                (i, j) = (i + 1, 0);
            }
            if i * ow == self.outputs.len() {
                (n, i) = (n + 1, 0);
            }
        }
        runs.write(self.numbers, offsets, panels);
    }
}
