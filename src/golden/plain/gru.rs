//! The GRU on padded rows, (GRU-1) to (GRU-4) and back.

use ndarray::{Array2, Array3, ArrayView2, Axis, s};

use super::{Plain, Trace};
use crate::golden::arithmetic::Form;
use crate::real::Real;
use crate::spec::gru::GruLayer;

/// Rows of different lengths in one array. After the end of a row there may be anything.
#[derive(Clone, Debug)]
pub(crate) struct Padded<T> {
    /// [B, T, I]
    pub values: Array3<T>,
    /// `[B]`, 1 to T.
    pub lengths: Vec<usize>,
}

/// What one layer has computed; 0 after the end of a row.
#[derive(Clone, Debug)]
struct Layer<T> {
    weights: GruLayer<T>,
    /// x [B, T, I]
    x: Array3<T>,
    /// `W_ih` x + `b_ih` and `W_hh` h + `b_hh`, [B, T, 3H]
    a: Array3<T>,
    c: Array3<T>,
    r: Array3<T>,
    z: Array3<T>,
    n: Array3<T>,
    h: Array3<T>,
    /// The state before each step, [B, T, H].
    before: Array3<T>,
}

/// A forward pass through all layers, ready to go back.
#[derive(Clone, Debug)]
pub(crate) struct Pass<T> {
    layers: Vec<Layer<T>>,
    lengths: Vec<usize>,
    /// The state of each row at its own last token, [B, H].
    pub last: Array2<T>,
}

impl<T> Pass<T> {
    /// How far each row was read, `[B]`.
    #[must_use]
    pub(crate) fn lengths(&self) -> &[usize] {
        &self.lengths
    }
}

/// The gradients of all layers.
#[derive(Clone, Debug)]
pub(crate) struct Back<T> {
    /// By the parameters.
    pub layers: Vec<GruLayer<T>>,
    /// By x, [B, T, I].
    pub x: Array3<T>,
    /// By h₀, [L, B, H].
    pub h0: Array3<T>,
}

