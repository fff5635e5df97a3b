//! A step of training asks for no memory once the buffers have the size of the largest batch.

// A counting allocator is an unsafe trait; the crate itself has no unsafe code.
#![allow(unsafe_code)]

mod counting;

use std::sync::atomic::Ordering;

use counting::ASKED;
use ndarray::{Array2, Array4, ArrayView4, s};
use vsepp::data::Vocabulary;
use vsepp::model::{Batch, Config};
use vsepp::nn::{AvgPool, BatchNorm, Conv2d, Dropout, DropoutCache, Layer, MaxPool, Mode, Module, Relu, Write};
use vsepp::train::Trainer;

/// A batch of captions of several lengths with shared beginnings.
fn batch(pairs: usize, features: usize, seed: u32) -> Batch<f32> {
    let caption = |i: u32| {
        let length = 3 + (i * 7 + seed) % 9;
        let words = (0..length).map(|t| if t == 0 { 4 } else { 4 + (i * 31 + t * 17 + seed) % 60 });
        std::iter::once(1).chain(words).chain([2]).collect()
    };
    let images = Array2::from_shape_fn((pairs, features), |(i, j)| ((i * 13 + j * 7) % 29) as f32 / 29.0);
    let captions = (0..u32::try_from(pairs).unwrap()).map(caption).collect();
    Batch::new(images, captions, (0..pairs).map(|i| i / 2).collect()).unwrap()
}

/// How often 12 steps ask for memory, after the first ones: the least of several attempts. What a step itself asks
/// for, it asks for in all of them. On a busy machine a thread may get a larger task than any before, for which its
/// memory grows, and the queues of the threads grow too.
fn asked(run: &mut impl FnMut(usize)) -> usize {
    run(24);
    let attempt = |_| {
        let before = ASKED.load(Ordering::Relaxed);
        run(12);
        ASKED.load(Ordering::Relaxed) - before
    };
    (0..8).map(attempt).min().expect("attempts")
}

/// One test for everything: the allocator counts what all threads ask for.
#[test]
fn a_step_asks_for_no_memory() {
    training_asks_for_none();
    layers_of_pictures_ask_for_none();
}

fn training_asks_for_none() {
    let words: Vec<String> = (0..60).map(|i| format!("word{i}")).collect();
    let vocabulary = Vocabulary::build(&[words.join(" ")], 1);
    let configs = [
        Config { embed_size: 96, word_dim: 40, ..Config::default() },
        Config { embed_size: 64, word_dim: 40, num_layers: 2, max_violation: false, ..Config::default() },
        Config { embed_size: 64, hidden_size: Some(96), caption_projection: true, ..Config::default() },
        Config { embed_size: 64, hardest: 5, negatives: 40, ..Config::default() },
        Config { embed_size: 64, temperature: 0.05, mask_equal_text: true, ..Config::default() },
        Config { embed_size: 64, use_abs: true, measure: vsepp::similarity::Measure::Order, ..Config::default() },
    ];
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    for config in configs {
        let shown = format!("{config:?}");
        let batches = [batch(128, 300, 1), batch(128, 300, 2), batch(70, 300, 3)];
        let mut trainer = Trainer::new(config.check().unwrap(), &vocabulary, 300).unwrap();
        let asked = pool.install(|| {
            let mut run = |steps: usize| {
                for step in 0..steps {
                    trainer.step(&batches[step % batches.len()]).unwrap();
                }
            };
            asked(&mut run)
        });
        assert_eq!(asked, 0, "asked for memory {asked} times in 12 steps of {shown}");
    }
}

/// How often a layer asks for memory in 12 steps, after the first ones, on batches of three pictures and of two.
fn asked_by<L>(layer: &L, x: &Array4<f32>, y: impl Fn(&mut L::Cache) -> &mut Array4<f32> + Sync) -> usize
where
    L: for<'a> Layer<f32, X<'a> = ArrayView4<'a, f32>, Y = Array4<f32>, Dx = Array4<f32>> + Clone + Sync,
{
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    pool.install(|| {
        let (mut cache, mut grad, mut dx) = (L::Cache::default(), layer.clone(), Array4::default([0; 4]));
        let mut run = |steps: usize| {
            for step in 0..steps {
                let x = x.slice(s![..3 - step % 2, .., .., ..]);
                layer.forward(x, Mode::Train, &mut cache).unwrap();
                let dy = std::mem::take(y(&mut cache));
                layer.backward(x, &mut cache, &dy, Write::Replace, &mut grad, Some(&mut dx));
                *y(&mut cache) = dy;
            }
        };
        asked(&mut run)
    })
}

fn layers_of_pictures_ask_for_none() {
    // A convolution of parts of a picture, of several pictures, and of pixels.
    for (kernel, stride, size) in [(3, 1, 60), (3, 2, 12), (1, 1, 12)] {
        let mut layer = Conv2d::<f32>::zeros([8, 40, kernel, kernel], stride, kernel / 2);
        layer.init(0);
        let asked = asked_by(&layer, &Array4::ones((3, 40, size, size)), |cache| &mut cache.y);
        assert_eq!(asked, 0, "convolution of {kernel} × {kernel}");
    }
    let x = Array4::from_shape_fn((3, 40, 30, 31), |(n, c, i, j)| ((n * 7 + c * 5 + i * 3 + j) % 13) as f32);
    let mut norm = BatchNorm::zeros(40);
    norm.init(0);
    assert_eq!(asked_by(&norm, &x, |cache| &mut cache.y), 0, "batch normalisation");
    assert_eq!(asked_by(&Relu, &x, |cache| &mut cache.y), 0, "ReLU");
    let max_pool = MaxPool { kernel: 3, stride: 2, padding: 1 };
    assert_eq!(asked_by(&max_pool, &x, |cache| &mut cache.y), 0, "max pool");
    assert_eq!(asked_by(&AvgPool { size: 7 }, &x, |cache| &mut cache.y), 0, "average pool");

    let layer = Dropout { p: 0.5, seed: 0, purpose: "dropout/test" };
    let (x, mut cache) = (Array2::<f32>::ones((64, 256)), DropoutCache::default());
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let asked = pool.install(|| {
        let mut run = |steps: usize| (0..steps).for_each(|_| layer.forward(x.view(), Mode::Train, &mut cache).unwrap());
        asked(&mut run)
    });
    assert_eq!(asked, 0, "dropout");
}
