//! Flat names for the tensors of nested dictionaries and lists: keys and positions, joined by dots.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::elements::{ElementType, Order, all_names};
use super::objects::{Heap, Numbers, StorageName, Value};
use super::pickle::Pickled;
use super::strided::{Storage, Strided};

/// Tensors by name. One that cannot be read is an error only when it is requested.
pub(in crate::files) type Tensors = BTreeMap<String, Result<Strided, String>>;

/// The name of a tensor that is alone in its file.
const ALONE: &str = "tensor";

/// The deepest nesting that is read.
const DEPTH: usize = 64;

/// The most values of all dictionaries and lists together. One that occurs in many places counts as often.
const VALUES: usize = 1 << 20;

/// The most tensors, enough for a thousand layers, as in safetensors.
const TENSORS: usize = 1 << 14;

/// The longest name, in bytes.
const NAME: usize = 1 << 10;

/// The tensors of a pickle. `find` finds a storage in the file.
///
/// # Errors
///
/// If there are too many, or if they are nested too deeply.
pub(super) fn tensors<'p>(
    pickled: &Pickled<'p>,
    order: Order,
    mut find: impl FnMut(&StorageName<'p>) -> Result<Arc<Storage>, String>,
) -> Result<Tensors, String> {
    let mut walk = Walk { heap: &pickled.heap, left: VALUES, name: String::new(), found: Vec::new() };
    walk.visit(pickled.root, 0)?;
    let mut tensors = Tensors::new();
    for (name, tensor) in walk.found {
        let tensor = &pickled.heap.tensors[tensor];
        let storage = &pickled.heap.storages[tensor.storage];
        let strided = element(storage.numbers, tensor.element)
            .and_then(|element| Strided::new(tensor, find(storage)?, element, order));
        // The keys 1 and "1" give the same name.
        let strided = if tensors.contains_key(&name) { Err("several tensors have this name".into()) } else { strided };
        tensors.insert(name, strided);
    }
    Ok(tensors)
}

fn element(numbers: Numbers, of_tensor: Option<ElementType>) -> Result<ElementType, String> {
    match numbers {
        Numbers::Of(element) => Ok(element),
        Numbers::Untyped => of_tensor.ok_or_else(|| "a tensor without a type".into()),
        Numbers::Unread(name, _) => Err(format!("expected {}, found {name}", all_names())),
    }
}

struct Walk<'h, 'p> {
    heap: &'h Heap<'p>,
    /// How many values may still be visited.
    left: usize,
    /// The name of the value that is visited.
    name: String,
    found: Vec<(String, usize)>,
}

impl Walk<'_, '_> {
    fn visit(&mut self, value: Value<'_>, depth: usize) -> Result<(), String> {
        let (list, is_map) = match value {
            Value::Tensor(tensor) => {
                if self.found.len() == TENSORS {
                    return Err(format!("expected at most {TENSORS} tensors"));
                }
                let name = if depth == 0 { ALONE.to_owned() } else { self.name.clone() };
                self.found.push((name, tensor));
                return Ok(());
            }
            Value::List(list) | Value::Tuple(list) => (list, false),
            Value::Map(list) => (list, true),
            _ => return Ok(()),
        };
        if depth == DEPTH {
            return Err(format!("expected at most {DEPTH} dictionaries and lists within each other"));
        }
        let values = &self.heap.lists[list];
        self.left = self.left.checked_sub(values.len()).ok_or_else(|| format!("expected at most {VALUES} values"))?;
        let before = self.name.len();
        for at in (0..values.len()).step_by(if is_map { 2 } else { 1 }) {
            let (key, value) = if is_map { (values[at], values.get(at + 1)) } else { (Value::Plain, values.get(at)) };
            let key = match key {
                Value::Text(key) => String::from_utf8_lossy(key),
                Value::Int(key) => key.to_string().into(),
                _ if is_map => continue,
                _ => at.to_string().into(),
            };
            let Some(&value) = value else { continue };
            if !matches!(value, Value::Tensor(_) | Value::List(_) | Value::Tuple(_) | Value::Map(_)) {
                continue;
            }
            if before + 1 + key.len() > NAME {
                return Err(format!("expected names of at most {NAME} bytes"));
            }
            if depth > 0 {
                self.name.push('.');
            }
            self.name.push_str(&key);
            self.visit(value, depth + 1)?;
            self.name.truncate(before);
        }
        Ok(())
    }
}
