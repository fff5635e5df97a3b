//! The losses, their kinks and their ties.

use ndarray::Array2;

use super::{Case, Draw, Inputs, Program, Result, Sketch, lengths, named};
use crate::loss::Violation;

/// The images of some captions: those of one image are neighbours, or both neighbours and scattered.
const GROUPS: &[usize] = &[2, 2, 4, 4, 4, 1];
pub(super) const SCATTERED: &[usize] = &[7, 7, 3, 1, 3, 9, 7, 2, 0, 3, 3, 1];

pub(super) fn losses(cases: &mut Vec<Case>) -> Result<()> {
    type Masked<'a> = (&'a str, bool, &'a [usize], f64, f64, &'a [&'static str]);
    for max in [false, true] {
        let kind = if max { "mh" } else { "sh" };
        for batch in [1, 2, 3, 7, 33, 128] {
            for margin in [0.0, 0.2, 2.0] {
                if (batch == 7 && margin > 1.0) || (batch == 33 && !(0.1..1.0).contains(&margin)) {
                    continue;
                }
                let name = format!("{kind}-b{batch}-m{margin}");
                let note = format!("{} of B = {batch}, α = {margin}, scores U(±1).", if max { "MH" } else { "SH" });
                let mut sketch = Sketch::new("loss", &name, Program::Loss, &note)
                    .with(|s| (s.margin, s.max_violation) = (margin, max))
                    .apart(match batch {
                        1 => 0.0,
                        128 => 1e-5,
                        33 => 2e-4,
                        _ => 0.04,
                    });
                if batch == 1 {
                    sketch = sketch.flags(&["one-pair"]);
                }
                cases.push(sketch.draw(|draw| named([("in.scores", draw.array((batch, batch), 1.0).into_dyn())]))?);
            }
        }
        let small = Sketch::new("loss", &format!("{kind}-small-hinges"), Program::Loss, "Scores U(±0.004), α = 0.001.")
            .flags(&["small-hinges"])
            .with(|s| (s.margin, s.max_violation) = (1e-3, max))
            .apart(2e-5);
        cases.push(small.draw(|draw| named([("in.scores", draw.array((6, 6), 0.004).into_dyn())]))?);
        let example = [[0.5f32, 0.6, 0.1], [0.4, 0.3, 0.35], [0.2, 0.0, 0.7]];
        let example = ndarray::arr2(&example).mapv(f64::from);
        let sketch = Sketch::new(
            "loss",
            &format!("{kind}-worked-example"),
            Program::Loss,
            "Loss 1.45 (SH), 1.20 (MH), to rounding of the scores.",
        );
        cases.push(
            sketch
                .flags(&["worked-example"])
                .with(|s| s.max_violation = max)
                .draw(|_| named([("in.scores", example.clone().into_dyn())]))?,
        );
        let groups =
            [("pair", [3, 5, 3, 8, 9, 7].as_slice(), 0.04), ("groups", GROUPS, 0.04), ("scattered", SCATTERED, 2e-3)];
        for (name, ids, apart) in groups {
            let sketch = Sketch::new(
                "loss",
                &format!("{kind}-masked-{name}"),
                Program::Loss,
                "Captions of one image in the batch.",
            )
            .flags(&["masked"])
            .with(|s| (s.max_violation, s.mask_same_image) = (max, true))
            .apart(apart);
            cases.push(sketch.draw(|draw| masked(draw, ids))?);
        }
    }
    let all: [Masked<'_>; 2] = [
        ("sh-masked-one-pair", false, &[4], 0.2, 0.0, &["masked", "one-pair"]),
        ("mh-masked-zero-margin", true, &[3, 5, 3, 8, 9, 7], 0.0, 0.04, &["masked"]),
    ];
    for (name, max, ids, margin, apart, flags) in all {
        let note = format!("B = {}, α = {margin}, captions of one image masked.", ids.len());
        let sketch = Sketch::new("loss", name, Program::Loss, &note)
            .flags(flags)
            .with(|s| (s.max_violation, s.mask_same_image, s.margin) = (max, true, margin))
            .apart(apart);
        cases.push(sketch.draw(|draw| masked(draw, ids))?);
    }
    for (name, max) in [("sh-tails", false), ("mh-tails", true)] {
        let sketch = Sketch::new("loss", name, Program::Loss, "B = 27, α = 0.2, scores U(±1).")
            .flags(&["tails"])
            .with(|s| s.max_violation = max)
            .apart(2e-4);
        cases.push(sketch.draw(|draw| named([("in.scores", draw.array((27, 27), 1.0).into_dyn())]))?);
    }
    between(cases)
}

/// The losses between SH and MH.
fn between(cases: &mut Vec<Case>) -> Result<()> {
    type Row<'a> = (&'a str, Violation, usize, f64, &'a [usize], &'a str);
    use Violation::{Hardest, LogSumExp, SemiHard};
    let all: [Row<'_>; 24] = [
        ("hardest-2", Hardest(2), 6, 0.2, &[], "The 2 hardest"),
        ("hardest-3", Hardest(3), 8, 0.2, &[], "The 3 hardest"),
        ("hardest-2-zero-margin", Hardest(2), 7, 0.0, &[], "The 2 hardest"),
        ("hardest-2-masked", Hardest(2), 6, 0.2, GROUPS, "The 2 hardest, captions of one image masked"),
        ("hardest-more-than-there-are", Hardest(7), 4, 0.2, &[], "The 7 hardest of 3: all"),
        ("hardest-2-one-pair", Hardest(2), 1, 0.2, &[], "The 2 hardest"),
        ("log-sum-exp-0.1", LogSumExp(0.1), 6, 0.2, &[], "Log-sum-exp, τ = 0.1"),
        ("log-sum-exp-0.5", LogSumExp(0.5), 8, 0.2, &[], "Log-sum-exp, τ = 0.5"),
        ("log-sum-exp-zero-margin", LogSumExp(0.1), 7, 0.0, &[], "Log-sum-exp, τ = 0.1"),
        ("log-sum-exp-masked", LogSumExp(0.1), 6, 0.2, GROUPS, "Log-sum-exp, τ = 0.1, captions of one image masked"),
        ("log-sum-exp-0.01", LogSumExp(0.01), 5, 0.2, &[], "Log-sum-exp, τ = 0.01: exp(cost / τ) overflows f32"),
        ("log-sum-exp-one-pair", LogSumExp(0.1), 1, 0.2, &[], "Log-sum-exp, τ = 0.1"),
        ("semi-hard", SemiHard, 6, 0.2, &[], "Semi-hard"),
        ("semi-hard-wide-margin", SemiHard, 8, 2.0, &[], "Semi-hard"),
        ("semi-hard-few-below", SemiHard, 3, 0.5, &[], "Semi-hard; queries without a lower negative"),
        ("semi-hard-masked", SemiHard, 6, 0.5, GROUPS, "Semi-hard, captions of one image masked"),
        ("semi-hard-zero-margin", SemiHard, 5, 0.0, &[], "Semi-hard: nothing counts"),
        ("semi-hard-one-pair", SemiHard, 1, 0.2, &[], "Semi-hard"),
        ("hardest-3-tails", Hardest(3), 27, 0.2, &[], "The 3 hardest"),
        ("log-sum-exp-tails", LogSumExp(0.1), 27, 0.2, &[], "Log-sum-exp, τ = 0.1"),
        ("semi-hard-tails", SemiHard, 27, 0.2, &[], "Semi-hard"),
        ("hardest-2-scattered", Hardest(2), 12, 0.2, SCATTERED, "The 2 hardest, captions of one image masked"),
        (
            "log-sum-exp-scattered",
            LogSumExp(0.1),
            12,
            0.2,
            SCATTERED,
            "Log-sum-exp, τ = 0.1, captions of one image masked",
        ),
        ("semi-hard-scattered", SemiHard, 12, 0.2, SCATTERED, "Semi-hard, captions of one image masked"),
    ];
    for (name, violation, batch, margin, ids, what) in all {
        let note = format!("{what}; B = {batch}, α = {margin}, scores U(±1).");
        let flags = [("one-pair", batch == 1), ("masked", !ids.is_empty()), ("tails", name.ends_with("tails"))];
        let flags: Vec<&str> = flags.into_iter().filter_map(|(flag, holds)| holds.then_some(flag)).collect();
        let sketch = Sketch::new("loss", name, Program::Loss, &note)
            .flags(&flags)
            .with(|s| {
                s.count(violation);
                (s.margin, s.mask_same_image) = (margin, !ids.is_empty());
            })
            .apart(match batch {
                1 => 0.0,
                2..10 => 0.01,
                10..20 => 2e-3,
                _ => 2e-4,
            });
        cases.push(sketch.draw(|draw| match ids {
            [] => named([("in.scores", draw.array((batch, batch), 1.0).into_dyn())]),
            ids => masked(draw, ids),
        })?);
    }
    Ok(())
}

