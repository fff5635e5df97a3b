//! Captions and images for the benchmarks: from a file, or drawn with a fixed seed.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use ndarray::{Array2, Array4};
use ndarray_rand::rand::RngCore;

use super::SEED;
use crate::data::Vocabulary;
use crate::error::{Error, Result};
use crate::escape;
use crate::files::read_text;
use crate::model::{Architecture, Batch};
use crate::random::{permutation, stream};
use crate::real::Real;

/// The first id of an ordinary word, after `<pad>`, `<start>`, `<end>` and `<unk>`.
const FIRST_WORD: u32 = Vocabulary::UNKNOWN + 1;

/// The source of captions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Captions {
    /// Drawn by [`made_up`].
    #[default]
    MadeUp,
    /// A file with one caption per line.
    File(PathBuf),
}

impl fmt::Display for Captions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MadeUp => f.write_str("made up"),
            Self::File(path) => f.write_str(&escape::path(path)),
        }
    }
}

impl Captions {
    /// `number` captions as ids below V, `<start>` … `<end>`, always the same ones. From a file they are
    /// drawn without repetition; its V − 4 most frequent words get an id.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read or has too few captions.
    pub(crate) fn draw(&self, vocabulary: usize, number: usize) -> Result<Vec<Vec<u32>>> {
        match self {
            Self::MadeUp => Ok(made_up(vocabulary, number)),
            Self::File(path) => {
                let text = read(path)?;
                encode(&text, vocabulary, number).map_err(|found| {
                    Error::file(path, format!("expected at least {number} captions, one per line, found {found}"))
                })
            }
        }
    }

    /// The number of captions; `None` means any number.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read.
    pub(crate) fn available(&self) -> Result<Option<usize>> {
        match self {
            Self::MadeUp => Ok(None),
            Self::File(path) => Ok(Some(lines(&read(path)?).len())),
        }
    }
}

fn read(path: &Path) -> Result<String> {
    /// The same limit as for a data set.
    const MOST: u64 = 1 << 32;
    read_text(path, MOST).map(|text| text.to_lowercase())
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.trim().is_empty()).collect()
}

/// Splits at white space: a benchmark needs the lengths, the repetitions and the shared beginnings of real
/// sentences, not the tokenizer. If there are too few lines, the error is their number.
fn encode(text: &str, vocabulary: usize, number: usize) -> std::result::Result<Vec<Vec<u32>>, usize> {
    let lines = lines(text);
    if lines.len() < number {
        return Err(lines.len());
    }
    let mut counts = HashMap::new();
    for word in text.split_whitespace() {
        *counts.entry(word).or_insert(0usize) += 1;
    }
    let mut words: Vec<(&str, usize)> = counts.into_iter().collect();
    words.sort_unstable_by_key(|&(word, count)| (std::cmp::Reverse(count), word));
    words.truncate(vocabulary.saturating_sub(FIRST_WORD as usize));
    let rank: HashMap<&str, usize> = words.iter().enumerate().map(|(rank, &(word, _))| (word, rank)).collect();

    let order = permutation(&mut stream(SEED, "bench/captions"), lines.len());
    let ranks = |line: &str| enclose(line.split_whitespace().map(|word| rank.get(word).copied().unwrap_or(usize::MAX)));
    Ok(order[..number].iter().map(|&line| ranks(lines[line])).collect())
}

/// `<start>`, the words by rank (`<unk>` for a word without a rank), `<end>`.
fn enclose(ranks: impl Iterator<Item = usize>) -> Vec<u32> {
    let word = |rank| u32::try_from(rank).ok().and_then(|rank| FIRST_WORD.checked_add(rank));
    let words = ranks.map(|rank| word(rank).unwrap_or(Vocabulary::UNKNOWN));
    std::iter::once(Vocabulary::START).chain(words).chain([Vocabulary::END]).collect()
}

/// Sentences with the lengths of MS-COCO captions, and words that follow Zipf's law.
///
/// Two thirds of the sentences begin with the same word, like COCO's "a", so that beginnings are shared.
///
/// # Panics
///
/// Panics if V leaves no word besides the four special ones.
#[must_use]
pub(crate) fn made_up(vocabulary: usize, number: usize) -> Vec<Vec<u32>> {
    /// The number of words in the shortest caption, and how many captions in a thousand have this length,
    /// one word more, …
    const SHORTEST: usize = 7;
    const LENGTHS: [f64; 15] = [8., 162., 226., 217., 150., 97., 59., 34., 18., 10., 7., 4., 3., 2., 3.];
    let words = vocabulary.saturating_sub(FIRST_WORD as usize);
    assert!(words > 0, "V = {vocabulary}: expected at least one word besides the special ones");
    let (lengths, first, later) =
        (Weighted::new(LENGTHS.into_iter()), Weighted::zipf(words, 2.1), Weighted::zipf(words, 1.05));
    let mut rng = stream(SEED, "bench/captions");
    let caption = |_| {
        let length = SHORTEST + lengths.draw(&mut rng);
        let words: Vec<usize> =
            (0..length).map(|i| if i == 0 { first.draw(&mut rng) } else { later.draw(&mut rng) }).collect();
        enclose(words.into_iter())
    };
    (0..number).map(caption).collect()
}

