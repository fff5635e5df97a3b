//! What came out of several trainings: tables and figures, as mean and standard deviation over seeds.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::chart::{Chart, Style};
use crate::eval::Evaluation;

/// The result of one training, seen with one crop or ten.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Score {
    /// SH or MH.
    pub loss: String,
    /// 1C, RC or RC + FT.
    pub way: String,
    /// Crops of a picture at the test.
    pub crops: usize,
    /// The seed of the training.
    pub seed: u64,
    /// On the test split.
    pub test: Evaluation,
}

/// Mean and standard deviation (of a sample: n − 1) of some numbers.
pub(crate) fn mean_and_deviation(x: &[f64]) -> (f64, f64) {
    let n = x.len() as f64;
    let mean = x.iter().fold(0.0, |sum, x| sum + x) / n.max(1.0);
    let squares = x.iter().fold(0.0, |sum, x| sum + (x - mean) * (x - mean));
    (mean, if x.len() > 1 { (squares / (n - 1.0)).sqrt() } else { 0.0 })
}

/// A figure of an evaluation.
type Figure = (&'static str, fn(&Evaluation) -> f64);

/// The columns of the table: those of the paper's tables, and the sum.
const FIGURES: [Figure; 7] = [
    ("R@1", |e| e.image_to_text.r1),
    ("R@10", |e| e.image_to_text.r10),
    ("Med r", |e| e.image_to_text.medr),
    ("R@1", |e| e.text_to_image.r1),
    ("R@10", |e| e.text_to_image.r10),
    ("Med r", |e| e.text_to_image.medr),
    ("rsum", |e| e.rsum),
];

/// The heads of [`FIGURES`].
const HEADS: &str = "n | image → captions: R@1 | R@10 | Med r | caption → images: R@1 | R@10 | Med r | rsum |";

/// How many seeds, and each figure over them.
fn figures(found: &[&Evaluation]) -> String {
    let over = |(_, figure): Figure| plus_minus(&found.iter().map(|e| figure(e)).collect::<Vec<_>>());
    format!("{} | {} |", found.len(), FIGURES.map(over).join(" | "))
}

/// Mean and standard deviation.
fn plus_minus(x: &[f64]) -> String {
    let (mean, deviation) = mean_and_deviation(x);
    format!("{mean:.1} ± {deviation:.1}")
}

/// Mean and standard deviation of differences; a dash if there are none.
fn difference_of(x: &[f64]) -> String {
    if x.is_empty() {
        return "–".into();
    }
    let (mean, deviation) = mean_and_deviation(x);
    format!("{mean:+.1} ± {deviation:.1}")
}

/// The trainings with one setting.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Series {
    /// The setting, as the user wrote it, with the best value of a sweep.
    pub setting: String,
    /// The figures of each seed.
    pub seeds: Vec<(u64, Evaluation)>,
    /// Dev rsum after each epoch, for each seed.
    pub curves: Vec<Vec<f64>>,
}

/// The figures of each setting, and how far its rsum is from that of the first, seed by seed; in Markdown.
#[must_use]
pub(crate) fn compare_table(all: &[Series]) -> String {
    let columns = "---|".repeat(1 + FIGURES.len());
    let mut out = format!("| setting | {HEADS} rsum − that of the first |\n|---|{columns}---|\n");
    for series in all {
        let found: Vec<&Evaluation> = series.seeds.iter().map(|(_, test)| test).collect();
        let of_first = |seed: u64| all[0].seeds.iter().find(|(own, _)| *own == seed).map(|(_, test)| test.rsum);
        let differences: Vec<f64> =
            series.seeds.iter().filter_map(|(seed, test)| Some(test.rsum - of_first(*seed)?)).collect();
        let setting = series.setting.replace('|', "\\|");
        let _ = writeln!(out, "| {setting} | {} {} |", figures(&found), difference_of(&differences));
    }
    out
}

/// The dev rsum of every value of a sweep, over the seeds; the best one of each setting is bold. In Markdown.
#[must_use]
pub(crate) fn sweep_table(key: &str, values: &[String], rows: &[(String, Vec<Vec<f64>>, usize)]) -> String {
    let mut out = format!("| dev rsum; {key}: | {} |\n|---|{}\n", values.join(" | "), "---|".repeat(values.len()));
    for (setting, by_value, best) in rows {
        let cell = |(place, x): (usize, &Vec<f64>)| {
            let text = plus_minus(x);
            if place == *best { format!("**{text}**") } else { text }
        };
        let cells: Vec<String> = by_value.iter().enumerate().map(cell).collect();
        let _ = writeln!(out, "| {setting} | {} |", cells.join(" | "));
    }
    out
}

