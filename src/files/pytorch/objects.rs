//! What a pickle of `torch.save` may consist of: plain values, storages, tensors, and the few names of Python
//! that make them. Nothing is executed: a name is a case of [`Global`], and a call of it gives a plain value.

use super::super::elements::ElementType;
use crate::escape;

/// A value on the machine's stack. It is small; lists, storages and tensors are numbers of entries in [`Heap`], so
/// that deep nesting, sharing and circles cost nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'p> {
    /// None, a boolean, a float, an attribute: nothing that a tensor is made of.
    Plain,
    Int(i64),
    /// A whole number beyond 64 bits, as it is stored: little-endian, two's complement.
    Long(&'p [u8]),
    /// A string or bytes; Python 2 did not distinguish them.
    Text(&'p [u8]),
    Global(Global),
    Tuple(usize),
    List(usize),
    /// A dictionary: keys and values in turn.
    Map(usize),
    Storage(usize),
    Tensor(usize),
}

/// The names that are known. Any other is refused.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Global {
    OrderedDict,
    Namespace,
    /// `_rebuild_tensor`, `_rebuild_tensor_v2` or `_rebuild_tensor_v3`.
    Tensor(&'static str),
    Parameter,
    Size,
    Device,
    Storage(Numbers),
    Type(ElementType),
}

/// The type of a storage's numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Numbers {
    Of(ElementType),
    /// A known type that is not read, with its bytes per number.
    Unread(&'static str, usize),
    /// Bytes; the tensor has the type.
    Untyped,
}

impl Global {
    /// # Errors
    ///
    /// If the name is not known. The message contains it.
    pub(super) fn named(module: &[u8], name: &[u8]) -> Result<Self, String> {
        let (module, name) = (String::from_utf8_lossy(module), String::from_utf8_lossy(name));
        let known = match (&*module, &*name) {
            ("collections", "OrderedDict") => Some(Self::OrderedDict),
            ("argparse", "Namespace") => Some(Self::Namespace),
            ("torch._utils", "_rebuild_tensor") => Some(Self::Tensor("_rebuild_tensor")),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Self::Tensor("_rebuild_tensor_v2")),
            ("torch._utils", "_rebuild_tensor_v3") => Some(Self::Tensor("_rebuild_tensor_v3")),
            ("torch._utils", "_rebuild_parameter") | ("torch.nn.parameter", "Parameter") => Some(Self::Parameter),
            ("torch", "Size") => Some(Self::Size),
            ("torch", "device") => Some(Self::Device),
            ("torch" | "torch.cuda" | "torch.storage", storage) if storage.ends_with("Storage") => {
                Numbers::of_storage(storage).map(Self::Storage)
            }
            ("torch", name) => TYPES.iter().find(|(known, _)| *known == name).map(|&(_, element)| Self::Type(element)),
            _ => None,
        };
        known.ok_or_else(|| {
            format!(
                "it asks for {}.{}, which is not read: only tensors, dictionaries, lists and plain values are. \
                 Nothing in the file was executed",
                shown(&module),
                shown(&name)
            )
        })
    }
}

/// PyTorch's names of the types.
const TYPES: [(&str, ElementType); 13] = [
    ("float16", ElementType::F16),
    ("bfloat16", ElementType::BF16),
    ("float32", ElementType::F32),
    ("float64", ElementType::F64),
    ("int8", ElementType::I8),
    ("int16", ElementType::I16),
    ("int32", ElementType::I32),
    ("int64", ElementType::I64),
    ("uint8", ElementType::U8),
    ("uint16", ElementType::U16),
    ("uint32", ElementType::U32),
    ("uint64", ElementType::U64),
    ("bool", ElementType::BOOL),
];

impl Numbers {
    fn of_storage(name: &str) -> Option<Self> {
        Some(match name {
            "HalfStorage" => Self::Of(ElementType::F16),
            "BFloat16Storage" => Self::Of(ElementType::BF16),
            "FloatStorage" => Self::Of(ElementType::F32),
            "DoubleStorage" => Self::Of(ElementType::F64),
            "CharStorage" => Self::Of(ElementType::I8),
            "ShortStorage" => Self::Of(ElementType::I16),
            "IntStorage" => Self::Of(ElementType::I32),
            "LongStorage" => Self::Of(ElementType::I64),
            "ByteStorage" => Self::Of(ElementType::U8),
            "BoolStorage" => Self::Of(ElementType::BOOL),
            "ComplexFloatStorage" => Self::Unread("complex64", 8),
            "ComplexDoubleStorage" => Self::Unread("complex128", 16),
            "UntypedStorage" => Self::Untyped,
            _ => return None,
        })
    }

    /// Bytes per number.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Of(element) => element.bytes(),
            Self::Unread(_, bytes) => bytes,
            Self::Untyped => 1,
        }
    }
}

/// The most axes of a tensor, as in safetensors and npz.
const AXES: usize = 64;

/// A storage as the pickle names it. Its numbers are elsewhere in the file, under its key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct StorageName<'p> {
    pub(super) numbers: Numbers,
    pub(super) key: &'p [u8],
    /// How many numbers.
    pub(super) len: u64,
}

/// A tensor: a view of a storage. Offset and strides count numbers.
#[derive(Debug, PartialEq)]
pub(super) struct Tensor {
    /// Its number in [`Heap::storages`].
    pub(super) storage: usize,
    /// The type, if the storage has none.
    pub(super) element: Option<ElementType>,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// All lists, storages and tensors of a pickle.
#[derive(Debug, Default)]
pub(super) struct Heap<'p> {
    /// Tuples, lists and dictionaries.
    pub(super) lists: Vec<Vec<Value<'p>>>,
    pub(super) storages: Vec<StorageName<'p>>,
    pub(super) tensors: Vec<Tensor>,
}

