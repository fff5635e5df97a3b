//! Finds the files of a split in a folder. If they are missing, says what the folder holds instead.

use std::ffi::OsStr;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::escape;
use crate::files::{Kind, start_of};

/// The files of one split.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Files {
    pub(super) captions: PathBuf,
    pub(super) features: PathBuf,
    /// The id of each row, if there is such a file.
    pub(super) ids: Option<PathBuf>,
    pub(super) notes: Vec<String>,
}

/// Names that mean the same split. The first is this program's.
pub(super) const DEV: [&str; 4] = ["dev", "val", "valid", "validation"];

/// Types of feature files that can be read. The first that is found is used.
const READ: [&str; 3] = ["npy", "npz", "safetensors"];

impl Files {
    /// The files of a split in a folder.
    ///
    /// # Errors
    ///
    /// If they are not all there; the message says what the folder holds.
    pub(super) fn find(folder: &Path, split: &str) -> Result<Self> {
        check_folder(folder)?;
        let names = names_of(split);
        let complete: Vec<(&str, Self)> =
            names.iter().filter_map(|&name| Some((name, Self::complete(folder, name)?))).collect();
        let Some((name, mut files)) = complete.first().cloned() else {
            return Err(missing(folder, split, &names));
        };
        if name != split {
            files.notes.push(format!("{split}: read from {name}, which is another name of it"));
        }
        if let Some((other, _)) = complete.get(1) {
            files.notes.push(format!("{split}: {name} and {other} are both there, {other} is not used"));
        }
        Ok(files)
    }

    /// The files of this very name, if both captions and features are there.
    fn complete(folder: &Path, name: &str) -> Option<Self> {
        let ids = Some(folder.join(format!("{name}_ids.txt"))).filter(|path| path.exists());
        let captions = folder.join(format!("{name}_caps.txt"));
        let features: Vec<PathBuf> = features_of(folder, name, &READ);
        let mut notes = Vec::new();
        if let (true, Some(first)) = (captions.exists(), features.first()) {
            if let Some(other) = features.get(1) {
                notes.push(format!("{name}: {} is read, {} is not", file_name(first), file_name(other)));
            }
            return Some(Self { captions, features: first.clone(), ids, notes });
        }
        // An older layout, from which the original's features come.
        let captions = folder.join(format!("{name}.txt"));
        let features = folder.join("images/10crop").join(format!("{name}.npy"));
        (captions.exists() && features.exists()).then(|| {
            notes.push(format!("{name}: read from {name}.txt and images/10crop/{name}.npy, an older layout"));
            Self { captions, features, ids, notes }
        })
    }
}

/// Whether a split is there, or a part of it.
pub(super) fn has(folder: &Path, split: &str) -> bool {
    names_of(split).iter().any(|name| is_begun(folder, name) || Files::complete(folder, name).is_some())
}

/// The names of the complete splits in a folder.
pub(super) fn splits(folder: &Path) -> Vec<String> {
    let entries = entries(folder);
    let stems = entries.iter().filter_map(|name| name.strip_suffix("_caps.txt").or_else(|| name.strip_suffix(".txt")));
    stems.filter(|stem| Files::complete(folder, stem).is_some()).map(str::to_owned).collect()
}

fn names_of(split: &str) -> Vec<&str> {
    let mut names = vec![split];
    if DEV.contains(&split) {
        names.extend(DEV.iter().filter(|&&name| name != split));
    }
    names
}

/// Whether at least one of the split's files is there.
fn is_begun(folder: &Path, name: &str) -> bool {
    folder.join(format!("{name}_caps.txt")).exists() || !features_of(folder, name, &[]).is_empty()
}

/// The files `{name}_ims.*` with the given endings, in their order; without endings, all of them in
/// alphabetical order.
fn features_of(folder: &Path, name: &str, endings: &[&str]) -> Vec<PathBuf> {
    if endings.is_empty() {
        let start = format!("{name}_ims.");
        return entries(folder).iter().filter(|entry| entry.starts_with(&start)).map(|e| folder.join(e)).collect();
    }
    let paths = endings.iter().map(|ending| folder.join(format!("{name}_ims.{ending}")));
    paths.filter(|path| path.exists()).collect()
}

