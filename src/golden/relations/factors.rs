//! What may stand in the place of a factor: another function, another leaf, another place, another reading.

use super::elsewhere::{Jump, Token};
use super::graph::{GIVEN, STATES, View};
use super::language::{Argument, At, Axis, Factor, Function, Initial, Layer, Reading, STACKED};
use super::places::plain_axes;
use super::values::Case;
use crate::golden::arithmetic::Rounding;

/// Roundings, and how much more than a usual one a sentence with them costs.
pub(super) const ROUNDINGS: [(Rounding, &str, f64); 25] = [
    (Rounding::Bf16, "bf16", 0.0),
    (Rounding::F16, "f16", 0.0),
    (Rounding::Tf32, "TF32", 0.0),
    (Rounding::Tf32Truncated, "TF32 (cut off)", 0.0),
    (Rounding::Bf16Truncated, "bf16 (cut off)", 0.0),
    (Rounding::Bits(6), "7 significant bits", 0.3),
    (Rounding::Bits(8), "9 significant bits", 0.3),
    (Rounding::Bits(9), "10 significant bits", 0.3),
    (Rounding::Bits(11), "12 significant bits", 0.3),
    (Rounding::Bits(12), "13 significant bits", 0.3),
    (Rounding::Fixed(127), "multiples of 1/127", 0.3),
    (Rounding::Fixed(128), "multiples of 1/128", 0.3),
    (Rounding::Fixed(255), "multiples of 1/255", 0.3),
    (Rounding::Fixed(256), "multiples of 1/256", 0.3),
    (Rounding::Fixed(1024), "multiples of 1/1024", 0.3),
    (Rounding::Fixed(4096), "multiples of 1/4096", 0.3),
    (Rounding::Fixed(16384), "multiples of 1/16384", 0.3),
    (Rounding::Fixed(65536), "multiples of 1/65536", 0.3),
    (Rounding::FixedTruncated(32), "multiples of 1/32 (cut off)", 0.3),
    (Rounding::FixedTruncated(64), "multiples of 1/64 (cut off)", 0.3),
    (Rounding::FixedTruncated(256), "multiples of 1/256 (cut off)", 0.3),
    (Rounding::FixedTruncated(1024), "multiples of 1/1024 (cut off)", 0.3),
    (Rounding::FixedTruncated(4096), "multiples of 1/4096 (cut off)", 0.3),
    (Rounding::FixedTruncated(16384), "multiples of 1/16384 (cut off)", 0.3),
    (Rounding::FixedTruncated(65536), "multiples of 1/65536 (cut off)", 0.3),
];
pub(super) const ORDERS: [([usize; 3], &str); 5] = [
    ([1, 0, 2], "z, r, n"),
    ([0, 2, 1], "r, n, z"),
    ([2, 1, 0], "n, z, r"),
    ([1, 2, 0], "z, n, r"),
    ([2, 0, 1], "n, r, z"),
];

/// What else an index may be: the ends of the names of given tensors.
const INDICES: [(&[&str], &[&str]); 2] = [
    (
        &["id"],
        &[
            "_plus_1",
            "_minus_1",
            "_at_most_V_minus_2",
            "_at_most_63",
            "_at_most_127",
            "_at_most_255",
            "_at_most_511",
            "_at_most_1023",
            "_modulo_32",
            "_modulo_64",
            "_modulo_256",
            "_in_bf16",
            "_in_bf16_cut_off",
            "_in_f16",
            "_in_f16_cut_off",
        ],
    ),
    (&["row", "column"], &["_dense", "_after", "_before", "_same", "_from_end", "_clamped", "_wrapped", "_late"]),
];

/// What else an index may be, and what that costs.
pub(super) fn other_indices(name: &str) -> impl Iterator<Item = (String, f64)> {
    let others = INDICES.iter().filter(move |(of, _)| of.contains(&name)).flat_map(|(_, others)| *others);
    let tokens = Token::all().filter(move |_| name == "id").map(|(token, cost)| (token.ids(), cost));
    others.map(move |other| (format!("{name}{other}"), 1.2)).chain(tokens)
}

