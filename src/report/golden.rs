//! The golden kit in plain text: a check's result, a suite's list, a case.

use std::fmt::{self, Write};

use ndarray::ArrayD;

use super::table::thousands;
use crate::escape;
use crate::golden::check::{CheckReport, First};
use crate::golden::compare::{Status, TensorReport};
use crate::golden::diagnose::{Diagnosis, Reach};
use crate::golden::difference::index_of;
use crate::golden::mistakes::ALL;
use crate::golden::relations::findings::Finding;
use crate::golden::suite::{CaseEntry, GoldenCase, Manifest};

/// A number of things: `1 case`, `2 cases`.
pub(in crate::report) fn count(n: usize, what: &str) -> String {
    format!("{} {what}{}", thousands(n), if n == 1 { "" } else { "s" })
}

/// After so many broken relations those without an explanation are only named.
const RELATIONS: usize = 6;
/// How many names a list shows before it only counts.
const SHOWN: usize = 12;

/// A few names, and how many more there are.
fn some(names: &[String]) -> String {
    let shown = names.iter().take(SHOWN).map(|name| escape::name(name)).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown}, and {} more", names.len() - SHOWN) } else { shown }
}

/// An error in units of the tolerance; `None` if it failed without a number.
pub(in crate::report) fn units(units: Option<f64>) -> String {
    match units.filter(|x| x.is_finite()) {
        None => "beyond measure".into(),
        Some(0.0) => "0".into(),
        Some(x) if !(1e-3..9999.5).contains(&x) => power_of_ten(x),
        Some(x) if x >= 99.95 => format!("{x:.0}"),
        Some(x) if x >= 9.995 => format!("{x:.1}"),
        Some(x) => format!("{x:.2}"),
    }
}

/// 590000 → `5.9 × 10⁵`
fn power_of_ten(x: f64) -> String {
    let text = format!("{x:.1e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let raised = exponent.chars().map(|c| match c.to_digit(10) {
        Some(digit) => ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'][digit as usize],
        None => '⁻',
    });
    format!("{digits} × 10{}", raised.collect::<String>())
}

/// What `vsepp golden check` prints.
impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&golden_report(self))
    }
}

/// What `vsepp golden check` prints.
#[must_use]
pub(crate) fn golden_report(checkup: &CheckReport) -> String {
    let c = &checkup.counts;
    let mut out = format!(
        "suite {}, profile {}: {} of {} cases found, {} tensors compared\n\n",
        checkup.suite,
        checkup.profile,
        thousands(checkup.cases - c.missing),
        thousands(checkup.cases),
        thousands(c.tensors)
    );
    if !checkup.stages.is_empty() {
        let width = checkup.stages.iter().map(|s| s.stage.to_string().len()).max().unwrap_or(5);
        let _ = writeln!(out, "  {:<width$}  tensors   worst error / tolerance", "stage");
    }
    for stage in &checkup.stages {
        let width = checkup.stages.iter().map(|s| s.stage.to_string().len()).max().unwrap_or(5);
        let mark = match (stage.failed, stage.tensors) {
            (0, 0) => '-',
            (0, _) => ' ',
            _ => 'X',
        };
        let _ = write!(out, "{mark} {:<width$}  {:>7}", stage.stage, thousands(stage.tensors));
        if stage.tensors > 0 {
            let _ = write!(out, "   {:<10}", units(stage.worst));
            if let Some((case, tensor)) = &stage.worst_at {
                let _ = write!(out, " {tensor} in {case}");
            }
        }
        let mut rest = Vec::new();
        for (count, what) in [
            (stage.failed, "failed"),
            (stage.missing, "not written"),
            (stage.not_judged, "not judged under this profile"),
        ] {
            if count > 0 {
                rest.push(format!("{} {what}", thousands(count)));
            }
        }
        if !rest.is_empty() {
            let _ = write!(out, "   ({})", rest.join(", "));
        }
        out.push('\n');
    }
    out.push('\n');
    not_checked(&mut out, checkup);
    for report in checkup.reports.iter().filter(|report| report.status == Status::Remark) {
        let of_tensor = report.tensors.iter().find(|t| t.status == Status::Remark).and_then(|t| t.problem.clone());
        let why = report.problem.clone().or(of_tensor).unwrap_or_default();
        let _ = writeln!(out, "remark: {}: {why}", report.id);
    }
    if c.failed == 0 {
        let verdict = if checkup.passed {
            let unknown: usize = checkup.reports.iter().map(|report| report.unknown.len()).sum();
            let but = if unknown > 0 {
                format!("; {unknown} tensors with unknown names were not checked")
            } else {
                String::new()
            };
            {
                let remarks =
                    if c.remarks > 0 { format!(", {} of them with a remark", c.remarks) } else { String::new() };
                format!("PASSED: {}{remarks}{but}", count(c.passed + c.remarks, "case"))
            }
        } else if c.tensors_not_judged > 0 {
            format!(
                "FAILED: nothing was compared; there are no tolerances for {} here (`golden make --profile {}` measures them)",
                checkup.profile, checkup.profile
            )
        } else {
            "FAILED: nothing was compared; a backend writes <case>.safetensors or <case>.npz with tensors named out.*, grad.*, …".into()
        };
        let _ = writeln!(out, "{verdict}");
        return out;
    }
    failures(&mut out, checkup);
    out
}