fn check_folder(folder: &Path) -> Result<()> {
    match std::fs::metadata(folder) {
        Err(error) => Err(Error::io(folder, "read", error)),
        Ok(about) if about.is_dir() => Ok(()),
        Ok(_) => {
            let mut problem = "expected a folder of data, found a file".to_owned();
            let name = file_name(folder);
            if let Some(what) = folder.parent().and_then(|above| layout(above, &[name])) {
                problem += ". ";
                problem += &what;
            } else if let Some(parent) = folder.parent().filter(|parent| !splits(parent).is_empty()) {
                let _ = write!(problem, "; did you mean the folder that it is in, {}?", shown(parent));
            } else {
                let _ = write!(problem, ". {EXPECTED}");
            }
            Err(Error::file(folder, problem))
        }
    }
}

const EXPECTED: &str = "A folder of data holds, for train, dev and test, {split}_ims.npy (image features, one row \
                        per image) and {split}_caps.txt (captions, one per line)";

/// The error for a split that is missing: what is there instead.
fn missing(folder: &Path, split: &str, names: &[&str]) -> Error {
    // If one of the two files is there, name the other.
    if let Some(name) = names.iter().find(|name| is_begun(folder, name)) {
        let captions = folder.join(format!("{name}_caps.txt"));
        let features = features_of(folder, name, &[]);
        if captions.exists() {
            let path = folder.join(format!("{name}_ims.npy"));
            return match features.first() {
                None => Error::file(
                    &path,
                    format!("cannot read: no such file, but {name}_caps.txt is there. {}", list(folder)),
                ),
                Some(other) => Error::file(other, unread(name, other)),
            };
        }
        let problem = format!("cannot read: no such file, but {} is there. {}", file_name(&features[0]), list(folder));
        return Error::file(&captions, problem);
    }
    let found = splits(folder);
    let mut problem = format!("no split {split}: expected {split}_ims.npy and {split}_caps.txt");
    if !found.is_empty() {
        let _ = write!(problem, ". The splits that are there: {}", found.join(", "));
        if split == DEV[0] && found.iter().any(|name| name == "train") {
            problem +=
                ". Training chooses its best epoch by dev: `--hold-out N` takes the last N images of train for it";
        }
    } else if let Some(below) = folders(folder).iter().find(|below| !splits(below).is_empty()) {
        let _ = write!(problem, ". Did you mean {}?", shown(below));
    } else if let Some(what) = layout(folder, &entries(folder)) {
        let _ = write!(problem, ". {what}");
    } else {
        let _ = write!(problem, ". {EXPECTED}. {}", list(folder));
    }
    Error::file(folder, problem)
}

/// For a file of features in a format that is not supported: what it is, and how to convert it.
fn unread(name: &str, path: &Path) -> String {
    let file = file_name(path);
    let kind = Kind::of(path).unwrap_or(Kind::Other);
    let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    let (what, lines) = match (ending, kind) {
        ("h5" | "hdf5" | "hdf", _) | (_, Kind::Hdf5) => (
            "HDF5",
            format!(
                "import h5py, numpy\nf = h5py.File('{file}')\nprint(list(f))     # the names of its arrays; \
                 the first is taken here\nnumpy.save('{name}_ims.npy', f[list(f)[0]][:])"
            ),
        ),
        ("pt" | "pth" | "bin" | "tar", _) | (_, Kind::PyTorch | Kind::OldPyTorch) => (
            "a PyTorch file",
            format!(
                "import numpy, torch\nx = torch.load('{file}', map_location='cpu', weights_only=True)\n\
                 numpy.save('{name}_ims.npy', x.float().numpy())"
            ),
        ),
        ("mat", _) => (
            "a MATLAB file",
            format!(
                "import numpy, scipy.io\nf = scipy.io.loadmat('{file}')\nprint(f.keys())     # if features are \
                 columns, add .T\nnumpy.save('{name}_ims.npy', f['feats'])"
            ),
        ),
        ("csv" | "tsv" | "txt", _) => (
            "text",
            format!(
                "import numpy\nnumpy.save('{name}_ims.npy', numpy.loadtxt('{file}', delimiter='{}', dtype='f4'))",
                if ending == "tsv" { "\\t" } else { "," }
            ),
        ),
        ("pkl" | "pickle", _) | (_, Kind::Pickle) => (
            "a Python pickle, which can run code when it is read",
            format!(
                "import numpy, pickle     # only if you trust the file\n\
                 numpy.save('{name}_ims.npy', numpy.asarray(pickle.load(open('{file}', 'rb')), dtype='f4'))"
            ),
        ),
        (_, kind) if kind.may_be_text() => ("of a type that is not read", String::new()),
        (_, kind) => (kind.name(), String::new()),
    };
    let mut text = format!("it is {what}; features are read from .npy, .npz and .safetensors");
    if !lines.is_empty() {
        let _ = write!(text, ". To convert it, in Python:\n{}", indented(&lines));
    }
    text
}

