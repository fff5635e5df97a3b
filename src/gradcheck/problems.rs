//! What is checked: every layer by itself, then whole models.
//!
//! A layer's output y becomes a scalar by a curved readout, q(y) = Σ w∘y + 2 Σ y² with fixed random
//! w, so that every entry of dφ/dy = w + 4y is different and no gradient is constant.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};

use super::{Problem, Report, check};
use crate::error::Result;
use crate::linalg::Write;
use crate::loss::{HingeLoss, Violation};
use crate::model::{Architecture, Batch, Config, Objective, Parameters, Preset, Vse};
use crate::nn::{Abs, Embedding, Gru, GruBackward, GruCache, GruLayer, L2Norm, Linear, PrefixTree};
use crate::random::{Symmetric, stream};
use crate::real::Scalar;
use crate::similarity::Measure;
use ndarray_rand::rand::distr::Distribution;

/// Every layer and every model; `each` receives every report as it comes.
///
/// **Errors** only if a forward pass refuses its input, which would be a bug.
pub fn all(mut each: impl FnMut(&Report)) -> Result<Vec<Report>> {
    let mut reports = Vec::new();
    let mut add = |report: Report| {
        each(&report);
        reports.push(report);
    };
    add(check(&EmbeddingProblem)?);
    add(check(&LinearProblem)?);
    add(check(&L2NormProblem)?);
    add(check(&AbsProblem)?);
    for layers in 1..=2 {
        add(check(&GruProblem { layers })?);
    }
    for measure in [Measure::Cosine, Measure::Order, Measure::OrderSquared] {
        add(check(&SimilarityProblem { measure })?);
    }
    for violation in [Violation::Sum, Violation::Max] {
        for mask in [false, true] {
            add(check(&LossProblem { violation, mask })?);
        }
    }
    for model in models() {
        add(check(&model)?);
    }
    Ok(reports)
}

/// Numbers in ±`bound` from a stream of their own.
fn numbers(n: usize, bound: f64, purpose: &str) -> Vec<f64> {
    let mut rng = stream(0, &format!("gradcheck/{purpose}"));
    (0..n).map(|_| Symmetric(bound).sample(&mut rng)).collect()
}

/// The readout's w.
fn weights(shape: (usize, usize)) -> Array2<f64> {
    Array2::from_shape_vec(shape, numbers(shape.0 * shape.1, 1.0, "readout")).expect("as many as asked for")
}

/// φ(y) = Σ w∘y + 2 Σ y²
fn readout<T: Scalar>(y: ArrayView2<'_, T>) -> T {
    let two = T::from_f64(2.0);
    y.iter().zip(&weights(y.dim())).fold(T::zero(), |sum, (&y, &w)| sum + y * (T::from_f64(w) + two * y))
}

/// dφ/dy = w + 4y
fn d_readout(y: ArrayView2<'_, f64>) -> Array2<f64> {
    weights(y.dim()) + y.mapv(|y| 4.0 * y)
}

/// Takes arrays off a flat list of numbers, in order.
struct Blocks<'a, T>(&'a [T]);

impl<'a, T: Scalar> Blocks<'a, T> {
    fn take(&mut self, n: usize) -> &'a [T] {
        let (head, tail) = self.0.split_at(n);
        self.0 = tail;
        head
    }
    fn vector(&mut self, n: usize) -> Array1<T> {
        ArrayView1::from(self.take(n)).to_owned()
    }
    fn matrix(&mut self, rows: usize, columns: usize) -> Array2<T> {
        ArrayView2::from_shape((rows, columns), self.take(rows * columns)).expect("as many as taken").to_owned()
    }
}

fn named(blocks: &[(&str, usize)]) -> Vec<(String, usize)> {
    blocks.iter().map(|&(name, size)| (name.to_owned(), size)).collect()
}

/// (EMB-1) with repeated words.
struct EmbeddingProblem;

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
        let mut y = Array2::default((0, 0));
        Self::layer(x).forward(&Self::WORDS, &mut y)?;
        Ok(readout(y.view()))
    }
    fn gradient(&self, x: &[f64]) -> Result<Vec<f64>> {
        let layer = Self::layer(x);
        let mut y = Array2::default((0, 0));
        layer.forward(&Self::WORDS, &mut y)?;
        let mut gradient = Self::layer(&[0.0; 24]);
        layer.backward(&Self::WORDS, d_readout(y.view()).view(), Write::Add, &mut gradient);
        Ok(gradient.weight.into_iter().collect())
    }
}