fn not_checked(out: &mut String, checkup: &CheckReport) {
    let missing: Vec<String> =
        checkup.reports.iter().filter(|r| r.status == Status::Missing).map(|r| r.id.clone()).collect();
    if !missing.is_empty() {
        let _ = writeln!(out, "not checked: {}: {}", count(missing.len(), "case"), some(&missing));
    }
    let mut names: Vec<String> = Vec::new();
    let mut unknown: Vec<String> = Vec::new();
    for report in &checkup.reports {
        unknown.extend(report.unknown.iter().map(|name| format!("{name} in {}", report.id)));
        let written = report.status != Status::Missing;
        for tensor in report.tensors.iter().filter(|tensor| written && tensor.status == Status::Missing) {
            if !names.contains(&tensor.name) {
                names.push(tensor.name.clone());
            }
        }
    }
    if !names.is_empty() {
        let _ = writeln!(
            out,
            "not checked: {} not written: {}",
            count(checkup.counts.tensors_missing, "tensor"),
            some(&names)
        );
    }
    if !unknown.is_empty() {
        let _ = writeln!(
            out,
            "not known: {} with names that their case does not have: {}",
            count(unknown.len(), "tensor"),
            some(&unknown)
        );
    }
    if !checkup.unknown_files.is_empty() {
        let _ = writeln!(out, "not known: files that belong to no case: {}", some(&checkup.unknown_files));
    }
}

/// The worst place of a tensor: expected, found, and the error.
fn place(tensor: &TensorReport) -> String {
    let mut out = String::new();
    if let (Some(found), expected) = (&tensor.found, tensor.expected) {
        let expected = expected.map_or("a value that is not finite".into(), |x| format!("{x:.9e}"));
        let found = found.parse::<f64>().map_or(found.clone(), |x| format!("{x:.9e}"));
        let _ = write!(out, "at {:?}: expected {expected}, found {found}", tensor.index);
        if tensor.units.is_some() {
            let _ = write!(out, "; error {} tolerances", units(tensor.units));
        }
    }
    out
}

/// The first failing tensor, where no relation is broken.
fn first_divergence(out: &mut String, first: &First) {
    let _ = match &first.tensor {
        None => writeln!(out, "\nfirst divergence: {}: {}", first.case, first.problem.clone().unwrap_or_default()),
        Some(tensor) => {
            let place = place(tensor);
            let place = if place.is_empty() { place } else { format!("\n  {place}") };
            let problem = tensor.problem.clone().unwrap_or_default();
            writeln!(out, "\nfirst divergence: {} in {} ({}): {problem}{place}", tensor.name, first.case, tensor.stage)
        }
    };
}

