//! The GRU: single steps, layouts, the place of the reset gate, sequences.

use ndarray::s;

use super::{Case, Program, Result, Sketch, add_layer, cell_inputs, enlarge, lengths, named, poison};

pub(super) fn gru_cells(cases: &mut Vec<Case>) -> Result<()> {
    let sizes: [(&str, [usize; 3], f64); 10] = [
        ("smallest", [1, 2, 2], 0.9),
        ("e3-h2", [2, 3, 2], 0.9),
        ("e2-h5", [3, 2, 5], 0.8),
        ("e5-h3", [2, 5, 3], 0.8),
        ("e1-h4", [3, 1, 4], 0.8),
        ("e7-h6", [4, 7, 6], 0.6),
        ("e6-h9", [3, 6, 9], 0.5),
        ("e16-h12", [5, 16, 12], 0.4),
        ("small-weights", [3, 4, 5], 0.05),
        ("large-weights", [3, 4, 5], 2.5),
    ];
    for (name, size, a) in sizes {
        let note = format!("B = {}, E = {}, H = {}, weights and biases U(±{a}).", size[0], size[1], size[2]);
        cases.push(Sketch::new("gru-cell", name, Program::GruCell, &note).draw(|draw| cell_inputs(draw, size, a))?);
    }
    let note = "B = 5, E = 4, H = 5; x and the gradient are U(±4), h is U(±3.6), weights and biases are U(±0.5).";
    let large = Sketch::new("gru-cell", "large-values", Program::GruCell, note);
    cases.push(large.draw(|draw| enlarge(cell_inputs(draw, [5, 4, 5], 0.5)))?);
    let saturated = Sketch::new("gru-cell", "saturated", Program::GruCell, "Gates near 0 and 1.").flags(&["saturated"]);
    cases.push(saturated.draw(|draw| cell_inputs(draw, [4, 3, 4], 7.0))?);
    let again =
        Sketch::new("gru-cell", "saturated-wide", Program::GruCell, "Gates near 0 and 1.").flags(&["saturated"]);
    cases.push(again.draw(|draw| cell_inputs(draw, [5, 6, 7], 5.0))?);
    let rest = Sketch::new("gru-cell", "remainder", Program::GruCell, "B = 5, E = 37, H = 35.").flags(&["remainder"]);
    cases.push(rest.draw(|draw| cell_inputs(draw, [5, 37, 35], 0.2))?);
    let wide =
        Sketch::new("gru-cell", "remainder-wide", Program::GruCell, "B = 17, E = 40, H = 67.").flags(&["remainder"]);
    cases.push(wide.draw(|draw| cell_inputs(draw, [17, 40, 67], 0.15))?);
    let large = Sketch::new("gru-cell", "large-k", Program::GruCell, "Sums over E = 512.").flags(&["large-k"]);
    cases.push(large.draw(|draw| cell_inputs(draw, [2, 512, 2], 0.08))?);
    for (name, size, a) in [
        ("input-square-h2", [3, 6, 2], 0.8),
        ("input-square-h3", [4, 9, 3], 0.6),
        ("input-square-h16", [5, 48, 16], 0.2),
        ("input-square-b6", [6, 6, 2], 0.8),
    ] {
        let [batch, input, hidden] = size;
        let also = if batch == input { " = B" } else { "" };
        let note =
            format!("3H = E{also} = {input}, H = {hidden}: W_ih is square, and only values tell a transposition.");
        let square = Sketch::new("gru-cell", name, Program::GruCell, &note).flags(&["square"]);
        cases.push(square.draw(|draw| cell_inputs(draw, size, a))?);
    }
    for (name, flag, size, a) in [("tall", "square", [6, 2, 2], 0.8), ("tails", "tails", [3, 91, 27], 0.15)] {
        let also = if flag == "square" { ": x has the shape of W_hh, and h that of W_ih" } else { "" };
        let note = format!("B = {}, E = {}, H = {}{also}.", size[0], size[1], size[2]);
        let sketch = Sketch::new("gru-cell", name, Program::GruCell, &note).flags(&[flag]);
        cases.push(sketch.draw(|draw| cell_inputs(draw, size, a))?);
    }
    Ok(())
}

