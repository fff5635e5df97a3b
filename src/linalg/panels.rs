//! A factor of a product, packed in the order in which the product reads it.
//!
//! A register tile multiplies some rows of A with 32 columns of B, one k after the other. To read memory
//! sequentially, the lines of a factor (rows of A, columns of B) are grouped into **panels**. Within a
//! panel the k-th numbers of all its lines are adjacent: [K, width]. Packing copies M K + K N numbers for
//! M K N multiplications. A weight shared by many products of a step, the GRU's `W_hh`, is packed once.

use std::ops::Range;

use ndarray::{ArrayView2, s};
use rayon::prelude::*;

use super::PARALLEL_WORK;
use crate::simd::{TILE_COLUMNS, Tile};

/// The lines of one factor in panels; see the module documentation.
#[derive(Clone, Debug)]
pub(crate) struct Panels<T> {
    data: Vec<T>,
    /// Lines per panel; the last panel is filled with zeros.
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
    /// Packs the columns of B [K, N], overwriting the old content.
    pub(crate) fn pack_right(&mut self, b: ArrayView2<'_, T>) {
        self.pack(b.reversed_axes(), TILE_COLUMNS);
    }

    /// Packs the rows of A [M, K], overwriting the old content.
    pub(crate) fn pack_left(&mut self, a: ArrayView2<'_, T>) {
        // As few panels as possible, of nearly equal height: 13 rows become 7 and 6, not 12 and 1.
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
    /// Empty panels that reuse an old buffer.
    pub(super) fn over(data: Vec<T>) -> Self {
        Self { data, ..Self::default() }
    }
    pub(super) fn into_memory(self) -> Vec<T> {
        self.data
    }
    /// M or N.
    #[must_use]
    pub(crate) fn lines(&self) -> usize {
        self.lines
    }
    pub(super) fn depth(&self) -> usize {
        self.depth
    }
    /// Lines per panel; the last may have fewer.
    #[must_use]
    pub(crate) fn width(&self) -> usize {
        self.width
    }
    /// The number of panels.
    #[must_use]
    pub(crate) fn count(&self) -> usize {
        self.lines.div_ceil(self.width)
    }
    /// One panel, [K, width].
    pub(super) fn panel(&self, number: usize) -> &[T] {
        &self.data[number * self.width * self.depth..][..self.width * self.depth]
    }
    /// The number of lines in some panels.
    #[must_use]
    pub(crate) fn lines_in(&self, panels: Range<usize>) -> usize {
        (panels.end * self.width).min(self.lines) - (panels.start * self.width).min(self.lines)
    }
    /// The number of a panel's lines without the filling.
    pub(super) fn lines_of(&self, number: usize) -> usize {
        self.width.min(self.lines - number * self.width)
    }
}

/// Writes lines [≤ width, K] as [K, width].
fn pack_panel<T: Tile>(lines: ArrayView2<'_, T>, width: usize, panel: &mut [T]) {
    /// Numbers along K per group: a few cache lines of each line.
    const STEP: usize = 128;
    let (count, depth) = lines.dim();
    if count < width {
        panel.fill(T::zero());
    }
    if lines.strides()[0] == 1 {
        // The numbers of one k are already adjacent.
        for (group, line) in panel.chunks_exact_mut(width).zip(lines.columns()) {
            group[..count].copy_from_slice(line.to_slice().expect("its numbers are adjacent"));
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
