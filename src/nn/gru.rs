//! Gated recurrent unit over a prefix tree.
//!
//! ```text
//! (GRU-0)   a = W_ih x + b_ih                   [3H], rows r, z, n; once per distinct word
//! (GRU-0)   c = W_hh h + b_hh                   [3H], rows r, z, n; once per parent
//! (GRU-1)   r = σ(a_r + c_r)                    reset gate
//! (GRU-2)   z = σ(a_z + c_z)                    update gate
//! (GRU-3)   n = tanh(a_n + r ∘ c_n)             new gate, reset *after* the product
//! (GRU-4)   h′ = (1 − z) ∘ n + z ∘ h, h₀ = 0    the new state
//! ```
//!
//! This is the convention of `PyTorch` and cuDNN, and of the original VSE++ code. Cho et al. (2014,
//! equation 8), whom the paper cites, apply the reset *before* the product, `W_hn` (r ∘ h): another
//! function, whose weights cannot be exchanged with these.
//!
//! Backward, the lines above undone in reverse, dh′ being the gradient of the node's own state:
//!
//! ```text
//! (GRU-4′)  dn = dh′ ∘ (1 − z), dz = dh′ ∘ (h − n), dh += Σ_children dh′ ∘ z
//! (GRU-3′)  da_n = dn ∘ (1 − n²), dr = da_n ∘ c_n, dc_n = da_n ∘ r
//! (GRU-2′)  da_z = dz ∘ z ∘ (1 − z) = dc_z
//! (GRU-1′)  da_r = dr ∘ r ∘ (1 − r) = dc_r
//! (GRU-0′)  dc = Σ_children (dc_r, dc_z, dc_n), dh += dc W_hh         first the sum, then the product
//! (GRU-0′)  dW_hh += dcᵀ h, db_hh += Σ dc
//! (GRU-0′)  dW_ih += daᵀ x, db_ih += Σ da, dx = da W_ih               da summed over equal words
//! ```
//!
//! Shapes: E inputs, H hidden units, U distinct inputs, N nodes, P inner nodes (see
//! [`PrefixTree`]); weights as `PyTorch` stores them, `weight_ih` [3H, E], `weight_hh` [3H, H].

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, s};
use rayon::prelude::*;

use super::prefix_tree::{Groups, Level, PrefixTree};
use crate::linalg::{self, Panels, Write, rows_at_once};
use crate::real::{Real, Scalar};
use crate::simd::vectorized;

/// One layer's weights, `txt_enc.rnn.*_l{k}`; gates stacked r, z, n.
#[derive(Clone, Debug, PartialEq)]
pub struct GruLayer<T> {
    /// `W_ih` [3H, E]
    pub weight_ih: Array2<T>,
    /// `W_hh` [3H, H]
    pub weight_hh: Array2<T>,
    /// `b_ih` `[3H]`
    pub bias_ih: Array1<T>,
    /// `b_hh` `[3H]`
    pub bias_hh: Array1<T>,
}

/// What a layer reads: the word vectors, or the states of the layer below.
#[derive(Clone, Copy, Debug)]
pub enum Inputs<'a, T> {
    /// A row for every distinct word of the tree, [U, E].
    Words(ArrayView2<'a, T>),
    /// A row for every node, [N, H].
    States(ArrayView2<'a, T>),
}

impl<'a, T> Inputs<'a, T> {
    fn rows(self) -> ArrayView2<'a, T> {
        match self {
            Self::Words(rows) | Self::States(rows) => rows,
        }
    }
    /// The row that a node reads.
    fn of(self, tree: &PrefixTree, node: usize) -> usize {
        match self {
            Self::Words(_) => tree.word_of()[node],
            Self::States(_) => node,
        }
    }
}

