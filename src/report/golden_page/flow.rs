//! The data flow as a diagram. Forward goes down on the left, backward comes up on the right, and a
//! stage and its gradient are in one row.

use std::fmt::Write;

use super::text::{class, code, count, escape, label, sign, units};
use crate::golden::check::{CheckReport, StageReport};
use crate::golden::compare::Status;
use crate::golden::stage::{Stage, Step};
use crate::report::thousands;

const WIDTH: usize = 158;
const HEIGHT: usize = 56;
const ACROSS: usize = 18;
const DOWN: usize = 26;
const EDGE: usize = 10;

/// The caption's lane from the top; [`Step::GruLayer`] is every layer.
const CAPTION: [Step; 5] = [Step::Words, Step::GruLayer, Step::LastState, Step::CaptionSide, Step::CaptionEmbedding];
/// The image's lane, in the rows of the last two of the caption's.
const IMAGE: [Step; 2] = [Step::ImageSide, Step::ImageEmbedding];
/// The stages that are checked by themselves, each in a row with its gradient.
const ALONE: [Step; 8] = [
    Step::Projection,
    Step::Normalisation,
    Step::State,
    Step::GruInput,
    Step::Convolution,
    Step::BatchNorm,
    Step::MaxPool,
    Step::AvgPool,
];
/// The stages after all gradients.
const AFTER: [Step; 3] = [Step::LossesOfTheSteps, Step::Clipping, Step::Adam];

/// The outcome of a stage.
pub(super) fn outcome(stage: &StageReport) -> Status {
    match stage {
        s if s.failed > 0 => Status::Failed,
        s if s.tensors > 0 => Status::Passed,
        s if s.missing > 0 => Status::Missing,
        _ => Status::NotJudged,
    }
}

/// A stage and its place in the picture.
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
        let name = s.stage.to_string().replace("backward: ", "∂ ");
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

/// The picture while it is made.
struct Picture<'a> {
    checkup: &'a CheckReport,
    nodes: Vec<Node<'a>>,
    /// From, to.
    arrows: Vec<[(usize, usize); 2]>,
    labels: Vec<(usize, usize, &'static str)>,
    /// Where the next row begins.
    below: usize,
}

