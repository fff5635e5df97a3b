//! Gated recurrent unit over a prefix tree.
//!
//! ```text
//! (GRU-0)   a = W_ih x + b_ih                   [3H], rows r, z, n; once per distinct word
//! (GRU-0)   c = W_hh h + b_hh                   [3H], rows r, z, n; once per parent
//! (GRU-1)   r = σ(a_r + c_r)                    reset gate
//! (GRU-2)   z = σ(a_z + c_z)                    update gate
//! (GRU-3)   n = tanh(a_n + r ∘ c_n)             new gate, reset *after* the product
//! (GRU-4)   h′ = (1 − z) ∘ n + z ∘ h, h₀ = 0    the new state
//! (GRU-5)   y = h′ of the top layer at the end of a sequence
//! ```
//!
//! This is the convention of `PyTorch` and cuDNN, and of the original VSE++ code. Cho et al. (2014,
//! equation 8), cited by the paper, apply the reset *before* the product, `W_hn` (r ∘ h): another
//! function, whose weights cannot be exchanged with these.
//!
//! The backward pass goes through these lines in reverse. h′ is the node's own state, h its parent's. Both
//! kinds of gradient, dh′ of a node and dh of a parent, are rows of one matrix:
//!
//! ```text
//! (GRU-5′)  dh′ += dy for every sequence that ends at the node
//! (GRU-4′)  dn = dh′ ∘ (1 − z), dz = dh′ ∘ (h − n), dh += Σ_children dh′ ∘ z
//! (GRU-3′)  da_n = dn ∘ (1 − n²), dr = da_n ∘ c_n, dc_n = da_n ∘ r
//! (GRU-2′)  da_z = dz ∘ z ∘ (1 − z) = dc_z
//! (GRU-1′)  da_r = dr ∘ r ∘ (1 − r) = dc_r
//! (GRU-0′)  dc = Σ_children (dc_r, dc_z, dc_n), dh += dc W_hh         first the sum, then the product
//! (GRU-0′)  dW_hh += dcᵀ h, db_hh += Σ dc
//! (GRU-0′)  dW_ih += daᵀ x, db_ih += Σ da, dx = da W_ih               da summed over equal words
//! (INIT-3)  W, b ~ U(±1 / √H)                                         every weight and both biases
//! ```
//!
//! Shapes: E inputs, H hidden units, U distinct words, N nodes, P inner nodes (see [`PrefixTree`]), B
//! sequences; weights as `PyTorch` stores them, `weight_ih` [3H, E], `weight_hh` [3H, H].
//!
//! `src/spec/` has the same equations over padded sequences, without the tree.

mod infer;
mod rows;

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, s};
use rayon::prelude::*;
use rayon::slice::ChunksExactMut;

use super::prefix_tree::{Parts, PrefixTree};
use super::{Layer, Mode, Module, Path, Tensor, Visitor, visit_tensor};
use crate::error::{Error, Result};
use crate::linalg::{self, Panels, Write, rows_at_once};
use crate::real::{Real, Scalar};
use crate::simd::vectorized;
use rows::{Backward, Forward, Lists, reuse};

/// One layer's weights; gates stacked r, z, n.
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

impl<T: Clone + Default> GruLayer<T> {
    /// A layer with E inputs and H hidden units, all zeros.
    #[must_use]
    fn zeros(inputs: usize, hidden: usize) -> Self {
        Self {
            weight_ih: Array2::default((3 * hidden, inputs)),
            weight_hh: Array2::default((3 * hidden, hidden)),
            bias_ih: Array1::default(3 * hidden),
            bias_hh: Array1::default(3 * hidden),
        }
    }
}

/// The inputs x of a layer: the word vectors, or the states of the layer below.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Inputs<'a, T> {
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
    /// The row that a node reads, of x and so of a.
    fn of(self, tree: &PrefixTree, node: usize) -> usize {
        match self {
            Self::Words(_) => tree.word_of()[node],
            Self::States(_) => node,
        }
    }
}

