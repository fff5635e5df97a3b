//! Words and numbers of the page, and the escaping of everything that comes from files.

use std::fmt::Write;

pub(super) use crate::report::golden::{count, units};

use crate::escape::is_obeyed;
use crate::golden::compare::{Status, TensorReport};

/// How much of a name from a file is shown.
const LONGEST: usize = 400;

/// Text as HTML, for elements and for quoted attributes. Control characters, invisible characters and those
/// that change the direction of writing are replaced: a name must look like what it is.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' => out.push(' '),
            c if is_obeyed(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Text from a file as HTML, cut if it is too long.
pub(super) fn short(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} …", escape(&text[..end])),
        None => escape(text),
    }
}

/// A name from a file, set as code.
pub(super) fn code(name: &str) -> String {
    format!("<code>{}</code>", short(name))
}

/// A list of names. The names beyond the first dozen are folded.
pub(super) fn names(all: &[String]) -> String {
    const SHOWN: usize = 12;
    const MOST: usize = 300;
    let list = |names: &[String]| names.iter().map(|name| code(name)).collect::<Vec<_>>().join(", ");
    if all.len() <= SHOWN + 1 {
        return list(all);
    }
    let (shown, rest) = all.split_at(SHOWN);
    let mut out = format!("{} <details><summary>and {} more</summary>", list(shown), rest.len());
    out += &list(&rest[..rest.len().min(MOST)]);
    if rest.len() > MOST {
        let _ = write!(out, ", and {} more", rest.len() - MOST);
    }
    out + "</details>"
}

/// A value, with enough digits to distinguish any two `f32`.
pub(super) fn value(x: f64) -> String {
    if x == 0.0 || !x.is_finite() || x.fract() == 0.0 && x.abs() < 1e6 { format!("{x}") } else { format!("{x:.8e}") }
}

/// Expected and found, with enough digits to see that they differ.
pub(super) fn both(expected: f64, found: f64) -> [String; 2] {
    let [e, f] = [value(expected), value(found)];
    if e == f && (expected - found).abs() > 0.0 { [expected, found].map(|x| format!("{x:.16e}")) } else { [e, f] }
}

/// An index, `[2, 0, 3]`.
pub(super) fn index(at: &[usize]) -> String {
    format!("{at:?}")
}

/// The sign of an outcome, since colour alone is not enough.
pub(super) fn sign(status: Status) -> &'static str {
    match status {
        Status::Passed => "✓",
        Status::Remark => "!",
        Status::Failed => "✗",
        Status::Missing => "○",
        Status::NotJudged => "?",
    }
}

/// The word for an outcome.
pub(super) fn word(status: Status) -> &'static str {
    match status {
        Status::Passed => "passed",
        Status::Remark => "passed with a remark",
        Status::Failed => "failed",
        Status::Missing => "not written",
        Status::NotJudged => "not judged",
    }
}

/// The class of an outcome in the style sheet.
pub(super) fn class(status: Status) -> &'static str {
    match status {
        Status::Passed => "ok",
        Status::Remark => "note",
        Status::Failed => "bad",
        Status::Missing => "gone",
        Status::NotJudged => "unsure",
    }
}

/// Sign and word as a small label.
pub(super) fn label(status: Status) -> String {
    format!("<span class=\"tag {}\">{} {}</span>", class(status), sign(status), word(status))
}

/// The error of a tensor in words, or why there is no number for it.
pub(super) fn error_of(tensor: &TensorReport) -> String {
    match (tensor.units, tensor.tolerance) {
        (Some(x), _) if x.is_finite() => format!("{} tolerances (1 is accepted)", units(Some(x))),
        (_, Some(tolerance)) if tolerance.max == 0.0 => "no number: whole numbers must be equal".into(),
        (_, Some(_)) => "no number: a value is NaN or infinite and must not be, or must be and is not".into(),
        _ => "no number: nothing could be compared".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_comes_from_a_file_is_text() {
        assert_eq!(
            escape("<script>alert(\"1\")</script> & 'x'"),
            "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; &#39;x&#39;"
        );
        assert_eq!(escape("a\u{2028}\u{200b}b"), "a\u{fffd}\u{fffd}b");
        assert_eq!(escape("a\u{0}\u{1b}[31m\n\u{202e}b h₀ ∘"), "a\u{fffd}\u{fffd}[31m \u{fffd}b h₀ ∘");
        assert_eq!(short(&"é".repeat(LONGEST)).chars().count(), LONGEST);
        assert!(short(&"<".repeat(LONGEST + 1)).ends_with("&lt; …"));
    }

    #[test]
    fn numbers_in_few_letters() {
        let shown = [0.0, 2e-9, 0.123, 1.0, 12.34, 999.6, 5.9e5].map(|x| units(Some(x)));
        assert_eq!(shown, ["0", "2.0 × 10⁻⁹", "0.12", "1.00", "12.3", "1000", "5.9 × 10⁵"]);
        assert_eq!([None, Some(f64::NAN), Some(f64::INFINITY)].map(units), ["beyond measure"; 3]);
        assert_eq!([0.1, -3.0, f64::NAN, -0.0].map(value), ["1.00000000e-1", "-3", "NaN", "-0"]);
        assert_eq!(both(0.1, 0.1 + 1e-15), ["1.0000000000000001e-1", "1.0000000000000100e-1"]);
        assert_eq!([both(0.1, 0.2), both(0.1, 0.1)].concat()[1..], ["2.00000000e-1", "1.00000000e-1", "1.00000000e-1"]);
        assert_eq!([count(1, "case"), count(1200, "case")], ["1 case", "1,200 cases"]);
    }

    #[test]
    fn long_lists_open_on_demand() {
        let list = |n: usize| names(&(0..n).map(|k| format!("c{k}")).collect::<Vec<_>>());
        assert!(!list(13).contains("details") && list(13).contains("c12"));
        assert!(list(14).contains("<summary>and 2 more</summary><code>c12</code>, <code>c13</code></details>"));
        assert!(list(1000).contains("c311") && !list(1000).contains("c312") && list(1000).contains(", and 688 more"));
    }
}