/// (LIN-1) 5 × 4 → 5 × 3.
struct LinearProblem;

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
        let mut y = Array2::default((0, 0));
        layer.forward(input.view(), &mut y);
        Ok(readout(y.view()))
    }
    fn gradient(&self, x: &[f64]) -> Result<Vec<f64>> {
        let (layer, input) = Self::parts(x);
        let (mut y, mut d_input) = (Array2::default((0, 0)), Array2::default((0, 0)));
        layer.forward(input.view(), &mut y);
        let dy = d_readout(y.view());
        let (mut gradient, _) = Self::parts(&[0.0; 35]);
        layer.backward(input.view(), dy.view(), Write::Add, &mut gradient);
        layer.backward_input(dy.view(), &mut d_input);
        Ok(gradient.weight.into_iter().chain(gradient.bias).chain(d_input).collect())
    }
}

/// (NORM-1) and (NORM-2).
struct L2NormProblem;

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
        let mut norm = L2Norm::default();
        norm.forward(Blocks(x).matrix(4, 6).view(), "image")?;
        Ok(readout(norm.output.view()))
    }
    fn gradient(&self, x: &[f64]) -> Result<Vec<f64>> {
        let mut norm = L2Norm::default();
        norm.forward(Blocks(x).matrix(4, 6).view(), "image")?;
        let mut d = d_readout(norm.output.view());
        norm.backward(&mut d);
        Ok(d.into_iter().collect())
    }
}

/// (ABS-1)
struct AbsProblem;

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
        let mut abs = Abs::default();
        abs.forward(Blocks(x).matrix(4, 6).view());
        Ok(readout(abs.output.view()))
    }
    fn gradient(&self, x: &[f64]) -> Result<Vec<f64>> {
        let mut abs = Abs::default();
        abs.forward(Blocks(x).matrix(4, 6).view());
        let mut d = d_readout(abs.output.view());
        abs.backward(&mut d);
        Ok(d.into_iter().collect())
    }
    fn active_set(&self, x: &[f64]) -> Result<Vec<bool>> {
        Ok(x.iter().map(|&x| x > 0.0).collect())
    }
}

/// (GRU-1) to (GRU-4) over a tree with shared prefixes, repeated words and a caption inside another.
struct GruProblem {
    layers: usize,
}

impl GruProblem {
    const INPUT: usize = 3;
    const HIDDEN: usize = 4;

    fn tree() -> PrefixTree {
        PrefixTree::new(&CAPTIONS)
    }

    fn sizes(&self) -> Vec<(String, usize)> {
        let mut sizes = Vec::new();
        for k in 0..self.layers {
            let input = if k == 0 { Self::INPUT } else { Self::HIDDEN };
            sizes.push((format!("weight_ih_l{k}"), 3 * Self::HIDDEN * input));
            sizes.push((format!("weight_hh_l{k}"), 3 * Self::HIDDEN * Self::HIDDEN));
            sizes.push((format!("bias_ih_l{k}"), 3 * Self::HIDDEN));
            sizes.push((format!("bias_hh_l{k}"), 3 * Self::HIDDEN));
        }
        sizes.push(("input".into(), Self::tree().words().len() * Self::INPUT));
        sizes
    }

    fn parts<T: Scalar>(&self, x: &[T]) -> (Gru<T>, Array2<T>) {
        let mut blocks = Blocks(x);
        let layers = (0..self.layers)
            .map(|k| GruLayer {
                weight_ih: blocks.matrix(3 * Self::HIDDEN, if k == 0 { Self::INPUT } else { Self::HIDDEN }),
                weight_hh: blocks.matrix(3 * Self::HIDDEN, Self::HIDDEN),
                bias_ih: blocks.vector(3 * Self::HIDDEN),
                bias_hh: blocks.vector(3 * Self::HIDDEN),
            })
            .collect();
        (Gru { layers }, blocks.matrix(Self::tree().words().len(), Self::INPUT))
    }
}

