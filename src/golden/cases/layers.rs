//! Word vectors, projections, normalisation, scores.

use ndarray::{Array2, ArrayD, s};

use super::{Case, Draw, Expected, Inputs, Measure, Program, Result, Sketch, enlarge, lengths, named, poison};

/// The id that is behind the ends of [`many_rows`], and larger than all in them.
const LARGEST: usize = 40;

/// 37 rows of up to 7 tokens.
fn many_rows() -> Vec<Vec<usize>> {
    let token = |b: usize, t: usize| (11 * b + 3 * b * t + 7 * t * t) % LARGEST;
    (0..37).map(|b| (0..=(5 * b + b * b / 3) % 7).map(|t| token(b, t)).collect()).collect()
}

pub(super) fn embeddings(cases: &mut Vec<Case>) -> Result<()> {
    let all: [(&str, &str, &[&[usize]]); 8] = [
        ("distinct", "Every word once.", &[&[1, 4, 2], &[3, 5]]),
        ("within-a-row", "A word three times in one caption.", &[&[1, 4, 4, 5, 4, 2]]),
        ("across-rows", "A word in every caption, at other places.", &[&[1, 6, 2], &[6, 1, 6, 2], &[2, 1, 6]]),
        ("one-word", "The same word everywhere.", &[&[5, 5], &[5, 5, 5, 5], &[5]]),
        ("first-and-last-row", "The first and the last row of the table.", &[&[0, 7, 0], &[7, 3]]),
        (
            "padding-is-a-word",
            "Behind the ends stands a word that occurs too: padding has no gradient.",
            &[&[1, 2], &[1, 4, 4, 2, 2], &[4]],
        ),
        ("square", "B = T = V = E = 4.", &[&[1, 3, 2], &[1, 0, 3, 2], &[2], &[3, 3]]),
        (
            "many-words",
            "V = 2060: ids that 8 bits, bf16 (up to 256) or f16 (up to 2048) do not hold.",
            &[&[1, 255, 256, 257, 2], &[127, 128, 256, 511], &[2047, 2048, 2049, 2059, 257]],
        ),
    ];
    let many = many_rows();
    let many: Vec<&[usize]> = many.iter().map(Vec::as_slice).collect();
    let many = (
        "many-rows",
        "B = 37, gradients U(±4); behind the ends is the largest id, which occurs nowhere else.",
        &many[..],
    );
    for (name, note, captions) in all.into_iter().chain([many]) {
        let rows: Vec<usize> = captions.iter().map(|c| c.len()).collect();
        let steps = rows.iter().copied().max().unwrap_or(1);
        let mut flags = vec!["repeated-words"];
        if name == "distinct" {
            flags.clear();
        }
        if rows.iter().any(|&length| length < steps) {
            flags.push("nan-padding");
        }
        let table = match name {
            "square" => [4, 4],
            "many-words" => [2060, 2],
            "many-rows" => [LARGEST + 3, 3],
            _ => [8, 3],
        };
        if name == "square" {
            flags.push("square");
        }
        if name == "many-rows" {
            flags.extend(["tails", "unsorted"]);
        }
        cases.push(Sketch::new("embedding", name, Program::Embedding, note).flags(&flags).draw(|draw| {
            let padding = match name {
                "padding-is-a-word" => 4.0,
                "many-rows" => LARGEST as f64,
                _ => 0.0,
            };
            let inputs = named([
                ("in.captions", padded(captions, steps, padding)),
                ("in.lengths", lengths(&rows)),
                ("in.d_words", poison(draw.array((rows.len(), steps, table[1]), 1.0), &rows)),
                ("param.txt_enc.embed.weight", draw.array(table, 0.7).into_dyn()),
            ]);
            if name == "many-rows" { enlarge(inputs) } else { inputs }
        })?);
    }
    Ok(())
}

/// Ids [B, T] with something after the end of each row.
pub(super) fn padded<C: AsRef<[usize]>>(captions: &[C], steps: usize, padding: f64) -> ArrayD<f64> {
    let mut ids = Array2::from_elem((captions.len(), steps), padding);
    for (mut row, caption) in ids.outer_iter_mut().zip(captions) {
        for (id, &word) in row.iter_mut().zip(caption.as_ref()) {
            *id = word as f64;
        }
    }
    ids.into_dyn()
}

