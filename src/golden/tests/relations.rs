//! The relations and the search over them, on backends with planted mistakes.

use ndarray::{Array1, ArrayD, ArrayViewD, Axis, IxDyn};

use super::{F32, backend, check, honest, right, valid, wrong};
use crate::golden::Arithmetic;
use crate::golden::arithmetic::Rounding;
use crate::golden::compare::{Found, FoundTensors, Status, check_case};
use crate::golden::diagnose::Checked;
use crate::golden::mistakes::{Mistake, named};
use crate::golden::plain::Kind;
use crate::golden::program::Program;
use crate::golden::relations::findings::{Finding, Given, findings};
use crate::golden::relations::planted::{Planting, Until, Way};
use crate::golden::suite::GoldenCase;
use crate::golden::tolerance::Profile;
use crate::loss::Violation;

/// The cases on which the search is tested, without the long ones.
fn checked(way: Arithmetic, planted: &[&Mistake], change: impl Fn(&str, usize, f64) -> Option<f64>) -> Vec<Checked> {
    let small = valid().filter(|case| {
        let trajectory = case.entry.family == "trajectory";
        !trajectory && case.inputs.values().map(ndarray::ArrayD::len).sum::<usize>() < 1 << 14
    });
    small
        .map(|case| {
            let mut found = if planted.is_empty() { backend(case, way, false) } else { wrong(case, planted) };
            for (name, tensor) in &mut found {
                for (place, x) in tensor.values.iter_mut().enumerate() {
                    if let Some(y) = change(name, place, *x) {
                        *x = y;
                    }
                }
            }
            check(case, found, F32)
        })
        .collect()
}

fn found(checked: &[Checked]) -> Vec<Finding> {
    findings(
        &checked.iter().map(|c| Given { golden: &c.golden, found: &c.found, report: &c.report }).collect::<Vec<_>>(),
    )
}

fn of(planted: &[&Mistake]) -> Vec<Finding> {
    found(&checked(Arithmetic::PLAIN, planted, |_, _, _| None))
}

/// What is planted, the tensor whose relation breaks first, and what is said of it.
#[test]
fn the_search_says_what_is_wrong() {
    let table: &[(&str, &str, &str)] = &[
        ("word-gradient-overwritten", "d.W", "keeps only the last occurrence of each word"),
        ("recurrent-bias-dropped", "c", "lacks the term b_hh[j]"),
        ("input-bias-dropped", "a", "lacks the term b_ih[j]"),
        ("input-bias-for-both", "c", "takes b_ih[j] for b_hh[j]"),
        ("reset-ignored", "n", "lacks the factor r[b,t,k]"),
        ("update-without-complement", "h", "lacks the factor (1 − z[b,t,k])"),
        ("new-gate-sigmoid", "n", "is σ(x) where tanh(x) is asked for"),
        ("last-is-first", "last", "takes first[b,t] for end[b,t]"),
        ("rows-not-restored", "last", "is the value of the rows sorted by falling length"),
        ("update-gradient-without-state", "d.z", "lacks the term d.h[b,t,k] h[b,t−1,k]"),
        ("new-derivative-missing", "d.a.n", "lacks the factor (1 − n[b,t,k]²)"),
        ("fc-bias-dropped", "y", "lacks the term bias[o], everywhere but in the caption side"),
        ("norm-backward-without-projection", "d.x", "lacks the term y[n,d] along[n] 1/norm[n]"),
        ("scores-halved", "s", "is divided by the root of the dimension D"),
        ("mean-over-batch", "loss", "is divided by the batch size B"),
        ("semi-hard-ignored", "cost_s", "lacks the factor [gap_s[i,j]>0]"),
        ("gradient-rows-only", "d.s", "does not use active_im[i,j]"),
        ("clip-without-epsilon", "clip", "takes 1/norms[s] for 1/(norms[s]+1e-6)"),
        ("adam-epsilon-dropped", "p", "√(x)"),
        ("conv-bias-dropped", "y", "lacks the term bias[o]"),
        ("conv-kernel-transposed", "y", "takes W[o,c,v,u] for W[o,c,u,v], its transpose"),
        ("running-variance-biased", "running_var", "lacks the factor unbiased"),
        ("norm-weight-gradient-not-normalised", "d.weight", "takes centred[n,c,h,w] for hat[n,c,h,w]"),
        ("cells-added", "y", "lacks the factor 1/pixels[p,q]"),
        ("pool-index-in-the-window", "index", "is a copy of largest[n,c,p,q]"),
        ("shortcut-gradient-dropped", "d.x", "lacks the term d.side[n,c,h,w]"),
    ];
    for &(mistake, tensor, says) in table {
        let findings = of(&[named(mistake)]);
        println!("{mistake}: {}: {:?}", findings[0].tensor, findings[0].says);
        assert_eq!(findings[0].tensor, tensor, "{mistake}");
        assert!(findings[0].says.iter().any(|said| said.contains(says)), "{mistake}: {:?}", findings[0].says);
    }
}

