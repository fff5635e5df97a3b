//! Every form that PyTorch wrote, files that ask for more, and files with wrong bytes.

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use ndarray::ArrayD;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::super::TensorFile;
use super::objects::Value;
use super::pickle;
use crate::error::Result;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/weights").join(name)
}

fn open(name: &str) -> TensorFile {
    TensorFile::read(&fixture(name)).unwrap()
}

/// Writes bytes into a file of this name and opens it.
fn read_bytes(name: &str, bytes: &[u8]) -> Result<TensorFile> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    TensorFile::read(&path)
}

/// The message, from the file's name on.
fn message<T>(result: Result<T>, name: &str) -> String {
    let message = result.err().unwrap().to_string();
    message[message.find(name).unwrap()..].to_owned()
}

fn bits(tensor: &ArrayD<f64>) -> Vec<u64> {
    tensor.iter().map(|x| x.to_bits()).collect()
}

/// The same names, types, shapes and numbers; `left_out` is not in the first file.
fn assert_same(found: &TensorFile, expected: &TensorFile, left_out: &[&str]) {
    let names: Vec<&str> = expected.names().filter(|name| !left_out.contains(name)).collect();
    assert_eq!(found.names().collect::<Vec<_>>(), names);
    for name in names {
        let about = format!("{}: {name}", found.path().display());
        assert_eq!(found.element_type(name).unwrap(), expected.element_type(name).unwrap(), "{about}");
        assert_eq!(found.shape(name).unwrap(), expected.shape(name).unwrap(), "{about}");
        assert_eq!(bits(&found.get(name).unwrap()), bits(&expected.get(name).unwrap()), "{about}");
    }
}

#[test]
fn every_form_holds_the_same_tensors() {
    let expected = open("expected.safetensors");
    for name in ["zip.pth", "protocol_1.pth", "protocol_4.pth", "big_endian.pth"] {
        assert_same(&open(name), &expected, &[]);
    }
    assert_same(&open("legacy.pth"), &expected, &["types.9"]);
    assert_same(&open("python_2.pth.tar"), &open("python_2.safetensors"), &[]);
}

#[test]
fn weights_are_read_as_from_other_files() {
    for name in ["zip.pth", "legacy.pth", "big_endian.pth"] {
        let file = open(name);
        let turned = file.weights("views.turned", &[2, 3, 4]).unwrap();
        assert_eq!(turned[[1, 2, 3]], file.weights("views.whole", &[3, 4, 2]).unwrap()[[2, 3, 1]]);
        assert_eq!(file.weights("types.1", &[3]).unwrap().as_slice().unwrap(), [-0.625, -0.5, -0.375]);
        let problem = message(file.weights("views.turned", &[3, 4, 2]), name);
        assert_eq!(problem, format!("{name}: views.turned: expected shape [3, 4, 2], found [2, 3, 4]"));
        let problem = message(file.weights("state_dict.1.num_batches_tracked", &[]), name);
        assert!(problem.ends_with("state_dict.1.num_batches_tracked: expected floating-point numbers, found I64"));
        let problem = message(file.get("conv1.weight"), name);
        assert!(problem.contains("expected a tensor conv1.weight, found only: optimizer.state.0.step, parameter, "));
    }
}

#[test]
fn a_name_that_is_not_known_is_refused_by_name() {
    let why = "it asks for posix.system, which is not read: only tensors, dictionaries, lists and plain values are. \
               Nothing in the file was executed";
    let found = message(TensorFile::read(&fixture("refused.pth")), "refused.pth");
    assert_eq!(found, format!("refused.pth: not a PyTorch file that can be read: archive/data.pkl: byte 174: {why}"));
    let found = message(TensorFile::read(&fixture("refused.legacy.pth")), "refused.legacy.pth");
    assert!(found.starts_with("refused.legacy.pth: not a PyTorch file that can be read: byte 3"), "{found}");
    assert!(found.ends_with(why), "{found}");
    // As the first pickle of a file, by the opcodes of protocol 4, and as an instance of a class.
    let cases: [&[u8]; 3] = [
        b"\x80\x02cposix\nsystem\nU\x04true\x85R.",
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.",
        b"\x80\x02(iposix\nsystem\n.",
    ];
    for bytes in cases {
        let found = message(read_bytes("a.pth", bytes), "a.pth");
        assert!(found.contains(why), "{found}");
    }
    let endless = [b"\x80\x02c\x1b[31m", &b"x".repeat(1000)[..], b"\nb\n."].concat();
    let found = message(read_bytes("a.pth", &endless), "a.pth");
    assert!(found.contains("asks for \\u001b[31mxxx") && found.len() < 400, "{found}");
}