/// Leaves that no tensor is overwritten with.
pub(super) const MASKS: [&str; 10] = [
    "eye",
    "every",
    "off_diagonal",
    "without_neighbours",
    "wrong",
    "before",
    "end",
    "padded_end",
    "one_before_end",
    "first",
];

/// Masks of pairs that may be taken for that of the negatives.
pub(super) const PAIRS: [&str; 3] = ["every", "off_diagonal", "without_neighbours"];

/// Leaves that may stand in a relation: short names with the letters that they have there.
pub(super) struct Candidates {
    /// Names of leaves with as many axes as the key.
    pub names: Vec<(String, Option<usize>, usize)>,
    /// The letters of sizes that may scale a result.
    pub sizes: Vec<char>,
    /// Whether there are other layers.
    pub layers: bool,
    /// The parameters whose gradients are clipped together.
    pub parameters: Vec<String>,
}

/// The parameter that a gradient is by.
pub(super) fn parameter(gradient: &str) -> &str {
    gradient.trim_start_matches("in.").trim_start_matches("grad.")
}

impl Candidates {
    /// Those of an equation: its own leaves, those that come before it, and what is given.
    pub(super) fn of(case: &Case<'_>, place: usize) -> Self {
        let equation = &case.graph.equations[place];
        let group = &case.graph.groups[equation.group];
        let made_later = |tensor: &str| {
            let maker = case.graph.equations.iter().position(|other| other.tensor == tensor);
            tensor == equation.tensor || maker.is_some_and(|maker| maker >= place)
        };
        let mut names: Vec<(String, Option<usize>, usize)> = Vec::new();
        let own: Vec<&str> = equation.relation.leaves().collect();
        let shorts = group.leaves.keys().map(String::as_str).chain(GIVEN);
        for short in shorts {
            let tensor = group.leaves.get(short).map_or(short, |leaf| leaf.tensor.as_str());
            if names.iter().any(|(name, ..)| name == short)
                || STATES.contains(&short)
                || Layer::is_of_another(short)
                || tensor == equation.tensor && equation.relation.out.block.is_none()
                || (made_later(tensor) && !own.contains(&short))
            {
                continue;
            }
            let Some(values) = case.leaf(place, short) else { continue };
            if STACKED.contains(&short) {
                names.extend((0..3).map(|block| (short.to_owned(), Some(block), values.ndim())));
            }
            names.push((short.to_owned(), None, values.ndim()));
        }
        // What the other side has in their place.
        if matches!(group.kind, "norm" | "abs" | "same" | "linear") {
            let others = case.graph.groups.iter().filter(|other| other.kind == group.kind && other.part != group.part);
            for leaf in others.flat_map(|other| other.leaves.values()).filter(|leaf| leaf.view == View::Whole) {
                if let (false, Some(values)) = (made_later(&leaf.tensor), case.leaf(place, &leaf.tensor)) {
                    names.push((leaf.tensor.clone(), None, values.ndim()));
                }
            }
        }
        Self {
            names,
            sizes: equation.relation.letters(),
            layers: group.kind == "gru" && case.settings.num_layers > 1,
            parameters: case.graph.concatenated.iter().map(|(tensor, _)| parameter(tensor).to_owned()).collect(),
        }
    }
}

