//! Convolution: the kernel slides over a picture with a border of zeros.
use super::*;

/// W [O, C, kh, kw] and b `[O]`; s and p.
#[derive(Clone, Debug)]
pub struct Conv2d<T> {
    pub weight: Array4<T>,
    pub bias: Option<Array1<T>>,
    pub stride: usize,
    pub padding: usize,
}

fn padded<T: Scalar>(x: &Array4<T>, p: usize) -> Array4<T> {
    let (n, c, h, w) = x.dim();
    let mut padded = Array4::zeros((n, c, h + 2 * p, w + 2 * p));
    padded.slice_mut(s![.., .., p..p + h, p..p + w]).assign(x);
    padded
}

/// x [N, C, H, W] gives y [N, O, Ho, Wo].
pub fn conv<T: Scalar>(w: &Conv2d<T>, x: &Array4<T>) -> Array4<T> {
    let (x, s, (o, _, kh, kw)) = (padded(x, w.padding), w.stride, w.weight.dim());
    let (n, _, height, width) = x.dim();
    Array4::from_shape_fn((n, o, (height - kh) / s + 1, (width - kw) / s + 1), |(n, o, i, j)| {
        let b_o = w.bias.as_ref().map_or(T::zero(), |bias| bias[o]);
        let x = x.slice(s![n, .., s * i..s * i + kh, s * j..s * j + kw]);
        // (CONV-1)  y[n, o, i, j] = b_o + Σ_{c, u, v} W[o, c, u, v] x[n, c, s i + u − p, s j + v − p]
        w.weight.slice(s![o, .., .., ..]).iter().zip(x).fold(T::zero(), |sum, (&w, &x)| sum + w * x) + b_o
    })
}

/// dy [N, O, Ho, Wo] gives dW, db and dx [N, C, H, W].
pub fn conv_backward<T: Real>(w: &Conv2d<T>, x: &Array4<T>, dy: &Array4<T>) -> (Conv2d<T>, Array4<T>) {
    let (mut d, p, s, (_, _, kh, kw)) = (w.clone(), w.padding, w.stride, w.weight.dim());
    d.weight.fill(T::zero());
    d.bias.iter_mut().for_each(|bias| bias.fill(T::zero()));
    let (_, _, height, width) = x.dim();
    let x = padded(x, p);
    let mut dx = Array4::zeros(x.dim());
    for ((n, o, i, j), &dy) in dy.indexed_iter() {
        let window = s![n, .., s * i..s * i + kh, s * j..s * j + kw];
        // (CONV-1′)  dW[o, c, u, v] += Σ_{n, i, j} dy[n, o, i, j] x[n, c, s i + u − p, s j + v − p]
        d.weight.slice_mut(s![o, .., .., ..]).scaled_add(dy, &x.slice(window));
        // (CONV-1′)  db_o += Σ_{n, i, j} dy[n, o, i, j]
        d.bias.iter_mut().for_each(|bias| bias[o] += dy);
        // (CONV-1′)  dx[n, c, s i + u − p, s j + v − p] += Σ_o W[o, c, u, v] dy[n, o, i, j]
        dx.slice_mut(window).scaled_add(dy, &w.weight.slice(s![o, .., .., ..]));
    }
    (d, dx.slice(s![.., .., p..p + height, p..p + width]).to_owned())
}