/// Honest `f32` satisfies every relation, whatever its order of sums.
#[test]
fn the_relations_of_an_honest_backend_hold() {
    for way in honest().into_iter().step_by(3) {
        let mut checked = checked(way, &[], |_, _, _| None);
        // As if every tensor had failed: the relations decide alone.
        for tensor in checked.iter_mut().flat_map(|checked| &mut checked.report.tensors) {
            tensor.status = crate::golden::compare::Status::Failed;
        }
        let broken: Vec<String> = found(&checked).iter().map(|finding| finding.example.to_string()).collect();
        assert!(broken.is_empty(), "{way:?}: {broken:?}");
    }
}

#[test]
fn two_mistakes_break_two_relations() {
    let findings = of(&[named("reset-ignored"), named("mean-over-batch")]);
    let tensors: Vec<&str> = findings.iter().map(|finding| finding.tensor.as_str()).collect();
    assert!(tensors.contains(&"n") && tensors.contains(&"loss"), "{tensors:?}");
}

/// The place is read off: a value that a bound cuts off, and values that no change gives.
#[test]
fn what_no_list_has_is_read_off_or_located() {
    let clipped = checked(Arithmetic::PLAIN, &[], |name, _, x| {
        (name.starts_with("mid.") && name.rsplit('.').next() == Some("z")).then_some(x.min(0.8))
    });
    let findings_of = found(&clipped);
    let z = findings_of.iter().find(|finding| finding.tensor == "z").unwrap();
    assert_eq!(z.says, ["is cut off at 0.8"]);
    let odd =
        checked(Arithmetic::PLAIN, &[], |name, place, x| (name == "out.loss").then_some(x + 0.1 + 1e-3 * place as f64));
    let loss = found(&odd);
    assert_eq!((loss[0].tensor.as_str(), loss[0].example.tensor.as_str()), ("loss", "out.loss"));
    assert!(loss[0].says.iter().any(|says| says.contains("further term 0.1")), "{:?}", loss[0].says);
    // The sign of no power of anything: a hash of the place.
    let noise = checked(Arithmetic::PLAIN, &[], |name, place, x| {
        (name == "mid.words").then(|| x * (1.0 + ((place * 2_654_435_761) % 97) as f64))
    });
    let words = found(&noise);
    assert!(words[0].tensor == "words" && words[0].says.is_empty(), "{:?}", words[0].says);
}

/// A backend of one program that is wrong in one tensor.
fn spoiled(program: Program, spoil: impl Fn(&GoldenCase, &mut FoundTensors)) -> Vec<Finding> {
    spoiled_in(valid().filter(|case| case.entry.program == program), spoil)
}

fn spoiled_in<'a>(
    cases: impl Iterator<Item = &'a GoldenCase>,
    spoil: impl Fn(&GoldenCase, &mut FoundTensors),
) -> Vec<Finding> {
    let checked: Vec<Checked> = cases
        .map(|case| {
            let mut found = right(case);
            spoil(case, &mut found);
            check(case, found, F32)
        })
        .collect();
    found(&checked)
}

/// A change holds for some summands alone: left out, read elsewhere, or of any weight.
#[test]
fn a_part_of_a_sum_is_read_off() {
    let norms = spoiled(Program::L2norm, |case, found| {
        let x = &case.inputs["in.x"];
        let norm = |row: ArrayViewD<'_, f64>| row.iter().take(5).map(|x| x * x).sum::<f64>().sqrt();
        found.get_mut("mid.norm").unwrap().values = x.outer_iter().map(norm).collect::<Array1<f64>>().into_dyn();
    });
    let norm = norms.iter().find(|finding| finding.tensor == "norm").unwrap();
    assert_eq!(norm.says, ["leaves out the summands with d ≥ 5"]);

    // The second tile of 8 columns is still the first.
    let scores = spoiled(Program::Scores, |case, found| {
        if case.settings().unwrap().measure != crate::similarity::Measure::Cosine {
            return;
        }
        let [f, g] = ["in.image_embedding", "in.caption_embedding"].map(|name| &case.inputs[name]);
        let stale = |d: usize| if (8..16).contains(&d) { d - 8 } else { d };
        let sum = |at: IxDyn| (0..f.shape()[1]).map(|d| f[[at[0], stale(d)]] * g[[at[1], d]]).sum::<f64>();
        let s = &mut found.get_mut("out.scores").unwrap().values;
        *s = ArrayD::from_shape_fn(s.raw_dim(), sum);
    });
    let expected = "takes f[i,d − 8] for f[i,d] in the summands with 8 ≤ d < 16";
    assert!(scores[0].says.iter().any(|says| says == expected), "{:?}", scores[0].says);

    let words = spoiled(Program::Embedding, |case, found| {
        let [ids, lengths, d] = ["in.captions", "in.lengths", "in.d_words"].map(|name| &case.inputs[name]);
        if lengths.len() > 1 && lengths[[1]] > 1.0 {
            let table = &mut found.get_mut("grad.txt_enc.embed.weight").unwrap().values;
            let mut row = table.index_axis_mut(Axis(0), ids[[1, 1]] as usize);
            row -= &d.index_axis(Axis(0), 1).index_axis(Axis(0), 1);
        }
    });
    let says = &words[0].says;
    assert!(says[0].starts_with("leaves out the summands with (b, t) = (1, 1) (read off in "), "{says:?}");
}

/// The rows of a tensor, changed.
fn rows(found: &mut FoundTensors, name: &str, change: impl Fn(&ArrayD<f64>) -> ArrayD<f64>) {
    let values = &mut found.get_mut(name).unwrap().values;
    *values = change(values);
}

