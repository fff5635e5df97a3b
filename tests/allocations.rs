//! A step of training asks for no memory once the buffers have the size of the largest batch.

// A counting allocator is an unsafe trait; the crate itself has no unsafe code.
#![allow(unsafe_code)]

mod counting;

use std::sync::atomic::Ordering;

use counting::ASKED;
use ndarray::{Array2, Array4};
use vsepp::data::Vocabulary;
use vsepp::model::{Batch, Config};
use vsepp::nn::{Conv2d, Conv2dCache, Layer, Mode, Module, Write};
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

#[test]
fn a_step_asks_for_no_memory() {
    let words: Vec<String> = (0..60).map(|i| format!("word{i}")).collect();
    let vocabulary = Vocabulary::build(&[words.join(" ")], 1);
    let configs = [
        Config { embed_size: 96, word_dim: 40, ..Config::default() },
        Config { embed_size: 64, word_dim: 40, num_layers: 2, max_violation: false, ..Config::default() },
        Config { embed_size: 64, hidden_size: Some(96), caption_projection: true, ..Config::default() },
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
            run(12);
            let before = ASKED.load(Ordering::Relaxed);
            run(12);
            ASKED.load(Ordering::Relaxed) - before
        });
        assert_eq!(asked, 0, "asked for memory {asked} times in 12 steps of {shown}");
    }

    // A convolution of parts of a picture, of several pictures, and of pixels.
    for (kernel, stride, size) in [(3, 1, 60), (3, 2, 12), (1, 1, 12)] {
        let mut layer = Conv2d::<f32>::zeros([8, 40, kernel, kernel], stride, kernel / 2);
        layer.init(0);
        let (x, mut cache, mut grad) = (Array4::ones((3, 40, size, size)), Conv2dCache::default(), layer.clone());
        let mut dx = Array4::default([0; 4]);
        let asked = pool.install(|| {
            let mut run = |steps: usize| {
                for _ in 0..steps {
                    layer.forward(x.view(), Mode::Train, &mut cache).unwrap();
                    let dy = std::mem::take(&mut cache.y);
                    layer.backward(x.view(), &mut cache, &dy, Write::Replace, &mut grad, Some(&mut dx));
                    cache.y = dy;
                }
            };
            // Each thread's memory grows with the largest task that it has had so far.
            run(40);
            let before = ASKED.load(Ordering::Relaxed);
            run(12);
            ASKED.load(Ordering::Relaxed) - before
        });
        assert_eq!(asked, 0, "asked for memory {asked} times in 12 convolutions of {kernel} × {kernel}");
    }
}