/// Other places along a letter, in words.
pub(super) fn moves(letter: char) -> Vec<(At, String, f64)> {
    let near = |by: isize| format!("{letter} {} {}", if by < 0 { '−' } else { '+' }, by.abs());
    let far = if letter == 't' { 1.1 } else { 1.3 };
    let mut all = vec![
        (At::Shift(-1), near(-1), far),
        (At::Shift(1), near(1), far),
        (At::First, format!("{letter} = 0"), 1.3),
        (At::Last, format!("the last {letter}"), 1.3),
        (At::Reversed, format!("{letter} counted from the end"), 1.3),
    ];
    if letter == 't' || letter == 'b' {
        all.push((At::Shift(-2), near(-2), 1.5));
    }
    if letter == 't' {
        let rings = [4, 8, 16, 32, 64].map(Jump::Modulo);
        all.extend(rings.map(|jump| (At::By(jump), jump.says("t"), 1.5)));
    }
    if !matches!(letter, 't' | 's' | 'u') {
        all.extend(Jump::all().map(|(jump, cost)| (At::By(jump), jump.says(&letter.to_string()), cost)));
    }
    if letter == 'j' {
        all.extend([Jump::Interleaved, Jump::Separated].map(|jump| (At::By(jump), jump.says("j"), 1.3)));
    }
    if letter == 'b' {
        all.push((At::Running, "the rows that still run, without gaps".into(), 1.4));
        all.push((At::NumberOfRunning, "the row's number among those that still run".into(), 1.4));
        all.push((At::FirstRunning, "the first row that still runs".into(), 1.3));
        let says = "the row with the number, among those that ran a step before, that this one has now";
        all.push((At::SameNumberBefore, says.into(), 1.4));
        all.push((At::TiesReversed, "the rows with those of one length in the opposite order".into(), 1.4));
        all.push((At::Sorted(1), "the rows sorted by falling length".into(), 1.2));
        all.push((At::Sorted(-1), "the row's rank by falling length".into(), 1.25));
        for times in [2, -2] {
            let says = "the rows put back with the permutation that sorted them, not with its inverse";
            all.push((At::Sorted(times), says.into(), 1.4));
        }
    }
    all
}

/// Where a sum or a mask begins and ends is rarely written in another way.
fn is_indicator(factor: &Factor) -> bool {
    matches!(factor.leaf.as_str(), "start" | "end" | "eye" | "wrong" | "final")
}

/// What may stand in the place of a factor, each with its cost and what is said of it.
pub(super) fn of_factor(factor: &Factor, candidates: &Candidates, change: &mut dyn FnMut(f64, String, Factor)) {
    let indicator = is_indicator(factor);
    for function in Function::all().filter(|&function| function != factor.function) {
        let into = Factor { function, ..factor.clone() };
        let near = matches!(
            (factor.function, function),
            (Function::Complement, Function::Identity) | (Function::Identity, Function::Complement)
        );
        let plain = matches!(
            function,
            Function::Identity
                | Function::SigmoidSlope
                | Function::TanhSlope
                | Function::Complement
                | Function::InverseEpsilon
                | Function::Relu
                | Function::Abs
        );
        change(
            if indicator {
                1.6
            } else if near {
                1.0
            } else if plain {
                1.2
            } else {
                1.5
            },
            format!("takes {into} for {factor}"),
            into,
        );
    }
    if factor.leaf == "most" {
        for k in [1, 2, 3, 4, 8] {
            let into = Factor { argument: Argument::Is(f64::from(k)), ..factor.clone() };
            change(1.3, format!("takes {k} for {factor}"), into);
        }
    }
    of_leaf(factor, candidates, change);
    of_place(factor, change);
    of_reading(factor, change);
    of_rounding(factor, change);
}

/// Another leaf in its place.
fn of_leaf(factor: &Factor, candidates: &Candidates, change: &mut dyn FnMut(f64, String, Factor)) {
    for (name, block, axes) in &candidates.names {
        let width = factor.axes.len();
        if *axes != width || (*name == factor.leaf && *block == factor.block) {
            continue;
        }
        let into = Factor { leaf: name.clone(), block: *block, ..factor.clone() };
        let cost = if *name == factor.leaf { 1.1 } else { 1.3 };
        // One step before it, or at the step itself in the place of one before.
        let steps = into.axes.iter().position(|axis| axis.letter == 't');
        if let Some((axis, At::Shift(own @ (0 | -1)))) = steps.map(|axis| (axis, &into.axes[axis].at)) {
            let mut other = into.clone();
            other.axes[axis].at = At::Shift(-1 - own);
            change(cost + 0.3, format!("takes {other} for {factor}"), other);
        }
        change(cost, format!("takes {into} for {factor}"), into);
    }
    if candidates.layers && !Layer::is_of_another(&factor.leaf) && !is_indicator(factor) {
        for (layer, _, name) in Layer::ALL {
            let into = Factor { leaf: layer.leaf(&factor.leaf), ..factor.clone() };
            change(1.3, format!("takes the {factor} of {name}"), into);
        }
    }
}

