//! The report, for people and for programs.

use serde::Serialize;
use vsepp::bench::{Counts, Spread};
use vsepp::model::Architecture;

use super::Options;
use super::side::{Round, Side, Skipped};

/// The printed figures, in seconds and MiB.
#[derive(Serialize)]
pub(super) struct Report {
    what: &'static str,
    size: &'static str,
    threads: usize,
    rounds: usize,
    /// Rounds for warming up.
    warm_up: usize,
    /// The machine's load before the first run.
    load: Option<f64>,
    captions: String,
    /// The counts of the batch, or of all encoded captions.
    counts: Option<Counts>,
    /// Images that are ranked against five times as many captions.
    images: Option<usize>,
    architecture: Architecture,
    parameters: u128,
    /// The name of `value`.
    value: &'static str,
    /// The largest relative difference of the first two values that counts as the same computation.
    tolerance: f64,
    /// Whether all sides' first two values agree.
    pub(super) agree: bool,
    sides: Vec<SideReport>,
    skipped: Vec<Skipped>,
}

#[derive(Serialize)]
pub(super) struct SideReport {
    peer: String,
    version: String,
    seconds: Spread,
    /// The values of the first and of the last run.
    value: [f64; 2],
    /// The relative difference of the first two values from ours. The second value depends on gradients,
    /// clipping and Adam.
    difference: f64,
    peak_rss_mb: Option<f64>,
    /// Our seconds divided by those of this side, round by round.
    ratio: Spread,
}

impl SideReport {
    pub(super) fn new(side: &Side, rounds: &[Round], ours: &[Round], warm_up: usize) -> Self {
        let difference = |(ours, theirs): (&Round, &Round)| (theirs.value - ours.value).abs() / ours.value.abs();
        let differences = ours.iter().zip(rounds).take(2).map(difference);
        let ratio = |(ours, theirs): (&Round, &Round)| ours.seconds / theirs.seconds;
        Self {
            peer: side.name().into(),
            version: side.version().into(),
            seconds: Spread::of(rounds.iter().skip(warm_up).map(|round| round.seconds)),
            value: [rounds[0].value, rounds[rounds.len() - 1].value],
            difference: differences.fold(0.0, |worst, d| if d > worst || d.is_nan() { d } else { worst }),
            peak_rss_mb: rounds[rounds.len() - 1].peak_rss_mb,
            ratio: Spread::of(ours.iter().zip(rounds).skip(warm_up).map(ratio)),
        }
    }

    fn agrees(&self, tolerance: f64) -> bool {
        self.difference <= tolerance // false for NaN
    }

    fn print(&self, tolerance: f64) {
        let Spread { median, min, max, .. } = self.seconds;
        let name = format!("{} {}", self.peer, self.version.split('+').next().unwrap_or_default());
        let peak = self.peak_rss_mb.map_or("?".into(), |peak| format!("{peak:.0}"));
        let [first, last] = self.value;
        let warning = if self.agrees(tolerance) { "" } else { "  NOT THE SAME" };
        println!(
            "{name:20}{:>10.2}{:>10.2}{:>10.2}{:>9.3}{:>7.3}{:>7.3}{peak:>10}   {first:.4} → {last:.4}{warning}",
            1e3 * median,
            1e3 * min,
            1e3 * max,
            self.ratio.median,
            self.ratio.min,
            self.ratio.max
        );
    }
}

impl Report {
    pub(super) fn new(
        options: &Options,
        load: Option<f64>,
        counts: Option<Counts>,
        sides: Vec<SideReport>,
        skipped: Vec<Skipped>,
    ) -> Self {
        let (_, architecture) = options.size.settings();
        let (value, tolerance) = options.what.agreement();
        Self {
            what: options.what.name(),
            size: options.size.name(),
            threads: options.threads(),
            rounds: options.rounds(),
            warm_up: options.what.warm_up(),
            load,
            captions: options.captions().to_string(),
            counts,
            images: counts.is_none().then_some(options.evaluate),
            architecture,
            parameters: architecture.parameters(),
            value,
            tolerance,
            agree: sides.iter().all(|side| side.agrees(tolerance)),
            sides,
            skipped,
        }
    }

    pub(super) fn print(&self) {
        let a = &self.architecture;
        println!(
            "{}, {} size: E {}, H = D = {}, F {}, V {}; {} parameters",
            self.what, self.size, a.word_dim, a.embed_size, a.img_dim, a.vocab_size, self.parameters
        );
        if let Some(c) = &self.counts {
            println!(
                "{} captions, {}: {} tokens, {} states, {} parents, {} distinct words",
                c.pairs, self.captions, c.tokens, c.states, c.parents, c.distinct_words
            );
        }
        if let Some(images) = self.images {
            println!("{images} images and {} captions", 5 * images);
        }
        println!("threads {}, rounds {}, after {} for warming up", self.threads, self.rounds, self.warm_up);
        if let Some(load) = self.load.filter(|&load| load > 0.5) {
            println!("load {load:.1} before the first run: on a busy machine, trust only one thread");
        }
        println!(
            "\n{:20}{:>10}{:>10}{:>10}{:>9}{:>7}{:>7}{:>10}   {}",
            "milliseconds", "median", "min", "max", "ours/its", "min", "max", "peak MiB", self.value
        );
        for side in &self.sides {
            side.print(self.tolerance);
        }
        if self.agree {
            let largest = self.sides.iter().map(|side| side.difference).fold(0.0, f64::max);
            println!("\nthe first two values of {} agree: largest difference {largest:.0e}", self.value);
        } else {
            let Self { value, tolerance, .. } = self;
            println!(
                "\nexpected the first two values of {value} to agree within {tolerance:.0e}: this is not the same computation"
            );
        }
        for Skipped { peer, install } in &self.skipped {
            println!("skipped: {peer} is not installed; {install}");
        }
    }
}
