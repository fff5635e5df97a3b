//! The caption side.
//!
//! ```text
//! (TXT-1)   ψ(c) = h of the top layer at the last token of c
//! (TXT-1′)  dh of a node = Σ dψ(c) over the captions c that end there
//! (TXT-2)   g(c) = ψ(c), or W_gᵀ ψ(c) + b_g with caption_projection, then (NORM-1), then (ABS-1) if use_abs
//! ```
//!
//! The last token is the caption's own (`<end>`), never a padded end. The paper (section 2.1) writes `W_g`;
//! the original has no such matrix, because its GRU is as wide as the joint space. Both are here: no
//! projection by default, and a learned one, with which H may differ from D.

use ndarray::Array2;

use super::head::{Head, HeadCache};
use crate::error::Result;
use crate::linalg::{self, Write};
use crate::nn::{Embedding, Gru, GruBackward, GruCache, Linear, PrefixTree};
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
#[derive(Clone, Debug, Default)]
pub struct TextCache<T> {
    /// The batch's captions.
    pub tree: PrefixTree,
    /// The vectors of the tree's distinct words, [U, E].
    pub words: Array2<T>,
    /// The GRU's caches.
    pub rnn: GruCache<T>,
    /// ψ [B, H].
    pub last: Array2<T>,
    /// `W_gᵀ` ψ + `b_g` [B, D], where there is a projection.
    pub projected: Array2<T>,
    /// Normalisation and absolute value.
    pub head: HeadCache<T>,
}

/// What the caption side's backward pass computes on its way.
#[derive(Clone, Debug, Default)]
pub struct TextBackward<T> {
    /// dψ [B, H], where there is a projection.
    pub last: Array2<T>,
    /// The GRU's gradients.
    pub rnn: GruBackward<T>,
}

impl<T: Scalar> TextTower<T> {
    /// (TXT-1) and (TXT-2): B captions → embeddings [B, D].
    ///
    /// **Errors** if a token id is not below V, or if a row to be normalised is zero or not finite.
    pub fn forward<C: AsRef<[u32]>>(&self, captions: &[C], head: Head, cache: &mut TextCache<T>) -> Result<()> {
        let TextCache { tree, words, rnn, last, projected, head: head_cache } = cache;
        tree.rebuild(captions);
        self.embed.forward(tree.words(), words)?;
        self.rnn.forward(tree, words.view(), rnn);
        // (TXT-1)  ψ(c) = h of the top layer at the last token of c
        let top = rnn.top();
        linalg::reshape(last, (captions.len(), top.ncols()));
        for (mut last, &node) in last.outer_iter_mut().zip(tree.last()) {
            last.assign(&top.row(node));
        }
        // (TXT-2)  g(c) = ψ(c), or W_gᵀ ψ(c) + b_g with caption_projection, then (NORM-1), then (ABS-1) if use_abs
        match &self.proj {
            Some(proj) => {
                proj.forward(last.view(), projected);
                head.forward(projected.view(), head_cache)
            }
            None => head.forward(last.view(), head_cache),
        }
    }
}

impl<T: Scalar> TextTower<T> {
    /// (TXT-1) and (TXT-2) without what a backward pass would need: captions → embeddings [M, D].
    ///
    /// All captions are one prefix tree. **Errors** as [`Self::forward`].
    pub fn embed<C: AsRef<[u32]>>(&self, captions: &[C], head: Head) -> Result<Array2<T>> {
        let (mut words, mut vectors) = (Array2::default((0, 0)), Array2::default((0, 0)));
        let tree = PrefixTree::new(captions);
        self.embed.forward(tree.words(), &mut words)?;
        self.rnn.last_states(&tree, words.view(), &mut vectors);
        if let Some(proj) = &self.proj {
            let last = std::mem::take(&mut vectors);
            proj.forward(last.view(), &mut vectors);
        }
        head.apply(&mut vectors)?;
        Ok(vectors)
    }
}

impl<T: Real> TextTower<T> {
    /// From dg [B, D] to the parameters' gradients; d is overwritten.
    pub fn backward(
        &self,
        cache: &TextCache<T>,
        d: &mut Array2<T>,
        on_the_way: &mut TextBackward<T>,
        write: Write,
        gradient: &mut Self,
    ) {
        let TextBackward { last: d_last, rnn: d_rnn } = on_the_way;
        cache.head.backward(d);
        let d_last = match (&self.proj, &mut gradient.proj) {
            (Some(proj), Some(gradient)) => {
                proj.backward(cache.last.view(), d.view(), write, gradient);
                proj.backward_input(d.view(), d_last);
                d_last
            }
            _ => d,
        };
        // (TXT-1′)  dh of a node = Σ dψ(c) over the captions c that end there
        let d_states = d_rnn.top(&self.rnn, &cache.tree);
        for (&node, d) in cache.tree.last().iter().zip(d_last.outer_iter()) {
            let mut row = d_states.row_mut(node);
            row += &d;
        }
        self.rnn.backward(&cache.tree, cache.words.view(), &cache.rnn, d_rnn, write, &mut gradient.rnn);
        self.embed.backward(cache.tree.words(), d_rnn.words.view(), write, &mut gradient.embed);
    }
}
