//! Heat maps: where in a tensor the error is.

use std::collections::BTreeMap;
use std::fmt::Write;

use ndarray::ArrayD;

use super::text::{both, code, count, error_of, escape, index, short, units, value};
use crate::golden::check::CheckReport;
use crate::golden::compare::{Status, TensorReport};
use crate::golden::diagnose::Checked;
use crate::golden::difference::index_of;
use crate::golden::difference::{Deviation, Extent, lengths_of};
use crate::golden::suite::TensorEntry;
use crate::golden::tolerance::LARGE;

/// How many cases have a picture.
const SHOWN: usize = 12;
/// How many cells a picture has in each direction.
const CELLS: usize = 64;
/// Up to this number of cells, each shows its numbers.
const LABELLED: usize = 256;

/// A tensor and what was found, folded to two dimensions: all leading axes are rows, the last axis is columns.
struct Folded<'a> {
    expected: &'a ArrayD<f64>,
    found: Vec<f64>,
    /// In units of the tolerance; none after the end of a caption, infinite if no number gives the error.
    errors: Vec<Option<f64>>,
    rows: usize,
    columns: usize,
}

impl<'a> Folded<'a> {
    /// # Errors
    ///
    /// If there is nothing to draw, with the reason.
    fn new(case: &'a Checked, tensor: &TensorReport, allowed: f64) -> Result<Self, String> {
        let entry = case.golden.entry.tensors.iter().find(|entry| entry.name == tensor.name);
        let (Some(entry), Some(expected)) = (entry, case.golden.expected.get(&tensor.name)) else {
            return Err("the case has no such tensor".into());
        };
        let Some(found) = case.found.get(&tensor.name) else { return Err("it was not written".into()) };
        let (shape, other) = (expected.shape(), found.values.shape());
        if shape != other && (expected.len(), found.values.len()) != (1, 1) {
            return Err("the shapes differ".into());
        }
        let columns = shape.last().copied().unwrap_or(1);
        if expected.is_empty() {
            return Err("it has no elements".into());
        }
        let found: Vec<f64> = found.values.iter().copied().collect();
        let errors = errors(case, entry, expected, &found, allowed);
        Ok(Self { expected, found, errors, rows: expected.len() / columns, columns })
    }
}

/// The error of every element in units of the tolerance.
fn errors(
    case: &Checked,
    entry: &TensorEntry,
    expected: &ArrayD<f64>,
    found: &[f64],
    allowed: f64,
) -> Vec<Option<f64>> {
    let shape = expected.shape();
    let lengths = lengths_of(&case.golden.inputs);
    let lengths = lengths.filter(|lengths| entry.padded && shape.len() > 1 && lengths.len() == shape[0]);
    let extent = Extent { rows: entry.rows && !shape.is_empty(), lengths: lengths.as_deref() };
    let scales = extent.scales(expected);
    let row = expected.len().div_ceil(scales.len().max(1)).max(1);
    let error = |(flat, (&e, &f)): (usize, (&f64, &f64))| {
        if !extent.holds(shape, flat) {
            return None;
        }
        if e.to_bits() == f.to_bits() || (e.is_nan() && f.is_nan()) || f - e == 0.0 {
            return Some(0.0);
        }
        let units = (f - e).abs() / scales.get(flat / row).copied().unwrap_or(1.0) / allowed;
        Some(if units.is_finite() { units } else { f64::INFINITY })
    };
    expected.iter().zip(found).enumerate().map(error).collect()
}

/// The drawn cells, each of one or more elements.
struct Grid {
    /// How many elements a cell has, down and across.
    by: [usize; 2],
    size: [usize; 2],
    /// The largest error in each cell.
    cells: Vec<Option<f64>>,
}

