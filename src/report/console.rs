//! The console: a progress bar during an epoch and a line at its end, on stderr.

use std::io::Write;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::table::thousands;
use crate::error::Result;
use crate::escape;
use crate::train::{Collapse, CollapseDetector, EpochReport, Event, Observer, Pace, StepReport};

/// Shows a training on stderr. There is a progress bar only if stderr is a terminal.
#[derive(Debug)]
pub(crate) struct Console {
    bar: ProgressBar,
    epochs: usize,
    batches: usize,
    /// Whether the run could train with SH first but does not.
    warmup_is_open: bool,
    /// The number of threads that was shown last.
    threads: Option<usize>,
    /// Smoothed seconds per step.
    pace: Option<f64>,
    /// α, and the plateau where all scores are nearly equal.
    margin: f64,
    plateau: Plateau,
    /// Whether the line about the speed was shown.
    speed_is_known: bool,
    /// When the program was started.
    begun: Instant,
}

/// The plateau of MH: all scores of a batch within the margin of each other, step after step.
#[derive(Debug, Default)]
struct Plateau {
    /// Steps in a row that say the opposite of `on`.
    against: usize,
    on: bool,
}

impl Plateau {
    /// It begins, or is left, after this many steps in a row.
    const STEPS: usize = 20;

    /// What to say when it begins or is left.
    fn see(&mut self, step: &StepReport, margin: f64) -> Option<String> {
        let is_near = margin > 0.0 && step.score_spread <= margin;
        self.against = if is_near == self.on { 0 } else { self.against + 1 };
        if self.against < Self::STEPS {
            return None;
        }
        (self.against, self.on) = (0, is_near);
        let (number, spread) = (step.step, step.score_spread);
        Some(if is_near {
            let ahead = if step.gap >= 0.0 { "ahead of" } else { "behind" };
            format!("  step {number}: plateau, scores within {spread:.2}; hard negatives {ahead} right pairs")
        } else {
            format!("  step {number}: the plateau is left: the scores are {spread:.2} apart")
        })
    }
}

/// Prints a line on stderr, with control characters escaped. If stderr is closed or full, the line is lost
/// and the program continues.
pub(crate) fn say(text: &str) {
    /// The number of characters shown, because a message may quote a long line of a file.
    const LONGEST: usize = 2000;
    for line in escape::text(text).split('\n') {
        let _ = match line.char_indices().nth(LONGEST) {
            Some((end, _)) => writeln!(std::io::stderr(), "{} …", &line[..end]),
            None => writeln!(std::io::stderr(), "{line}"),
        };
    }
}

impl Default for Console {
    fn default() -> Self {
        Self::since(Instant::now())
    }
}

impl Console {
    /// Reports the time until the first step, counted from `begun`.
    #[must_use]
    pub(crate) fn since(begun: Instant) -> Self {
        Self {
            bar: ProgressBar::hidden(),
            epochs: 0,
            batches: 0,
            warmup_is_open: false,
            threads: None,
            pace: None,
            margin: 0.0,
            plateau: Plateau::default(),
            speed_is_known: false,
            begun,
        }
    }

    /// Prints a line above the bar.
    fn say(&self, text: &str) {
        self.bar.suspend(|| say(text));
    }

    /// Says how many threads take the steps, and why, unless it is the same number as before.
    fn threads(&mut self, paces: &[Pace]) {
        let Some((chosen, others)) = paces.split_first() else { return };
        if self.threads.replace(chosen.threads) != Some(chosen.threads) {
            let ms = |pace: &Pace| format!("{:.2} ms", 1e3 * pace.seconds);
            let others: Vec<String> = others.iter().map(|pace| format!("on {}: {}", pace.threads, ms(pace))).collect();
            let (number, plural) = (chosen.threads, if chosen.threads == 1 { "" } else { "s" });
            self.say(&format!(
                "{number} thread{plural}: forward and backward take {}; {} (--threads N fixes the number)",
                ms(chosen),
                others.join(", ")
            ));
        }
    }

    fn step(&mut self, step: &StepReport) {
        let pace = self.pace.map_or(step.seconds, |pace| 0.95 * pace + 0.05 * step.seconds);
        self.pace = Some(pace);
        let epochs = self.epochs.saturating_sub(step.epoch) as f64;
        let left = epochs * self.batches as f64 + step.batches.saturating_sub(step.batch) as f64;
        // The number of epochs may be huge if a training is meant to run until it is stopped.
        let left = Duration::try_from_secs_f64(pace * left).unwrap_or(Duration::MAX);
        if let Some(change) = self.plateau.see(step, self.margin) {
            self.say(&change);
        }
        self.bar.set_prefix(format!("{}/{}", step.epoch, self.epochs));
        self.bar.set_length(step.batches as u64);
        self.bar.set_position(step.batch as u64);
        self.bar.set_message(format!(
            "{} left  loss {:.2}  active {:.0} %  {:.0} pairs/s",
            indicatif::HumanDuration(left),
            step.loss,
            100.0 * step.active,
            step.pairs as f64 / pace,
        ));
    }