/// Sums that lose summands, summands that depend on the element, and results with another tensor.
#[test]
fn sums_of_other_shapes_are_named() {
    let tree = spoiled(Program::Linear, |case, found| {
        let mut rows: Vec<Array1<f64>> =
            case.inputs["in.d_y"].outer_iter().map(|row| row.to_owned().into_dimensionality().unwrap()).collect();
        while rows.len() > 1 {
            let half = rows.len() / 2;
            rows = (0..half).map(|n| &rows[n] + &rows[n + half]).collect();
        }
        found.get_mut("grad.img_enc.fc.bias").unwrap().values = rows.remove(0).into_dyn();
    });
    assert!(tree[0].says[0].contains("that a tree of sums loses"), "{:?}", tree[0].says);

    let halves = spoiled(Program::Scores, |case, found| {
        if case.settings().unwrap().measure != crate::similarity::Measure::Cosine {
            return;
        }
        let (ds, f) = (&case.inputs["in.d_scores"], &case.inputs["in.image_embedding"]);
        let (images, captions) = (ds.shape()[0], ds.shape()[1]);
        let own = |i: usize, j: usize| (i >= images / 2) == (j >= captions / 2);
        rows(found, "grad.in.caption_embedding", |g| {
            ArrayD::from_shape_fn(g.raw_dim(), |at| {
                (0..images).filter(|&i| own(i, at[0])).map(|i| ds[[i, at[0]]] * f[[i, at[1]]]).sum()
            })
        });
    });
    assert!(halves[0].says[0].contains("i in another half than j"), "{:?}", halves[0].says);

    let product = spoiled(Program::GruCell, |_, found| {
        let c = found["mid.c"].values.clone();
        rows(found, "mid.r", |r| {
            ArrayD::from_shape_fn(r.raw_dim(), |at| r[&at] * c[[at[0], 2 * r.shape()[1] + at[1]]])
        });
    });
    let r = product.iter().find(|finding| finding.tensor == "r").unwrap();
    assert_eq!(r.says, ["is multiplied by c.n[b,t,k]"]);
}

/// What no change gives is read off: another function, another step of Adam, another row.
#[test]
fn functions_steps_and_rows_are_read_off() {
    let table = spoiled(Program::GruCell, |_, found| {
        rows(found, "mid.z", |z| z.mapv(|z| z + 0.01 * libm::sin(3.0 * libm::log(z / (1.0 - z)))));
    });
    let z = table.iter().find(|finding| finding.tensor == "z").unwrap();
    assert!(z.says[0].starts_with("is another function of the same x than σ(x)"), "{:?}", z.says);

    let half = spoiled(Program::GruCell, |_, found| {
        let [a, c] = ["mid.a", "mid.c"].map(|name| found[name].values.clone());
        rows(found, "mid.r", |r| {
            let argument = |at: &IxDyn| Rounding::F16.round(a[at] + c[at]);
            ArrayD::from_shape_fn(r.raw_dim(), |at| 1.0 / (1.0 + libm::exp(-argument(&at))))
        });
    });
    let r = half.iter().find(|finding| finding.tensor == "r").unwrap();
    assert_eq!(r.says, ["rounds the argument of σ(x) to f16"]);

    let step = spoiled(Program::Optimiser, |case, found| {
        let settings = case.settings().unwrap();
        let t = 2.0 * (case.inputs.get("in.step").map_or(0.0, |step| step[[0]]) + 1.0);
        for name in ["p0", "p1"].into_iter().filter(|_| settings.steps == 1) {
            let (Some(m), Some(v)) = (found.get(&format!("opt.m.{name}")), found.get(&format!("opt.v.{name}"))) else {
                continue;
            };
            let [m, v] = [m, v].map(|x| x.values.clone());
            let corrected = |x: f64, beta: f64| x / (1.0 - libm::pow(beta, t));
            let p0 = &case.inputs[&format!("param.{name}")];
            rows(found, &format!("opt.param.{name}"), |p| {
                ArrayD::from_shape_fn(p.raw_dim(), |at| {
                    let root = corrected(v[&at], 0.999).sqrt() + 1e-8;
                    p0[&at] - settings.learning_rate * corrected(m[&at], 0.9) / root
                })
            });
        }
    });
    assert!(
        step[0].says[0].starts_with("takes the bias corrections of another step: that of step "),
        "{:?}",
        step[0].says
    );

    let moved = spoiled(Program::Gru, |_, found| {
        rows(found, "out.last", |last| {
            let rows = last.shape()[0];
            let from = |b: usize| if rows > 4 { (b * b + 1) % rows } else { b };
            ArrayD::from_shape_fn(last.raw_dim(), |at| last[[from(at[0]), at[1]]])
        });
    });
    let last = moved.iter().find(|finding| finding.tensor == "last").unwrap();
    assert!(
        last.says[0].starts_with("has at b = 0 that of 1, at ") && last.says[0].contains("(read off in "),
        "{:?}",
        last.says
    );
}

