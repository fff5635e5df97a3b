//! The loss as weighted terms: sum of hinges (SH, "VSE0") and max of hinges (MH, "VSE++"), which are the
//! paper's, and what lies between them.
//!
//! S [B, B] holds the scores of a batch, its diagonal d the right pairs; α is the margin.
//!
//! ```text
//! (HINGE-1)  cost_s[i, j] = [α + S_ij − d_i]₊, j ≠ i         caption retrieval: along the row
//! (HINGE-2)  cost_im[i, j] = [α + S_ij − d_j]₊, i ≠ j        image retrieval: along the column
//! (SH-1)     ℓ_SH = Σ_ij cost_s[i, j] + Σ_ij cost_im[i, j]                  paper, eq. 5
//! (MH-1)     ℓ_MH = Σ_i max_j cost_s[i, j] + Σ_j max_i cost_im[i, j]        paper, eq. 6
//! (KH-1)     ℓ_KH = Σ_i (the k greatest cost_s[i, j]) + Σ_j (the k greatest cost_im[i, j])
//! (LSE-1)    ℓ_LSE = Σ_i [τ ln Σ_j exp((α + S_ij − d_i) / τ)]₊ + Σ_j [τ ln Σ_i exp((α + S_ij − d_j) / τ)]₊, i ≠ j
//! (SEMI-1)   ℓ_SEMI = ℓ_MH over the negatives with S_ij < d_i along rows, S_ij < d_j along columns
//! (LOSS-1)   a term of weight w = ∂ℓ/∂(S_ij − d_k): dS_ij += w, dS_kk −= w   backward
//! (LSE-1′)   w = exp((α + S_ij − d_k) / τ) / Σ exp((α + S_ij − d_k) / τ) over the negatives of the query
//! ```
//!
//! Every **query** has one right answer and some negatives: image i asks for its caption along row i,
//! caption j for its image along column j. A loss compares each negative with the right answer, and says
//! with a [`Term`] how it depends on that difference. For a term of `cost_s` the right pair is that of its
//! row, k = i; for a term of `cost_im` it is that of its column, k = j. Every term that counts has the
//! weight 1, except with (LSE-1): there all negatives of a query share the weight 1, by (LSE-1′).
//!
//! (LSE-1) is at most τ ln(B − 1) above MH for each query, and tends to it as τ → 0. (SEMI-1) is that of
//! Schroff et al. (2015); a query whose negatives all score as high as its right pair has no term.
//!
//! **Sums, not means**, over the batch. Part of the specification:
//!
//! - a hinge that is exactly 0 has gradient 0 (a term counts only if it is > 0);
//! - among several hardest negatives the one with the lowest index gets the whole gradient;
//! - Σ dS = 0, since every term adds w and −w; with B = 1 there is no negative, and all is 0.
//!
//! A loss of your own implements [`Loss`]: `examples/loss.rs` defines one, checks its gradient and trains
//! with it.

use std::fmt::Debug;

use ndarray::{Array2, ArrayView2};

use crate::error::{Error, ErrorKind, Result};
use crate::linalg;
use crate::random::{below, numbered_stream};
use crate::real::{Real, Scalar};

/// One item of a batch that asks for its counterpart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// Image i asks for its caption: row i of S.
    Image(usize),
    /// Caption j asks for its image: column j of S.
    Caption(usize),
}

impl Query {
    /// The place in S of the query's score with another item.
    #[must_use]
    pub fn pair(self, other: usize) -> (usize, usize) {
        match self {
            Self::Image(i) => (i, other),
            Self::Caption(j) => (other, j),
        }
    }

    /// The item that asks, which is also the number of its right answer.
    #[must_use]
    pub fn number(self) -> usize {
        match self {
            Self::Image(number) | Self::Caption(number) => number,
        }
    }

    /// The queries of a batch of B pairs: image 0, caption 0, image 1, …
    pub fn all(batch: usize) -> impl Iterator<Item = Self> {
        (0..batch).flat_map(|number| [Self::Image(number), Self::Caption(number)])
    }
}

/// Which pairs of a batch are negatives of each other.
///
/// ```
/// use vsepp::loss::{Negatives, Query};
///
/// let of_caption_0 = |negatives: Negatives<'_>| negatives.of(Query::Caption(0), 4).collect::<Vec<_>>();
/// assert_eq!(of_caption_0(Negatives::Others), [1, 2, 3]);
/// assert_eq!(of_caption_0(Negatives::OtherImages(&[7, 8, 7, 9])), [1, 3], "pair 2 shows the same image");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Negatives<'a> {
    /// All but the right pair.
    Others,
    /// Those of another image: captions with equal ids `[B]` show one image (`mask_same_image`).
    OtherImages(&'a [usize]),
    /// Those that were chosen for each query.
    Chosen(&'a Chosen),
}

impl<'a> Negatives<'a> {
    /// The negatives of a query in a batch of B pairs, in rising order.
    ///
    /// # Panics
    ///
    /// If there are fewer than B ids.
    pub fn of(self, query: Query, batch: usize) -> impl Iterator<Item = usize> + use<'a> {
        let number = query.number();
        (0..batch).filter(move |&other| match self {
            Self::Others => other != number,
            Self::OtherImages(ids) => ids[other] != ids[number],
            Self::Chosen(chosen) => chosen.marks(query)[query.pair(other)],
        })
    }
}

/// How many negatives of each query count, and the numbers by which they are drawn (`negatives`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// M: a query with fewer negatives keeps them all.
    pub size: usize,
    /// The seed of the training.
    pub seed: u64,
    /// The step, from 0: each draws anew, from the stream `negatives/{step}`.
    pub step: u64,
}

