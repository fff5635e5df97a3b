//! All cases, and what was not checked.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::text::{code, count, label, names, short, units};
use crate::golden::check::CheckReport;
use crate::golden::compare::{CaseReport, Status};
use crate::report::thousands;

/// The table of all cases, failing ones first.
pub(super) fn cases(checkup: &CheckReport) -> String {
    let mut out = String::from("<section id=\"cases\"><h2>All cases</h2><div class=\"wide\"><table><thead><tr>");
    for head in ["case", "family", "outcome", "worst error in tolerances", "first failing tensor", "remark"] {
        let _ = write!(out, "<th scope=\"col\">{head}</th>");
    }
    out += "</tr></thead><tbody>";
    let place = |report: &&CaseReport| match report.status {
        Status::Failed => 0,
        Status::Remark => 1,
        Status::Missing | Status::NotJudged => 2,
        Status::Passed => 3,
    };
    let mut reports: Vec<&CaseReport> = checkup.reports.iter().collect();
    reports.sort_by_key(place);
    for report in reports {
        let compared = report.count(Status::Passed) + report.count(Status::Remark) + report.count(Status::Failed);
        let worst = if compared > 0 { units(Some(report.worst())) } else { "–".into() };
        let first = report.headline().map(|tensor| code(&tensor.name)).unwrap_or_default();
        let of_tensor = || {
            let wanted =
                |status| matches!((report.status, status), (Status::Failed, Status::Failed) | (_, Status::Remark));
            report.tensors.iter().find(|tensor| wanted(tensor.status)).and_then(|tensor| tensor.problem.as_deref())
        };
        let remark = report.problem.as_deref().or_else(of_tensor).unwrap_or_default();
        let _ = write!(
            out,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td class=\"n\">{worst}</td><td>{first}</td><td>{}</td></tr>",
            code(&report.id),
            short(&report.family),
            label(report.status),
            short(remark)
        );
    }
    out + "</tbody></table></div></section>"
}

/// Names of tensors, each with the number of cases in which it has an outcome.
fn tensors(checkup: &CheckReport, status: Status) -> Vec<String> {
    let mut found: BTreeMap<&str, usize> = BTreeMap::new();
    for report in checkup.reports.iter().filter(|report| report.status != Status::Missing) {
        for tensor in report.tensors.iter().filter(|tensor| tensor.status == status) {
            *found.entry(&tensor.name).or_default() += 1;
        }
    }
    let times = |(name, &n): (&&str, &usize)| if n == 1 { (*name).to_owned() } else { format!("{name} ({n} times)") };
    found.iter().map(times).collect()
}

/// What was not checked, and unknown tensors and files.
pub(super) fn unchecked(checkup: &CheckReport) -> String {
    let missing: Vec<String> =
        checkup.reports.iter().filter(|r| r.status == Status::Missing).map(|r| r.id.clone()).collect();
    let given = |name: &str| name.starts_with("in.") || name.starts_with("param.");
    let unknown = checkup.reports.iter().flat_map(|report| {
        report.unknown.iter().filter(|name| !given(name)).map(move |name| format!("{name} in {}", report.id))
    });
    let lists: [(&str, &str, Vec<String>); 5] = [
        ("Cases without any tensor", "A green result says nothing about these.", missing),
        (
            "Tensors that were not written",
            "Each of them would help to locate a mistake.",
            tensors(checkup, Status::Missing),
        ),
        (
            "Tensors that this profile cannot judge",
            "A kink is too near, or the precision is too low to judge them.",
            tensors(checkup, Status::NotJudged),
        ),
        ("Tensors that their case does not have", "A wrong name? They were ignored.", unknown.collect()),
        ("Files that belong to no case", "A wrong name? They were ignored.", checkup.unknown_files.clone()),
    ];
    let mut out = String::from("<section id=\"unchecked\"><h2>Not checked</h2>");
    if lists.iter().all(|(_, _, list)| list.is_empty()) {
        out += "<p>Every tensor of every case was found and judged. There was nothing else.</p>";
    }
    for (title, what, list) in lists.iter().filter(|(_, _, list)| !list.is_empty()) {
        let _ = write!(
            out,
            "<h3>{title}: {}</h3><p class=\"soft\">{what}</p><div class=\"names\">{}</div>",
            thousands(list.len()),
            names(list)
        );
    }
    if checkup.counts.tensors_missing > 0 {
        let _ = write!(
            out,
            "<p class=\"soft\">In total, {} not written.</p>",
            count(checkup.counts.tensors_missing, "tensor")
        );
    }
    out + "</section>"
}
