//! Word vectors, linear map, L2 normalisation, absolute value.
use super::*;

/// A table W [V, E] and word ids [B, T] give x [B, T, E].
pub fn words<T: Scalar>(table: &Array2<T>, ids: &Array2<usize>) -> Array3<T> {
    let shape = (ids.nrows(), ids.ncols(), table.ncols());
    Array3::from_shape_fn(shape, |(b, t, e)| table[[ids[[b, t]], e]]) // (EMB-1)  x = W[w]
}

/// dx [B, T, E] gives dW [V, E]: a word that occurs several times gets the sum of its gradients.
pub fn words_backward<T: Real>(v: usize, ids: &Array2<usize>, lengths: &[usize], dx: &Array3<T>) -> Array2<T> {
    let mut dw = Array2::zeros((v, dx.dim().2));
    for ((b, t), &w) in ids.indexed_iter().filter(|&((b, t), _)| t < lengths[b]) {
        dw.row_mut(w).scaled_add(T::one(), &dx.slice(s![b, t, ..])); // (EMB-1′)  dW[w] += dx
    }
    dw
}

/// W [O, I] and b `[O]`.
#[derive(Clone, Debug)]
pub struct Linear<T> {
    pub weight: Array2<T>,
    pub bias: Array1<T>,
}

/// x [N, I] gives y [N, O].
pub fn linear<T: Scalar>(w: &Linear<T>, x: &Array2<T>) -> Array2<T> {
    // (LIN-1)  y = x Wᵀ + b
    Array2::from_shape_fn((x.nrows(), w.bias.len()), |(n, o)| dot(x.row(n), w.weight.row(o)) + w.bias[o])
}

/// dy [N, O] gives dW, db and dx [N, I].
pub fn linear_backward<T: Real>(w: &Linear<T>, x: &Array2<T>, dy: &Array2<T>) -> (Linear<T>, Array2<T>) {
    let mut d = Linear { weight: Array2::zeros(w.weight.dim()), bias: Array1::zeros(w.bias.len()) };
    let mut dx = Array2::zeros(x.dim());
    for (n, dy) in dy.outer_iter().enumerate() {
        // (LIN-1′)  dW += dyᵀ x, db += Σ dy, dx = dy W
        add_weight_gradient(&mut d.weight, dy, x.row(n));
        d.bias += &dy;
        dx.row_mut(n).assign(&product_backward(dy, &w.weight));
    }
    (d, dx)
}

/// x [N, D] gives y [N, D], rows of norm 1, and the norms `[N]` that they had. There is no epsilon: a
/// row of zeros has no direction, and its index is the error.
pub fn l2norm<T: Scalar>(x: &Array2<T>) -> Result<(Array2<T>, Array1<T>), usize> {
    let (mut y, mut norms) = (x.clone(), Array1::zeros(x.nrows()));
    for (row, mut y) in y.outer_iter_mut().enumerate() {
        let largest = y.iter().fold(0.0, |largest: f64, y| largest.max(y.re().abs()));
        if largest == 0.0 {
            return Err(row);
        }
        // A power of two, the exponent bits of the largest |x|: dividing by it is exact and keeps squares in range.
        let unit = T::from_f64(f64::from_bits(largest.to_bits() & f64::INFINITY.to_bits()));
        let scaled = y.mapv(|x| x / unit);
        norms[row] = dot(scaled.view(), scaled.view()).sqrt() * unit;
        y.mapv_inplace(|x| x / norms[row]); // (NORM-1)  y = x / ‖x‖₂
    }
    Ok((y, norms))
}

/// dy [N, D] gives dx [N, D]. The part of dy along y drops out, since y keeps its length.
pub fn l2norm_backward<T: Real>(y: &Array2<T>, norms: &Array1<T>, dy: &Array2<T>) -> Array2<T> {
    let mut dx = dy.clone();
    for (row, mut dx) in dx.outer_iter_mut().enumerate() {
        let (y, norm, along) = (y.row(row), norms[row], dot(y.row(row), dx.view()));
        dx.zip_mut_with(&y, |d, &y| *d = (*d - y * along) / norm); // (NORM-2)  dx = (dy − y (y · dy)) / ‖x‖₂
    }
    dx
}

pub fn abs<T: Scalar>(x: &Array2<T>) -> Array2<T> {
    x.mapv(|x| if x.re() < 0.0 { -x } else { x }) // (ABS-1)  y = |x|
}

pub fn abs_backward<T: Real>(x: &Array2<T>, dy: &Array2<T>) -> Array2<T> {
    let sign = |x: T| T::from_f64(f64::from(i8::from(x > T::zero()) - i8::from(x < T::zero())));
    x.mapv(sign) * dy // (ABS-1′)  dx = sign(x) dy, sign(0) = 0
}