/// Another layer's tensors, results that are added up, blocks that are read unit by unit.
#[test]
fn other_layers_and_other_layouts_are_named() {
    let layers = spoiled(Program::Gru, |_, found| {
        let Some(h0) = found.get_mut("grad.in.h0") else { return };
        h0.values.invert_axis(Axis(0));
        h0.values = h0.values.as_standard_layout().into_owned();
    });
    assert_eq!(layers[0].says, ["is that of the layer with the same number counted from the top"]);

    let learnt = spoiled(Program::Gru, |_, found| {
        let Some(h0) = found.get_mut("grad.in.h0") else { return };
        for mut layer in h0.values.outer_iter_mut() {
            let sum = layer.sum_axis(Axis(0));
            layer.outer_iter_mut().for_each(|mut row| row.assign(&sum));
        }
    });
    assert!(
        learnt[0].says[0].starts_with("is, at every b, the sum of the right values of all b"),
        "{:?}",
        learnt[0].says
    );

    let blocks = spoiled(Program::GruCell, |_, found| {
        let [a, c] = ["mid.a", "mid.c"].map(|name| found[name].values.clone());
        rows(found, "mid.z", |z| {
            let hidden = z.shape()[1];
            let gate = |at: &[usize]| a[[at[0], hidden + at[1]]] + c[[at[0], 3 * at[1] + 1]];
            ArrayD::from_shape_fn(z.raw_dim(), |at| 1.0 / (1.0 + libm::exp(-gate(&[at[0], at[1]]))))
        });
    });
    let z = blocks.iter().find(|finding| finding.tensor == "z").unwrap();
    assert_eq!(z.says, ["reads c.z[b,t,k] as if its blocks lay unit by unit, interleaved"]);
}

/// The matrix that a product was computed with has the same numbers at other places.
#[test]
fn the_effective_matrix_of_a_product_is_read_off() {
    let linear = spoiled(Program::Linear, |case, found| {
        let [dy, w] = [&case.inputs["in.d_y"], &case.inputs["param.img_enc.fc.weight"]];
        let (outputs, inputs) = (w.shape()[0], w.shape()[1]);
        let numbers: Vec<f64> = w.iter().copied().collect();
        // Every fifth number.
        let misread = |o: usize, i: usize| numbers[(o * inputs + i) * 5 % numbers.len()];
        let sum = |at: IxDyn| (0..outputs).map(|o| dy[[at[0], o]] * misread(o, at[1])).sum::<f64>();
        rows(found, "grad.in.x", |d| ArrayD::from_shape_fn(d.raw_dim(), sum));
    });
    let numbers = "at [0, 1] the number at [1, 2], at [1, 1] the number at [0, 2], at [0, 2] the number at [1, 1], \
        at [1, 2] the number at [0, 1]";
    assert_eq!(
        linear[0].says,
        [format!("multiplies with a matrix W[o,i] that has {numbers} (read off in linear-small)")]
    );
}

/// A bound on summands, an epsilon, a further factor, the larger of two terms.
#[test]
fn bounds_epsilons_and_further_factors_are_read_off() {
    let is_order = |case: &GoldenCase| case.settings().unwrap().measure == crate::similarity::Measure::Order;
    let order = spoiled(Program::Scores, |case, found| {
        let [f, g] = ["in.image_embedding", "in.caption_embedding"].map(|name| &case.inputs[name]);
        let v = |i: usize, j: usize, d: usize| (g[[j, d]] - f[[i, d]]).max(0.0);
        let large = |v: f64| if v < 0.05 { 0.0 } else { v * v };
        let sum = |at: IxDyn| (0..f.shape()[1]).map(|d| large(v(at[0], at[1], d))).sum::<f64>();
        if is_order(case) {
            rows(found, "out.scores", |s| ArrayD::from_shape_fn(s.raw_dim(), |at| -sum(at).sqrt()));
        }
    });
    let s = order.iter().find(|finding| finding.tensor == "s").unwrap();
    assert_eq!(s.says, ["leaves out the summands where v[i,j,d] < 0.05"]);

    let epsilon = spoiled(Program::L2norm, |case, found| {
        let (x, norm) = (&case.inputs["in.x"], found["mid.norm"].values.clone());
        rows(found, "out.y", |y| ArrayD::from_shape_fn(y.raw_dim(), |at| x[&at] / (norm[[at[0]]] + 1e-3)));
    });
    assert_eq!(epsilon[0].says, ["divides by (norm[n] + 0.001), not by norm[n]"]);

    let least = spoiled(Program::L2norm, |case, found| {
        let (x, norm) = (&case.inputs["in.x"], found["mid.norm"].values.clone());
        rows(found, "out.y", |y| ArrayD::from_shape_fn(y.raw_dim(), |at| x[&at] / norm[[at[0]]].max(2.0)));
    });
    assert_eq!(least[0].says, ["divides by max(norm[n], 2), not by norm[n]"]);

    let activation = spoiled(Program::Linear, |case, found| {
        let (dy, y) = (&case.inputs["in.d_y"], found["out.y"].values.clone());
        let slope = y.mapv(|y| 1.0 - y * y);
        rows(found, "grad.img_enc.fc.bias", |_| (dy * &slope).sum_axis(Axis(0)));
    });
    assert_eq!(activation[0].says, ["has the further factor (1 − y[n,o]²) in d.y[n,o]"]);

    let union = spoiled(Program::Loss, |_, found| {
        let names =
            if found.contains_key("mid.weight_s") { ["weight_s", "weight_im"] } else { ["active_s", "active_im"] };
        let [one, other] = names.map(|name| found[&format!("mid.{name}")].values.clone());
        rows(found, "grad.in.scores", |d| {
            ArrayD::from_shape_fn(d.raw_dim(), |at| if at[0] == at[1] { d[&at] } else { one[&at].max(other[&at]) })
        });
    });
    assert_eq!(union[0].says, ["has the larger of active_s[i,j] and active_im[i,j], not their sum"]);
}

