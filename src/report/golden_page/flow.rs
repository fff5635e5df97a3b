//! The data flow as a diagram: forward goes down on the left, backward comes up on the right, so that
//! a stage and its gradient stand side by side.

use std::fmt::Write;

use super::text::{class, code, count, escape, label, sign, units};
use crate::golden::check::{Checkup, StageReport};
use crate::golden::compare::Status;
use crate::report::thousands;

const WIDTH: usize = 158;
const HEIGHT: usize = 56;
const ACROSS: usize = 18;
const DOWN: usize = 26;
const EDGE: usize = 10;

/// The caption's lane from above; `gru layer` stands for every layer.
const CAPTION: [&str; 5] = ["words", "gru layer", "last state", "caption side", "caption embedding"];
/// The image's lane, beside the last two of the caption's.
const IMAGE: [&str; 2] = ["image side", "image embedding"];
/// What is checked by itself, each beside its gradient.
const ALONE: [&str; 4] = ["projection", "normalisation", "state", "gru input"];
/// What follows when all gradients are there.
const AFTER: [&str; 3] = ["losses of the steps", "clipping", "adam"];

/// The outcome of a stage.
pub(super) fn outcome(stage: &StageReport) -> Status {
    match stage {
        s if s.failed > 0 => Status::Failed,
        s if s.tensors > 0 => Status::Passed,
        s if s.missing > 0 => Status::Missing,
        _ => Status::NotJudged,
    }
}

/// A stage in a place of the picture.
struct Node<'a> {
    stage: &'a StageReport,
    left: usize,
    top: usize,
}

impl Node<'_> {
    fn middle(&self) -> usize {
        self.left + WIDTH / 2
    }

    fn bottom(&self) -> usize {
        self.top + HEIGHT
    }

    fn draw(&self, out: &mut String, first: bool) {
        let s = self.stage;
        let status = outcome(s);
        let what = match status {
            Status::Failed => format!("{} of {} failed", thousands(s.failed), thousands(s.tensors)),
            Status::Passed => format!("all {} passed", thousands(s.tensors)),
            Status::Missing => format!("{} not written", thousands(s.missing)),
            _ => "not judged".into(),
        };
        let absent = s.missing + s.not_judged;
        let more = match status {
            Status::Passed if absent > 0 => format!("{} more not compared", thousands(absent)),
            Status::Failed | Status::Passed => format!("worst {}", units(s.worst)),
            _ => String::new(),
        };
        let at = s.worst_at.as_ref().map(|(case, tensor)| format!("; worst: {tensor} in {case}")).unwrap_or_default();
        let title = format!("{}: {what}{at}", s.stage);
        // A stage that this program does not know could have any name.
        let name: String = s.stage.replace("backward: ", "∂ ").chars().take(24).collect();
        let kind = class(status);
        let (x, y, middle) = (self.left, self.top, self.middle());
        let _ = write!(
            out,
            "<g class=\"node {kind}{}\"><title>{}</title>",
            if first { " first" } else { "" },
            escape(&title)
        );
        let _ = write!(out, "<rect x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"7\"/>");
        let _ = write!(out, "<text class=\"name\" x=\"{middle}\" y=\"{}\">{}</text>", y + 19, escape(&name));
        let _ = write!(out, "<text x=\"{middle}\" y=\"{}\">{} {what}</text>", y + 34, sign(status));
        let _ = write!(out, "<text class=\"more\" x=\"{middle}\" y=\"{}\">{more}</text>", y + 48);
        if first {
            let _ = write!(
                out,
                "<rect class=\"flag\" x=\"{}\" y=\"{}\" width=\"80\" height=\"17\" rx=\"8\"/>",
                x - 8,
                y - 12
            );
            let _ = write!(out, "<text class=\"flag\" x=\"{}\" y=\"{y}\">breaks first</text>", x + 32);
        }
        out.push_str("</g>");
    }
}

/// The picture in the making.
struct Picture<'a> {
    checkup: &'a Checkup,
    nodes: Vec<Node<'a>>,
    /// From, to.
    arrows: Vec<[(usize, usize); 2]>,
    labels: Vec<(usize, usize, &'static str)>,
    /// Where the next row begins.
    below: usize,
}