impl Grid {
    fn new(folded: &Folded<'_>) -> Self {
        let by = [folded.rows, folded.columns].map(|n| n.div_ceil(CELLS).max(1));
        let size = [folded.rows.div_ceil(by[0]), folded.columns.div_ceil(by[1])];
        let mut cells: Vec<Option<f64>> = vec![None; size[0] * size[1]];
        for (flat, error) in folded.errors.iter().enumerate() {
            let (row, column) = (flat / folded.columns, flat % folded.columns);
            let cell = &mut cells[row / by[0] * size[1] + column / by[1]];
            *cell = match (*cell, *error) {
                (Some(a), Some(b)) => Some(a.max(b)),
                (a, b) => a.or(b),
            };
        }
        Self { by, size, cells }
    }

    fn is_binned(&self) -> bool {
        self.by != [1, 1]
    }
}

/// The class of a cell: `z` and `y` are accepted, `a` to `f` are powers of ten, `x` is beyond measure.
fn shade(error: Option<f64>) -> (char, &'static str) {
    match error {
        None => ('p', ""),
        Some(x) if x <= 0.1 => ('z', ""),
        Some(x) if x <= 1.0 => ('y', ""),
        Some(x) if x <= 1e1 => ('a', "1"),
        Some(x) if x <= 1e2 => ('b', "2"),
        Some(x) if x <= 1e3 => ('c', "3"),
        Some(x) if x <= 1e4 => ('d', "4"),
        Some(x) if x <= 1e5 => ('e', "5"),
        Some(x) if x.is_finite() => ('f', "6"),
        Some(_) => ('x', "×"),
    }
}

/// The letters of a tensor's dimensions, as in the notation.
fn letters(name: &str, dimensions: usize) -> Option<Vec<&'static str>> {
    let plain = name.trim_start_matches("grad.");
    let plain = ["opt.m.", "opt.v.", "opt.param."].iter().find_map(|start| plain.strip_prefix(start)).unwrap_or(plain);
    let last = plain.rsplit('.').next().unwrap_or(plain);
    let letters: &[&str] = match plain {
        "mid.words" => &["B", "T", "E"],
        "in.h0" => &["L", "B", "H"],
        "img_enc.fc.weight" => &["D", "F"],
        "txt_enc.proj.weight" => &["D", "H"],
        "txt_enc.embed.weight" => &["V", "E"],
        "out.scores" | "in.scores" | "mid.cost_s" | "mid.cost_im" | "mid.active_s" | "mid.active_im" => {
            &["images", "captions"]
        }
        "out.image_embedding" | "out.caption_embedding" => &["B", "D"],
        "mid.last" | "out.last" | "out.h_next" | "in.h" => &["B", "H"],
        _ if last.starts_with("weight_ih_l0") => &["3H", "E"],
        _ if last.starts_with("weight_ih") || last.starts_with("weight_hh") => &["3H", "H"],
        _ if last.starts_with("bias_ih") || last.starts_with("bias_hh") => &["3H"],
        _ if plain.starts_with("mid.l") && matches!(last, "a" | "c") => &["B", "T", "3H"],
        _ if plain.starts_with("mid.l") => &["B", "T", "H"],
        _ if matches!(plain, "mid.a" | "mid.c") => &["B", "3H"],
        _ if matches!(plain, "mid.r" | "mid.z" | "mid.n") => &["B", "H"],
        _ => &[],
    };
    (letters.len() == dimensions).then(|| letters.to_vec())
}

/// One direction of a picture: where its cells are, and the labels next to them.
struct Axis {
    /// The number of cells in a group. A gap follows each group.
    group: usize,
    gap: usize,
    side: usize,
    ticks: Vec<(usize, String)>,
}

impl Axis {
    /// Stacked gates (3H) are labelled r, z, n; groups of several dimensions are labelled with the first index.
    fn new(cells: usize, by: usize, side: usize, group: Option<usize>, gates: bool) -> Self {
        let group = group.filter(|&group| by == 1 && group > 1 && group < cells).unwrap_or(cells.max(1));
        let mut axis = Self { group, gap: side / 3 + 2, side, ticks: Vec::new() };
        axis.ticks = if gates && group < cells {
            ["r", "z", "n"]
                .iter()
                .enumerate()
                .map(|(k, gate)| (axis.center(k * group, group), (*gate).to_owned()))
                .collect()
        } else if group < cells && group * side >= 10 {
            (0..cells.div_ceil(group)).map(|k| (axis.center(k * group, group), k.to_string())).collect()
        } else {
            let every = 28usize.div_ceil(side);
            let shown = (0..cells).filter(|k| k % every == 0 && group >= cells);
            shown.map(|k| (axis.center(k, 1), (k * by).to_string())).collect()
        };
        axis
    }