/// Squares of sums, results from the end to the beginning, masks of neighbours, indices that count from 1, tensors that
/// are too small, states after one more step.
#[test]
fn other_sums_and_other_orders_are_named() {
    let squared = spoiled(Program::Scores, |case, found| {
        let [f, g] = ["in.image_embedding", "in.caption_embedding"].map(|name| &case.inputs[name]);
        let v = |i: usize, j: usize, d: usize| (g[[j, d]] - f[[i, d]]).max(0.0);
        let sum = |at: IxDyn| (0..f.shape()[1]).map(|d| v(at[0], at[1], d)).sum::<f64>();
        if case.settings().unwrap().measure == crate::similarity::Measure::OrderSquared {
            rows(found, "out.scores", |s| ArrayD::from_shape_fn(s.raw_dim(), |at| -sum(at.clone()) * sum(at)));
        }
    });
    assert_eq!(squared[0].says, ["squares the sum of v[i,j,d], not each"]);

    let mean = spoiled(Program::L2norm, |case, found| {
        let [x, dy, y] = [&case.inputs["in.x"], &case.inputs["in.d_y"], &found["out.y"].values.clone()];
        let norm = found["mid.norm"].values.clone();
        let width = x.shape()[1] as f64;
        let along = (y * dy).sum_axis(Axis(1)) / width;
        rows(found, "grad.in.x", |d| {
            ArrayD::from_shape_fn(d.raw_dim(), |at| match norm[[at[0]]] {
                0.0 => d[&at],
                norm => (dy[&at] - y[&at] * along[[at[0]]]) / norm,
            })
        });
    });
    assert_eq!(mean[0].says[0], "has the term y[n,d] along[n] 1/norm[n] divided by the dimension D");

    let onwards = spoiled(Program::Gru, |_, found| {
        let Some(dx) = found.get_mut("grad.in.x") else { return };
        let steps = dx.values.shape()[1];
        for t in (1..steps).rev() {
            let after = dx.values.index_axis(Axis(1), t).to_owned();
            let mut before = dx.values.index_axis_mut(Axis(1), t - 1);
            before += &after;
        }
    });
    let dx = onwards.iter().find(|finding| finding.tensor == "d.x").unwrap();
    assert_eq!(dx.says, ["has in it the results of t + 1, t + 2, …: it is not cleared"]);

    let from_one = spoiled(Program::Loss, |_, found| {
        if let Some(hardest) = found.get_mut("mid.hardest_s") {
            hardest.values.mapv_inplace(|k| k + 1.0);
        }
    });
    assert_eq!(from_one[0].says, ["counts from 1, with 0 for none"]);

    let large_ones = spoiled(Program::Optimiser, |case, found| {
        let mut gradients: Vec<&ArrayD<f64>> = Vec::new();
        gradients.extend(case.inputs.iter().filter(|(name, _)| name.starts_with("in.grad.")).map(|(_, g)| g));
        rows(found, "opt.norms", |norms| {
            ArrayD::from_shape_fn(norms.raw_dim(), |at| {
                let steps = gradients.iter().map(|g| g.index_axis(Axis(0), at[0]));
                steps.filter(|g| g.len() >= 10).map(|g| g.iter().map(|x| x * x).sum::<f64>()).sum::<f64>().sqrt()
            })
        });
    });
    let norms = large_ones.iter().find(|finding| finding.tensor == "norms").unwrap();
    let says = "leaves out the gradients of parameters with fewer than ";
    assert!(norms.says.iter().any(|said| said.starts_with(says)), "{:?}", norms.says);

    let one_step = |case: &&GoldenCase| case.entry.program == Program::Optimiser && case.settings().unwrap().steps == 1;
    let ahead = spoiled_in(valid().filter(one_step), |case, found| {
        let settings = case.settings().unwrap();
        let t = case.inputs.get("in.step").map_or(0.0, |step| step[[0]]) + 1.0;
        for name in ["p0", "p1", "p2"] {
            let (Some(m), Some(v)) = (found.get(&format!("opt.m.{name}")), found.get(&format!("opt.v.{name}"))) else {
                continue;
            };
            let [m, v] = [m, v].map(|x| x.values.clone());
            let clip = found["opt.clip"].values[[0]];
            let (p0, g) = (&case.inputs[&format!("param.{name}")], &case.inputs[&format!("in.grad.{name}")]);
            let g = g.index_axis(Axis(0), 0).to_owned() * clip;
            rows(found, &format!("opt.param.{name}"), |p| {
                ArrayD::from_shape_fn(p.raw_dim(), |at| {
                    let root = (v[&at] / (1.0 - libm::pow(0.999, t))).sqrt() + 1e-8;
                    let next = 0.9 * m[&at] + 0.1 * g[&at];
                    p0[&at] - settings.learning_rate * next / (1.0 - libm::pow(0.9, t)) / root
                })
            });
        }
    });
    assert_eq!(ahead[0].says, ["takes m_all[u,x] after one more step with the same inputs"]);
}

