//! The layers of an image encoder φ: pictures [N, C, H, W] in, a feature vector for each out.
//!
//! The model of [`super::model`] begins with φ(i), so this folder is read after it. N pictures, C channels, H rows,
//! W columns; M = N H W numbers per channel.
use super::*;

pub mod block;
pub mod conv;
pub mod encoder;
pub mod norm;
pub mod pools;

/// Σ over the numbers of one channel.
fn channel_sum<T: Scalar>(x: &Array4<T>, c: usize) -> T {
    x.index_axis(Axis(1), c).iter().fold(T::zero(), |sum, &x| sum + x)
}
