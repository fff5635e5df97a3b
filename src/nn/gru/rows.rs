//! The rows of a layer's matrices that a thread writes: those of one part of the captions, level by level.
//!
//! A matrix has a row for every node, level by level, and within a level part by part. So the rows of a part are
//! a list of slices. They are disjoint from those of the other parts, and the threads need not wait for each
//! other.

use super::super::prefix_tree::{Level, Run};

/// What the forward pass writes for one part of a level.
#[derive(Debug)]
pub(super) struct Forward<'a, T> {
    place: usize,
    pub(super) level: &'a Level,
    /// c of the parents, [P, 3H].
    pub(super) c: &'a mut [T],
    /// r, z, n and h of the inner nodes, and of the leaves, [N, H] each.
    pub(super) nodes: [[&'a mut [T]; 4]; 2],
}

/// What the backward pass writes for one part of a level.
#[derive(Debug)]
pub(super) struct Backward<'a, T> {
    place: usize,
    pub(super) level: &'a Level,
    /// dc of the parents, [P, 3H].
    pub(super) dc: &'a mut [T],
    /// dh of the parents, [P, H].
    pub(super) dh: &'a mut [T],
    /// da of the inner nodes, and of the leaves, [N, 3H] each.
    pub(super) da: [&'a mut [T]; 2],
}

/// The lists, kept for their memory.
#[derive(Debug)]
pub(super) struct Lists<T: 'static> {
    pub(super) forward: Vec<Forward<'static, T>>,
    pub(super) backward: Vec<Backward<'static, T>>,
}

impl<T> Default for Lists<T> {
    fn default() -> Self {
        Self { forward: Vec::new(), backward: Vec::new() }
    }
}

impl<T> Clone for Lists<T> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// An empty list in the memory of a list whose borrows have ended.
pub(super) fn reuse<A, B>(mut list: Vec<A>) -> Vec<B> {
    list.clear();
    // The standard library collects into the same memory, since both types have one layout.
    list.into_iter().map(|_| unreachable!("the list is empty")).collect()
}

/// Takes the next rows of a matrix from its rest.
#[allow(clippy::mut_mut)]
fn take<'a, T>(rest: &mut &'a mut [T], rows: usize, width: usize) -> &'a mut [T] {
    rest.split_off_mut(..rows * width).expect("as many rows as the level has")
}

/// The place of level number `number` of a run in the list: part by part.
fn place(number: usize, run: Run<'_>) -> usize {
    number % run.parts * run.depth() + number / run.parts
}

/// Lists the rows of a run, part by part, from c [P, 3H] and from r, z, n and h [N, H]. Also returns the rows of h
/// before those of the run.
pub(super) fn forward<'a, T>(
    run: Run<'a>,
    hidden: usize,
    mut c: &'a mut [T],
    matrices: [&'a mut [T]; 4],
    list: &mut Vec<Forward<'a, T>>,
) -> &'a [T] {
    let Some(first) = run.levels.first() else { return &[] };
    take(&mut c, first.parents.start, 3 * hidden);
    let mut above: &[T] = &[];
    let mut rest = matrices.map(|matrix| {
        let (before, rest) = matrix.split_at_mut(first.inner.start * hidden);
        above = before;
        let (inner, leaves) = rest.split_at_mut((first.leaves.start - first.inner.start) * hidden);
        [inner, leaves]
    });
    for (number, level) in run.levels.iter().enumerate() {
        list.push(Forward {
            place: place(number, run),
            level,
            c: take(&mut c, level.parents.len(), 3 * hidden),
            nodes: [
                rest.each_mut().map(|[inner, _]| take(inner, level.inner.len(), hidden)),
                rest.each_mut().map(|[_, leaves]| take(leaves, level.leaves.len(), hidden)),
            ],
        });
    }
    list.sort_unstable_by_key(|rows| rows.place);
    above
}

/// Lists the rows of a run, part by part, from dc [P, 3H], dh [N, H] and da [N, 3H]. Also returns the rows of dh
/// after those of the run's parents.
pub(super) fn backward<'a, T>(
    run: Run<'a>,
    hidden: usize,
    [mut dc, mut dh, da]: [&'a mut [T]; 3],
    list: &mut Vec<Backward<'a, T>>,
) -> &'a [T] {
    let Some(first) = run.levels.first() else { return &[] };
    take(&mut dc, first.parents.start, 3 * hidden);
    take(&mut dh, first.parents.start, hidden);
    let (mut inner, mut leaves) = da.split_at_mut(first.leaves.start * 3 * hidden);
    take(&mut inner, first.inner.start, 3 * hidden);
    for (number, level) in run.levels.iter().enumerate() {
        list.push(Backward {
            place: place(number, run),
            level,
            dc: take(&mut dc, level.parents.len(), 3 * hidden),
            dh: take(&mut dh, level.parents.len(), hidden),
            da: [take(&mut inner, level.inner.len(), 3 * hidden), take(&mut leaves, level.leaves.len(), 3 * hidden)],
        });
    }
    list.sort_unstable_by_key(|rows| rows.place);
    dh
}