/// The same leaf at another place.
fn of_place(factor: &Factor, change: &mut dyn FnMut(f64, String, Factor)) {
    let indicator = is_indicator(factor);
    for (place, axis) in factor.axes.iter().enumerate() {
        if let At::Through(name, letters) = &axis.at {
            for (other, cost) in other_indices(name) {
                let mut into = factor.clone();
                into.axes[place].at = At::Through(other, letters.clone());
                change(cost, format!("takes {into} for {factor}"), into);
            }
        }
    }
    for (place, letter) in plain_axes(factor) {
        let At::Shift(own) = factor.axes[place].at else { continue };
        for (at, _, cost) in moves(letter) {
            let at = if let At::Shift(by) = at { At::Shift(own + by) } else { at };
            let mut into = factor.clone();
            let earlier = matches!(at, At::Shift(by) if by < 0) && matches!(letter, 't' | 's' | 'u');
            into.axes[place].at = at;
            let cost = if indicator { cost + 0.4 } else { cost };
            for (initial, value) in [(Initial::Zero, 0), (Initial::One, 1)].into_iter().filter(|_| earlier && own == 0)
            {
                let says = format!("takes {into} for {factor}, {value} where there is none");
                change(cost + 0.1, says, Factor { initial, ..into.clone() });
            }
            change(cost, format!("takes {into} for {factor}"), into);
        }
    }
    // Both indices of a diagonal.
    if let [Axis { letter: first, at: At::Shift(0) }, Axis { letter: second, at: At::Shift(0) }] = &factor.axes[..]
        && first == second
    {
        for (at, _, cost) in moves(*first) {
            let mut into = factor.clone();
            into.axes.iter_mut().for_each(|axis| axis.at = at.clone());
            change(cost, format!("takes {into} for {factor}"), into);
        }
    }
    for (token, cost) in Token::all().filter(|_| !indicator) {
        if let Some(into) = of_token(factor, token) {
            let padded = Factor { padding: true, ..into.clone() };
            change(cost + 0.05, format!("takes {into} for {factor}, what is after the end of rows too"), padded);
            change(cost, format!("takes {into} for {factor}"), into);
        }
    }
}

/// A factor of tokens, read at another token.
fn of_token(factor: &Factor, token: Token) -> Option<Factor> {
    let mut into = factor.clone();
    let plain = |axis: &&mut Axis| matches!(axis.letter, 'b' | 't') && matches!(axis.at, At::Shift(_));
    let mut axes: Vec<&mut Axis> = into.axes.iter_mut().filter(plain).collect();
    for axis in &mut axes {
        axis.at = At::Token(token);
    }
    (axes.len() == 2).then_some(into)
}