impl<'p> Heap<'p> {
    /// Adds a tuple, a list or a dictionary, and returns its number.
    pub(super) fn add(&mut self, values: Vec<Value<'p>>) -> usize {
        self.lists.push(values);
        self.lists.len() - 1
    }

    /// The values of a tuple.
    pub(super) fn tuple(&self, value: Value<'p>) -> Option<&[Value<'p>]> {
        if let Value::Tuple(n) = value { self.lists.get(n).map(Vec::as_slice) } else { None }
    }

    /// What Python would get from calling a name, for the calls that `torch.save` writes.
    ///
    /// # Errors
    ///
    /// If the arguments are not as `torch.save` writes them.
    pub(super) fn call(&mut self, global: Global, arguments: Value<'p>) -> Result<Value<'p>, String> {
        let Some(arguments) = self.tuple(arguments) else {
            return Err(format!("{}: expected a tuple of arguments", global.name()));
        };
        let expected = |what: &str| Err(format!("{}: expected {what}", global.name()));
        match (global, arguments) {
            (Global::OrderedDict | Global::Namespace, []) => Ok(Value::Map(self.add(Vec::new()))),
            (Global::OrderedDict, &[Value::List(pairs)]) => self.ordered(pairs),
            (Global::Size, &[Value::Tuple(sizes)]) => Ok(Value::Tuple(sizes)),
            (Global::Device, _) => Ok(Value::Plain),
            (Global::Parameter, &[Value::Tensor(tensor), ..]) => Ok(Value::Tensor(tensor)),
            (Global::Tensor(version), &[Value::Storage(storage), offset, size, stride, ref more @ ..]) => {
                let element = match (version, more) {
                    ("_rebuild_tensor_v3", [_, _, Value::Global(Global::Type(element)), ..]) => Some(*element),
                    ("_rebuild_tensor_v3", _) => return expected("a type"),
                    _ => None,
                };
                let whole = |value: &Value<'_>| match value {
                    Value::Int(n) => usize::try_from(*n).ok(),
                    _ => None,
                };
                let all = |values| {
                    let values = self.tuple(values).filter(|values| values.len() <= AXES)?;
                    values.iter().map(whole).collect::<Option<Vec<usize>>>()
                };
                let (Some(offset), Some(shape), Some(strides)) = (whole(&offset), all(size), all(stride)) else {
                    return expected("an offset, and at most 64 sizes and strides, none of them negative");
                };
                self.tensors.push(Tensor { storage, element, offset, shape, strides });
                Ok(Value::Tensor(self.tensors.len() - 1))
            }
            (Global::OrderedDict, _) => expected("no argument or a list of pairs"),
            (Global::Namespace, _) => expected("no argument"),
            (Global::Size, _) => expected("a tuple of sizes"),
            (Global::Parameter, _) => expected("a tensor"),
            (Global::Tensor(_), _) => expected("a storage, an offset, sizes and strides"),
            (Global::Storage(_) | Global::Type(_), _) => Err(format!("{} is not called", global.name())),
        }
    }

    /// Python 2 wrote an `OrderedDict` as a list of pairs, each a list.
    fn ordered(&mut self, pairs: usize) -> Result<Value<'p>, String> {
        let mut map = Vec::new();
        // Moved, not copied, so that a list that is used many times takes no more memory.
        for pair in &std::mem::take(&mut self.lists[pairs]) {
            let values = match *pair {
                Value::List(n) | Value::Tuple(n) => self.lists[n].as_slice(),
                _ => &[],
            };
            let &[key, value] = values else { return Err("OrderedDict: expected pairs".into()) };
            map.extend([key, value]);
        }
        Ok(Value::Map(self.add(map)))
    }

    /// A storage from its persistent id: ("storage", type, key, device, length), and in old files a view, which is
    /// None.
    ///
    /// # Errors
    ///
    /// If the id is another.
    pub(super) fn persistent(&mut self, id: Value<'p>) -> Result<Value<'p>, String> {
        let id = self.tuple(id).unwrap_or_default();
        let (id, view) = if let [id @ .., view] = id
            && id.len() == 5
        {
            (id, Some(*view))
        } else {
            (id, None)
        };
        if view.is_some_and(|view| view != Value::Plain) {
            return Err("it has a storage that is a part of another storage, which is not read".into());
        }
        let &[Value::Text(b"storage"), Value::Global(Global::Storage(numbers)), Value::Text(key), _, Value::Int(len)] =
            id
        else {
            return Err("expected a storage: its type, key, device and length".into());
        };
        let len = u64::try_from(len).map_err(|_| format!("expected the length of a storage, found {len}"))?;
        self.storages.push(StorageName { numbers, key, len });
        Ok(Value::Storage(self.storages.len() - 1))
    }
}

impl Global {
    fn name(self) -> &'static str {
        match self {
            Self::OrderedDict => "OrderedDict",
            Self::Namespace => "Namespace",
            Self::Tensor(version) => version,
            Self::Parameter => "a parameter",
            Self::Size => "torch.Size",
            Self::Device => "torch.device",
            Self::Storage(_) => "a storage's type",
            Self::Type(_) => "a type of numbers",
        }
    }
}

/// Text of a file for a message, at most 100 characters of it.
pub(super) fn shown(text: &str) -> String {
    const MOST: usize = 100;
    let start: String = text.chars().take(MOST).collect();
    let more = if start.len() < text.len() { "…" } else { "" };
    format!("{}{more}", escape::name(&start))
}