/// What one layer keeps: the values of the equations, under their letters, and their gradients.
#[derive(Clone, Debug, Default)]
pub struct GruLayerCache<T: 'static> {
    /// a of every distinct word, [U, 3H]; above the first layer, a of every node, [N, 3H].
    pub a: Array2<T>,
    /// c of every inner node, [P, 3H].
    pub c: Array2<T>,
    /// r of every node, [N, H]; row 0, the root, is unused here and in z and n.
    pub r: Array2<T>,
    /// z of every node, [N, H].
    pub z: Array2<T>,
    /// n of every node, [N, H].
    pub n: Array2<T>,
    /// The state of every node, [N, H]; row 0 is h₀.
    pub h: Array2<T>,
    /// da of every node, [N, 3H]; row 0 is zero.
    pub da: Array2<T>,
    /// da summed over the nodes that read the same word, [U, 3H]; unused above the first layer.
    pub da_words: Array2<T>,
    /// dc of every inner node, [P, 3H].
    pub dc: Array2<T>,
    /// dh of every node, [N, H].
    pub dh: Array2<T>,
    /// `W_hhᵀ` and `W_hh`, packed once for the products of all time steps.
    packed: [Panels<T>; 2],
    lists: Lists<T>,
}

impl<T: Scalar> GruLayer<T> {
    /// H.
    #[must_use]
    pub(crate) fn hidden_size(&self) -> usize {
        self.weight_hh.ncols()
    }

    /// a, row by row.
    fn a(&self, x: ArrayView2<'_, T>, a: &mut Array2<T>) {
        linalg::reshape(a, (x.nrows(), self.weight_ih.nrows()));
        // (GRU-0)  a = W_ih x + b_ih
        linalg::matmul_into(x, self.weight_ih.t(), a.view_mut());
        linalg::add_to_rows(a.view_mut(), &self.bias_ih);
    }

    /// c, row by row.
    fn c(&self, packed: &Panels<T>, h: ArrayView2<'_, T>, mut c: ArrayViewMut2<'_, T>) {
        // (GRU-0)  c = W_hh h + b_hh
        linalg::matmul_packed(h, packed, Write::Replace, c.view_mut());
        linalg::add_to_rows(c, &self.bias_hh);
    }

