//! The weights of a GRU layer as other libraries hold them.
//!
//! [`GruLayer`] holds them as `PyTorch` does: `W_ih` [3H, E], `W_hh` [3H, H], `b_ih` `[3H]`, `b_hh`
//! `[3H]`, rows r, z, n. Others stack the gates in another order, transpose the matrices, or keep one
//! bias where `PyTorch` has two. Below, z r n means: the H rows of z first, then those of r, then those of n.
//!
//! ```text
//! layout     its tensors                                                      gates    biases
//! cudnn      weights [3HE + 3HH + 6H]: W_ih, W_hh, b_ih, b_hh, one after      r z n    all
//!            the other
//! onnx       W [1, 3H, E], R [1, 3H, H], B [1, 6H]: input, then recurrent     z r n    all
//! webnn-rzn  weight [1, 3H, E], recurrentWeight [1, 3H, H],                   r z n    all
//!            bias [1, 3H], recurrentBias [1, 3H]
//! webnn-zrn  the same                                                         z r n    all
//! keras      kernel [E, 3H], recurrent_kernel [H, 3H],                        z r n    all
//!            bias [2, 3H]: input, then recurrent
//! flax       ir.kernel, iz.kernel, in.kernel [E, H], with a .bias [H] each,   a        r, z merged
//!            hr.kernel, hz.kernel, hn.kernel [H, H], and hn.bias [H]          tensor
//! mlx        Wx [3H, E], Wh [3H, H], b [3H], bhn [H]                          r z n    r, z merged
//! burn       {update,reset,new}_gate.input_transform.weight [E, H],           a        all
//!            .hidden_transform.weight [H, H], with a .bias [H] each           tensor
//! onednn     weights_layer [1, 1, E, 3, H], weights_iter [1, 1, H, 3, H],     z r n    r, z merged
//!            bias [1, 1, 4, H]: z, r, b_in, b_hn
//! ```
//!
//! Matrices are transposed where E or H comes before the gates: keras, flax, burn and onednn.
//!
//! **Merged** means that the library has one bias for r, `b_ir + b_hr`, and one for z, `b_iz + b_hz`: (GRU-1)
//! and (GRU-2) use only the sums. (GRU-3) multiplies `b_hn` by the reset gate but not `b_in`, so every
//! library keeps these two. A sum passes its gradient on to both terms: *each* of the two `PyTorch`
//! gradients, by `b_ir` and by `b_hr`, equals the merged one. An optimiser still takes other steps on one
//! merged bias than on two: the norm of the gradient differs, and so do Adam's updates.
//!
//! Settings that the library needs in order to compute (GRU-1) to (GRU-4):
//!
//! ```text
//! cudnn      CUDNN_GRU with CUDNN_RNN_DOUBLE_BIAS; cudnnGetRNNWeightParams says where each block lies
//! onnx       linear_before_reset = 1; the default, 0, applies the reset before the product
//! webnn-*    resetAfter, which is the default; layout is "zrn" by default. The shapes are those of gru
//!            with one direction; gruCell takes them without the first axis
//! keras      reset_after, which is the default; without it the bias is [3H] and the function differs
//! flax       linen.GRUCell. The GRUCell of nnx has no b_hn: it cannot hold these weights
//! mlx        nothing; old releases hold Wx and Wh transposed
//! burn       reset_after, which is the default
//! onednn     lbr_gru, the GRU that is linear before the reset; shapes in the format ldigo, bias in ldgo
//! ```

use std::fmt;
use std::str::FromStr;

use ndarray::{ArrayD, s};

use crate::error::{Error, Result};
use crate::nn::GruLayer;
use crate::real::Scalar;

/// How a library holds the weights of a GRU layer; see the module's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Layout {
    /// cuDNN: one flat vector.
    Cudnn,
    /// The ONNX operator `GRU` with `linear_before_reset = 1`.
    Onnx,
    /// The `WebNN` operator `gru` with `layout: "rzn"`.
    WebnnRzn,
    /// The `WebNN` operator `gru` with its default, `layout: "zrn"`.
    WebnnZrn,
    /// `keras.layers.GRU` with `reset_after`.
    Keras,
    /// `flax.linen.GRUCell`.
    Flax,
    /// `mlx.nn.GRU`.
    Mlx,
    /// `burn::nn::gru::Gru`.
    Burn,
    /// The oneDNN primitive `lbr_gru`.
    OneDnn,
}