/// What one layer's forward pass leaves for its backward pass.
#[derive(Clone, Debug, Default)]
pub struct GruLayerCache<T> {
    /// a = `W_ih` x + `b_ih` of every distinct input, [U, 3H].
    pub projected: Array2<T>,
    /// The state h of every node, [N, H]; row 0 is h₀.
    pub states: Array2<T>,
    /// r, z, n of every node, [N, 3H]; row 0 unused.
    pub gates: Array2<T>,
    /// c = `W_hh` h + `b_hh` of every inner node, [P, 3H].
    pub recurrent: Array2<T>,
    /// `W_hh`, packed for the products of all time steps.
    weight: Panels<T>,
}

/// What one layer's backward pass computes on its way.
#[derive(Clone, Debug, Default)]
pub struct GruLayerBackward<T> {
    /// dh of every node, [N, H]. A user of a state puts its gradient here first; the
    /// parts that come from the node's children are added.
    pub states: Array2<T>,
    /// da of every node, [N, 3H]; row 0 is zero.
    pub gates: Array2<T>,
    /// dc of every inner node, [P, 3H].
    pub recurrent: Array2<T>,
    /// da summed over the nodes that read the same word, [U, 3H]; empty above the first layer.
    pub by_word: Array2<T>,
    /// `W_hh`, packed for the products of all time steps.
    weight: Panels<T>,
}

impl<T: Scalar> GruLayer<T> {
    /// H.
    #[must_use]
    pub fn hidden_size(&self) -> usize {
        self.weight_hh.ncols()
    }

    /// a = `W_ih` x + `b_ih`, row by row.
    fn project(&self, inputs: ArrayView2<'_, T>, a: &mut Array2<T>) {
        linalg::reshape(a, (inputs.nrows(), self.weight_ih.nrows()));
        // (GRU-0)  a = W_ih x + b_ih
        linalg::matmul_into(inputs, self.weight_ih.t(), a.view_mut());
        linalg::add_to_rows(a.view_mut(), &self.bias_ih);
    }

    /// c = `W_hh` h + `b_hh`, row by row.
    fn recur(&self, weight: &Panels<T>, states: ArrayView2<'_, T>, mut c: ArrayViewMut2<'_, T>) {
        // (GRU-0)  c = W_hh h + b_hh
        linalg::matmul_packed(states, weight, Write::Replace, c.view_mut());
        linalg::add_to_rows(c, &self.bias_hh);
    }

    /// (GRU-0) to (GRU-4) for all nodes of a tree.
    pub fn forward(&self, tree: &PrefixTree, inputs: Inputs<'_, T>, cache: &mut GruLayerCache<T>) {
        let hidden = self.hidden_size();
        let GruLayerCache { projected: a, states, gates, recurrent: c, weight } = cache;
        self.project(inputs.rows(), a);
        linalg::reshape(c, (tree.inner_nodes(), 3 * hidden));
        linalg::reshape(states, (tree.nodes(), hidden));
        linalg::reshape(gates, (tree.nodes(), 3 * hidden));
        states.row_mut(0).fill(T::zero());
        weight.pack_right(self.weight_hh.t());

        for level in tree.levels() {
            let parents = s![level.parents.clone(), ..];
            self.recur(weight, states.slice(parents), c.slice_mut(parents));

            // This level's states are written while its parents', all in rows before, are read.
            let (before, inner, leaves) = split_at_level(states, level);
            let before = |parent: usize| &before[parent * hidden..][..hidden];
            for (nodes, states) in [(&level.inner, inner), (&level.leaves, leaves)] {
                let rows = states.par_chunks_exact_mut(hidden).zip(rows_mut(gates, nodes));
                rows.with_min_len(rows_at_once(hidden)).zip(nodes.clone()).for_each(|((h, gates), node)| {
                    let parent = tree.parent()[node];
                    step_row(row(a, inputs.of(tree, node)), row(c, parent), before(parent), gates, h);
                });
            }
        }
    }
}

/// One row of a matrix.
fn row<T>(matrix: &Array2<T>, row: usize) -> &[T] {
    &matrix.as_slice().expect("contiguous")[row * matrix.ncols()..][..matrix.ncols()]
}