    /// (GRU-0) to (GRU-4) for all nodes of a tree.
    fn forward(&self, tree: &PrefixTree, parts: &Parts, x: Inputs<'_, T>, cache: &mut GruLayerCache<T>) {
        let hidden = self.hidden_size();
        let GruLayerCache { a, c, r, z, n, h, packed: [packed, _], lists, .. } = cache;
        self.a(x.rows(), a);
        linalg::reshape(c, (tree.inner_nodes(), 3 * hidden));
        for matrix in [&mut *r, &mut *z, &mut *n, &mut *h] {
            linalg::reshape(matrix, (tree.nodes(), hidden));
        }
        h.row_mut(0).fill(T::zero());
        packed.pack_right(self.weight_hh.t());

        for run in parts.runs() {
            let mut list = std::mem::take(&mut lists.forward);
            let above = rows::forward(run, hidden, all(c), [all(r), all(z), all(n), all(h)], &mut list);
            let part = |levels: &mut [Forward<'_, T>]| self.forward_part(tree, x, (a, packed), above, levels);
            list.par_chunks_mut(run.depth().max(1)).for_each(part);
            lists.forward = reuse(list);
        }
    }

    /// One part of the captions, one level after another. `above` has the rows of h of all levels before.
    fn forward_part(
        &self,
        tree: &PrefixTree,
        x: Inputs<'_, T>,
        (a, packed): (&Array2<T>, &Panels<T>),
        above: &[T],
        levels: &mut [Forward<'_, T>],
    ) {
        let hidden = self.hidden_size();
        for number in 0..levels.len() {
            let (earlier, rest) = levels.split_at_mut(number);
            let Forward { level, c, nodes, .. } = &mut rest[0];
            let h = match earlier.last() {
                Some(Forward { nodes: [[_, _, _, h], _], .. }) => &**h,
                None => &above[level.parents.start * hidden..level.parents.end * hidden],
            };
            self.c(packed, matrix(h, hidden), matrix_mut(c, 3 * hidden));

            for (range, [r, z, n, h_next]) in [&level.inner, &level.leaves].into_iter().zip(nodes) {
                let gates = r
                    .par_chunks_exact_mut(hidden)
                    .zip(z.par_chunks_exact_mut(hidden))
                    .zip(n.par_chunks_exact_mut(hidden));
                let rows = gates.zip(h_next.par_chunks_exact_mut(hidden)).with_min_len(rows_at_once(hidden));
                rows.zip(range.clone()).for_each(|((((r, z), n), h_next), node)| {
                    let parent = tree.parent()[node] - level.parents.start;
                    let (c, h) = (&c[parent * 3 * hidden..][..3 * hidden], &h[parent * hidden..][..hidden]);
                    step(row(a, x.of(tree, node)), c, h, [r, z, n], h_next);
                });
            }
        }
    }

    /// (GRU-4′) to (GRU-0′) for all nodes of a tree.
    ///
    /// On entry, `cache.dh` [N, H] holds the part of each state's gradient that comes from outside this
    /// layer. The part that comes from the node's children is added here.
    #[allow(clippy::too_many_arguments)]
    fn backward(
        &self,
        tree: &PrefixTree,
        parts: &Parts,
        x: Inputs<'_, T>,
        cache: &mut GruLayerCache<T>,
        write: Write,
        grad: &mut Self,
        dx: Option<&mut Array2<T>>,
    ) where
        T: Real,
    {
        let hidden = self.hidden_size();
        let GruLayerCache { c, r, z, n, h, da, da_words, dc, dh, packed: [_, packed], lists, .. } = cache;
        linalg::reshape(da, (tree.nodes(), 3 * hidden));
        linalg::reshape(dc, (tree.inner_nodes(), 3 * hidden));
        da.row_mut(0).fill(T::zero());
        // A childless root is in no level: its row is cleared here.
        dc.row_mut(0).fill(T::zero());
        packed.pack_right(self.weight_hh.view());

        for run in parts.runs().into_iter().rev() {
            let mut list = std::mem::take(&mut lists.backward);
            let below = rows::backward(run, hidden, [all(dc), all(dh), all(da)], &mut list);
            let part = |levels: &mut [Backward<'_, T>]| {
                self.backward_part(tree, [r, z, n, c, h], packed, below, levels);
            };
            list.par_chunks_mut(run.depth().max(1)).for_each(part);
            lists.backward = reuse(list);
        }

        // (GRU-0′)  dW_hh += dcᵀ h, db_hh += Σ dc
        if !grad.weight_hh.is_empty() {
            let h = h.slice(s![..tree.inner_nodes(), ..]);
            linalg::matmul_write(dc.t(), h, write, grad.weight_hh.view_mut());
        }
        if !grad.bias_hh.is_empty() {
            linalg::column_sums(dc.view(), write, &mut grad.bias_hh);
        }
        let da = match x {
            Inputs::Words(_) => {
                sum_by_word(tree, da, da_words);
                da_words
            }
            Inputs::States(_) => da,
        };
        // (GRU-0′)  dW_ih += daᵀ x, db_ih += Σ da, dx = da W_ih
        if !grad.weight_ih.is_empty() {
            linalg::matmul_write(da.t(), x.rows(), write, grad.weight_ih.view_mut());
        }
        if !grad.bias_ih.is_empty() {
            linalg::column_sums(da.view(), write, &mut grad.bias_ih);
        }
        if let Some(dx) = dx {
            linalg::reshape(dx, x.rows().dim());
            linalg::matmul_into(da.view(), self.weight_ih.view(), dx.view_mut());
        }
    }

    /// One part of the captions, from the last level to the first. `below` has the rows of dh of all nodes after
    /// the run's parents.
    fn backward_part(
        &self,
        tree: &PrefixTree,
        [r, z, n, c, h]: [&Array2<T>; 5],
        packed: &Panels<T>,
        below: &[T],
        levels: &mut [Backward<'_, T>],
    ) where
        T: Real,
    {
        let hidden = self.hidden_size();
        let first_below = tree.nodes() - below.len() / hidden;
        for number in (0..levels.len()).rev() {
            let (rest, later) = levels.split_at_mut(number + 1);
            let Backward { level, dc, dh, da: [da_inner, da_leaves], .. } = &mut rest[number];
            let dh_of = |node: usize| match later.first() {
                Some(next) if node < first_below => &next.dh[(node - next.level.parents.start) * hidden..][..hidden],
                _ => &below[(node - first_below) * hidden..][..hidden],
            };
            for (range, da) in [(&level.inner, &mut *da_inner), (&level.leaves, &mut *da_leaves)] {
                let rows = da.par_chunks_exact_mut(3 * hidden).with_min_len(rows_at_once(hidden)).zip(range.clone());
                rows.for_each(|(da, node)| {
                    let parent = tree.parent()[node];
                    let gates = [row(r, node), row(z, node), row(n, node)];
                    step_backward(dh_of(node), gates, row(c, parent), row(h, parent), da);
                });
            }
            // (GRU-0′)  dc = Σ_children (dc_r, dc_z, dc_n), dh += dc W_hh
            let rows = dc
                .par_chunks_exact_mut(3 * hidden)
                .zip(dh.par_chunks_exact_mut(hidden))
                .with_min_len(rows_at_once(hidden));
            rows.zip(level.parents.clone()).for_each(|((dc, dh), parent)| {
                dc.fill(T::zero());
                let children =
                    tree.children(parent).iter().zip([(&level.inner, &*da_inner), (&level.leaves, &*da_leaves)]);
                for (range, (nodes, da)) in children {
                    for child in range.clone() {
                        let da = &da[(child - nodes.start) * 3 * hidden..][..3 * hidden];
                        add_child(dh_of(child), row(r, child), row(z, child), da, dc, dh);
                    }
                }
            });
            linalg::matmul_packed(matrix(dc, 3 * hidden), packed, Write::Add, matrix_mut(dh, hidden));
        }
    }
}

/// (GRU-1) to (GRU-4) for one node: a, c `[3H]` and the parent's h `[H]` give r, z, n and h′ `[H]`.
fn step<T: Scalar>(a: &[T], c: &[T], h: &[T], [r, z, n]: [&mut [T]; 3], h_next: &mut [T]) {
    let hidden = h.len();
    let ([a_r, a_z, a_n], [c_r, c_z, c_n]) = (thirds(a), thirds(c));
    // Slices of one known length: otherwise the compiler checks every access and vectorises nothing.
    let (r, z, n, h_next) = (&mut r[..hidden], &mut z[..hidden], &mut n[..hidden], &mut h_next[..hidden]);
    vectorized(
        #[inline(always)]
        || {
            for ((r, &a_r), &c_r) in r.iter_mut().zip(a_r).zip(c_r) {
                // (GRU-1)  r = σ(a_r + c_r)
                *r = (a_r + c_r).sigmoid();
            }
            for ((z, &a_z), &c_z) in z.iter_mut().zip(a_z).zip(c_z) {
                // (GRU-2)  z = σ(a_z + c_z)
                *z = (a_z + c_z).sigmoid();
            }
            for (((n, &a_n), &c_n), &r) in n.iter_mut().zip(a_n).zip(c_n).zip(&*r) {
                // (GRU-3)  n = tanh(a_n + r ∘ c_n)
                *n = (a_n + r * c_n).tanh();
            }
            for (((h_next, &n), &z), &h) in h_next.iter_mut().zip(&*n).zip(&*z).zip(h) {
                // (GRU-4)  h′ = (1 − z) ∘ n + z ∘ h, h₀ = 0
                *h_next = (T::one() - z) * n + z * h;
            }
        },
    );
}

/// (GRU-4′) to (GRU-1′) for one node: its dh′ `[H]` gives da `[3H]`.
fn step_backward<T: Real>(dh: &[T], [r, z, n]: [&[T]; 3], c: &[T], h: &[T], da: &mut [T]) {
    let (hidden, one) = (h.len(), T::one());
    let [_, _, c_n] = thirds(c);
    let (da_r, rest) = da.split_at_mut(hidden);
    let (da_z, da_n) = rest.split_at_mut(hidden);
    // One length for all, as in `step`.
    let (dh, r, z, n) = (&dh[..hidden], &r[..hidden], &z[..hidden], &n[..hidden]);
    let (c_n, da_n) = (&c_n[..hidden], &mut da_n[..hidden]);
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
fn add_child<T: Real>(dh_child: &[T], r: &[T], z: &[T], da: &[T], dc: &mut [T], dh: &mut [T]) {
    let hidden = dh.len();
    vectorized(
        #[inline(always)]
        || {
            for (dc, &da) in dc[..2 * hidden].iter_mut().zip(da) {
                *dc += da;
            }
            for ((dc, &da), &r) in dc[2 * hidden..].iter_mut().zip(&da[2 * hidden..]).zip(r) {
                *dc += da * r;
            }
            for ((dh, &dh_child), &z) in dh.iter_mut().zip(dh_child).zip(z) {
                *dh += dh_child * z;
            }
        },
    );
}

/// Sums the rows of da [N, 3H] that belong to the same word, in the order of the nodes: [U, 3H].
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

/// The parts r, z, n of a row [3H].
fn thirds<T>(row: &[T]) -> [&[T]; 3] {
    let (r, rest) = row.split_at(row.len() / 3);
    let (z, n) = rest.split_at(row.len() / 3);
    [r, z, n]
}

/// One row of a matrix.
fn row<T>(matrix: &Array2<T>, row: usize) -> &[T] {
    &matrix.as_slice().expect("contiguous")[row * matrix.ncols()..][..matrix.ncols()]
}

/// Some mutable rows of a matrix, for parallel iteration.
fn rows_mut<'a, T: Send>(matrix: &'a mut Array2<T>, rows: &Range<usize>) -> ChunksExactMut<'a, T> {
    let width = matrix.ncols();
    all(matrix)[rows.start * width..rows.end * width].par_chunks_exact_mut(width)
}

/// All numbers of a matrix.
fn all<T>(matrix: &mut Array2<T>) -> &mut [T] {
    matrix.as_slice_mut().expect("contiguous")
}

/// Rows of some width as a matrix.
fn matrix<T>(rows: &[T], width: usize) -> ArrayView2<'_, T> {
    ArrayView2::from_shape((rows.len() / width, width), rows).expect("whole rows")
}

/// Rows of some width as a matrix, to write.
fn matrix_mut<T>(rows: &mut [T], width: usize) -> ArrayViewMut2<'_, T> {
    ArrayViewMut2::from_shape((rows.len() / width, width), rows).expect("whole rows")
}

