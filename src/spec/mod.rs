//! The specification: every equation of the model once, in its plainest form. Read this first.
//!
//! In order: [`layers`], [`gru`], [`scores`], [`loss`], [`optim`], and [`model`], which puts them together; apart,
//! the image encoders' [`pictures`]. A backward step is below its forward step, and every line that computes an
//! equation carries its label. `tests/spec.rs` compares the fast code, and the golden suite's values come from here.
//!
//! - The letters are those of `docs/01-notation.md`. Captions are padded: ids [B, T] and lengths `[B]`.
//! - A backward function takes dy, the gradient of the loss with respect to the output y, and returns the
//!   gradients with respect to the inputs. A gradient has the type and the shape of its value.
//! - Sums run upwards from 0, and a product is rounded before it is added: `f64` has the same bits everywhere.
//! - Forward runs on any [`Scalar`], for complex steps too: a branch looks at the real part.

#![allow(missing_docs, clippy::missing_errors_doc, clippy::must_use_candidate, clippy::wildcard_imports)]

pub mod gru;
pub mod layers;
pub mod loss;
pub mod model;
pub mod optim;
pub mod pictures;
pub mod scores;

use crate::real::{Real, Scalar, power};
use ndarray::{Array1, Array2, Array3, Array4, ArrayView1, ArrayViewMutD, Axis, s};

/// `Σ_k x_k y_k`
fn dot<T: Scalar>(x: ArrayView1<'_, T>, y: ArrayView1<'_, T>) -> T {
    assert_eq!(x.len(), y.len(), "x · y");
    x.iter().zip(y).fold(T::zero(), |sum, (&x, &y)| sum + x * y)
}

/// y = W x: [M, N] and `[N]` give `[M]`.
fn product<T: Scalar>(w: &Array2<T>, x: ArrayView1<'_, T>) -> Array1<T> {
    w.outer_iter().map(|row| dot(row, x)).collect()
}

/// dx = dy W
fn product_backward<T: Scalar>(dy: ArrayView1<'_, T>, w: &Array2<T>) -> Array1<T> {
    let mut dx = Array1::zeros(w.ncols());
    w.outer_iter().zip(dy).for_each(|(w, &dy)| dx.scaled_add(dy, &w));
    dx
}

/// dW += dyᵀ x
fn add_weight_gradient<T: Scalar>(dw: &mut Array2<T>, dy: ArrayView1<'_, T>, x: ArrayView1<'_, T>) {
    dw.outer_iter_mut().zip(dy).for_each(|(mut dw, &dy)| dw.scaled_add(dy, &x));
}
