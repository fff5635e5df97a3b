//! What is checked: every layer by itself, then whole models.
//!
//! A layer's output y becomes a scalar by a curved readout, q(y) = Σ w∘y + 2 Σ y² with fixed random
//! w, so that every entry of dφ/dy = w + 4y is different and no gradient is constant.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};

use super::{Problem, Report, check};
use crate::error::Result;
use crate::linalg::Write;
use crate::loss::{HingeLoss, Loss, Negatives, Terms, Violation};
use crate::model::{Architecture, Batch, Config, Objective, Parameters, Pass, Preset, Vse};
use crate::nn::gru::Sequences;
use crate::nn::{Abs, Embedding, Gru, L2Norm, Layer, Linear, Mode, Module, PrefixTree};
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
            add(check(&hinges(violation, mask))?);
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

/// A forward pass in fresh memory.
fn run<T: Scalar, L: Layer<T>>(layer: &L, x: L::X<'_>) -> Result<L::Cache> {
    let mut cache = L::Cache::default();
    layer.forward(x, Mode::Train, &mut cache)?;
    Ok(cache)
}

/// Fills a module's tensors in the order of a visit.
fn fill<T: Scalar>(module: &mut impl Module<T>, blocks: &mut Blocks<'_, T>) {
    module.each_mut(|_, _, mut tensor| {
        let numbers = blocks.take(tensor.len());
        tensor.iter_mut().zip(numbers).for_each(|(x, &number)| *x = number);
    });
}

/// A module's numbers in the order of a visit.
fn flat(module: &impl Module<f64>) -> Vec<f64> {
    let mut all = Vec::new();
    module.each(|_, _, tensor| all.extend(tensor));
    all
}

/// A module's tensors and their sizes in the order of a visit.
fn sizes(module: &impl Module<f64>) -> Vec<(String, usize)> {
    let mut sizes = Vec::new();
    module.each(|path, _, tensor| sizes.push((path.to_string(), tensor.len())));
    sizes
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

/// A loss as a function of the scores of B pairs. It may be piecewise linear, as SH and MH are.
#[derive(Clone, Debug)]
pub struct LossProblem<L> {
    name: String,
    loss: L,
    batch: usize,
    image_ids: Option<Vec<usize>>,
}

impl<L: Loss> LossProblem<L> {
    /// A loss on the scores of B pairs, at a random point.
    #[must_use]
    pub fn new(name: &str, loss: L, batch: usize) -> Self {
        Self { name: name.into(), loss, batch, image_ids: None }
    }

    /// The same with captions of one image masked: equal ids `[B]` show one image.
    #[must_use]
    pub fn with_image_ids(self, image_ids: Vec<usize>) -> Self {
        Self { image_ids: Some(image_ids), ..self }
    }

    fn terms<T: Scalar>(&self, x: &[T]) -> Result<Terms<T>> {
        let negatives = self.image_ids.as_ref().map_or(Negatives::Others, |ids| Negatives::OtherImages(ids));
        let mut terms = Terms::default();
        terms.evaluate(&self.loss, Blocks(x).matrix(self.batch, self.batch).view(), negatives)?;
        Ok(terms)
    }
}

impl<L: Loss> Problem for LossProblem<L> {
    fn name(&self) -> String {
        self.name.clone()
    }
    fn blocks(&self) -> Vec<(String, usize)> {
        named(&[("scores", self.batch * self.batch)])
    }
    fn point(&self) -> Vec<f64> {
        numbers(self.batch * self.batch, 0.6, "loss")
    }
    fn value<T: Scalar>(&self, x: &[T]) -> Result<T> {
        Ok(self.terms(x)?.loss)
    }
    fn gradient(&self, x: &[f64]) -> Result<Vec<f64>> {
        let mut d_scores = Array2::default((0, 0));
        self.terms(x)?.backward(&mut d_scores);
        Ok(d_scores.into_iter().collect())
    }
    fn active_set(&self, x: &[f64]) -> Result<Vec<bool>> {
        let mut active = Vec::new();
        self.terms(x)?.active_set(&mut active);
        Ok(active)
    }
}

/// SH or MH with margin 0.3, with or without a mask.
fn hinges(violation: Violation, mask: bool) -> LossProblem<HingeLoss> {
    let name = if violation == Violation::Max { "max of hinges" } else { "sum of hinges" };
    let loss = HingeLoss { margin: 0.3, violation };
    if mask {
        LossProblem::new(&format!("{name}, same images masked"), loss, 6).with_image_ids(vec![0, 1, 0, 2, 3, 1])
    } else {
        LossProblem::new(name, loss, 6)
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
        let (mut parameters, mut blocks) = (Parameters::zeros(&self.architecture), Blocks(x));
        fill(&mut parameters, &mut blocks);
        let pictures = blocks.matrix(self.pictures, self.architecture.img_dim);
        let images = pictures.select(Axis(0), &self.image_ids);
        let batch = Batch { images, captions: self.captions.clone(), image_ids: self.image_ids.clone() };
        (Vse { architecture: self.architecture, parameters }, batch)
    }
}

impl ModelProblem {
    fn pass<T: Scalar>(&self, model: &Vse<T>, batch: &Batch<T>) -> Result<Pass<T>> {
        let mut pass = Pass::default();
        model.forward(batch, &self.objective, Mode::Train, &mut pass)?;
        Ok(pass)
    }
}

impl Problem for ModelProblem {
    fn name(&self) -> String {
        format!("model, {}", self.name)
    }
    fn blocks(&self) -> Vec<(String, usize)> {
        let mut blocks = sizes(&Parameters::zeros(&self.architecture));
        blocks.push(("in.images".into(), self.pictures * self.architecture.img_dim));
        blocks
    }
    fn point(&self) -> Vec<f64> {
        self.point.clone()
    }
    fn value<T: Scalar>(&self, x: &[T]) -> Result<T> {
        let (model, batch) = self.parts(x);
        Ok(self.pass(&model, &batch)?.terms.loss)
    }
    fn gradient(&self, x: &[f64]) -> Result<Vec<f64>> {
        let (model, batch) = self.parts(x);
        let mut pass = self.pass(&model, &batch)?;
        let (mut grad, mut d_images) = (Parameters::zeros(&self.architecture), Array2::default((0, 0)));
        model.backward(&batch, &mut pass, Write::Add, &mut grad, Some(&mut d_images))?;
        let mut d_pictures = Array2::<f64>::zeros((self.pictures, self.architecture.img_dim));
        for (&picture, d_image) in self.image_ids.iter().zip(d_images.outer_iter()) {
            let mut row = d_pictures.row_mut(picture);
            row += &d_image;
        }
        Ok(flat(&grad).into_iter().chain(d_pictures).collect())
    }
    fn active_set(&self, x: &[f64]) -> Result<Vec<bool>> {
        let (model, batch) = self.parts(x);
        Ok(self.pass(&model, &batch)?.active_set(&self.architecture))
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
                "{}: {:.1e} in {}, slopes {:?} to {:?}, {} linear, {} near a kink, {} at one, {}",
                report.problem,
                worst.error,
                worst.name,
                report.taylor.slope_min,
                report.taylor.slope_max,
                report.taylor.linear,
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
            find_all(&hinges(violation, true));
        }
        models().iter().for_each(find_all);
    }
}