/// A stack of layers: layer k reads the states of layer k − 1.
///
/// ```
/// use ndarray::Array2;
/// use vsepp::nn::{Gru, GruCache, Layer, Mode, Module, PrefixTree, Sequences};
///
/// # fn main() -> vsepp::Result<()> {
/// let mut gru = Gru::<f64>::zeros(1, 3, 4); // one layer, E = 3, H = 4
/// gru.init(0);
///
/// // Two captions, of 3 and 2 tokens, over the words 1, 2 and 5: ψ is the state at the last token.
/// let tree = PrefixTree::new(&[[1, 5, 2].as_slice(), &[1, 5]]);
/// let words = Array2::from_shape_fn((tree.words().len(), 3), |(word, k)| (word + k) as f64 / 4.0);
/// let mut cache = GruCache::default();
/// gru.forward(Sequences { tree: &tree, words: words.view() }, Mode::Train, &mut cache)?;
/// assert_eq!(cache.y.dim(), (2, 4));
/// assert!(cache.y.iter().all(|h| h.abs() < 1.0), "a mean of tanh's");
/// assert_ne!(cache.y.row(0), cache.y.row(1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Gru<T> {
    /// From the word vectors upwards; at least one.
    pub layers: Vec<GruLayer<T>>,
}

impl<T: Clone + Default> Gru<T> {
    /// Layers with H hidden units over inputs of size E, all zeros.
    #[must_use]
    pub fn zeros(layers: usize, inputs: usize, hidden: usize) -> Self {
        let layer = |k| GruLayer::zeros(if k == 0 { inputs } else { hidden }, hidden);
        Self { layers: (0..layers).map(layer).collect() }
    }
}

