//! Stores of images: what a store outside the crate can do, and that batches are filled without taking memory.

// A counting allocator is an unsafe trait; the crate itself has no unsafe code.
#![allow(unsafe_code)]
// Small whole numbers are exact.
#![allow(clippy::float_cmp, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod counting;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use counting::ASKED;
use ndarray::{Array2, Array4};
use vsepp::data::{Draw, EpochOrder, ImageStore, Plan, Split, prepare_ahead};
use vsepp::model::{Config, Images, Pass, Vse};
use vsepp::nn::Mode;

/// One test at a time: the counter belongs to the process.
static ALONE: Mutex<()> = Mutex::new(());

fn captions(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("caption {i}")).collect()
}

/// Two captions an image, all of one length.
fn ids(images: u32) -> Vec<Vec<u32>> {
    (0..2 * images).map(|i| vec![1, 4 + i % 7, 4 + i % 5, 2]).collect()
}

#[test]
fn a_store_takes_no_memory_once_it_has_filled_the_largest_batch() {
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let features = Array2::from_shape_fn((60, 5000), |(i, j)| ((i * 13 + j * 7) % 29) as f32 / 29.0);
    ndarray_npy::write_npy(folder.path().join("train_ims.npy"), &features).unwrap();
    std::fs::write(folder.path().join("train_caps.txt"), captions(120).join("\n")).unwrap();
    for split in [Split::read(folder.path(), "train").unwrap(), Split::new("train", features, captions(120)).unwrap()] {
        let (store, rows) = (split.images.store(), split.images.rows());
        let mut images = Images::default();
        store.fill(&rows[..32], None, &mut images).unwrap();
        let before = ASKED.load(Ordering::Relaxed);
        for (from, to) in [(20, 52), (7, 9), (58, 60), (0, 32)] {
            store.fill(&rows[from..to], None, &mut images).unwrap();
        }
        assert_eq!(ASKED.load(Ordering::Relaxed) - before, 0, "{store:?}");
    }
}

/// Pictures that another one is taken of for every caption in every epoch: their numbers say which.
#[derive(Debug)]
struct Pictures;

impl ImageStore for Pictures {
    fn len(&self) -> usize {
        8
    }

    fn shape(&self) -> &[usize] {
        &[3, 4, 5]
    }

    fn fill(&self, rows: &[usize], draw: Option<Draw<'_>>, into: &mut Images<f32>) -> vsepp::Result<()> {
        let mut pixels = Array4::zeros((rows.len(), 3, 4, 5));
        for (at, &row) in rows.iter().enumerate() {
            let view =
                draw.map_or(0, |draw| draw.seed * 1_000_000 + draw.epoch as u64 * 1000 + draw.captions[at] as u64);
            pixels[[at, 0, 0, 0]] = row as f32;
            pixels[[at, 2, 3, 4]] = view as f32;
        }
        *into = Images::Pixels(pixels);
        Ok(())
    }
}

#[test]
fn a_store_outside_the_crate_draws_by_seed_epoch_and_caption() {
    let _alone = ALONE.lock();
    let split = Split::from_store("train", Arc::new(Pictures), captions(16)).unwrap();
    assert_eq!((split.images.len(), split.images.shape()), (8, &[3, 4, 5][..]));
    let error = split.img_dim().unwrap_err().to_string();
    assert_eq!(error, "train images: expected feature vectors [F], found [3, 4, 5]");
    let ids = ids(8);
    let of_plan = |epochs, first_batch| {
        let plan = Plan { split: &split, captions: &ids, batch_size: 6, seed: 2, epochs, first_batch };
        let mut views = Vec::new();
        prepare_ahead(&plan, |ahead| {
            while let Some(next) = ahead.next_batch().unwrap() {
                let Images::Pixels(pixels) = &next.batch().images else { panic!("expected pixels") };
                assert_eq!(pixels.dim(), (next.captions.len(), 3, 4, 5));
                for (at, &caption) in next.captions.iter().enumerate() {
                    assert_eq!(pixels[[at, 0, 0, 0]], (caption / 2) as f32);
                    assert_eq!(pixels[[at, 2, 3, 4]], (2_000_000 + next.epoch * 1000 + caption) as f32);
                    views.push((next.epoch, next.number, pixels[[at, 2, 3, 4]] as usize));
                }
            }
        });
        views
    };
    let all = of_plan(0..3, 0);
    assert_eq!(all.len(), 48);
    let rest: Vec<_> = all.iter().copied().filter(|&(epoch, number, _)| (epoch, number) >= (1, 2)).collect();
    assert_eq!(of_plan(1..3, 2), rest, "as if it had never stopped");
    // Without a draw an image is always the same.
    split
        .images
        .in_blocks(|_, images| {
            assert!(images.numbers().unwrap().chunks(60).all(|image| image[59] == 0.0));
            Ok(())
        })
        .unwrap();
    // A model that takes feature vectors refuses pixels, and names both shapes.
    let config = Config { embed_size: 6, word_dim: 3, ..Config::default() }.check().unwrap();
    let batch = EpochOrder::new(16, 6, 0, 0).batch(0, &split, &ids).unwrap();
    let model = Vse::<f32>::init(config.architecture(20, 60), 0);
    let error = model.forward(&batch, &config.objective(0), Mode::Train, &mut Pass::default()).unwrap_err();
    assert_eq!(error.to_string(), "images: expected [B = 6, F = 60], found [6, 3, 4, 5]");
}
