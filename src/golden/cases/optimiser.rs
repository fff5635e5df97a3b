//! Clipping and Adam on given gradients.

use ndarray::Axis;

use super::{Case, Inputs, Program, Result, Sketch, lengths};

type Kind = (&'static str, usize, f64, [f64; 3], &'static [&'static str], &'static str);

/// Name, steps, limit of the norm, sizes of the three gradients, flags, note.
const ALL: [Kind; 20] = [
    ("adam-1", 1, 0.0, [1.0, 0.1, 3.0], &[], "One step, no clipping."),
    ("adam-2", 2, 0.0, [1.0, 0.1, 3.0], &[], "Two steps."),
    ("adam-10", 10, 0.0, [1.0, 0.1, 3.0], &["trajectory"], "Ten steps."),
    ("adam-small", 3, 0.0, [1e-8, 3e-8, 1e-7], &["small-gradient"], "Gradients of the size of epsilon."),
    ("adam-zero", 4, 0.0, [1.0, 0.5, 0.0], &["zero-gradient"], "A tensor without gradient after the first step."),
    ("adam-resumed", 2, 0.0, [1.0, 0.1, 3.0], &["resumed"], "Moments and step 7 are given."),
    (
        "adam-resumed-zero",
        2,
        0.0,
        [1.0, 0.1, 0.0],
        &["resumed", "zero-gradient"],
        "A tensor that has moments but no gradient.",
    ),
    ("adam-decay", 20, 0.0, [0.0, 0.0, 0.0], &["resumed", "zero-gradient"], "Moments that fade away for twenty steps."),
    (
        "adam-decay-mixed",
        20,
        0.0,
        [1e-3, 0.0, 1e-2],
        &["resumed", "zero-gradient"],
        "Moments far larger than the gradients, for twenty steps.",
    ),
    ("clip-active", 2, 2.0, [1.0, 0.1, 3.0], &["clipped"], "The global norm is above 2."),
    ("clip-inactive", 2, 50.0, [1.0, 0.1, 3.0], &["not-clipped"], "The global norm is below the limit: no scaling up."),
    (
        "clip-tiny",
        2,
        1e-6,
        [1e-6, 1e-6, 1e-6],
        &["clipped", "small-gradient"],
        "A limit of 1e-6: the 1e-6 in the coefficient shows.",
    ),
    ("clip-tiny-limit", 3, 2e-7, [1e-6, 3e-6, 1e-7], &["clipped", "small-gradient"], "A limit below 1e-6."),
    ("clip-tiny-resumed", 2, 1e-6, [2e-6, 1e-6, 1e-6], &["clipped", "resumed"], "A limit of 1e-6, with moments given."),
    ("clip-one-large", 2, 1.0, [30.0, 0.01, 0.1], &["clipped"], "One tensor has nearly all of the norm."),
    ("clip-resumed", 3, 0.5, [1.0, 0.1, 3.0], &["clipped", "resumed"], "Clipping, with moments given."),
    (
        "square",
        3,
        2.0,
        [1.0, 0.1, 3.0],
        &["clipped", "square"],
        "As many steps as rows and columns: every slice of a gradient is square.",
    ),
    (
        "clip-inactive-small",
        2,
        1e-3,
        [1e-4, 3e-4, 1e-5],
        &["not-clipped"],
        "The global norm is below a small limit: limit / (limit + 1e-6) is 0.999, and no gradient is scaled by it.",
    ),
    (
        "clip-inactive-resumed",
        1,
        1e-2,
        [1e-3, 1e-4, 3e-3],
        &["not-clipped", "resumed"],
        "The global norm is below a small limit, with moments given.",
    ),
    ("clip-one-step", 1, 2.0, [1.0, 0.1, 3.0], &["clipped"], "One step, the global norm is above 2."),
];

pub(super) fn optimisers(cases: &mut Vec<Case>) -> Result<()> {
    for (name, steps, clip, sizes, flags, note) in ALL {
        let sketch = Sketch::new("optimiser", name, Program::Optimiser, note)
            .flags(flags)
            .with(|s| (s.steps, s.grad_clip, s.learning_rate) = (steps, clip, if steps >= 20 { 0.1 } else { 1e-2 }));
        let resumed = flags.contains(&"resumed");
        let shapes: [&[usize]; 3] = if name == "square" { [&[3, 3], &[3], &[3, 3]] } else { [&[3, 4], &[5], &[2, 3]] };
        cases.push(sketch.draw(|draw| {
            let mut inputs = Inputs::new();
            for (k, (size, shape)) in sizes.into_iter().zip(shapes).enumerate() {
                let with_steps: Vec<usize> = [&[steps], shape].concat();
                let mut gradient = draw.array(with_steps, if size == 0.0 { 1.0 } else { size });
                if size == 0.0 {
                    let first_zero = usize::from(!resumed);
                    gradient.slice_axis_mut(Axis(0), (first_zero..).into()).fill(0.0);
                }
                inputs.insert(format!("param.p{k}"), draw.array(shape.to_vec(), 1.0).into_dyn());
                inputs.insert(format!("in.grad.p{k}"), gradient.into_dyn());
                if resumed {
                    inputs.insert(format!("in.m.p{k}"), draw.array(shape.to_vec(), 0.4).into_dyn());
                    inputs.insert(format!("in.v.p{k}"), draw.array(shape.to_vec(), 0.3).mapv(f64::abs).into_dyn());
                }
            }
            if resumed {
                inputs.insert("in.step".into(), lengths(&[7]));
            }
            inputs
        })?);
    }
    Ok(())
}
