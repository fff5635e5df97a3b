//! The GRU without a backward pass: the same bits of y, with less memory.
//!
//! A level is computed in blocks: some of its parents with all their children. Only the states of a
//! level's inner nodes are kept, until the next level has been computed from them.

use std::ops::Range;

use ndarray::{Array2, s};
use rayon::prelude::*;

use super::super::prefix_tree::{Groups, Level, PrefixTree};
use super::{Gru, GruLayer, Sequences, row, rows_mut, step};
use crate::linalg::{self, Panels, rows_at_once};
use crate::real::Scalar;

/// Parents per block: few enough that their rows of c and the gates of their children stay in a
/// processor's cache.
const PARENTS: usize = 192;

/// Some parents of a level and all their children, as numbers of nodes.
struct Block {
    parents: Range<usize>,
    inner: Range<usize>,
    leaves: Range<usize>,
}

impl Block {
    /// The blocks of a level. Children are numbered in the order of their parents, so those of a block
    /// are one range of inner nodes and one of leaves.
    fn all<'a>(tree: &'a PrefixTree, level: &'a Level) -> impl Iterator<Item = Self> + 'a {
        let (mut inner, mut leaves) = (level.inner.start, level.leaves.start);
        level.parents.clone().step_by(PARENTS).map(move |first| {
            let parents = first..level.parents.end.min(first + PARENTS);
            // `kind`: 0 for inner nodes, 1 for leaves.
            let last_child = |kind: usize, start: usize| {
                parents.clone().map(|parent| tree.children(parent)[kind].end).fold(start, usize::max)
            };
            let block = Self { inner: inner..last_child(0, inner), leaves: leaves..last_child(1, leaves), parents };
            (inner, leaves) = (block.inner.end, block.leaves.end);
            block
        })
    }
}

/// The states of consecutive nodes: row 0 is that of node `first`.
#[derive(Debug, Default)]
struct Rows<T> {
    h: Array2<T>,
    first: usize,
}

impl<T: Scalar> Rows<T> {
    fn reshape(&mut self, nodes: &Range<usize>, hidden: usize) {
        linalg::reshape(&mut self.h, (nodes.len(), hidden));
        self.first = nodes.start;
    }
    /// Where the rows of some nodes are.
    fn range(&self, nodes: &Range<usize>) -> Range<usize> {
        nodes.start - self.first..nodes.end - self.first
    }
}

/// What one layer keeps from level to level, and its buffers for one block.
#[derive(Debug, Default)]
struct Kept<T> {
    /// The states of a level's parents.
    parents: Rows<T>,
    /// The states of its inner nodes, which are the parents of the next level.
    inner: Rows<T>,
    /// The states of a block's leaves.
    leaves: Rows<T>,
    /// First layer: a of every distinct word, [U, 3H]. Above it: a of a block's inner nodes, then of its leaves.
    a: Array2<T>,
    /// c of a block's parents.
    c: Array2<T>,
    /// r, z, n of a block's inner nodes, then of its leaves.
    gates: [Array2<T>; 3],
    /// `W_hhᵀ`, packed once for all blocks.
    packed: Panels<T>,
}

impl<T: Scalar> Gru<T> {
    /// (GRU-0) to (GRU-5): y [B, H], with the same bits as the forward pass.
    pub(crate) fn infer(&self, x: Sequences<'_, T>, y: &mut Array2<T>) {
        let Sequences { tree, words } = x;
        let top = self.layers.last().expect("at least one layer");
        linalg::reshape(y, (tree.last().len(), top.hidden_size()));
        let mut ends = Groups::default(); // for every node, the sequences that end there
        ends.rebuild(0..tree.last().len(), tree.nodes(), |sequence| tree.last()[sequence]);
        // An empty sequence ends at the root: h₀.
        ends.of(0).iter().for_each(|&sequence| y.row_mut(sequence).fill(T::zero()));

        let mut kept: Vec<Kept<T>> = self.layers.iter().map(|_| Kept::default()).collect();
        for (layer, kept) in self.layers.iter().zip(&mut kept) {
            kept.packed.pack_right(layer.weight_hh.t());
            kept.inner.reshape(&(0..1), layer.hidden_size());
            kept.inner.h.fill(T::zero()); // h₀
        }
        self.layers[0].a(words, &mut kept[0].a);

        for level in tree.levels() {
            for (layer, kept) in self.layers.iter().zip(&mut kept) {
                std::mem::swap(&mut kept.parents, &mut kept.inner);
                kept.inner.reshape(&level.inner, layer.hidden_size());
            }
            for block in Block::all(tree, level) {
                for (k, layer) in self.layers.iter().enumerate() {
                    let (below, rest) = kept.split_at_mut(k);
                    layer.infer_block(tree, &block, below.last(), &mut rest[0]);
                }
                let Kept { inner, leaves, .. } = &kept[kept.len() - 1];
                for (nodes, states) in [(&block.inner, inner), (&block.leaves, leaves)] {
                    for node in nodes.clone() {
                        for &sequence in ends.of(node) {
                            y.row_mut(sequence).assign(&states.h.row(node - states.first));
                        }
                    }
                }
            }
        }
    }
}

impl<T: Scalar> GruLayer<T> {
    /// Computes the states of a block's nodes. `below` is the layer below, which has done this block.
    fn infer_block(&self, tree: &PrefixTree, block: &Block, below: Option<&Kept<T>>, kept: &mut Kept<T>) {
        let hidden = self.hidden_size();
        let Kept { parents, inner, leaves, a, c, gates: [r, z, n], packed } = kept;
        linalg::reshape(c, (block.parents.len(), 3 * hidden));
        self.c(packed, parents.h.slice(s![parents.range(&block.parents), ..]), c.view_mut());
        leaves.reshape(&block.leaves, hidden);

        let below = below.map(|below| [&below.inner, &below.leaves]);
        for (kind, (nodes, states)) in [(&block.inner, inner), (&block.leaves, leaves)].into_iter().enumerate() {
            if let Some(below) = below {
                self.a(below[kind].h.slice(s![below[kind].range(nodes), ..]), a);
            }
            let all = 0..nodes.len();
            for gate in [&mut *r, &mut *z, &mut *n] {
                linalg::reshape(gate, (nodes.len(), hidden));
            }
            let range = states.range(nodes);
            let rows = rows_mut(r, &all).zip(rows_mut(z, &all)).zip(rows_mut(n, &all));
            let rows = rows.zip(rows_mut(&mut states.h, &range)).with_min_len(rows_at_once(hidden));
            rows.zip(nodes.clone()).for_each(|((((r, z), n), h_next), node)| {
                let parent = tree.parent()[node];
                let row_of_a = if below.is_some() { node - nodes.start } else { tree.word_of()[node] };
                let h = row(&parents.h, parent - parents.first);
                step(row(a, row_of_a), row(c, parent - block.parents.start), h, [r, z, n], h_next);
            });
        }
    }
}