    fn at(&self, cell: usize) -> usize {
        cell * self.side + cell / self.group * self.gap
    }

    fn center(&self, cell: usize, cells: usize) -> usize {
        self.at(cell) + cells * self.side / 2
    }
}

/// The names and sizes of the two directions.
fn axes(name: &str, shape: &[usize]) -> String {
    let known = letters(name, shape.len());
    let size =
        |k: usize| known.as_ref().map_or_else(|| shape[k].to_string(), |known| format!("{} = {}", known[k], shape[k]));
    match shape.len() {
        1 if known.is_none() => format!("→ {} numbers", size(0)),
        1 => format!("→ {}", size(0)),
        n => format!("↓ {}, → {}", (0..n - 1).map(size).collect::<Vec<_>>().join(" · "), size(n - 1)),
    }
}

/// Space for the labels.
const LEFT: usize = 26;
const TOP: usize = 20;

/// The picture of a grid.
fn draw(folded: &Folded<'_>, grid: &Grid, tensor: &TensorReport) -> String {
    let [rows, columns] = grid.size;
    let shape = folded.expected.shape();
    let side = (440 / columns).min(420 / rows).clamp(6, 30);
    let known = letters(&tensor.name, shape.len());
    let gates = |at: usize| known.as_ref().is_some_and(|known| known.get(at) == Some(&"3H"));
    let last = shape.len().saturating_sub(1);
    let inner = match shape.len() {
        0 | 1 => None,
        2 => gates(0).then(|| shape[0] / 3),
        n => Some(shape[1..n - 1].iter().product()),
    };
    let down = Axis::new(rows, grid.by[0], side, inner, shape.len() == 2 && gates(0));
    let across = Axis::new(columns, grid.by[1], side, gates(last).then(|| shape[last] / 3), gates(last));
    let (width, height) = (LEFT + across.at(columns - 1) + side + 8, TOP + down.at(rows - 1) + side + 8);
    let mut out = format!(
        "<svg class=\"heat\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" role=\"img\" aria-label=\"{}\">",
        escape(&format!("Errors of {} in units of the tolerance", tensor.name))
    );
    for (at, text) in &across.ticks {
        let _ = write!(out, "<text x=\"{}\" y=\"{}\">{text}</text>", LEFT + at, TOP - 6);
    }
    for (at, text) in &down.ticks {
        let _ = write!(out, "<text class=\"row\" x=\"{}\" y=\"{}\">{text}</text>", LEFT - 6, TOP + at + 4);
    }
    if rows * columns <= LABELLED {
        labelled(&mut out, folded, grid, &down, &across);
    } else {
        plain(&mut out, grid, &down, &across);
    }
    if let Some([row, column]) = place(folded, tensor) {
        let (x, y) = (LEFT + across.at(column / grid.by[1]), TOP + down.at(row / grid.by[0]));
        let _ = write!(out, "<rect class=\"worst\" x=\"{x}\" y=\"{y}\" width=\"{side}\" height=\"{side}\"/>");
    }
    out + "</svg>"
}