/// Some rows of a matrix, to change, each by whichever thread is free.
fn rows_mut<'a, T: Send>(matrix: &'a mut Array2<T>, rows: &Range<usize>) -> rayon::slice::ChunksExactMut<'a, T> {
    let width = matrix.ncols();
    matrix.as_slice_mut().expect("contiguous")[rows.start * width..rows.end * width].par_chunks_exact_mut(width)
}

/// The states before a level, those of its inner nodes, those of its leaves.
fn split_at_level<'a, T>(states: &'a mut Array2<T>, level: &Level) -> (&'a [T], &'a mut [T], &'a mut [T]) {
    let width = states.ncols();
    let states = states.as_slice_mut().expect("contiguous");
    let (inner, leaves) = states.split_at_mut(level.leaves.start * width);
    let (before, inner) = inner.split_at_mut(level.inner.start * width);
    (before, &mut inner[..level.inner.len() * width], &mut leaves[..level.leaves.len() * width])
}

/// (GRU-1) to (GRU-4) for one node: a, c `[3H]` and the parent's h `[H]` give r, z, n `[3H]` and h′ `[H]`.
fn step_row<T: Scalar>(a: &[T], c: &[T], h: &[T], gates: &mut [T], out: &mut [T]) {
    let hidden = h.len();
    let (rz, n) = gates.split_at_mut(2 * hidden);
    vectorized(
        #[inline(always)]
        || {
            for ((gate, &a), &c) in rz.iter_mut().zip(a).zip(c) {
                // (GRU-1)  r = σ(a_r + c_r)
                // (GRU-2)  z = σ(a_z + c_z)
                *gate = (a + c).sigmoid();
            }
            let (r, z) = rz.split_at(hidden);
            let (a_n, c_n) = (&a[2 * hidden..], &c[2 * hidden..]);
            for (((n, &a), &c), &r) in n.iter_mut().zip(a_n).zip(c_n).zip(r) {
                // (GRU-3)  n = tanh(a_n + r ∘ c_n)
                *n = (a + r * c).tanh();
            }
            for (((out, &n), &z), &h) in out.iter_mut().zip(&*n).zip(z).zip(h) {
                // (GRU-4)  h′ = (1 − z) ∘ n + z ∘ h, h₀ = 0
                *out = (T::one() - z) * n + z * h;
            }
        },
    );
}

