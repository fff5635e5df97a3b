//! Matrix products and reductions.
//!
//! The model uses no others, except the sum of an order violation: [`crate::similarity`] computes it in
//! the same fixed order. [`crate::golden`] has its own sums, for comparison.
//!
//! Everything here makes two guarantees:
//!
//! - **The same bits for any number of threads.** Rows and columns are split into blocks. Their borders
//!   depend on the shapes and the processor, never on the threads. A sum is never split unless its order
//!   is fixed.
//! - **An element of a product depends only on its row of *a* and its column of *b***, not on their
//!   indices or on how many others are multiplied with them. Retrieval relies on this: equal vectors have
//!   equal scores, so ties are exact.
//!
//! In `f32`, used for training, each step fuses the multiplication and the addition. It rounds once, and
//! the bits are the same on every processor that has this instruction ([`crate::simd`]). In `f64`, used
//! for the specification, each step rounds twice, so the bits are the same on every machine. Both sum
//! from k = 0 upwards.

mod panels;
mod planes;
mod product;
mod reduce;
mod written;

pub(crate) use panels::{Panels, transpose};
pub(crate) use planes::{Planes, channel_sum, each_channel, each_plane};
#[cfg(test)]
pub(crate) use product::matmul;
pub(crate) use product::{matmul_into, matmul_left, matmul_packed, matmul_panels, matmul_write};
pub(crate) use reduce::{add, add_to_rows, column_sums, dot, reshape, rows_at_once, squared_norm};
pub(crate) use written::{Tiles, matmul_written};

/// Whether a result overwrites or accumulates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// The result replaces the old values.
    Replace,
    /// The result is added to the old values.
    Add,
}

/// Below this many elementary operations, a second thread does not pay.
pub(crate) const PARALLEL_WORK: usize = 1 << 15;