/// Cells with their numbers in a tooltip.
fn labelled(out: &mut String, folded: &Folded<'_>, grid: &Grid, down: &Axis, across: &Axis) {
    let side = down.side;
    for (flat, &error) in grid.cells.iter().enumerate() {
        let (row, column) = (flat / grid.size[1], flat % grid.size[1]);
        let (x, y) = (LEFT + across.at(column), TOP + down.at(row));
        let (class, digit) = shade(error);
        let title = match error {
            None => "after the end of the row: not compared".into(),
            Some(error) if grid.is_binned() => format!("at most {} tolerances", units(Some(error))),
            Some(error) => {
                let expected = folded.expected.iter().nth(flat).copied().unwrap_or(f64::NAN);
                let at = index(&index_of(folded.expected.shape(), flat));
                let [expected, found] = both(expected, folded.found[flat]);
                format!("{at}: expected {expected}, found {found}, {}", units(Some(error)))
            }
        };
        let _ = write!(
            out,
            "<g class=\"{class}\"><title>{title}</title><rect x=\"{x}\" y=\"{y}\" width=\"{side}\" height=\"{side}\"/>"
        );
        if !digit.is_empty() && side >= 12 {
            let _ = write!(out, "<text x=\"{}\" y=\"{}\">{digit}</text>", x + side / 2, y + side / 2 + 4);
        }
        out.push_str("</g>");
    }
}

/// Many cells: one path per class.
fn plain(out: &mut String, grid: &Grid, down: &Axis, across: &Axis) {
    let side = down.side;
    for class in "pzyabcdefx".chars() {
        let mut path = String::new();
        for (flat, _) in grid.cells.iter().enumerate().filter(|(_, error)| shade(**error).0 == class) {
            let (x, y) = (LEFT + across.at(flat % grid.size[1]), TOP + down.at(flat / grid.size[1]));
            let _ = write!(path, "M{x} {y}h{side}v{side}h-{side}z");
        }
        if !path.is_empty() {
            let _ = write!(out, "<path class=\"{class}\" d=\"{path}\"/>");
        }
    }
}

/// The worst place in the folded tensor, if there is one.
fn place(folded: &Folded<'_>, tensor: &TensorReport) -> Option<[usize; 2]> {
    let shape = folded.expected.shape();
    if tensor.index.len() != shape.len() {
        return None;
    }
    let flat =
        tensor.index.iter().zip(shape).try_fold(0, |flat, (&at, &size)| (at < size).then_some(flat * size + at))?;
    Some([flat / folded.columns, flat % folded.columns])
}

/// Expected and found around the worst place.
fn around(folded: &Folded<'_>, tensor: &TensorReport) -> String {
    let Some([row, column]) = place(folded, tensor) else { return String::new() };
    let window = |at: usize, size: usize| {
        let first = at.saturating_sub(1).min(size.saturating_sub(3));
        first..(first + 3).min(size)
    };
    let shape = folded.expected.shape();
    let mut out = String::from(
        "<div class=\"wide\"><table class=\"around\"><caption>Around the worst place: expected above, found below.</caption>\
         <thead><tr><th scope=\"col\">index</th>",
    );
    for c in window(column, folded.columns) {
        let _ = write!(out, "<th scope=\"col\">…, {c}</th>");
    }
    out += "</tr></thead><tbody>";
    for r in window(row, folded.rows) {
        let leading = index_of(shape, r * folded.columns);
        let leading = leading[..leading.len().saturating_sub(1)].iter().map(ToString::to_string).collect::<Vec<_>>();
        let _ = write!(
            out,
            "<tr><th scope=\"row\">{}</th>",
            if leading.is_empty() { "all".into() } else { leading.join(", ") }
        );
        for c in window(column, folded.columns) {
            let flat = r * folded.columns + c;
            let expected = folded.expected.iter().nth(flat).copied().unwrap_or(f64::NAN);
            let (class, mark) = match folded.errors[flat] {
                None => ("padding", ""),
                Some(error) if error <= 1.0 => ("fine", ""),
                Some(_) => ("off", " ✗"),
            };
            let here = if (r, c) == (row, column) { " here" } else { "" };
            let found = folded.found[flat];
            let [expected, found] = if mark.is_empty() { [expected, found].map(value) } else { both(expected, found) };
            let found = if class == "padding" { "(not compared)" } else { &found };
            let _ = write!(out, "<td class=\"{class}{here}\">{expected}<br>{found}{mark}</td>");
        }
        out += "</tr>";
    }
    out + "</tbody></table></div>"
}