impl Layout {
    /// All of them, in the order of the table.
    pub(crate) const ALL: [Self; 9] = [
        Self::Cudnn,
        Self::Onnx,
        Self::WebnnRzn,
        Self::WebnnZrn,
        Self::Keras,
        Self::Flax,
        Self::Mlx,
        Self::Burn,
        Self::OneDnn,
    ];

    /// Its name, on the command line for example.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cudnn => "cudnn",
            Self::Onnx => "onnx",
            Self::WebnnRzn => "webnn-rzn",
            Self::WebnnZrn => "webnn-zrn",
            Self::Keras => "keras",
            Self::Flax => "flax",
            Self::Mlx => "mlx",
            Self::Burn => "burn",
            Self::OneDnn => "onednn",
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Layout {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|layout| layout.name() == name).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.into_iter().map(Self::name).collect();
            Error::config("layout", format!("one of {}", names.join(", ")), name)
        })
    }
}

/// The gates by their place in [`GruLayer`].
const R: usize = 0;
const Z: usize = 1;
const N: usize = 2;
const RZN: [usize; 3] = [R, Z, N];
const ZRN: [usize; 3] = [Z, R, N];

/// What a block is cut from.
#[derive(Clone, Copy)]
enum Part {
    /// `W_ih`: [H, E]
    Input,
    /// `W_hh`: [H, H]
    Hidden,
    /// `b_ih`: `[H]`
    InputBias,
    /// `b_hh`: `[H]`
    HiddenBias,
    /// `b_ih + b_hh`: `[H]`
    Merged,
}

/// One gate's rows of one part.
type Block = (Part, usize);

/// The same part of several gates.
fn blocks(part: Part, gates: [usize; 3]) -> Vec<Block> {
    gates.map(|gate| (part, gate)).to_vec()
}

/// A tensor of a layout: its blocks below each other, the whole transposed or not, in a shape.
struct Tensor {
    name: String,
    shape: Vec<usize>,
    transposed: bool,
    blocks: Vec<Block>,
}

impl Tensor {
    /// Blocks below each other.
    fn rows(name: &str, shape: &[usize], blocks: Vec<Block>) -> Self {
        Self { name: name.into(), shape: shape.into(), transposed: false, blocks }
    }

    /// Blocks side by side, each of them transposed.
    fn columns(name: &str, shape: &[usize], blocks: Vec<Block>) -> Self {
        Self { transposed: true, ..Self::rows(name, shape, blocks) }
    }
}