/// Layer k has the tensors `weight_ih_l{k}`, `weight_hh_l{k}`, `bias_ih_l{k}` and `bias_hh_l{k}`.
impl<T: Clone + Default> Module<T> for Gru<T> {
    fn visit<const M: usize, const S: usize>(
        mut changed: [&mut Self; M],
        read: [&Self; S],
        path: &Path<'_>,
        visitor: &mut Visitor<'_, T, M, S>,
    ) -> Result<()> {
        let counts = || changed.iter().map(|gru| gru.layers.len()).chain(read.iter().map(|gru| gru.layers.len()));
        let (fewest, most) = (counts().min().unwrap_or(0), counts().max().unwrap_or(0));
        if fewest != most {
            return Err(Error::mismatch(format!(
                "{}: one value has it, another has only {fewest} layer(s)",
                path.numbered("weight_ih_l", fewest)
            )));
        }
        for k in 0..most {
            let mut changed = changed.each_mut().map(|gru| &mut gru.layers[k]);
            let read = read.map(|gru| &gru.layers[k]);
            let any = changed.first().map(|layer| &**layer).or(read.first().copied()).expect("a visit has a value");
            // (INIT-3)  W, b ~ U(±1 / √H)
            let tensor = Tensor::uniform(1.0 / (any.weight_hh.ncols() as f64).sqrt());
            macro_rules! each {
                ($($field:ident)*) => {$(
                    visit_tensor(
                        tensor,
                        changed.each_mut().map(|layer| layer.$field.view_mut()),
                        read.map(|layer| layer.$field.view()),
                        &path.numbered(concat!(stringify!($field), "_l"), k),
                        visitor,
                    )?;
                )*};
            }
            each!(weight_ih weight_hh bias_ih bias_hh);
        }
        Ok(())
    }