/// A tensor that does not follow from the backend's own values: how, an example, and how often.
fn relation(out: &mut String, finding: &Finding, first: bool) {
    let begin = if first { "the first wrong step" } else { "also wrong" };
    let _ = writeln!(out, "\n{begin}: {} in {}", finding.relation, finding.stage);
    for (place, says) in finding.says.iter().enumerate() {
        let _ = writeln!(out, "  {}{} {says}", if place == 0 { "" } else { "or: " }, finding.tensor);
    }
    if finding.more > 0 {
        let _ = writeln!(out, "  or {} with the same numbers", count(finding.more, "other change"));
    }
    if finding.says.is_empty() {
        let place = finding.place.as_ref().map_or_else(String::new, |place| format!(", all of them {place}"));
        let _ = writeln!(out, "  {} has other values{place}; no single change of this line gives them", finding.tensor);
    }
    let _ = writeln!(out, "  {}", finding.example);
    let _ = writeln!(
        out,
        "  in {} of {} that have it, computed from the backend's own values of what it is made of",
        thousands(finding.cases.len()),
        count(finding.written, "case")
    );
    if !finding.names.is_empty() {
        let _ = writeln!(out, "  ({})", finding.names.join("; "));
    }
    if let Some(look) = finding.look {
        let _ = writeln!(out, "  look at: {look}");
    }
    if !finding.also.is_empty() {
        let _ = writeln!(out, "  the same in: {}", some(&finding.also));
    }
    if let Some(first) = &finding.after {
        let _ = writeln!(out, "  it is made of the same unwritten tensors as {first}: look at that first");
        return;
    }
    if let Some(next) = &finding.write_next {
        let _ = writeln!(
            out,
            "  or the mistake is in what it is made of and was not written: {}; write {next} next",
            some(&finding.spans)
        );
    }
}

fn failures(out: &mut String, checkup: &CheckReport) {
    let c = &checkup.counts;
    let _ = writeln!(out, "FAILED: {} of {}", c.failed, count(c.failed + c.passed + c.remarks, "case"));
    match (&checkup.first, &checkup.broken[..]) {
        (Some(first), []) => first_divergence(out, first),
        (_, broken) => {
            let (shown, rest): (Vec<_>, Vec<_>) =
                broken.iter().enumerate().partition(|(place, finding)| *place < RELATIONS || !finding.says.is_empty());
            for (place, finding) in shown {
                relation(out, finding, place == 0);
            }
            if !rest.is_empty() {
                let rest: Vec<String> = rest.iter().map(|(_, finding)| finding.tensor.clone()).collect();
                let _ = writeln!(out, "\nalso wrong: {}", some(&rest));
            }
        }
    }
    let d = &checkup.diagnosis;
    for diagnosis in &d.named {
        out.push('\n');
        out.push_str(&sentence(diagnosis));
    }
    // Where the relations tell the place, a likeness or a count would only distract.
    let explained = checkup.is_explained();
    for diagnosis in d.similar.iter().take(if explained { 0 } else { 3 }) {
        out.push('\n');
        out.push_str(&likeness(diagnosis, c.failed));
    }
    if !d.together.is_empty() {
        let _ = writeln!(out, "\nTogether these explain: {}", some(&d.together));
    }
    if !d.unexplained.is_empty() && !explained {
        let _ = writeln!(
            out,
            "\nno diagnosis for {}: none of {} known mistakes gives all of their values: {}",
            count(d.unexplained.len(), "failing case"),
            ALL.len(),
            some(&d.unexplained)
        );
    }
    if let Some(within) = d.within.filter(|_| checkup.broken.is_empty()) {
        let _ = writeln!(
            out,
            "\nEvery failing case is within the tolerances of {within}: if the backend computes in {within}, check with --profile {within}; \
             if it should not, look for a switch (allow_tf32, autocast, a fast-math flag)"
        );
    }
    if !d.skipped.is_empty() {
        let _ = writeln!(
            out,
            "\nNot diagnosed because of their size: {} (--diagnose tries every mistake on them; the core suite is faster)",
            some(&d.skipped)
        );
    }
    out.push_str("\nfailing cases:\n");
    let failing: Vec<_> = checkup.reports.iter().filter(|r| r.status == Status::Failed).collect();
    let width = failing.iter().take(3 * SHOWN).map(|r| r.id.len()).max().unwrap_or(4);
    for report in failing.iter().take(3 * SHOWN) {
        let what = match report.headline() {
            Some(tensor) => {
                let by = tensor.units.map_or(String::new(), |x| format!(", {} tolerances", units(Some(x))));
                format!("{}: {}{by}", tensor.name, tensor.problem.clone().unwrap_or_default())
            }
            None => report.problem.clone().unwrap_or_default(),
        };
        let _ = writeln!(out, "  {:<width$}  {what}", report.id);
    }
    if failing.len() > 3 * SHOWN {
        let _ = writeln!(out, "  and {} more", failing.len() - 3 * SHOWN);
    }
}