impl<'a> Picture<'a> {
    fn stage(&self, name: &str) -> Option<&'a StageReport> {
        self.checkup.stages.iter().find(|stage| stage.stage == name)
    }

    fn has(&self, name: &str) -> bool {
        self.stage(name).is_some() || self.stage(&format!("backward: {name}")).is_some()
    }

    /// Adds a stage if it is there; a column counts in halves.
    fn add(&mut self, name: &str, halves: usize, top: usize) -> Option<usize> {
        let stage = self.stage(name)?;
        self.nodes.push(Node { stage, left: EDGE + halves * (WIDTH + ACROSS) / 2, top });
        Some(self.nodes.len() - 1)
    }

    /// Adds a lane's stages from above and the arrows between them; returns the last.
    fn lane(&mut self, names: &[(String, usize)], halves: usize, back: bool) -> Option<usize> {
        let mut above: Option<usize> = None;
        for (name, top) in names {
            let name = if back { format!("backward: {name}") } else { name.clone() };
            let Some(node) = self.add(&name, halves, *top) else { continue };
            if let Some(above) = above {
                self.between(above, node, back);
            }
            above = Some(node);
        }
        above
    }

    /// An arrow between a stage and one that lies below it.
    fn between(&mut self, upper: usize, lower: usize, back: bool) {
        let (upper, lower) = (&self.nodes[upper], &self.nodes[lower]);
        let aside = (WIDTH / 5).min(upper.middle().abs_diff(lower.middle()));
        let x = if upper.middle() < lower.middle() { lower.middle() - aside } else { lower.middle() + aside };
        let ends = [(upper.middle(), upper.bottom()), (x, lower.top)];
        self.arrows.push(if back { [ends[1], ends[0]] } else { ends });
    }

    fn next_row(&mut self) -> usize {
        let top = self.below;
        self.below += HEIGHT + DOWN;
        top
    }

    /// Both lanes, scores and loss, and the way back.
    fn model(&mut self) {
        let start = self.below;
        self.below += DOWN;
        let layers: Vec<String> = (0..self.checkup.stages.len())
            .map(|layer| format!("gru layer {layer}"))
            .filter(|name| self.has(name))
            .collect();
        let captions: Vec<String> = CAPTION
            .iter()
            .flat_map(|&name| if name == "gru layer" { layers.clone() } else { vec![name.to_owned()] })
            .filter(|name| {
                self.has(name)
                    || CAPTION[3..].contains(&name.as_str()) && self.has(IMAGE[usize::from(name == CAPTION[4])])
            })
            .collect();
        let captions: Vec<(String, usize)> = captions.into_iter().map(|name| (name, self.next_row())).collect();
        let images: Vec<(String, usize)> = IMAGE
            .iter()
            .zip(&CAPTION[3..])
            .filter_map(|(image, beside)| {
                Some(((*image).to_owned(), captions.iter().find(|(name, _)| name == beside)?.1))
            })
            .collect();
        let ends = [(&images, 0, false), (&captions, 2, false), (&captions, 4, true), (&images, 6, true)]
            .map(|(names, halves, back)| (self.lane(names, halves, back), back));
        let rows = ["scores", "loss"].map(|name| self.has(name).then(|| self.next_row()));
        let top = |row: Option<usize>| row.unwrap_or_default();
        let scores = [self.add("scores", 1, top(rows[0])), self.add("backward: scores", 5, top(rows[0]))];
        for (end, back) in ends {
            if let (Some(end), Some(scores)) = (end, scores[usize::from(back)]) {
                self.between(end, scores, back);
            }
        }
        let loss = self.add("loss", 1, top(rows[1]));
        let back = self.add("backward: loss", 5, top(rows[1]));
        if let (Some(scores), Some(loss)) = (scores[0], loss) {
            self.between(scores, loss, false);
        }
        if let (Some(loss), Some(to)) = (loss, back.or(scores[1])) {
            let (from, to) = (&self.nodes[loss], &self.nodes[to]);
            let right = (from.left + WIDTH, from.top + HEIGHT / 2);
            self.arrows.push([right, (to.middle(), to.bottom())]);
        }
        if self.nodes.is_empty() {
            self.below = start;
        } else {
            let place = |column: usize| EDGE + column * (WIDTH + ACROSS) + WIDTH / 2;
            for (column, words) in ["images ↓", "captions ↓", "gradients ↑", "gradients ↑"].into_iter().enumerate()
            {
                let left = place(column) - WIDTH / 2;
                let first = self.nodes.iter().filter(|node| node.left == left).map(|node| node.top).min();
                self.labels.extend(first.map(|top| (place(column), top - DOWN / 2 - 3, words)));
            }
        }
    }

    /// A row of stages under a heading.
    fn row(&mut self, words: &'static str, names: &[String]) {
        let there: Vec<&String> = names.iter().filter(|name| self.stage(name).is_some()).collect();
        for (k, four) in there.chunks(4).enumerate() {
            if k == 0 {
                self.labels.push((usize::MAX, self.below + 12, words));
                self.below += DOWN;
            }
            let top = self.next_row();
            for (column, name) in four.iter().enumerate() {
                let node = self.add(name, 2 * column, top);
                let gradient = name.starts_with("backward: ") || *name == "adam";
                if let (Some(node), true, true) = (node, gradient, column > 0) {
                    let (from, to) = (&self.nodes[node - 1], &self.nodes[node]);
                    if from.stage.stage == name.replace("backward: ", "") || from.stage.stage == "clipping" {
                        let y = from.top + HEIGHT / 2;
                        self.arrows.push([(from.left + WIDTH, y), (to.left, y)]);
                    }
                }
            }
        }
    }

    fn draw(&self) -> String {
        let width = 2 * EDGE + 4 * WIDTH + 3 * ACROSS;
        let first = self.checkup.stages.iter().find(|stage| stage.failed > 0).map(|stage| &stage.stage);
        let mut out = format!(
            "<svg class=\"flow\" viewBox=\"0 0 {width} {}\" width=\"{width}\" role=\"img\" aria-label=\"The stages of the \
             data flow and their outcomes, as in the table below\">",
            self.below
        );
        for &(x, y, words) in &self.labels {
            let (x, kind) = if x == usize::MAX { (EDGE, "head left") } else { (x, "head") };
            let _ = write!(out, "<text class=\"{kind}\" x=\"{x}\" y=\"{y}\">{words}</text>");
        }
        for [(x1, y1), (x2, y2)] in &self.arrows {
            // From the loss to its gradient the way has a corner.
            let sideways = self.nodes.iter().any(|node| node.left + WIDTH == *x1 && node.top + HEIGHT / 2 == *y1);
            let corner = if sideways && y1 != y2 { format!("H{x2}") } else { String::new() };
            let _ =
                write!(out, "<path class=\"arrow\" d=\"M{x1} {y1}{corner}L{x2} {y2}\" marker-end=\"url(#arrow)\"/>");
        }
        for node in &self.nodes {
            node.draw(&mut out, Some(&node.stage.stage) == first);
        }
        out + "</svg>"
    }
}

