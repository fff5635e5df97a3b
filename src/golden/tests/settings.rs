//! Every two settings of a program meet in some case.
//!
//! A mistake that only acts where two settings meet (a mask with order similarity, a third layer with a projection)
//! passes a suite in which they never do. Two are enough here: the mistakes of three are rare, and the cases many.

use std::collections::{BTreeMap, BTreeSet};

use super::{GoldenCase, suite};
use crate::golden::cases::Expected;
use crate::golden::program::Program;
use crate::loss::Violation;
use crate::similarity::Measure;

/// A setting and its value.
type Level = (&'static str, &'static str);

/// The settings of a program with all their values.
fn settings(program: Program) -> &'static [(&'static str, &'static [&'static str])] {
    const OFF_OR_ON: &[&str] = &["off", "on"];
    const CLIPPING: &[&str] = &["off", "inactive", "active"];
    match program {
        Program::Gru => &[
            ("layers", &["1", "2", "3"]),
            ("h₀", &["given", "not given"]),
            ("lengths", &["equal", "falling", "unsorted"]),
            ("sizes", &["E = H", "E = 3H", "others"]),
            ("T", &["1", "more"]),
            ("B", &["1", "more"]),
        ],
        Program::Loss => &[
            ("loss", &["SH", "MH", "hardest", "log-sum-exp", "semi-hard"]),
            ("mask_same_image", OFF_OR_ON),
            ("margin", &["0", "above 0"]),
            ("B", &["1", "more"]),
        ],
        Program::Optimiser => &[("steps", &["1", "more"]), ("clipping", CLIPPING), ("moments", &["0", "given"])],
        // The rest of a model sees of a loss its dS alone, so those between SH and MH are one value.
        Program::Model => &[
            ("loss", &["SH", "MH", "between"]),
            ("measure", &["cosine", "order", "order-squared"]),
            ("use_abs", OFF_OR_ON),
            ("no_imgnorm", OFF_OR_ON),
            ("caption_projection", OFF_OR_ON),
            ("mask_same_image", OFF_OR_ON),
            ("layers", &["1", "2", "3"]),
            ("steps", &["0", "1", "more"]),
            ("clipping", CLIPPING),
            ("sizes", &["E = H = D = F", "others"]),
            ("B", &["1", "more"]),
        ],
        _ => &[],
    }
}

/// The value of every setting in a case; none where a setting has no effect.
fn levels(case: &GoldenCase) -> Vec<Level> {
    let s = case.settings().unwrap();
    let size = |name: &str, axis: usize| case.inputs[name].shape()[axis];
    let either = |is: bool, yes: &'static str, no: &'static str| if is { yes } else { no };
    let on = |on: bool| either(on, "on", "off");
    let one = |n: usize| either(n == 1, "1", "more");
    let of_model = case.entry.program == Program::Model;
    let kind = match s.hinge().violation {
        Violation::Sum => "SH",
        Violation::Max => "MH",
        _ if of_model => "between",
        Violation::Hardest(_) => "hardest",
        Violation::LogSumExp(_) => "log-sum-exp",
        Violation::SemiHard => "semi-hard",
    };
    let loss = ("loss", kind);
    let mask = ("mask_same_image", on(s.mask_same_image));
    let clipping = || {
        let above = case.expected["opt.norms"].iter().any(|&norm| norm > s.grad_clip);
        ("clipping", if s.grad_clip == 0.0 { "off" } else { either(above, "active", "inactive") })
    };
    let layers = ("layers", ["1", "2", "3"][s.num_layers.min(3) - 1]);
    let rnn = || {
        let word = size("param.txt_enc.rnn.weight_ih_l0", 1);
        (word, size("param.txt_enc.rnn.weight_hh_l0", 1))
    };
    match case.entry.program {
        Program::Gru => {
            let (steps, (word, hidden)) = (size("in.x", 1), rnn());
            let lengths = case.inputs["in.lengths"].as_slice().expect("contiguous");
            let equal = lengths.iter().all(|&length| length == steps as f64);
            let sorted = either(lengths.is_sorted_by(|a, b| a >= b), "falling", "unsorted");
            let sizes = if word == hidden { "E = H" } else { either(word == 3 * hidden, "E = 3H", "others") };
            vec![
                layers,
                ("h₀", either(case.inputs.contains_key("in.h0"), "given", "not given")),
                ("lengths", if equal { "equal" } else { sorted }),
                ("sizes", sizes),
                ("T", one(steps)),
                ("B", one(size("in.x", 0))),
            ]
        }
        Program::Loss => {
            let margin = ("margin", either(s.margin == 0.0, "0", "above 0"));
            vec![loss, mask, margin, ("B", one(size("in.scores", 0)))]
        }
        Program::Optimiser => {
            let moments = ("moments", either(case.inputs.contains_key("in.step"), "given", "0"));
            vec![("steps", one(s.steps)), clipping(), moments]
        }
        Program::Model => {
            let measure = match s.measure {
                Measure::Cosine => "cosine",
                Measure::Order => "order",
                Measure::OrderSquared => "order-squared",
            };
            let (word, hidden) = rnn();
            let [joint, features] = [0, 1].map(|axis| size("param.img_enc.fc.weight", axis));
            let square = [word, joint, features].iter().all(|&size| size == hidden);
            let mut levels = vec![
                loss,
                ("measure", measure),
                ("use_abs", on(s.use_abs)),
                ("no_imgnorm", on(s.no_imgnorm)),
                ("caption_projection", on(s.caption_projection)),
                mask,
                layers,
                ("steps", if s.steps == 0 { "0" } else { one(s.steps) }),
            ];
            levels.extend((s.steps > 0).then(clipping));
            levels.extend([("sizes", either(square, "E = H = D = F", "others")), ("B", one(size("in.images", 0)))]);
            levels
        }
        _ => Vec::new(),
    }
}