/// Draws the numbers 0, 1, … with given weights; it holds the running sums.
struct Weighted(Vec<f64>);

impl Weighted {
    fn new(weights: impl Iterator<Item = f64>) -> Self {
        let running = weights.scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self(running.collect())
    }

    /// The word of rank k (from 1) has weight k^−s.
    fn zipf(words: usize, s: f64) -> Self {
        Self::new((1..=words).map(|rank| (rank as f64).powf(-s)))
    }

    fn draw(&self, rng: &mut impl RngCore) -> usize {
        let at = uniform(rng) * self.0.last().copied().unwrap_or(0.0);
        self.0.partition_point(|&sum| sum <= at)
    }
}

/// U(0, 1) with 24 bits, exact in an `f32`.
pub(super) fn uniform(rng: &mut impl RngCore) -> f64 {
    f64::from(rng.next_u32() >> 8) / f64::from(1 << 24)
}

/// A batch of these captions. Every pair has its own image, with features drawn from U(0, 1), as after a
/// rectifier; or, for an encoder, its own picture, with numbers drawn from U(−2, 2), as after its normalisation.
#[must_use]
pub(crate) fn batch<T: Real>(architecture: &Architecture, captions: Vec<Vec<u32>>) -> Batch<T> {
    let mut rng = stream(SEED, "bench/images");
    let pairs = captions.len();
    let images = if let Some(side) = architecture.encoder.map(|network| network.side()) {
        Array4::from_shape_simple_fn((pairs, 3, side, side), || T::from_f64(4.0 * uniform(&mut rng) - 2.0)).into()
    } else {
        Array2::from_shape_simple_fn((pairs, architecture.img_dim), || T::from_f64(uniform(&mut rng))).into()
    };
    Batch { images, image_ids: (0..pairs).collect(), captions }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_its_frequent_words_the_low_ids() {
        // "a" occurs six times, "dog" twice, "cat" and "runs" once. With V = 7 only "cat" fits, by alphabet.
        let text = "a dog a\n\n  a cat \na dog runs\na a\n";
        let captions = encode(text, 7, 4).unwrap();
        let mut sorted = captions.clone();
        sorted.sort();
        assert_eq!(sorted, [vec![1, 4, 4, 2], vec![1, 4, 5, 3, 2], vec![1, 4, 5, 4, 2], vec![1, 4, 6, 2]]);
        assert_eq!(encode(text, 7, 2).unwrap(), captions[..2], "the same ones every time");
        assert_eq!(encode(text, 7, 5), Err(4));
    }

    #[test]
    fn errors_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("caps.txt");
        let captions = Captions::File(path.clone());
        let message = captions.draw(10, 1).unwrap_err().to_string();
        assert!(message.starts_with(&format!("{}: cannot read", path.display())), "{message}");
        std::fs::write(&path, "A dog.\n\nA cat.\n").unwrap();
        let message = captions.draw(10, 3).unwrap_err().to_string();
        assert_eq!(message, format!("{}: expected at least 3 captions, one per line, found 2", path.display()));
        assert_eq!((captions.available().unwrap(), Captions::MadeUp.available().unwrap()), (Some(2), None));
        assert_eq!(captions.draw(10, 2).unwrap().len(), 2);
    }

    #[test]
    fn made_up_sentences_resemble_coco() {
        let captions = made_up(11_755, 5000);
        assert_eq!(captions[..7], made_up(11_755, 7), "the same ones every time");
        let words = |caption: &Vec<u32>| caption.len() - 2;
        assert!(captions.iter().all(|c| (7..22).contains(&words(c)) && c[0] == 1 && c[c.len() - 1] == 2));
        assert!(captions.iter().flatten().all(|&word| (1..11_755).contains(&word) && word != 3));
        let mean = captions.iter().map(words).sum::<usize>() as f64 / 5000.0;
        assert!((10.0..11.0).contains(&mean), "COCO: 10.5 words, found {mean}");
        let first = captions.iter().filter(|c| c[1] == FIRST_WORD).count() as f64 / 5000.0;
        assert!((0.6..0.7).contains(&first), "two in three begin with the same word, found {first}");
    }
}
