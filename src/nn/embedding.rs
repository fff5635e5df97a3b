//! Word embedding.
//!
//! ```text
//! (EMB-1)   x = W[w]              W [V, E], w a word id; x [E]
//! (EMB-1′)  dW[w] += dx           for every occurrence of w
//! (INIT-2)  W ~ U(±0.1)           all rows
//! ```
//!
//! The layer's output, its y, is the x of the GRU.

use ndarray::parallel::prelude::*;
use ndarray::{Array2, Axis};

use super::{Layer, Mode, Tensor};
use crate::error::{ErrorKind, Result};
use crate::linalg::{self, Write};
use crate::real::{Real, Scalar};

/// A table with a row for every id.
///
/// ```
/// use ndarray::array;
/// use vsepp::nn::{Embedding, EmbeddingCache, Layer, Mode};
///
/// # fn main() -> vsepp::Result<()> {
/// let layer = Embedding { weight: array![[0.0, 0.1], [1.0, 1.1], [2.0, 2.1]] };
/// let mut cache = EmbeddingCache::default();
/// layer.forward(&[2, 0], Mode::Eval, &mut cache)?;
/// assert_eq!(cache.y, array![[2.0, 2.1], [0.0, 0.1]]);
///
/// let error = layer.forward(&[1, 3], Mode::Eval, &mut cache).unwrap_err();
/// assert_eq!(error.to_string(), "word: id 3 at position 1 is out of range; expected an id below 3");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding<T> {
    /// W [V, E]
    pub weight: Array2<T>,
}

crate::module!(
    Embedding<T>,
    layer {
        // (INIT-2)  W ~ U(±0.1)
        weight: Tensor::uniform(0.1),
    }
);

impl<T: Clone + Default> Embedding<T> {
    /// V rows of E numbers, all zeros.
    #[must_use]
    pub fn zeros(rows: usize, columns: usize) -> Self {
        Self { weight: Array2::default((rows, columns)) }
    }
}

/// What [`Embedding`] keeps of a forward pass.
#[derive(Clone, Debug, Default)]
pub struct EmbeddingCache<T> {
    /// The vector of every id, [U, E].
    pub y: Array2<T>,
}

impl<T: Scalar> Layer<T> for Embedding<T> {
    /// The ids, `[U]`.
    type X<'a>
        = &'a [u32]
    where
        T: 'a;
    type Y = Array2<T>;
    type Dx = ();
    type Cache = EmbeddingCache<T>;

    /// # Errors
    ///
    /// If an id is not below V.
    fn forward(&self, x: &[u32], _: Mode, cache: &mut EmbeddingCache<T>) -> Result<()> {
        let limit = self.weight.nrows();
        if let Some((position, &word)) = x.iter().enumerate().find(|&(_, &w)| w as usize >= limit) {
            return Err(ErrorKind::IdRange { what: "word".into(), position, found: word as usize, limit }.into());
        }
        linalg::reshape(&mut cache.y, (x.len(), self.weight.ncols()));
        for (mut y, &word) in cache.y.outer_iter_mut().zip(x) {
            // (EMB-1)  x = W[w]
            y.assign(&self.weight.row(word as usize));
        }
        Ok(())
    }

    /// Adds row by row, in the order of the ids: a repeated word gets the sum of its gradients.
    fn backward(
        &self,
        x: &[u32],
        _: &mut EmbeddingCache<T>,
        dy: &Array2<T>,
        write: Write,
        grad: &mut Self,
        _: Option<&mut ()>,
    ) where
        T: Real,
    {
        if grad.weight.is_empty() {
            return;
        }
        if write == Write::Replace {
            let rows = grad.weight.axis_iter_mut(Axis(0)).into_par_iter();
            rows.with_min_len(1024).for_each(|mut row| row.fill(T::zero()));
        }
        for (&word, dx) in x.iter().zip(dy.outer_iter()) {
            let mut row = grad.weight.row_mut(word as usize);
            // (EMB-1′)  dW[w] += dx
            row += &dx;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn emb_1_looks_rows_up_and_adds_repeated_words() {
        let layer = Embedding { weight: array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]] };
        let (words, mut cache) = ([2, 0, 2], EmbeddingCache::default());
        layer.forward(&words, Mode::Train, &mut cache).unwrap();
        assert_eq!(cache.y, array![[5.0, 6.0], [1.0, 2.0], [5.0, 6.0]]);
        let mut grad = Embedding::zeros(3, 2);
        let dy = array![[1.0, 1.0], [10.0, 10.0], [100.0, 100.0]];
        layer.backward(&words, &mut cache, &dy, Write::Add, &mut grad, None);
        assert_eq!(grad.weight, array![[10.0, 10.0], [0.0, 0.0], [101.0, 101.0]]);
        grad.weight.fill(7.0);
        layer.backward(&words, &mut cache, &dy, Write::Replace, &mut grad, None);
        assert_eq!(grad.weight, array![[10.0, 10.0], [0.0, 0.0], [101.0, 101.0]]);
    }

    #[test]
    fn a_word_out_of_range_is_named() {
        let layer = Embedding::<f32>::zeros(3, 2);
        let message = layer.forward(&[0, 7], Mode::Eval, &mut EmbeddingCache::default()).unwrap_err().to_string();
        assert!(message.contains("id 7 at position 1") && message.contains("below 3"), "{message}");
    }
}
