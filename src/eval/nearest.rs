//! Search: the k best candidates for a query.

use ndarray::{ArrayView1, ArrayView2, Axis};

use crate::error::{Error, ErrorKind, Result};
use crate::similarity::Measure;

/// A query and its side.
#[derive(Clone, Copy, Debug)]
pub enum Query<'a> {
    /// An image `[D]` that looks for captions.
    Image(ArrayView1<'a, f32>),
    /// A caption `[D]` that looks for images.
    Caption(ArrayView1<'a, f32>),
}

/// The k best candidates [N, D] and their scores, best first. Among equal scores the lower index comes
/// first, as in (RANK-3).
///
/// ```
/// use ndarray::array;
/// use vsepp::eval::{Query, nearest};
/// use vsepp::similarity::Measure;
///
/// # fn main() -> vsepp::Result<()> {
/// let images = array![[0.0, 1.0], [1.0, 0.0], [0.6, 0.8]];
/// let caption = array![1.0, 0.0];
/// let best = nearest(Query::Caption(caption.view()), images.view(), Measure::Cosine, 2)?;
/// assert_eq!(best, [(1, 1.0), (2, 0.6)]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Fails if the dimensions differ, or if a score is not finite.
pub fn nearest(
    query: Query<'_>,
    candidates: ArrayView2<'_, f32>,
    measure: Measure,
    k: usize,
) -> Result<Vec<(usize, f32)>> {
    let (Query::Image(vector) | Query::Caption(vector)) = query;
    if vector.len() != candidates.ncols() {
        let expected = format!("[N, D = {}], the dimension of the query", vector.len());
        return Err(Error::shape("candidates", expected, candidates.shape()));
    }
    let vector = vector.insert_axis(Axis(0));
    let scores = match query {
        Query::Image(_) => measure.scores(vector, candidates),
        Query::Caption(_) => measure.scores(candidates, vector),
    };
    if let Some((index, score)) = scores.iter().enumerate().find(|(_, score)| !score.is_finite()) {
        let value = f64::from(*score);
        return Err(ErrorKind::NotFinite { tensor: "score of candidate".into(), index: vec![index], value }.into());
    }
    let mut ranked: Vec<(usize, f32)> = scores.iter().copied().enumerate().collect();
    let before = |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if k < ranked.len() && k > 0 {
        ranked.select_nth_unstable_by(k - 1, before);
    }
    ranked.truncate(k);
    ranked.sort_unstable_by(before);
    Ok(ranked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn the_best_come_first_and_among_equals_the_lower_index() {
        let candidates = array![[0.0f32, 1.0], [1.0, 0.0], [0.5, 0.5], [1.0, 0.0]];
        let query = array![1.0f32, 0.0];
        let found = nearest(Query::Caption(query.view()), candidates.view(), Measure::Cosine, 3).unwrap();
        assert_eq!(found, [(1, 1.0), (3, 1.0), (2, 0.5)]);
        assert_eq!(nearest(Query::Caption(query.view()), candidates.view(), Measure::Cosine, 9).unwrap().len(), 4);
        assert!(nearest(Query::Caption(query.view()), candidates.view(), Measure::Cosine, 0).unwrap().is_empty());
    }

    #[test]
    fn order_knows_which_side_is_the_image() {
        // The image (1, 1) is above the caption (0, 0): no violation. Exchanged, there is one.
        let (one, zero) = (array![1.0f32, 1.0], array![[0.0f32, 0.0]]);
        let as_image = nearest(Query::Image(one.view()), zero.view(), Measure::Order, 1).unwrap();
        let as_caption = nearest(Query::Caption(one.view()), zero.view(), Measure::Order, 1).unwrap();
        assert_eq!(as_image[0].1, 0.0);
        assert!(as_caption[0].1 < -1.0);
    }
}