fn masked(draw: &mut Draw, ids: &[usize]) -> Inputs {
    named([("in.scores", draw.array((ids.len(), ids.len()), 1.0).into_dyn()), ("in.image_ids", lengths(ids))])
}

/// A case of given scores: its name, loss, α, scores, flags and note.
type Fixed<'a, L = Violation> = (&'a str, L, f64, &'a [&'a [f64]], &'a [&'static str], &'a str);

const ONES: &[f64] = &[1.0; 4];
const EQUAL: &[&[f64]] = &[ONES; 4];

pub(super) fn kinks_and_ties(cases: &mut Vec<Case>) -> Result<()> {
    // Dyadic scores and margins: every difference is exact in any precision.
    let all: [Fixed<'_, bool>; 9] = [
        (
            "sh-kink",
            false,
            0.25,
            &[&[0.75, 0.5, 0.25], &[0.5, 0.75, 0.625], &[0.125, 0.5, 0.75]],
            &["kink"],
            "Hinges of exactly 0, SH.",
        ),
        (
            "mh-kink",
            true,
            0.25,
            &[&[0.75, 0.5, 0.25], &[0.5, 0.75, 0.25], &[0.25, 0.125, 0.75]],
            &["kink"],
            "The hardest hinge is exactly 0.",
        ),
        (
            "sh-kink-zero-margin",
            false,
            0.0,
            &[&[0.5, 0.5, 0.25], &[0.25, 0.5, 0.75], &[0.5, 0.125, 0.25]],
            &["kink"],
            "α = 0 and equal scores.",
        ),
        (
            "mh-kink-zero-margin",
            true,
            0.0,
            &[&[0.5, 0.5, 0.25], &[0.25, 0.5, 0.5], &[0.5, 0.125, 0.5]],
            &["kink"],
            "α = 0 and equal scores: nothing counts.",
        ),
        (
            "mh-tie-row",
            true,
            0.25,
            &[&[0.25, 0.5, 0.5, 0.125], &[-0.5, 0.5, 0.375, 0.0], &[0.0, 0.25, 0.75, -0.25], &[0.125, -0.5, 0.25, 0.5]],
            &["tie"],
            "Two hardest captions for image 0.",
        ),
        (
            "mh-tie-column",
            true,
            0.25,
            &[
                &[0.25, -0.5, 0.0, 0.125],
                &[0.5, 0.5, 0.25, -0.25],
                &[0.5, 0.375, 0.75, 0.25],
                &[0.125, 0.0, -0.25, 0.5],
            ],
            &["tie"],
            "Two hardest images for caption 0.",
        ),
        (
            "mh-tie-both",
            true,
            0.5,
            &[&[0.25, 0.5, 0.5], &[0.5, 0.25, 0.125], &[0.5, 0.0, 0.375]],
            &["tie"],
            "Ties along a row and along a column at once.",
        ),
        ("mh-collapse", true, 0.25, EQUAL, &["tie"], "All scores equal: loss 2Bα, everything ties."),
        (
            "sh-collapse",
            false,
            0.25,
            EQUAL,
            &[],
            "All scores equal: loss 2B(B - 1)α; each row and column of dS sums to 0.",
        ),
    ];
    for (name, max, margin, rows, flags, note) in all {
        let violation = if max { Violation::Max } else { Violation::Sum };
        cases.push(fixed((name, violation, margin, rows, flags, note))?);
    }
    kinks_and_ties_between(cases)
}