pub(super) fn layouts(cases: &mut Vec<Case>) -> Result<()> {
    for (name, size) in [
        ("h2", [2, 2, 2]),
        ("h3", [3, 3, 3]),
        ("h4", [2, 4, 4]),
        ("h5", [4, 5, 5]),
        ("h8", [3, 8, 8]),
        ("one-row", [1, 6, 6]),
    ] {
        let note = format!("E = H = {}: every block is square, so only values tell a transposition.", size[1]);
        cases.push(
            Sketch::new("layout", name, Program::GruCell, &note)
                .flags(&["square"])
                .draw(|draw| cell_inputs(draw, size, 0.8))?,
        );
    }
    Ok(())
}

pub(super) fn resets(cases: &mut Vec<Case>) -> Result<()> {
    for hidden in [2, 3, 6] {
        for agree in [true, false] {
            let name = format!("h{hidden}-{}", if agree { "agree" } else { "differ" });
            let note = if agree {
                "W_hn diagonal, b_hn = 0: W_hn (r ∘ h) = r ∘ (W_hn h). If this passes and its partner fails, the reset is in the wrong place."
            } else {
                "The partner: W_hn mixes the units, b_hn is not 0."
            };
            let sketch = Sketch::new("reset", &name, Program::GruCell, note).flags(&[if agree {
                "reset-agree"
            } else {
                "reset-differ"
            }]);
            cases.push(sketch.draw(|draw| {
                let mut inputs = cell_inputs(draw, [3, 3, hidden], 0.9);
                if agree {
                    let weight = inputs.get_mut("param.txt_enc.rnn.weight_hh_l0").expect("just added");
                    let mixes = |row: usize, column: usize| row >= 2 * hidden && row - 2 * hidden != column;
                    for (_, x) in weight.indexed_iter_mut().filter(|(at, _)| mixes(at[0], at[1])) {
                        *x = 0.0;
                    }
                    let bias = inputs.get_mut("param.txt_enc.rnn.bias_hh_l0").expect("just added");
                    bias.slice_mut(s![2 * hidden..]).fill(0.0);
                }
                inputs
            })?);
        }
    }
    Ok(())
}

