//! Ranks and recall against NumPy's, and a training on real data if they are there.

mod tensors;

use std::io::Write;
use std::path::Path;

use serde::Deserialize;
use vsepp::data::{Pairs, Source, Vocabulary};
use vsepp::eval::{Embeddings, Recall, evaluate, rank};
use vsepp::model::Config;
use vsepp::ndarray::{self, Array2, array};
use vsepp::similarity::Measure;
use vsepp::train::{Ignore, Trainer, TrainingData};

use tensors::Tensors;

#[derive(Deserialize)]
struct Expected {
    image_to_text: Direction,
    text_to_image: Direction,
}

#[derive(Deserialize)]
struct Direction {
    r1: f64,
    r5: f64,
    r10: f64,
    medr: f64,
    meanr: f64,
    ranks: Vec<usize>,
}

#[test]
fn ranks_and_recall_equal_numpys_with_ties() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/oracle");
    let file = Tensors::read(&folder.join("ranks.safetensors"));
    let expected: Expected =
        serde_json::from_str(&std::fs::read_to_string(folder.join("ranks.json")).unwrap()).unwrap();
    let (images, captions) = (file.matrix("images"), file.matrix("captions"));
    let starts: Vec<usize> = (0..=40).map(|image| 5 * image).collect();
    let ranks = rank(images.view(), captions.view(), &starts, Measure::Cosine).unwrap();
    assert_eq!(ranks.image_to_text, expected.image_to_text.ranks);
    assert_eq!(ranks.text_to_image, expected.text_to_image.ranks);
    assert!(ranks.tied_images > 0 && ranks.tied_captions > 0, "the fixture has ties");
    let found = evaluate(images.view(), captions.view(), &starts, Measure::Cosine).unwrap();
    let check = |found: Recall, expected: &Direction| {
        // Means of at most 200 small integers are exact up to a few ulp.
        for (found, expected) in [
            (found.r1, expected.r1),
            (found.r5, expected.r5),
            (found.r10, expected.r10),
            (found.medr, expected.medr),
            (found.meanr, expected.meanr),
        ] {
            approx::assert_relative_eq!(found, expected, max_relative = 1e-13);
        }
    };
    check(found.image_to_text, &expected.image_to_text);
    check(found.text_to_image, &expected.text_to_image);
    // 47.5 + 85 + 92.5 + 26 + 60.5 + 77.5, of NumPy's six recalls.
    approx::assert_relative_eq!(found.rsum, 389.0, max_relative = 1e-13);
}

#[test]
fn an_epoch_on_real_captions_learns() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/coco-objects");
    if !folder.exists() {
        // Written to stderr directly, because the test harness hides the output of a passing test.
        let _ = writeln!(std::io::stderr(), "skipped: ../shared/data/coco-objects does not exist");
        return;
    }
    let [train, dev, test] = Source::Folder(folder).splits(["train", "dev", "test"]).unwrap();
    assert_eq!((train.images().len(), train.img_dim().unwrap(), train.captions().len()), (2952, 1618, 14_760));
    assert_eq!((dev.images().len(), test.images().len(), test.captions().len()), (1000, 1000, 5000));
    let vocabulary = Vocabulary::build(train.captions(), 4);
    assert_eq!(vocabulary.len(), 2006, "as PyTorch's trainer finds with NLTK (benches/peers/pytorch_train.py)");
    let config = Config {
        embed_size: 64,
        word_dim: 32,
        num_epochs: 1,
        learning_rate: 2e-3,
        max_violation: false,
        val_step: 0,
        ..Config::default()
    };
    let mut trainer = Trainer::new(config.check().unwrap(), &vocabulary, 1618).unwrap();
    let [train, dev] = [train, dev].map(|split| Pairs::encode(split, &vocabulary).unwrap());
    let data = TrainingData { train, dev };
    let before = trainer.evaluate(&data.dev).unwrap();
    trainer.run(&data, None, &mut Ignore, &std::sync::atomic::AtomicBool::new(false)).unwrap();
    let after = trainer.progress.best.unwrap().dev;
    assert!(after.rsum > 3.0 * before.rsum, "{} against {} before", after.rsum, before.rsum);
}

#[test]
fn arrays_are_divided_as_files_are() {
    let images = array![[1.0, 0.0], [0.0, 1.0]];
    let captions = array![[1.0, 0.1], [0.1, 1.0], [0.9, 0.1], [0.2, 1.0]];
    let new =
        |images: &Array2<f32>, captions: &Array2<f32>, ids| Embeddings::new(images.clone(), captions.clone(), ids);
    let right = new(&images, &captions, Some(&[0, 1, 0, 1])).unwrap().evaluate(Measure::Cosine, 1).unwrap();
    assert_eq!((right.image_to_text.r1, right.text_to_image.r1), (100.0, 100.0));
    // Without a map images 0 and 1 have captions 0, 1 and 2, 3.
    let equal = new(&images, &captions, None).unwrap().evaluate(Measure::Cosine, 1).unwrap();
    assert_eq!((equal.text_to_image.r1, equal.text_to_image.r5), (50.0, 100.0));
    // One row per caption.
    let repeated = array![[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]];
    let found = new(&repeated, &captions, None).unwrap();
    assert!(found.notes()[0].contains("the 4 rows are 2 images"), "{:?}", found.notes());
    assert_eq!(found.evaluate(Measure::Cosine, 1).unwrap(), equal);

    let failed = |images, captions, ids| new(images, captions, ids).unwrap_err().to_string();
    let three = captions.slice(ndarray::s![..3, ..]).to_owned();
    assert!(failed(&images, &three, None).starts_with("captions: expected a multiple of the 2 images, found 3; where"));
    assert!(failed(&repeated, &images, None).ends_with("found 2; are the two exchanged?"));
    let expected = "image_ids: expected [M = 4], the image of each caption, found [1]";
    assert_eq!(failed(&images, &captions, Some(&[0])), expected);
    let error = failed(&images, &captions, Some(&[0, 1, 2, 1]));
    assert!(error.starts_with("image_ids: caption 2: expected the row of an image, 0 to 1, found 2"), "{error}");
    let mut infinite = images.clone();
    infinite[[1, 0]] = f32::INFINITY;
    assert!(failed(&infinite, &captions, None).starts_with("images: inf at [1, 0]"));
}