impl<T: Real> GruLayer<T> {
    /// (GRU-4′) to (GRU-0′) for all nodes of a tree.
    ///
    /// `d.states` [N, H] holds the gradient of every node's state as far as it is used from outside.
    /// Writes to `gradient`; dx has the shape of the inputs.
    #[allow(clippy::too_many_arguments)] // every argument has its own role
    pub fn backward(
        &self,
        tree: &PrefixTree,
        inputs: Inputs<'_, T>,
        cache: &GruLayerCache<T>,
        d: &mut GruLayerBackward<T>,
        dx: &mut Array2<T>,
        write: Write,
        gradient: &mut Self,
    ) {
        let hidden = self.hidden_size();
        let GruLayerBackward { states: dh, gates: da, recurrent: dc, by_word, weight } = d;
        linalg::reshape(da, (tree.nodes(), 3 * hidden));
        linalg::reshape(dc, (tree.inner_nodes(), 3 * hidden));
        da.row_mut(0).fill(T::zero());
        // A childless root is in no level: its row is cleared here.
        dc.row_mut(0).fill(T::zero());
        weight.pack_right(self.weight_hh.view());

        for level in tree.levels().iter().rev() {
            for nodes in [&level.inner, &level.leaves] {
                let rows = rows_mut(da, nodes).with_min_len(rows_at_once(hidden)).zip(nodes.clone());
                rows.for_each(|(da, node)| {
                    let parent = tree.parent()[node];
                    let (c, h) = (row(&cache.recurrent, parent), row(&cache.states, parent));
                    step_row_backward(row(dh, node), row(&cache.gates, node), c, h, da);
                });
            }
            // (GRU-0′)  dc = Σ_children (dc_r, dc_z, dc_n), dh += dc W_hh
            // A parent's row is written while its children's, all in later rows, are read.
            let first_child = level.parents.end;
            let (d_parents, d_children) = dh.as_slice_mut().expect("contiguous").split_at_mut(first_child * hidden);
            let d_parents = &mut d_parents[level.parents.start * hidden..];
            let rows = rows_mut(dc, &level.parents).zip(d_parents.par_chunks_exact_mut(hidden));
            rows.with_min_len(rows_at_once(hidden)).zip(level.parents.clone()).for_each(|((dc, dh), parent)| {
                dc.fill(T::zero());
                for child in tree.children(parent).iter().flat_map(Clone::clone) {
                    let d_child = &d_children[(child - first_child) * hidden..][..hidden];
                    add_child(d_child, row(&cache.gates, child), row(da, child), dc, dh);
                }
            });
            let parents = s![level.parents.clone(), ..];
            linalg::matmul_packed(dc.slice(parents), weight, Write::Add, dh.slice_mut(parents));
        }

        let inner_states = cache.states.slice(s![..tree.inner_nodes(), ..]);
        // (GRU-0′)  dW_hh += dcᵀ h, db_hh += Σ dc
        linalg::matmul_write(dc.t(), inner_states, write, gradient.weight_hh.view_mut());
        linalg::column_sums(dc.view(), write, &mut gradient.bias_hh);

        let da = match inputs {
            Inputs::Words(_) => {
                sum_by_word(tree, da, by_word);
                by_word
            }
            Inputs::States(_) => da,
        };
        // (GRU-0′)  dW_ih += daᵀ x, db_ih += Σ da, dx = da W_ih
        linalg::matmul_write(da.t(), inputs.rows(), write, gradient.weight_ih.view_mut());
        linalg::column_sums(da.view(), write, &mut gradient.bias_ih);
        linalg::reshape(dx, inputs.rows().dim());
        linalg::matmul_into(da.view(), self.weight_ih.view(), dx.view_mut());
    }
}

/// (GRU-4′) to (GRU-1′) for one node: its dh′ `[H]` gives da `[3H]`.
fn step_row_backward<T: Real>(dh: &[T], gates: &[T], c: &[T], h: &[T], da: &mut [T]) {
    let hidden = h.len();
    let one = T::one();
    let (r, rest) = gates.split_at(hidden);
    let (z, n) = rest.split_at(hidden);
    let c_n = &c[2 * hidden..];
    let (da_r, rest) = da.split_at_mut(hidden);
    let (da_z, da_n) = rest.split_at_mut(hidden);
    // One length for all, known to be so: else every access is checked, and nothing is vectorised.
    let (dh, n, c_n, da_n) = (&dh[..hidden], &n[..hidden], &c_n[..hidden], &mut da_n[..hidden]);
    vectorized(
        #[inline(always)]
        || {
            for k in 0..hidden {
                // (GRU-4′)  dn = dh′ ∘ (1 − z), dz = dh′ ∘ (h − n), dh += Σ_children dh′ ∘ z
                // The last of these, and dc_n below, are in `add_child`.
                let dn = dh[k] * (one - z[k]);
                let dz = dh[k] * (h[k] - n[k]);
                // (GRU-3′)  da_n = dn ∘ (1 − n²), dr = da_n ∘ c_n, dc_n = da_n ∘ r
                da_n[k] = dn * (one - n[k] * n[k]);
                let dr = da_n[k] * c_n[k];
                // (GRU-2′)  da_z = dz ∘ z ∘ (1 − z) = dc_z
                da_z[k] = dz * (z[k] * (one - z[k]));
                // (GRU-1′)  da_r = dr ∘ r ∘ (1 − r) = dc_r
                da_r[k] = dr * (r[k] * (one - r[k]));
            }
        },
    );
}

