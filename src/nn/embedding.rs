//! Word embedding.
//!
//! ```text
//! (EMB-1)   x = W[w]              W [V, E], w a word id; x [E]
//! (EMB-1′)  dW[w] += dx           for every occurrence of w
//! ```

use ndarray::parallel::prelude::*;
use ndarray::{Array2, ArrayView2, Axis};

use crate::error::{ErrorKind, Result};
use crate::linalg::{self, Write};
use crate::real::Scalar;

/// The table of word vectors, `txt_enc.embed.weight` [V, E].
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding<T> {
    /// [V, E]
    pub weight: Array2<T>,
}

impl<T: Scalar> Embedding<T> {
    /// (EMB-1) for a list of words: `[U]` ids → x [U, E].
    ///
    /// **Errors** if an id is not below V.
    pub fn forward(&self, words: &[u32], x: &mut Array2<T>) -> Result<()> {
        let vocabulary = self.weight.nrows();
        if let Some((position, &word)) = words.iter().enumerate().find(|&(_, &w)| w as usize >= vocabulary) {
            let what = "word (txt_enc.embed.weight)".into();
            return Err(ErrorKind::IdRange { what, position, found: word as usize, limit: vocabulary }.into());
        }
        linalg::reshape(x, (words.len(), self.weight.ncols()));
        for (mut x, &word) in x.outer_iter_mut().zip(words) {
            // (EMB-1)  x = W[w]
            x.assign(&self.weight.row(word as usize));
        }
        Ok(())
    }

    /// (EMB-1′), in the order of the list, so that a repeated word gets the sum of its gradients.
    pub fn backward(&self, words: &[u32], d_out: ArrayView2<'_, T>, write: Write, gradient: &mut Self) {
        if write == Write::Replace {
            let rows = gradient.weight.axis_iter_mut(Axis(0)).into_par_iter();
            rows.with_min_len(1024).for_each(|mut row| row.fill(T::zero()));
        }
        for (&word, dx) in words.iter().zip(d_out.outer_iter()) {
            let mut row = gradient.weight.row_mut(word as usize);
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
        let words = [2, 0, 2];
        let mut x = Array2::default((0, 0));
        layer.forward(&words, &mut x).unwrap();
        assert_eq!(x, array![[5.0, 6.0], [1.0, 2.0], [5.0, 6.0]]);
        let mut gradient = Embedding { weight: Array2::zeros((3, 2)) };
        let dx = array![[1.0, 1.0], [10.0, 10.0], [100.0, 100.0]];
        layer.backward(&words, dx.view(), Write::Add, &mut gradient);
        assert_eq!(gradient.weight, array![[10.0, 10.0], [0.0, 0.0], [101.0, 101.0]]);
        gradient.weight.fill(7.0);
        layer.backward(&words, dx.view(), Write::Replace, &mut gradient);
        assert_eq!(gradient.weight, array![[10.0, 10.0], [0.0, 0.0], [101.0, 101.0]]);
    }

    #[test]
    fn a_word_out_of_range_is_named() {
        let layer = Embedding::<f32> { weight: Array2::zeros((3, 2)) };
        let message = layer.forward(&[0, 7], &mut Array2::default((0, 0))).unwrap_err().to_string();
        assert!(message.contains("id 7 at position 1") && message.contains("below 3"), "{message}");
    }
}