/// A mistake in a tensor that is not written breaks every gradient that is made of it: one finding, and the others are
/// the same. Where it is not explained, they refer to the first.
#[test]
fn one_cause_is_one_finding() {
    let only_outputs = |planted: &[&Mistake]| {
        let cases = valid().filter(|case| case.entry.program == Program::Gru).take(8);
        let checked: Vec<Checked> = cases
            .map(|case| {
                let mut found = wrong(case, planted);
                found.retain(|name, _| name.starts_with("out.") || name.starts_with("grad.in") || name.contains("_l"));
                found.retain(|name, _| !name.contains("mid."));
                check(case, found, F32)
            })
            .collect();
        found(&checked)
    };
    let findings = only_outputs(&[named("update-gradient-without-state")]);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].says[0].starts_with("follows from d.z[b,t,k] if that "), "{:?}", findings[0].says);
    assert!(findings[0].also.len() > 3, "{:?}", findings[0].also);

    let findings = only_outputs(&[named("reset-ignored"), named("update-without-complement")]);
    let after: Vec<Option<&str>> = findings.iter().map(|finding| finding.after.as_deref()).collect();
    assert!(findings[0].tensor == "last" && findings[0].says.is_empty(), "{findings:?}");
    assert!(
        after[0].is_none() && after.len() > 3 && after[1..].iter().all(|after| *after == Some("last")),
        "{after:?}"
    );
}

/// What agrees with a few numbers by chance: a place of two tests, weights of as few equations, a sum of nothing.
#[test]
fn what_agrees_by_chance_is_not_said() {
    let active = |found: &FoundTensors| {
        let names =
            if found.contains_key("mid.weight_s") { ["weight_s", "weight_im"] } else { ["active_s", "active_im"] };
        names.map(|name| found[&format!("mid.{name}")].values.clone())
    };
    // The diagonal lacks the column's terms where the row has none.
    let early = spoiled(Program::Loss, |_, found| {
        let [rows_own, columns] = active(found).map(|x| [x.sum_axis(Axis(1)), x.sum_axis(Axis(0))]);
        rows(found, "grad.in.scores", |d| {
            let more = |i: usize| if rows_own[0][[i]] == 0.0 { columns[1][[i]] } else { 0.0 };
            ArrayD::from_shape_fn(d.raw_dim(), |at| d[&at] + if at[0] == at[1] { more(at[0]) } else { 0.0 })
        });
    });
    let ds = early.iter().find(|finding| finding.tensor == "d.s").unwrap();
    assert!(ds.says.is_empty(), "{:?}", ds.says);

    // Of the other captions of an image only the first is left out.
    let mates = spoiled(Program::Loss, |case, found| {
        let settings = case.settings().unwrap();
        let (Some(ids), Some(cost)) = (case.inputs.get("in.image_ids"), found.get_mut("mid.cost_s")) else { return };
        if !matches!(settings.hinge().violation, Violation::Sum | Violation::Max) || !settings.mask_same_image {
            return;
        }
        let s = &case.inputs["in.scores"];
        for (i, mut row) in cost.values.outer_iter_mut().enumerate() {
            let mates = (0..row.len()).filter(|&j| j != i && ids[[i]].total_cmp(&ids[[j]]).is_eq());
            mates.skip(1).for_each(|j| row[[j]] = (settings.margin + s[[i, j]] - s[[i, i]]).max(0.0));
        }
    });
    let cost = mates.iter().find(|finding| finding.tensor == "cost_s").unwrap();
    assert!(cost.says.is_empty(), "{:?}", cost.says);

    // A second moment that is far too small is nearly what is left if its only step is left out.
    let one_step = |case: &&GoldenCase| case.entry.program == Program::Optimiser && case.settings().unwrap().steps == 1;
    let small = spoiled_in(valid().filter(one_step), |_, found| {
        for name in ["opt.v.p0", "opt.v.p1", "opt.v.p2"] {
            rows(found, name, |v| v.mapv(|v| 1e-7 * v.abs().sqrt() * v));
        }
    });
    let v = small.iter().find(|finding| finding.tensor == "v").unwrap();
    assert!(v.says.iter().all(|says| !says.contains("leaves out")), "{:?}", v.says);
}

