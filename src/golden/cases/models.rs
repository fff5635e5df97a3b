//! Whole models: presets, trajectories, the sizes of the paper.

use ndarray::{arr1, s};

use super::layers::padded;
use super::losses::SCATTERED;
use super::{Case, Draw, Inputs, Measure, Program, Result, Settings, Sketch, add_layer, lengths, named, stream};
use crate::loss::Violation;

/// The sizes of a model's case.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) batch: usize,
    pub(super) steps: usize,
    pub(super) vocabulary: usize,
    pub(super) word: usize,
    pub(super) hidden: usize,
    pub(super) joint: usize,
    pub(super) features: usize,
    /// Weights of the GRU are U(±this).
    pub(super) recurrent: f64,
    /// One caption has a single token, another holds the word 0.
    pub(super) short: bool,
}

pub(super) const SIZES: Sizes = Sizes {
    batch: 5,
    steps: 6,
    vocabulary: 13,
    word: 3,
    hidden: 4,
    joint: 4,
    features: 5,
    recurrent: 0.9,
    short: false,
};

/// Captions <start> … <end> of different lengths with repeated words and common beginnings.
fn captions(draw: &mut Draw, sizes: Sizes) -> Vec<Vec<usize>> {
    let Sizes { batch, steps, vocabulary, .. } = sizes;
    let mut all: Vec<Vec<usize>> = Vec::new();
    for b in 0..batch {
        let words = if b == 1 { steps - 2 } else { draw.between(1, steps - 2) };
        let mut caption = vec![1];
        caption.extend((0..words).map(|_| draw.between(3, vocabulary - 1)));
        if b == 1 && words > 2 {
            caption[3] = caption[1];
        }
        if b == 2 {
            let common = all[1].len().min(3);
            caption.splice(..common.min(caption.len()), all[1][..common].iter().copied());
        }
        caption.push(2);
        if sizes.short && b == 3 {
            caption = vec![5];
        }
        if sizes.short && b == 0 {
            caption[1] = 0;
        }
        all.push(caption);
    }
    all
}

pub(super) fn model_inputs(draw: &mut Draw, sizes: Sizes, settings: &Settings, twins: bool) -> Inputs {
    let Sizes { batch, vocabulary, word, hidden, joint, features, .. } = sizes;
    let mut texts = captions(draw, sizes);
    let mut images = draw.array((batch, features), 1.0);
    if twins {
        // A caption and an image that occur twice, each with another partner.
        let twin = texts[1].clone();
        texts[4] = twin;
        let image = images.row(2).to_owned();
        images.row_mut(0).assign(&image);
    }
    let rows: Vec<usize> = texts.iter().map(Vec::len).collect();
    let longest = rows.iter().copied().max().unwrap_or(1);
    let mut inputs = named([
        ("in.images", images.into_dyn()),
        ("in.captions", padded(&texts, longest, 0.0)),
        ("in.lengths", lengths(&rows)),
        ("param.img_enc.fc.weight", draw.array((joint, features), 0.8).into_dyn()),
        ("param.img_enc.fc.bias", draw.array(joint, 0.5).into_dyn()),
        ("param.txt_enc.embed.weight", draw.array((vocabulary, word), 0.9).into_dyn()),
    ]);
    for k in 0..settings.num_layers {
        add_layer(&mut inputs, draw, k, if k == 0 { word } else { hidden }, hidden, sizes.recurrent);
    }
    if settings.caption_projection {
        inputs.insert("param.txt_enc.proj.weight".into(), draw.array((joint, hidden), 0.8).into_dyn());
        inputs.insert("param.txt_enc.proj.bias".into(), draw.array(joint, 0.5).into_dyn());
    }
    if settings.mask_same_image {
        let ids: Vec<usize> = (0..batch).map(|b| if b == 3 { 1 } else { b }).collect();
        inputs.insert("in.image_ids".into(), lengths(&ids));
    }
    inputs
}

/// `vse0`, `vsepp` and `order0` are the original's presets. `orderpp` is `order0` with MH: these cases
/// have absolute values and margin 0.05, which the original's order++ has not.
pub(super) fn preset(name: &str, settings: &mut Settings) {
    let order = name.starts_with("order");
    settings.max_violation = matches!(name, "vsepp" | "orderpp");
    settings.no_imgnorm = name == "vse0";
    settings.use_abs = order;
    settings.measure = if order { Measure::Order } else { Measure::Cosine };
    settings.margin = if order { 0.05 } else { 0.2 };
}

