//! SH against MH on the built-in scenes: the sum of hinges leads early, the maximum wins in the end.
//!
//! `cargo run --release --example crossing [SEEDS]` trains both on the same data with the same seeds
//! (5 by default) and the same settings but for the loss, and prints rsum on the dev split by epoch
//! and on the test split at the end, every seed. Progress goes to stderr.

use std::sync::atomic::AtomicBool;

use vsepp::Result;
use vsepp::data::{Source, Vocabulary};
use vsepp::eval::Evaluation;
use vsepp::model::Config;
use vsepp::train::{Event, Observer, Trainer, TrainingData};

/// Collects the dev rsum of every epoch.
#[derive(Default)]
struct Curve(Vec<f64>);

impl Observer for Curve {
    fn event(&mut self, event: &Event<'_>) -> Result<()> {
        if let Event::EpochEnded(report) = event {
            self.0.push(report.dev.rsum);
        }
        Ok(())
    }
}

fn main() -> Result<()> {
    let seeds: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(5);
    let [train, dev, test] = Source::new(None).splits(["train", "dev", "test"])?;
    let vocabulary = Vocabulary::build(&train.captions, Config::scenes().word_threshold);
    let [train_ids, dev_ids, test_ids] =
        [&train, &dev, &test].map(|split| vocabulary.encode_all(&split.captions).captions);
    let img_dim = train.images.ncols();
    let data = TrainingData { train, train_ids, dev, dev_ids };

    let mut rows: Vec<(u64, &str, Vec<f64>, Evaluation)> = Vec::new();
    for seed in 0..seeds {
        for (name, max_violation) in [("SH", false), ("MH", true)] {
            eprintln!("seed {seed}, {name} …");
            let config = Config { seed, max_violation, val_step: 0, ..Config::scenes() }.check()?;
            let mut trainer = Trainer::new(config, &vocabulary, img_dim);
            let mut curve = Curve::default();
            trainer.run(&data, None, &mut curve, &AtomicBool::new(false))?;
            // The model of the last epoch, for both alike.
            rows.push((seed, name, curve.0, trainer.evaluate(&test, &test_ids)?));
        }
    }

    println!("dev rsum by epoch\n");
    for (seed, name, curve, _) in &rows {
        let curve: Vec<String> = curve.iter().map(|rsum| format!("{rsum:>4.0}")).collect();
        println!("  seed {seed}  {name}  {}", curve.join(""));
    }
    println!("\ntest, last epoch          R@1/5/10 image → captions   R@1/5/10 caption → images   rsum\n");
    for (seed, name, _, e) in &rows {
        let (i, t) = (&e.image_to_text, &e.text_to_image);
        let (i, t) =
            (format!("{:.1} / {:.1} / {:.1}", i.r1, i.r5, i.r10), format!("{:.1} / {:.1} / {:.1}", t.r1, t.r5, t.r10));
        println!("  seed {seed}  {name}             {i:<27} {t:<27} {:.1}", e.rsum);
    }
    let mean = |wanted: &str| {
        let rsums: Vec<f64> = rows.iter().filter(|row| row.1 == wanted).map(|row| row.3.rsum).collect();
        rsums.iter().sum::<f64>() / rsums.len() as f64
    };
    println!("\nmean test rsum: SH {:.1}, MH {:.1}", mean("SH"), mean("MH"));
    Ok(())
}