/// Recognises a known layout of data sets by the names of its files: what it is, and how to turn it into a
/// folder of data.
fn layout(folder: &Path, names: &[String]) -> Option<String> {
    let find = |wanted: &dyn Fn(&str) -> bool| names.iter().find(|name| wanted(name)).map(String::as_str);
    let features = entries(folder)
        .into_iter()
        .find(|name| [".npy", ".npz", ".h5", ".pt"].iter().any(|ending| ends(name, ending)) || name == "features");
    let features = features.unwrap_or_else(|| "features.npy".into());
    let load = match features.as_str() {
        "features" => "x = {p.stem: numpy.load(p) for p in pathlib.Path('features').iterdir()}",
        name if ends(name, ".npz") => {
            "f = numpy.load('FEATURES')\nx = dict(zip((pathlib.Path(str(n)).stem for n in f['names']), f['features']))"
        }
        _ => "rows = numpy.load('FEATURES')     # rows in the order of ORDER",
    };
    let by_order = load.starts_with("rows");
    let begins =
        |name: &str| String::from_utf8_lossy(&start_of(&folder.join(name), 1 << 16).unwrap_or_default()).into_owned();
    let has = |name: &str, keys: &[&str]| {
        let text = begins(name);
        keys.iter().all(|key| text.contains(key))
    };
    if let Some(name) = find(&|name| ends(name, ".json") && has(name, &["\"coco_url\""])) {
        return Some(format!(
            "{name} looks like COCO's own annotations, which do not say where the features of an image are. Write its \
             captions to {{split}}_caps.txt, each line the image_id, a tab and the caption, and the image_id of each row \
             of features to {{split}}_ids.txt: the two are matched"
        ));
    }
    let end = "for split, rows in ims.items():\n    numpy.save(f'{split}_ims.npy', numpy.array(rows, 'f4'))\n    \
               pathlib.Path(f'{split}_caps.txt').write_text('\\n'.join(caps[split]) + '\\n', encoding='utf-8')";
    let begin = "import collections, IMPORT, numpy, pathlib";
    let dicts = "ims, caps = collections.defaultdict(list), collections.defaultdict(list)";
    let (what, import, order, body) = if let Some(name) =
        find(&|name| ends(name, ".jsonl") && has(name, &["\"image\"", "\"captions\"", "\"split\""]))
    {
        let row = if by_order { "rows[n]" } else { "x[pathlib.Path(image['image']).stem]" };
        (
            format!("{name} looks like JSON Lines, one object per line"),
            "json",
            "the lines",
            format!(
                "for n, line in enumerate(open('{name}', encoding='utf-8')):\n    image = json.loads(line)\n    \
                 ims[image['split']].append({row})\n    caps[image['split']] += image['captions']"
            ),
        )
    } else if let Some(name) = find(&|name| ends(name, ".json") && has(name, &["\"sentences\"", "\"images\""])) {
        let row = if by_order { "rows[n]" } else { "x[pathlib.Path(image['filename']).stem]" };
        (
            format!("{name} looks like captions in Karpathy's JSON"),
            "json",
            "its images",
            format!(
                "for n, image in enumerate(json.load(open('{name}', encoding='utf-8'))['images']):\n    \
                 split = image['split'].replace('restval', 'train')\n    ims[split].append({row})\n    \
                 caps[split] += [' '.join(s['raw'].split()) for s in image['sentences']]"
            ),
        )
    } else if let Some(name) = find(&|name| {
        (ends(name, ".csv") || ends(name, ".tsv"))
            && ["image", "caption", "split"]
                .iter()
                .all(|key| begins(name).lines().next().is_some_and(|line| line.contains(key)))
    }) {
        let (row, delimiter) = (
            if by_order { "rows[len(seen) - 1]" } else { "x[pathlib.Path(line['image']).stem]" },
            if ends(name, ".tsv") { ", delimiter='\\t'" } else { "" },
        );
        (
            format!("{name} looks like a table of captions"),
            "csv",
            "first appearance",
            format!(
                "seen = set()\nfor line in csv.DictReader(open('{name}', encoding='utf-8', newline=''){delimiter}):\n    \
                 if line['image'] not in seen:\n        seen.add(line['image'])\n        \
                 ims[line['split']].append({row})\n    caps[line['split']].append(line['caption'])"
            ),
        )
    } else {
        flickr(names, by_order)?
    };
    let begin = begin.replace("IMPORT", import);
    let load = load.replace("FEATURES", &features).replace("ORDER", order);
    let lines = format!("{begin}\n{load}\n{dicts}\n{body}\n{end}");
    Some(format!(
        "{what}. It cannot be read as it is. To make a folder of data from it, run this in Python, in {}:\n{}",
        shown(folder),
        indented(&lines)
    ))
}