    /// A line of at most 80 columns; the first is followed by one about the speed. `metrics.jsonl` has it all.
    fn epoch(&mut self, e: &EpochReport) {
        let loss = match e.loss {
            "max" => "MH",
            "sum" => "SH",
            "hardest" => "KH",
            "log-sum-exp" => "LSE",
            "semi-hard" => "semi",
            other => other,
        };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a rate for display
        let pairs_per_second = thousands(e.pairs_per_second.round() as usize);
        let (i2t, t2i) = (&e.dev.image_to_text, &e.dev.text_to_image);
        let same =
            if e.same_image_pairs > 0 { format!(", {} pairs of one image", e.same_image_pairs) } else { String::new() };
        let norm = if e.grad_norm < 1000.0 { format!("{:.1}", e.grad_norm) } else { format!("{:.0e}", e.grad_norm) };
        self.say(&format!(
            "epoch {:>2}/{}  {loss} {:.4}  |g| {norm}  active {:.0} %  R@1 {:.1} {:.1}  rsum {:.1}{}",
            e.epoch,
            self.epochs,
            e.loss_per_pair,
            100.0 * e.active,
            i2t.r1,
            t2i.r1,
            e.dev.rsum,
            if e.best { " best" } else { "" },
        ));
        if !std::mem::replace(&mut self.speed_is_known, true) {
            self.say(&format!(
                "  {pairs_per_second} pairs/s, waited {:.1} %, clipped {:.0} %{same}",
                100.0 * e.waiting,
                100.0 * e.clipped
            ));
        }
    }

    fn collapse(&self, c: &Collapse) {
        self.say(&collapse_warning(c, self.warmup_is_open));
    }
}

/// The warning: the figures, what they mean, and the flags to try.
fn collapse_warning(c: &Collapse, warmup_is_open: bool) -> String {
    let warmup = if warmup_is_open { ", or train the first epochs with SH (--warmup-epochs 1)" } else { "" };
    format!(
        "warning: collapse: for {} steps the scores of a batch have been nearly equal (within {:.1e}), and the ranking \
         does not improve: {:.0} % of the negatives score at least as high as the right pair (by chance 50 %).\n         \
         The loss, {:.2}, is not below its value when all scores are equal, {:.2}: on average a negative that counts scores \
         {:.1e} more than the right pair, and this draws the scores together. The norm of the gradient is {:.1e}.\n         \
         Few such runs recover. Use a smaller --learning-rate{warmup}.",
        2 * CollapseDetector::WINDOW,
        c.spread,
        100.0 * c.ahead,
        c.loss,
        c.stationary,
        c.gap,
        c.grad_norm,
    )
}

impl Observer for Console {
    fn event(&mut self, event: &Event<'_>) -> Result<()> {
        match event {
            Event::Started { config, parameters, pairs, batches, progress } => {
                (self.epochs, self.batches, self.margin) = (config.num_epochs, *batches, config.margin);
                self.warmup_is_open = config.max_violation && config.warmup_epochs == 0;
                let from = if progress.step > 0 {
                    format!(", continuing after step {}", progress.step)
                } else {
                    String::new()
                };
                self.say(&format!(
                    "{} parameters; {} pairs per epoch in {} batches of {}{from}; ready after {:.2} s",
                    thousands(*parameters),
                    thousands(*pairs),
                    batches,
                    config.batch_size,
                    self.begun.elapsed().as_secs_f64()
                ));
                let style = ProgressStyle::with_template("epoch {prefix} {bar:12} {pos}/{len}  {wide_msg}")
                    .unwrap_or_else(|_| ProgressStyle::default_bar());
                // The bar hides itself if stderr is not a terminal.
                self.bar = ProgressBar::new(*batches as u64).with_style(style);
            }
            Event::ThreadsChosen(paces) => self.threads(paces),
            Event::Step(step) => self.step(step),
            Event::Collapsed(collapse) => self.collapse(collapse),
            Event::Validated { step, dev, .. } => self.say(&format!("  step {step}: dev rsum {:.1}", dev.rsum)),
            Event::EpochEnded(report) => self.epoch(report),
            Event::Interrupted { .. } | Event::Finished { .. } => self.bar.finish_and_clear(),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plateau_is_reported_when_it_begins_and_when_it_is_left() {
        let mut plateau = Plateau::default();
        let mut said = Vec::new();
        for step in 1..=100 {
            let score_spread = if (10..60).contains(&step) && step != 15 { 0.1 } else { 0.5 };
            let report = StepReport { step, score_spread, gap: 0.01, ..StepReport::default() };
            said.extend(plateau.see(&report, 0.2));
        }
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(
            said[0].starts_with("  step 35: plateau, scores within 0.10; hard negatives ahead of right pairs"),
            "{said:?}"
        );
        assert!(said[1].starts_with("  step 79: the plateau is left: the scores are 0.50 apart"), "{said:?}");
        assert!(said.iter().all(|line| line.chars().count() <= 80), "{said:?}");
    }

    #[test]
    fn the_collapse_warning_has_the_figures_seen_and_a_flag_that_is_not_set_yet() {
        let collapse = Collapse {
            step: 600,
            loss: 52.28,
            stationary: 51.2,
            spread: 0.0327,
            gap: 6.04e-3,
            ahead: 0.405,
            ahead_before: 0.403,
            grad_norm: 8.58,
        };
        let text = collapse_warning(&collapse, true);
        for seen in ["for 400 steps", "within 3.3e-2", "40 %", "52.28", "51.20", "6.0e-3 more", "gradient is 8.6e0"] {
            assert!(text.contains(seen), "{seen:?} in {text}");
        }
        assert!(text.contains("--learning-rate, or") && text.contains("--warmup-epochs 1"), "{text}");
        assert!(!collapse_warning(&collapse, false).contains("--warmup-epochs"));
    }
}
