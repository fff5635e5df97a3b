//! Every layer by itself.

use ndarray::Array2;

use super::{Blocks, CAPTIONS, Problem, d_readout, fill, flat, named, numbers, readout, sizes};
use crate::error::Result;
use crate::linalg::Write;
use crate::nn::gru::Sequences;
use crate::nn::{Abs, Embedding, Gru, L2Norm, Layer, Linear, Mode, PrefixTree};
use crate::real::Scalar;
use crate::similarity::Measure;

/// A forward pass in fresh memory.
pub(super) fn run<T: Scalar, L: Layer<T>>(layer: &L, x: L::X<'_>) -> Result<L::Cache> {
    let mut cache = L::Cache::default();
    layer.forward(x, Mode::Train, &mut cache)?;
    Ok(cache)
}

/// (EMB-1) with repeated words.
pub(super) struct EmbeddingProblem;

impl EmbeddingProblem {
    const WORDS: [u32; 7] = [3, 0, 3, 5, 2, 3, 0];
    fn layer<T: Scalar>(x: &[T]) -> Embedding<T> {
        Embedding { weight: Blocks(x).matrix(6, 4) }
    }
}

impl Problem for EmbeddingProblem {
    fn name(&self) -> String {
        "embedding".into()
    }
    fn blocks(&self) -> Vec<(String, usize)> {
        named(&[("weight", 24)])
    }
    fn point(&self) -> Vec<f64> {
        numbers(24, 1.0, "embedding")
    }
    fn value<T: Scalar>(&self, x: &[T]) -> Result<T> {
        Ok(readout(run(&Self::layer(x), &Self::WORDS)?.y.view()))
    }
    fn gradient(&self, x: &[f64]) -> Result<Vec<f64>> {
        let layer = Self::layer(x);
        let mut cache = run(&layer, &Self::WORDS)?;
        let (dy, mut grad) = (d_readout(cache.y.view()), Self::layer(&[0.0; 24]));
        layer.backward(&Self::WORDS, &mut cache, &dy, Write::Add, &mut grad, None);
        Ok(flat(&grad))
    }
}

/// (LIN-1) 5 × 4 → 5 × 3.
pub(super) struct LinearProblem;

impl LinearProblem {
    fn parts<T: Scalar>(x: &[T]) -> (Linear<T>, Array2<T>) {
        let mut blocks = Blocks(x);
        (Linear { weight: blocks.matrix(3, 4), bias: blocks.vector(3) }, blocks.matrix(5, 4))
    }
}

impl Problem for LinearProblem {
    fn name(&self) -> String {
        "linear".into()
    }
    fn blocks(&self) -> Vec<(String, usize)> {
        named(&[("weight", 12), ("bias", 3), ("input", 20)])
    }
    fn point(&self) -> Vec<f64> {
        numbers(35, 1.0, "linear")
    }
    fn value<T: Scalar>(&self, x: &[T]) -> Result<T> {
        let (layer, input) = Self::parts(x);
        Ok(readout(run(&layer, input.view())?.y.view()))
    }
    fn gradient(&self, x: &[f64]) -> Result<Vec<f64>> {
        let ((layer, input), (mut grad, mut dx)) = (Self::parts(x), Self::parts(&[0.0; 35]));
        let mut cache = run(&layer, input.view())?;
        let dy = d_readout(cache.y.view());
        layer.backward(input.view(), &mut cache, &dy, Write::Add, &mut grad, Some(&mut dx));
        Ok(flat(&grad).into_iter().chain(dx).collect())
    }
}

/// (NORM-1) and (NORM-2).
pub(super) struct L2NormProblem;

impl Problem for L2NormProblem {
    fn name(&self) -> String {
        "l2norm".into()
    }
    fn blocks(&self) -> Vec<(String, usize)> {
        named(&[("input", 24)])
    }
    fn point(&self) -> Vec<f64> {
        numbers(24, 2.0, "l2norm")
    }
    fn value<T: Scalar>(&self, x: &[T]) -> Result<T> {
        Ok(readout(run(&L2Norm, Blocks(x).matrix(4, 6).view())?.y.view()))
    }
    fn gradient(&self, x: &[f64]) -> Result<Vec<f64>> {
        let (x, mut dx) = (Blocks(x).matrix(4, 6), Array2::default((0, 0)));
        let mut cache = run(&L2Norm, x.view())?;
        let dy = d_readout(cache.y.view());
        L2Norm.backward(x.view(), &mut cache, &dy, Write::Add, &mut L2Norm, Some(&mut dx));
        Ok(dx.into_iter().collect())
    }
}

/// (ABS-1)
pub(super) struct AbsProblem;

