//! What a trained model does: encode captions, embed a split, evaluate, search.

use std::path::{Path, PathBuf};

use ndarray::{Array2, ArrayView1, ArrayView2};

use super::checkpoint::Checkpoint;
use super::embed::{embed_images, encode_split_ten};
use super::run_folder::{RunFolder, Which};
use super::training_data::{crops_of, source_of};
use crate::data::{ImageStore, PictureFiles, Source, Split, Vocabulary};
use crate::error::{Error, Result};
use crate::eval::{Chance, Evaluation, Query, evaluate_folds, nearest};
use crate::model::{Images, Vse};
use crate::similarity::Measure;

/// A trained model with its vocabulary.
///
/// ```
/// use vsepp::train::Trained;
/// # use std::sync::atomic::AtomicBool;
/// # use vsepp::data::{Pairs, ScenesConfig, Source, Vocabulary};
/// # use vsepp::model::Config;
/// # use vsepp::train::{Ignore, Run, Trainer, TrainingData};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("scenes-1");
/// # let scenes = Source::Scenes(ScenesConfig { train: 20, dev: 5, test: 6, ..ScenesConfig::default() });
/// # let [train, dev, test] = scenes.splits(["train", "dev", "test"])?;
/// # let vocabulary = Vocabulary::build(train.captions(), 1);
/// # let config = Config { embed_size: 8, word_dim: 4, num_epochs: 1, ..Config::default() }.check()?;
/// # let mut trainer = Trainer::new(config.clone(), &vocabulary, train.img_dim()?)?;
/// # let data = TrainingData { train: Pairs::encode(train, &vocabulary)?, dev: Pairs::encode(dev, &vocabulary)? };
/// # let run = Run::create(&path, false)?;
/// # run.begin(&config, &vocabulary)?;
/// # trainer.run(&data, Some(&run), &mut Ignore, &AtomicBool::new(false))?;
/// // The folder of a run, as `vsepp train` leaves it, and a split to search.
/// let trained = Trained::open(&path)?;
/// let embedded = trained.embed_split(test)?;
/// assert!(embedded.evaluate(1)?.rsum > 0.0);
///
/// let query = trained.embed_captions(&["a red circle"])?;
/// let best = embedded.search_images(query.row(0), 5)?;
/// assert_eq!(best.len(), 5);
/// assert!(best[0].1 >= best[4].1, "each image with its score, the best first");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Trained {
    /// The model.
    pub(crate) model: Vse<f32>,
    /// The vocabulary that it was trained with.
    pub(crate) vocabulary: Vocabulary,
    /// What its checkpoint says: settings, progress, best score.
    pub(crate) checkpoint: Checkpoint,
}

impl Trained {
    /// The best model of a run.
    ///
    /// # Errors
    ///
    /// As [`Self::of_run`].
    pub fn open(run: &Path) -> Result<Self> {
        Self::of_run(&RunFolder::at(run), Which::Best)
    }

    /// A model of a run.
    ///
    /// # Errors
    ///
    /// As [`RunFolder::load`] and [`RunFolder::read_config`].
    pub(crate) fn of_run(run: &RunFolder, which: Which) -> Result<Self> {
        let (model, checkpoint, vocabulary) = run.load(which)?;
        Self { model, vocabulary, checkpoint }.with_data_of(run)
    }

    /// A model from elsewhere, with the vocabulary and the data of a run.
    ///
    /// # Errors
    ///
    /// If the model was trained with another vocabulary, or as [`RunFolder::read_config`].
    pub(crate) fn with_run(model: Vse<f32>, checkpoint: Checkpoint, run: &RunFolder) -> Result<Self> {
        let vocabulary = run.read_vocabulary()?;
        checkpoint.check_vocabulary(&vocabulary, &run.vocabulary())?;
        Self { model, vocabulary, checkpoint }.with_data_of(run)
    }

