//! Images and captions as a model reads them.

use super::split::Split;
use super::vocabulary::Vocabulary;
use crate::error::{Error, Result};

/// A split with its captions as token ids: M pairs of an image and a caption.
///
/// ```
/// use ndarray::array;
/// use vsepp::data::{Pairs, Split, Vocabulary};
///
/// # fn main() -> vsepp::Result<()> {
/// let split = Split::new("dev", array![[0.1], [0.8]], vec!["a dog".into(), "a cat".into()])?;
/// let vocabulary = Vocabulary::build(split.captions(), 1);
/// let pairs = Pairs::encode(split.clone(), &vocabulary)?;
/// assert_eq!(pairs.ids(), [[1, 4, 5, 2], [1, 4, 6, 2]]);
///
/// let error = Pairs::new(split, vec![vec![1, 4, 5, 2]]).unwrap_err();
/// assert_eq!(error.to_string(), "dev: expected the ids of its 2 captions, found those of 1");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Pairs {
    pub(crate) split: Split,
    /// `[M]`, in the order of the split's captions.
    pub(crate) ids: Vec<Vec<u32>>,
}

impl Pairs {
    /// A split and the ids of its captions.
    ///
    /// # Errors
    ///
    /// If there is no caption, if there are not as many lists of ids as captions, or if a list is empty.
    pub fn new(split: Split, ids: Vec<Vec<u32>>) -> Result<Self> {
        let (name, captions) = (&split.name, split.captions.len());
        if captions == 0 {
            return Err(Error::mismatch(format!("{name}: expected at least one caption, found none")));
        }
        if ids.len() != captions {
            let problem = format!("{name}: expected the ids of its {captions} captions, found those of {}", ids.len());
            return Err(Error::mismatch(problem));
        }
        if let Some(caption) = ids.iter().position(Vec::is_empty) {
            let problem = format!("{name}: caption {caption}: expected at least one token, found none");
            return Err(Error::mismatch(problem));
        }
        Ok(Self { split, ids })
    }

    /// Encodes the captions of a split.
    ///
    /// # Errors
    ///
    /// If there is no caption.
    pub fn encode(split: Split, vocabulary: &Vocabulary) -> Result<Self> {
        let ids = vocabulary.encode_all(&split.captions).captions;
        Self::new(split, ids)
    }

    /// The images, and the captions as text.
    #[must_use]
    pub fn split(&self) -> &Split {
        &self.split
    }

    /// The captions' token ids, `[M]`.
    #[must_use]
    pub fn ids(&self) -> &[Vec<u32>] {
        &self.ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    #[test]
    fn every_caption_has_ids() {
        let captions: Vec<String> = ["a dog", "a cat", "two dogs", "no cat"].map(Into::into).into();
        let vocabulary = Vocabulary::build(&captions, 1);
        let split = Split::new("dev", array![[1.0], [2.0]], captions).unwrap();
        let pairs = Pairs::encode(split.clone(), &vocabulary).unwrap();
        assert_eq!((pairs.ids().len(), pairs.split().captions()), (4, split.captions()));
        let ids = pairs.ids().to_vec();
        assert_eq!(Pairs::new(split.clone(), ids.clone()).unwrap().ids, ids);
        let message = |ids: &[Vec<u32>]| Pairs::new(split.clone(), ids.to_vec()).unwrap_err().to_string();
        assert_eq!(message(&ids[..3]), "dev: expected the ids of its 4 captions, found those of 3");
        assert_eq!(
            message(&[&ids[..], &ids[..1]].concat()),
            "dev: expected the ids of its 4 captions, found those of 5"
        );
        let without = [ids[0].clone(), ids[1].clone(), vec![], ids[3].clone()];
        assert_eq!(message(&without), "dev: caption 2: expected at least one token, found none");
        let mut none = split.clone();
        (none.captions, none.images) = (Vec::new(), Array2::zeros((0, 1)).into());
        let message = Pairs::encode(none, &vocabulary).unwrap_err().to_string();
        assert_eq!(message, "dev: expected at least one caption, found none");
    }
}