/// The negatives of each query of a batch, as marks in the places of S.
///
/// ```
/// use ndarray::array;
/// use vsepp::loss::{Chosen, Negatives, Query};
///
/// # fn main() -> vsepp::Result<()> {
/// let of_images = array![[false, true, true], [true, false, false], [false, true, false]];
/// let of_captions = array![[false, true, false], [true, false, true], [true, false, false]];
/// let chosen = Chosen::new(of_images, of_captions)?;
/// let of = |query| Negatives::Chosen(&chosen).of(query, 3).collect::<Vec<_>>();
/// assert_eq!(of(Query::Image(0)), [1, 2]);
/// assert_eq!(of(Query::Caption(0)), [1, 2], "a caption's are in its column");
/// assert_eq!(of(Query::Caption(2)), [1]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    of_images: Array2<bool>,
    of_captions: Array2<bool>,
    /// The negatives of a query from which some are drawn: memory for the next query.
    left: Vec<usize>,
}

impl Chosen {
    /// Marks [B, B]: where a caption (a column) is a negative of an image (a row), and where an image is a negative of
    /// a caption.
    ///
    /// # Errors
    ///
    /// If they are not square and of one size, or if a right pair is marked.
    pub fn new(of_images: Array2<bool>, of_captions: Array2<bool>) -> Result<Self> {
        let batch = of_images.nrows();
        for (name, marks) in [("of_images", &of_images), ("of_captions", &of_captions)] {
            if marks.dim() != (batch, batch) {
                return Err(Error::shape(name, format!("[B, B] with B = {batch}"), marks.shape()));
            }
            if let Some(i) = marks.diag().iter().position(|&marked| marked) {
                return Err(Error::mismatch(format!("{name}: expected no right pair, found [{i}, {i}] marked")));
            }
        }
        Ok(Self { of_images, of_captions, left: Vec::new() })
    }

    /// The marks in the places of S for queries of this kind.
    #[must_use]
    pub fn marks(&self, query: Query) -> &Array2<bool> {
        match query {
            Query::Image(_) => &self.of_images,
            Query::Caption(_) => &self.of_captions,
        }
    }

    /// Chooses the negatives of each query among the B − 1 others: those that may be its negatives, by their numbers,
    /// and of these only as many as the sample has, without replacement.
    pub(crate) fn choose(&mut self, batch: usize, sample: Option<Sample>, may_be: impl Fn(usize, usize) -> bool) {
        let Self { of_images, of_captions, left } = self;
        for marks in [&mut *of_images, &mut *of_captions] {
            linalg::reshape(marks, (batch, batch));
            marks.fill(false);
        }
        let mut sample = sample.map(|Sample { size, seed, step }| (size, numbered_stream(seed, "negatives", step)));
        for query in Query::all(batch) {
            let number = query.number();
            left.clear();
            left.extend((0..batch).filter(|&other| other != number && may_be(number, other)));
            if let Some((size, rng)) = &mut sample
                && *size < left.len()
            {
                // The beginning of a shuffle (Fisher and Yates).
                for i in 0..*size {
                    let other = i + below(rng, left.len() - i);
                    left.swap(i, other);
                }
                left.truncate(*size);
            }
            let marks = if matches!(query, Query::Image(_)) { &mut *of_images } else { &mut *of_captions };
            for &other in left.iter() {
                marks[query.pair(other)] = true;
            }
        }
    }
}

/// A loss of B pairs when all scores are equal: the value at which a collapsed model stays.
#[must_use]
pub(crate) fn at_collapse(loss: &impl Loss, negatives: Negatives<'_>, batch: usize) -> f64 {
    match negatives {
        // 2B queries with B − 1 negatives each.
        Negatives::Others => (2 * batch) as f64 * loss.at_collapse(batch.saturating_sub(1)),
        Negatives::OtherImages(_) | Negatives::Chosen(_) => Query::all(batch)
            .map(|query| loss.at_collapse(negatives.of(query, batch).count()))
            .fold(0.0, |sum, part| sum + part),
    }
}

/// ℓ depends on `S_at` − `S_right`, the difference of a negative and the right pair of its query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Term<T> {
    /// The negative's place in S: row, column.
    pub at: (usize, usize),
    /// k: the right pair is at (k, k).
    pub right: usize,
    /// w = ∂ℓ/∂(`S_at` − `S_right`)
    pub weight: T,
}

/// The value of a loss and the terms that make up its gradient.
#[derive(Clone, Debug, Default)]
pub struct Terms<T> {
    /// ℓ
    pub loss: T,
    /// The terms that count.
    list: Vec<Term<T>>,
    /// How many terms could have counted: 2B(B − 1) for SH and log-sum-exp, 2Bk for the k hardest, 2B for MH, fewer
    /// if some pairs are masked or, for semi-hard negatives, score too high.
    pub possible: usize,
    batch: usize,
}

/// A loss on the scores of a batch.
pub trait Loss: Debug + Send + Sync {
    /// Adds the loss of S [B, B] to `terms.loss`, its terms with [`Terms::push`], and how many there could
    /// have been to `terms.possible`. S is square and finite.
    fn forward<T: Scalar>(&self, scores: ArrayView2<'_, T>, negatives: Negatives<'_>, terms: &mut Terms<T>);

    /// The loss of one query with this number of negatives, when all scores are equal, or nearly so where it
    /// jumps there. The collapse detector compares the loss with it.
    fn at_collapse(&self, negatives: usize) -> f64;

    /// The name in reports.
    fn name(&self) -> &'static str;

