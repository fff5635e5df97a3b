//! The only matrix products and reductions of the crate.
//!
//! Two promises hold for everything here:
//!
//! - **The same bits for any number of threads.** Rows and columns are split into blocks whose
//!   borders depend on the shapes alone; a sum is never split, unless its order is fixed.
//! - **An element of a product depends on its row of *a* and its column of *b* alone**, not on
//!   where they stand nor on how many others are multiplied with them. Retrieval relies on it:
//!   equal vectors have equal scores, so ties are ties.
//!
//! Behind one name stand two routines. `f32`, for training, takes the fast one: rayon over
//! `matrixmultiply`. `f64`, the specification, takes the portable one: every element is summed from
//! k = 0 upwards, without fused multiply-add, so that it has the same bits on every machine.

mod product;
mod reduce;

pub use product::{matmul, matmul_add, matmul_into};
pub use reduce::{add_column_sums, dot, squared_norm};

/// Work smaller than this many elementary operations is not worth a second thread.
pub(crate) const PARALLEL_WORK: usize = 1 << 15;