pub(super) fn models(cases: &mut Vec<Case>) -> Result<()> {
    type Change = fn(&mut Settings, &mut Sizes);
    let all: [(&str, &str, &str, Change); 27] = [
        ("vse0", "vse0", "SH, image side not normalised.", |_, _| ()),
        ("vse0-wide", "vse0", "SH, E = 8, H = D = 7, F = 12.", |_, z| {
            (z.word, z.hidden, z.joint, z.features) = (8, 7, 7, 12);
        }),
        ("vsepp", "vsepp", "MH.", |_, _| ()),
        ("vsepp-square", "vsepp", "MH, E = H = D = F = 4.", |_, z| (z.word, z.features) = (4, 4)),
        ("vsepp-wide", "vsepp", "MH, E = 8, H = D = 7, F = 12.", |_, z| {
            (z.word, z.hidden, z.joint, z.features) = (8, 7, 7, 12);
        }),
        ("vsepp-long", "vsepp", "MH, captions of up to 14 tokens.", |_, z| z.steps = 14),
        ("vsepp-remainder", "vsepp", "MH, E = 33, H = D = 34, F = 35.", |_, z| {
            (z.word, z.hidden, z.joint, z.features) = (33, 34, 34, 35);
        }),
        ("vsepp-large", "vsepp", "MH, V = 70, E = 40, H = D = 67, F = 70; no step.", |s, z| {
            s.steps = 0;
            (z.steps, z.vocabulary) = (5, 70);
            (z.word, z.hidden, z.joint, z.features) = (40, 67, 67, 70);
        }),
        ("vsepp-saturated", "vsepp", "MH, the GRU's weights U(±4): gates near 0 and 1.", |_, z| z.recurrent = 4.0),
        ("vsepp-short", "vsepp", "MH, a caption of one token, and the word with id 0.", |_, z| z.short = true),
        ("vsepp-sum", "vsepp", "SH with both sides normalised: the paper's clean ablation.", |s, _| {
            s.max_violation = false;
        }),
        ("vsepp-one-pair", "vsepp", "B = 1: no loss, no gradient.", |_, z| z.batch = 1),
        ("vsepp-two-pairs", "vsepp", "B = 2.", |_, z| z.batch = 2),
        ("vsepp-two-layers", "vsepp", "MH, two layers.", |s, _| s.num_layers = 2),
        ("vsepp-three-layers", "vsepp", "MH, three layers.", |s, _| s.num_layers = 3),
        ("vsepp-projection", "vsepp", "MH, caption projection with H = 6, D = 4.", |s, z| {
            (s.caption_projection, z.hidden) = (true, 6);
        }),
        ("vse0-projection", "vse0", "SH, caption projection with H = D.", |s, _| s.caption_projection = true),
        ("vsepp-masked", "vsepp", "MH, two captions of one image masked.", |s, _| s.mask_same_image = true),
        ("vse0-masked", "vse0", "SH, two captions of one image masked.", |s, _| s.mask_same_image = true),
        ("order0", "order0", "Order similarity, absolute values, SH.", |_, _| ()),
        ("order0-wide", "order0", "Order, H = D = 7.", |_, z| (z.hidden, z.joint) = (7, 7)),
        ("orderpp", "orderpp", "Order similarity, absolute values, MH.", |_, _| ()),
        ("orderpp-two-layers", "orderpp", "Order, MH, two layers.", |s, _| s.num_layers = 2),
        ("orderpp-squared", "orderpp", "Order without the root, MH.", |s, _| s.measure = Measure::OrderSquared),
        ("vse0-input-square", "vse0", "SH, 3H = E = 12: W_ih is square.", |_, z| z.word = 12),
        ("vsepp-all-equal", "vsepp", "MH, caption projection, B = T = V = E = H = D = F = 6.", |s, z| {
            s.caption_projection = true;
            (z.batch, z.steps, z.vocabulary) = (6, 6, 6);
            (z.word, z.hidden, z.joint, z.features) = (6, 6, 6, 6);
        }),
        ("vsepp-all-3h", "vsepp", "MH, caption projection, H = 2 and B = T = V = E = D = F = 3H = 6.", |s, z| {
            s.caption_projection = true;
            (z.batch, z.steps, z.vocabulary) = (6, 6, 6);
            (z.word, z.hidden, z.joint, z.features) = (6, 2, 6, 6);
        }),
    ];
    for (name, of, note, change) in all {
        let (mut settings, mut sizes) = (Settings { steps: 1, learning_rate: 1e-2, ..Settings::default() }, SIZES);
        preset(of, &mut settings);
        change(&mut settings, &mut sizes);
        let mut flags = vec!["unsorted"];
        if sizes.batch == 1 {
            flags = vec!["one-pair"];
        }
        if settings.num_layers > 1 {
            flags.push("two-layers");
        }
        if name.ends_with("saturated") {
            flags.push("saturated");
        }
        if name.ends_with("remainder") || name.ends_with("large") {
            flags.push("remainder");
        }
        if settings.mask_same_image {
            flags.push("masked");
        }
        if name.ends_with("input-square") || name.contains("-all-") {
            flags.push("square");
        }
        // In many dimensions random scores lie close together.
        let apart = if sizes.hidden > 64 {
            0.005
        } else if settings.use_abs {
            0.03
        } else {
            0.06
        };
        let mut sketch = Sketch::new("model", name, Program::Model, note).flags(&flags);
        sketch.settings = settings.clone();
        cases.push(sketch.apart(apart).draw(|draw| model_inputs(draw, sizes, &settings, false))?);
    }
    // A caption and an image twice: hardest negatives tie, but their parameter gradients do not depend on the choice.
    let mut settings = Settings { learning_rate: 1e-2, ..Settings::default() };
    preset("vsepp", &mut settings);
    let mut sketch = Sketch::new(
        "model",
        "vsepp-twins",
        Program::Model,
        "A caption and an image that stand twice: hardest negatives may tie.",
    );
    sketch.settings = settings.clone();
    cases.push(sketch.flags(&["tie", "unsorted"]).draw(|draw| model_inputs(draw, SIZES, &settings, true))?);
    many_words(cases)?;
    many_pairs(cases)?;
    pairs_of_settings(cases)
}