/// What one child adds to its parent: (`dc_r`, `dc_z`, `dc_n`) to dc `[3H]`, and dh′ ∘ z to dh `[H]`.
fn add_child<T: Real>(d_child: &[T], gates: &[T], da: &[T], dc: &mut [T], dh: &mut [T]) {
    let hidden = dh.len();
    let (r, rest) = gates.split_at(hidden);
    let z = &rest[..hidden];
    vectorized(
        #[inline(always)]
        || {
            for (dc, &da) in dc[..2 * hidden].iter_mut().zip(da) {
                *dc += da;
            }
            for ((dc, &da), &r) in dc[2 * hidden..].iter_mut().zip(&da[2 * hidden..]).zip(r) {
                *dc += da * r;
            }
            for ((dh, &d_child), &z) in dh.iter_mut().zip(d_child).zip(z) {
                *dh += d_child * z;
            }
        },
    );
}

/// Sums the rows of da [N, 3H] that belong to the same word: [U, 3H], nodes in rising order.
fn sum_by_word<T: Real>(tree: &PrefixTree, da: &Array2<T>, sums: &mut Array2<T>) {
    let words = tree.words().len();
    linalg::reshape(sums, (words, da.ncols()));
    let rows = rows_mut(sums, &(0..words)).with_min_len(rows_at_once(da.ncols())).enumerate();
    rows.for_each(|(word, sum)| {
        sum.fill(T::zero());
        for &node in tree.nodes_of(word) {
            linalg::add(sum, row(da, node));
        }
    });
}

/// A stack of layers: layer k reads the states of layer k − 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Gru<T> {
    /// From the word vectors upwards; at least one.
    pub layers: Vec<GruLayer<T>>,
}

/// One cache a layer, from the word vectors upwards.
#[derive(Clone, Debug, Default)]
pub struct GruCache<T> {
    /// The layers' caches.
    pub layers: Vec<GruLayerCache<T>>,
}

/// What the backward pass computes on its way, layer by layer.
#[derive(Clone, Debug, Default)]
pub struct GruBackward<T> {
    /// From the word vectors upwards.
    pub layers: Vec<GruLayerBackward<T>>,
    /// dx of the tree's distinct words, [U, E].
    pub words: Array2<T>,
}

impl<T: Scalar> Gru<T> {
    /// All layers over the tree; `words` [U, E] are the vectors of the tree's distinct words.
    ///
    /// The states of the top layer are `cache.top()` [N, H].
    pub fn forward(&self, tree: &PrefixTree, words: ArrayView2<'_, T>, cache: &mut GruCache<T>) {
        cache.layers.resize_with(self.layers.len(), Default::default);
        for (k, layer) in self.layers.iter().enumerate() {
            let (below, rest) = cache.layers.split_at_mut(k);
            let inputs = below.last().map_or(Inputs::Words(words), |below| Inputs::States(below.states.view()));
            layer.forward(tree, inputs, &mut rest[0]);
        }
    }
}

/// What [`Gru::last_states`] keeps of one layer: the states of two levels, and the work on a few
/// parents.
#[derive(Debug, Default)]
struct Wave<T> {
    /// The states of the level's parents, all of them inner nodes, [P of a level, H].
    parents: Array2<T>,
    /// The states of the level's inner nodes, which are the next level's parents.
    inner: Array2<T>,
    /// The states of some of its leaves.
    leaves: Array2<T>,
    recurrent: Array2<T>,
    gates: Array2<T>,
    /// a of every distinct word, or of the nodes that are worked on.
    projected: Array2<T>,
    weight: Panels<T>,
}