fn kinks_and_ties_between(cases: &mut Vec<Case>) -> Result<()> {
    let all: [Fixed<'_>; 6] = [
        (
            "hardest-tie",
            Violation::Hardest(2),
            0.25,
            &[
                &[0.25, 0.75, 0.625, 0.625],
                &[0.125, 0.5, 0.375, 0.0],
                &[0.625, 0.625, 0.75, 0.5625],
                &[0.125, 0.5, 0.3125, 0.5],
            ],
            &["tie"],
            "The second and the third hardest caption for image 0 are equally hard, and so are the images for caption 0.",
        ),
        (
            "hardest-kink",
            Violation::Hardest(2),
            0.25,
            &[&[0.75, 0.625, 0.5, 0.25], &[0.5, 0.75, 0.25, 0.5], &[0.0, 0.5, 0.75, 0.125], &[0.25, 0.5, 0.5, 0.75]],
            &["kink"],
            "The second hardest hinge is exactly 0.",
        ),
        (
            "log-sum-exp-kink",
            Violation::LogSumExp(0.5),
            0.25,
            &[&[0.75, 0.5], &[0.25, 0.75]],
            &["kink"],
            "One negative each: the value of image 0 and of caption 1 is exactly 0.",
        ),
        (
            "log-sum-exp-collapse",
            Violation::LogSumExp(0.5),
            0.25,
            EQUAL,
            &[],
            "All scores equal: loss 2B(α + τ ln(B - 1)), equal weights.",
        ),
        (
            "semi-hard-equal",
            Violation::SemiHard,
            0.25,
            &[&[0.5, 0.5, 0.3125], &[0.25, 0.5, 0.375], &[0.5, 0.375, 0.5]],
            &["kink"],
            "Scores that equal that of the right pair, which is not below it.",
        ),
        (
            "semi-hard-collapse",
            Violation::SemiHard,
            0.25,
            EQUAL,
            &["kink"],
            "All scores equal: none is below, nothing counts.",
        ),
    ];
    for case in all {
        cases.push(fixed(case)?);
    }
    Ok(())
}

fn fixed((name, violation, margin, rows, flags, note): Fixed<'_>) -> Result<Case> {
    let sketch = Sketch::new("kink", name, Program::Loss, note).flags(flags).with(|s| {
        s.count(violation);
        s.margin = margin;
    });
    let scores = Array2::from_shape_fn((rows.len(), rows[0].len()), |(i, j)| rows[i][j]);
    sketch.draw(|_| named([("in.scores", scores.clone().into_dyn())]))
}