pub(super) fn linears(cases: &mut Vec<Case>) -> Result<()> {
    let all: [(&str, [usize; 3], &[&'static str], &str); 11] = [
        ("small", [4, 3, 2], &[], "N = 4, I = 3, O = 2."),
        ("square", [3, 5, 5], &["square"], "I = O: a transposed weight has the right shape."),
        ("one-row", [1, 6, 4], &[], "N = 1 is no special case."),
        ("remainder", [35, 37, 34], &["remainder"], "N = 35, I = 37, O = 34."),
        ("large-k", [2, 2048, 3], &["large-k"], "Sums over I = 2048."),
        (
            "cancellation",
            [3, 768, 2],
            &["cancellation", "large-k"],
            "The second half of every sum nearly undoes the first.",
        ),
        ("all-equal", [4, 4, 4], &["square"], "N = I = O = 4."),
        ("tails-sum", [3, 251, 5], &["tails"], "N = 3, I = 251, O = 5."),
        ("tails-rows", [91, 3, 23], &["tails"], "N = 91, I = 3, O = 23."),
        ("tails-columns", [23, 5, 107], &["tails"], "N = 23, I = 5, O = 107."),
        ("large-values", [6, 5, 7], &[], "N = 6, I = 5, O = 7; x and the gradient are U(±4)."),
    ];
    for (name, [rows, inputs, outputs], flags, note) in all {
        cases.push(Sketch::new("linear", name, Program::Linear, note).flags(flags).draw(|draw| {
            let mut x = draw.array((rows, inputs), 1.0);
            let mut weight = draw.array((outputs, inputs), 0.9);
            if name == "cancellation" {
                nearly_cancel(&mut x, &mut weight);
            }
            let inputs = named([
                ("in.x", x.into_dyn()),
                ("in.d_y", draw.array((rows, outputs), 1.0).into_dyn()),
                ("param.img_enc.fc.weight", weight.into_dyn()),
                ("param.img_enc.fc.bias", draw.array(outputs, 0.5).into_dyn()),
            ]);
            if name == "large-values" { enlarge(inputs) } else { inputs }
        })?);
    }
    Ok(())
}

/// Makes the second half of every product's sum nearly the negative of the first.
#[allow(clippy::cast_possible_truncation)] // rounding to f32 is what is wanted
pub(super) fn nearly_cancel(x: &mut Array2<f64>, y: &mut Array2<f64>) {
    let half = x.ncols() / 2;
    for matrix in [&mut *x, &mut *y] {
        let first = matrix.slice(s![.., ..half]).to_owned();
        let small = matrix.slice(s![.., half..]).to_owned();
        matrix.slice_mut(s![.., half..]).assign(&first);
        matrix.slice_mut(s![.., half..]).zip_mut_with(&small, |x, s| *x = f64::from((*x * (1.0 + 0.01 * s)) as f32));
    }
    x.slice_mut(s![.., half..]).mapv_inplace(|x| -x);
}

pub(super) fn norms(cases: &mut Vec<Case>) -> Result<()> {
    type Kind<'a> = (&'a str, [usize; 2], &'a [f64], &'a [&'static str], &'a str);
    // Name, rows, D, the scale of each row in turn, flags.
    let all: [Kind<'_>; 10] = [
        ("plain", [4, 5], &[1.0], &[], "Rows of norm about 1."),
        ("square", [4, 4], &[1.0, 3.0, 0.2, 7.0], &["square"], "N = D: columns for rows has the right shape."),
        ("one-row", [1, 6], &[2.0], &[], "One row."),
        ("remainder", [35, 67], &[1.0, 0.3, 5.0], &["remainder"], "N = 35, D = 67."),
        ("wide", [2, 512], &[1.0, 0.1], &["large-k"], "D = 512."),
        ("small", [6, 4], &[1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6], &["tiny"], "Norms from 1e-1 to 1e-6."),
        ("tiny", [6, 4], &[1e-7, 1e-8, 1e-10, 1e-12, 1e-13, 1e-14], &["tiny"], "Norms from 1e-7 to 1e-14."),
        ("huge", [4, 4], &[1e3, 1e8, 1e12, 1e15], &["huge"], "Norms from 1e3 to 1e15."),
        ("extreme-small", [2, 4], &[1e-25, 1e-30], &["tiny", "extreme-range"], "Squares below the range of f32."),
        ("extreme-large", [2, 4], &[1e22, 1e30], &["huge", "extreme-range"], "Squares above the range of f32."),
    ];
    for (name, [rows, width], scales, flags, note) in all {
        let extreme = flags.contains(&"extreme-range");
        let sketch = Sketch::new("l2norm", name, Program::L2norm, note).flags(flags).expecting(if extreme {
            Expected::Acceptable
        } else {
            Expected::Valid
        });
        cases.push(sketch.draw(|draw| norm_inputs(draw, rows, width, scales, false))?);
    }
    let one_hot =
        Sketch::new("l2norm", "one-hot", Program::L2norm, "One element a row is not 0: y = ± 1, dx = 0 there.");
    cases.push(one_hot.flags(&["one-hot"]).draw(|draw| norm_inputs(draw, 4, 4, &[1.0, 1e-6, 1e6, 1e-12], true))?);
    let large = Sketch::new("l2norm", "large-values", Program::L2norm, "N = 5, D = 6; x and the gradient are U(±4).");
    cases.push(large.draw(|draw| enlarge(norm_inputs(draw, 5, 6, &[1.0], false)))?);
    let tails = Sketch::new("l2norm", "tails", Program::L2norm, "N = 5, D = 251.").flags(&["tails"]);
    cases.push(tails.draw(|draw| norm_inputs(draw, 5, 251, &[1.0, 0.3, 5.0], false))?);
    Ok(())
}

#[allow(clippy::cast_possible_truncation)] // rounding to f32 is what is wanted
pub(super) fn norm_inputs(draw: &mut Draw, rows: usize, width: usize, scales: &[f64], one_hot: bool) -> Inputs {
    let mut x = draw.array((rows, width), 1.0);
    for ((i, j), x) in x.indexed_iter_mut() {
        let kept = !one_hot || j == (2 * i + 1) % width;
        *x = if kept { f64::from((*x * scales[i % scales.len()]) as f32) } else { 0.0 };
    }
    named([("in.x", x.into_dyn()), ("in.d_y", draw.array((rows, width), 1.0).into_dyn())])
}

pub(super) fn scores(cases: &mut Vec<Case>) -> Result<()> {
    type Kind<'a> = (&'a str, Measure, [usize; 3], &'a [&'static str], &'a str);
    const LARGE: &str = "N = 5, M = 12, D = 6; the embeddings are U(±3.6), the gradient is U(±4).";
    let all: [Kind<'_>; 23] = [
        (
            "cosine",
            Measure::Cosine,
            [3, 5, 4],
            &[],
            "More captions than images: a transposed matrix has another shape.",
        ),
        (
            "cosine-square",
            Measure::Cosine,
            [4, 4, 3],
            &["square"],
            "As many captions as images: only values tell a transposition.",
        ),
        ("cosine-one", Measure::Cosine, [1, 2, 5], &[], "One image."),
        ("cosine-large-k", Measure::Cosine, [2, 3, 1536], &["large-k"], "D = 1536."),
        (
            "cosine-cancellation",
            Measure::Cosine,
            [3, 2, 512],
            &["cancellation", "large-k"],
            "The second half of every sum nearly undoes the first.",
        ),
        ("order", Measure::Order, [3, 5, 4], &[], "-‖max(0, g - f)‖"),
        ("order-square", Measure::Order, [4, 4, 6], &["square"], "As many captions as images."),
        ("order-wide", Measure::Order, [2, 3, 96], &["large-k"], "D = 96."),
        ("order-squared", Measure::OrderSquared, [3, 5, 4], &[], "-‖max(0, g - f)‖²"),
        ("order-squared-square", Measure::OrderSquared, [4, 4, 6], &["square"], "As many captions as images."),
        ("order-squared-wide", Measure::OrderSquared, [3, 2, 96], &["large-k"], "D = 96."),
        ("cosine-remainder", Measure::Cosine, [33, 35, 37], &["remainder"], "N = 33, M = 35, D = 37."),
        ("order-no-violation", Measure::Order, [3, 4, 3], &["no-violation"], "Image 1 lies above every caption."),
        (
            "order-squared-no-violation",
            Measure::OrderSquared,
            [3, 4, 3],
            &["no-violation"],
            "Image 1 lies above every caption.",
        ),
        ("cosine-all-equal", Measure::Cosine, [4, 4, 4], &["square"], "N = M = D = 4."),
        ("order-all-equal", Measure::Order, [4, 4, 4], &["square"], "N = M = D = 4."),
        ("order-squared-all-equal", Measure::OrderSquared, [4, 4, 4], &["square"], "N = M = D = 4."),
        ("cosine-tails", Measure::Cosine, [23, 27, 91], &["tails"], "N = 23, M = 27, D = 91."),
        ("order-tails", Measure::Order, [23, 27, 55], &["tails"], "N = 23, M = 27, D = 55."),
        ("order-squared-tails", Measure::OrderSquared, [27, 23, 55], &["tails"], "N = 27, M = 23, D = 55."),
        ("cosine-large-values", Measure::Cosine, [5, 12, 6], &[], LARGE),
        ("order-large-values", Measure::Order, [5, 12, 6], &[], LARGE),
        ("order-squared-large-values", Measure::OrderSquared, [5, 12, 6], &[], LARGE),
    ];
    for (name, measure, [images, captions, width], flags, note) in all {
        let sketch = Sketch::new("scores", name, Program::Scores, note)
            .flags(flags)
            .with(|s| s.measure = measure)
            .apart(if measure == Measure::Order { 0.02 } else { 0.0 });
        cases.push(sketch.draw(|draw| {
            let (mut f, mut g) = (draw.array((images, width), 0.9), draw.array((captions, width), 0.9));
            if flags.contains(&"cancellation") {
                nearly_cancel(&mut f, &mut g);
            }
            if flags.contains(&"no-violation") {
                f.row_mut(1).mapv_inplace(|x| x.abs() + 1.0);
            }
            let inputs = named([
                ("in.image_embedding", f.into_dyn()),
                ("in.caption_embedding", g.into_dyn()),
                ("in.d_scores", draw.array((images, captions), 1.0).into_dyn()),
            ]);
            if name.ends_with("large-values") { enlarge(inputs) } else { inputs }
        })?);
    }
    Ok(())
}