/// A function of an index needs more than two indices, a size more than two sizes, sums that are rounded most of their
/// last bits, and a place from which values come numbers that only it has.
#[test]
fn a_place_needs_evidence() {
    let says = |findings: &[Finding], tensor: &str| -> Vec<String> {
        let mut of_tensor = findings.iter().filter(|finding| finding.tensor == tensor);
        of_tensor.next().expect("it is broken").says.clone()
    };
    // Captions 3 and 4 are read at 0 and 1, which is ⌊j / 4⌋ as much as j − 3.
    let few = |case: &&GoldenCase| case.entry.family == "scores" && case.inputs["in.d_scores"].shape() == [3, 5];
    let wrapped = spoiled_in(valid().filter(few), |_, found| {
        rows(found, "out.scores", |s| {
            ArrayD::from_shape_fn(s.raw_dim(), |at| s[[at[0], if at[1] < 3 { at[1] } else { at[1] - 3 }]])
        });
    });
    let s = says(&wrapped, "s");
    assert!(s.iter().all(|says| says.contains("read off")), "{s:?}");

    // A bias that counts twice in two cases is not said to do so above a number of outputs.
    let twice = spoiled(Program::Linear, |case, found| {
        if ["linear-remainder", "linear-tails-columns"].contains(&case.entry.id.as_str()) {
            let bias = case.inputs["param.img_enc.fc.bias"].clone();
            rows(found, "out.y", |y| y + &bias);
        }
    });
    let y = says(&twice, "y");
    assert!(y.iter().all(|says| !says.contains("where")), "{y:?}");

    // The sum of the rows' hinges is rounded, however many there are.
    let half = spoiled(Program::Loss, |_, found| {
        let Some(active) = found.get("mid.active_s").filter(|_| found.contains_key("out.loss")) else { return };
        let rows_own = (&found["mid.cost_s"].values * &active.values).sum();
        let more = Rounding::F16.round(rows_own) - rows_own;
        rows(found, "out.loss", |loss| loss + more);
    });
    let loss = says(&half, "loss");
    assert!(loss.iter().all(|says| !says.contains("summands")), "{loss:?}");

    // In one case with small gradients the slope of unit 0 is nearly that of all others: 1/4, here for all.
    let slope = spoiled(Program::Gru, |case, found| {
        for layer in 0..case.settings().unwrap().num_layers {
            let hidden = found[&format!("mid.l{layer}.z")].values.shape()[2];
            let d_z = found[&format!("grad.mid.l{layer}.z")].values.clone();
            rows(found, &format!("grad.mid.l{layer}.a"), |d_a| {
                ArrayD::from_shape_fn(d_a.raw_dim(), |at| {
                    let unit = at[2].wrapping_sub(hidden);
                    if unit < hidden { 0.25 * d_z[[at[0], at[1], unit]] } else { d_a[&at] }
                })
            });
        }
    });
    let d_a = says(&slope, "d.a.z");
    assert_eq!(d_a, ["takes 0.25 for z[b,t,k](1 − z[b,t,k])"]);
}

/// What explains one tensor but not another that is made of it is not said: a tensor that holds refutes a change of an
/// unwritten one, and one kind of a tensor what another kind leaves open.
#[test]
fn what_other_tensors_refute_is_not_said() {
    // The weights of a query whose log-sum-exp is not above 0. They are those of a value without its logarithm, but the
    // loss is right.
    let weights = spoiled(Program::Loss, |case, found| {
        let settings = case.settings().unwrap();
        let Violation::LogSumExp(temperature) = settings.hinge().violation else { return };
        let (s, ids) = (&case.inputs["in.scores"], case.inputs.get("in.image_ids"));
        let same = |i: usize, j: usize| ids.is_some_and(|ids| ids[[i]].total_cmp(&ids[[j]]).is_eq());
        let counts = |i: usize, j: usize| i != j && !(settings.mask_same_image && same(i, j));
        let exp = |i: usize, j: usize| libm::exp((settings.margin + s[[i, j]] - s[[i, i]]) / temperature);
        rows(found, "mid.weight_s", |weight| {
            let all = |i: usize| (0..s.shape()[1]).filter(|&j| counts(i, j)).map(|j| exp(i, j)).sum::<f64>();
            let of = |i: usize, j: usize| if counts(i, j) { exp(i, j) / all(i) } else { 0.0 };
            ArrayD::from_shape_fn(weight.raw_dim(), |at| of(at[0], at[1]))
        });
    });
    let active = weights.iter().find(|finding| finding.tensor == "active_s").unwrap();
    assert_eq!(active.says, ["lacks the factor [value_s[i]>0]"]);

    // Only the last group of 16 images counts. With 23 images groups of 8 give the same, with 27 they do not.
    let last_group = spoiled(Program::Scores, |case, found| {
        let power = match case.settings().unwrap().measure {
            crate::similarity::Measure::Cosine => return,
            crate::similarity::Measure::Order => 1,
            crate::similarity::Measure::OrderSquared => 2,
        };
        let [f, g] = ["in.image_embedding", "in.caption_embedding"].map(|name| &case.inputs[name]);
        let (ds, s) = (&case.inputs["in.d_scores"], found["out.scores"].values.clone());
        let first = (f.shape()[0] - 1) / 16 * 16;
        let one = |i: usize, j: usize, d: usize| {
            let v = (g[[j, d]] - f[[i, d]]).max(0.0);
            match (power, s[[i, j]]) {
                (1, 0.0) => 0.0,
                (1, score) => ds[[i, j]] * v / score,
                _ => -2.0 * ds[[i, j]] * v,
            }
        };
        rows(found, "grad.in.caption_embedding", |d_g| {
            let sum = |at: IxDyn| (first..f.shape()[0]).map(|i| one(i, at[0], at[1])).sum();
            ArrayD::from_shape_fn(d_g.raw_dim(), sum)
        });
    });
    let d_g: Vec<&Finding> = last_group.iter().filter(|finding| finding.tensor == "d.g").collect();
    assert!(d_g.len() == 1 && d_g[0].also == ["d.g"], "{d_g:?}");
    let says = &d_g[0].says;
    assert!(says.iter().all(|said| said.contains("16") && !said.contains(" 8")), "{says:?}");
    assert!(says.iter().any(|said| said.ends_with("every i before the last group of 16")), "{says:?}");
}