/// Why two values cannot meet.
fn meaningless(one: Level, other: Level) -> Option<&'static str> {
    match (one, other) {
        (("steps", "0"), ("clipping", _)) => Some("without a step nothing is clipped"),
        (("clipping", "active"), ("B", "1")) => Some("a single pair has no gradient"),
        (("lengths", "falling" | "unsorted"), ("T" | "B", "1")) => Some("one row, or one step, has one length"),
        _ => None,
    }
}

/// The pairs of a case. A single pair has no gradient, and a single step no recurrence, so such a case shows little of
/// what its other settings do together: it counts only for pairs with B = 1 and T = 1 themselves.
fn pairs(program: Program, levels: &[Level]) -> BTreeSet<(Level, Level)> {
    let little = if program == Program::Gru { ("T", "1") } else { ("B", "1") };
    let shows_little = levels.contains(&little);
    let of = |k: usize| levels[k + 1..].iter().map(move |&other| (levels[k], other));
    (0..levels.len()).flat_map(of).filter(|&(one, other)| !shows_little || one == little || other == little).collect()
}

#[test]
fn every_pair_of_settings_occurs() {
    for (program, expected) in
        [(Program::Gru, 89), (Program::Loss, 42), (Program::Optimiser, 16), (Program::Model, 326)]
    {
        let mut wanted = BTreeSet::new();
        let all = settings(program);
        for (k, &(one, values)) in all.iter().enumerate() {
            for &(other, others) in &all[k + 1..] {
                wanted.extend(values.iter().flat_map(|&x| others.iter().map(move |&y| ((one, x), (other, y)))));
            }
        }
        wanted.retain(|&(one, other)| meaningless(one, other).is_none());
        assert_eq!(wanted.len(), expected, "{}: the pairs are counted, so that none is lost", program.name());
        let mut found: BTreeMap<(Level, Level), &str> = BTreeMap::new();
        for case in suite().iter().filter(|c| c.entry.program == program && c.entry.result == Expected::Valid) {
            found.extend(pairs(program, &levels(case)).into_iter().map(|pair| (pair, case.entry.id.as_str())));
        }
        for (pair, id) in &found {
            assert!(wanted.contains(pair), "{id}: {pair:?} was said to be impossible, or is in no table");
        }
        let missing = wanted.iter().filter(|pair| !found.contains_key(pair));
        let missing: Vec<String> = missing.map(|((one, x), (other, y))| format!("{one} {x}, {other} {y}")).collect();
        assert!(missing.is_empty(), "{}: these settings meet in no case: {missing:#?}", program.name());
    }
}