    /// Sets the epoch, from 0, of a loss that changes during training. The trainer calls it before every step,
    /// so a second call with the same epoch must change nothing.
    fn set_epoch(&mut self, epoch: usize) {
        let _ = epoch;
    }
}

impl<T: Scalar> Terms<T> {
    /// The loss of S [B, B]; the terms reuse the buffers of `self`.
    ///
    /// # Errors
    ///
    /// If S is not square or not finite, or if there are not B image ids, or marks for B pairs.
    pub fn evaluate(&mut self, loss: &impl Loss, scores: ArrayView2<'_, T>, negatives: Negatives<'_>) -> Result<()> {
        let batch = scores.nrows();
        if scores.ncols() != batch {
            return Err(Error::shape("scores", format!("[B, B] with B = {batch}"), scores.shape()));
        }
        if let Negatives::OtherImages(ids) = negatives
            && ids.len() != batch
        {
            return Err(Error::shape("image_ids", format!("[B = {batch}]"), &[ids.len()]));
        }
        if let Negatives::Chosen(chosen) = negatives
            && chosen.of_images.nrows() != batch
        {
            return Err(Error::shape("negatives", format!("[B, B] with B = {batch}"), chosen.of_images.shape()));
        }
        if let Some(((i, j), s)) = scores.indexed_iter().find(|(_, s)| !s.re().is_finite()) {
            return Err(ErrorKind::NotFinite { tensor: "scores".into(), index: vec![i, j], value: s.re() }.into());
        }
        (self.loss, self.possible, self.batch) = (T::zero(), 0, batch);
        self.list.clear();
        loss.forward(scores, negatives, self);
        Ok(())
    }

    /// The terms that count.
    #[must_use]
    pub fn terms(&self) -> &[Term<T>] {
        &self.list
    }

    /// Adds the term of a query and one of its negatives.
    ///
    /// # Panics
    ///
    /// If the batch has no such query or negative.
    pub fn push(&mut self, query: Query, negative: usize, weight: T) {
        let (number, batch) = (query.number(), self.batch);
        assert!(number.max(negative) < batch, "{query:?}, negative {negative}: expected numbers below B = {batch}");
        self.list.push(Term { at: query.pair(negative), right: number, weight });
    }

    /// The share of the 2B queries that have a term: the same for all losses.
    #[must_use]
    pub(crate) fn active_share(&self) -> f64 {
        // A loss adds the terms of a query one after the other.
        let query = |term: &Term<T>| (term.right, term.right == term.at.0);
        let others = self.list.windows(2).filter(|pair| query(&pair[0]) != query(&pair[1])).count();
        (others + usize::from(!self.list.is_empty())) as f64 / (2 * self.batch).max(1) as f64
    }

    /// Terms of a query, in the mean.
    #[must_use]
    pub(crate) fn votes(&self) -> f64 {
        self.list.len() as f64 / (2 * self.batch).max(1) as f64
    }

    /// The sum of the terms' weights: how many terms count, where every weight is 1.
    #[must_use]
    pub(crate) fn weight(&self) -> f64 {
        self.list.iter().fold(0.0, |sum, term| sum + term.weight.re())
    }

    /// Appends which places of S have a term, first for image queries, then for caption queries. For a loss
    /// made of hinges this identifies the smooth piece.
    pub(crate) fn active_set(&self, active: &mut Vec<bool>) {
        let (start, places) = (active.len(), self.batch * self.batch);
        active.resize(start + 2 * places, false);
        for &Term { at: (i, j), right, .. } in &self.list {
            let offset = if right == i { 0 } else { places };
            active[start + offset + i * self.batch + j] = true;
        }
    }

    /// (LOSS-1): dS [B, B].
    pub fn backward(&self, d_scores: &mut Array2<T>)
    where
        T: Real,
    {
        linalg::reshape(d_scores, (self.batch, self.batch));
        d_scores.fill(T::zero());
        for &Term { at, right, weight } in &self.list {
            // (LOSS-1)  a term of weight w = ∂ℓ/∂(S_ij − d_k): dS_ij += w, dS_kk −= w
            d_scores[at] += weight;
            d_scores[[right, right]] -= weight;
        }
    }
}

/// Which negatives of a query count: all, or the hardest in one of four ways.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Violation {
    /// (SH-1): all of them.
    Sum,
    /// (MH-1): the hardest.
    Max,
    /// (KH-1): the k hardest. One is MH; B − 1 or more are SH.
    Hardest(usize),
    /// (LSE-1): all of them, the harder the more, with a temperature τ > 0. τ → 0 is MH.
    LogSumExp(f64),
    /// (SEMI-1): the hardest of those that score below the right pair.
    SemiHard,
}

impl Violation {
    /// By the settings of these names.
    pub(crate) fn of(max_violation: bool, hardest: usize, temperature: f64, semi_hard: bool) -> Self {
        match hardest {
            _ if !max_violation => Self::Sum,
            _ if semi_hard => Self::SemiHard,
            _ if temperature > 0.0 => Self::LogSumExp(temperature),
            1 => Self::Max,
            k => Self::Hardest(k),
        }
    }
}

