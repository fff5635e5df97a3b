//! The report, for people and for programs.

use serde::Serialize;
use serde_json::Value;

use super::Options;
use super::side::{Round, Side, Skipped};
use super::spread::Spread;

/// The printed figures, in seconds and MiB.
#[derive(Serialize)]
pub(super) struct Report {
    what: &'static str,
    threads: usize,
    rounds: usize,
    /// Runs of a side in a round.
    in_a_row: usize,
    /// Rounds for warming up.
    warm_up: usize,
    /// What is timed and on which machine, from this crate's side.
    about: Value,
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
    pub(super) fn new(options: &Options, about: Value, sides: Vec<SideReport>, skipped: Vec<Skipped>) -> Self {
        let (value, tolerance) = options.what.agreement();
        Self {
            what: options.what.name(),
            threads: options.threads(),
            rounds: options.rounds(),
            in_a_row: options.in_a_row,
            warm_up: options.what.warm_up(),
            about,
            value,
            tolerance,
            agree: sides.iter().all(|side| side.agrees(tolerance)),
            sides,
            skipped,
        }
    }

    /// Prints the table; `machine`: after a line about the machine.
    pub(super) fn print(&self, machine: bool) {
        let text = |key: &str| self.about[key].as_str().unwrap_or("unknown");
        if machine {
            let (cores, load) = (&self.about["cores"], self.about["load"].as_f64().unwrap_or(0.0));
            println!("{}, {cores} core(s), vector unit: {}", text("processor"), text("vectors"));
            let runs = if self.in_a_row == 1 { String::new() } else { format!(" of {} runs", self.in_a_row) };
            println!("threads {}, rounds {}{runs}, after {} for warming up", self.threads, self.rounds, self.warm_up);
            if load > 0.5 {
                println!("load {load:.1} before the first run: on a busy machine, trust only one thread");
            }
        }
        println!();
        for line in self.about["lines"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            println!("{line}");
        }
        println!(
            "{:20}{:>10}{:>10}{:>10}{:>9}{:>7}{:>7}{:>10}   {}",
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
        for Skipped { peer, reason } in &self.skipped {
            println!("skipped: {peer}: {reason}");
        }
    }
}