/// Dev rsum by epoch: thin lines for the seeds, a thick one for their mean.
#[must_use]
pub(crate) fn compare_figure(all: &[Series]) -> String {
    let numbers = all.iter().flat_map(|series| series.curves.iter().flatten().copied());
    let mut chart = Chart::new(numbers, "dev rsum");
    let epochs = all.iter().flat_map(|series| series.curves.iter().map(Vec::len)).max().unwrap_or(0);
    for epoch in (0..epochs).step_by(epochs.div_ceil(15).max(1)) {
        chart.below(Chart::x(epoch, epochs), &(epoch + 1).to_string());
    }
    for (k, series) in all.iter().enumerate() {
        let style = Style::of(k);
        let points = |curve: &[f64]| -> Vec<(f64, f64)> {
            curve.iter().enumerate().map(|(epoch, &rsum)| (Chart::x(epoch, epochs), rsum)).collect()
        };
        if series.curves.len() > 1 {
            series.curves.iter().for_each(|curve| chart.line(&points(curve), style, true));
        }
        let shortest = series.curves.iter().map(Vec::len).min().unwrap_or(0);
        let at = |epoch: usize| series.curves.iter().map(|curve| curve[epoch]).collect::<Vec<_>>();
        let mean: Vec<f64> = (0..shortest).map(|epoch| mean_and_deviation(&at(epoch)).0).collect();
        chart.line(&points(&mean), style, false);
        chart.legend(style, &series.setting);
    }
    chart.finish()
}

/// A row of the table: loss, way, crops.
type Row<'a> = (&'a str, &'a str, usize);

/// The rows, in the order in which they first occur.
fn rows(scores: &[Score]) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for score in scores {
        let row = (score.loss.as_str(), score.way.as_str(), score.crops);
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    rows
}

fn of_row<'s>(scores: &'s [Score], (loss, way, crops): Row<'_>) -> Vec<&'s Score> {
    scores.iter().filter(|score| score.loss == loss && score.way == way && score.crops == crops).collect()
}

/// The figures of each row, in Markdown.
#[must_use]
pub(crate) fn study_table(scores: &[Score]) -> String {
    let columns = "---|".repeat(1 + FIGURES.len());
    let mut out = format!("| loss | training | crops | {HEADS}\n|---|---|---|{columns}\n");
    for row in rows(scores) {
        let found: Vec<&Evaluation> = of_row(scores, row).into_iter().map(|score| &score.test).collect();
        let _ = writeln!(out, "| {} | {} | {} | {}", row.0, row.1, row.2, figures(&found));
    }
    out
}

/// By how much the rsum of a row exceeds that of another, over the seeds that both have.
fn difference(scores: &[Score], from: Row<'_>, to: Row<'_>) -> String {
    let before = of_row(scores, from);
    let one = |after: &&Score| Some(after.test.rsum - before.iter().find(|s| s.seed == after.seed)?.test.rsum);
    difference_of(&of_row(scores, to).iter().filter_map(one).collect::<Vec<_>>())
}

/// What each step of the ladder of ways adds to rsum, and what the second loss adds to the first; in Markdown.
#[must_use]
pub(crate) fn study_steps(scores: &[Score], ladder: &[&str], losses: [&str; 2]) -> String {
    let crops = [1, 10].into_iter().filter(|&crops| scores.iter().any(|score| score.crops == crops));
    let steps = ladder.windows(2).map(|pair| format!("{} − {}", pair[1], pair[0]));
    let mut out = format!("| rsum | crops | {} |\n", steps.collect::<Vec<_>>().join(" | "));
    let _ = writeln!(out, "|---|---|{}", "---|".repeat(ladder.len() - 1));
    for loss in losses {
        for crops in crops.clone() {
            let step = |pair: &[&str]| difference(scores, (loss, pair[0], crops), (loss, pair[1], crops));
            let cells: Vec<String> = ladder.windows(2).map(step).collect();
            let _ = writeln!(out, "| {loss} | {crops} | {} |", cells.join(" | "));
        }
    }
    let [first, second] = losses;
    let _ = writeln!(out, "\n| rsum | crops | {} |\n|---|---|{}", ladder.join(" | "), "---|".repeat(ladder.len()));
    for crops in crops {
        let cells: Vec<String> =
            ladder.iter().map(|way| difference(scores, (first, way, crops), (second, way, crops))).collect();
        let _ = writeln!(out, "| {second} − {first} | {crops} | {} |", cells.join(" | "));
    }
    out
}