/// The hinge loss: SH, MH, or a loss between them.
///
/// ```
/// use ndarray::{Array2, array};
/// use vsepp::loss::{HingeLoss, Negatives, Terms, Violation};
///
/// # fn main() -> vsepp::Result<()> {
/// let scores = array![[0.5, 0.6, 0.1], [0.4, 0.3, 0.35], [0.2, 0.0, 0.7]];
/// let mut terms = Terms::<f64>::default();
/// for (violation, loss, count) in [(Violation::Sum, 1.45, 5), (Violation::Max, 1.2, 4)] {
///     terms.evaluate(&HingeLoss { margin: 0.2, violation }, scores.view(), Negatives::Others)?;
///     assert!((terms.loss - loss).abs() < 1e-12);
///     assert_eq!(terms.terms().len(), count);
/// }
/// let mut d_scores = Array2::zeros((0, 0));
/// terms.backward(&mut d_scores);
/// assert_eq!(d_scores, array![[-2.0, 2.0, 0.0], [2.0, -2.0, 0.0], [0.0, 0.0, 0.0]]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HingeLoss {
    /// α
    pub margin: f64,
    /// Which negatives count.
    pub violation: Violation,
}

impl Loss for HingeLoss {
    fn forward<T: Scalar>(&self, scores: ArrayView2<'_, T>, negatives: Negatives<'_>, terms: &mut Terms<T>) {
        let (batch, margin) = (scores.nrows(), T::from_f64(self.margin));
        for query in Query::all(batch) {
            let right = scores[query.pair(query.number())];
            // (HINGE-1)  cost_s[i, j] = [α + S_ij − d_i]₊, j ≠ i
            // (HINGE-2)  cost_im[i, j] = [α + S_ij − d_j]₊, i ≠ j
            let cost = |negative| (negative, margin + scores[query.pair(negative)] - right);
            let all = negatives.of(query, batch);
            match self.violation {
                Violation::Sum => terms.add_all(query, all.map(cost)),
                Violation::Max => terms.add_hardest(query, all.map(cost)),
                Violation::Hardest(k) => terms.add_k_hardest(query, all.map(cost), k),
                Violation::LogSumExp(temperature) => terms.add_log_sum_exp(query, all.map(cost), temperature),
                Violation::SemiHard => {
                    // (SEMI-1)  ℓ_SEMI = ℓ_MH over the negatives with S_ij < d_i along rows, S_ij < d_j along columns
                    let below = |&negative: &usize| scores[query.pair(negative)].re() < right.re();
                    terms.add_hardest(query, all.filter(below).map(cost));
                }
            }
        }
    }

    fn at_collapse(&self, negatives: usize) -> f64 {
        // Every cost is α.
        match self.violation {
            _ if negatives == 0 => 0.0,
            Violation::Sum => self.margin * negatives as f64,
            Violation::Hardest(k) => self.margin * k.min(negatives) as f64,
            Violation::LogSumExp(temperature) => self.margin + temperature * libm::log(negatives as f64),
            // If all scores are equal, none is below. If they are nearly equal, some are, nearly always.
            Violation::Max | Violation::SemiHard => self.margin,
        }
    }

    fn name(&self) -> &'static str {
        match self.violation {
            Violation::Sum => "sum",
            Violation::Max => "max",
            Violation::Hardest(_) => "hardest",
            Violation::LogSumExp(_) => "log-sum-exp",
            Violation::SemiHard => "semi-hard",
        }
    }
}

/// The loss of one query, from its negatives and their costs α + S − d, negative ones too.
impl<T: Scalar> Terms<T> {
    fn add_all(&mut self, query: Query, costs: impl Iterator<Item = (usize, T)>) {
        let mut sum = T::zero();
        for (negative, cost) in costs {
            self.possible += 1;
            if cost.re() > 0.0 {
                // (SH-1)  ℓ_SH = Σ_ij cost_s[i, j] + Σ_ij cost_im[i, j]
                sum += cost;
                self.push(query, negative, T::one());
            }
        }
        self.loss += sum;
    }

    fn add_hardest(&mut self, query: Query, costs: impl Iterator<Item = (usize, T)>) {
        // (MH-1)  ℓ_MH = Σ_i max_j cost_s[i, j] + Σ_j max_i cost_im[i, j]
        // The later one only if it is strictly greater: of several equals the first is kept.
        let harder = |a: (usize, T), b: (usize, T)| if b.1.re() > a.1.re() { b } else { a };
        let Some((negative, cost)) = costs.reduce(harder) else { return };
        self.possible += 1;
        if cost.re() > 0.0 {
            self.loss += cost;
            self.push(query, negative, T::one());
        }
    }

    fn add_k_hardest(&mut self, query: Query, costs: impl Iterator<Item = (usize, T)>, k: usize) {
        let start = self.list.len();
        let mut count = 0;
        for (negative, cost) in costs {
            count += 1;
            if cost.re() > 0.0 {
                // The term has its cost as its weight for now.
                self.push(query, negative, cost);
            }
        }
        self.possible += k.min(count);
        if self.list.len() - start > k {
            let harder = |a: &Term<T>, b: &Term<T>| b.weight.re().total_cmp(&a.weight.re()).then(a.at.cmp(&b.at));
            self.list[start..].select_nth_unstable_by(k, harder);
            self.list.truncate(start + k);
            self.list[start..].sort_unstable_by_key(|term| term.at);
        }
        let mut sum = T::zero();
        for term in &mut self.list[start..] {
            // (KH-1)  ℓ_KH = Σ_i (the k greatest cost_s[i, j]) + Σ_j (the k greatest cost_im[i, j])
            sum += std::mem::replace(&mut term.weight, T::one());
        }
        self.loss += sum;
    }

