//! This crate's side of the peers' protocol (`protocol.py`).

use std::time::Instant;

use anyhow::Result;
use serde_json::json;
use vsepp::bench::{SEED, Training, peak_rss_mib};
use vsepp::model::Vse;

use super::Options;
use super::data::Data;

/// Runs once for each line "run", and ends at the end of the input.
pub(super) fn serve(options: &Options) -> Result<()> {
    let threads = options.threads();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let mut work = work(options)?;
    println!("{}", json!({"ready": true, "peer": "vsepp", "version": env!("CARGO_PKG_VERSION"), "threads": threads}));
    for line in std::io::stdin().lines() {
        if line?.trim() != "run" {
            continue;
        }
        let start = Instant::now();
        let value = pool.install(&mut work)?;
        let seconds = start.elapsed().as_secs_f64();
        println!("{}", json!({"seconds": seconds, "value": value, "peak_rss_mb": peak_rss_mib()}));
    }
    Ok(())
}

/// The timed work. It returns the value that must agree.
fn work(options: &Options) -> Result<Box<dyn FnMut() -> Result<f64> + Send>> {
    Ok(match Data::draw(options)? {
        Data::Step(batch) => {
            let mut training = Training::new(options.size)?;
            Box::new(move || Ok(training.step(&batch)?))
        }
        Data::Encode(captions) => {
            let model = Vse::<f32>::init(options.size.settings().1, SEED);
            Box::new(move || {
                let g = model.embed_captions(&captions)?;
                Ok(g.iter().map(|x| f64::from(x.abs())).fold(0.0, |sum, x| sum + x) / g.len() as f64)
            })
        }
        Data::Evaluate(embeddings) => Box::new(move || Ok(embeddings.evaluate()?.rsum)),
    })
}
