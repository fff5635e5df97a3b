//! The gated recurrent unit. The reset gate acts after the product, as in `PyTorch` and cuDNN.
use super::*;

/// One layer's `W_ih` [3H, E], `W_hh` [3H, H], `b_ih` `[3H]`, `b_hh` `[3H]`: H rows for r, then for z, for n.
#[derive(Clone, Debug)]
pub struct GruLayer<T> {
    pub weight_ih: Array2<T>,
    pub weight_hh: Array2<T>,
    pub bias_ih: Array1<T>,
    pub bias_hh: Array1<T>,
}

/// One layer's values for every token, or their gradients: x [B, T, E]; a, c [B, T, 3H]; r, z, n and the
/// new states h [B, T, H]; the state before the first token h₀ [B, H]. 0 after the end of a caption.
pub struct Gru<T> {
    pub x: Array3<T>,
    pub h0: Array2<T>,
    pub a: Array3<T>,
    pub c: Array3<T>,
    pub r: Array3<T>,
    pub z: Array3<T>,
    pub n: Array3<T>,
    pub h: Array3<T>,
}

impl<T: Scalar> Gru<T> {
    fn new(x: Array3<T>, h0: Array2<T>) -> Self {
        let zeros = |width| Array3::zeros((x.dim().0, x.dim().1, width));
        let ([a, c], [r, z, n, h]) = ([3; 2].map(|gates| zeros(gates * h0.ncols())), [h0.ncols(); 4].map(zeros));
        Self { x, h0, a, c, r, z, n, h }
    }

    fn state_before(&self, b: usize, t: usize) -> ArrayView1<'_, T> {
        if t == 0 { self.h0.row(b) } else { self.h.slice(s![b, t - 1, ..]) }
    }
}

/// One layer over all captions. The layer above it reads the states h as its x.
pub fn gru<T: Scalar>(w: &GruLayer<T>, x: Array3<T>, h0: Array2<T>, lengths: &[usize]) -> Gru<T> {
    let (hidden, mut y) = (h0.ncols(), Gru::new(x, h0));
    for (b, &length) in lengths.iter().enumerate() {
        for t in 0..length {
            let (x, h) = (y.x.slice(s![b, t, ..]), y.state_before(b, t).to_owned());
            let a = product(&w.weight_ih, x) + &w.bias_ih; // (GRU-0)  a = W_ih x + b_ih
            let c = product(&w.weight_hh, h.view()) + &w.bias_hh; // (GRU-0)  c = W_hh h + b_hh
            for k in 0..hidden {
                let (at, in_r, in_z, in_n) = ([b, t, k], k, hidden + k, 2 * hidden + k);
                y.r[at] = (a[in_r] + c[in_r]).sigmoid(); // (GRU-1)  r = σ(a_r + c_r)
                y.z[at] = (a[in_z] + c[in_z]).sigmoid(); // (GRU-2)  z = σ(a_z + c_z)
                y.n[at] = (a[in_n] + y.r[at] * c[in_n]).tanh(); // (GRU-3)  n = tanh(a_n + r ∘ c_n)
                y.h[at] = (T::one() - y.z[at]) * y.n[at] + y.z[at] * h[k]; // (GRU-4)  h′ = (1 − z) ∘ n + z ∘ h, h₀ = 0
            }
            y.a.slice_mut(s![b, t, ..]).assign(&a);
            y.c.slice_mut(s![b, t, ..]).assign(&c);
        }
    }
    y
}

/// `up` [B, T, H], the part of each state's gradient that comes from above this layer, gives all gradients.
/// The children of a state in the equations are the states one token later: here there is at most one.
pub fn gru_backward<T: Real>(w: &GruLayer<T>, y: &Gru<T>, up: &Array3<T>, lengths: &[usize]) -> (Gru<T>, GruLayer<T>) {
    let (hidden, gates, one) = (y.h0.ncols(), w.bias_hh.len(), T::one());
    let mut d = Gru { h: up.clone(), ..Gru::new(Array3::zeros(y.x.dim()), Array2::zeros(y.h0.dim())) };
    let [weight_ih, weight_hh] = [w.weight_ih.dim(), w.weight_hh.dim()].map(Array2::zeros);
    let mut dw = GruLayer { weight_ih, weight_hh, bias_ih: Array1::zeros(gates), bias_hh: Array1::zeros(gates) };
    for (b, &length) in lengths.iter().enumerate() {
        for t in (0..length).rev() {
            let h = y.state_before(b, t);
            let mut dh = Array1::zeros(hidden);
            for k in 0..hidden {
                let (at, in_r, in_z, in_n) = ([b, t, k], [b, t, k], [b, t, hidden + k], [b, t, 2 * hidden + k]);
                let (r, z, n, dh_next) = (y.r[at], y.z[at], y.n[at], d.h[at]);
                // (GRU-4′)  dn = dh′ ∘ (1 − z), dz = dh′ ∘ (h − n), dh += Σ_children dh′ ∘ z
                (d.n[at], d.z[at], dh[k]) = (dh_next * (one - z), dh_next * (h[k] - n), dh_next * z);
                // (GRU-3′)  da_n = dn ∘ (1 − n²), dr = da_n ∘ c_n, dc_n = da_n ∘ r
                d.a[in_n] = d.n[at] * (one - n * n);
                (d.r[at], d.c[in_n]) = (d.a[in_n] * y.c[in_n], d.a[in_n] * r);
                d.a[in_z] = d.z[at] * (z * (one - z)); // (GRU-2′)  da_z = dz ∘ z ∘ (1 − z) = dc_z
                d.a[in_r] = d.r[at] * (r * (one - r)); // (GRU-1′)  da_r = dr ∘ r ∘ (1 − r) = dc_r
                (d.c[in_z], d.c[in_r]) = (d.a[in_z], d.a[in_r]);
            }
            // (GRU-0′)  dc = Σ_children (dc_r, dc_z, dc_n), dh += dc W_hh
            dh += &product_backward(d.c.slice(s![b, t, ..]), &w.weight_hh);
            let mut before = if t == 0 { d.h0.row_mut(b) } else { d.h.slice_mut(s![b, t - 1, ..]) };
            before += &dh;
        }
        for t in 0..length {
            let (da, dc) = (d.a.slice(s![b, t, ..]), d.c.slice(s![b, t, ..]));
            add_weight_gradient(&mut dw.weight_hh, dc, y.state_before(b, t)); // (GRU-0′)  dW_hh += dcᵀ h, db_hh += Σ dc
            dw.bias_hh += &dc;
            // (GRU-0′)  dW_ih += daᵀ x, db_ih += Σ da, dx = da W_ih
            add_weight_gradient(&mut dw.weight_ih, da, y.x.slice(s![b, t, ..]));
            dw.bias_ih += &da;
            d.x.slice_mut(s![b, t, ..]).assign(&product_backward(da, &w.weight_ih));
        }
    }
    (d, dw)
}