impl Problem for GruProblem {
    fn name(&self) -> String {
        format!("gru, {} layer{}", self.layers, if self.layers == 1 { "" } else { "s" })
    }
    fn blocks(&self) -> Vec<(String, usize)> {
        self.sizes()
    }
    fn point(&self) -> Vec<f64> {
        numbers(self.sizes().iter().map(|(_, n)| n).sum(), 0.9, "gru")
    }
    fn value<T: Scalar>(&self, x: &[T]) -> Result<T> {
        let (gru, words) = self.parts(x);
        let mut cache = GruCache::default();
        gru.forward(&Self::tree(), words.view(), &mut cache);
        Ok(readout(cache.top()))
    }
    fn gradient(&self, x: &[f64]) -> Result<Vec<f64>> {
        let (gru, words) = self.parts(x);
        let (tree, (mut gradient, _)) = (Self::tree(), self.parts(&vec![0.0; x.len()]));
        let (mut cache, mut d) = (GruCache::default(), GruBackward::default());
        gru.forward(&tree, words.view(), &mut cache);
        d.top(&gru, &tree).assign(&d_readout(cache.top()));
        gru.backward(&tree, words.view(), &cache, &mut d, Write::Add, &mut gradient);
        let mut flat = Vec::with_capacity(x.len());
        for layer in gradient.layers {
            flat.extend(layer.weight_ih);
            flat.extend(layer.weight_hh);
            flat.extend(layer.bias_ih);
            flat.extend(layer.bias_hh);
        }
        flat.extend(d.words);
        Ok(flat)
    }
}

/// (SIM-1), (SIM-2), (SIM-3) of 4 images and 5 captions.
struct SimilarityProblem {
    measure: Measure,
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

/// (SH-1), (MH-1): ℓ(S) + ½ Σ S², the last term only to make it curved.
struct LossProblem {
    violation: Violation,
    mask: bool,
}

impl LossProblem {
    const IDS: [usize; 6] = [0, 1, 0, 2, 3, 1];

    fn hinges<T: Scalar>(&self, x: &[T]) -> Result<(Array2<T>, crate::loss::Hinges<T>)> {
        let scores = Blocks(x).matrix(6, 6);
        let loss = HingeLoss { margin: 0.3, violation: self.violation };
        let hinges = loss.forward(scores.view(), self.mask.then_some(&Self::IDS[..]))?;
        Ok((scores, hinges))
    }
}

impl Problem for LossProblem {
    fn name(&self) -> String {
        let name = if self.violation == Violation::Max { "max of hinges" } else { "sum of hinges" };
        if self.mask { format!("{name}, same images masked") } else { name.into() }
    }
    fn blocks(&self) -> Vec<(String, usize)> {
        named(&[("scores", 36)])
    }
    fn point(&self) -> Vec<f64> {
        numbers(36, 0.6, "loss")
    }
    fn value<T: Scalar>(&self, x: &[T]) -> Result<T> {
        let half = T::from_f64(0.5);
        Ok(x.iter().fold(self.hinges(x)?.1.loss, |sum, &s| sum + half * s * s))
    }
    fn gradient(&self, x: &[f64]) -> Result<Vec<f64>> {
        let (scores, hinges) = self.hinges(x)?;
        Ok((hinges.backward() + scores).into_iter().collect())
    }
    fn active_set(&self, x: &[f64]) -> Result<Vec<bool>> {
        let (_, hinges) = self.hinges(x)?;
        let mut active = vec![false; 72];
        for (direction, terms) in [&hinges.caption_terms, &hinges.image_terms].into_iter().enumerate() {
            for &(i, j) in terms {
                active[direction * 36 + i * 6 + j] = true;
            }
        }
        Ok(active)
    }
}

/// Captions that share prefixes, repeat words, repeat one another, and end inside one another.
const CAPTIONS: [&[u32]; 7] = [
    &[1, 4, 5, 6, 2],
    &[1, 4, 5, 4, 4, 2],
    &[1, 4, 7, 2],
    &[1, 8, 5, 6, 9, 2],
    &[1, 4, 5],
    &[1, 4, 7, 2],
    &[1, 9, 9, 8, 2],
];
/// The second and the fifth caption show one image.
const IMAGE_IDS: [usize; 7] = [0, 1, 2, 3, 1, 4, 5];

/// A whole model on one batch: every parameter, and the features of every distinct image.
///
/// An image that stands twice in the batch is one block of numbers here: its two rows move together,
/// as they do when an encoder is trained. Moved apart, they would part a tie of two hardest
/// negatives, which is a kink.
#[derive(Clone, Debug)]
pub struct ModelProblem {
    name: String,
    architecture: Architecture,
    objective: Objective,
    image_ids: Vec<usize>,
    captions: Vec<Vec<u32>>,
    pictures: usize,
    point: Vec<f64>,
}

impl ModelProblem {
    /// A model at its initialisation (biases included, which start at zero in training), on a batch.
    ///
    /// `pictures` [N, F] are the distinct images, and `image_ids` `[B]` name for every caption its row.
    #[must_use]
    pub fn new(
        name: &str,
        architecture: Architecture,
        objective: Objective,
        pictures: ArrayView2<'_, f64>,
        captions: Vec<Vec<u32>>,
        image_ids: Vec<usize>,
    ) -> Self {
        let parameters = Parameters::<f64>::zeros(&architecture).count();
        let mut point = numbers(parameters, 0.6, "model");
        point.extend(pictures);
        Self { name: name.into(), architecture, objective, image_ids, captions, pictures: pictures.nrows(), point }
    }