impl<T: Scalar> Gru<T> {
    /// The top layer's states at the captions' last tokens, into `last` [B, H], without what a
    /// backward pass would need: a level is worked off some hundred parents at a time, and only the
    /// states of its inner nodes stay until the next.
    ///
    /// The same numbers as [`Self::forward`]'s, to the bit.
    pub fn last_states(&self, tree: &PrefixTree, words: ArrayView2<'_, T>, last: &mut Array2<T>) {
        /// Parents at a time: their rows of c, and their children's gates, stay in a cache.
        const PARENTS: usize = 192;
        let hidden = self.layers.last().expect("at least one layer").hidden_size();
        let mut ends = Groups::default(); // for every node the captions that end there
        ends.rebuild(0..tree.last().len(), tree.nodes(), |caption| tree.last()[caption]);
        linalg::reshape(last, (tree.last().len(), hidden));
        ends.of(0).iter().for_each(|&caption| last.row_mut(caption).fill(T::zero()));

        let mut waves: Vec<Wave<T>> = self.layers.iter().map(|_| Wave::default()).collect();
        for (layer, wave) in self.layers.iter().zip(&mut waves) {
            wave.weight.pack_right(layer.weight_hh.t());
            linalg::reshape(&mut wave.inner, (1, layer.hidden_size()));
            wave.inner.fill(T::zero()); // h₀
        }
        self.layers[0].project(words, &mut waves[0].projected);

        for level in tree.levels() {
            for (layer, wave) in self.layers.iter().zip(&mut waves) {
                std::mem::swap(&mut wave.parents, &mut wave.inner);
                linalg::reshape(&mut wave.inner, (level.inner.len(), layer.hidden_size()));
            }
            let (mut inner, mut leaves) = (level.inner.start, level.leaves.start);
            for first in level.parents.clone().step_by(PARENTS) {
                let parents = first..level.parents.end.min(first + PARENTS);
                // Children stand in the order of their parents.
                let end = |kind: usize, start: usize| {
                    parents.clone().map(|parent| tree.children(parent)[kind].end).fold(start, usize::max)
                };
                let children = [inner..end(0, inner), leaves..end(1, leaves)];
                for k in 0..waves.len() {
                    let (below, wave) = waves.split_at_mut(k);
                    self.layers[k].advance(tree, level, parents.clone(), &children, below.last(), &mut wave[0]);
                }
                let top = &waves[waves.len() - 1];
                for (nodes, states, offset) in
                    [(&children[0], &top.inner, children[0].start - level.inner.start), (&children[1], &top.leaves, 0)]
                {
                    for (i, node) in nodes.clone().enumerate() {
                        for &caption in ends.of(node) {
                            last.row_mut(caption).assign(&states.row(offset + i));
                        }
                    }
                }
                (inner, leaves) = (children[0].end, children[1].end);
            }
        }
    }
}

impl<T: Scalar> GruLayer<T> {
    /// The states of some parents' children, which are some inner nodes and some leaves of a level.
    fn advance(
        &self,
        tree: &PrefixTree,
        level: &Level,
        parents: Range<usize>,
        children: &[Range<usize>; 2],
        below: Option<&Wave<T>>,
        wave: &mut Wave<T>,
    ) {
        let hidden = self.hidden_size();
        let Wave { parents: states, inner, leaves, recurrent: c, gates, projected: a, weight } = wave;
        linalg::reshape(c, (parents.len(), 3 * hidden));
        let of_level = |node: usize| node - level.parents.start;
        self.recur(weight, states.slice(s![of_level(parents.start)..of_level(parents.end), ..]), c.view_mut());
        linalg::reshape(leaves, (children[1].len(), hidden));

        let inner_offset = children[0].start - level.inner.start;
        for (kind, states_of, offset) in [(0, inner, inner_offset), (1, leaves, 0)] {
            let nodes = &children[kind];
            if let Some(below) = below {
                let below = if kind == 0 { &below.inner } else { &below.leaves };
                self.project(below.slice(s![offset..offset + nodes.len(), ..]), a);
            }
            linalg::reshape(gates, (nodes.len(), 3 * hidden));
            let rows = rows_mut(states_of, &(offset..offset + nodes.len())).zip(rows_mut(gates, &(0..nodes.len())));
            rows.with_min_len(rows_at_once(hidden)).zip(nodes.clone()).for_each(|((h, gates), node)| {
                let parent = tree.parent()[node];
                let input = if below.is_some() { node - nodes.start } else { tree.word_of()[node] };
                step_row(row(a, input), row(c, parent - parents.start), row(states, of_level(parent)), gates, h);
            });
        }
    }
}

