//! Your own loss: squared hinges. The example checks its gradient and trains a model with it.
//!
//! ```text
//! ℓ = Σ_ij cost_s[i, j]² + Σ_ij cost_im[i, j]²,   cost as in (HINGE-1), (HINGE-2)
//! ```
//!
//! `cargo run --release --example loss` trains on the built-in scenes and prints the dev rsum by epoch.

use std::sync::atomic::AtomicBool;

use ndarray::ArrayView2;
use vsepp::data::{Pairs, ScenesConfig, Source, Vocabulary};
use vsepp::gradcheck::{LossProblem, check};
use vsepp::loss::{Loss, Negatives, Query, Terms};
use vsepp::model::Config;
use vsepp::real::Scalar;
use vsepp::train::{Event, Observer, Trainer, TrainingData};

/// Squared hinges with margin α.
#[derive(Clone, Copy, Debug)]
struct SquaredHinges {
    margin: f64,
}

impl Loss for SquaredHinges {
    fn forward<T: Scalar>(&self, scores: ArrayView2<'_, T>, negatives: Negatives<'_>, terms: &mut Terms<T>) {
        let batch = scores.nrows();
        for query in Query::all(batch) {
            for negative in negatives.of(query, batch) {
                let right = scores[query.pair(query.number())];
                let cost = T::from_f64(self.margin) + scores[query.pair(negative)] - right;
                terms.possible += 1;
                if cost.re() > 0.0 {
                    terms.loss += cost * cost;
                    terms.push(query, negative, cost + cost);
                }
            }
        }
    }

    fn at_collapse(&self, negatives: usize) -> f64 {
        negatives as f64 * self.margin * self.margin
    }

    fn name(&self) -> &'static str {
        "squared"
    }
}

/// Keeps the dev rsum of every epoch.
#[derive(Default)]
struct Rsums(Vec<f64>);

impl Observer for Rsums {
    fn event(&mut self, event: &Event<'_>) -> vsepp::Result<()> {
        if let Event::EpochEnded(report) = event {
            println!("epoch {:>2}, loss {}: dev rsum {:.1}", report.epoch, report.loss, report.dev.rsum);
            self.0.push(report.dev.rsum);
        }
        Ok(())
    }
}

/// Trains on scenes with `images` training images, and returns the dev rsum by epoch.
fn train(images: usize, epochs: usize) -> vsepp::Result<Vec<f64>> {
    let world = ScenesConfig { train: images, dev: images / 4, test: 0, ..ScenesConfig::default() };
    let [train, dev] = Source::Scenes(world).splits(["train", "dev"])?;
    let vocabulary = Vocabulary::build(train.captions(), 1);
    let data = TrainingData { train: Pairs::encode(train, &vocabulary)?, dev: Pairs::encode(dev, &vocabulary)? };

    let config = Config { num_epochs: epochs, ..Config::scenes() }.check()?;
    let loss = SquaredHinges { margin: config.margin };
    let mut trainer = Trainer::new(config, &vocabulary, data.train.split().img_dim()?)?.with_loss(loss);
    let mut rsums = Rsums::default();
    trainer.run(&data, None, &mut rsums, &AtomicBool::new(false))?;
    Ok(rsums.0)
}

fn main() -> vsepp::Result<()> {
    let report = check(&LossProblem::new("squared hinges", SquaredHinges { margin: 0.3 }, 6))?;
    println!("gradient checked: {}, {:?}", report.passed, report.taylor);
    train(1000, 12)?;
    Ok(())
}

#[test]
fn the_gradient_is_right() {
    let problem = LossProblem::new("squared hinges", SquaredHinges { margin: 0.3 }, 6);
    for problem in [problem.clone(), problem.with_image_ids(vec![0, 1, 0, 2, 3, 1])] {
        let report = check(&problem).unwrap();
        assert!(report.passed, "{report:?}");
    }
}

#[test]
fn it_trains() {
    let rsums = train(80, 4).unwrap();
    // By chance the rsum of 20 images is about 5 + 25 + 50 for captions, and less for images.
    assert!(rsums[3] > rsums[0] + 20.0, "{rsums:?}");
}