    fn parts<T: Scalar>(&self, x: &[T]) -> (Vse<T>, Batch<T>) {
        let mut parameters = Parameters::zeros(&self.architecture);
        let mut blocks = Blocks(x);
        parameters.fill_with(|| blocks.take(1)[0]);
        let pictures = blocks.matrix(self.pictures, self.architecture.img_dim);
        let images = pictures.select(Axis(0), &self.image_ids);
        let batch = Batch { images, captions: self.captions.clone(), image_ids: self.image_ids.clone() };
        (Vse { architecture: self.architecture, parameters }, batch)
    }
}

impl Problem for ModelProblem {
    fn name(&self) -> String {
        format!("model, {}", self.name)
    }
    fn blocks(&self) -> Vec<(String, usize)> {
        let parameters = Parameters::<f64>::zeros(&self.architecture);
        let mut blocks: Vec<_> = parameters.named().into_iter().map(|(name, t)| (name, t.len())).collect();
        blocks.push(("in.images".into(), self.pictures * self.architecture.img_dim));
        blocks
    }
    fn point(&self) -> Vec<f64> {
        self.point.clone()
    }
    fn value<T: Scalar>(&self, x: &[T]) -> Result<T> {
        let (model, batch) = self.parts(x);
        Ok(model.forward(&batch, &self.objective)?.hinges.loss)
    }
    fn gradient(&self, x: &[f64]) -> Result<Vec<f64>> {
        let (model, batch) = self.parts(x);
        let forward = model.forward(&batch, &self.objective)?;
        let mut gradient = Parameters::zeros(&self.architecture);
        let d_images = model.backward_with_features(&batch, &forward, &mut gradient);
        let mut flat: Vec<f64> = gradient.named().iter().flat_map(|(_, t)| t.iter().copied()).collect();
        let mut d_pictures = Array2::<f64>::zeros((self.pictures, self.architecture.img_dim));
        for (&picture, d_image) in self.image_ids.iter().zip(d_images.outer_iter()) {
            let mut row = d_pictures.row_mut(picture);
            row += &d_image;
        }
        flat.extend(d_pictures);
        Ok(flat)
    }
    fn active_set(&self, x: &[f64]) -> Result<Vec<bool>> {
        let (model, batch) = self.parts(x);
        Ok(model.forward(&batch, &self.objective)?.active_set(&self.architecture))
    }
}

/// Both losses, all similarities, one and two layers, with and without projection; every one on a
/// batch with shared prefixes, repeated words, a repeated caption and two captions of one image.
#[must_use]
pub fn models() -> Vec<ModelProblem> {
    let presets = [
        ("vse0", Preset::Vse0),
        ("vse++", Preset::VsePlusPlus),
        ("order0", Preset::Order0),
        ("order++", Preset::OrderPlusPlus),
    ];
    let vse_pp = |change: fn(&mut Config)| {
        let mut config = Config::default();
        change(&mut config);
        config
    };
    let mut configs: Vec<(&str, Config)> = presets
        .map(|(name, preset)| {
            let mut config = Config::default();
            config.apply(preset);
            (name, config)
        })
        .into();
    configs.extend([
        ("vse++ with sum of hinges", vse_pp(|c| c.max_violation = false)),
        ("vse++, two layers", vse_pp(|c| c.num_layers = 2)),
        ("vse0, two layers, caption projection with H ≠ D", {
            let mut config = vse_pp(|c| c.apply(Preset::Vse0));
            (config.num_layers, config.caption_projection, config.hidden_size) = (2, true, Some(4));
            config
        }),
        (
            "vse++, caption projection with H ≠ D",
            vse_pp(|c| {
                (c.caption_projection, c.hidden_size) = (true, Some(4));
            }),
        ),
        ("vse++, same images masked", vse_pp(|c| c.mask_same_image = true)),
        (
            "order++ with abs, squared, two layers",
            vse_pp(|c| {
                c.apply(Preset::OrderPlusPlus);
                (c.use_abs, c.measure, c.num_layers) = (true, Measure::OrderSquared, 2);
            }),
        ),
    ]);
    configs.into_iter().map(|(name, config)| model(name, config)).collect()
}

fn model(name: &str, mut config: Config) -> ModelProblem {
    (config.embed_size, config.word_dim) = (5, 3);
    // A margin that leaves hinges of both kinds: active and not.
    config.margin = 0.05;
    let config = config.check().expect("the settings above are valid");
    let architecture = config.architecture(10, 6);
    let pictures = numbers(6 * 6, 1.0, "images");
    let pictures = ArrayView2::from_shape((6, 6), &pictures).expect("as many as asked for");
    let captions = CAPTIONS.map(<[u32]>::to_vec).into();
    ModelProblem::new(name, architecture, config.objective(0), pictures, captions, IMAGE_IDS.into())
}

#[cfg(test)]
mod tests {
    use super::super::{TOLERANCE, complex_step};
    use super::*;

