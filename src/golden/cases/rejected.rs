//! Inputs that must be refused.

use ndarray::s;

use super::layers::norm_inputs;
use super::models::{SIZES, model_inputs};
use super::{Case, Draw, Expected, Program, Result, Settings, Sketch, lengths, named};

pub(super) fn rejected(cases: &mut Vec<Case>) -> Result<()> {
    let sketch = |name: &str, program, note: &str| {
        Sketch::new("rejected", name, program, note).flags(&["rejected"]).expecting(Expected::Invalid)
    };
    let norm = |draw: &mut Draw| norm_inputs(draw, 3, 4, &[1.0], false);
    cases.push(sketch("zero-row", Program::L2norm, "Row 1 is zero: it has no direction.").draw(|draw| {
        let mut inputs = norm(draw);
        inputs.get_mut("in.x").expect("drawn").slice_mut(s![1, ..]).fill(0.0);
        inputs
    })?);
    for (name, value) in [("nan-score", f64::NAN), ("infinite-score", f64::INFINITY)] {
        cases.push(sketch(name, Program::Loss, "A score that is not finite.").draw(|draw| {
            let mut scores = draw.array((3, 3), 1.0);
            scores[[2, 0]] = value;
            named([("in.scores", scores.into_dyn())])
        })?);
    }
    cases.push(
        sketch("scores-not-square", Program::Loss, "Two images and three captions are no batch of pairs.")
            .draw(|draw| named([("in.scores", draw.array((2, 3), 1.0).into_dyn())]))?,
    );
    let model = |draw: &mut Draw| model_inputs(draw, SIZES, &Settings::default(), false);
    cases.push(sketch("id-out-of-range", Program::Model, "A word id equal to V.").draw(|draw| {
        let mut inputs = model(draw);
        inputs.get_mut("in.captions").expect("drawn").slice_mut(s![1, 2]).fill(SIZES.vocabulary as f64);
        inputs
    })?);
    cases.push(sketch("negative-id", Program::Embedding, "A word id of -1.").draw(|draw| {
        named([
            ("in.captions", ndarray::arr2(&[[1.0, -1.0, 2.0]]).into_dyn()),
            ("in.lengths", lengths(&[3])),
            ("in.d_words", draw.array((1, 3, 2), 1.0).into_dyn()),
            ("param.txt_enc.embed.weight", draw.array((4, 2), 1.0).into_dyn()),
        ])
    })?);
    for (name, length, note) in
        [("length-zero", 0.0, "A caption of length 0."), ("length-beyond", 9.0, "A length beyond T.")]
    {
        cases.push(sketch(name, Program::Model, note).draw(|draw| {
            let mut inputs = model(draw);
            inputs.get_mut("in.lengths").expect("drawn").slice_mut(s![2]).fill(length);
            inputs
        })?);
    }
    cases.push(
        sketch("zero-image", Program::Model, "An image of zeros with a zero bias: its embedding has norm 0.").draw(
            |draw| {
                let mut inputs = model(draw);
                inputs.get_mut("in.images").expect("drawn").slice_mut(s![3, ..]).fill(0.0);
                inputs.get_mut("param.img_enc.fc.bias").expect("drawn").fill(0.0);
                inputs
            },
        )?,
    );
    cases.push(sketch("nan-feature", Program::Model, "An image feature that is NaN.").draw(|draw| {
        let mut inputs = model(draw);
        inputs.get_mut("in.images").expect("drawn").slice_mut(s![0, 1]).fill(f64::NAN);
        inputs
    })?);
    cases.push(sketch("nan-gradient", Program::Optimiser, "A gradient that is NaN.").with(|s| s.steps = 1).draw(
        |draw| {
            let mut gradient = draw.array((1, 3), 1.0);
            gradient[[0, 1]] = f64::NAN;
            named([("param.p0", draw.array(3, 1.0).into_dyn()), ("in.grad.p0", gradient.into_dyn())])
        },
    )?);
    Ok(())
}