/// Ids above 255, one of them twice.
fn many_words(cases: &mut Vec<Case>) -> Result<()> {
    let mut settings = Settings { steps: 1, learning_rate: 1e-2, ..Settings::default() };
    preset("vsepp", &mut settings);
    let sizes = Sizes { vocabulary: 300, word: 2, ..SIZES };
    let mut sketch = Sketch::new("model", "vsepp-many-words", Program::Model, "MH, V = 300: ids above 255.");
    sketch.settings = settings.clone();
    cases.push(sketch.flags(&["unsorted", "repeated-words"]).apart(0.06).draw(|draw| {
        let mut inputs = model_inputs(draw, sizes, &settings, false);
        let captions = inputs.get_mut("in.captions").expect("drawn");
        captions.slice_mut(s![.., 1]).assign(&arr1(&[255.0, 256.0, 257.0, 299.0, 256.0]));
        inputs
    })?);
    Ok(())
}

/// More rows than a tile of 32 has, with captions of one image at scattered places.
fn many_pairs(cases: &mut Vec<Case>) -> Result<()> {
    let mut settings = Settings { steps: 1, learning_rate: 1e-2, mask_same_image: true, ..Settings::default() };
    preset("vsepp", &mut settings);
    let sizes = Sizes { batch: 37, steps: 7, vocabulary: 29, hidden: 3, joint: 3, short: true, ..SIZES };
    let note = "MH, B = 37, captions of one image masked.";
    let mut sketch = Sketch::new("model", "vsepp-many-pairs", Program::Model, note);
    sketch.settings = settings.clone();
    cases.push(sketch.flags(&["unsorted", "masked", "remainder"]).apart(1.3e-3).draw(|draw| {
        let mut inputs = model_inputs(draw, sizes, &settings, false);
        let ids: Vec<usize> = (0..sizes.batch).map(|b| SCATTERED[b % SCATTERED.len()] + 5 * (b / 18)).collect();
        inputs.insert("in.image_ids".into(), lengths(&ids));
        inputs
    })?);
    Ok(())
}

/// A loss in a note.
fn called(violation: Violation) -> String {
    match violation {
        Violation::Sum => "SH".into(),
        Violation::Max => "MH".into(),
        Violation::Hardest(most) => format!("The {most} hardest"),
        Violation::LogSumExp(temperature) => format!("Log-sum-exp, τ = {temperature}"),
        Violation::SemiHard => "Semi-hard".into(),
    }
}

