//! Weights from files of other programs: what the encoders give with the trained weights of `../shared/data/pictures`,
//! and what is said about files that do not fit. Whole models from the original's checkpoints, too.

mod tensors;

use std::path::{Path, PathBuf};

use ndarray::{Array2, Array4, ArrayD, Axis};
use ndarray_npy::read_npy;
use vsepp::model::{Architecture, Encoder, Network, Vse};
use vsepp::nn::Module;
use vsepp::similarity::Measure;
use vsepp::train::{read_encoder, read_parameters};

use tensors::Tensors;

fn network(text: &str) -> Network {
    text.parse().expect("a network")
}

fn weights() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/pictures/weights");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: ../shared/data/pictures/weights does not exist");
    None
}

/// [N, 3, Y, X] of bytes: divided by 255, less the mean, divided by the deviation.
fn normalised(bytes: &Array4<u8>) -> Array4<f32> {
    let (mean, deviation) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    let mut x = bytes.mapv(f32::from);
    for (c, mut x) in x.axis_iter_mut(Axis(1)).enumerate() {
        x.mapv_inplace(|x| (x / 255.0 - mean[c]) / deviation[c]);
    }
    x
}

/// The largest difference over the largest expected number.
fn error(found: &Array2<f32>, expected: &Array2<f64>) -> f64 {
    assert_eq!(found.dim(), expected.dim());
    let largest = |x: &Array2<f64>| x.iter().fold(0.0, |m: f64, x| if x.is_nan() { f64::NAN } else { m.max(x.abs()) });
    largest(&(found.mapv(f64::from) - expected)) / largest(expected)
}

/// The weights of half width, which are bytes with a scale for each output, as torchvision has them.
fn expanded(path: &Path) -> Vec<u8> {
    let (file, mut all) = (Tensors::read(path), Tensors::default());
    for name in file.names() {
        let values = file.get(name);
        #[allow(clippy::cast_possible_truncation)] // from single precision
        let single = |x: ArrayD<f64>| x.mapv(|x| x as f32);
        if let Some(plain) = name.strip_suffix(".q") {
            let (mut numbers, scale) = (single(values), single(file.get(&format!("{plain}.scale"))));
            for (mut row, scale) in numbers.outer_iter_mut().zip(scale) {
                row.mapv_inplace(|x| x * scale);
            }
            all.add(plain, numbers);
        } else if name.strip_suffix(".scale").is_none() {
            all.add(name, single(values));
        }
    }
    all.to_safetensors(None)
}

/// `f32` PyTorch is within 5e-7 of these.
const TOLERANCE: f64 = 1e-5;

#[test]
fn trained_weights_give_the_features_of_pytorch() {
    let Some(folder) = weights() else { return };
    let expected = |name: &str| -> Array2<f64> { read_npy(folder.join("expected").join(name)).expect("an array") };
    let bytes = |name: &str| -> Array4<u8> { read_npy(folder.join("expected").join(name)).expect("an array") };
    let channels_first = |x: Array4<u8>| x.permuted_axes([0, 3, 1, 2]).as_standard_layout().into_owned();

    let scratch = tempfile::tempdir().expect("a folder");
    let half = scratch.path().join("half.safetensors");
    std::fs::write(&half, expanded(&folder.join("resnet50_half.int8.safetensors"))).expect("written");
    let encoder = read_encoder(network("resnet50,planes=32-64-128-256,first=64,stride=1x1"), &half).expect("it fits");
    let found = encoder.embed(normalised(&channels_first(bytes("input224_u8.npy"))).view()).expect("a picture");
    let first = expected("resnet50_half_pool.npy").slice(ndarray::s![..1, ..]).to_owned();
    let half_error = error(&found, &first);

    let encoder = read_encoder(network("resnet20"), &folder.join("resnet20_cifar10.legacy.pth")).expect("it fits");
    let found = encoder.embed(normalised(&channels_first(bytes("input32_u8.npy"))).view()).expect("pictures");
    let resnet20_error = error(&found, &expected("resnet20_legacy_f32_pool.npy"));
    println!("ResNet-50 of half width: {half_error:.1e}; ResNet-20: {resnet20_error:.1e}");
    assert!(half_error <= TOLERANCE && resnet20_error <= TOLERANCE);
}