/// The two or three figures that are compared with the tolerance.
fn figures(tensor: &TensorReport) -> String {
    let (Some(found), Some(allowed)) = (tensor.deviation, tensor.tolerance) else { return String::new() };
    let part = |found: f64, allowed: f64| if found == 0.0 { Some(0.0) } else { Some(found / allowed) };
    let mut out = format!(
        "In tolerances: largest error {}, Frobenius norm {}",
        units(part(found.max, allowed.max)),
        units(part(found.frobenius, allowed.frobenius))
    );
    if tensor.compared >= LARGE {
        let _ = write!(out, ", mean {}", units(part(found.bias, allowed.bias)));
    }
    out + "."
}

/// The picture of a failing case, with its captions.
fn figure(case: &Checked, checkup: &CheckReport) -> String {
    let report = &case.report;
    let mut out = format!("<figure><figcaption><h3>{}</h3>", code(&report.id));
    let Some(tensor) = report.headline() else {
        let _ = write!(
            out,
            "<p>{}. There is nothing to draw.</p></figcaption></figure>",
            short(report.problem.as_deref().unwrap_or("it failed as a whole"))
        );
        return out;
    };
    let problem = tensor.problem.as_deref().unwrap_or("not within its tolerance");
    let _ = write!(out, "<p>{} ({}): {}.", code(&tensor.name), tensor.stage, short(problem));
    let entry = case.golden.entry.tensors.iter().find(|entry| entry.name == tensor.name);
    let allowed = tensor.tolerance.or_else(|| entry.and_then(|entry| entry.tolerance.get(&checkup.profile).copied()));
    let allowed: Deviation = allowed.unwrap_or_default();
    let folded = match Folded::new(case, tensor, allowed.max) {
        Ok(folded) => folded,
        Err(why) => return out + &format!(" Nothing is drawn: {}.</p></figcaption></figure>", escape(&why)),
    };
    let _ = write!(out, " {}</p>", figures(tensor));
    if let (1, Some(&expected), Some(&found)) = (folded.found.len(), folded.expected.first(), folded.found.first()) {
        let times = Some(found / expected);
        let [expected, found] = both(expected, found);
        let times = times.filter(|times| (1e-4..1e4).contains(&times.abs()));
        let times = times.map(|times| format!(", {times:.5} times that")).unwrap_or_default();
        let _ = write!(out, "<p>A single number: expected {expected}, found {found}{times}.</p></figcaption></figure>");
        return out;
    }
    let grid = Grid::new(&folded);
    if grid.is_binned() {
        let [down, across] = grid.by;
        let _ = write!(out, "<p class=\"soft\">A cell is the largest error of up to {down} × {across} elements.</p>");
    }
    if case.golden.entry.flags.iter().any(|flag| flag == "tie") {
        out += "<p class=\"soft\">Hardest negatives tie here; the picture compares with the choice of the first.</p>";
    }
    let _ = write!(out, "<p class=\"soft\">{}</p></figcaption>", axes(&tensor.name, folded.expected.shape()));
    out += &draw(&folded, &grid, tensor);
    out += &around(&folded, tensor);
    if tensor.units.is_none() {
        let _ = write!(out, "<p class=\"soft\">Error: {}.</p>", error_of(tensor));
    }
    out + "</figure>"
}

/// What the colours mean.
fn legend() -> String {
    let meanings = [
        (Some(0.0), "up to 0.1"),
        (Some(1.0), "up to 1: accepted"),
        (Some(1e1), "up to 10"),
        (Some(1e2), "up to 10²"),
        (Some(1e3), "up to 10³"),
        (Some(1e4), "up to 10⁴"),
        (Some(1e5), "up to 10⁵"),
        (Some(1e6), "more"),
        (Some(f64::INFINITY), "beyond measure: NaN, infinite, or a whole number that differs"),
        (None, "after the end of a row: not compared"),
    ];
    let mut out = String::from("<ul class=\"legend\" aria-label=\"Colours, in tolerances\">");
    for (error, words) in meanings {
        let (class, digit) = shade(error);
        let _ = write!(
            out,
            "<li><svg class=\"heat\" width=\"20\" height=\"20\" viewBox=\"0 0 20 20\" aria-hidden=\"true\"><g class=\"{class}\">\
             <rect x=\"1\" y=\"1\" width=\"18\" height=\"18\"/><text x=\"10\" y=\"14\">{digit}</text></g></svg> {words}</li>"
        );
    }
    out + "</ul>"
}