/// The tensors of a layout for E inputs and H hidden units: the module's table.
fn tensors(layout: Layout, e: usize, h: usize) -> Vec<Tensor> {
    use Part::{Hidden, HiddenBias, Input, InputBias, Merged};
    match layout {
        Layout::Cudnn => {
            let all = [Input, Hidden, InputBias, HiddenBias].map(|part| blocks(part, RZN)).concat();
            vec![Tensor::rows("weights", &[3 * h * (e + h + 2)], all)]
        }
        Layout::Onnx => vec![
            Tensor::rows("W", &[1, 3 * h, e], blocks(Input, ZRN)),
            Tensor::rows("R", &[1, 3 * h, h], blocks(Hidden, ZRN)),
            Tensor::rows("B", &[1, 6 * h], [blocks(InputBias, ZRN), blocks(HiddenBias, ZRN)].concat()),
        ],
        Layout::WebnnRzn | Layout::WebnnZrn => {
            let gates = if layout == Layout::WebnnRzn { RZN } else { ZRN };
            vec![
                Tensor::rows("weight", &[1, 3 * h, e], blocks(Input, gates)),
                Tensor::rows("recurrentWeight", &[1, 3 * h, h], blocks(Hidden, gates)),
                Tensor::rows("bias", &[1, 3 * h], blocks(InputBias, gates)),
                Tensor::rows("recurrentBias", &[1, 3 * h], blocks(HiddenBias, gates)),
            ]
        }
        Layout::Keras => vec![
            Tensor::columns("kernel", &[e, 3 * h], blocks(Input, ZRN)),
            Tensor::columns("recurrent_kernel", &[h, 3 * h], blocks(Hidden, ZRN)),
            Tensor::rows("bias", &[2, 3 * h], [blocks(InputBias, ZRN), blocks(HiddenBias, ZRN)].concat()),
        ],
        Layout::Flax => vec![
            Tensor::columns("ir.kernel", &[e, h], vec![(Input, R)]),
            Tensor::rows("ir.bias", &[h], vec![(Merged, R)]),
            Tensor::columns("iz.kernel", &[e, h], vec![(Input, Z)]),
            Tensor::rows("iz.bias", &[h], vec![(Merged, Z)]),
            Tensor::columns("in.kernel", &[e, h], vec![(Input, N)]),
            Tensor::rows("in.bias", &[h], vec![(InputBias, N)]),
            Tensor::columns("hr.kernel", &[h, h], vec![(Hidden, R)]),
            Tensor::columns("hz.kernel", &[h, h], vec![(Hidden, Z)]),
            Tensor::columns("hn.kernel", &[h, h], vec![(Hidden, N)]),
            Tensor::rows("hn.bias", &[h], vec![(HiddenBias, N)]),
        ],
        Layout::Mlx => vec![
            Tensor::rows("Wx", &[3 * h, e], blocks(Input, RZN)),
            Tensor::rows("Wh", &[3 * h, h], blocks(Hidden, RZN)),
            Tensor::rows("b", &[3 * h], vec![(Merged, R), (Merged, Z), (InputBias, N)]),
            Tensor::rows("bhn", &[h], vec![(HiddenBias, N)]),
        ],
        Layout::Burn => [("update_gate", Z), ("reset_gate", R), ("new_gate", N)]
            .into_iter()
            .flat_map(|(name, gate)| {
                [
                    Tensor::columns(&format!("{name}.input_transform.weight"), &[e, h], vec![(Input, gate)]),
                    Tensor::rows(&format!("{name}.input_transform.bias"), &[h], vec![(InputBias, gate)]),
                    Tensor::columns(&format!("{name}.hidden_transform.weight"), &[h, h], vec![(Hidden, gate)]),
                    Tensor::rows(&format!("{name}.hidden_transform.bias"), &[h], vec![(HiddenBias, gate)]),
                ]
            })
            .collect(),
        Layout::OneDnn => vec![
            Tensor::columns("weights_layer", &[1, 1, e, 3, h], blocks(Input, ZRN)),
            Tensor::columns("weights_iter", &[1, 1, h, 3, h], blocks(Hidden, ZRN)),
            Tensor::rows("bias", &[1, 1, 4, h], vec![(Merged, Z), (Merged, R), (InputBias, N), (HiddenBias, N)]),
        ],
    }
}

/// The tensors of one layer as a library wants them, with the library's names.
///
/// # Panics
///
/// If the tensors of `layer` have not the shapes of one layer.
#[must_use]
pub(crate) fn convert<T: Scalar>(layer: &GruLayer<T>, layout: Layout) -> Vec<(String, ArrayD<T>)> {
    let (e, h) = (layer.weight_ih.ncols(), layer.hidden_size());
    let convert = |tensor: Tensor| {
        let mut values: Vec<T> = tensor.blocks.iter().flat_map(|&block| read(layer, block)).collect();
        if tensor.transposed {
            let rows = tensor.blocks.len() * h;
            values = transpose(&values, rows, values.len().checked_div(rows).unwrap_or(0));
        }
        (tensor.name, ArrayD::from_shape_vec(tensor.shape, values).expect("the blocks fill the shape"))
    };
    tensors(layout, e, h).into_iter().map(convert).collect()
}