    /// Takes the place of the data from the run's settings: the data may have been moved since the checkpoint.
    fn with_data_of(mut self, run: &RunFolder) -> Result<Self> {
        let config = run.read_config()?;
        (self.checkpoint.config.data, self.checkpoint.config.images) = (config.data, config.images);
        Ok(self)
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Vse<f32> {
        &self.model
    }

    /// The vocabulary that it was trained with.
    #[must_use]
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// How images and captions are compared.
    #[must_use]
    pub(crate) fn measure(&self) -> Measure {
        self.model.architecture.measure
    }

    /// Other data and pictures, or those that the run was trained on. A model with an encoder can be given feature
    /// vectors, too: a folder of data and no pictures.
    #[must_use]
    pub(crate) fn source(&self, data: Option<PathBuf>, images: Option<PathBuf>) -> Source {
        let mut config = self.checkpoint.config.clone();
        if data.is_some() || images.is_some() {
            config.images = images.or(config.images.filter(|_| data.as_ref().is_some_and(|data| data.is_file())));
            config.data = data.or(config.data);
        }
        source_of(&config)
    }

    /// The joint embedding `[D]` of the centre of a picture, [1, D].
    ///
    /// # Errors
    ///
    /// If the model has no image encoder, if the picture cannot be read, or if its features are zero or not finite.
    pub fn embed_picture(&self, picture: &Path) -> Result<Array2<f32>> {
        if self.model.architecture.encoder.is_none() {
            let problem =
                "the run has no image encoder: it was trained on feature vectors, expected the row of an image";
            return Err(Error::file(picture, problem));
        }
        let pictures = PictureFiles::new(vec![picture.into()], crops_of(&self.checkpoint.config))?;
        let mut images = Images::default();
        pictures.fill(&[0], None, &mut images)?;
        self.model.embed(&images)
    }

    /// The ids of a query, and its words that are not in the vocabulary.
    ///
    /// # Errors
    ///
    /// If the query has no word, or no word that is in the vocabulary.
    pub(crate) fn encode_query(&self, sentence: &str) -> Result<(Vec<u32>, Vec<String>)> {
        let (ids, unknown) = self.vocabulary.encode(sentence);
        if ids.len() <= 2 {
            return Err(Error::mismatch("the sentence is empty: expected at least one word"));
        }
        if unknown.len() >= ids.len() - 2 {
            let problem = format!("the run's vocabulary has none of these words: {}", unknown.join(", "));
            return Err(Error::mismatch(problem));
        }
        Ok((ids, unknown))
    }

    /// Joint embeddings [N, D] of sentences.
    ///
    /// # Errors
    ///
    /// As [`Self::encode_query`] for each sentence, or as [`Vse::embed_captions`].
    pub fn embed_captions(&self, sentences: &[impl AsRef<str>]) -> Result<Array2<f32>> {
        let encode = |sentence: &_| self.encode_query(AsRef::as_ref(sentence)).map(|(ids, _)| ids);
        let ids: Vec<Vec<u32>> = sentences.iter().map(encode).collect::<Result<_>>()?;
        self.model.embed_captions(&ids)
    }

    /// Joint embeddings [N, D] of image features [N, F].
    ///
    /// # Errors
    ///
    /// As [`Vse::embed_images`].
    pub fn embed_images(&self, features: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        self.model.embed_images(features)
    }

    /// A split of pictures as the features that the model's encoder gives for ten crops of each. After each picture
    /// `progress` gets how many are done.
    ///
    /// # Errors
    ///
    /// As [`encode_split_ten`].
    pub(crate) fn encode_ten(&self, split: Split, progress: impl FnMut(usize)) -> Result<Split> {
        encode_split_ten(&self.model, split, progress)
    }

    /// Joint embeddings of a split.
    ///
    /// # Errors
    ///
    /// As [`Vse::embed_images`] and [`Vse::embed_captions`].
    pub fn embed_split(&self, split: Split) -> Result<Embedded> {
        let encoded = self.vocabulary.encode_all(&split.captions);
        let images = embed_images(&self.model, &split)?;
        let captions = self.model.embed_captions(&encoded.captions)?;
        let unknown_share = encoded.unknown as f64 / encoded.words.max(1) as f64;
        Ok(Embedded { split, images, captions, measure: self.measure(), unknown_share })
    }
}

/// Joint embeddings of a split.
#[derive(Clone, Debug)]
pub struct Embedded {
    /// The split.
    pub(crate) split: Split,
    /// [N, D]
    pub(crate) images: Array2<f32>,
    /// [M, D]
    pub(crate) captions: Array2<f32>,
    /// How they are compared.
    pub(crate) measure: Measure,
    /// The share of the captions' words that are not in the vocabulary.
    pub(crate) unknown_share: f64,
}

impl Embedded {
    /// f [N, D].
    #[must_use]
    pub fn images(&self) -> ArrayView2<'_, f32> {
        self.images.view()
    }

    /// g [M, D].
    #[must_use]
    pub fn captions(&self) -> ArrayView2<'_, f32> {
        self.captions.view()
    }

    /// R@K and ranks, as a mean over equal parts of the images.
    ///
    /// # Errors
    ///
    /// As [`evaluate_folds`].
    pub fn evaluate(&self, folds: usize) -> Result<Evaluation> {
        evaluate_folds(self.images.view(), self.captions.view(), self.split.starts(), self.measure, folds)
    }

    /// The rsum of random scores.
    #[must_use]
    pub(crate) fn chance(&self, folds: usize) -> Chance {
        Chance::of(self.split.starts(), folds)
    }

    /// The images nearest to a caption's embedding `[D]`, each with its score, the best first.
    ///
    /// # Errors
    ///
    /// As [`nearest()`].
    pub fn search_images(&self, caption: ArrayView1<'_, f32>, top: usize) -> Result<Vec<(usize, f32)>> {
        nearest(Query::Caption(caption), self.images.view(), self.measure, top)
    }

    /// The captions nearest to an image's embedding `[D]`, each with its score, the best first.
    ///
    /// # Errors
    ///
    /// As [`nearest()`].
    pub fn search_captions(&self, image: ArrayView1<'_, f32>, top: usize) -> Result<Vec<(usize, f32)>> {
        nearest(Query::Image(image), self.captions.view(), self.measure, top)
    }
}
