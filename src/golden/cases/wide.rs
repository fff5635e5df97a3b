//! The programs one at a time at the size of the paper.

use super::{Case, Draw, Inputs, Measure, Program, Sketch, add_layer, cell_inputs, lengths, named, poison, stream};

/// V 11,755, E 300, H = D 1024, F 4096, B 128; a GRU of 8 rows and 4 steps; an optimiser of [H, H]. The loss of
/// B = 128 is in the core suite.
pub(crate) fn wide() -> Vec<Case> {
    const ROWS: [usize; 8] = [4, 1, 3, 2, 4, 2, 1, 3];
    const STEPS: usize = 4;
    let [batch, vocabulary, word, hidden, features] = [128, 11_755, 300, 1024, 4096];
    let weight = 1.0 / (hidden as f64).sqrt();
    let case = |name: &str, program, measure, inputs: &dyn Fn(&mut Draw) -> Inputs| {
        let sketch = Sketch::new("wide", name, program, "The size of the paper.").with(|s| {
            (s.measure, s.learning_rate) = (measure, 1e-2);
            s.steps = usize::from(program == Program::Optimiser);
        });
        let inputs = inputs(&mut Draw(stream(0, &format!("golden/{}", sketch.id))));
        sketch.case(inputs)
    };
    let scores = |draw: &mut Draw| {
        named([
            ("in.image_embedding", draw.array((batch, hidden), weight).into_dyn()),
            ("in.caption_embedding", draw.array((batch, hidden), weight).into_dyn()),
            ("in.d_scores", draw.array((batch, batch), 1.0).into_dyn()),
        ])
    };
    vec![
        case("gru-cell", Program::GruCell, Measure::Cosine, &|draw| cell_inputs(draw, [batch, word, hidden], weight)),
        case("gru", Program::Gru, Measure::Cosine, &|draw| {
            let mut inputs = named([
                ("in.x", poison(draw.array((ROWS.len(), STEPS, word), 1.0), &ROWS)),
                ("in.lengths", lengths(&ROWS)),
                ("in.h0", draw.array((1, ROWS.len(), hidden), 0.8).into_dyn()),
                ("in.d_last", draw.array((ROWS.len(), hidden), 1.0).into_dyn()),
            ]);
            add_layer(&mut inputs, draw, 0, word, hidden, weight);
            inputs
        }),
        case("embedding", Program::Embedding, Measure::Cosine, &|draw| {
            let rows: Vec<usize> = (0..batch).map(|b| if b == 0 { STEPS } else { draw.between(1, STEPS) }).collect();
            let ids: Vec<usize> = (0..batch * STEPS).map(|_| draw.between(0, vocabulary - 1)).collect();
            let ids = lengths(&ids).into_shape_with_order(vec![batch, STEPS]).expect("as many");
            named([
                ("in.captions", ids),
                ("in.d_words", poison(draw.array((batch, STEPS, word), 1.0), &rows)),
                ("in.lengths", lengths(&rows)),
                ("param.txt_enc.embed.weight", draw.array((vocabulary, word), 0.1).into_dyn()),
            ])
        }),
        case("linear", Program::Linear, Measure::Cosine, &|draw| {
            named([
                ("in.x", draw.array((batch, features), 1.0).into_dyn()),
                ("in.d_y", draw.array((batch, hidden), 1.0).into_dyn()),
                ("param.img_enc.fc.weight", draw.array((hidden, features), weight).into_dyn()),
                ("param.img_enc.fc.bias", draw.array(hidden, weight).into_dyn()),
            ])
        }),
        case("l2norm", Program::L2norm, Measure::Cosine, &|draw| {
            named([
                ("in.x", draw.array((batch, hidden), 1.0).into_dyn()),
                ("in.d_y", draw.array((batch, hidden), 1.0).into_dyn()),
            ])
        }),
        case("scores-cosine", Program::Scores, Measure::Cosine, &scores),
        case("scores-order", Program::Scores, Measure::Order, &scores),
        case("optimiser", Program::Optimiser, Measure::Cosine, &|draw| {
            named([
                ("param.p0", draw.array((hidden, hidden), weight).into_dyn()),
                ("in.grad.p0", draw.array((1, hidden, hidden), 0.1).into_dyn()),
            ])
        }),
    ]
}