/// What the machine says about a pickle.
fn problem(bytes: &[u8]) -> String {
    pickle::read(bytes, 0).unwrap_err()
}

#[test]
fn a_pickle_takes_little_memory_and_no_stack() {
    // A million lists within each other.
    let deep = [&b"]".repeat(500_000)[..], &b"a".repeat(499_999), b"."].concat();
    assert!(matches!(pickle::read(&deep, 0).unwrap().root, Value::List(_)));
    let deep = [&b")"[..], &b"\x85".repeat(900_000), b"."].concat();
    assert!(matches!(pickle::read(&deep, 0).unwrap().root, Value::Tuple(_)));
    let endless = b"N".repeat(1 << 21);
    assert_eq!(problem(&endless), "expected a pickle of at most 1048576 steps, found more");
    // Lengths and memo numbers that are not there.
    for bytes in
        [&b"\x8b\xff\xff\xff\xffx"[..], b"X\xff\xff\xff\x7fx", b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffx", b"cposix"]
    {
        assert_eq!(problem(bytes), "byte 0: the pickle ends too early");
    }
    assert_eq!(problem(b"j\xff\xff\xff\xff."), "byte 0: expected a value in memo 4294967295, found none");
    assert_eq!(problem(b"K\x070."), "byte 2: found opcode 0x30, which torch.save does not write");
    assert_eq!(pickle::read(b"K\x07r\xff\xff\xff\xff.", 0).unwrap().root, Value::Int(7));
    // A dictionary that is built with itself, again and again: it must not double.
    let double = [&b"}q\0(K\x01Nu"[..], &b"h\0b".repeat(100_000), b"."].concat();
    let pickled = pickle::read(&double, 0).unwrap();
    assert_eq!(pickled.heap.lists[0].len(), 2);
    // A list of pairs that many dictionaries are made of: it must not be copied.
    let pairs = [&b"]q\0("[..], &b"(NNl".repeat(1000), b"e"].concat();
    let many = [&pairs[..], b"(", &b"ccollections\nOrderedDict\nh\0\x85R".repeat(1000), b"t\x86."].concat();
    let lists = pickle::read(&many, 0).unwrap().heap.lists;
    assert!(lists.iter().map(Vec::len).sum::<usize>() < 10_000);
}

#[test]
fn wrong_pickles_are_refused() {
    let cases: [(&[u8], &str); 14] = [
        (b"", "the pickle ends too early"),
        (b"\x80\x06.", "expected a pickle of protocol 5 at most, found 6"),
        (b".", "expected a value on the stack, found none"),
        (b"NN.", "it stops in the middle of a value"),
        (b"(N.", "it stops in the middle of a value"),
        (b"N(\x85", "expected a value on the stack, found none"),
        (b"t", "expected a mark, found none"),
        (b"}Na", "expected a list, or a dictionary and pairs"),
        (b"}(Nu", "expected a list, or a dictionary and pairs"),
        (b"NNR", "expected a name to call"),
        (b"N]b", "expected a Namespace or an OrderedDict, and its attributes"),
        (b"ctorch\nFloatStorage\n)R", "a storage's type is not called"),
        (b"(U\x07storageNNNNtQ", "expected a storage: its type, key, device and length"),
        (b"NQ", "expected a storage: its type, key, device and length"),
    ];
    for (bytes, expected) in cases {
        let found = problem(bytes);
        assert!(found.ends_with(expected), "{bytes:?}: {found}");
    }
    let id = |view: &str| format!("(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x04{view}tQ");
    assert!(problem(id("(K\x01K\x02t").as_bytes()).contains("a part of another storage"));
    let tensor = |arguments: &str| format!("ctorch._utils\n_rebuild_tensor\n({}{arguments}tR.", id("N"));
    assert!(pickle::read(tensor("K\0(K\x02t(K\x01t").as_bytes(), 0).is_ok());
    for arguments in ["J\u{7f}\u{7f}\u{7f}\0N(K\x01t", "K\0(Nt(K\x01t", "K\0K\x02K\x01", "K\0"] {
        let found = problem(tensor(arguments).as_bytes());
        assert!(found.contains("_rebuild_tensor: expected"), "{found}");
    }
}

/// A file of the old format: one storage of four numbers, and this pickle of the object, in which `S` is the
/// storage and `T` makes a tensor.
fn legacy(object: &str) -> Vec<u8> {
    let storage = "(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x04NtQ";
    let object = object.replace('S', storage).replace('T', "ctorch._utils\n_rebuild_tensor\n");
    let numbers = [1.0f32, 2.0, 3.0, 4.0].map(f32::to_le_bytes).concat();
    let head = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.";
    [&head[..], object.as_bytes(), b"](U\x010e.", &4u64.to_le_bytes(), &numbers].concat()
}

#[test]
fn a_tensor_stays_within_its_storage() {
    let read = |view: &str| {
        let file = read_bytes("a.pth", &legacy(&format!("T(S{view}tR."))).unwrap();
        assert_eq!(file.names().collect::<Vec<_>>(), ["tensor"]);
        file.get("tensor").map(|tensor| tensor.iter().copied().collect::<Vec<f64>>())
    };
    assert_eq!(read("K\0(K\x02K\x02t(K\x02K\x01t").unwrap(), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(read("K\0(K\x02K\x02t(K\x01K\x02t").unwrap(), [1.0, 3.0, 2.0, 4.0]);
    assert_eq!(read("K\x01(K\x02t(K\x02t").unwrap(), [2.0, 4.0]);
    assert_eq!(read("K\x03))").unwrap(), [4.0]);
    assert_eq!(read("K\x09(K\0K\x03t(K\x01K\x01t").unwrap(), [0.0; 0]);
    // The stride of an axis of length 1 says nothing.
    assert_eq!(read("K\x02(K\x01K\x02t(K\x63K\x01t").unwrap(), [3.0, 4.0]);
    assert_eq!(read("K\x01(K\x03t(K\0t").unwrap(), [2.0, 2.0, 2.0]);
    let few = "its storage has 4 numbers, too few for shape ";
    for (view, problem) in [
        ("K\x01(K\x04t(K\x01t", format!("{few}[4] with strides [1] from number 1 on")),
        ("K\0(K\x03t(K\x02t", format!("{few}[3] with strides [2] from number 0 on")),
        ("K\0(K\x05t(K\0t", "expected at most 4 numbers, as in its storage, found shape [5]".into()),
        ("K\0(K\x02t)", "expected a stride for each axis of [2], found []".into()),
        ("K\0(J\0\0\0\x7fJ\0\0\0\x7fJ\0\0\0\x7fK\0t(K\0K\0K\0K\0t", "no array can have the shape [2130706432, ".into()),
    ] {
        let found = message(read(view), "a.pth");
        assert!(found.starts_with(&format!("a.pth: tensor: {problem}")), "{found}");
    }
}

#[test]
fn names_are_flat() {
    let names = |object: &str| {
        let tensor = "T(SK\0(K\x01t(K\x01ttR";
        read_bytes("a.pth", &legacy(&object.replace('W', tensor)))
    };
    let found = |object: &str| names(object).unwrap().names().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(found("](N](WWee."), ["1.0", "1.1"]);
    assert_eq!(found("}(U\x01a(N}(K\x05WNWutu."), ["a.1.5"]);
    let twice = names("}(K\x01WU\x011Wu.").unwrap();
    assert_eq!(message(twice.get("1"), "a.pth"), "a.pth: 1: several tensors have this name");
    // A list that holds itself, and one that holds another twice, which holds another twice, …
    let own = message(names("]q\0(Wh\0e."), "a.pth");
    assert!(own.ends_with("expected at most 64 dictionaries and lists within each other"), "{own}");
    let level = |n: u8| format!("](h{0}h{0}eq{1}", char::from(n - 1), char::from(n));
    let levels = (1..60).map(level).collect::<Vec<_>>().concat();
    let bomb = message(names(&format!("](](NNeq\0{levels}We.")), "a.pth");
    assert!(bomb.ends_with("expected at most 1048576 values"), "{bomb}");
    let long = message(names(&format!("}}(X\0\x04\0\0{}Wu.", "x".repeat(1024))), "a.pth");
    assert!(long.ends_with("expected names of at most 1024 bytes"), "{long}");
}

#[test]
fn old_files_are_read_to_their_end() {
    let right = legacy("T(SK\0(K\x04t(K\x01ttR.");
    for cut in 0..right.len() {
        let found = read_bytes("a.pth", &right[..cut]).err().map(|e| e.to_string());
        assert!(found.is_some(), "{cut} of {} bytes", right.len());
    }
    let problem =
        |bytes: &[u8]| message(read_bytes("a.pth", bytes), "a.pth").split(": ").skip(2).collect::<Vec<_>>().join(": ");
    assert_eq!(
        problem(&[&right[..], b"x"].concat()),
        "expected the end of the file after its numbers, found 1 more byte(s)"
    );
    assert_eq!(problem(&right[..right.len() - 1]), "storage 0: expected 4 numbers of 4 bytes, found 15 bytes");
    let count = right.len() - 24;
    let mut bytes = right.clone();
    bytes[count + 7] = 0xff;
    assert!(problem(&bytes).starts_with("storage 0: expected 18374686479671623684 numbers of 4 bytes, found 16 bytes"));
    // A shorter storage than the tensor's, at the end of the file.
    let mut bytes = right[..right.len() - 4].to_vec();
    bytes[count] = 3;
    let found = message(read_bytes("a.pth", &bytes).unwrap().get("tensor"), "a.pth");
    assert_eq!(found, "a.pth: tensor: expected 4 numbers in its storage, found 3");
    let mut tar = vec![0; 512];
    tar[257..262].copy_from_slice(b"ustar");
    assert!(problem(&tar).starts_with("it is a tar archive"));
    assert_eq!(problem(b"\x80\x02}."), "it is a Python pickle that torch.save did not write");
}

/// No byte of a small file makes the reader panic, and a wrong byte among the numbers of an archive is noticed.
#[test]
fn wrong_bytes_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pth");
    let read = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let file = TensorFile::read(&path)?;
        let names: Vec<&str> = file.names().collect();
        names.iter().map(|name| file.get(name)).collect::<Result<Vec<_>>>()
    };
    for name in ["zip.pth", "legacy.pth", "python_2.pth.tar"] {
        let right = std::fs::read(fixture(name)).unwrap();
        let expected = read(&right).unwrap();
        let mut unnoticed = 0;
        for at in (0..right.len()).step_by(5) {
            let mut bytes = right.clone();
            bytes[at] ^= [1, 0x80, 0xff, 0x20][at % 4];
            unnoticed += usize::from(read(&bytes).is_ok_and(|found| found != expected));
            assert!(at % 3 > 0 || read(&right[..at]).is_err(), "{name}: {at} of {} bytes", right.len());
        }
        // The old format has no checksums.
        assert!(name.starts_with("legacy") || name.starts_with("python") || unnoticed == 0, "{name}: {unnoticed}");
    }
}