pub(super) fn sequences(cases: &mut Vec<Case>) -> Result<()> {
    // Name, lengths, [E, H, layers].
    let all: [(&str, &[usize], [usize; 3]); 32] = [
        ("one-step", &[1, 1], [3, 2, 1]),
        ("one-to-t", &[1, 2, 3, 4, 5], [3, 4, 1]),
        ("t-to-one", &[5, 4, 3, 2, 1], [4, 3, 1]),
        ("unsorted", &[2, 5, 1, 4, 3], [3, 4, 1]),
        ("unsorted-ties", &[3, 1, 3, 6, 1, 6], [2, 3, 1]),
        ("equal", &[4, 4, 4], [3, 4, 1]),
        ("one-row", &[7], [3, 4, 1]),
        ("one-long", &[1, 1, 9, 1], [2, 3, 1]),
        ("one-short", &[6, 6, 1, 6], [3, 3, 1]),
        ("square", &[3, 1, 4, 2], [4, 4, 1]),
        ("long", &[24, 11, 17], [3, 4, 1]),
        ("two-layers", &[2, 5, 1, 4], [3, 4, 2]),
        ("two-layers-equal", &[3, 3, 3], [4, 3, 2]),
        ("two-layers-square", &[4, 1, 3], [3, 3, 2]),
        ("three-layers", &[1, 4, 2], [2, 3, 3]),
        ("wide", &[3, 6, 2, 5], [12, 16, 1]),
        ("many-steps", &[40, 37], [3, 3, 1]),
        ("remainder", &[2, 3, 1], [33, 34, 1]),
        (
            "many-rows",
            &[1, 4, 2, 3, 4, 1, 2, 3, 4, 2, 1, 3, 2, 4, 1, 3, 2, 1, 4, 2, 3, 1, 2, 4, 3, 1, 2, 3, 4, 1, 2, 3, 4],
            [2, 3, 1],
        ),
        (
            "many-rows-two-layers",
            &[
                3, 5, 1, 2, 2, 5, 4, 1, 3, 3, 5, 2, 4, 1, 1, 5, 2, 3, 4, 4, 1, 2, 5, 3, 1, 4, 2, 5, 5, 1, 3, 4, 2, 1,
                5, 3, 2,
            ],
            [3, 2, 2],
        ),
        // 3H = E alone; B = T = E = H = L; B = T = E = 3H.
        ("input-square", &[2, 5, 1, 4], [9, 3, 1]),
        ("all-equal", &[1, 2], [2, 2, 2]),
        ("all-3h", &[3, 6, 1, 5, 2, 4], [6, 2, 1]),
        // What these have in pairs no case above has; see `every_pair_of_settings_occurs`.
        ("no-state", &[2, 5, 1, 4], [3, 4, 1]),
        ("no-state-two-layers", &[4, 2, 1], [6, 2, 2]),
        ("no-state-three-layers", &[5, 3, 2], [9, 3, 3]),
        ("no-state-one-row", &[4], [3, 3, 3]),
        ("no-state-one-token", &[1], [6, 2, 2]),
        ("two-layers-one-row", &[5], [6, 2, 2]),
        // B = 3H, E = H.
        ("three-layers-one-step", &[1; 6], [2, 2, 3]),
        ("three-layers-equal", &[3, 3], [4, 3, 3]),
        ("large-values", &[5, 2, 6, 1, 3], [4, 3, 2]),
    ];
    for (name, rows, [input, hidden, layers]) in all {
        let steps = rows.iter().copied().max().unwrap_or(1);
        let mut flags = Vec::new();
        let equal = rows.iter().all(|&length| length == steps);
        flags.push(if equal { "equal-lengths" } else { "nan-padding" });
        if rows.windows(2).any(|pair| pair[0] < pair[1]) {
            flags.push("unsorted");
        }
        if layers > 1 {
            flags.push("two-layers");
        }
        if input == hidden || input == 3 * hidden {
            flags.push("square");
        }
        if ["remainder", "many-rows", "many-rows-two-layers", "many-steps"].contains(&name) {
            flags.push("remainder");
        }
        let given = !name.starts_with("no-state");
        let state = if given { "h₀ given" } else { "no h₀ given: it is 0" };
        let large = if name == "large-values" { " x and the gradient are U(±4), h₀ is U(±3.2)." } else { "" };
        let note = format!("Lengths {rows:?}, E = {input}, H = {hidden}, {layers} layer(s), {state}.{large}");
        let sketch =
            Sketch::new("gru-sequence", name, Program::Gru, &note).flags(&flags).with(|s| s.num_layers = layers);
        cases.push(sketch.draw(|draw| {
            let x = poison(draw.array((rows.len(), steps, input), 1.0), rows);
            let mut inputs = named([
                ("in.x", x),
                ("in.lengths", lengths(rows)),
                ("in.h0", draw.array((layers, rows.len(), hidden), 0.8).into_dyn()),
                ("in.d_last", draw.array((rows.len(), hidden), 1.0).into_dyn()),
            ]);
            if !given {
                inputs.remove("in.h0");
            }
            if name == "large-values" {
                inputs = enlarge(inputs);
            }
            for k in 0..layers {
                add_layer(
                    &mut inputs,
                    draw,
                    k,
                    if k == 0 { input } else { hidden },
                    hidden,
                    match name {
                        "remainder" => 0.25,
                        "large-values" => 0.5,
                        _ => 0.8,
                    },
                );
            }
            inputs
        })?);
    }
    Ok(())
}