/// The token files of Flickr8k and Flickr30k, with lists of names: what it is, a Python module to import,
/// the order of rows that have no names, and the program.
fn flickr(names: &[String], by_order: bool) -> Option<(String, &'static str, &'static str, String)> {
    let name = names.iter().find(|name| [".token.txt", ".token", ".lemma.txt"].iter().any(|end| ends(name, end)))?;
    let lists = names.iter().filter(|name| ends(name, "images.txt")).map(|name| format!("'{name}'"));
    let lists = lists.collect::<Vec<_>>().join(", ");
    let row = if by_order { "rows[order.index(line)]" } else { "x[pathlib.Path(line).stem]" };
    let prepare = if by_order { "order = list(of)\n" } else { "" };
    Some((
        format!("{name} looks like the captions of Flickr8k or Flickr30k"),
        "re",
        "its names",
        format!(
            "of = collections.defaultdict(list)\nfor line in open('{name}', encoding='utf-8'):\n    \
                 image, caption = line.rstrip('\\n').split('\\t')\n    of[image.split('#')[0]].append(caption)\n\
                 {prepare}for file in [{lists}]:\n    split = re.search('train|dev|val|test', file)[0]\n    \
                 for line in open(file).read().split():\n        ims[split].append({row})\n        \
                 caps[split] += of[line]"
        ),
    ))
}

fn ends(name: &str, ending: &str) -> bool {
    name.to_ascii_lowercase().ends_with(ending)
}

fn indented(lines: &str) -> String {
    lines.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

/// The names in a folder, in alphabetical order.
fn entries(folder: &Path) -> Vec<String> {
    let found = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = found.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

/// The folders in a folder, in alphabetical order.
fn folders(folder: &Path) -> Vec<PathBuf> {
    entries(folder).iter().map(|name| folder.join(name)).filter(|path| path.is_dir()).collect()
}

/// The first few names in a folder, as a sentence.
fn list(folder: &Path) -> String {
    const SHOWN: usize = 8;
    let names = entries(folder);
    let mut text: Vec<String> = names.iter().take(SHOWN).map(|name| name.escape_debug().to_string()).collect();
    if names.len() > SHOWN {
        text.push(format!("and {} more", names.len() - SHOWN));
    }
    if text.is_empty() { "The folder is empty".into() } else { format!("The folder holds {}", text.join(", ")) }
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| shown(path), |name| name.to_string_lossy().into_owned())
}

fn shown(path: &Path) -> String {
    escape::path(path)
}