/// The text for a mistake that explains too little for a diagnosis.
fn likeness(d: &Diagnosis, failing: usize) -> String {
    let reach =
        if d.explains == Reach::All { "the values" } else { "the values at the first divergence, but not after it," };
    let mut out = format!(
        "likeness, no diagnosis: {} of {} have {reach} of {}\n",
        d.cases.len(),
        count(failing, "failing case"),
        d.says
    );
    let _ = writeln!(out, "  [{}] in {}", d.mistakes.join(" or "), some(&d.cases));
    if !d.spared.is_empty() {
        let _ = writeln!(out, "  but it would break {} that pass: {}", count(d.spared.len(), "case"), some(&d.spared));
    }
    out
}

/// A diagnosis in words.
fn sentence(d: &Diagnosis) -> String {
    let mut out = format!("diagnosis: these are the values of {} [{}]\n", d.says, d.mistakes.join(" or "));
    let _ = writeln!(out, "  fix: {}", d.fix);
    let _ = writeln!(out, "  it explains {}: {}", count(d.cases.len(), "failing case"), some(&d.cases));
    if d.mistakes.len() > 1 {
        out.push_str("  the tensors that were written do not distinguish these\n");
    }
    out
}

/// What `vsepp golden list` prints.
#[must_use]
pub(crate) fn golden_list(manifest: &Manifest) -> String {
    let mut out = String::new();
    let mut families: Vec<&str> = Vec::new();
    for case in &manifest.cases {
        if !families.contains(&case.family.as_str()) {
            families.push(&case.family);
        }
    }
    let width = manifest.cases.iter().map(|case| case.id.len()).max().unwrap_or(4);
    for family in families {
        let cases: Vec<&CaseEntry> = manifest.cases.iter().filter(|case| case.family == family).collect();
        let _ = writeln!(out, "{family}: {} cases", cases.len());
        for case in cases {
            let result = match case.result {
                crate::golden::cases::Expected::Valid => "",
                crate::golden::cases::Expected::Acceptable => " (may fail)",
                crate::golden::cases::Expected::Invalid => " (must be refused)",
            };
            let _ = writeln!(out, "  {:<width$}  {}{result}", case.id, case.note);
        }
    }
    let tensors: usize = manifest.cases.iter().map(|case| case.tensors.len()).sum();
    let _ = writeln!(out, "{} cases, {} tensors", manifest.cases.len(), thousands(tensors));
    out
}

/// What `vsepp golden list --mistakes` prints.
#[must_use]
pub(crate) fn golden_mistakes() -> String {
    let width = ALL.iter().map(|d| d.id.len()).max().unwrap_or(4);
    let mut out = String::new();
    for d in ALL {
        let _ = writeln!(out, "{:<width$}  {}\n{:width$}  fix: {}", d.id, d.says, "", d.fix);
    }
    out
}

