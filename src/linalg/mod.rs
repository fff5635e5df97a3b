//! Matrix products and reductions.
//!
//! The model's are all here, but for the sum of an order violation, which [`crate::similarity`] takes in
//! the same fixed order. [`crate::golden`] has sums of its own, to compare with.
//!
//! Two promises hold for everything here:
//!
//! - **The same bits for any number of threads.** Rows and columns are split into blocks whose
//!   borders depend on the shapes and the processor, never on the threads; a sum is never split,
//!   unless its order is fixed.
//! - **An element of a product depends on its row of *a* and its column of *b* alone**, not on
//!   their places nor on how many others are multiplied with them. Retrieval relies on it:
//!   equal vectors have equal scores, so ties are ties.
//!
//! `f32`, for training, fuses the multiplication and the addition of a step: one rounding, and the same
//! bits on every processor that can ([`crate::simd`]). `f64`, the specification, rounds both, which
//! gives the same bits on every machine. Both sum from k = 0 upwards.

mod panels;
mod product;
mod reduce;

pub use panels::Panels;
pub use product::{matmul, matmul_into, matmul_packed, matmul_panels, matmul_write};
pub(crate) use reduce::{add, rows_at_once};
pub use reduce::{add_to_rows, column_sums, dot, reshape, squared_norm};

/// Whether a result overwrites or accumulates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// They are replaced, whatever they were.
    Replace,
    /// The result is added to them.
    Add,
}

/// Work smaller than this many elementary operations is not worth a second thread.
pub(crate) const PARALLEL_WORK: usize = 1 << 15;
