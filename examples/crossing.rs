//! SH against MH on the built-in scenes: the sum of hinges leads early, the maximum wins in the end.
//!
//! `cargo run --release --example crossing [SEEDS [FILE.svg]]` trains both on the same data with the same
//! seeds (5 by default) and the same settings except for the loss. For every seed it prints rsum on the dev
//! split by epoch and on the test split at the end. With a file, it also draws the curves. Progress goes to
//! stderr.

use std::error::Error;
use std::fmt::Write;
use std::sync::atomic::AtomicBool;

use vsepp::Result;
use vsepp::data::{Pairs, Source, Vocabulary};
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

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let seeds: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(5);
    let [train, dev, test] = Source::new(None).splits(["train", "dev", "test"])?;
    let vocabulary = Vocabulary::build(train.captions(), Config::scenes().word_threshold);
    let img_dim = train.img_dim()?;
    let data = TrainingData { train: Pairs::encode(train, &vocabulary)?, dev: Pairs::encode(dev, &vocabulary)? };
    let test = Pairs::encode(test, &vocabulary)?;

    let mut rows: Vec<(u64, &str, Vec<f64>, Evaluation)> = Vec::new();
    for seed in 0..seeds {
        for (name, max_violation) in [("SH", false), ("MH", true)] {
            eprintln!("seed {seed}, {name} …");
            let config = Config { seed, max_violation, val_step: 0, ..Config::scenes() }.check()?;
            let mut trainer = Trainer::new(config, &vocabulary, img_dim)?;
            let mut curve = Curve::default();
            trainer.run(&data, None, &mut curve, &AtomicBool::new(false))?;
            // The model of the last epoch, for both losses.
            rows.push((seed, name, curve.0, trainer.evaluate(&test)?));
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
    if let Some(path) = std::env::args().nth(2) {
        let curves: Vec<(&str, &[f64])> = rows.iter().map(|row| (row.1, &row.2[..])).collect();
        std::fs::write(path, draw(&curves))?;
    }
    let mean = |wanted: &str| {
        let rsums: Vec<f64> = rows.iter().filter(|row| row.1 == wanted).map(|row| row.3.rsum).collect();
        rsums.iter().sum::<f64>() / rsums.len() as f64
    };
    println!("\nmean test rsum: SH {:.1}, MH {:.1}", mean("SH"), mean("MH"));
    Ok(())
}

/// The curves as SVG: epochs to the right, dev rsum upwards, one line per run.
fn draw(curves: &[(&str, &[f64])]) -> String {
    const LEFT: f64 = 46.0;
    const BOTTOM: f64 = 262.0;
    const LOSSES: [(&str, &str, &str); 2] =
        [("SH", "#c2571a", "sum of hinges (VSE0's loss)"), ("MH", "#1f5fa8", "max of hinges (VSE++)")];
    let epochs = curves.iter().map(|(_, curve)| curve.len()).max().unwrap_or(0);
    let x = |epoch: usize| LEFT + 560.0 * (epoch as f64 - 1.0) / (epochs.max(2) - 1) as f64;
    let y = |rsum: f64| BOTTOM - 240.0 * rsum / 600.0;
    let text = |x: f64, y: f64, anchor: &str, words: &str| {
        format!(r##"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" fill="#333">{words}</text>"##) + "\n"
    };
    let mut svg = String::from(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 312" font-family="sans-serif" font-size="12">"#,
    );
    svg += "\n<rect width=\"640\" height=\"312\" fill=\"white\"/>\n";
    for rsum in (0..=600).step_by(100) {
        let at = y(f64::from(rsum));
        let _ = writeln!(svg, r##"<path d="M{LEFT} {at:.1}h560" stroke="#ddd"/>"##);
        svg += &text(LEFT - 6.0, at + 4.0, "end", &rsum.to_string());
    }
    for epoch in 1..=epochs {
        svg += &text(x(epoch), BOTTOM + 18.0, "middle", &epoch.to_string());
    }
    svg += &text(LEFT + 280.0, BOTTOM + 38.0, "middle", "epoch");
    svg += &text(LEFT, 14.0, "start", "rsum on the dev split (six recalls together; 600 is perfect)");
    for (k, (name, colour, label)) in LOSSES.into_iter().enumerate() {
        for (_, curve) in curves.iter().filter(|(loss, _)| *loss == name) {
            let points = (1..).zip(curve.iter()).map(|(e, &rsum)| format!("{:.1},{:.1}", x(e), y(rsum)));
            let points = points.collect::<Vec<_>>().join(" ");
            let style = format!(r#"fill="none" stroke="{colour}" stroke-width="1.6" stroke-opacity="0.8""#);
            let _ = writeln!(svg, r#"<polyline points="{points}" {style}/>"#);
        }
        let at = 200.0 + 22.0 * k as f64;
        let _ = writeln!(svg, r#"<path d="M400 {at:.1}h24" stroke="{colour}" stroke-width="3"/>"#);
        svg += &text(432.0, at + 4.0, "start", label);
    }
    svg + "</svg>\n"
}
