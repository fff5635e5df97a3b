//! What came out of a study: a table and a figure, as mean and standard deviation over seeds.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

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
    let mut out = String::from(
        "| loss | training | crops | n | image → captions: R@1 | R@10 | Med r | caption → images: R@1 | R@10 | Med r | rsum |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows(scores) {
        let found = of_row(scores, row);
        let _ = write!(out, "| {} | {} | {} | {} |", row.0, row.1, row.2, found.len());
        for (_, figure) in FIGURES {
            let (mean, deviation) = mean_and_deviation(&found.iter().map(|s| figure(&s.test)).collect::<Vec<_>>());
            let _ = write!(out, " {mean:.1} ± {deviation:.1} |");
        }
        out.push('\n');
    }
    out
}

/// By how much the rsum of a row exceeds that of another, over the seeds that both have.
fn difference(scores: &[Score], from: Row<'_>, to: Row<'_>) -> String {
    let before = of_row(scores, from);
    let one = |after: &&Score| Some(after.test.rsum - before.iter().find(|s| s.seed == after.seed)?.test.rsum);
    let all: Vec<f64> = of_row(scores, to).iter().filter_map(one).collect();
    if all.is_empty() {
        return "–".into();
    }
    let (mean, deviation) = mean_and_deviation(&all);
    format!("{mean:+.1} ± {deviation:.1}")
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

const WIDTH: f64 = 680.0;
const HEIGHT: f64 = 340.0;
/// Left, right, top and bottom of the axes.
const AXES: [f64; 4] = [60.0, 520.0, 20.0, 290.0];
const COLOURS: [&str; 2] = ["#888888", "#c0392b"];

/// The rsum of each way: a dot for each seed, a line through the means; one crop full, ten crops dashed.
#[must_use]
#[allow(clippy::cast_possible_truncation)] // a scale for display
pub(crate) fn study_figure(scores: &[Score], ladder: &[&str], losses: [&str; 2]) -> String {
    let [left, right, top, bottom] = AXES;
    let all = scores.iter().map(|score| score.test.rsum);
    let low = (all.clone().fold(f64::INFINITY, f64::min) / 20.0).floor() * 20.0;
    let high = (all.fold(0.0, f64::max) / 20.0).ceil() * 20.0;
    let (low, high) = if high > low { (low, high) } else { (0.0, 600.0) };
    let y = |rsum: f64| bottom - (rsum - low) / (high - low) * (bottom - top);
    let x = |way: usize| left + (right - left) * (way as f64 + 0.5) / ladder.len() as f64;
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' font-family='sans-serif' font-size='13'>\n\
         <rect width='100%' height='100%' fill='white'/>\n"
    );
    for tick in (low as i64..=high as i64).step_by(20) {
        let y = y(tick as f64);
        let _ = writeln!(
            svg,
            "<line x1='{left}' x2='{right}' y1='{y:.1}' y2='{y:.1}' stroke='#e0e0e0'/>\
             <text x='{}' y='{:.1}' text-anchor='end'>{tick}</text>",
            left - 8.0,
            y + 4.0
        );
    }
    let _ = writeln!(
        svg,
        "<text x='16' y='{}' transform='rotate(-90 16 {0})' text-anchor='middle'>test rsum</text>",
        f64::midpoint(top, bottom)
    );
    for (k, way) in ladder.iter().enumerate() {
        let _ = writeln!(svg, "<text x='{:.1}' y='{}' text-anchor='middle'>{way}</text>", x(k), bottom + 22.0);
    }
    for (k, (loss, colour)) in losses.iter().zip(COLOURS).enumerate() {
        for (crops, dash, shift) in [(1, "", -6.0), (10, "6 4", 6.0)] {
            let mut line = Vec::new();
            for (way, name) in ladder.iter().enumerate() {
                let found = of_row(scores, (loss, name, crops));
                let at = x(way) + shift;
                for score in &found {
                    let fill = if crops == 1 { colour } else { "white" };
                    let _ = writeln!(
                        svg,
                        "<circle cx='{at:.1}' cy='{:.1}' r='3.5' fill='{fill}' stroke='{colour}'/>",
                        y(score.test.rsum)
                    );
                }
                if !found.is_empty() {
                    let (mean, _) = mean_and_deviation(&found.iter().map(|s| s.test.rsum).collect::<Vec<_>>());
                    line.push(format!("{at:.1},{:.1}", y(mean)));
                }
            }
            if line.is_empty() {
                continue;
            }
            let points = line.join(" ");
            let _ = writeln!(
                svg,
                "<polyline points='{points}' fill='none' stroke='{colour}' stroke-width='2' stroke-dasharray='{dash}'/>"
            );
            let legend = top + 20.0 + 24.0 * (2.0 * k as f64 + f64::from(u8::from(crops == 10)));
            let _ = writeln!(
                svg,
                "<line x1='{}' x2='{}' y1='{legend}' y2='{legend}' stroke='{colour}' stroke-width='2' stroke-dasharray='{dash}'/>\
                 <text x='{}' y='{}'>{loss}, {crops} {}</text>",
                right + 10.0,
                right + 34.0,
                right + 40.0,
                legend + 4.0,
                if crops == 1 { "crop" } else { "crops" }
            );
        }
    }
    svg + "</svg>\n"
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

    #[test]
    fn the_figure_has_a_dot_for_each_seed_and_a_line_for_each_loss() {
        let svg = study_figure(&scores(), &["1C", "RC"], ["SH", "MH"]);
        assert_eq!((svg.matches("<circle").count(), svg.matches("<polyline").count()), (12, 2));
        assert!(study_figure(&[], &["1C"], ["SH", "MH"]).ends_with("</svg>\n"));
    }
}