/// A factor that all terms have, a mask that several relations read, the row that a gradient is added to.
#[test]
fn one_change_in_several_places_is_named() {
    let reciprocal = spoiled(Program::L2norm, |case, found| {
        let [dy, y, norm] = [&case.inputs["in.d_y"], &found["out.y"].values.clone(), &found["mid.norm"].values.clone()];
        let along = (y * dy).sum_axis(Axis(1));
        let one_over = norm.mapv(|norm| Rounding::Bf16.round(1.0 / norm));
        rows(found, "grad.in.x", |d| {
            let of = |at: &IxDyn| (dy[at] - y[at] * along[[at[0]]]) * one_over[[at[0]]];
            ArrayD::from_shape_fn(d.raw_dim(), |at| if norm[[at[0]]] > 0.0 { of(&at) } else { d[&at] })
        });
    });
    let dx = reciprocal.iter().find(|finding| finding.tensor == "d.x").unwrap();
    assert_eq!(dx.says, ["rounds 1/norm[n] to bf16, in all terms"]);

    // Log-sum-exp knows no mask but the diagonal.
    let unmasked = spoiled(Program::Loss, |case, found| {
        let settings = case.settings().unwrap();
        let Violation::LogSumExp(temperature) = settings.hinge().violation else { return };
        let s = &case.inputs["in.scores"];
        let exp = |i: usize, j: usize| libm::exp((settings.margin + s[[i, j]] - s[[i, i]]) / temperature);
        rows(found, "mid.weight_s", |weight| {
            let all = |i: usize| (0..s.shape()[1]).filter(|&j| j != i).map(|j| exp(i, j)).sum::<f64>();
            let of = |i: usize, j: usize| if i != j && all(i) > 1.0 { exp(i, j) / all(i) } else { 0.0 };
            ArrayD::from_shape_fn(weight.raw_dim(), |at| of(at[0], at[1]))
        });
    });
    let active = unmasked.iter().find(|finding| finding.tensor == "active_s").unwrap();
    assert_eq!(active.says, ["takes off_diagonal[i,j] for wrong[i,j] wherever it reads it"]);

    // Ids above 255 are held there.
    let saturated = spoiled(Program::Embedding, |_, found| {
        let table = &mut found.get_mut("grad.txt_enc.embed.weight").unwrap().values;
        if table.shape()[0] > 256 {
            let more = table.slice_axis(Axis(0), ndarray::Slice::from(256..)).sum_axis(Axis(0));
            let mut last = table.index_axis_mut(Axis(0), 255);
            last += &more;
            table.slice_axis_mut(Axis(0), ndarray::Slice::from(256..)).fill(0.0);
        }
    });
    assert_eq!(saturated[0].says, ["adds to d.W[id_at_most_255(b,t),e], not to d.W[id(b,t),e]"]);
}

/// Where a coefficient of clipping is 1 and should be less, many changes of its argument give that: none is named.
#[test]
fn nothing_is_named_where_a_function_is_flat() {
    let clipped = spoiled(Program::Optimiser, |_, found| {
        found.get_mut("opt.clip").unwrap().values.mapv_inplace(|x| if x < 0.5 { 1.0 } else { x });
    });
    let clip = clipped.iter().find(|finding| finding.tensor == "clip").unwrap();
    assert!(clip.says.iter().all(|says| says.starts_with("is 1")), "{:?}", clip.says);
}

/// Where the values between are not written, the finding says so, and which of them to write.
#[test]
fn what_is_not_written_is_spanned() {
    let planted = [named("update-ignored")];
    let cells = valid().filter(|case| case.entry.program == Program::GruCell).take(6);
    let checked: Vec<Checked> = cells
        .map(|case| {
            let mut found = wrong(case, &planted);
            found.retain(|name, _| name == "out.h_next");
            check(case, found, F32)
        })
        .collect();
    let findings = found(&checked);
    let says = &findings[0].says;
    assert!(findings[0].tensor == "h" && says.contains(&"is a copy of n[b,t,k]".into()), "{says:?}");
    assert_eq!(findings[0].spans, ["mid.a", "mid.c", "mid.r", "mid.z", "mid.n"]);
    assert_eq!(findings[0].write_next.as_deref(), Some("mid.r"));
}

/// From its inputs alone the relations give every value of a case that `crate::spec` computed, as exactly as an honest
/// backend in `f64`, and so does the backward pass that is derived from them.
#[test]
fn the_relations_compute_every_case_forward_and_backward() {
    for case in valid() {
        let planting = Planting::new(case).unwrap();
        for autograd in [false, true] {
            let values = planting.right(Way { autograd, single: false, until: Until::End }).unwrap();
            let kind = |name: &str| if case.is_exact(name) { Kind::Index } else { Kind::Real };
            let found: FoundTensors =
                values.into_iter().map(|(name, x)| (name.clone(), Found::computed(kind(&name), x))).collect();
            assert!(case.expected_entries().all(|entry| found.contains_key(&entry.name)), "{}", case.entry.id);
            let report = check_case(case, &found, Profile::F64).unwrap();
            assert_eq!(report.status, Status::Passed, "{} {autograd}: {:?}", case.entry.id, report.headline());
        }
    }
}