impl Plain<'_> {
    /// All layers: x [B, T, E], h₀ [L, B, H]. Adds `mid.l{k}.*`.
    pub(crate) fn gru<T: Real>(
        &self,
        gru: &[GruLayer<T>],
        x: &Padded<T>,
        h0: &Array3<T>,
        trace: &mut Trace<T>,
    ) -> Pass<T> {
        let lengths = x.lengths.clone();
        let mut input = x.values.clone();
        for (b, &length) in lengths.iter().enumerate() {
            input.slice_mut(s![b, length.., ..]).fill(T::zero());
        }
        let mut layers: Vec<Layer<T>> = Vec::new();
        for (k, weights) in gru.iter().enumerate() {
            let layer = self.layer(weights.clone(), input, &lengths, h0.index_axis(Axis(0), k));
            for (name, values) in
                [("a", &layer.a), ("c", &layer.c), ("r", &layer.r), ("z", &layer.z), ("n", &layer.n), ("h", &layer.h)]
            {
                trace.real(format!("mid.l{k}.{name}"), values);
            }
            let states = layer.h.clone();
            layers.push(layer);
            input = states;
        }
        // (TXT-1)
        let mut last = Array2::zeros((lengths.len(), input.dim().2));
        for ((mut out, states), &length) in last.outer_iter_mut().zip(input.outer_iter()).zip(&lengths) {
            out.assign(&states.row(length - 1));
        }
        Pass { layers, lengths, last }
    }

    /// One layer, one time step after another.
    fn layer<T: Real>(&self, w: GruLayer<T>, x: Array3<T>, lengths: &[usize], h0: ArrayView2<'_, T>) -> Layer<T> {
        let way = self.arithmetic;
        let (batch, steps, inputs) = x.dim();
        let hidden = w.weight_hh.ncols();
        let flat = x.to_shape((batch * steps, inputs)).expect("the same numbers").into_owned();
        let a = way.store(way.product(flat.view(), w.weight_ih.t()) + &w.bias_ih);
        let a = a.into_shape_with_order((batch, steps, 3 * hidden)).expect("the same numbers");
        let zeros = |width| Array3::zeros((batch, steps, width));
        let (mut r, mut z, mut n, mut h) = (zeros(hidden), zeros(hidden), zeros(hidden), zeros(hidden));
        let (mut before, mut all_c) = (zeros(hidden), zeros(3 * hidden));
        let mut state = h0.to_owned();
        let [in_r, in_z, in_n] = [0, hidden, 2 * hidden];
        for t in 0..steps {
            let c = way.store(way.product(state.view(), w.weight_hh.t()) + &w.bias_hh);
            for (b, _) in lengths.iter().enumerate().filter(|&(_, &length)| t < length) {
                before.slice_mut(s![b, t, ..]).assign(&state.row(b));
                all_c.slice_mut(s![b, t, ..]).assign(&c.row(b));
                for k in 0..hidden {
                    let at = [b, t, k];
                    let (a_r, a_z, a_n) = (a[[b, t, in_r + k]], a[[b, t, in_z + k]], a[[b, t, in_n + k]]);
                    let (c_r, c_z) = (c[[b, in_r + k]], c[[b, in_z + k]]);
                    let c_n = c[[b, in_n + k]];
                    r[at] = way.storage.round(way.sigmoid(a_r + c_r)); // (GRU-1)
                    z[at] = way.storage.round(way.sigmoid(a_z + c_z)); // (GRU-2)
                    n[at] = way.storage.round(way.tanh(a_n + r[at] * c_n)); // (GRU-3)
                    h[at] = way.storage.round(self.next_state(z[at], n[at], state[[b, k]])); // (GRU-4)
                }
                state.row_mut(b).assign(&h.slice(s![b, t, ..]));
            }
        }
        let mut a = a;
        for (b, &length) in lengths.iter().enumerate() {
            a.slice_mut(s![b, length.., ..]).fill(T::zero());
        }
        Layer { weights: w, x, a, c: all_c, r, z, n, h, before }
    }

    /// (GRU-4)
    fn next_state<T: Real>(&self, z: T, n: T, h: T) -> T {
        // (GRU-4)  h′ = (1 − z) ∘ n + z ∘ h, h₀ = 0
        if self.arithmetic.form == Form::Rearranged { n + z * (h - n) } else { (T::one() - z) * n + z * h }
    }

    /// All layers back, from the gradient of the last states [B, H]. Adds `grad.mid.l{k}.*` and the
    /// parameters' gradients, the top layer first.
    pub(crate) fn gru_backward<T: Real>(
        &self,
        pass: &Pass<T>,
        d_last: ArrayView2<'_, T>,
        trace: &mut Trace<T>,
    ) -> Back<T> {
        let (batch, steps, hidden) = pass.layers[0].h.dim();
        let mut d_states = Array3::zeros((batch, steps, hidden));
        for ((b, d), &length) in d_last.outer_iter().enumerate().zip(&pass.lengths) {
            d_states.slice_mut(s![b, length - 1, ..]).assign(&d);
        }
        let mut layers = Vec::new();
        let mut h0 = Array3::zeros((pass.layers.len(), batch, hidden));
        for (k, layer) in pass.layers.iter().enumerate().rev() {
            let (d_layer, d_x, d_h0) = self.layer_backward(layer, &pass.lengths, &d_states, k, trace);
            h0.index_axis_mut(Axis(0), k).assign(&d_h0);
            layers.push(d_layer);
            d_states = d_x;
        }
        layers.reverse();
        Back { layers, x: d_states, h0 }
    }

    /// (GRU-4′) to (GRU-1′): the layer's gradient, that of x [B, T, I] and that of h₀ [B, H].
    fn layer_backward<T: Real>(
        &self,
        layer: &Layer<T>,
        lengths: &[usize],
        d_states: &Array3<T>,
        k: usize,
        trace: &mut Trace<T>,
    ) -> (GruLayer<T>, Array3<T>, Array2<T>) {
        let way = self.arithmetic;
        let w = &layer.weights;
        let (batch, steps, hidden) = layer.h.dim();
        let inputs = layer.x.dim().2;
        let zeros = |width| Array3::<T>::zeros((batch, steps, width));
        let (mut d_h, mut d_n, mut d_z, mut d_r) = (zeros(hidden), zeros(hidden), zeros(hidden), zeros(hidden));
        let (mut da, mut dc) = (zeros(3 * hidden), zeros(3 * hidden));
        let [in_r, in_z, in_n] = [0, hidden, 2 * hidden];
        let mut carry = Array2::<T>::zeros((batch, hidden));
        for t in (0..steps).rev() {
            let valid: Vec<usize> = (0..batch).filter(|&b| t < lengths[b]).collect();
            let mut through_state = Array2::<T>::zeros((batch, hidden));
            let mut dc_t = Array2::<T>::zeros((batch, 3 * hidden));
            for &b in &valid {
                for k in 0..hidden {
                    let at = [b, t, k];
                    let (r, z, n, h) = (layer.r[at], layer.z[at], layer.n[at], layer.before[at]);
                    let dh = way.storage.round(d_states[at] + carry[[b, k]]);
                    let (dn, dz) = (dh * (T::one() - z), dh * (h - n));
                    through_state[[b, k]] = dh * z;
                    let da_n = dn * (T::one() - n * n);
                    let dr = da_n * layer.c[[b, t, in_n + k]];
                    let (da_z, da_r) = (dz * (z * (T::one() - z)), dr * (r * (T::one() - r)));
                    (d_h[at], d_n[at], d_z[at], d_r[at]) = (dh, dn, dz, dr);
                    for (block, d_a, d_c) in [(in_r, da_r, da_r), (in_z, da_z, da_z), (in_n, da_n, da_n * r)] {
                        da[[b, t, block + k]] = way.storage.round(d_a);
                        dc_t[[b, block + k]] = way.storage.round(d_c);
                    }
                }
            }
            let by_product = way.product(dc_t.view(), w.weight_hh.view());
            dc.slice_mut(s![.., t, ..]).assign(&dc_t);
            for &b in &valid {
                for k in 0..hidden {
                    carry[[b, k]] = way.storage.round(through_state[[b, k]] + by_product[[b, k]]);
                }
            }
        }
        for (name, values) in [("h", &d_h), ("n", &d_n), ("z", &d_z), ("r", &d_r), ("a", &da), ("c", &dc)] {
            trace.real(format!("grad.mid.l{k}.{name}"), values);
        }
        let flat = |d: &Array3<T>| d.to_shape((batch * steps, d.dim().2)).expect("the same numbers").into_owned();
        let (da, dc, x, before) = (flat(&da), flat(&dc), flat(&layer.x), flat(&layer.before));
        // dW += daᵀ x and dcᵀ h over all rows and steps, db += Σ.
        let gradient = GruLayer {
            weight_ih: way.store(way.product(da.t(), x.view())),
            weight_hh: way.store(way.product(dc.t(), before.view())),
            bias_ih: way.store(way.column_sums(da.view())),
            bias_hh: way.store(way.column_sums(dc.view())),
        };
        let d_x = way.store(way.product(da.view(), w.weight_ih.view()));
        let d_x = d_x.into_shape_with_order((batch, steps, inputs)).expect("the same numbers");
        (gradient, d_x, carry)
    }
}
