//! A loss as a function of the scores.

use ndarray::Array2;

use super::{Blocks, Problem, named, numbers};
use crate::error::Result;
use crate::loss::{HingeLoss, Loss, Negatives, Terms, Violation};
use crate::real::Scalar;

/// A loss as a function of the scores of B pairs. It may be piecewise linear, as SH and MH are.
///
/// ```
/// use vsepp::gradcheck::{LossProblem, check};
/// use vsepp::loss::{HingeLoss, Violation};
///
/// # fn main() -> vsepp::Result<()> {
/// let loss = HingeLoss { margin: 0.2, violation: Violation::Max };
/// assert!(check(&LossProblem::new("MH", loss, 5))?.passed);
/// # Ok(())
/// # }
/// ```
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

/// SH, MH and what lies between them.
pub(super) const VIOLATIONS: [Violation; 5] =
    [Violation::Sum, Violation::Max, Violation::Hardest(2), Violation::LogSumExp(0.1), Violation::SemiHard];

/// A loss with margin 0.3, with or without a mask.
pub(super) fn hinges(violation: Violation, mask: bool) -> LossProblem<HingeLoss> {
    let name = match violation {
        Violation::Sum => "sum of hinges".to_owned(),
        Violation::Max => "max of hinges".to_owned(),
        Violation::Hardest(k) => format!("{k} hardest hinges"),
        Violation::LogSumExp(temperature) => format!("log-sum-exp of hinges, temperature {temperature}"),
        Violation::SemiHard => "semi-hard hinges".to_owned(),
    };
    let loss = HingeLoss { margin: 0.3, violation };
    if mask {
        LossProblem::new(&format!("{name}, same images masked"), loss, 6).with_image_ids(vec![0, 1, 0, 2, 3, 1])
    } else {
        LossProblem::new(&name, loss, 6)
    }
}