    fn empty(&mut self, path: &Path<'_>, which: &dyn Fn(&Path<'_>, Tensor) -> bool) {
        for (k, layer) in self.layers.iter_mut().enumerate() {
            macro_rules! each {
                ($($field:ident)*) => {$(
                    if which(&path.numbered(concat!(stringify!($field), "_l"), k), Tensor::uniform(0.0)) {
                        layer.$field = Default::default();
                    }
                )*};
            }
            each!(weight_ih weight_hh bias_ih bias_hh);
        }
    }
}

/// What a [`Gru`] reads: sequences of words as a tree, and a vector for each distinct word.
#[derive(Clone, Copy, Debug)]
pub struct Sequences<'a, T> {
    /// B sequences.
    pub tree: &'a PrefixTree,
    /// The vectors of the tree's distinct words, [U, E].
    pub words: ArrayView2<'a, T>,
}

/// What a [`Gru`] keeps of a forward pass.
#[derive(Clone, Debug, Default)]
pub struct GruCache<T: 'static> {
    /// From the word vectors upwards.
    pub layers: Vec<GruLayerCache<T>>,
    /// y [B, H]
    pub y: Array2<T>,
    /// The tree, divided among threads.
    parts: Parts,
}

impl<T: Scalar> Gru<T> {
    /// How many parts of the captions are computed at the same time.
    ///
    /// Threads that share each level meet several times per level. With parts they meet once per layer, but each
    /// product has fewer rows, and every thread reads the whole weight: that pays while the weight fits a core's
    /// cache.
    fn parts(&self, tree: &PrefixTree) -> usize {
        /// The largest H.
        const CACHED: usize = 512;
        /// Multiplications per part that outweigh starting a thread.
        const WORK: usize = 1 << 22;
        let hidden = self.layers.iter().map(GruLayer::hidden_size).max().unwrap_or(0);
        let work = tree.inner_nodes() * 3 * hidden * hidden;
        if hidden > CACHED { 1 } else { rayon::current_num_threads().min(work / WORK).max(1) }
    }
}

impl<T: Scalar> Layer<T> for Gru<T> {
    type X<'a>
        = Sequences<'a, T>
    where
        T: 'a;
    type Y = Array2<T>;
    /// dx of the distinct words, [U, E].
    type Dx = Array2<T>;
    type Cache = GruCache<T>;