/// The rsum of each way: a dot for each seed, a line through the means; one crop full, ten crops dashed.
#[must_use]
pub(crate) fn study_figure(scores: &[Score], ladder: &[&str], losses: [&str; 2]) -> String {
    let mut chart = Chart::new(scores.iter().map(|score| score.test.rsum), "test rsum");
    for (k, way) in ladder.iter().enumerate() {
        chart.below(Chart::x(k, ladder.len()), way);
    }
    for (k, loss) in losses.iter().enumerate() {
        for (crops, shift) in [(1, -6.0), (10, 6.0)] {
            let style = if crops == 1 { Style::of(k) } else { Style::of(k).dashed() };
            let mut means = Vec::new();
            for (way, name) in ladder.iter().enumerate() {
                let found: Vec<f64> = of_row(scores, (loss, name, crops)).iter().map(|score| score.test.rsum).collect();
                let x = Chart::x(way, ladder.len()) + shift;
                for &rsum in &found {
                    chart.dot(x, rsum, style, crops == 1);
                }
                if !found.is_empty() {
                    means.push((x, mean_and_deviation(&found).0));
                }
            }
            if !means.is_empty() {
                chart.line(&means, style, false);
                chart.legend(style, &format!("{loss}, {crops} {}", if crops == 1 { "crop" } else { "crops" }));
            }
        }
    }
    chart.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(loss: &str, way: &str, crops: usize, seed: u64, rsum: f64) -> Score {
        let test = Evaluation { rsum, images: 10, captions: 50, folds: 1, ..Evaluation::default() };
        Score { loss: loss.into(), way: way.into(), crops, seed, test }
    }

    fn scores() -> Vec<Score> {
        let mut all = Vec::new();
        for seed in 0..3 {
            let s = seed as f64;
            all.extend([
                score("SH", "1C", 1, seed, 300.0 + s),
                score("SH", "RC", 1, seed, 310.0 + 3.0 * s),
                score("MH", "1C", 1, seed, 305.0 + s),
                score("MH", "RC", 1, seed, 330.0 + s),
            ]);
        }
        all
    }

    #[test]
    fn the_deviation_is_that_of_a_sample() {
        assert_eq!(mean_and_deviation(&[2.0, 4.0, 6.0]), (4.0, 2.0));
        assert_eq!(mean_and_deviation(&[5.0]), (5.0, 0.0));
        assert_eq!(mean_and_deviation(&[]), (0.0, 0.0));
    }

    #[test]
    fn the_table_has_a_row_for_each_loss_way_and_number_of_crops() {
        let table = study_table(&scores());
        assert_eq!(table.lines().count(), 2 + 4);
        assert!(table.contains("| SH | RC | 1 | 3 |") && table.ends_with("| 331.0 ± 1.0 |\n"), "{table}");
    }

    #[test]
    fn differences_are_taken_seed_by_seed() {
        let text = study_steps(&scores(), &["1C", "RC"], ["SH", "MH"]);
        assert!(text.contains("| SH | 1 | +12.0 ± 2.0 |") && text.contains("| MH | 1 | +25.0 ± 0.0 |"), "{text}");
        assert!(text.contains("| MH − SH | 1 | +5.0 ± 0.0 | +18.0 ± 2.0 |"), "{text}");
        let one = study_steps(&scores()[..1], &["1C", "RC"], ["SH", "MH"]);
        assert!(one.contains("| SH | 1 | – |"), "{one}");
    }

    /// Two settings, two seeds, three epochs.
    fn series() -> Vec<Series> {
        let of = |setting: &str, rsum: f64| Series {
            setting: setting.into(),
            seeds: (0..2).map(|seed| (seed, score("", "", 1, seed, rsum + 2.0 * seed as f64).test)).collect(),
            curves: vec![vec![rsum - 20.0, rsum, rsum], vec![rsum, rsum, rsum + 2.0]],
        };
        vec![of("sh", 400.0), of("mh lr=2e-3", 431.0)]
    }

    #[test]
    fn a_comparison_has_a_row_and_a_line_for_each_setting() {
        let table = compare_table(&series());
        let last = table.lines().last().unwrap();
        assert_eq!(table.lines().count(), 2 + 2);
        assert!(last.starts_with("| mh lr=2e-3 | 2 | ") && last.ends_with(" | 432.0 ± 1.4 | +31.0 ± 0.0 |"), "{table}");
        let widths: Vec<usize> = table.lines().map(|line| line.matches('|').count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{table}");
        let svg = compare_figure(&series());
        assert_eq!(svg.matches("<polyline").count(), 2 * (2 + 1));
        assert!(svg.contains("mh lr=2e-3") && compare_figure(&[]).ends_with("</svg>\n"));
    }

    #[test]
    fn the_best_value_of_a_sweep_is_bold() {
        let rows = [("mh".to_owned(), vec![vec![100.0, 102.0], vec![99.0, 99.0]], 0)];
        let table = sweep_table("learning-rate", &["1e-3".into(), "2e-3".into()], &rows);
        assert!(table.ends_with("| mh | **101.0 ± 1.4** | 99.0 ± 0.0 |\n"), "{table}");
    }

    #[test]
    fn the_figure_has_a_dot_for_each_seed_and_a_line_for_each_loss() {
        let svg = study_figure(&scores(), &["1C", "RC"], ["SH", "MH"]);
        assert_eq!((svg.matches("<circle").count(), svg.matches("<polyline").count()), (12, 2));
        assert!(study_figure(&[], &["1C"], ["SH", "MH"]).ends_with("</svg>\n"));
    }
}
