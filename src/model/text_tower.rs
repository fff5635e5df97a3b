//! The caption side.
//!
//! ```text
//! (TXT-1)   ψ(c) = h_last of a GRU over the word vectors of c
//! (TXT-2)   g(c) = ψ(c), or W_gᵀ ψ(c) + b_g with a caption projection; L2-normalised   (section 2.1)
//! ```
//!
//! `h_last` is the top layer's state at the caption's own last token (`<end>`), never at a padded end.
//! The paper writes `W_g`; the original has no such matrix, its GRU being as wide as the joint space.
//! Both are here: no projection by default, and a learned one, with which H may differ from D.

use ndarray::{Array2, Axis};

use super::head::{Head, HeadCache};
use crate::error::Result;
use crate::nn::{Embedding, Gru, GruCache, Linear, PrefixTree};
use crate::real::{Real, Scalar};

/// `txt_enc`: word vectors, GRU, and the projection where there is one.
#[derive(Clone, Debug, PartialEq)]
pub struct TextTower<T> {
    /// `txt_enc.embed` [V, E]
    pub embed: Embedding<T>,
    /// `txt_enc.rnn`
    pub rnn: Gru<T>,
    /// `txt_enc.proj` [D, H]
    pub proj: Option<Linear<T>>,
}

/// What the caption side's forward pass leaves for its backward pass.
#[derive(Clone, Debug)]
pub struct TextCache<T> {
    /// The batch's captions.
    pub tree: PrefixTree,
    /// The GRU's caches.
    pub rnn: GruCache<T>,
    /// ψ [B, H], where a projection reads it.
    pub last: Option<Array2<T>>,
    /// Normalisation and absolute value.
    pub head: HeadCache<T>,
}

impl<T: Scalar> TextTower<T> {
    /// (TXT-1) and (TXT-2): B captions → embeddings [B, D].
    ///
    /// **Errors** if a token id is not below V, or if a row to be normalised is zero or not finite.
    pub fn forward<C: AsRef<[u32]>>(&self, captions: &[C], head: Head) -> Result<TextCache<T>> {
        let tree = PrefixTree::new(captions);
        let words = self.embed.forward(tree.words())?;
        let rnn = self.rnn.forward(&tree, words);
        let last = rnn.top().select(Axis(0), tree.last());
        let (vectors, last) = match &self.proj {
            Some(proj) => (proj.forward(last.view()), Some(last)),
            None => (last, None),
        };
        Ok(TextCache { tree, rnn, last, head: head.forward(vectors)? })
    }
}

impl<T: Real> TextTower<T> {
    /// From dg [B, D] to the parameters' gradients.
    pub fn backward(&self, cache: &TextCache<T>, d_embedding: Array2<T>, gradient: &mut Self) {
        let mut d_last = cache.head.backward(d_embedding);
        if let (Some(proj), Some(last), Some(gradient)) = (&self.proj, &cache.last, &mut gradient.proj) {
            proj.backward(last.view(), d_last.view(), gradient);
            d_last = proj.backward_input(d_last.view());
        }
        // (TXT-1′): a node gets the gradients of all captions that end there.
        let mut d_states = Array2::zeros(cache.rnn.top().dim());
        for (&node, d) in cache.tree.last().iter().zip(d_last.outer_iter()) {
            let mut row = d_states.row_mut(node);
            row += &d;
        }
        let d_words = self.rnn.backward(&cache.tree, &cache.rnn, d_states, &mut gradient.rnn);
        self.embed.backward(cache.tree.words(), d_words.view(), &mut gradient.embed);
    }
}
