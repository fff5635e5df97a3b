//! How well every image fits every caption.
use super::*;

/// How an image and a caption are compared: (SIM-1), (SIM-2) or (SIM-3).
#[derive(Clone, Copy)]
pub enum Measure {
    Cosine,
    Order,
    OrderSquared,
}

/// v = max(0, g − f), and its squared norm.
fn violation<T: Scalar>(f: ArrayView1<'_, T>, g: ArrayView1<'_, T>) -> (Array1<T>, T) {
    let v = (&g - &f).mapv(|v| if v.re() > 0.0 { v } else { T::zero() });
    let squared = dot(v.view(), v.view());
    (v, squared)
}

/// Images F [N, D] and captions G [M, D] give S [N, M].
pub fn scores<T: Scalar>(measure: Measure, f: &Array2<T>, g: &Array2<T>) -> Array2<T> {
    Array2::from_shape_fn((f.nrows(), g.nrows()), |(i, j)| match measure {
        Measure::Cosine => dot(f.row(i), g.row(j)), // (SIM-1)  s_ij = f_i · g_j
        Measure::Order => -violation(f.row(i), g.row(j)).1.sqrt(), // (SIM-2)  s_ij = −‖v‖₂, v = max(0, g_j − f_i)
        Measure::OrderSquared => -violation(f.row(i), g.row(j)).1, // (SIM-3)  s_ij = −‖v‖₂², v = max(0, g_j − f_i)
    })
}

/// dS [N, M] gives dF [N, D] and dG [M, D]. The pair (i, j) adds `by_f` x to `df_i`, and `by_g` y to `dg_j`.
pub fn scores_backward<T: Real>(by: Measure, f: &Array2<T>, g: &Array2<T>, ds: &Array2<T>) -> [Array2<T>; 2] {
    let (mut df, mut dg) = (Array2::zeros(f.dim()), Array2::zeros(g.dim()));
    for ((i, j), &ds) in ds.indexed_iter() {
        let (v, squared) = violation(f.row(i), g.row(j));
        let ((by_f, by_g), (x, y)) = match by {
            Measure::Cosine => ((ds, ds), (g.row(j), f.row(i))), // (SIM-1′)  dF = dS G, dG = dSᵀ F
            Measure::Order if squared == T::zero() => continue,
            // (SIM-2′)  dg_j += dS_ij v / s_ij, df_i −= dS_ij v / s_ij, 0 where v = 0
            Measure::Order => ((ds / squared.sqrt(), -ds / squared.sqrt()), (v.view(), v.view())),
            // (SIM-3′)  dg_j −= 2 dS_ij v, df_i += 2 dS_ij v
            Measure::OrderSquared => ((ds + ds, -(ds + ds)), (v.view(), v.view())),
        };
        df.row_mut(i).scaled_add(by_f, &x);
        dg.row_mut(j).scaled_add(by_g, &y);
    }
    [df, dg]
}
