//! The golden kit's page: a check's result with pictures, for people.
//!
//! One self-contained file: no script, no font, no network. From top to bottom it has the verdict, the
//! first divergence and its explanation, its place in the data flow and in the tensors, the error of every
//! tensor, and every case. The same report gives the same bytes.

mod chart;
mod flow;
mod heat;
mod tables;
#[cfg(test)]
mod tests;
mod text;

use std::fmt::Write;

use self::text::{both, code, count, error_of, index, names, short, sign, value};
use super::table::thousands;
use crate::golden::check::{CheckReport, First};
use crate::golden::compare::{Status, TensorReport};
use crate::golden::diagnose::{Diagnosis, Reach};
use crate::golden::mistakes::ALL;
use crate::golden::relations::findings::Finding;
use crate::golden::tolerance::SAFETY;

/// The page's style sheet.
const STYLE: &str = include_str!("style.css");

/// Patterns and arrow heads that all pictures use.
const SHARED: &str = "<svg width=\"0\" height=\"0\" class=\"shared\" aria-hidden=\"true\"><defs>\
    <pattern id=\"hatch\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
    <rect width=\"5\" height=\"5\"/><path d=\"M0 0V5\"/></pattern>\
    <marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\">\
    <path d=\"M0 0L8 4L0 8z\"/></marker></defs></svg>";