/// The cases to show: one of each family and tensor, then a second of each, and so on; in the order of the suite.
fn chosen(checkup: &CheckReport) -> Vec<&Checked> {
    let failing: Vec<&Checked> = checkup.checked.iter().filter(|case| case.report.status == Status::Failed).collect();
    let kind = |case: &Checked| (case.report.family.clone(), case.report.headline().map(|tensor| tensor.name.clone()));
    let mut seen = BTreeMap::new();
    let mut turns: Vec<(usize, usize)> = Vec::new();
    for (place, case) in failing.iter().enumerate() {
        let turn: &mut usize = seen.entry(kind(case)).or_default();
        turns.push((*turn, place));
        *turn += 1;
    }
    turns.sort_unstable();
    let mut places: Vec<usize> = turns.into_iter().take(SHOWN).map(|(_, place)| place).collect();
    places.sort_unstable();
    places.into_iter().map(|k| failing[k]).collect()
}

/// The section with the pictures.
pub(super) fn section(checkup: &CheckReport) -> String {
    let all = checkup.checked.iter().filter(|case| case.report.status == Status::Failed).count();
    if all == 0 {
        return String::new();
    }
    let shown = chosen(checkup);
    let mut out = String::from(
        "<section id=\"pictures\"><h2>Where in the tensors</h2><p>The first diverging tensor of a case: the error of every \
         element in units of the tolerance, with the worst place framed. Rows are the leading dimensions, columns the last. \
         The figure in a cell is the power of ten that the error stays below.",
    );
    if all > shown.len() {
        let _ = write!(
            out,
            " Of {} {} are shown, of different families first; {} more are in the table of cases.",
            count(all, "failing case"),
            shown.len(),
            all - shown.len()
        );
    }
    out += "</p>";
    out += &legend();
    out += "<div class=\"figures\">";
    for case in shown {
        out += &figure(case, checkup);
    }
    out + "</div></section>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shades_are_powers_of_ten() {
        let shades = [
            Some(0.0),
            Some(0.5),
            Some(1.0),
            Some(1.01),
            Some(10.0),
            Some(99.0),
            Some(1e5),
            Some(1e9),
            Some(f64::INFINITY),
            None,
        ];
        assert_eq!(shades.map(|x| shade(x).0), ['z', 'y', 'y', 'a', 'a', 'b', 'e', 'f', 'x', 'p']);
    }

    #[test]
    fn large_tensors_are_binned_by_their_maximum() {
        let expected = ArrayD::zeros(vec![130, 65]);
        let mut errors = vec![Some(0.0); 130 * 65];
        errors[129 * 65 + 64] = Some(7.0);
        errors[..3 * 65].fill(None);
        let folded = Folded { expected: &expected, found: vec![0.0; 130 * 65], errors, rows: 130, columns: 65 };
        let grid = Grid::new(&folded);
        assert_eq!((grid.by, grid.size), ([3, 2], [44, 33]));
        assert_eq!((grid.cells[0], grid.cells[33], grid.cells.last()), (None, Some(0.0), Some(&Some(7.0))));
        assert!(grid.is_binned());
    }

    #[test]
    fn cells_lie_in_groups() {
        let axis = Axis::new(12, 1, 10, Some(4), true);
        assert_eq!([0, 3, 4, 11].map(|k| axis.at(k)), [0, 30, 45, 120]);
        assert_eq!(axis.ticks[1], (65, "z".to_owned()));
        assert_eq!(letters("grad.txt_enc.rnn.weight_ih_l0", 2), Some(vec!["3H", "E"]));
        assert_eq!(letters("grad.txt_enc.rnn.weight_ih_l0", 1), None);
    }
}