#[test]
fn the_entries_of_an_archive_fit_its_pickle() {
    let pickle = b"ctorch._utils\n_rebuild_tensor\n((U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x02tQK\0(K\x02t(K\x01ttR.";
    let read = |entries: &[(&str, &[u8])], method| {
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in entries {
            archive.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
            archive.write_all(bytes).unwrap();
        }
        let file = read_bytes("a.pth", &archive.finish().unwrap().into_inner())?;
        Ok(file.get("tensor")?.into_raw_vec_and_offset().0)
    };
    let numbers = [1.0f32, 2.0].map(f32::to_le_bytes).concat();
    let (pkl, data) = (("x/data.pkl", &pickle[..]), ("x/data/0", &numbers[..]));
    let stored = CompressionMethod::Stored;
    assert_eq!(read(&[pkl, data], stored).unwrap(), [1.0, 2.0]);
    let problem = |entries: &[(&str, &[u8])], method| message(read(entries, method), "a.pth");
    assert_eq!(problem(&[pkl], stored), "a.pth: tensor: its numbers are missing: there is no entry x/data/0");
    let short = problem(&[pkl, ("x/data/0", &numbers[..7])], stored);
    assert_eq!(short, "a.pth: tensor: expected 2 numbers in the entry x/data/0, found 7 bytes");
    let packed = problem(&[pkl, data], CompressionMethod::Deflated);
    assert_eq!(packed, "a.pth: tensor: expected an entry that is not compressed, found x/data/0 to be");
    let order = problem(&[pkl, data, ("x/byteorder", b"middle")], stored);
    assert!(order.ends_with("x/byteorder: expected little or big, found middle"), "{order}");
}