/// A check's result as one HTML page.
#[must_use]
pub(crate) fn golden_page(checkup: &CheckReport) -> String {
    let (word, kind) = if checkup.passed { ("passed", "ok") } else { ("failed", "bad") };
    let mut out = String::from("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    out += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";
    out += "<meta name=\"color-scheme\" content=\"light dark\">\n";
    let _ = writeln!(out, "<title>Golden check {word}: {}, {}</title>", short(&checkup.suite), checkup.profile);
    let _ = writeln!(out, "<style>\n{STYLE}</style>\n</head>\n<body class=\"{kind}\">\n{SHARED}");
    let flow = flow::section(checkup);
    let pictures = heat::section(checkup);
    let errors = chart::section(checkup);
    let body = [
        verdict(checkup),
        first(checkup),
        contents(&[("flow", "data flow", &flow), ("pictures", "tensors", &pictures), ("errors", "errors", &errors)]),
        flow,
        pictures,
        errors,
        tables::cases(checkup),
        tables::unchecked(checkup),
    ];
    out += &body.join("\n");
    out + "</main>\n<footer>Written by <code>vsepp golden check --report</code>.</footer>\n</body>\n</html>\n"
}

/// Links to the sections of the page.
fn contents(sections: &[(&str, &str, &String)]) -> String {
    let mut out = String::from("<nav aria-label=\"On this page\">");
    for (id, name, text) in sections {
        if !text.is_empty() {
            let _ = write!(out, "<a href=\"#{id}\">{name}</a> ");
        }
    }
    out + "<a href=\"#cases\">all cases</a> <a href=\"#unchecked\">not checked</a></nav>"
}

/// The result in one line, and the counts.
fn verdict(checkup: &CheckReport) -> String {
    let c = &checkup.counts;
    let checked = c.passed + c.remarks + c.failed;
    let (status, words) = match (checkup.passed, c.failed) {
        (true, _) => (Status::Passed, format!("Passed: {} within tolerance", count(c.passed + c.remarks, "case"))),
        (_, 0) => (Status::Failed, "Failed: nothing was compared".to_owned()),
        (_, failed) => (Status::Failed, format!("Failed: {} of {}", thousands(failed), count(checked, "case"))),
    };
    let mut out = format!(
        "<header><p class=\"kicker\">Golden check · suite <strong>{}</strong> · profile <strong>{}</strong></p>\
         <h1><span aria-hidden=\"true\">{}</span> {words}</h1>",
        short(&checkup.suite),
        checkup.profile,
        sign(status)
    );
    if !checkup.passed && c.failed == 0 {
        out += "<p>A backend writes <code>&lt;case&gt;.safetensors</code> or <code>&lt;case&gt;.npz</code> with tensors \
                named <code>out.*</code>, <code>grad.*</code>, …</p>";
    }
    if checkup.passed && c.missing + c.tensors_missing + c.tensors_not_judged > 0 {
        out +=
            "<p>Something was missing or could not be judged: see <a href=\"#unchecked\">what was not checked</a>.</p>";
    }
    for (title, counts) in [
        (
            "cases",
            &[
                (Status::Passed, "passed", c.passed),
                (Status::Remark, "with a remark", c.remarks),
                (Status::Failed, "failed", c.failed),
                (Status::Missing, "missing", c.missing),
            ][..],
        ),
        (
            "tensors",
            &[
                (Status::Passed, "compared", c.tensors),
                (Status::Missing, "not written", c.tensors_missing),
                (Status::NotJudged, "not judged", c.tensors_not_judged),
            ],
        ),
    ] {
        let _ = write!(out, "<dl class=\"counts\" aria-label=\"{title}\">");
        for &(status, word, n) in counts {
            // Compared tensors may have failed, so they have no sign.
            let (class, sign) = if word == "compared" { ("plain", "") } else { (text::class(status), sign(status)) };
            let class = if n == 0 { "none" } else { class };
            let _ = write!(out, "<div class=\"{class}\"><dt>{title} {word}</dt><dd>{sign} {}</dd></div>", thousands(n));
        }
        out += "</dl>";
    }
    out + "</header>\n<main>"
}

/// The first divergence and what explains it.
fn first(checkup: &CheckReport) -> String {
    let Some(first) = &checkup.first else { return unit_of(checkup) };
    format!("<div class=\"lead\">{}{}</div>{}", divergence(first, checkup), diagnosis(checkup), unit_of(checkup))
}

/// The unit of the errors.
fn unit_of(checkup: &CheckReport) -> String {
    format!(
        "<p class=\"soft\">Errors are in units of the tolerance: up to 1 is accepted. A tensor's tolerance is {SAFETY} times the \
         largest error, in parts of its scale, of several honest ways to compute it in {}.</p>",
        checkup.profile
    )
}

fn divergence(first: &First, checkup: &CheckReport) -> String {
    let mut out = String::from("<section id=\"first\"><h2>First divergence</h2>");
    let entry = checkup.checked.iter().map(|case| &case.golden.entry).find(|entry| entry.id == first.case);
    let note = entry.map(|entry| short(&entry.note)).unwrap_or_default();
    if let Some(tensor) = &first.tensor {
        let _ = write!(out, "<p class=\"big\">{} in case {}</p>", code(&tensor.name), code(&first.case));
        out += &facts(tensor, &note);
    } else {
        let problem = short(first.problem.as_deref().unwrap_or("it failed as a whole"));
        let _ =
            write!(out, "<p class=\"big\">case {}</p><p>{problem}.</p><p class=\"soft\">{note}</p>", code(&first.case));
    }
    out + "</section>"
}

/// What is known about a tensor that failed.
fn facts(tensor: &TensorReport, note: &str) -> String {
    let mut rows = vec![
        ("stage", tensor.stage.to_string()),
        ("what", short(tensor.problem.as_deref().unwrap_or("not within its tolerance"))),
    ];
    if let Some(found) = &tensor.found {
        let (e, f) = match (tensor.expected, found.parse::<f64>()) {
            (Some(e), Ok(f)) => both(e, f).into(),
            (Some(e), Err(_)) => (value(e), short(found)),
            (None, _) => ("a value that is not finite".into(), short(found)),
        };
        rows.extend([("index", index(&tensor.index)), ("expected", e), ("found", f)]);
    }
    rows.push(("error", error_of(tensor)));
    rows.push(("the case", note.to_owned()));
    let mut out = String::from("<table class=\"facts\"><tbody>");
    for (name, text) in rows.iter().filter(|(_, text)| !text.is_empty()) {
        let _ = write!(out, "<tr><th scope=\"row\">{name}</th><td>{text}</td></tr>");
    }
    out + "</tbody></table>"
}

fn diagnosis(checkup: &CheckReport) -> String {
    let d = &checkup.diagnosis;
    let mut out = String::from("<section id=\"diagnosis\"><h2>Diagnosis</h2>");
    for finding in &checkup.broken {
        out += &relation(finding);
    }
    let is_explained = checkup.is_explained();
    for named in &d.named {
        out += &explained(named);
    }
    for similar in d.similar.iter().take(if is_explained { 0 } else { 3 }) {
        let what = if similar.explains == Reach::All { "" } else { "at the first divergence, but not after it, " };
        let _ = write!(
            out,
            "<div class=\"names\"><strong>A likeness, no diagnosis:</strong> {} {what}have the values of {}: {}</div>",
            count(similar.cases.len(), "case"),
            short(&similar.says),
            names(&similar.cases)
        );
    }
    if !d.together.is_empty() {
        let _ = write!(out, "<div class=\"names\">Together these explain {}</div>", names(&d.together));
    }
    if !d.unexplained.is_empty() && !is_explained {
        let also = if d.named.is_empty() { "" } else { "also " };
        let _ = write!(
            out,
            "<div class=\"names\"><strong>No known mistake {also}reproduces these values.</strong> {} were tried on {}</div>",
            ALL.len(),
            names(&d.unexplained)
        );
        out +=
            "<p class=\"soft\">The first stage that breaks, and the pattern of the error in its tensor, are below.</p>";
    }
    if let Some(within) = d.within.filter(|_| checkup.broken.is_empty()) {
        let _ = write!(
            out,
            "<p>Every failing case is within the tolerances of {within}. If the backend computes in {within}, check with \
             <code>--profile {within}</code>; if it should not, look for a switch.</p>"
        );
    }
    if !d.skipped.is_empty() {
        let _ = write!(
            out,
            "<div class=\"names\">Not diagnosed because of their size (<code>--diagnose</code> tries every mistake on them; the core suite \
             is faster): {}</div>",
            names(&d.skipped)
        );
    }
    out + "</section>"
}

/// A relation that does not hold.
fn relation(finding: &Finding) -> String {
    let mut out = format!("<p class=\"big\">{}</p>", code(&finding.relation));
    for (place, says) in finding.says.iter().enumerate() {
        let _ =
            write!(out, "<p>{}{} {}.</p>", if place == 0 { "" } else { "Or: " }, code(&finding.tensor), short(says));
    }
    if finding.more > 0 {
        let _ = write!(out, "<p>Or {} with the same numbers.</p>", count(finding.more, "other change"));
    }
    if finding.says.is_empty() {
        let place = finding.place.as_ref().map_or_else(String::new, |place| format!(", all of them {}", short(place)));
        let _ = write!(out, "<p>{} has other values{place}.</p>", code(&finding.tensor));
    }
    let _ = write!(out, "<p class=\"soft\">{}", short(&finding.example.to_string()));
    for name in &finding.names {
        let _ = write!(out, "; {}", short(name));
    }
    if let Some(look) = finding.look {
        let _ = write!(out, ". Look at {look}");
    }
    if let Some(first) = &finding.after {
        let _ = write!(out, ". It is made of the same unwritten tensors as {}: look at that first", code(first));
    } else if let Some(next) = &finding.write_next {
        let _ = write!(out, ". The mistake may be in what was not written: write {} next", code(next));
    }
    let _ = write!(out, ".</p><div class=\"names\">In {}</div>", names(&finding.cases));
    out
}

/// A diagnosis in words.
fn explained(d: &Diagnosis) -> String {
    let mut out = format!("<p class=\"big\">These are the values of {}.</p>", short(&d.says));
    let _ = write!(out, "<p class=\"fix\"><strong>To fix it:</strong> {}.</p>", short(&d.fix));
    let reach = match d.explains {
        Reach::All => "everything that was written in",
        Reach::First => "the first divergence, but not everything after it, in",
    };
    let _ = write!(
        out,
        "<div class=\"names\">It explains {reach} {}: {}</div>",
        count(d.cases.len(), "failing case"),
        names(&d.cases)
    );
    let ids = d.mistakes.iter().map(|id| code(id)).collect::<Vec<_>>().join(" or ");
    let apart = if d.mistakes.len() > 1 { "; the written tensors do not distinguish them" } else { "" };
    let _ = write!(out, "<p class=\"soft\">Known as {ids}{apart}.</p>");
    if !d.spared.is_empty() {
        let _ = write!(
            out,
            "<div class=\"names\"><strong>Spared:</strong> {} although this would break them, so it happens only in some situations: {}</div>",
            if d.spared.len() == 1 {
                "1 case passes".into()
            } else {
                format!("{} cases pass", thousands(d.spared.len()))
            },
            names(&d.spared)
        );
    }
    out
}