    fn add_log_sum_exp(&mut self, query: Query, costs: impl Iterator<Item = (usize, T)>, temperature: f64) {
        // Far below every difference of costs that a sum keeps, but not 0 in single precision.
        let tau = T::from_f64(temperature.max(1e-30));
        let start = self.list.len();
        for (negative, cost) in costs {
            self.push(query, negative, cost);
        }
        self.possible += self.list.len() - start;
        let terms = &mut self.list[start..];
        let greatest = |a: T, b: T| if b.re() > a.re() { b } else { a };
        let Some(hardest) = terms.iter().map(|term| term.weight).reduce(greatest) else { return };
        let mut sum = T::zero();
        for term in terms.iter_mut() {
            // Less the hardest, so that no exponential overflows.
            term.weight = ((term.weight - hardest) / tau).exp();
            sum += term.weight;
        }
        // (LSE-1)  ℓ_LSE = Σ_i [τ ln Σ_j exp((α + S_ij − d_i) / τ)]₊ + Σ_j [τ ln Σ_i exp((α + S_ij − d_j) / τ)]₊, i ≠ j
        let cost = hardest + tau * sum.ln();
        if cost.re() <= 0.0 {
            self.list.truncate(start);
            return;
        }
        self.loss += cost;
        for term in terms {
            // (LSE-1′)  w = exp((α + S_ij − d_k) / τ) / Σ exp((α + S_ij − d_k) / τ) over the negatives of the query
            term.weight = term.weight / sum;
        }
    }
}

/// SH in the first epochs, then another loss (`--warmup-epochs`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WarmUp {
    loss: HingeLoss,
    epochs: usize,
    epoch: usize,
}

impl WarmUp {
    /// `epochs` epochs of SH, then `loss`.
    #[must_use]
    pub(crate) fn new(loss: HingeLoss, epochs: usize) -> Self {
        Self { loss, epochs, epoch: 0 }
    }

    /// The loss of the epoch.
    #[must_use]
    pub(crate) fn now(&self) -> HingeLoss {
        let violation = if self.epoch < self.epochs { Violation::Sum } else { self.loss.violation };
        HingeLoss { violation, ..self.loss }
    }
}

impl Loss for WarmUp {
    fn forward<T: Scalar>(&self, scores: ArrayView2<'_, T>, negatives: Negatives<'_>, terms: &mut Terms<T>) {
        self.now().forward(scores, negatives, terms);
    }

    fn at_collapse(&self, negatives: usize) -> f64 {
        self.now().at_collapse(negatives)
    }

