//! A factor of a product, laid out as the product reads it.
//!
//! A register tile multiplies some rows of A with 32 columns of B and walks along K. So that it
//! reads memory from front to back, the lines of a factor (rows of A, columns of B) are grouped into
//! **panels**, and within a panel the k-th numbers of all its lines stand together: [K, width].
//! Packing costs a copy, M K + K N numbers for M K N multiplications. A weight that many products of
//! a step share, the GRU's `W_hh`, is packed once.

use std::ops::Range;

use ndarray::{ArrayView2, s};
use rayon::prelude::*;

use super::PARALLEL_WORK;
use crate::simd::{TILE_COLUMNS, Tile};

/// The lines of one factor in panels; see the module's text.
#[derive(Clone, Debug)]
pub struct Panels<T> {
    data: Vec<T>,
    /// Lines in a panel; the last one is filled up with zeros.
    width: usize,
    /// M or N.
    lines: usize,
    /// K.
    depth: usize,
}

impl<T> Default for Panels<T> {
    fn default() -> Self {
        Self { data: Vec::new(), width: TILE_COLUMNS, lines: 0, depth: 0 }
    }
}

impl<T: Tile + Send + Sync> Panels<T> {
    /// Packs the columns of B [K, N], whatever this held before.
    pub fn pack_right(&mut self, b: ArrayView2<'_, T>) {
        self.pack(b.reversed_axes(), TILE_COLUMNS);
    }

    /// Packs the rows of A [M, K], whatever this held before.
    pub fn pack_left(&mut self, a: ArrayView2<'_, T>) {
        // As few panels as there must be, and these as even as can be: 13 rows are 7 and 6, not 12
        // and 1.
        let panels = a.nrows().div_ceil(T::tile_rows()).max(1);
        self.pack(a, a.nrows().div_ceil(panels).max(1));
    }

    fn pack(&mut self, lines: ArrayView2<'_, T>, width: usize) {
        (self.lines, self.depth) = lines.dim();
        self.width = width;
        let panel = width * self.depth;
        self.data.resize(self.lines.div_ceil(width) * panel, T::zero());
        if panel == 0 {
            return;
        }
        let pack = |(first, panel): (usize, &mut [T])| {
            let last = self.lines.min((first + 1) * width);
            pack_panel(lines.slice(s![first * width..last, ..]), width, panel);
        };
        if self.data.len() < PARALLEL_WORK {
            self.data.chunks_exact_mut(panel).enumerate().for_each(pack);
        } else {
            self.data.par_chunks_exact_mut(panel).enumerate().for_each(pack);
        }
    }
}

impl<T> Panels<T> {
    /// Panels over memory that was used before.
    pub(super) fn over(data: Vec<T>) -> Self {
        Self { data, ..Self::default() }
    }
    pub(super) fn into_memory(self) -> Vec<T> {
        self.data
    }
    /// M or N.
    #[must_use]
    pub fn lines(&self) -> usize {
        self.lines
    }
    pub(super) fn depth(&self) -> usize {
        self.depth
    }
    /// Lines in a panel; the last may have fewer.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }
    /// How many panels there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lines.div_ceil(self.width)
    }
    /// One panel, [K, width].
    pub(super) fn panel(&self, number: usize) -> &[T] {
        &self.data[number * self.width * self.depth..][..self.width * self.depth]
    }
    /// How many lines some panels hold.
    #[must_use]
    pub fn lines_in(&self, panels: Range<usize>) -> usize {
        (panels.end * self.width).min(self.lines) - (panels.start * self.width).min(self.lines)
    }
    /// How many of a panel's lines are none of its filling.
    pub(super) fn lines_of(&self, number: usize) -> usize {
        self.width.min(self.lines - number * self.width)
    }
}

/// Writes lines [≤ width, K] as [K, width].
fn pack_panel<T: Tile>(lines: ArrayView2<'_, T>, width: usize, panel: &mut [T]) {
    /// Numbers along K at a time: a few cache lines of each line.
    const STEP: usize = 128;
    let (count, depth) = lines.dim();
    if count < width {
        panel.fill(T::zero());
    }
    if lines.strides()[0] == 1 {
        // The numbers of one k are neighbours already.
        for (group, line) in panel.chunks_exact_mut(width).zip(lines.columns()) {
            group[..count].copy_from_slice(line.to_slice().expect("its numbers are neighbours"));
        }
        return;
    }
    for k in (0..depth).step_by(STEP) {
        let step = k..depth.min(k + STEP);
        let groups = &mut panel[k * width..step.end * width];
        for (i, line) in lines.outer_iter().enumerate() {
            let groups = groups.chunks_exact_mut(width);
            match line.to_slice() {
                Some(line) => groups.zip(&line[step.clone()]).for_each(|(group, &x)| group[i] = x),
                None => groups.zip(line.slice(s![step.clone()])).for_each(|(group, &x)| group[i] = x),
            }
        }
    }
}
