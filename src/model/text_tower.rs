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

use super::architecture::Architecture;
use super::head::{Head, HeadCache};
use crate::error::Result;
use crate::linalg::Write;
use crate::nn::embedding::EmbeddingCache;
use crate::nn::gru::{GruCache, Sequences};
use crate::nn::linear::LinearCache;
use crate::nn::{Embedding, Gru, Layer, Linear, Mode, PrefixTree};
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

crate::module!(TextTower<T>, tower { embed, rnn, proj });

impl<T: Clone + Default> TextTower<T> {
    pub(super) fn zeros(a: &Architecture) -> Self {
        Self {
            embed: Embedding::zeros(a.vocab_size, a.word_dim),
            rnn: Gru::zeros(a.num_layers, a.word_dim, a.hidden_size),
            proj: a.caption_projection.then(|| Linear::zeros(a.embed_size, a.hidden_size)),
        }
    }
}

/// What the caption side keeps of a pass.
#[derive(Clone, Debug, Default)]
pub(crate) struct TextCache<T: 'static> {
    /// The batch's captions.
    pub tree: PrefixTree,
    /// The vectors of the tree's distinct words, [U, E].
    pub embed: EmbeddingCache<T>,
    /// The GRU: ψ [B, H] is its y.
    pub rnn: GruCache<T>,
    /// `W_gᵀ` ψ + `b_g` [B, D], where there is a projection.
    pub proj: LinearCache<T>,
    /// Normalisation and absolute value: g [B, D] is its y.
    pub head: HeadCache<T>,
    /// The gradients with respect to the head's x [B, D], to ψ [B, H] and to the word vectors [U, E].
    d_head: Array2<T>,
    d_psi: Array2<T>,
    d_words: Array2<T>,
}

impl<T: Scalar> TextTower<T> {
    /// (TXT-1) and (TXT-2): B captions → g [B, D].
    ///
    /// # Errors
    ///
    /// If a token id is not below V, or if a row to be normalised is zero or not finite.
    pub(super) fn forward<C: AsRef<[u32]>>(
        &self,
        captions: &[C],
        mode: Mode,
        head: Head,
        cache: &mut TextCache<T>,
    ) -> Result<()> {
        let TextCache { tree, embed, rnn, proj, head: head_cache, .. } = cache;
        tree.rebuild(captions);
        self.words(tree, mode, embed)?;
        // (TXT-1)  ψ(c) = h of the top layer at the last token of c
        self.rnn.forward(Sequences { tree, words: embed.y.view() }, mode, rnn)?;
        // (TXT-2)  g(c) = ψ(c), or W_gᵀ ψ(c) + b_g with caption_projection, then (NORM-1), then (ABS-1) if use_abs
        let mut x = rnn.y.view();
        if let Some(layer) = &self.proj {
            layer.forward(x, mode, proj)?;
            x = proj.y.view();
        }
        head.forward(x, mode, head_cache).map_err(|e| e.of("caption embedding"))
    }

    /// The same without a cache, where no backward pass follows. All captions are one prefix tree.
    ///
    /// # Errors
    ///
    /// As [`Self::forward`].
    pub(super) fn embed<C: AsRef<[u32]>>(&self, captions: &[C], head: Head) -> Result<Array2<T>> {
        let (tree, mut words) = (PrefixTree::new(captions), EmbeddingCache::default());
        self.words(&tree, Mode::Eval, &mut words)?;
        let mut g = Array2::default((0, 0));
        self.rnn.infer(Sequences { tree: &tree, words: words.y.view() }, &mut g);
        if let Some(layer) = &self.proj {
            let mut proj = LinearCache::default();
            layer.forward(g.view(), Mode::Eval, &mut proj)?;
            g = proj.y;
        }
        head.apply(&mut g).map_err(|e| e.of("caption embedding"))?;
        Ok(g)
    }

    fn words(&self, tree: &PrefixTree, mode: Mode, cache: &mut EmbeddingCache<T>) -> Result<()> {
        self.embed.forward(tree.words(), mode, cache).map_err(|e| e.of("txt_enc.embed.weight"))
    }

    /// From dg [B, D] to the parameters' gradients.
    pub(super) fn backward(&self, cache: &mut TextCache<T>, dg: &Array2<T>, write: Write, grad: &mut Self)
    where
        T: Real,
    {
        let TextCache { tree, embed, rnn, proj, head, d_head, d_psi, d_words } = cache;
        let d_psi = if let (Some(layer), Some(grad)) = (&self.proj, &mut grad.proj) {
            head.backward(proj.y.view(), dg, d_head);
            layer.backward(rnn.y.view(), proj, d_head, write, grad, Some(d_psi));
            d_psi
        } else {
            // The head's x is ψ itself.
            head.backward(rnn.y.view(), dg, d_head);
            d_head
        };
        // Frozen word vectors need no gradient: `embed.backward` then returns at once.
        let dx = (!grad.embed.weight.is_empty()).then_some(&mut *d_words);
        // (TXT-1′)  dh of a node = Σ dψ(c) over the captions c that end there
        self.rnn.backward(Sequences { tree, words: embed.y.view() }, rnn, d_psi, write, &mut grad.rnn, dx);
        self.embed.backward(tree.words(), embed, d_words, write, &mut grad.embed, None);
    }
}