/// The same leaf with its axes exchanged, without h₀, with its padding, rounded, …
fn of_reading(factor: &Factor, change: &mut dyn FnMut(f64, String, Factor)) {
    let letters: Vec<char> = factor.axes.iter().map(|axis| axis.letter).collect();
    for first in 0..letters.len() {
        for second in first + 1..letters.len() {
            if letters.contains(&'t') || factor.axes[first].at != At::Shift(0) || factor.axes[second].at != At::Shift(0)
            {
                continue;
            }
            let mut into = factor.clone();
            into.axes.swap(first, second);
            if into.axes != factor.axes {
                change(1.1, format!("takes {into} for {factor}, its transpose"), into);
            }
        }
    }
    // A diagonal, or a diagonal of the other index.
    if let [Axis { letter: 'i' | 'j', at: At::Shift(0) }, Axis { letter: 'i' | 'j', at: At::Shift(0) }] =
        &factor.axes[..]
    {
        for letter in ['i', 'j'] {
            let mut into = factor.clone();
            into.axes.iter_mut().for_each(|axis| axis.letter = letter);
            if into != *factor {
                change(1.2, format!("takes {into} for {factor}"), into);
            }
        }
    }
    if factor.axes.iter().any(|axis| axis.letter == 't' && matches!(axis.at, At::Shift(by) if by < 0)) {
        let zero = Factor { initial: Initial::Zero, ..factor.clone() };
        change(1.0, format!("takes 0 for the first {factor}: the initial state is not read"), zero);
        change(1.2, format!("takes 1 for the first {factor}"), Factor { initial: Initial::One, ..factor.clone() });
        if factor.leaf == "h" {
            let says = format!("takes the layer below's last state for the first {factor}");
            change(1.2, says, Factor { initial: Initial::LastBelow, ..factor.clone() });
            let says = format!("takes the first {factor} from initial states read as [B, L, H], not [L, B, H]");
            change(1.2, says, Factor { initial: Initial::BatchFirst, ..factor.clone() });
            for (layer, _, name) in Layer::ALL {
                let of_layer = Factor { initial: Initial::Of(layer), ..factor.clone() };
                change(1.2, format!("takes the initial state of {name} for the first {factor}"), of_layer);
            }
            let mut first = Factor { leaf: "h0".into(), ..factor.clone() };
            first.axes.retain(|axis| axis.letter != 't');
            change(1.3, format!("takes {first} for {factor}"), first);
        }
    }
    if factor.axes.iter().any(|axis| axis.letter == 't') && factor.axes.iter().any(|axis| axis.letter == 'b') {
        change(
            1.2,
            format!("reads {factor} after the end of each row too"),
            Factor { padding: true, ..factor.clone() },
        );
    }
    if factor.axes.len() == 2 {
        change(
            1.0,
            format!("reads {factor} with its two strides exchanged"),
            Factor { reading: Reading::Exchanged, ..factor.clone() },
        );
    }
    if factor.axes.len() == 2 && factor.block.is_none() {
        change(
            1.2,
            format!("reads {factor} with the number of its rows as the stride of a row"),
            Factor { reading: Reading::RowsAsStride, ..factor.clone() },
        );
        for n in [2, 4, 8, 16, 32] {
            let padded = format!("reads {factor} as if its rows were padded to a multiple of {n}");
            change(1.4, padded, Factor { reading: Reading::Padded(n), ..factor.clone() });
            let aligned = format!("reads {factor} with each row's beginning rounded down to a multiple of {n}");
            change(1.4, aligned, Factor { reading: Reading::Aligned(n), ..factor.clone() });
        }
    }
    if factor.block.is_some() {
        for (by, way) in [(-1, "early"), (1, "late")] {
            let says = format!("reads {factor} one element too {way}");
            change(1.4, says, Factor { reading: Reading::Offset(by), ..factor.clone() });
        }
        let interleaved = Factor { reading: Reading::Interleaved, ..factor.clone() };
        change(1.3, format!("reads {factor} as if its blocks lay unit by unit, interleaved"), interleaved);
    }
    if factor.block.is_some_and(|block| block > 0) {
        for n in [4, 8, 16, 32] {
            let says = format!("reads {factor} as if each block were padded to a multiple of {n}");
            change(1.4, says, Factor { reading: Reading::Padded(n), ..factor.clone() });
        }
    }
    if factor.axes.len() == 2 && factor.axes[0].letter == 'j' && factor.leaf.starts_with('W') {
        change(
            1.1,
            format!("reads each block of {factor} transposed"),
            Factor { reading: Reading::BlocksTurned, ..factor.clone() },
        );
    }
    if factor.axes.first().is_some_and(|axis| axis.letter == 'j') && factor.leaf.contains('_') {
        for (order, text) in ORDERS {
            change(
                1.1,
                format!("reads the blocks of {factor} in the order {text}"),
                Factor { order, ..factor.clone() },
            );
        }
    }
}

/// Rounded to fewer bits, or to multiples of a step.
fn of_rounding(factor: &Factor, change: &mut dyn FnMut(f64, String, Factor)) {
    for (rounding, name, more) in ROUNDINGS {
        change(1.3 + more, format!("rounds {factor} to {name}"), Factor { rounding, ..factor.clone() });
        if factor.function != Function::Identity {
            let leaf = Factor { function: Function::Identity, ..factor.clone() };
            change(
                1.35 + more,
                format!("rounds {leaf} to {name} in {factor}"),
                Factor { argument: Argument::Rounded(rounding), ..factor.clone() },
            );
        }
    }
}