    fn forward(&self, x: Sequences<'_, T>, _: Mode, cache: &mut GruCache<T>) -> Result<()> {
        let Sequences { tree, words } = x;
        cache.layers.resize_with(self.layers.len(), Default::default);
        cache.parts.rebuild(tree, self.parts(tree));
        for (k, layer) in self.layers.iter().enumerate() {
            let (below, rest) = cache.layers.split_at_mut(k);
            let x = below.last().map_or(Inputs::Words(words), |below| Inputs::States(below.h.view()));
            layer.forward(tree, &cache.parts, x, &mut rest[0]);
        }
        let h = &cache.layers.last().expect("at least one layer").h;
        linalg::reshape(&mut cache.y, (tree.last().len(), h.ncols()));
        for (mut y, &node) in cache.y.outer_iter_mut().zip(tree.last()) {
            // (GRU-5)  y = h′ of the top layer at the end of a sequence
            y.assign(&h.row(node));
        }
        Ok(())
    }

    fn backward(
        &self,
        x: Sequences<'_, T>,
        cache: &mut GruCache<T>,
        dy: &Array2<T>,
        write: Write,
        grad: &mut Self,
        mut dx: Option<&mut Array2<T>>,
    ) where
        T: Real,
    {
        let Sequences { tree, words } = x;
        let dh = &mut cache.layers.last_mut().expect("at least one layer").dh;
        linalg::reshape(dh, (tree.nodes(), dy.ncols()));
        dh.fill(T::zero());
        for (&node, dy) in tree.last().iter().zip(dy.outer_iter()) {
            let mut dh = dh.row_mut(node);
            // (GRU-5′)  dh′ += dy for every sequence that ends at the node
            dh += &dy;
        }
        for (k, layer) in self.layers.iter().enumerate().rev() {
            let (below, rest) = cache.layers.split_at_mut(k);
            // The x of a layer is the h of the layer below, and its dx is that layer's dh.
            let (x, dx) = match below.last_mut() {
                None => (Inputs::Words(words), dx.take()),
                Some(GruLayerCache { h, dh, .. }) => (Inputs::States(h.view()), Some(dh)),
            };
            layer.backward(tree, &cache.parts, x, &mut rest[0], write, &mut grad.layers[k], dx);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::gru as spec;
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

    /// y of one sequence by the specification, x [T, E].
    fn by_definition(layers: &[GruLayer<f64>], x: Array2<f64>) -> Array1<f64> {
        let steps = x.nrows();
        let mut x = x.insert_axis(Axis(0));
        for layer in layers {
            let GruLayer { weight_ih, weight_hh, bias_ih, bias_hh } = layer.clone();
            let h0 = Array2::zeros((1, layer.hidden_size()));
            x = spec::gru(&spec::GruLayer { weight_ih, weight_hh, bias_ih, bias_hh }, x, h0, &[steps]).h;
        }
        x.slice(s![0, steps - 1, ..]).to_owned()
    }

    #[test]
    fn gru_1_to_4_on_the_tree_equal_the_definition_caption_by_caption() {
        let table = Array2::from_shape_fn((9, 4), |(i, j)| ((i * 7 + j) as f64 * 1.3).cos());
        let gru = Gru { layers: vec![layer(4, 5, 0.1), layer(5, 5, 0.7)] };
        let captions: [&[u32]; 6] = [&[1, 4, 5, 4, 2], &[1, 4, 5, 2], &[1, 4, 5], &[1, 2], &[1, 4, 5, 2], &[3, 3, 3]];
        let tree = PrefixTree::new(&captions);
        let words = table.select(Axis(0), &tree.words().iter().map(|&w| w as usize).collect::<Vec<_>>());
        let mut cache = GruCache::default();
        gru.forward(Sequences { tree: &tree, words: words.view() }, Mode::Train, &mut cache).unwrap();
        for (caption, y) in captions.iter().zip(cache.y.outer_iter()) {
            let x = table.select(Axis(0), &caption.iter().map(|&w| w as usize).collect::<Vec<_>>());
            approx::assert_abs_diff_eq!(y, by_definition(&gru.layers, x).view(), epsilon = 1e-14);
        }
    }

    #[test]
    fn inference_gives_the_y_of_the_forward_pass_to_the_bit() {
        // More parents than one block holds, captions that end at inner nodes, equal captions, an empty one;
        // one layer and three.
        let mut captions: Vec<Vec<u32>> = (0..900u32)
            .map(|i| vec![1, i % 7, i / 7 % 11, i % 13, i / 5 % 17, i % 3][..=i as usize % 6].to_vec())
            .collect();
        captions.push(vec![]);
        let tree = PrefixTree::new(&captions);
        assert!(tree.levels().iter().any(|level| level.parents.len() > 192));
        let words = Array2::from_shape_fn((tree.words().len(), 4), |(i, j)| ((i * 7 + j) as f64 * 1.3).cos());
        for layers in [1, 3] {
            // The layers have different widths.
            let width = |k: u8| 4 + usize::from(k);
            let layers = (0..layers).map(|k| layer(width(k), width(k + 1), 0.1 + f64::from(k))).collect();
            let (gru, mut cache, mut y) = (Gru { layers }, GruCache::default(), Array2::zeros((0, 0)));
            let x = Sequences { tree: &tree, words: words.view() };
            gru.forward(x, Mode::Eval, &mut cache).unwrap();
            gru.infer(x, &mut y);
            assert_eq!(y, cache.y);
            assert_eq!(y, cache.layers[cache.layers.len() - 1].h.select(Axis(0), tree.last()));
        }
    }

    #[test]
    fn the_number_of_parts_does_not_change_a_bit() {
        let captions: Vec<Vec<u32>> = (0..200u32)
            .map(|i| vec![1, i % 5, i / 5 % 7, i % 11, i / 3 % 13, i % 2][..=i as usize % 6].to_vec())
            .collect();
        let tree = PrefixTree::new(&captions);
        let layer = layer(4, 5, 0.3);
        let words = Array2::from_shape_fn((tree.words().len(), 4), |(i, j)| ((i * 7 + j) as f64 * 1.3).cos());
        let run = |count: usize| {
            let mut parts = Parts::default();
            parts.rebuild(&tree, count);
            let (mut cache, mut grad, mut dx) =
                (GruLayerCache::default(), GruLayer::zeros(4, 5), Array2::zeros((0, 0)));
            // Twice, in the memory of the first time.
            for _ in 0..2 {
                layer.forward(&tree, &parts, Inputs::Words(words.view()), &mut cache);
                cache.dh = Array2::from_shape_fn((tree.nodes(), 5), |(i, j)| ((i * 3 + j) as f64 * 0.7).sin());
                let x = Inputs::Words(words.view());
                layer.backward(&tree, &parts, x, &mut cache, Write::Replace, &mut grad, Some(&mut dx));
            }
            let GruLayerCache { r, z, n, h, da, dc, dh, .. } = cache;
            (parts.runs()[1].levels.len(), [r, z, n, h, da, dc, dh, dx], grad)
        };
        let (divided, matrices, grad) = run(1);
        assert_eq!(divided, 0);
        for count in [2, 3, 4] {
            let (divided, also, also_grad) = run(count);
            assert!(divided >= 2 * count, "{count} parts in {divided} levels");
            assert!(also == matrices && also_grad == grad, "{count} parts");
        }
    }

    #[test]
    fn gru_3_applies_the_reset_after_the_product() {
        let (mut r, mut z, mut n, mut h_next) = ([0.0; 2], [0.0; 2], [0.0; 2], [0.0; 2]);
        let (a, c, h) = ([0.3, -1.2, 0.0, 0.0, 0.1, 0.2], [0.0, 0.0, 0.0, 0.0, 0.9, -0.4], [0.5, -0.5]);
        step(&a, &c, &h, [&mut r, &mut z, &mut n], &mut h_next);
        approx::assert_abs_diff_eq!(n[0], libm::tanh(0.1 + r[0] * 0.9), epsilon = 1e-16);
        approx::assert_abs_diff_eq!(n[1], libm::tanh(0.2 - r[1] * 0.4), epsilon = 1e-16);
        approx::assert_abs_diff_eq!(h_next[0], 0.5 * n[0] + 0.25, epsilon = 1e-16);
    }
}