#[test]
fn a_network_is_the_same_in_every_form_of_its_file() {
    let Some(folder) = weights() else { return };
    let tiny = |name: &str| read_encoder(network("resnet18,planes=4-6-8-10"), &folder.join(name)).expect("it fits");
    let plain = tiny("tiny_resnet.safetensors");
    for name in [
        "tiny_resnet.zip.pth",
        "tiny_resnet.legacy.pth",
        "tiny_resnet.views.pth",
        "original_checkpoint.2017.pth.tar",
        "original_checkpoint.zip.pth.tar",
    ] {
        assert_eq!(tiny(name), plain, "{name}");
    }
    let x = normalised(&read_npy(folder.join("expected/tiny_input_u8.npy")).expect("an array"));
    let expected: Array2<f64> = read_npy(folder.join("expected/tiny_pool.npy")).expect("an array");
    let found = error(&plain.embed(x.view()).expect("pictures"), &expected);
    println!("tiny ResNet: {found:.1e}");
    assert!(found <= TOLERANCE);

    // bf16 has the first half of the bits, rounded to the nearest, ties to even.
    let mut rounded = plain.clone();
    rounded.each_mut(|_, _, mut x| {
        x.mapv_inplace(|x| f32::from_bits((x.to_bits() + 0x7fff + (x.to_bits() >> 16 & 1)) & 0xffff_0000));
    });
    assert_eq!(tiny("tiny_resnet.bf16.safetensors"), rounded);
}

fn architecture(text: &str, [vocab_size, word_dim, embed_size]: [usize; 3]) -> Architecture {
    Architecture {
        encoder: Some(network(text)),
        vocab_size,
        img_dim: network(text).features(),
        word_dim,
        hidden_size: embed_size,
        embed_size,
        num_layers: 1,
        caption_projection: false,
        measure: Measure::Cosine,
        use_abs: false,
        no_imgnorm: false,
    }
}

#[test]
fn the_originals_checkpoints_give_the_joint_embeddings_of_pytorch() {
    let Some(folder) = weights() else { return };
    let architecture = architecture("resnet18,planes=4-6-8-10", [11, 5, 6]);
    let x = normalised(&read_npy(folder.join("expected/tiny_input_u8.npy")).expect("an array"));
    let expected: Array2<f64> = read_npy(folder.join("expected/tiny_embedding.npy")).expect("an array");
    for name in ["original_checkpoint.2017.pth.tar", "original_checkpoint.zip.pth.tar"] {
        let parameters = read_parameters(&architecture, &folder.join(name)).expect("it fits");
        let model = Vse::new(architecture, parameters).expect("it fits");
        let phi = model.encode_pictures(x.view()).expect("pictures");
        let found = error(&model.embed_images(phi.view()).expect("features"), &expected);
        println!("{name}: joint embeddings {found:.1e}");
        assert!(found <= TOLERANCE);
    }
}

/// A tensor's name in a checkpoint of the original.
fn original_name(name: &str) -> String {
    let sides = [("img_enc.cnn.", "model.0.cnn.module."), ("img_enc.", "model.0."), ("txt_enc.", "model.1.")];
    let (own, original) = sides.iter().find(|(own, _)| name.starts_with(own)).expect("one of the sides");
    name.replacen(own, original, 1)
}

#[test]
fn a_whole_model_is_read_from_a_checkpoint_of_the_original() {
    let scratch = tempfile::tempdir().expect("a folder");
    let path = scratch.path().join("model_best.pth.tar");
    let architecture = architecture("resnet18,planes=2-2-2-2", [7, 3, 4]);
    let model = Vse::<f32>::init(architecture, 1);
    let mut all = Tensors::default();
    for (name, numbers) in model.parameters.tensors() {
        all.add(&original_name(&name), numbers);
    }
    all.add("model.0.cnn.module.bn1.num_batches_tracked", ndarray::arr0(25i64));
    for bytes in [all.to_pytorch(), all.to_old_pytorch(), all.to_safetensors(None)] {
        std::fs::write(&path, bytes).expect("written");
        assert_eq!(read_parameters(&architecture, &path).expect("it fits"), model.parameters);
    }

    let message = |architecture: &Architecture, change: &dyn Fn(&mut Tensors)| {
        let mut spoiled = all.clone();
        change(&mut spoiled);
        std::fs::write(&path, spoiled.to_pytorch()).expect("written");
        read_parameters(architecture, &path).expect_err("it does not fit").to_string()
    };
    let found = message(&Architecture { encoder: None, ..architecture }, &|_| ());
    assert!(found.ends_with("model.0.cnn.module.bn1.bias: the architecture has no such tensor"), "{found}");
    let found = message(&Architecture { img_dim: 5, ..architecture }, &|_| ());
    assert_eq!(found, "img_dim = 5: expected 2, as resnet18,planes=2-2-2-2 gives");
    let found = message(&architecture, &|all| all.remove("model.0.cnn.module.layer3.1.bn2.running_var"));
    assert!(found.contains("expected a tensor img_enc.cnn.layer3.1.bn2.running_var"), "{found}");
    let found = message(&architecture, &|all| all.add("model.0.cnn.bn1.bias", ndarray::array![0.0f32, 0.0]));
    let expected =
        "expected one tensor img_enc.cnn.bn1.bias, found model.0.cnn.bn1.bias and model.0.cnn.module.bn1.bias";
    assert!(found.ends_with(expected), "{found}");
}