impl<'a> Picture<'a> {
    fn stage(&self, stage: Stage) -> Option<&'a StageReport> {
        self.checkup.stages.iter().find(|report| report.stage == stage)
    }

    /// Whether the report has the values or the gradients of a forward stage.
    fn has(&self, stage: Stage) -> bool {
        self.stage(stage).is_some() || self.stage(stage.gradient()).is_some()
    }

    /// Adds a stage, if the report has it. `halves` is its column, in half columns.
    fn add(&mut self, stage: Stage, halves: usize, top: usize) -> Option<usize> {
        let stage = self.stage(stage)?;
        self.nodes.push(Node { stage, left: EDGE + halves * (WIDTH + ACROSS) / 2, top });
        Some(self.nodes.len() - 1)
    }

    /// Adds a lane's stages from top to bottom, with the arrows between them. Returns the last.
    fn lane(&mut self, stages: &[(Stage, usize)], halves: usize, back: bool) -> Option<usize> {
        let mut above: Option<usize> = None;
        for &(stage, top) in stages {
            let stage = if back { stage.gradient() } else { stage };
            let Some(node) = self.add(stage, halves, top) else { continue };
            if let Some(above) = above {
                self.between(above, node, back);
            }
            above = Some(node);
        }
        above
    }

    /// An arrow between a stage and one below it.
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

    /// Both lanes, scores and loss, forward and backward.
    fn model(&mut self) {
        let start = self.below;
        self.below += DOWN;
        let layers: Vec<Stage> = (0..self.checkup.stages.len())
            .map(|layer| Stage { layer, ..Stage::forward(Step::GruLayer) })
            .filter(|&stage| self.has(stage))
            .collect();
        // The image stage in the row of a caption stage.
        let in_row = |step: Step| CAPTION[3..].iter().position(|&caption| caption == step).map(|place| IMAGE[place]);
        let captions: Vec<Stage> = CAPTION
            .iter()
            .flat_map(|&step| if step == Step::GruLayer { layers.clone() } else { vec![Stage::forward(step)] })
            .filter(|&stage| self.has(stage) || in_row(stage.step).is_some_and(|image| self.has(Stage::forward(image))))
            .collect();
        let captions: Vec<(Stage, usize)> = captions.into_iter().map(|stage| (stage, self.next_row())).collect();
        let images: Vec<(Stage, usize)> =
            captions.iter().filter_map(|&(stage, top)| Some((Stage::forward(in_row(stage.step)?), top))).collect();
        let ends = [(&images, 0, false), (&captions, 2, false), (&captions, 4, true), (&images, 6, true)]
            .map(|(names, halves, back)| (self.lane(names, halves, back), back));
        let [scores, loss] = [Step::Scores, Step::Loss].map(Stage::forward);
        let rows = [scores, loss].map(|stage| self.has(stage).then(|| self.next_row()));
        let top = |row: Option<usize>| row.unwrap_or_default();
        let scores = [self.add(scores, 1, top(rows[0])), self.add(scores.gradient(), 5, top(rows[0]))];
        for (end, back) in ends {
            if let (Some(end), Some(scores)) = (end, scores[usize::from(back)]) {
                self.between(end, scores, back);
            }
        }
        let loss = self.add(loss, 1, top(rows[1]));
        if let (Some(scores), Some(loss)) = (scores[0], loss) {
            self.between(scores, loss, false);
        }
        if let (Some(loss), Some(to)) = (loss, scores[1]) {
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
    fn row(&mut self, words: &'static str, stages: &[Stage]) {
        let there: Vec<Stage> = stages.iter().copied().filter(|&stage| self.stage(stage).is_some()).collect();
        for (k, four) in there.chunks(4).enumerate() {
            if k == 0 {
                self.labels.push((usize::MAX, self.below + 12, words));
                self.below += DOWN;
            }
            let top = self.next_row();
            for (column, &stage) in four.iter().enumerate() {
                let node = self.add(stage, 2 * column, top);
                let follows = stage.backward || stage.step == Step::Adam;
                if let (Some(node), true, true) = (node, follows, column > 0) {
                    let (from, to) = (&self.nodes[node - 1], &self.nodes[node]);
                    let before = from.stage.stage;
                    if before.gradient() == stage || before.step == Step::Clipping {
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
            // The arrow from the loss to its gradient has a corner.
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

/// The diagram of all stages in the report.
fn diagram(checkup: &CheckReport) -> String {
    let mut picture = Picture { checkup, nodes: Vec::new(), arrows: Vec::new(), labels: Vec::new(), below: EDGE };
    picture.model();
    picture.row("after all gradients", &AFTER.map(Stage::forward));
    let alone = ALONE.map(Stage::forward).map(|stage| [stage, stage.gradient()]);
    picture.row("single layers and their gradients", alone.as_flattened());
    let drawn: Vec<Stage> = picture.nodes.iter().map(|node| node.stage.stage).collect();
    let others = checkup.stages.iter().map(|stage| stage.stage).filter(|stage| !drawn.contains(stage));
    picture.row("other stages", &others.collect::<Vec<_>>());
    picture.draw()
}

/// The section with the diagram, and the same as a table.
pub(super) fn section(checkup: &CheckReport) -> String {
    if checkup.stages.is_empty() {
        return String::new();
    }
    let mut out = String::from("<section id=\"flow\"><h2>Where in the data flow</h2><p>");
    let failed = checkup.stages.iter().filter(|stage| stage.failed > 0).count();
    let first = checkup.stages.iter().find(|stage| stage.failed > 0);
    let _ = match first {
        Some(stage) => write!(
            out,
            "The first stage that breaks is <strong>{}</strong>. Later stages may be wrong only because of it: fix it first. \
             {failed} of {} break.",
            stage.stage,
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
        let _ = write!(out, "<tr><th scope=\"row\">{}</th><td>{}</td>", stage.stage, label(outcome(stage)));
        for n in [stage.tensors, stage.failed, stage.missing, stage.not_judged] {
            let _ = write!(out, "<td class=\"n\">{}</td>", thousands(n));
        }
        let worst = if stage.tensors > 0 { units(stage.worst) } else { "–".into() };
        let at = stage.worst_at.as_ref().map(|(case, tensor)| format!("{} in {}", code(tensor), code(case)));
        let _ = write!(out, "<td class=\"n\">{worst}</td><td>{}</td></tr>", at.unwrap_or_default());
    }
    out + "</tbody></table></div></details></section>"
}