    fn name(&self) -> &'static str {
        self.now().name()
    }

    fn set_epoch(&mut self, epoch: usize) {
        self.epoch = epoch;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;
    use ndarray::array;

    const SH: HingeLoss = HingeLoss { margin: 0.2, violation: Violation::Sum };
    const MH: HingeLoss = HingeLoss { margin: 0.2, violation: Violation::Max };

    fn terms(loss: HingeLoss, scores: &Array2<f64>, negatives: Negatives<'_>) -> Result<Terms<f64>> {
        let mut terms = Terms::default();
        terms.evaluate(&loss, scores.view(), negatives)?;
        Ok(terms)
    }

    fn run(loss: HingeLoss, scores: &Array2<f64>) -> (f64, Array2<f64>) {
        let (terms, mut d_scores) = (terms(loss, scores, Negatives::Others).unwrap(), Array2::default((0, 0)));
        terms.backward(&mut d_scores);
        (terms.loss, d_scores)
    }

    /// The worked example: also the one on the paper side of `docs/`.
    fn example() -> Array2<f64> {
        array![[0.5, 0.6, 0.1], [0.4, 0.3, 0.35], [0.2, 0.0, 0.7]]
    }

    #[test]
    fn hinge_1_hinge_2_sh_1_on_the_worked_example() {
        let (loss, d) = run(SH, &example());
        assert_abs_diff_eq!(loss, 1.45, epsilon = 1e-15);
        assert_eq!(d, array![[-2.0, 2.0, 0.0], [2.0, -3.0, 1.0], [0.0, 0.0, 0.0]]);
    }

    #[test]
    fn mh_1_loss_1_on_the_worked_example() {
        let (loss, d) = run(MH, &example());
        assert_abs_diff_eq!(loss, 1.20, epsilon = 1e-15);
        assert_eq!(d, array![[-2.0, 2.0, 0.0], [2.0, -2.0, 0.0], [0.0, 0.0, 0.0]]);
        assert_eq!(d.iter().fold(0.0, |s, x| s + x), 0.0);
    }

    /// B² scores in ±½, some of them equal.
    fn random<T: Real>(batch: usize) -> Array2<T> {
        let mut rng = crate::random::stream(batch as u64, "loss/test");
        let place = |_| T::from_f64(crate::random::below(&mut rng, 65) as f64 / 64.0 - 0.5);
        Array2::from_shape_fn((batch, batch), place)
    }

    /// The costs of a query, from the definition: the greatest first.
    fn costs(scores: &Array2<f64>, query: Query, ids: &[usize], counts: impl Fn(f64, f64) -> bool) -> Vec<f64> {
        let own = query.number();
        let right = scores[[own, own]];
        let others = (0..scores.nrows()).filter(|&other| ids[other] != ids[own]);
        let scores = others.map(|other| scores[query.pair(other)]).filter(|&score| counts(score, right));
        let mut costs: Vec<f64> = scores.map(|score| 0.2 + score - right).collect();
        costs.sort_by(|a, b| b.total_cmp(a));
        costs
    }

    /// Each loss as its equation says it, without any of the code above.
    fn defined(violation: Violation, scores: &Array2<f64>, ids: &[usize]) -> f64 {
        let positive = |costs: &[f64]| costs.iter().fold(0.0, |sum, cost| sum + cost.max(0.0));
        let of = |query| {
            let all = costs(scores, query, ids, |_, _| true);
            match violation {
                Violation::Sum => positive(&all),
                Violation::Max => positive(&all[..all.len().min(1)]),
                Violation::Hardest(k) => positive(&all[..all.len().min(k)]),
                Violation::LogSumExp(t) => {
                    let sum = all.iter().fold(0.0, |sum, cost| sum + libm::exp(cost / t));
                    positive(&[t * libm::log(sum)])
                }
                Violation::SemiHard => {
                    let below = costs(scores, query, ids, |score, right| score < right);
                    positive(&below[..below.len().min(1)])
                }
            }
        };
        Query::all(scores.nrows()).map(of).fold(0.0, |sum, part| sum + part)
    }

    #[test]
    fn kh_1_lse_1_semi_1_are_their_definitions_and_their_weights_the_derivatives() {
        let all = [
            Violation::Sum,
            Violation::Max,
            Violation::Hardest(3),
            Violation::LogSumExp(0.05),
            Violation::LogSumExp(1.0),
            Violation::SemiHard,
        ];
        for (violation, batch) in all.into_iter().flat_map(|violation| [2, 5, 16].map(|batch| (violation, batch))) {
            let scores: Array2<f64> = random(batch);
            for ids in [(0..batch).collect(), (0..batch).map(|pair| pair / 2).collect::<Vec<_>>()] {
                let found = terms(HingeLoss { margin: 0.2, violation }, &scores, Negatives::OtherImages(&ids)).unwrap();
                // Fewer than 2 · 16² terms below 2, each with a few roundings.
                assert_abs_diff_eq!(found.loss, defined(violation, &scores, &ids), epsilon = 1e-12);
                // Each query's loss is [Σ w (α + S − d)]₊ with Σ w = 1 or 0 for every hardest negative.
                let gaps = found.terms().iter().map(|t| t.weight * (scores[t.at] - scores[[t.right, t.right]]));
                let (gap, weight) = (gaps.fold(0.0, |sum, gap| sum + gap), found.weight());
                let entropy = match violation {
                    Violation::LogSumExp(t) => {
                        found.terms().iter().fold(0.0, |sum, term| sum - t * term.weight * libm::log(term.weight))
                    }
                    _ => 0.0,
                };
                assert_abs_diff_eq!(found.loss, 0.2 * weight + gap + entropy, epsilon = 1e-12);
                assert!(found.terms().len() <= found.possible);
            }
        }
    }

    #[test]
    fn kh_1_is_mh_for_one_and_sh_for_all_to_the_bit() {
        fn check<T: Real>(batch: usize) {
            let scores = random::<T>(batch);
            let ids: Vec<usize> = (0..batch).map(|pair| pair / 3).collect();
            for negatives in [Negatives::Others, Negatives::OtherImages(&ids)] {
                let of = |violation| {
                    let (mut terms, mut d_scores) = (Terms::default(), Array2::default((0, 0)));
                    terms.evaluate(&HingeLoss { margin: 0.2, violation }, scores.view(), negatives).unwrap();
                    terms.backward(&mut d_scores);
                    (terms.loss, terms.possible, terms.list, d_scores)
                };
                assert_eq!(of(Violation::Hardest(1)), of(Violation::Max));
                for k in [batch - 1, batch, usize::MAX] {
                    assert_eq!(of(Violation::Hardest(k)), of(Violation::Sum));
                }
                assert_eq!(of(Violation::Hardest(0)).0, T::zero());
            }
        }
        for batch in [2, 7, 33] {
            check::<f32>(batch);
            check::<f64>(batch);
        }
    }

    #[test]
    fn kh_1_takes_the_first_of_equally_hard_negatives() {
        let loss = HingeLoss { margin: 0.5, violation: Violation::Hardest(2) };
        let (loss, d) = run(loss, &Array2::zeros((4, 4)));
        assert_eq!(loss, 8.0);
        // Rows: 0 → 1, 2; 1 → 0, 2; 2 → 0, 1; 3 → 0, 1; columns the same.
        let expected =
            array![[-4.0, 2.0, 2.0, 1.0], [2.0, -4.0, 2.0, 1.0], [2.0, 2.0, -4.0, 0.0], [1.0, 1.0, 0.0, -4.0]];
        assert_eq!(d, expected);
    }

    #[test]
    fn lse_1_lies_between_mh_and_tau_ln_b_minus_1_above_it() {
        for batch in [2, 9, 40] {
            let scores: Array2<f64> = random(batch);
            let mh = run(MH, &scores).0;
            for t in [1e-300, 1e-9, 1e-3, 0.1, 1.0, 100.0] {
                let lse = run(HingeLoss { margin: 0.2, violation: Violation::LogSumExp(t) }, &scores).0;
                let most = 2.0 * batch as f64 * t * libm::log((batch - 1) as f64);
                assert!(mh - 1e-12 <= lse && lse <= mh + most + 1e-12, "τ = {t}: {mh}, {lse}, {most}");
            }
        }
    }

    #[test]
    fn lse_1_is_finite_for_every_temperature_and_score() {
        fn check<T: Real>(scores: [f64; 3]) {
            let [a, b, c] = scores.map(T::from_f64);
            let scores = array![[a, b, c], [b, c, a], [c, a, b]];
            for t in [f64::NAN, -1.0, 0.0, f64::MIN_POSITIVE, 1e-30, 1e-6, 1.0, 1e6] {
                let (mut terms, mut d_scores) = (Terms::default(), Array2::default((0, 0)));
                let loss = HingeLoss { margin: 0.2, violation: Violation::LogSumExp(t) };
                terms.evaluate(&loss, scores.view(), Negatives::Others).unwrap();
                terms.backward(&mut d_scores);
                assert!(terms.loss.is_finite() && d_scores.iter().all(|d| d.is_finite()), "τ = {t}: {terms:?}");
            }
        }
        for scores in [[0.5, 0.25, -1.0], [0.5, 0.5, 0.5], [1e30, -1e30, 0.0], [1e-40, 0.0, -1e-40]] {
            check::<f32>(scores);
            check::<f64>(scores);
        }
    }

    #[test]
    fn lse_1_shares_the_gradient_among_equals() {
        // Three equal negatives for each query: α + τ ln 3, a third of the weight each.
        let (loss, d) = run(HingeLoss { margin: 0.5, violation: Violation::LogSumExp(0.1) }, &Array2::zeros((4, 4)));
        assert_abs_diff_eq!(loss, 8.0 * (0.5 + 0.1 * libm::log(3.0)), epsilon = 1e-14);
        let expected = Array2::from_shape_fn((4, 4), |(i, j)| if i == j { -2.0 } else { 2.0 / 3.0 });
        assert_abs_diff_eq!(d, expected, epsilon = 1e-14);
    }

    #[test]
    fn semi_1_takes_the_hardest_below_the_right_pair() {
        // Rows: 0.6 is above 0.5, so that 0.1 is the hardest; 0.4 and 0.35 are above 0.3; 0.2 costs less than 0.
        // Columns: the greatest below 0.5 is 0.4; below 0.3 it is 0; below 0.7 it is 0.35.
        let (loss, d) = run(HingeLoss { margin: 0.45, violation: Violation::SemiHard }, &example());
        assert_abs_diff_eq!(loss, 0.05 + 0.35 + 0.15 + 0.1, epsilon = 1e-15);
        assert_eq!(d, array![[-2.0, 0.0, 1.0], [1.0, -1.0, 1.0], [0.0, 1.0, -1.0]]);
        // One that scores as high is not below.
        let equal = array![[0.5, 0.5], [0.5, 0.5]];
        assert_eq!(
            run(HingeLoss { margin: 0.2, violation: Violation::SemiHard }, &equal),
            (0.0, Array2::zeros((2, 2)))
        );
    }

    #[test]
    #[should_panic(expected = "Caption(2), negative 3: expected numbers below B = 3")]
    fn a_term_is_of_the_batch() {
        let mut terms = terms(SH, &example(), Negatives::Others).unwrap();
        terms.push(Query::Caption(2), 3, 1.0);
    }

    #[test]
    fn a_query_is_active_if_it_has_a_term_whatever_the_loss() {
        // Rows: 1, 2 and no hinge above 0; columns: 1, 1 and none.
        for (loss, terms_of_all) in [(SH, 5.0), (MH, 4.0)] {
            let found = terms(loss, &example(), Negatives::Others).unwrap();
            assert_eq!((found.active_share(), found.votes()), (4.0 / 6.0, terms_of_all / 6.0));
        }
        assert_eq!(terms(SH, &array![[0.3]], Negatives::Others).unwrap().active_share(), 0.0);
    }

    #[test]
    fn one_pair_has_neither_loss_nor_gradient() {
        for violation in [Violation::Hardest(2), Violation::LogSumExp(0.1), Violation::SemiHard] {
            assert_eq!(run(HingeLoss { violation, ..MH }, &array![[0.3]]), (0.0, array![[0.0]]));
        }
        for loss in [SH, MH] {
            assert_eq!(run(loss, &array![[0.3]]), (0.0, array![[0.0]]));
        }
    }

    #[test]
    fn a_hinge_at_exactly_zero_has_no_gradient() {
        // α = ¼ and quarters: α + S − d is exactly 0.
        for violation in [Violation::Sum, Violation::Max] {
            let (loss, d) = run(HingeLoss { margin: 0.25, violation }, &array![[0.75, 0.5], [0.5, 0.75]]);
            assert_eq!((loss, d), (0.0, Array2::zeros((2, 2))));
        }
    }

    #[test]
    fn of_equally_hard_negatives_the_first_takes_the_whole_gradient() {
        let (loss, d) = run(HingeLoss { margin: 0.5, violation: Violation::Max }, &Array2::zeros((3, 3)));
        assert_eq!(loss, 3.0);
        // Rows: 0 → 1, 1 → 0, 2 → 0; columns the same.
        assert_eq!(d, array![[-2.0, 2.0, 1.0], [2.0, -2.0, 0.0], [1.0, 0.0, -2.0]]);
    }

    #[test]
    fn collapse_has_the_known_values() {
        // All scores equal: MH = 2Bα, SH = 2B(B − 1)α.
        let scores = Array2::<f64>::from_elem((128, 128), 1.0);
        assert_abs_diff_eq!(run(MH, &scores).0, 51.2, epsilon = 1e-10);
        assert_abs_diff_eq!(run(SH, &scores).0, 6502.4, epsilon = 1e-8);
        let others = [Violation::Hardest(5), Violation::LogSumExp(0.1)].map(|violation| HingeLoss { violation, ..MH });
        for loss in [MH, SH].into_iter().chain(others) {
            assert_abs_diff_eq!(run(loss, &scores).0, at_collapse(&loss, Negatives::Others, 128), epsilon = 1e-8);
            let ids: Vec<usize> = (0..128).map(|pair| pair / 3).collect();
            let masked = terms(loss, &scores, Negatives::OtherImages(&ids)).unwrap().loss;
            assert_abs_diff_eq!(masked, at_collapse(&loss, Negatives::OtherImages(&ids), 128), epsilon = 1e-8);
            assert_eq!(at_collapse(&loss, Negatives::Others, 1), 0.0);
        }
    }

    #[test]
    fn captions_of_one_image_can_be_left_out() {
        let ids = [7, 7, 9];
        let terms = terms(SH, &example(), Negatives::OtherImages(&ids)).unwrap();
        assert!(terms.terms().iter().all(|term| ids[term.at.0] != ids[term.at.1]));
        assert_eq!(terms.possible, 8);
        // What is left: cost_s[1,2] = .25. In cost_im, S_12 − d_2 + α < 0, and S_02, S_20, S_21 < 0.
        assert_abs_diff_eq!(terms.loss, 0.25, epsilon = 1e-15);
    }

    #[test]
    fn the_negatives_that_are_drawn_are_a_function_of_seed_and_step_and_as_likely_as_each_other() {
        let drawn = |batch, size, seed, step| {
            let mut chosen = Chosen::default();
            chosen.choose(batch, Some(Sample { size, seed, step }), |_, _| true);
            chosen
        };
        assert_eq!(drawn(8, 3, 1, 2), drawn(8, 3, 1, 2));
        for other in [drawn(8, 3, 0, 2), drawn(8, 3, 1, 3)] {
            assert_ne!(drawn(8, 3, 1, 2), other);
        }
        let pinned = drawn(6, 2, 0, 0);
        let of = |query| Negatives::Chosen(&pinned).of(query, 6).collect::<Vec<_>>();
        assert_eq!(
            [of(Query::Image(0)), of(Query::Caption(0)), of(Query::Image(5))],
            [[3, 4], [3, 5], [2, 3]],
            "pinned"
        );
        // M of B − 1 for each of 16 queries, in 1,000 steps: each other pair 3/7 of the time, to five deviations.
        let mut counts = Array2::<f64>::zeros((8, 8));
        for step in 0..1000 {
            let chosen = drawn(8, 3, 7, step);
            for query in Query::all(8) {
                assert_eq!(Negatives::Chosen(&chosen).of(query, 8).count(), 3);
                Negatives::Chosen(&chosen).of(query, 8).for_each(|other| counts[query.pair(other)] += 1.0);
            }
        }
        let (mean, deviation) = (2000.0 * 3.0 / 7.0, (2000.0 * 3.0 / 7.0 * 4.0 / 7.0f64).sqrt());
        for ((i, j), count) in counts.indexed_iter() {
            assert!(if i == j { *count == 0.0 } else { (count - mean).abs() < 5.0 * deviation }, "{counts}");
        }
    }

    #[test]
    fn as_many_drawn_as_there_are_is_all_to_the_bit_and_masks_come_first() {
        let scores: Array2<f64> = random(9);
        let ids: Vec<usize> = (0..9).map(|pair| pair / 3).collect();
        let all =
            [Violation::Sum, Violation::Max, Violation::Hardest(2), Violation::LogSumExp(0.1), Violation::SemiHard];
        for violation in all {
            let of = |negatives: Negatives<'_>| {
                let terms = terms(HingeLoss { margin: 0.2, violation }, &scores, negatives).unwrap();
                (terms.loss, terms.possible, terms.list)
            };
            for size in [8, 9, 1000] {
                let mut chosen = Chosen::default();
                let sample = Some(Sample { size, seed: 0, step: 0 });
                chosen.choose(9, sample, |_, _| true);
                assert_eq!(of(Negatives::Chosen(&chosen)), of(Negatives::Others));
                chosen.choose(9, sample, |i, j| ids[i] != ids[j]);
                assert_eq!(of(Negatives::Chosen(&chosen)), of(Negatives::OtherImages(&ids)));
            }
        }
        // Six of another image are left for each query: five of them are drawn.
        let mut chosen = Chosen::default();
        chosen.choose(9, Some(Sample { size: 5, seed: 0, step: 0 }), |i, j| ids[i] != ids[j]);
        for query in Query::all(9) {
            let found: Vec<usize> = Negatives::Chosen(&chosen).of(query, 9).collect();
            assert!(found.len() == 5 && found.iter().all(|&other| ids[other] != ids[query.number()]), "{found:?}");
        }
        let stationary = at_collapse(&MH, Negatives::Chosen(&chosen), 9);
        assert_abs_diff_eq!(stationary, 18.0 * 0.2, epsilon = 1e-12);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let message = |scores: Array2<f64>, negatives| terms(SH, &scores, negatives).unwrap_err().to_string();
        assert!(message(Array2::zeros((2, 3)), Negatives::Others).contains("[2, 3]"));
        assert!(message(array![[0.0, f64::NAN], [0.0, 0.0]], Negatives::Others).contains("[0, 1]"));
        let few = message(Array2::zeros((2, 2)), Negatives::OtherImages(&[1]));
        assert_eq!(few, "image_ids: expected [B = 2], found [1]");
        let marks = |rows, columns| Array2::from_elem((rows, columns), false);
        let chosen = Chosen::new(marks(3, 3), marks(3, 3)).unwrap();
        let other = message(Array2::zeros((2, 2)), Negatives::Chosen(&chosen));
        assert_eq!(other, "negatives: expected [B, B] with B = 2, found [3, 3]");
        let wrong = |of_captions| Chosen::new(marks(2, 2), of_captions).unwrap_err().to_string();
        assert_eq!(wrong(marks(2, 3)), "of_captions: expected [B, B] with B = 2, found [2, 3]");
        let marked = array![[false, true], [true, true]];
        assert_eq!(wrong(marked), "of_captions: expected no right pair, found [1, 1] marked");
    }
}
