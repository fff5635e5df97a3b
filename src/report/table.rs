//! Tables in plain text.

use std::fmt::Write;

use crate::eval::{Evaluation, Recall};
use crate::gradcheck::Report;

/// 12345 → `12,345`.
#[must_use]
pub(crate) fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// R@K in both directions.
#[must_use]
pub(crate) fn evaluation_table(title: &str, e: &Evaluation) -> String {
    let mut out = format!("{title}: {} images, {} captions", thousands(e.images), thousands(e.captions));
    if e.folds > 1 {
        let _ = write!(out, ", mean of {} folds", e.folds);
    }
    out.push_str("\n\n                       R@1    R@5   R@10   Med r   Mean r\n");
    let mut line = |name: &str, r: &Recall| {
        let _ = writeln!(
            out,
            "  {name:<18} {:>6.1} {:>6.1} {:>6.1} {:>7} {:>8.1}",
            r.r1,
            r.r5,
            r.r10,
            trim(r.medr),
            r.meanr
        );
    };
    line("image → captions", &e.image_to_text);
    line("caption → images", &e.text_to_image);
    let _ = writeln!(out, "  rsum {:.1}", e.rsum);
    let tied = e.image_to_text.tied + e.text_to_image.tied;
    if tied > 0 {
        let _ = writeln!(
            out,
            "  ties: for {} image and {} caption queries, equal scores decide the rank (the lower index is first)",
            thousands(e.image_to_text.tied),
            thousands(e.text_to_image.tied)
        );
    }
    out
}

/// A median. It is a whole number unless it is a mean over folds.
fn trim(medr: f64) -> String {
    if medr.fract() == 0.0 { format!("{medr:.0}") } else { format!("{medr:.1}") }
}

/// One line per problem; with `blocks`, also one line per block.
#[must_use]
pub(crate) fn gradcheck_table(reports: &[Report], blocks: bool) -> String {
    let width = reports.iter().map(|report| report.problem.chars().count()).max().unwrap_or(0);
    let longest = reports.iter().filter_map(Report::worst).map(|block| block.name.len()).max().unwrap_or(0);
    let mut out = format!("     {:<width$}  numbers    error  {:<longest$}  slopes           near a kink\n", "", "in");
    for report in reports {
        let size = report.blocks.iter().fold(0, |s, block| s + block.size);
        let (error, name) = report.worst().map_or((0.0, ""), |block| (block.error, block.name.as_str()));
        let t = &report.taylor;
        let kinks =
            if t.at_kink > 0 { format!("{} ({} AT a kink)", t.near_kink, t.at_kink) } else { t.near_kink.to_string() };
        let slopes = match (t.slope_min, t.slope_max) {
            (Some(least), Some(most)) => format!("{least:.4} … {most:.4}"),
            _ => "linear".into(),
        };
        let _ = writeln!(
            out,
            "{} {:<width$}  {size:>7}  {error:.1e}  {name:<longest$}  {slopes:<15}  {kinks}",
            if report.passed { "ok  " } else { "FAIL" },
            report.problem,
        );
        for block in report.blocks.iter().filter(|_| blocks) {
            let (name, size) = (&block.name, block.size);
            let _ = writeln!(
                out,
                "       {name:<inner$}  {size:>7}  {:.1e}  largest |gradient| {:.2e}",
                block.error,
                block.largest,
                inner = width - 2
            );
        }
    }
    let failed = reports.iter().filter(|report| !report.passed).count();
    let directions = reports.first().map_or(0, |report| report.taylor.directions);
    let _ = writeln!(
        out,
        "\n{} of {} problems pass: by complex steps, every entry is within {:.0e} of its block's largest;\nTaylor slopes are within {:.2} … {:.2} in {directions} directions each.",
        reports.len() - failed,
        reports.len(),
        crate::gradcheck::TOLERANCE,
        crate::gradcheck::SLOPES.start(),
        crate::gradcheck::SLOPES.end(),
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn the_table_has_both_directions_and_reports_ties() {
        let recall = Recall { r1: 12.34, r5: 40.0, r10: 100.0, medr: 3.0, meanr: 7.25, tied: 2 };
        let e = Evaluation {
            images: 1000,
            captions: 5000,
            folds: 5,
            image_to_text: recall,
            text_to_image: recall,
            rsum: 304.7,
        };
        let table = evaluation_table("test", &e);
        assert!(table.starts_with("test: 1,000 images, 5,000 captions, mean of 5 folds"));
        assert!(table.contains("image → captions     12.3   40.0  100.0       3      7.2"), "{table}");
        assert!(table.contains("ties: for 2 image and 2 caption queries"));
    }
}