impl Problem for AbsProblem {
    fn name(&self) -> String {
        "abs".into()
    }
    fn blocks(&self) -> Vec<(String, usize)> {
        named(&[("input", 24)])
    }
    fn point(&self) -> Vec<f64> {
        numbers(24, 1.0, "abs")
    }
    fn value<T: Scalar>(&self, x: &[T]) -> Result<T> {
        Ok(readout(run(&Abs, Blocks(x).matrix(4, 6).view())?.y.view()))
    }
    fn gradient(&self, x: &[f64]) -> Result<Vec<f64>> {
        let (x, mut dx) = (Blocks(x).matrix(4, 6), Array2::default((0, 0)));
        let mut cache = run(&Abs, x.view())?;
        let dy = d_readout(cache.y.view());
        Abs.backward(x.view(), &mut cache, &dy, Write::Add, &mut Abs, Some(&mut dx));
        Ok(dx.into_iter().collect())
    }
    fn active_set(&self, x: &[f64]) -> Result<Vec<bool>> {
        Ok(x.iter().map(|&x| x > 0.0).collect())
    }
}

/// (GRU-0) to (GRU-5) over a tree with shared prefixes, repeated words and a caption that begins another.
pub(super) struct GruProblem {
    pub(super) layers: usize,
}

impl GruProblem {
    const INPUT: usize = 3;
    const HIDDEN: usize = 4;

    fn tree() -> PrefixTree {
        PrefixTree::new(&CAPTIONS)
    }

    fn parts<T: Scalar>(&self, x: &[T]) -> (Gru<T>, Array2<T>) {
        let (mut blocks, mut gru) = (Blocks(x), Gru::zeros(self.layers, Self::INPUT, Self::HIDDEN));
        fill(&mut gru, &mut blocks);
        (gru, blocks.matrix(Self::tree().words().len(), Self::INPUT))
    }
}

impl Problem for GruProblem {
    fn name(&self) -> String {
        format!("gru, {} layer{}", self.layers, if self.layers == 1 { "" } else { "s" })
    }
    fn blocks(&self) -> Vec<(String, usize)> {
        let mut blocks = sizes(&Gru::<f64>::zeros(self.layers, Self::INPUT, Self::HIDDEN));
        blocks.push(("input".into(), Self::tree().words().len() * Self::INPUT));
        blocks
    }
    fn point(&self) -> Vec<f64> {
        numbers(self.blocks().iter().map(|(_, n)| n).sum(), 0.9, "gru")
    }
    fn value<T: Scalar>(&self, x: &[T]) -> Result<T> {
        let (tree, (gru, words)) = (Self::tree(), self.parts(x));
        Ok(readout(run(&gru, Sequences { tree: &tree, words: words.view() })?.y.view()))
    }
    fn gradient(&self, x: &[f64]) -> Result<Vec<f64>> {
        let ((gru, words), (mut grad, mut dx)) = (self.parts(x), self.parts(&vec![0.0; x.len()]));
        let tree = Self::tree();
        let x = Sequences { tree: &tree, words: words.view() };
        let mut cache = run(&gru, x)?;
        let dy = d_readout(cache.y.view());
        gru.backward(x, &mut cache, &dy, Write::Add, &mut grad, Some(&mut dx));
        Ok(flat(&grad).into_iter().chain(dx).collect())
    }
}

/// (SIM-1), (SIM-2), (SIM-3) of 4 images and 5 captions.
pub(super) struct SimilarityProblem {
    pub(super) measure: Measure,
}

impl SimilarityProblem {
    fn parts<T: Scalar>(x: &[T]) -> (Array2<T>, Array2<T>) {
        let mut blocks = Blocks(x);
        (blocks.matrix(4, 3), blocks.matrix(5, 3))
    }
}

impl Problem for SimilarityProblem {
    fn name(&self) -> String {
        format!("similarity, {}", self.measure)
    }
    fn blocks(&self) -> Vec<(String, usize)> {
        named(&[("images", 12), ("captions", 15)])
    }
    fn point(&self) -> Vec<f64> {
        numbers(27, 1.0, "similarity")
    }
    fn value<T: Scalar>(&self, x: &[T]) -> Result<T> {
        let (f, g) = Self::parts(x);
        Ok(readout(self.measure.scores(f.view(), g.view()).view()))
    }
    fn gradient(&self, x: &[f64]) -> Result<Vec<f64>> {
        let (f, g) = Self::parts(x);
        let scores = self.measure.scores(f.view(), g.view());
        let d_scores = d_readout(scores.view());
        let (mut df, mut dg) = (Array2::default((0, 0)), Array2::default((0, 0)));
        self.measure.backward_into(f.view(), g.view(), scores.view(), d_scores.view(), &mut df, &mut dg);
        Ok(df.into_iter().chain(dg).collect())
    }
    fn active_set(&self, x: &[f64]) -> Result<Vec<bool>> {
        let (f, g) = Self::parts(x);
        let mut active = Vec::new();
        self.measure.active_set(f.view(), g.view(), &mut active);
        Ok(active)
    }
}
