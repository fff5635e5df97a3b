//! Every tensor's error against its tolerance, on a logarithmic axis.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::text::{class, code, count, escape, sign, units};
use crate::golden::check::CheckReport;
use crate::golden::compare::Status;
use crate::golden::stage::Stage;

/// The axis goes from 10⁻⁴ to 10⁴ tolerances.
const DECADES: f64 = 4.0;
/// How many rows there are at most.
const MOST: usize = 600;

/// The tensors of one name in all cases.
struct Row {
    stage: Stage,
    name: String,
    cases: usize,
    failed: usize,
    least: f64,
    /// Infinite if no number gives the error.
    worst: f64,
    /// The case and the tensor with the worst error.
    at: (String, String),
}

/// The name of a row. The optimiser has three tensors for each parameter; each kind is one row.
fn pattern(name: &str) -> String {
    let start = ["opt.m.", "opt.v.", "opt.param."].into_iter().find(|start| name.starts_with(start));
    start.map_or_else(|| name.to_owned(), |start| format!("{start}*"))
}

fn rows(checkup: &CheckReport) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut places: BTreeMap<(String, String), usize> = BTreeMap::new();
    for report in &checkup.reports {
        let compared = |status| matches!(status, Status::Passed | Status::Remark | Status::Failed);
        for tensor in report.tensors.iter().filter(|tensor| compared(tensor.status)) {
            let name = pattern(&tensor.name);
            let place = *places.entry((tensor.stage.to_string(), name.clone())).or_insert_with(|| {
                rows.push(Row {
                    stage: tensor.stage,
                    name,
                    cases: 0,
                    failed: 0,
                    least: f64::INFINITY,
                    worst: -1.0,
                    at: Default::default(),
                });
                rows.len() - 1
            });
            let row = &mut rows[place];
            let units = tensor.units.filter(|x| x.is_finite()).unwrap_or(f64::INFINITY);
            row.cases += 1;
            row.failed += usize::from(tensor.status == Status::Failed);
            row.least = row.least.min(units);
            if units > row.worst {
                (row.worst, row.at) = (units, (report.id.clone(), tensor.name.clone()));
            }
        }
    }
    let order = |stage: Stage| checkup.stages.iter().position(|known| known.stage == stage);
    rows.sort_by_key(|row| order(row.stage).unwrap_or(usize::MAX));
    rows
}

/// The place on the axis in percent.
fn percent(units: f64) -> f64 {
    let logarithm = if units > 0.0 { libm::log10(units) } else { -DECADES };
    (logarithm.clamp(-DECADES, DECADES) + DECADES) / (2.0 * DECADES) * 100.0
}

fn draw(row: &Row) -> String {
    let status = if row.failed > 0 { Status::Failed } else { Status::Passed };
    let (left, right) = (percent(row.least), percent(row.worst));
    let mut out = format!("<tr class=\"{}\"><th scope=\"row\">{}</th>", class(status), code(&row.name));
    let title = format!("worst: {} in {}", row.at.1, row.at.0);
    let _ = write!(out, "<td class=\"track\" title=\"{}\"><div>", escape(&title));
    if row.cases > 1 {
        let _ = write!(out, "<i style=\"left:{left:.1}%;width:{:.1}%\"></i>", right - left);
    }
    let limit = 10f64;
    let (low, high) = (libm::pow(limit, -DECADES), libm::pow(limit, DECADES));
    let (shape, glyph) = match row.worst {
        x if x > high => ("end", "▶"),
        x if x < low => ("start", "◀"),
        _ => ("dot", ""),
    };
    let _ = write!(out, "<b class=\"{shape}\" style=\"left:{right:.1}%\">{glyph}</b></div></td>");
    let worst = units(Some(row.worst));
    let failed =
        if row.failed > 0 { format!("{} of {} failed", row.failed, row.cases) } else { count(row.cases, "time") };
    let _ = write!(out, "<td class=\"n\">{} {worst}</td><td class=\"n\">{failed}</td></tr>", sign(status));
    out
}

/// The section with the chart.
pub(super) fn section(checkup: &CheckReport) -> String {
    let rows = rows(checkup);
    if rows.is_empty() {
        return String::new();
    }
    let mut out = format!(
        "<section id=\"errors\"><h2>Error against tolerance</h2><p>{} of {} names. A mark is the worst of all cases, and the bar \
         reaches down to the best. To the right of the line at 1 a tensor fails. Arrows point to values beyond the axis. \
         <code>opt.m.*</code> is all moments of that kind.</p>",
        count(checkup.counts.tensors, "tensor"),
        rows.len()
    );
    out += "<table class=\"chart\"><thead><tr><th scope=\"col\">tensor</th><th scope=\"col\" class=\"track\"><div>";
    for (at, text) in [(0, "10⁻⁴"), (25, "10⁻²"), (50, "1"), (75, "10²"), (100, "10⁴")] {
        let _ = write!(out, "<span style=\"left:{at}%\">{text}</span>");
    }
    out += "</div></th><th scope=\"col\">worst</th><th scope=\"col\">compared</th></tr></thead>";
    let mut stage = None;
    for row in rows.iter().take(MOST) {
        if stage != Some(row.stage) {
            if stage.is_some() {
                out += "</tbody>";
            }
            let name = row.stage;
            let _ = write!(out, "<tbody><tr class=\"stage\"><th scope=\"rowgroup\" colspan=\"4\">{name}</th></tr>");
            stage = Some(row.stage);
        }
        out += &draw(row);
    }
    out += "</tbody></table>";
    if rows.len() > MOST {
        let _ = write!(out, "<p>And {} more.</p>", rows.len() - MOST);
    }
    out + "</section>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_stands_in_the_middle_and_the_ends_are_clipped() {
        let places = [0.0, 1e-9, 1e-4, 1e-2, 1.0, 1e4, 1e9, f64::INFINITY].map(percent);
        assert_eq!(places, [0.0, 0.0, 0.0, 25.0, 50.0, 100.0, 100.0, 100.0]);
        assert_eq!([pattern("opt.v.img_enc.fc.bias"), pattern("opt.norms")], ["opt.v.*", "opt.norms"]);
    }
}