#[test]
fn a_pickle_that_asks_for_something_else_is_refused_by_name() {
    let Some(folder) = weights() else { return };
    for name in ["refused_global.pth", "refused_global.legacy.pth"] {
        let message = read_encoder(network("resnet18"), &folder.join(name)).expect_err("refused").to_string();
        assert!(message.contains("posix.system"), "{message}");
    }
}

fn file(encoder: &Encoder<f32>, rename: impl Fn(&str) -> Vec<String>) -> Tensors {
    let mut all = Tensors::default();
    for (name, numbers) in encoder.tensors() {
        for name in rename(&name) {
            all.add(&name, numbers.clone());
        }
    }
    all
}

fn random(text: &str) -> Encoder<f32> {
    let mut encoder = Encoder::zeros(network(text));
    encoder.init(1);
    encoder
}

#[test]
fn names_are_found_below_any_prefix() {
    let scratch = tempfile::tempdir().expect("a folder");
    let path = scratch.path().join("a.safetensors");
    let read = |text: &str, rename: &dyn Fn(&str) -> String| {
        let encoder = random(text);
        file(&encoder, |name| vec![rename(name)]).write(&path);
        assert_eq!(read_encoder(network(text), &path).expect("it fits"), encoder);
    };
    let (vgg, resnet) = ("vgg19,planes=1-1-1-1-1", "resnet18,planes=2-2-2-2");
    for text in [vgg, resnet] {
        read(text, &str::to_owned);
        read(text, &|name| format!("state_dict.module.{name}"));
        read(text, &|name| format!("model.0.cnn.module.{name}"));
    }
    read(vgg, &|name| format!("model.0.cnn.{}", name.replace("features.", "features.module.")));
    read(vgg, &|name| name.replace("classifier.3.", "classifier.4.").replace("classifier.0.", "classifier.1."));
    // Other things in the file, and the last layer.
    let encoder = random(resnet);
    let mut all = file(&encoder, |name| vec![format!("cnn.{name}")]);
    for name in ["cnn.fc.weight", "cnn.bn1.num_batches_tracked", "fc.weight", "embed.weight"] {
        all.add(name, ndarray::array![1.0f32]);
    }
    all.write(&path);
    assert_eq!(read_encoder(network(resnet), &path).expect("it fits"), encoder);
}

#[test]
fn what_does_not_fit_is_named() {
    let scratch = tempfile::tempdir().expect("a folder");
    let path = scratch.path().join("a.safetensors");
    let small = random("resnet18,planes=2-2-2-2");
    let message = |tensors: &Tensors, text: &str| {
        tensors.write(&path);
        read_encoder(network(text), &path).expect_err("it does not fit").to_string()
    };
    let plain = || file(&small, |name| vec![name.to_owned()]);
    let found = message(&plain(), "resnet18,planes=2-3-3-3");
    assert!(found.ends_with("layer2.0.conv1.weight: expected shape [3, 2, 3, 3], found [2, 2, 3, 3]"), "{found}");
    let mut without = plain();
    without.remove("layer3.1.bn2.running_var");
    let found = message(&without, "resnet18,planes=2-2-2-2");
    assert!(found.contains("expected a tensor layer3.1.bn2.running_var, found only: bn1.bias, "), "{found}");
    let mut more = plain();
    more.add("layer1.2.conv1.weight", ndarray::array![1.0f32]);
    let found = message(&more, "resnet18,planes=2-2-2-2");
    let expected =
        "expected the tensors of resnet18,planes=2-2-2-2, found layer1.2.conv1.weight too, which it does not have";
    assert!(found.ends_with(expected), "{found}");
    let found = message(&plain(), "vgg19,planes=1-1-1-1-1");
    assert!(found.contains("expected a tensor features.0.weight, found only: bn1.bias, "), "{found}");
    let mut spoiled = plain();
    spoiled.add("bn1.bias", ndarray::array![f32::NAN, 1.0]);
    let found = message(&spoiled, "resnet18,planes=2-2-2-2");
    assert!(found.ends_with("bn1.bias: NaN at [0]: every value must be finite"), "{found}");
}
