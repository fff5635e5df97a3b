//! Runs the golden suite's GRU cases with burn's own `Gru`.
//!
//! ```text
//! vsepp golden make --layout burn --out SUITE
//! cargo run --release -- SUITE OUT
//! vsepp golden check OUT --profile f32
//! ```
//!
//! burn 0.22.1 with its CPU backend flex (the older backend ndarray is deprecated there), safetensors
//! 0.8, Rust 1.95. The weights are the tensors `layout.burn.l{k}.update_gate.input_transform.weight`, …
//! of each case, unchanged. `reset_after` is burn's default. burn has no lengths: it computes all steps, and
//! this program picks each row's last state.

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;
use std::{env, fs};

use burn::module::Param;
use burn::nn::gru::{Gru, GruConfig};
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize_to_file};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A tensor in memory, in C order.
#[derive(Clone)]
struct Array {
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Array {
    /// An F32 tensor of the case.
    fn read(case: &SafeTensors, name: &str) -> Result<Self> {
        let tensor = case.tensor(name)?;
        if tensor.dtype() != Dtype::F32 {
            return Err(format!("{name}: expected F32, found {:?}", tensor.dtype()).into());
        }
        let values = tensor.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        Ok(Self { shape: tensor.shape().into(), values })
    }

    fn data(&self) -> TensorData {
        TensorData::new(self.values.clone(), self.shape.clone())
    }
}

/// Layer k, with the case's weights.
fn layer(case: &SafeTensors, k: usize, inputs: usize, hidden: usize, device: &Device) -> Result<Gru> {
    let mut gru = GruConfig::new(inputs, hidden, true).init(device);
    let gates = [("update", &mut gru.update_gate), ("reset", &mut gru.reset_gate), ("new", &mut gru.new_gate)];
    for (gate, controller) in gates {
        let halves =
            [("input", &mut controller.input_transform, inputs), ("hidden", &mut controller.hidden_transform, hidden)];
        for (half, linear, width) in halves {
            let name = format!("layout.burn.l{k}.{gate}_gate.{half}_transform");
            let weight = Array::read(case, &format!("{name}.weight"))?;
            let bias = Array::read(case, &format!("{name}.bias"))?;
            // burn itself accepts any shape.
            assert_eq!(
                (weight.shape.as_slice(), bias.shape.as_slice()),
                (&[width, hidden][..], &[hidden][..]),
                "{name}"
            );
            linear.weight = Param::from_data(weight.data(), device);
            linear.bias = Some(Param::from_data(bias.data(), device));
        }
    }
    Ok(gru)
}

/// All states of a layer, [B, T, H], from x [B, T, E] and h0 [B, H].
fn states(gru: &Gru, x: &Array, h0: &Array, device: &Device) -> Result<Array> {
    let states = gru.forward(Tensor::<3>::from_data(x.data(), device), Some(Tensor::<2>::from_data(h0.data(), device)));
    let shape = states.dims().into();
    Ok(Array { shape, values: states.into_data().try_into_vec()? })
}

/// The outputs of a case with this many layers.
fn run(program: &str, layers: usize, case: &SafeTensors, device: &Device) -> Result<Vec<(String, Array)>> {
    if program == "gru_cell" {
        let (mut x, h) = (Array::read(case, "in.x")?, Array::read(case, "in.h")?);
        x.shape.insert(1, 1); // [B, T = 1, E]
        let gru = layer(case, 0, x.shape[2], h.shape[1], device)?;
        let next = Array { shape: h.shape.clone(), ..states(&gru, &x, &h, device)? };
        return Ok(vec![("out.h_next".into(), next)]);
    }

    let (mut x, hidden) = (Array::read(case, "in.x")?, case.tensor("in.d_last")?.shape()[1]);
    let [batch, steps, inputs] = [x.shape[0], x.shape[1], x.shape[2]];
    let h0 = match case.tensor("in.h0") {
        Ok(_) => Array::read(case, "in.h0")?.values,
        Err(_) => vec![0.0; layers * batch * hidden], // none is given
    };
    let lengths = case.tensor("in.lengths")?;
    let lengths = lengths.data().as_chunks().0.iter().map(|&bytes| usize::try_from(i64::from_le_bytes(bytes)));
    let lengths: Vec<usize> = lengths.collect::<std::result::Result<_, _>>()?;

    for (at, value) in x.values.iter_mut().enumerate() {
        let (row, step) = (at / inputs / steps, at / inputs % steps);
        if step >= lengths[row] {
            *value = 0.0; // the padding is NaN on purpose
        }
    }
    let mut out = Vec::new();
    for (k, h0) in h0.chunks(batch * hidden).enumerate() {
        let h0 = Array { shape: vec![batch, hidden], values: h0.into() };
        x = states(&layer(case, k, x.shape[2], hidden, device)?, &x, &h0, device)?;
        out.push((format!("mid.l{k}.h"), x.clone()));
    }
    let last = |row: usize| &x.values[(row * steps + lengths[row] - 1) * hidden..][..hidden];
    let values = (0..batch).flat_map(last).copied().collect();
    out.push(("out.last".into(), Array { shape: vec![batch, hidden], values }));
    Ok(out)
}

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [suite, out] = &arguments[..] else { return Err("usage: layout-burn SUITE OUT".into()) };
    fs::create_dir_all(out)?;
    let device = Device::flex();

    let mut paths: Vec<_> = fs::read_dir(suite)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "safetensors"));
    paths.sort();
    for path in paths {
        let bytes = fs::read(&path)?;
        let header = SafeTensors::read_metadata(&bytes)?.1;
        let about = header.metadata().as_ref().and_then(|all| all.get("vsepp")).ok_or("no metadata \"vsepp\"")?;
        let about: serde_json::Value = serde_json::from_str(about)?;
        let program = about["program"].as_str().unwrap_or_default();
        if !["gru_cell", "gru"].contains(&program) || about["result"] == "invalid" {
            continue;
        }
        let layers = about["config"]["num_layers"].as_u64().unwrap_or(1).try_into()?;
        let outputs = run(program, layers, &SafeTensors::deserialize(&bytes)?, &device)?;
        let bytes = |array: &Array| array.values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let bytes: Vec<Vec<u8>> = outputs.iter().map(|(_, array)| bytes(array)).collect();
        let views = outputs.iter().zip(&bytes).map(|((name, array), bytes)| {
            Ok((name.as_str(), TensorView::new(Dtype::F32, array.shape.clone(), bytes)?))
        });
        let views: HashMap<&str, TensorView> = views.collect::<Result<_>>()?;
        let name = path.file_name().ok_or("no file name")?;
        println!("{}: {}", name.display(), outputs.iter().map(|o| o.0.as_str()).collect::<Vec<_>>().join(" "));
        serialize_to_file(views, None, &Path::new(out).join(name))?;
    }
    Ok(())
}