    #[test]
    fn every_gradient_passes() {
        let mut failed = false;
        for report in all(|_| ()).unwrap() {
            let worst = report.worst().unwrap();
            println!(
                "{}: {:.1e} in {}, slopes {:.4} to {:.4}, {} near a kink, {} at one, {}",
                report.problem,
                worst.error,
                worst.name,
                report.taylor.slope_min,
                report.taylor.slope_max,
                report.taylor.near_kink,
                report.taylor.at_kink,
                report.passed
            );
            failed |= !report.passed;
        }
        assert!(!failed, "see the lines above");
    }

    /// A right gradient with one block made too large.
    struct Planted<'a, P> {
        problem: &'a P,
        block: usize,
    }

    impl<P: Problem> Problem for Planted<'_, P> {
        fn name(&self) -> String {
            self.problem.name()
        }
        fn blocks(&self) -> Vec<(String, usize)> {
            self.problem.blocks()
        }
        fn point(&self) -> Vec<f64> {
            self.problem.point()
        }
        fn value<T: Scalar>(&self, x: &[T]) -> Result<T> {
            self.problem.value(x)
        }
        fn gradient(&self, x: &[f64]) -> Result<Vec<f64>> {
            let sizes: Vec<usize> = self.blocks().iter().map(|(_, n)| *n).collect();
            let start = sizes[..self.block].iter().sum::<usize>();
            let mut gradient = self.problem.gradient(x)?;
            gradient[start..start + sizes[self.block]].iter_mut().for_each(|g| *g *= 1.0 + 1e-6);
            Ok(gradient)
        }
        fn active_set(&self, x: &[f64]) -> Result<Vec<bool>> {
            self.problem.active_set(x)
        }
    }

    /// Plants an error in one block after another.
    fn find_all<P: Problem>(problem: &P) {
        for block in 0..problem.blocks().len() {
            let planted = Planted { problem, block };
            let x = planted.point();
            let blocks = complex_step(&planted, &x, &planted.gradient(&x).unwrap()).unwrap();
            let wrong: Vec<_> = blocks.iter().filter(|b| b.error > TOLERANCE).collect();
            assert_eq!(wrong.len(), 1, "{}: block {block}: {blocks:#?}", problem.name());
            assert_eq!(wrong[0].name, problem.blocks()[block].0);
        }
    }

    #[test]
    fn a_relative_error_of_1e_6_in_any_one_block_is_found_and_named() {
        find_all(&EmbeddingProblem);
        find_all(&LinearProblem);
        find_all(&L2NormProblem);
        find_all(&AbsProblem);
        find_all(&GruProblem { layers: 2 });
        for measure in [Measure::Cosine, Measure::Order, Measure::OrderSquared] {
            find_all(&SimilarityProblem { measure });
        }
        for violation in [Violation::Sum, Violation::Max] {
            find_all(&LossProblem { violation, mask: true });
        }
        models().iter().for_each(find_all);
    }
}