/// The diagram of all stages that were there.
fn diagram(checkup: &Checkup) -> String {
    let mut picture = Picture { checkup, nodes: Vec::new(), arrows: Vec::new(), labels: Vec::new(), below: EDGE };
    picture.model();
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<String>>();
    picture.row("after all gradients", &names(&AFTER));
    let beside: Vec<String> = ALONE.iter().flat_map(|&name| [name.to_owned(), format!("backward: {name}")]).collect();
    picture.row("layers by themselves: what they give, and their gradients", &beside);
    let drawn: Vec<&String> = picture.nodes.iter().map(|node| &node.stage.stage).collect();
    let others = checkup.stages.iter().map(|stage| &stage.stage).filter(|name| !drawn.contains(name)).cloned();
    picture.row("other stages", &others.collect::<Vec<_>>());
    picture.draw()
}

/// The section with the diagram, and the same as a table.
pub(super) fn section(checkup: &Checkup) -> String {
    if checkup.stages.is_empty() {
        return String::new();
    }
    let mut out = String::from("<section id=\"flow\"><h2>Where in the data flow</h2><p>");
    let failed = checkup.stages.iter().filter(|stage| stage.failed > 0).count();
    let first = checkup.stages.iter().find(|stage| stage.failed > 0);
    let _ = match first {
        Some(stage) => write!(
            out,
            "The first stage that breaks is <strong>{}</strong>. What follows it may be wrong because of it alone: fix it \
             first. {failed} of {} break.",
            short_name(stage),
            count(checkup.stages.len(), "stage")
        ),
        None => write!(out, "No stage breaks."),
    };
    out += " ∂ is the gradient of the loss.";
    out += "</p><p class=\"legend\">";
    for status in [Status::Passed, Status::Failed, Status::Missing, Status::NotJudged] {
        out += &label(status);
        out.push(' ');
    }
    out += "</p><div class=\"wide\">";
    out += &diagram(checkup);
    out += "</div><details><summary>The same as a table</summary><div class=\"wide\"><table><thead><tr>";
    for head in
        ["stage", "outcome", "compared", "failed", "not written", "not judged", "worst error in tolerances", "in"]
    {
        let _ = write!(out, "<th scope=\"col\">{head}</th>");
    }
    out += "</tr></thead><tbody>";
    for stage in &checkup.stages {
        let _ = write!(out, "<tr><th scope=\"row\">{}</th><td>{}</td>", short_name(stage), label(outcome(stage)));
        for n in [stage.tensors, stage.failed, stage.missing, stage.not_judged] {
            let _ = write!(out, "<td class=\"n\">{}</td>", thousands(n));
        }
        let worst = if stage.tensors > 0 { units(stage.worst) } else { "–".into() };
        let at = stage.worst_at.as_ref().map(|(case, tensor)| format!("{} in {}", code(tensor), code(case)));
        let _ = write!(out, "<td class=\"n\">{worst}</td><td>{}</td></tr>", at.unwrap_or_default());
    }
    out + "</tbody></table></div></details></section>"
}

fn short_name(stage: &StageReport) -> String {
    if stage.stage.is_empty() { "(no stage)".into() } else { super::text::short(&stage.stage) }
}