/// Models in which every two settings meet that meet in no case above; `every_pair_of_settings_occurs` lists what is
/// missing.
fn pairs_of_settings(cases: &mut Vec<Case>) -> Result<()> {
    const SQUARE: Sizes = Sizes { word: 4, features: 4, ..SIZES };
    const ONE_PAIR: Sizes = Sizes { batch: 1, ..SQUARE };
    // B = V = D = 3H and E = F = H; B = 3H and D = H: matrices that have one shape in no case above.
    const TALL: Sizes = Sizes { batch: 6, vocabulary: 6, word: 2, hidden: 2, joint: 6, features: 2, ..SIZES };
    const NARROW: Sizes = Sizes { batch: 6, hidden: 2, joint: 2, ..SIZES };
    const TAILS: Sizes = Sizes { steps: 5, word: 91, hidden: 29, joint: 31, features: 27, recurrent: 0.3, ..SIZES };
    const SMALL: Sizes = Sizes { batch: 4, steps: 5, vocabulary: 7, hidden: 3, joint: 3, ..SIZES };
    const SMALL_SQUARE: Sizes = Sizes { word: 3, features: 3, ..SMALL };
    use Measure::{Cosine, Order, OrderSquared};
    use Violation::{Hardest, LogSumExp, Max, SemiHard, Sum};
    // Absolute values, images not normalised, caption projection, mask; layers, steps, limit of the norm.
    let all: [(&str, Sizes, Measure, Violation, [usize; 7]); 15] = [
        ("settings-1", SQUARE, OrderSquared, Max, [0, 1, 1, 1, 2, 2, 100]),
        ("settings-2", SQUARE, Order, Sum, [1, 1, 0, 1, 3, 2, 0]),
        ("settings-3", TALL, Cosine, Sum, [1, 1, 1, 1, 3, 1, 100]),
        ("settings-4", ONE_PAIR, OrderSquared, Max, [1, 1, 1, 1, 3, 2, 0]),
        ("settings-5", SQUARE, OrderSquared, Sum, [1, 0, 1, 1, 2, 0, 0]),
        ("settings-6", NARROW, Order, Sum, [0, 0, 0, 0, 1, 2, 100]),
        ("settings-7", ONE_PAIR, Order, Sum, [1, 1, 1, 1, 2, 0, 0]),
        ("settings-8", SQUARE, OrderSquared, Max, [0, 0, 1, 0, 1, 1, 0]),
        ("settings-9", SQUARE, OrderSquared, Sum, [1, 1, 0, 1, 3, 0, 0]),
        ("tails", TAILS, Order, Max, [0, 0, 1, 1, 1, 0, 0]),
        ("hardest-2", SMALL, OrderSquared, Hardest(2), [0, 0, 0, 1, 1, 1, 1]),
        ("hardest-3", Sizes { batch: 5, ..SMALL_SQUARE }, Cosine, Hardest(3), [0, 0, 0, 0, 1, 1, 0]),
        ("log-sum-exp", SMALL_SQUARE, Order, LogSumExp(0.1), [1, 1, 1, 0, 2, 2, 100]),
        ("semi-hard", SMALL, Cosine, SemiHard, [0, 1, 0, 0, 3, 0, 0]),
        ("log-sum-exp-one-pair", Sizes { batch: 1, ..SMALL }, Cosine, LogSumExp(0.5), [0, 0, 0, 0, 1, 0, 0]),
    ];
    for (name, sizes, measure, violation, [abs, no_imgnorm, projection, mask, num_layers, steps, limit]) in all {
        let mut settings = Settings {
            measure,
            use_abs: abs == 1,
            no_imgnorm: no_imgnorm == 1,
            caption_projection: projection == 1,
            mask_same_image: mask == 1,
            num_layers,
            steps,
            grad_clip: limit as f64,
            learning_rate: 1e-2,
            ..Settings::default()
        };
        settings.count(violation);
        let flags = [
            ("unsorted", sizes.batch > 1),
            ("one-pair", sizes.batch == 1),
            ("two-layers", num_layers > 1),
            ("masked", mask == 1),
            ("tails", name == "tails"),
            ("square", sizes.word == sizes.hidden),
            ("not-clipped", limit > 1),
            ("clipped", limit == 1),
            ("trajectory", steps > 1),
        ];
        let flags: Vec<&str> = flags.into_iter().filter_map(|(flag, holds)| holds.then_some(flag)).collect();
        let mut on = String::new();
        for (is, what) in [
            (abs, ", absolute values"),
            (no_imgnorm, ", image side not normalised"),
            (projection, ", caption projection"),
            (mask, ", same image masked"),
        ] {
            on.push_str(if is == 1 { what } else { "" });
        }
        let Sizes { batch, word, hidden, joint, features, .. } = sizes;
        let note = format!(
            "{}, {measure}{on}; {num_layers} layer(s), {steps} step(s); B = {batch}, E = {word}, H = {hidden}, D = {joint}, F = {features}.",
            called(violation)
        );
        let mut sketch = Sketch::new("model", name, Program::Model, &note).flags(&flags);
        sketch.settings = settings.clone();
        let apart = match batch {
            1 if abs == 0 => 0.0,
            5 if name != "tails" => 0.02,
            _ => 0.005,
        };
        cases.push(sketch.apart(apart).draw(|draw| model_inputs(draw, sizes, &settings, false))?);
    }
    Ok(())
}