impl<T: Scalar> GruCache<T> {
    /// The states of the top layer, [N, H].
    #[must_use]
    pub fn top(&self) -> ArrayView2<'_, T> {
        self.layers.last().expect("at least one layer").states.view()
    }
}

impl<T: Scalar> GruBackward<T> {
    /// The gradient of the top layer's states, [N, H], to be filled by the caller: all zeros.
    pub fn top(&mut self, gru: &Gru<T>, tree: &PrefixTree) -> &mut Array2<T> {
        self.layers.resize_with(gru.layers.len(), Default::default);
        let top = gru.layers.len() - 1;
        let states = &mut self.layers[top].states;
        linalg::reshape(states, (tree.nodes(), gru.layers[top].hidden_size()));
        states.fill(T::zero());
        states
    }
}

impl<T: Real> Gru<T> {
    /// From the gradient of the top layer's states, which [`GruBackward::top`] was given, to that of
    /// the word vectors, `d.words` [U, E].
    pub fn backward(
        &self,
        tree: &PrefixTree,
        words: ArrayView2<'_, T>,
        cache: &GruCache<T>,
        d: &mut GruBackward<T>,
        write: Write,
        gradient: &mut Self,
    ) {
        for (k, layer) in self.layers.iter().enumerate().rev() {
            let (below, rest) = d.layers.split_at_mut(k);
            let (inputs, dx) = match below.last_mut() {
                None => (Inputs::Words(words), &mut d.words),
                Some(below) => (Inputs::States(cache.layers[k - 1].states.view()), &mut below.states),
            };
            layer.backward(tree, inputs, &cache.layers[k], &mut rest[0], dx, write, &mut gradient.layers[k]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Axis;

    fn layer(input: usize, hidden: usize, seed: f64) -> GruLayer<f64> {
        let value = |i: usize, j: usize| ((i * 31 + j * 17) as f64 * 0.37 + seed).sin() * 0.8;
        GruLayer {
            weight_ih: Array2::from_shape_fn((3 * hidden, input), |(i, j)| value(i, j)),
            weight_hh: Array2::from_shape_fn((3 * hidden, hidden), |(i, j)| value(i + 5, j + 3)),
            bias_ih: Array1::from_shape_fn(3 * hidden, |i| value(i, 90)),
            bias_hh: Array1::from_shape_fn(3 * hidden, |i| value(i, 91)),
        }
    }

    /// The equations with loops, one caption at a time: what the tree must reproduce.
    fn by_definition(layers: &[GruLayer<f64>], words: &[Vec<f64>]) -> Vec<f64> {
        let mut inputs = words.to_vec();
        for layer in layers {
            let hidden = layer.hidden_size();
            let mut h = vec![0.0; hidden];
            for x in &mut inputs {
                let gate = |row: usize, x: &[f64], h: &[f64]| {
                    let a = layer.bias_ih[row]
                        + x.iter().enumerate().map(|(j, x)| layer.weight_ih[[row, j]] * x).fold(0.0, |s, v| s + v);
                    let c = layer.bias_hh[row]
                        + h.iter().enumerate().map(|(j, h)| layer.weight_hh[[row, j]] * h).fold(0.0, |s, v| s + v);
                    (a, c)
                };
                let next = (0..hidden)
                    .map(|k| {
                        let (a, c) = gate(k, x, &h);
                        let r = Scalar::sigmoid(a + c);
                        let (a, c) = gate(hidden + k, x, &h);
                        let z = Scalar::sigmoid(a + c);
                        let (a, c) = gate(2 * hidden + k, x, &h);
                        let n = libm::tanh(a + r * c);
                        (1.0 - z) * n + z * h[k]
                    })
                    .collect();
                h = next;
                x.clone_from(&h);
            }
        }
        inputs.pop().unwrap_or_else(|| vec![0.0; layers[0].hidden_size()])
    }

    #[test]
    fn gru_1_to_4_on_the_tree_equal_the_definition_caption_by_caption() {
        let table = Array2::from_shape_fn((9, 4), |(i, j)| ((i * 7 + j) as f64 * 1.3).cos());
        let gru = Gru { layers: vec![layer(4, 5, 0.1), layer(5, 5, 0.7)] };
        let captions: [&[u32]; 6] = [&[1, 4, 5, 4, 2], &[1, 4, 5, 2], &[1, 4, 5], &[1, 2], &[1, 4, 5, 2], &[3, 3, 3]];
        let tree = PrefixTree::new(&captions);
        let words = table.select(Axis(0), &tree.words().iter().map(|&w| w as usize).collect::<Vec<_>>());
        let mut cache = GruCache::default();
        gru.forward(&tree, words.view(), &mut cache);
        for (caption, &node) in captions.iter().zip(tree.last()) {
            let words: Vec<Vec<f64>> = caption.iter().map(|&w| table.row(w as usize).to_vec()).collect();
            for (found, expected) in cache.top().row(node).iter().zip(by_definition(&gru.layers, &words)) {
                approx::assert_abs_diff_eq!(*found, expected, epsilon = 1e-14);
            }
        }
    }

    #[test]
    fn last_states_are_those_of_the_forward_pass_to_the_bit() {
        // More parents than are worked on at once, captions that end at inner nodes, equal ones, an
        // empty one; one layer and three.
        let mut captions: Vec<Vec<u32>> = (0..900u32)
            .map(|i| vec![1, i % 7, i / 7 % 11, i % 13, i / 5 % 17, i % 3][..=i as usize % 6].to_vec())
            .collect();
        captions.push(vec![]);
        let tree = PrefixTree::new(&captions);
        assert!(tree.levels().iter().any(|level| level.parents.len() > 192));
        let words = Array2::from_shape_fn((tree.words().len(), 4), |(i, j)| ((i * 7 + j) as f64 * 1.3).cos());
        for layers in [1, 3] {
            // Every layer as wide as it likes.
            let width = |k: u8| 4 + usize::from(k);
            let layers = (0..layers).map(|k| layer(width(k), width(k + 1), 0.1 + f64::from(k))).collect();
            let (gru, mut cache, mut last) = (Gru { layers }, GruCache::default(), Array2::zeros((0, 0)));
            gru.forward(&tree, words.view(), &mut cache);
            gru.last_states(&tree, words.view(), &mut last);
            assert_eq!(last, cache.top().select(Axis(0), tree.last()));
        }
    }

    #[test]
    fn gru_3_applies_the_reset_after_the_product() {
        // H = 2 with a W_hn that mixes the units: before and after differ.
        let mut layer = layer(1, 2, 0.3);
        layer.weight_hh.slice_mut(s![4.., ..]).assign(&ndarray::array![[0.0, 1.0], [1.0, 0.0]]);
        let (mut gates, mut out) = ([0.0; 6], [0.0; 2]);
        let (a, c, h) = ([0.3, -1.2, 0.0, 0.0, 0.1, 0.2], [0.0, 0.0, 0.0, 0.0, 0.9, -0.4], [0.5, -0.5]);
        step_row(&a, &c, &h, &mut gates, &mut out);
        approx::assert_abs_diff_eq!(gates[4], libm::tanh(0.1 + gates[0] * 0.9), epsilon = 1e-16);
        approx::assert_abs_diff_eq!(gates[5], libm::tanh(0.2 - gates[1] * 0.4), epsilon = 1e-16);
        approx::assert_abs_diff_eq!(out[0], 0.5 * gates[4] + 0.25, epsilon = 1e-16);
    }
}