/// Trained weights and checkpoints, which are not part of this repository.
fn shared() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/pictures/weights");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: {} does not exist", folder.display());
    None
}

#[test]
fn the_shared_weights_are_read() {
    let Some(folder) = shared() else { return };
    let open = |name: &str| TensorFile::read(&folder.join(name)).unwrap();
    let tiny = open("tiny_resnet.safetensors");
    assert_eq!(tiny.names().count(), 122);
    for name in ["tiny_resnet.zip.pth", "tiny_resnet.legacy.pth", "tiny_resnet.views.pth"] {
        assert_same(&open(name), &tiny, &[]);
    }
    let rounded = open("tiny_resnet.bf16.safetensors");
    for name in tiny.names().filter(|name| !name.ends_with("num_batches_tracked")) {
        let shape = tiny.shape(name).unwrap();
        let expected = tiny.weights(name, &shape).unwrap().mapv(|x| half::bf16::from_f32(x).to_f32());
        assert_eq!(rounded.weights(name, &shape).unwrap(), expected, "{name}");
    }
    // The original's checkpoints: the same CNN, and the layers that follow it.
    let (old, new) = (open("original_checkpoint.2017.pth.tar"), open("original_checkpoint.zip.pth.tar"));
    assert_same(&old, &new, &[]);
    assert_eq!(old.names().count(), 107);
    for name in tiny.names().filter(|name| !name.ends_with("num_batches_tracked") && !name.starts_with("fc.")) {
        let found = old.get(&format!("model.0.cnn.module.{name}")).unwrap();
        assert_eq!(bits(&found), bits(&tiny.get(name).unwrap()), "{name}");
    }
    for name in ["model.0.fc.weight", "model.0.fc.bias", "model.1.embed.weight", "model.1.rnn.weight_ih_l0"] {
        assert!(old.names().any(|found| found == name), "{name}");
    }
    // What PyTorch gives.
    let resnet = open("resnet20_cifar10.legacy.pth");
    assert_eq!(resnet.names().count(), 97);
    let conv1 = resnet.weights("state_dict.module.conv1.weight", &[16, 3, 3, 3]).unwrap();
    assert_eq!(conv1.as_slice().unwrap()[..3], [-0.138_181_46, -0.162_417_68, 0.820_738_3]);
    let linear = resnet.get_shaped("state_dict.module.linear.weight", &[10, 64]).unwrap();
    assert!((linear.sum() - -0.045_627_388_637_512_92).abs() < 1e-12);
    for name in ["refused_global.pth", "refused_global.legacy.pth"] {
        let found = message(TensorFile::read(&folder.join(name)), name);
        assert!(found.contains("it asks for posix.system, which is not read"), "{found}");
    }
}
