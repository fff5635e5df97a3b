//! A factor of a product, packed in the order in which the product reads it.
//!
//! A register tile multiplies some rows of A with some columns of B, one k after the other. To read memory
//! sequentially, the lines of a factor (rows of A, columns of B) are grouped into **panels**. Within a
//! panel the k-th numbers of all its lines are adjacent: [k, width]. A long K is divided into **blocks**, so
//! that the part of a panel that is read again and again stays in a near cache: the order is
//! [block, panel, k, line]. Packing copies M K + K N numbers for M K N multiplications. A weight shared by many
//! products of a step, the GRU's `W_hh`, is packed once.

use std::ops::Range;

use ndarray::{ArrayView2, Axis, s};
use rayon::prelude::*;

use super::PARALLEL_WORK;
use crate::simd::Tile;

/// The lines of one factor in panels; see the module documentation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Panels<T> {
    data: Vec<T>,
    /// The largest number of lines per panel.
    width: usize,
    /// The first panels, with that many lines. The panels after them have one line less.
    full: usize,
    /// The number of panels.
    count: usize,
    /// M or N. The last panel of a right factor is filled with zeros.
    lines: usize,
    /// K.
    depth: usize,
    /// The length of a block of K; the last may be shorter.
    block: usize,
}

impl<T: Tile + Send + Sync> Panels<T> {
    /// Packs the columns of B [K, N], overwriting the old content.
    pub(crate) fn pack_right(&mut self, b: ArrayView2<'_, T>) {
        self.pack_columns(b, true);
    }

    /// The same on the calling thread only.
    pub(super) fn pack_right_here(&mut self, b: ArrayView2<'_, T>) {
        self.pack_columns(b, false);
    }

    fn pack_columns(&mut self, b: ArrayView2<'_, T>, parallel: bool) {
        self.width = T::shape().columns;
        self.full = b.ncols().div_ceil(self.width);
        self.pack(b.reversed_axes(), self.full, parallel);
    }

    /// Packs the rows of A [M, K], overwriting the old content.
    pub(crate) fn pack_left(&mut self, a: ArrayView2<'_, T>) {
        // As few panels as possible, of nearly equal height: 13 rows become 7 and 6, not 12 and 1.
        let count = a.nrows().div_ceil(T::shape().rows).max(1);
        self.width = a.nrows().div_ceil(count).max(1);
        self.full = a.nrows() - (self.width - 1) * count.min(a.nrows());
        self.pack(a, count.min(a.nrows()), true);
    }

    fn pack(&mut self, lines: ArrayView2<'_, T>, count: usize, parallel: bool) {
        (self.lines, self.depth) = lines.dim();
        self.count = count;
        // As few blocks as possible, of nearly equal length, and a multiple of the terms summed at a time.
        let blocks = self.depth.div_ceil(T::shape().depth).max(1);
        self.block = self.depth.div_ceil(blocks).next_multiple_of(4).clamp(1, self.depth.max(1));
        let all = self.start(count);
        self.data.resize(all * self.depth, T::zero());
        if self.data.is_empty() {
            return;
        }
        let (full, width) = (self.full * self.width, self.width);
        let blocks = lines.axis_chunks_iter(Axis(1), self.block).zip(self.data.chunks_mut(all * self.block));
        for (terms, data) in blocks {
            let (terms, rest) = terms.split_at(Axis(0), full.min(self.lines));
            let (data, rest_data) = data.split_at_mut(full * terms.ncols());
            pack_panels(terms, width, data, parallel);
            pack_panels(rest, width - 1, rest_data, parallel);
        }
    }
}

/// Writes lines [L, k] as panels [panel, k, width], some at a time; lines that are missing in the last panel are
/// zeros.
fn pack_panels<T: Tile + Send + Sync>(lines: ArrayView2<'_, T>, width: usize, data: &mut [T], parallel: bool) {
    /// Lines at a time: a row of a row-major B is read in pieces that are not too short.
    const WIDE: usize = 64;
    if data.is_empty() {
        return;
    }
    let some = WIDE.div_ceil(width);
    let pack = |(number, panels): (usize, &mut [T])| {
        let first = number * some * width;
        let last = lines.nrows().min(first + some * width);
        pack_some(lines.slice(s![first..last, ..]), width, panels);
    };
    let chunk = some * width * lines.ncols();
    if !parallel || data.len() < PARALLEL_WORK {
        data.chunks_mut(chunk).enumerate().for_each(pack);
    } else {
        data.par_chunks_mut(chunk).enumerate().for_each(pack);
    }
}

