//! The GRU on padded rows, (GRU-1) to (GRU-4) and back.

use ndarray::{Array1, Array2, Array3, ArrayView2, Axis, s};

use super::{Plain, Trace};
use crate::golden::arithmetic::Form;
use crate::golden::mistakes::Mistake as M;
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
pub(super) struct Layer<T> {
    /// The weights as they were read, and as backward reads them.
    weights: GruLayer<T>,
    /// x [B, T, I]
    x: Array3<T>,
    /// `W_ih` x + `b_ih` and `W_hh` h + `b_hh`, [B, T, 3H]
    a: Array3<T>,
    c: Array3<T>,
    r: Array3<T>,
    z: Array3<T>,
    n: Array3<T>,
    pub(super) h: Array3<T>,
    /// The state before each step, [B, T, H].
    before: Array3<T>,
}

/// A forward pass through all layers, ready to go back.
#[derive(Clone, Debug)]
pub(crate) struct Pass<T> {
    pub(super) layers: Vec<Layer<T>>,
    pub(super) lengths: Vec<usize>,
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
        let (batch, steps) = (x.values.dim().0, x.values.dim().1);
        let lengths = if self.wrong(M::LastAtPaddedEnd) { vec![steps; batch] } else { x.lengths.clone() };
        let mut input = x.values.clone();
        for (b, &length) in lengths.iter().enumerate() {
            input.slice_mut(s![b, length.., ..]).fill(T::zero());
            if self.wrong(M::Reversed) {
                let turned = input.slice(s![b, ..length;-1, ..]).to_owned();
                input.slice_mut(s![b, ..length, ..]).assign(&turned);
            }
        }
        let mut layers: Vec<Layer<T>> = Vec::new();
        for (k, weights) in gru.iter().enumerate() {
            let read = self.read_weights(weights, &gru[0], k);
            let mut layer = self.layer(read, input, &lengths, h0.index_axis(Axis(0), k));
            if self.forward_only {
                layer.weights = weights.clone();
            }
            for (name, values) in
                [("a", &layer.a), ("c", &layer.c), ("r", &layer.r), ("z", &layer.z), ("n", &layer.n), ("h", &layer.h)]
            {
                trace.real(format!("mid.l{k}.{name}"), values);
            }
            let states = layer.h.clone();
            layers.push(layer);
            input = states;
        }
        let mut pass = Pass { layers, lengths, last: Array2::zeros((0, 0)) };
        pass.last = self.last(&pass, h0);
        pass
    }

    /// One layer, one time step after another.
    fn layer<T: Real>(&self, w: GruLayer<T>, x: Array3<T>, lengths: &[usize], h0: ArrayView2<'_, T>) -> Layer<T> {
        let way = self.arithmetic;
        let (batch, steps, inputs) = x.dim();
        let hidden = w.weight_hh.ncols();
        let first = usize::from(self.wrong(M::FirstTokenSkipped));
        let flat = x.to_shape((batch * steps, inputs)).expect("the same numbers").into_owned();
        let a = way.store(way.product(flat.view(), w.weight_ih.t()) + &w.bias_ih);
        let a = a.into_shape_with_order((batch, steps, 3 * hidden)).expect("the same numbers");
        let zeros = |width| Array3::zeros((batch, steps, width));
        let (mut r, mut z, mut n, mut h) = (zeros(hidden), zeros(hidden), zeros(hidden), zeros(hidden));
        let (mut before, mut all_c) = (zeros(hidden), zeros(3 * hidden));
        let mut state = h0.to_owned();
        if self.wrong(M::InitialStateIgnored) {
            state.fill(T::zero());
        }
        if self.wrong(M::InitialStateOnes) {
            state.fill(T::one());
        }
        let [in_r, in_z, in_n] = self.blocks().map(|block| block * hidden);
        for t in 0..steps {
            let c = way.store(way.product(state.view(), w.weight_hh.t()) + &w.bias_hh);
            let mut reset_c = None;
            if self.wrong(M::ResetBefore) {
                // r is needed first; then W_hn (r ∘ h) + b_hn.
                let mut reset = state.clone();
                for ((b, k), x) in reset.indexed_iter_mut() {
                    *x = *x * self.gate(a[[b, t, in_r + k]] + c[[b, in_r + k]]);
                }
                let product = way.product(reset.view(), w.weight_hh.slice(s![in_n..in_n + hidden, ..]).t());
                reset_c = Some(way.store(product + w.bias_hh.slice(s![in_n..in_n + hidden])));
            }
            for (b, _) in lengths.iter().enumerate().filter(|&(_, &length)| t < length) {
                before.slice_mut(s![b, t, ..]).assign(&state.row(b));
                all_c.slice_mut(s![b, t, ..]).assign(&c.row(b));
                for k in 0..hidden {
                    let at = [b, t, k];
                    let (a_r, a_z, a_n) = (a[[b, t, in_r + k]], a[[b, t, in_z + k]], a[[b, t, in_n + k]]);
                    let (c_r, c_z) = (c[[b, in_r + k]], c[[b, in_z + k]]);
                    let c_n = reset_c.as_ref().map_or(c[[b, in_n + k]], |reset_c| reset_c[[b, k]]);
                    r[at] = way.storage.round(self.gate(a_r + c_r)); // (GRU-1)
                    z[at] = way.storage.round(self.gate(a_z + c_z)); // (GRU-2)
                    n[at] = way.storage.round(self.new_gate(a_n, r[at], c_n, w.bias_hh[in_n + k])); // (GRU-3)
                    h[at] = way.storage.round(self.next_state(z[at], n[at], state[[b, k]])); // (GRU-4)
                }
                if t >= first {
                    state.row_mut(b).assign(&h.slice(s![b, t, ..]));
                } else {
                    h.slice_mut(s![b, t, ..]).assign(&state.row(b));
                }
            }
        }
        let mut a = a;
        for (b, &length) in lengths.iter().enumerate() {
            a.slice_mut(s![b, length.., ..]).fill(T::zero());
        }
        Layer { weights: w, x, a, c: all_c, r, z, n, h, before }
    }

    /// σ
    fn gate<T: Real>(&self, x: T) -> T {
        let clip = |y: T| {
            if y < T::zero() {
                T::zero()
            } else if y > T::one() {
                T::one()
            } else {
                y
            }
        };
        if self.wrong(M::GatesTanh) {
            self.arithmetic.tanh(x)
        } else if self.wrong(M::HardSigmoid) {
            clip(x * T::from_f64(0.2) + T::from_f64(0.5))
        } else if self.wrong(M::HardSigmoidSix) {
            clip(x / T::from_f64(6.0) + T::from_f64(0.5))
        } else {
            self.arithmetic.sigmoid(x)
        }
    }

    /// σ' from y = σ(x): y (1 − y).
    fn gate_slope<T: Real>(&self, y: T) -> T {
        let inside = |slope: f64| if y > T::zero() && y < T::one() { T::from_f64(slope) } else { T::zero() };
        if self.wrong(M::GatesTanh) {
            T::one() - y * y
        } else if self.wrong(M::HardSigmoid) {
            inside(0.2)
        } else if self.wrong(M::HardSigmoidSix) {
            inside(1.0 / 6.0)
        } else {
            y * (T::one() - y)
        }
    }

    /// (GRU-3)
    fn new_gate<T: Real>(&self, a: T, r: T, c: T, bias: T) -> T {
        // (GRU-3)  n = tanh(a_n + r ∘ c_n)
        let x = if self.wrong(M::ResetIgnored) || self.wrong(M::ResetBefore) {
            a + c
        } else if self.wrong(M::RecurrentBiasOutsideReset) {
            a + r * (c - bias) + bias
        } else {
            a + r * c
        };
        if self.wrong(M::NewGateSigmoid) {
            self.arithmetic.sigmoid(x)
        } else if self.wrong(M::NewGateRelu) {
            if x > T::zero() { x } else { T::zero() }
        } else if self.wrong(M::NewGateLinear) {
            x
        } else {
            self.arithmetic.tanh(x)
        }
    }

    /// tanh' from n = tanh(x): 1 − n².
    fn new_gate_slope<T: Real>(&self, n: T) -> T {
        if self.wrong(M::NewGateSigmoid) || self.wrong(M::NewDerivativeSigmoid) {
            n * (T::one() - n)
        } else if self.wrong(M::NewGateRelu) {
            if n > T::zero() { T::one() } else { T::zero() }
        } else if self.wrong(M::NewGateLinear) || self.wrong(M::NewDerivativeMissing) {
            T::one()
        } else {
            T::one() - n * n
        }
    }

    /// (GRU-4)
    fn next_state<T: Real>(&self, z: T, n: T, h: T) -> T {
        // (GRU-4)  h′ = (1 − z) ∘ n + z ∘ h, h₀ = 0
        let rest = T::one() - z;
        if self.wrong(M::UpdateComplement) {
            z * n + rest * h
        } else if self.wrong(M::UpdateIgnored) {
            n
        } else if self.wrong(M::UpdateWithoutComplement) {
            n + z * h
        } else if self.arithmetic.form == Form::Rearranged {
            n + z * (h - n)
        } else {
            rest * n + z * h
        }
    }

    /// The derivatives of (GRU-4) by z, n and h.
    fn next_state_slopes<T: Real>(&self, z: T, n: T, h: T) -> [T; 3] {
        let (rest, zero, one) = (T::one() - z, T::zero(), T::one());
        let [by_z, by_n, by_h] = if self.wrong(M::UpdateComplement) {
            [n - h, z, rest]
        } else if self.wrong(M::UpdateIgnored) {
            [zero, one, zero]
        } else if self.wrong(M::UpdateWithoutComplement) {
            [h, one, z]
        } else {
            [h - n, rest, z]
        };
        let by_z = if self.wrong(M::UpdateGradientDropped) {
            zero
        } else if self.wrong(M::UpdateGradientSign) {
            -by_z
        } else if self.wrong(M::UpdateGradientWithoutState) {
            -n
        } else {
            by_z
        };
        [by_z, if self.wrong(M::NewGradientComplement) { z } else { by_n }, by_h]
    }

    /// All layers back, from the gradient of the last states [B, H]. Adds `grad.mid.l{k}.*` and the
    /// parameters' gradients, the top layer first.
    pub(crate) fn gru_backward<T: Real>(
        &self,
        pass: &Pass<T>,
        d_last: ArrayView2<'_, T>,
        trace: &mut Trace<T>,
    ) -> Back<T> {
        let (batch, _, hidden) = pass.layers[0].h.dim();
        let mut d_states = self.last_backward(pass, d_last);
        let mut layers = Vec::new();
        let mut h0 = Array3::zeros((pass.layers.len(), batch, hidden));
        for (k, layer) in pass.layers.iter().enumerate().rev() {
            if k > self.top(pass) {
                // Not read: no gradient.
                layers.push(zeros_like(&layer.weights));
                continue;
            }
            let (d_layer, d_x, d_h0) = self.layer_backward(layer, &pass.lengths, &d_states, k, trace);
            h0.index_axis_mut(Axis(0), k).assign(&d_h0);
            if k == self.top(pass) {
                // Rows whose last state is h₀ itself.
                for (d, &b) in d_last.outer_iter().zip(&self.rows(pass)) {
                    if self.last_step(pass.lengths[b]).is_none() {
                        let mut d_row = h0.slice_mut(s![k, b, ..]);
                        d_row += &d;
                    }
                }
            }
            layers.push(self.return_gradient(d_layer));
            d_states = d_x;
        }
        layers.reverse();
        if self.wrong(M::LayersShareWeights) {
            for k in 1..layers.len() {
                let d = std::mem::replace(&mut layers[k].weight_hh, Array2::zeros((3 * hidden, hidden)));
                layers[0].weight_hh += &d;
            }
        }
        let mut x = d_states;
        if self.wrong(M::Reversed) {
            for (b, &length) in pass.lengths.iter().enumerate() {
                let turned = x.slice(s![b, ..length;-1, ..]).to_owned();
                x.slice_mut(s![b, ..length, ..]).assign(&turned);
            }
        }
        Back { layers, x, h0 }
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
        let [in_r, in_z, in_n] = self.blocks().map(|block| block * hidden);
        let before_product = self.wrong(M::ResetBefore);
        let mut carry = Array2::<T>::zeros((batch, hidden));
        for t in (0..steps).rev() {
            let valid: Vec<usize> = (0..batch).filter(|&b| t < lengths[b]).collect();
            let mut through_state = Array2::<T>::zeros((batch, hidden));
            let mut dc_t = Array2::<T>::zeros((batch, 3 * hidden));
            let mut d_reset = Array2::<T>::zeros((batch, hidden)); // by W_hn (r ∘ h), where the reset is before
            if t == 0 && self.wrong(M::FirstTokenSkipped) {
                carry.zip_mut_with(&d_states.slice(s![.., 0, ..]), |sum, &d| *sum += d);
                continue;
            }
            for &b in &valid {
                for k in 0..hidden {
                    let at = [b, t, k];
                    let (r, z, n, h) = (layer.r[at], layer.z[at], layer.n[at], layer.before[at]);
                    let (c_n, bias) = (layer.c[[b, t, in_n + k]], w.bias_hh[in_n + k]);
                    let dh = way.storage.round(d_states[at] + carry[[b, k]]);
                    let [by_z, by_n, by_h] = self.next_state_slopes(z, n, h);
                    let (dn, dz) = (dh * by_n, dh * by_z);
                    through_state[[b, k]] = dh * by_h;
                    let da_n = dn * self.new_gate_slope(n);
                    let through_reset = !(self.wrong(M::ResetIgnored) || before_product);
                    let inner = if self.wrong(M::RecurrentBiasOutsideReset) || self.wrong(M::ResetGradientWithoutBias) {
                        c_n - bias
                    } else {
                        c_n
                    };
                    let dr =
                        if through_reset && !self.wrong(M::ResetGradientDropped) { da_n * inner } else { T::zero() };
                    let with_reset = through_reset && !self.wrong(M::RecurrentGradientWithoutReset);
                    let dc_n = if with_reset { da_n * r } else { da_n };
                    let slope = |missing, y| if self.wrong(missing) { T::one() } else { self.gate_slope(y) };
                    let da_z = dz * slope(M::UpdateDerivativeMissing, z);
                    let da_r = dr * slope(M::ResetDerivativeMissing, r);
                    (d_h[at], d_n[at], d_z[at], d_r[at]) = (dh, dn, dz, dr);
                    for (block, d_a, d_c) in [(in_r, da_r, da_r), (in_z, da_z, da_z), (in_n, da_n, dc_n)] {
                        da[[b, t, block + k]] = way.storage.round(d_a);
                        dc_t[[b, block + k]] = way.storage.round(d_c);
                    }
                }
            }
            if before_product {
                // n = tanh(a_n + W_hn (r ∘ h) + b_hn)
                let d_n_part = dc_t.slice(s![.., in_n..in_n + hidden]).to_owned();
                d_reset = way.product(d_n_part.view(), w.weight_hh.slice(s![in_n..in_n + hidden, ..]));
                for &b in &valid {
                    for k in 0..hidden {
                        let (r, h) = (layer.r[[b, t, k]], layer.before[[b, t, k]]);
                        let dr = d_reset[[b, k]] * h;
                        d_r[[b, t, k]] = dr;
                        da[[b, t, in_r + k]] = dr * self.gate_slope(r);
                        dc_t[[b, in_r + k]] = dr * self.gate_slope(r);
                        d_reset[[b, k]] = d_reset[[b, k]] * r;
                    }
                }
            }
            let mut through_product = dc_t.clone();
            if before_product {
                through_product.slice_mut(s![.., in_n..in_n + hidden]).fill(T::zero());
            }
            let by_product = way.product(through_product.view(), w.weight_hh.view()) + &d_reset;
            dc.slice_mut(s![.., t, ..]).assign(&dc_t);
            for &b in &valid {
                for k in 0..hidden {
                    let mut dh = T::zero();
                    if !self.wrong(M::StateGradientWithoutUpdate) {
                        dh += through_state[[b, k]];
                    }
                    if !self.wrong(M::StateGradientWithoutRecurrent) {
                        dh += by_product[[b, k]];
                    }
                    carry[[b, k]] = if self.wrong(M::Truncated) { T::zero() } else { way.storage.round(dh) };
                }
            }
        }
        for (name, values) in [("h", &d_h), ("n", &d_n), ("z", &d_z), ("r", &d_r), ("a", &da), ("c", &dc)] {
            trace.real(format!("grad.mid.l{k}.{name}"), values);
        }
        let gradient = self.weight_gradient(layer, &da, &dc);
        let flat = |d: &Array3<T>| d.to_shape((batch * steps, 3 * hidden)).expect("the same numbers").into_owned();
        let by = flat(if self.wrong(M::InputGradientByRecurrent) { &dc } else { &da });
        let d_x = way.store(way.product(by.view(), w.weight_ih.view()));
        let d_x = d_x.into_shape_with_order((batch, steps, inputs)).expect("the same numbers");
        let initial_fixed = self.wrong(M::InitialStateIgnored) || self.wrong(M::InitialStateOnes);
        if initial_fixed || self.wrong(M::InitialStateGradientDropped) {
            carry.fill(T::zero());
        }
        (gradient, d_x, carry)
    }

    /// dW += daᵀ x and dcᵀ h over all rows and steps, db += Σ.
    fn weight_gradient<T: Real>(&self, layer: &Layer<T>, da: &Array3<T>, dc: &Array3<T>) -> GruLayer<T> {
        let way = self.arithmetic;
        let (batch, steps, hidden) = layer.h.dim();
        let in_n = self.blocks()[2] * hidden;
        let keep = if self.wrong(M::WeightGradientLastStep) { 1 } else { steps };
        let flat = |x: &Array3<T>| {
            let x = x.slice(s![.., ..keep, ..]);
            x.to_shape((batch * keep, x.dim().2)).expect("the same numbers").into_owned()
        };
        let (da, mut dc, x) = (flat(da), flat(dc), flat(&layer.x));
        if self.wrong(M::RecurrentWeightAsInput) {
            dc.assign(&da);
        }
        let before = flat(if self.wrong(M::RecurrentWeightByNewState) { &layer.h } else { &layer.before });
        let mut d = GruLayer {
            weight_ih: way.product(da.t(), x.view()),
            weight_hh: way.product(dc.t(), before.view()),
            bias_ih: way.column_sums(da.view()),
            bias_hh: way.column_sums(dc.view()),
        };
        if self.wrong(M::ResetBefore) {
            let (r, d_n_part) = (flat(&layer.r), dc.slice(s![.., in_n..in_n + hidden]).to_owned());
            let reset = r * &before;
            d.weight_hh.slice_mut(s![in_n..in_n + hidden, ..]).assign(&way.product(d_n_part.t(), reset.view()));
        }
        if self.wrong(M::RecurrentBiasOutsideReset) {
            let outside = way.column_sums(da.slice(s![.., in_n..in_n + hidden]));
            d.bias_hh.slice_mut(s![in_n..in_n + hidden]).assign(&outside);
        }
        if self.wrong(M::RecurrentBiasAsInput) {
            d.bias_hh.assign(&d.bias_ih);
        }
        if self.wrong(M::WeightGradientAveraged) {
            let batch = T::from_f64(batch as f64);
            d = GruLayer {
                weight_ih: d.weight_ih / batch,
                weight_hh: d.weight_hh / batch,
                bias_ih: d.bias_ih / batch,
                bias_hh: d.bias_hh / batch,
            };
        }
        GruLayer {
            weight_ih: way.store(d.weight_ih),
            weight_hh: way.store(d.weight_hh),
            bias_ih: way.store(d.bias_ih),
            bias_hh: way.store(d.bias_hh),
        }
    }
}

fn zeros_like<T: Real>(w: &GruLayer<T>) -> GruLayer<T> {
    GruLayer {
        weight_ih: Array2::zeros(w.weight_ih.raw_dim()),
        weight_hh: Array2::zeros(w.weight_hh.raw_dim()),
        bias_ih: Array1::zeros(w.bias_ih.raw_dim()),
        bias_hh: Array1::zeros(w.bias_hh.raw_dim()),
    }
}
