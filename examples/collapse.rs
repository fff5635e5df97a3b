//! The collapse warning on runs that recover and on runs that do not.
//!
//! `cargo run --release --example collapse [DIR]` trains MH and SH at many learning rates, batch sizes and
//! seeds, on the built-in scenes or on a folder of data. For each run it prints the steps with a warning
//! and the result. A run counts as collapsed if its last rsum on dev is below 50; random scores give about
//! 11 on the scenes and 3 on 1,000 images.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use vsepp::Result;
use vsepp::data::{Pairs, Source, Vocabulary};
use vsepp::model::{Config, Preset};
use vsepp::train::{Event, Observer, Trainer, TrainingData};

/// A run has collapsed if its last rsum on dev is below this.
const COLLAPSED: f64 = 50.0;

/// The steps with a warning, and rsum on dev after each epoch.
#[derive(Default)]
struct Seen {
    warned: Vec<u64>,
    rsum: Vec<f64>,
}

impl Observer for Seen {
    fn event(&mut self, event: &Event<'_>) -> Result<()> {
        match event {
            Event::Collapsed(collapse) => self.warned.push(collapse.step),
            Event::EpochEnded(report) => self.rsum.push(report.dev.rsum),
            _ => {}
        }
        Ok(())
    }
}

/// The runs on the built-in scenes: a description of each, and its settings.
fn on_scenes() -> Vec<(String, Config)> {
    let mut runs = Vec::new();
    let mut add = |name: &str, seeds: std::ops::Range<u64>, change: &dyn Fn(&mut Config)| {
        for seed in seeds {
            let mut config = Config { seed, val_step: 0, ..Config::scenes() };
            change(&mut config);
            runs.push((format!("{name}, seed {seed}"), config));
        }
    };
    for rate in [1e-3, 2e-3, 3e-3, 6e-3, 1.2e-2] {
        add(&format!("MH, learning rate {rate}"), 0..2, &|c| c.learning_rate = rate);
    }
    add("MH, learning rate 0.03", 0..4, &|c| c.learning_rate = 3e-2);
    add("MH, learning rate 0.1", 0..4, &|c| c.learning_rate = 1e-1);
    for rate in [6e-3, 3e-2, 1e-1] {
        add(&format!("SH, learning rate {rate}"), 0..2, &|c| (c.max_violation, c.learning_rate) = (false, rate));
    }
    add("MH after an epoch of SH", 0..2, &|c| c.warmup_epochs = 1);
    add("MH, learning rate 0.03 after an epoch of SH", 0..2, &|c| (c.warmup_epochs, c.learning_rate) = (1, 3e-2));
    add("MH, batches of 32", 0..2, &|c| (c.batch_size, c.num_epochs) = (32, 4));
    add("MH, batches of 8", 0..2, &|c| (c.batch_size, c.num_epochs) = (8, 2));
    add("MH, same images masked", 0..2, &|c| c.mask_same_image = true);
    add("MH, no clipping", 0..2, &|c| c.grad_clip = 0.0);
    add("order0", 0..2, &|c| c.apply(Preset::Order0));
    add("order++", 0..2, &|c| c.apply(Preset::OrderPlusPlus));
    runs
}

/// The runs on a folder of data, with the settings of `docs/training.md`.
fn on_folder() -> Vec<(String, Config)> {
    let mut runs = Vec::new();
    for rate in [2e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3] {
        for seed in 0..3 {
            let sizes = Config { embed_size: 256, word_dim: 128, lr_update: 6, num_epochs: 10, ..Config::default() };
            let config = Config { learning_rate: rate, seed, val_step: 0, ..sizes };
            runs.push((format!("MH, learning rate {rate}, seed {seed}"), config));
        }
    }
    runs
}

fn main() -> Result<()> {
    let folder = std::env::args().nth(1).map(PathBuf::from);
    let runs = if folder.is_some() { on_folder() } else { on_scenes() };
    let [train, dev] = Source::new(folder).splits(["train", "dev"])?;
    let vocabulary = Vocabulary::build(train.captions(), Config::default().word_threshold);
    let img_dim = train.img_dim()?;
    let data = TrainingData { train: Pairs::encode(train, &vocabulary)?, dev: Pairs::encode(dev, &vocabulary)? };

    let [mut healthy, mut false_alarms, mut collapsed, mut missed] = [0; 4];
    for (name, config) in runs {
        let mut trainer = Trainer::new(config.check()?, &vocabulary, img_dim)?;
        let mut seen = Seen::default();
        trainer.run(&data, None, &mut seen, &AtomicBool::new(false))?;
        let (last, warned) = (seen.rsum.last().copied().unwrap_or_default(), !seen.warned.is_empty());
        let verdict = match (last < COLLAPSED, warned) {
            (false, false) => "",
            (false, true) => "FALSE ALARM",
            (true, true) => "collapsed",
            (true, false) => "collapsed, MISSED",
        };
        let curve: Vec<String> = seen.rsum.iter().map(|rsum| format!("{rsum:.0}")).collect();
        println!("{name:<52} warned at {:<14} rsum {}  {verdict}", format!("{:?}", seen.warned), curve.join(" "));
        if last < COLLAPSED {
            collapsed += 1;
            missed += usize::from(!warned);
        } else {
            healthy += 1;
            false_alarms += usize::from(warned);
        }
    }
    println!("\n{false_alarms} false alarms in {healthy} healthy runs; {missed} of {collapsed} collapsed runs missed");
    Ok(())
}