impl<T> Panels<T> {
    /// Empty panels that reuse an old buffer.
    pub(crate) fn over(data: Vec<T>) -> Self {
        Self { data, width: 1, full: 0, count: 0, lines: 0, depth: 0, block: 1 }
    }
    pub(crate) fn into_memory(self) -> Vec<T> {
        self.data
    }
    /// M or N.
    #[must_use]
    pub(crate) fn lines(&self) -> usize {
        self.lines
    }
    /// K.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }
    /// The largest number of lines per panel.
    #[must_use]
    pub(crate) fn width(&self) -> usize {
        self.width
    }
    /// The number of panels.
    #[must_use]
    pub(crate) fn count(&self) -> usize {
        self.count
    }
    /// The line with which a panel begins.
    #[must_use]
    pub(crate) fn start(&self, panel: usize) -> usize {
        panel * self.width - panel.saturating_sub(self.full)
    }
    /// The panel that begins with a line, or holds it.
    #[must_use]
    pub(crate) fn panel_of(&self, line: usize) -> usize {
        let full = self.full * self.width;
        if line < full { line / self.width } else { self.full + (line - full) / (self.width - 1).max(1) }
    }
    /// The blocks of K.
    pub(super) fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<T> {
        let depth = self.depth;
        let block = self.block;
        (0..depth).step_by(block).map(move |start| start..depth.min(start + block))
    }
    /// The panels in a block of K, in up to two groups of one width: the width, the panels, their numbers
    /// [panel, k, width].
    pub(super) fn groups(&self, terms: &Range<usize>, panels: &Range<usize>) -> [(usize, Range<usize>, &[T]); 2] {
        let border = self.full.clamp(panels.start, panels.end);
        let block = &self.data[self.start(self.count) * terms.start..];
        let numbers = |panels: &Range<usize>| {
            &block[self.start(panels.start) * terms.len()..self.start(panels.end) * terms.len()]
        };
        [(self.width, panels.start..border), (self.width - 1, border..panels.end)]
            .map(|(width, panels)| (width, panels.clone(), numbers(&panels)))
    }
    /// The number of lines in some panels.
    #[must_use]
    pub(crate) fn lines_in(&self, panels: Range<usize>) -> usize {
        self.start(panels.end).min(self.lines) - self.start(panels.start).min(self.lines)
    }
}

/// [`pack_panels`] on one thread.
fn pack_some<T: Tile>(lines: ArrayView2<'_, T>, width: usize, panels: &mut [T]) {
    let (count, depth) = lines.dim();
    if !count.is_multiple_of(width) {
        let last = panels.len() - width * depth;
        panels[last..].fill(T::zero());
    }
    if lines.strides()[0] == 1 {
        // The numbers of one k are adjacent. The compiler must know how many it copies.
        macro_rules! copy {
            ($($known:literal)*) => {
                match width {
                    $($known => copy_terms::<T, $known>(lines, panels),)*
                    _ => unreachable!("a panel has 1 to 12, 16 or 32 lines"),
                }
            };
        }
        copy!(1 2 3 4 5 6 7 8 9 10 11 12 16 32);
        return;
    }
    for (panel, lines) in panels.chunks_exact_mut(width * depth).zip(lines.axis_chunks_iter(Axis(0), width)) {
        transpose(lines, width, panel);
    }
}

/// [`pack_some`] for a width that the compiler knows.
fn copy_terms<T: Tile, const W: usize>(lines: ArrayView2<'_, T>, panels: &mut [T]) {
    let depth = lines.ncols();
    for (k, line) in lines.columns().into_iter().enumerate() {
        let (whole, rest) = line.to_slice().expect("its numbers are adjacent").as_chunks::<W>();
        let (panels, _) = panels.as_chunks_mut::<W>();
        let mut at = k;
        for line in whole {
            panels[at] = *line;
            at += depth;
        }
        if !rest.is_empty() {
            panels[at][..rest.len()].copy_from_slice(rest);
        }
    }
}

/// Writes lines [≤ width, k] as [k, width], four lines by four numbers at a time.
pub(crate) fn transpose<T: Tile>(lines: ArrayView2<'_, T>, width: usize, panel: &mut [T]) {
    let (count, depth) = lines.dim();
    let mut line = 0;
    if lines.strides()[1] == 1 {
        let row = |line: usize| lines.row(line).to_slice().expect("its numbers are adjacent");
        while line + 4 <= count {
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| row(line + i).as_chunks::<4>().0);
            for ((((a, b), c), d), to) in a.iter().zip(b).zip(c).zip(d).zip(panel.chunks_exact_mut(4 * width)) {
                for k in 0..4 {
                    let to = &mut to[k * width + line..][..4];
                    to[0] = a[k];
                    to[1] = b[k];
                    to[2] = c[k];
                    to[3] = d[k];
                }
            }
            for k in depth / 4 * 4..depth {
                for i in line..line + 4 {
                    panel[k * width + i] = lines[[i, k]];
                }
            }
            line += 4;
        }
    }
    for (i, numbers) in lines.outer_iter().enumerate().skip(line) {
        for (group, &x) in panel.chunks_exact_mut(width).zip(numbers) {
            group[i] = x;
        }
    }
}
