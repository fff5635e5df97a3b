//! Products with a right factor that is nowhere in memory: it is written when it is needed.

use std::ops::Range;

use super::panels::Panels;
use crate::real::Scalar;
use crate::simd::Memory;

/// Sums of a part of C: tiles [panel of columns, row, column].
pub(crate) struct Tiles<'a, T> {
    sums: &'a [T],
    width: usize,
    /// Which rows these are, counted from the first row of the product.
    pub(crate) rows: Range<usize>,
}

impl<T> Tiles<'_, T> {
    /// The sums of one row and some columns, in pieces.
    #[inline(always)]
    pub(crate) fn pieces(&self, row: usize, columns: Range<usize>) -> impl Iterator<Item = &[T]> {
        let (width, height, row, end) = (self.width, self.rows.len(), row - self.rows.start, columns.end);
        let mut at = columns.start;
        std::iter::from_fn(move || {
            let (panel, from) = (at / width, at % width);
            let length = (width - from).min(end - at);
            at += length;
            (length > 0).then(|| &self.sums[(panel * height + row) * width + from..][..length])
        })
    }
}

/// Computes C = A · B for some rows of A, given by a range of panels, on the calling thread only.
///
/// For each block of K, `write` gets the terms, and memory for the panels [panel, k, width] of all columns of B. It may
/// leave anything in the columns that are missing in the last panel. `store` gets all sums in the end.
pub(crate) fn matmul_written<T: Scalar>(
    a: &Panels<T>,
    rows: &Range<usize>,
    columns: usize,
    mut write: impl FnMut(Range<usize>, &mut [T]),
    mut store: impl FnMut(&Tiles<'_, T>),
) {
    let width = T::shape().columns;
    let columns = columns.next_multiple_of(width);
    // Taken, not borrowed, as in a product.
    let (mut sums, mut panels) = (T::memory(Memory::Sums).take(), T::memory(Memory::Right).take());
    // Between the blocks of K all sums wait. If there is one block only, a strip takes the place of the one before.
    let wait = a.blocks().nth(1).is_some();
    for terms in a.blocks() {
        let b = of_length(&mut panels, terms.len() * columns);
        write(terms.clone(), b);
        for strip in strips(a, rows) {
            let (top, height) = (a.lines_in(rows.start..strip.start), a.lines_in(strip.clone()));
            let start = if wait { top * columns } else { 0 };
            let sums = &mut of_length(&mut sums, start + height * columns)[start..];
            for (height, _, a) in a.groups(&terms, &strip).into_iter().filter(|(_, panels, _)| !panels.is_empty()) {
                T::tiles(height, terms.len(), terms.start == 0, a, b, sums);
            }
            if terms.end == a.depth() {
                store(&Tiles { sums, width, rows: top..top + height });
            }
        }
    }
    T::memory(Memory::Sums).set(sums);
    T::memory(Memory::Right).set(panels);
}

/// Panels of A of one height, so few that they stay in a core's cache while they meet all panels of B.
fn strips<T>(a: &Panels<T>, rows: &Range<usize>) -> impl Iterator<Item = Range<usize>> {
    /// Rows of a strip.
    const TALL: usize = 96;
    let (end, tall) = (rows.end, (TALL / a.width()).max(1));
    let parts = rows.clone().step_by(tall).map(move |start| start..end.min(start + tall));
    parts.flat_map(|part| a.groups(&(0..0), &part).map(|(_, panels, _)| panels)).filter(|panels| !panels.is_empty())
}

/// So many numbers of some memory.
fn of_length<T: Scalar>(memory: &mut Vec<T>, count: usize) -> &mut [T] {
    if memory.len() < count {
        memory.resize(count, T::zero());
    }
    &mut memory[..count]
}