/// What `vsepp golden show` prints of a case.
#[must_use]
pub(crate) fn golden_case(case: &CaseEntry, manifest: &Manifest) -> String {
    let mut out = format!("{}: {}\n", case.id, case.note);
    let _ = writeln!(out, "  program    {} ({})", case.program.name(), case.equations.join(", "));
    let config: Vec<String> = case.config.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    if !config.is_empty() {
        let _ = writeln!(out, "  config     {}", config.join(", "));
    }
    for flag in &case.flags {
        let _ = writeln!(out, "  {flag:<10} {}", manifest.flags.get(flag).map_or("", String::as_str));
    }
    let margins = [
        ("smallest |hinge|", case.margins.hinge),
        ("smallest gap between the two hardest", case.margins.hardest),
        ("smallest norm", case.margins.norm),
        ("smallest distance from a change of sign", case.margins.sign),
    ];
    for (name, margin) in margins {
        if let Some(margin) = margin {
            let _ = writeln!(out, "  {name}: {margin:.1e}");
        }
    }
    if !case.kills.is_empty() {
        let _ = writeln!(out, "  catches {} known mistakes", case.kills.len());
    }
    let width = case.tensors.iter().map(|t| t.name.len()).max().unwrap_or(4);
    let _ = writeln!(
        out,
        "\n  {:<width$}  type  {:<14} {:>9}   tolerance of the largest error, in parts of the scale",
        "tensor", "shape", "scale"
    );
    for t in &case.tensors {
        let scale = t.scale.map_or(String::new(), |scale| format!("{scale:.2e}"));
        let tolerance = if t.is_input() {
            String::new()
        } else if t.exact {
            "exact".into()
        } else {
            t.tolerance.iter().map(|(profile, t)| format!("{profile} {:.1e}", t.max)).collect::<Vec<_>>().join("  ")
        };
        let _ = writeln!(
            out,
            "  {:<width$}  {:<4}  {:<14} {scale:>9}   {tolerance}",
            t.name,
            t.dtype,
            format!("{:?}", t.shape)
        );
    }
    out
}

/// The output of `vsepp golden show --tensor`: one number per line, with its index.
#[must_use]
pub(crate) fn golden_tensor(name: &str, values: &ArrayD<f64>) -> String {
    let mut out = format!("{name} {:?}\n", values.shape());
    for (flat, x) in values.iter().enumerate() {
        let _ = writeln!(out, "  {:?} {x}", index_of(values.shape(), flat));
    }
    out
}

/// The numbers of a case's tensor, given or expected.
#[must_use]
pub(crate) fn tensor_of<'a>(case: &'a GoldenCase, name: &str) -> Option<&'a ArrayD<f64>> {
    case.inputs.get(name).or_else(|| case.expected.get(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::TensorWriter;
    use crate::golden::check::{CheckOptions, check_against};
    use crate::golden::mistakes::named;
    use crate::golden::program::Program;
    use crate::golden::relations::planted::{Planting, Until, Way};
    use crate::golden::suite::Suite;
    use crate::golden::tolerance::Profile;
    use crate::pages;

    /// Whether a pasted text agrees with the printed text. Line breaks may differ, and … marks an omission.
    fn agree(pasted: &str, printed: &str) -> bool {
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let printed = words(printed);
        let mut rest = printed.as_str();
        pasted.split('…').map(words).all(|piece| match rest.split_once(piece.as_str()) {
            Some((_, after)) => {
                rest = after;
                true
            }
            None => false,
        })
    }

    #[test]
    fn the_readmes_diagnosis_is_what_the_program_prints() {
        // A GRU of another library with the reset before the product writes only its results.
        let folder = tempfile::tempdir().unwrap();
        let planted = [named("reset-before-product")];
        let suite = Suite::open(&pages::root().join("fixtures/golden")).unwrap();
        for entry in suite.manifest.cases.iter().filter(|e| matches!(e.program, Program::GruCell | Program::Gru)) {
            let case = suite.load(entry).unwrap();
            let way = Way { autograd: true, single: true, until: Until::End };
            let Some(values) = Planting::new(&case).unwrap().values(&planted, way) else { continue };
            let mut writer = TensorWriter::default();
            for (name, values) in values {
                let state = name.starts_with("mid.l") && name.rsplit('.').next() == Some("h");
                if state || ["out.h_next", "out.last"].contains(&name.as_str()) {
                    #[allow(clippy::cast_possible_truncation)] // rounded before
                    writer.add(name, &values.mapv(|x| x as f32).view());
                }
            }
            writer.write_safetensors(&folder.path().join(format!("{}.safetensors", entry.id)), None).unwrap();
        }
        let checked =
            check_against(&suite, folder.path(), Profile::F32, &CheckOptions::default(), None, |_| ()).unwrap();
        assert!(!checked.passed);
        let found = golden_report(&checked);
        let expected = pages::pasted("README.md", "reset-before-product");
        assert!(agree(&expected, &found), "README.md has\n{expected}\nand the program prints\n{found}");
        let other = expected.replacen("-3.36", "-3.37", 1);
        assert!(other != expected && !agree(&other, &found), "the test finds a wrong figure");
    }
}