pub(super) fn trajectories(cases: &mut Vec<Case>) -> Result<()> {
    for of in ["vse0", "vsepp", "order0", "orderpp"] {
        for steps in [2, 10, 100] {
            let mut settings = Settings { steps, ..Settings::default() };
            preset(of, &mut settings);
            settings.learning_rate = if steps == 100 { 1e-3 } else { 5e-3 };
            let note = format!("{steps} steps on one batch, lr {}.", settings.learning_rate);
            let mut sketch = Sketch::new("trajectory", &format!("{of}-{steps}"), Program::Model, &note);
            sketch.settings = settings.clone();
            let apart = if steps == 100 { 1e-4 } else { 1e-3 };
            cases.push(
                sketch.flags(&["trajectory"]).apart(apart).draw(|draw| model_inputs(draw, SIZES, &settings, false))?,
            );
        }
    }
    let settings = Settings { steps: 10, learning_rate: 5e-3, grad_clip: 0.0, num_layers: 2, ..Settings::default() };
    let mut sketch =
        Sketch::new("trajectory", "two-layers-no-clip-10", Program::Model, "Two layers, no clipping, ten steps.");
    sketch.settings = settings.clone();
    cases.push(
        sketch
            .flags(&["trajectory", "two-layers"])
            .apart(1e-3)
            .draw(|draw| model_inputs(draw, SIZES, &settings, false))?,
    );
    Ok(())
}

/// The cases at the size of the paper: V 11,755, E 300, H = D 1024, F 4096, B 128.
pub(crate) fn paper() -> Vec<Case> {
    const PAPER: Sizes = Sizes {
        batch: 128,
        steps: 20,
        vocabulary: 11_755,
        word: 300,
        hidden: 1024,
        joint: 1024,
        features: 4096,
        recurrent: 0.0,
        short: false,
    };
    let mut cases = Vec::new();
    for of in ["vse0", "vsepp", "order0", "orderpp"] {
        let mut settings = Settings { steps: 1, ..Settings::default() };
        preset(of, &mut settings);
        let mut sketch = Sketch::new("paper", of, Program::Model, "The sizes of the paper, at initialisation.");
        sketch.settings = settings.clone();
        let case = sketch.case(paper_inputs(&mut Draw(stream(0, &format!("golden/paper-{of}"))), PAPER));
        cases.push(case);
    }
    cases
}

/// Parameters as they are initialised (the projection's bias aside, which starts at 0 and would hide
/// its absence).
fn paper_inputs(draw: &mut Draw, sizes: Sizes) -> Inputs {
    let Sizes { batch, vocabulary, word, hidden, joint, features, .. } = sizes;
    let texts = captions(draw, sizes);
    let rows: Vec<usize> = texts.iter().map(Vec::len).collect();
    let longest = rows.iter().copied().max().unwrap_or(1);
    let mut inputs = named([
        ("in.images", draw.array((batch, features), 1.0).mapv(f64::abs).into_dyn()),
        ("in.captions", padded(&texts, longest, 0.0)),
        ("in.lengths", lengths(&rows)),
        ("param.img_enc.fc.weight", draw.array((joint, features), (6.0 / (joint + features) as f64).sqrt()).into_dyn()),
        ("param.img_enc.fc.bias", draw.array(joint, 0.01).into_dyn()),
        ("param.txt_enc.embed.weight", draw.array((vocabulary, word), 0.1).into_dyn()),
    ]);
    add_layer(&mut inputs, draw, 0, word, hidden, 1.0 / (hidden as f64).sqrt());
    inputs
}