/// The rows of a gate in what is stacked r, z, n.
fn rows(gate: usize, hidden: usize) -> std::ops::Range<usize> {
    gate * hidden..(gate + 1) * hidden
}

/// A block's numbers, row by row.
fn read<T: Scalar>(layer: &GruLayer<T>, (part, gate): Block) -> Vec<T> {
    let rows = rows(gate, layer.hidden_size());
    let (b_ih, b_hh) = (layer.bias_ih.slice(s![rows.clone()]), layer.bias_hh.slice(s![rows.clone()]));
    match part {
        Part::Input => layer.weight_ih.slice(s![rows, ..]).iter().copied().collect(),
        Part::Hidden => layer.weight_hh.slice(s![rows, ..]).iter().copied().collect(),
        Part::InputBias => b_ih.to_vec(),
        Part::HiddenBias => b_hh.to_vec(),
        Part::Merged => b_ih.iter().zip(b_hh).map(|(&b_ih, &b_hh)| b_ih + b_hh).collect(),
    }
}

/// From [rows, columns], row by row, to [columns, rows].
fn transpose<T: Copy>(values: &[T], rows: usize, columns: usize) -> Vec<T> {
    (0..columns).flat_map(|j| (0..rows).map(move |i| values[i * columns + j])).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ndarray::{Array1, Array2, Array3};

    use super::*;
    use crate::spec::gru as spec;

    /// E = 3, H = 2, all numbers distinct: `W_ih` 1 … 18, `W_hh` 21 … 32, `b_ih` 41 … 46, `b_hh` 51 … 56.
    fn counted() -> GruLayer<f64> {
        let count = |from: usize, n: usize| Array1::from_iter((from..from + n).map(|i| i as f64));
        GruLayer {
            weight_ih: count(1, 18).into_shape_with_order((6, 3)).unwrap(),
            weight_hh: count(21, 12).into_shape_with_order((6, 2)).unwrap(),
            bias_ih: count(41, 6),
            bias_hh: count(51, 6),
        }
    }

    /// The same shapes with numbers of a layer that computes something.
    fn plausible() -> GruLayer<f64> {
        let mut layer = counted();
        let squash = |x: &mut f64| *x = (*x * 1.7).sin() * 0.9;
        layer.weight_ih.iter_mut().chain(&mut layer.weight_hh).for_each(squash);
        layer.bias_ih.iter_mut().chain(&mut layer.bias_hh).for_each(squash);
        layer
    }

    /// Name, shape and numbers are these, and nothing else is there.
    #[track_caller]
    fn assert_tensors(layout: Layout, expected: &[(&str, &[usize], &[i32])]) {
        let found = convert(&counted(), layout);
        let found: Vec<_> = found.iter().map(|(name, x)| (name.as_str(), x.shape(), x.iter().copied())).collect();
        assert_eq!(found.len(), expected.len());
        for ((name, shape, values), expected) in found.into_iter().zip(expected) {
            let expected_values: Vec<f64> = expected.2.iter().map(|&x| f64::from(x)).collect();
            assert_eq!(
                (name, shape, values.collect::<Vec<_>>()),
                (expected.0, expected.1, expected_values),
                "{layout}"
            );
        }
    }

    #[test]
    fn flat_and_stacked_layouts_by_hand() {
        assert_tensors(
            Layout::Cudnn,
            &[(
                "weights",
                &[42],
                &[
                    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, // W_ih: r, z, n
                    21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, // W_hh
                    41, 42, 43, 44, 45, 46, 51, 52, 53, 54, 55, 56, // biases
                ],
            )],
        );
        let (w_zrn, r_zrn): (&[i32], &[i32]) = (
            &[7, 8, 9, 10, 11, 12, 1, 2, 3, 4, 5, 6, 13, 14, 15, 16, 17, 18],
            &[25, 26, 27, 28, 21, 22, 23, 24, 29, 30, 31, 32],
        );
        assert_tensors(
            Layout::Onnx,
            &[
                ("W", &[1, 6, 3], w_zrn),
                ("R", &[1, 6, 2], r_zrn),
                ("B", &[1, 12], &[43, 44, 41, 42, 45, 46, 53, 54, 51, 52, 55, 56]),
            ],
        );
        assert_tensors(
            Layout::WebnnZrn,
            &[
                ("weight", &[1, 6, 3], w_zrn),
                ("recurrentWeight", &[1, 6, 2], r_zrn),
                ("bias", &[1, 6], &[43, 44, 41, 42, 45, 46]),
                ("recurrentBias", &[1, 6], &[53, 54, 51, 52, 55, 56]),
            ],
        );
        assert_tensors(
            Layout::WebnnRzn,
            &[
                ("weight", &[1, 6, 3], &(1..19).collect::<Vec<_>>()),
                ("recurrentWeight", &[1, 6, 2], &(21..33).collect::<Vec<_>>()),
                ("bias", &[1, 6], &[41, 42, 43, 44, 45, 46]),
                ("recurrentBias", &[1, 6], &[51, 52, 53, 54, 55, 56]),
            ],
        );
        assert_tensors(
            Layout::Mlx,
            &[
                ("Wx", &[6, 3], &(1..19).collect::<Vec<_>>()),
                ("Wh", &[6, 2], &(21..33).collect::<Vec<_>>()),
                ("b", &[6], &[92, 94, 96, 98, 45, 46]),
                ("bhn", &[2], &[55, 56]),
            ],
        );
    }

    #[test]
    fn transposed_layouts_by_hand() {
        let kernel = [7, 10, 1, 4, 13, 16, 8, 11, 2, 5, 14, 17, 9, 12, 3, 6, 15, 18];
        let recurrent = [25, 27, 21, 23, 29, 31, 26, 28, 22, 24, 30, 32];
        assert_tensors(
            Layout::Keras,
            &[
                ("kernel", &[3, 6], &kernel),
                ("recurrent_kernel", &[2, 6], &recurrent),
                ("bias", &[2, 6], &[43, 44, 41, 42, 45, 46, 53, 54, 51, 52, 55, 56]),
            ],
        );
        assert_tensors(
            Layout::OneDnn,
            &[
                ("weights_layer", &[1, 1, 3, 3, 2], &kernel),
                ("weights_iter", &[1, 1, 2, 3, 2], &recurrent),
                ("bias", &[1, 1, 4, 2], &[96, 98, 92, 94, 45, 46, 55, 56]),
            ],
        );
        assert_tensors(
            Layout::Flax,
            &[
                ("ir.kernel", &[3, 2], &[1, 4, 2, 5, 3, 6]),
                ("ir.bias", &[2], &[92, 94]),
                ("iz.kernel", &[3, 2], &[7, 10, 8, 11, 9, 12]),
                ("iz.bias", &[2], &[96, 98]),
                ("in.kernel", &[3, 2], &[13, 16, 14, 17, 15, 18]),
                ("in.bias", &[2], &[45, 46]),
                ("hr.kernel", &[2, 2], &[21, 23, 22, 24]),
                ("hz.kernel", &[2, 2], &[25, 27, 26, 28]),
                ("hn.kernel", &[2, 2], &[29, 31, 30, 32]),
                ("hn.bias", &[2], &[55, 56]),
            ],
        );
        assert_tensors(
            Layout::Burn,
            &[
                ("update_gate.input_transform.weight", &[3, 2], &[7, 10, 8, 11, 9, 12]),
                ("update_gate.input_transform.bias", &[2], &[43, 44]),
                ("update_gate.hidden_transform.weight", &[2, 2], &[25, 27, 26, 28]),
                ("update_gate.hidden_transform.bias", &[2], &[53, 54]),
                ("reset_gate.input_transform.weight", &[3, 2], &[1, 4, 2, 5, 3, 6]),
                ("reset_gate.input_transform.bias", &[2], &[41, 42]),
                ("reset_gate.hidden_transform.weight", &[2, 2], &[21, 23, 22, 24]),
                ("reset_gate.hidden_transform.bias", &[2], &[51, 52]),
                ("new_gate.input_transform.weight", &[3, 2], &[13, 16, 14, 17, 15, 18]),
                ("new_gate.input_transform.bias", &[2], &[45, 46]),
                ("new_gate.hidden_transform.weight", &[2, 2], &[29, 31, 30, 32]),
                ("new_gate.hidden_transform.bias", &[2], &[55, 56]),
            ],
        );
    }

    #[test]
    fn the_memory_order_of_the_matrices_does_not_matter() {
        let mut layer = counted();
        layer.weight_ih = layer.weight_ih.t().as_standard_layout().reversed_axes().into_owned();
        assert!(!layer.weight_ih.is_standard_layout());
        for layout in Layout::ALL {
            assert_eq!(convert(&layer, layout), convert(&counted(), layout), "{layout}");
        }
    }

    /// One step of a GRU as a library computes it, from its own tensors: its order of the gates, its
    /// matrices, its biases. Nothing of this module is used.
    fn step(layout: Layout, tensors: &[(String, ArrayD<f64>)], x: &[f64; 3], h: &[f64; 2]) -> [f64; 2] {
        let tensors: BTreeMap<&str, &ArrayD<f64>> = tensors.iter().map(|(name, x)| (name.as_str(), x)).collect();
        let at = |name: &str, index: &[usize]| tensors[name][index];
        let dot = |x: &[f64], w: &dyn Fn(usize) -> f64| x.iter().enumerate().map(|(j, x)| w(j) * x).sum::<f64>();
        // The two halves of unit k of a gate's argument: what comes from x, what comes from h.
        let halves = |gate: char, k: usize| match layout {
            Layout::Cudnn => {
                let row = 2 * "rzn".find(gate).unwrap() + k;
                (
                    dot(x, &|j| at("weights", &[3 * row + j])) + at("weights", &[30 + row]),
                    dot(h, &|j| at("weights", &[18 + 2 * row + j])) + at("weights", &[36 + row]),
                )
            }
            Layout::Onnx => {
                let row = 2 * "zrn".find(gate).unwrap() + k;
                (
                    dot(x, &|j| at("W", &[0, row, j])) + at("B", &[0, row]),
                    dot(h, &|j| at("R", &[0, row, j])) + at("B", &[0, 6 + row]),
                )
            }
            Layout::WebnnRzn | Layout::WebnnZrn => {
                let order = if layout == Layout::WebnnRzn { "rzn" } else { "zrn" };
                let row = 2 * order.find(gate).unwrap() + k;
                (
                    dot(x, &|j| at("weight", &[0, row, j])) + at("bias", &[0, row]),
                    dot(h, &|j| at("recurrentWeight", &[0, row, j])) + at("recurrentBias", &[0, row]),
                )
            }
            Layout::Keras => {
                let column = 2 * "zrn".find(gate).unwrap() + k;
                (
                    dot(x, &|j| at("kernel", &[j, column])) + at("bias", &[0, column]),
                    dot(h, &|j| at("recurrent_kernel", &[j, column])) + at("bias", &[1, column]),
                )
            }
            Layout::Flax => (
                dot(x, &|j| at(&format!("i{gate}.kernel"), &[j, k])) + at(&format!("i{gate}.bias"), &[k]),
                dot(h, &|j| at(&format!("h{gate}.kernel"), &[j, k]))
                    + if gate == 'n' { at("hn.bias", &[k]) } else { 0.0 },
            ),
            Layout::Mlx => {
                let row = 2 * "rzn".find(gate).unwrap() + k;
                (
                    dot(x, &|j| at("Wx", &[row, j])) + at("b", &[row]),
                    dot(h, &|j| at("Wh", &[row, j])) + if gate == 'n' { at("bhn", &[k]) } else { 0.0 },
                )
            }
            Layout::Burn => {
                let name = ["reset_gate", "update_gate", "new_gate"]["rzn".find(gate).unwrap()];
                (
                    dot(x, &|j| at(&format!("{name}.input_transform.weight"), &[j, k]))
                        + at(&format!("{name}.input_transform.bias"), &[k]),
                    dot(h, &|j| at(&format!("{name}.hidden_transform.weight"), &[j, k]))
                        + at(&format!("{name}.hidden_transform.bias"), &[k]),
                )
            }
            Layout::OneDnn => {
                let g = "zrn".find(gate).unwrap();
                (
                    dot(x, &|j| at("weights_layer", &[0, 0, j, g, k])) + at("bias", &[0, 0, g, k]),
                    dot(h, &|j| at("weights_iter", &[0, 0, j, g, k]))
                        + if gate == 'n' { at("bias", &[0, 0, 3, k]) } else { 0.0 },
                )
            }
        };
        [0, 1].map(|k| {
            let both = |gate| halves(gate, k).0 + halves(gate, k).1;
            let (r, z) = (Scalar::sigmoid(both('r')), Scalar::sigmoid(both('z')));
            let (a_n, c_n) = halves('n', k);
            (1.0 - z) * Scalar::tanh(a_n + r * c_n) + z * h[k]
        })
    }

    #[test]
    fn every_layout_computes_gru_1_to_gru_4() {
        let layer = plausible();
        let (x, h) = ([0.7, -1.1, 0.4], [0.6, -0.8]);
        let a = layer.weight_ih.dot(&ndarray::arr1(&x)) + &layer.bias_ih;
        let c = layer.weight_hh.dot(&ndarray::arr1(&h)) + &layer.bias_hh;
        let expected = [0, 1].map(|k| {
            let (r, z) = (Scalar::sigmoid(a[k] + c[k]), Scalar::sigmoid(a[2 + k] + c[2 + k]));
            (1.0 - z) * Scalar::tanh(a[4 + k] + r * c[4 + k]) + z * h[k]
        });
        for layout in Layout::ALL {
            let found = step(layout, &convert(&layer, layout), &x, &h);
            for k in 0..2 {
                approx::assert_abs_diff_eq!(found[k], expected[k], epsilon = 1e-15);
            }
            // The check can fail: it does with the biases of h and x exchanged.
            let mut other = layer.clone();
            std::mem::swap(&mut other.bias_ih, &mut other.bias_hh);
            let wrong = step(layout, &convert(&other, layout), &x, &h);
            assert!((0..2).any(|k| (wrong[k] - expected[k]).abs() > 0.01), "{layout}");
        }
    }

    #[test]
    fn both_gradients_of_a_merged_bias_equal_the_merged_one() {
        // Two rows of three steps; every state has a gradient of its own.
        let GruLayer { weight_ih, weight_hh, bias_ih, bias_hh } = plausible();
        let layer = spec::GruLayer { weight_ih, weight_hh, bias_ih, bias_hh };
        let x = Array3::from_shape_fn((2, 3, 3), |(b, t, i)| ((b + t) * 3 + i) as f64 * 0.4 - 0.9);
        let dh = Array3::from_shape_fn((2, 3, 2), |(b, t, i)| 1.0 - ((b * 3 + t) * 2 + i) as f64 * 0.23);
        let lengths = [3, 3];
        let y = spec::gru(&layer, x, Array2::zeros((2, 2)), &lengths);
        let (_, gradient) = spec::gru_backward(&layer, &y, &dh, &lengths);
        for k in 0..4 {
            approx::assert_abs_diff_eq!(gradient.bias_ih[k], gradient.bias_hh[k], epsilon = 1e-15);
        }
        assert!((4..6).all(|k| (gradient.bias_ih[k] - gradient.bias_hh[k]).abs() > 0.01));
    }

    #[test]
    fn layouts_have_their_names() {
        for layout in Layout::ALL {
            assert_eq!(layout.to_string().parse::<Layout>().unwrap(), layout);
        }
        let message = "pytorch".parse::<Layout>().unwrap_err().to_string();
        let names = "cudnn, onnx, webnn-rzn, webnn-zrn, keras, flax, mlx, burn, onednn";
        assert_eq!(message, format!("layout = pytorch: expected one of {names}"));
    }
}
