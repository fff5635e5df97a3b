//! A machine for pickles, as far as `torch.save` writes them: protocols 1 to 5, some forty opcodes. It builds
//! [`Value`]s; it imports nothing and calls nothing.
//!
//! Python's machine calls whatever a pickle names. Here a name that [`Global`] does not list ends the reading.

use std::collections::HashMap;

use super::objects::{Global, Heap, Value};

/// The longest pickle that is read. The numbers of tensors are elsewhere: a tensor takes some 150 bytes of it.
pub(super) const LONGEST: u64 = 1 << 23;

/// The most opcodes of a pickle. A tensor takes some forty. It bounds the memory.
const OPCODES: usize = 1 << 20;

/// What a pickle holds.
#[derive(Debug)]
pub(super) struct Pickled<'p> {
    pub(super) heap: Heap<'p>,
    pub(super) root: Value<'p>,
    /// The position after the pickle.
    pub(super) end: usize,
}

/// Reads the pickle that begins at a position.
///
/// # Errors
///
/// If it asks for a name that is not known, if it ends too early, or if `torch.save` does not write such a pickle.
/// The message gives the byte.
pub(super) fn read(bytes: &[u8], start: usize) -> Result<Pickled<'_>, String> {
    let mut machine =
        Machine { bytes, at: start, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), heap: Heap::default() };
    for _ in 0..OPCODES {
        let at = machine.at;
        match machine.step().map_err(|problem| format!("byte {at}: {problem}"))? {
            None => {}
            Some(root) => return Ok(Pickled { heap: machine.heap, root, end: machine.at }),
        }
    }
    Err(format!("expected a pickle of at most {OPCODES} steps, found more"))
}

struct Machine<'p> {
    bytes: &'p [u8],
    at: usize,
    stack: Vec<Value<'p>>,
    /// The heights of the stack at the marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'p>>,
    heap: Heap<'p>,
}

impl<'p> Machine<'p> {
    /// Obeys one opcode; at the last one, returns the result.
    fn step(&mut self) -> Result<Option<Value<'p>>, String> {
        let [opcode] = self.array()?;
        match opcode {
            // PROTO
            0x80 => match self.array()? {
                [0..=5] => {}
                [protocol] => return Err(format!("expected a pickle of protocol 5 at most, found {protocol}")),
            },
            // FRAME, whose length is not needed
            0x95 => drop(self.array::<8>()?),
            // STOP
            b'.' => {
                let root = self.pop()?;
                let is_alone = self.stack.is_empty() && self.marks.is_empty();
                return if is_alone { Ok(Some(root)) } else { Err("it stops in the middle of a value".into()) };
            }
            // MARK
            b'(' => self.marks.push(self.stack.len()),

            // EMPTY_TUPLE, TUPLE1, TUPLE2, TUPLE3, TUPLE
            b')' => self.tuple(self.stack.len())?,
            0x85..=0x87 => {
                let start = self.stack.len().checked_sub(usize::from(opcode - 0x84)).ok_or_else(missing)?;
                self.tuple(start)?;
            }
            b't' => {
                let start = self.mark()?;
                self.tuple(start)?;
            }
            // EMPTY_LIST, LIST, EMPTY_DICT, DICT
            b']' | b'l' => {
                let values = if opcode == b'l' { self.above_mark()? } else { Vec::new() };
                let list = self.heap.add(values);
                self.stack.push(Value::List(list));
            }
            b'}' | b'd' => {
                let map = self.heap.add(Vec::new());
                let values = if opcode == b'd' { self.above_mark()? } else { Vec::new() };
                self.stack.push(Value::Map(map));
                self.extend(values)?;
            }
            // APPEND, SETITEM
            b'a' | b's' => {
                let count = if opcode == b'a' { 1 } else { 2 };
                let start = self.stack.len().checked_sub(count).ok_or_else(missing)?;
                let values = self.above(start)?;
                self.extend(values)?;
            }
            // APPENDS, SETITEMS
            b'e' | b'u' => {
                let values = self.above_mark()?;
                self.extend(values)?;
            }

            // GLOBAL; INST names a class too, but no known one
            b'c' | b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                let global = Global::named(module, name)?;
                if opcode == b'i' {
                    return Err(unwritten(opcode));
                }
                self.stack.push(Value::Global(global));
            }
            // STACK_GLOBAL
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (module, name) else {
                    return Err("expected a module and a name".into());
                };
                self.stack.push(Value::Global(Global::named(module, name)?));
            }
            // REDUCE, NEWOBJ
            b'R' | 0x81 => {
                let (arguments, global) = (self.pop()?, self.pop()?);
                let Value::Global(global) = global else { return Err("expected a name to call".into()) };
                let value = self.heap.call(global, arguments)?;
                self.stack.push(value);
            }
            // BUILD
            b'b' => self.build()?,
            // BINPERSID
            b'Q' => {
                let id = self.pop()?;
                let storage = self.heap.persistent(id)?;
                self.stack.push(storage);
            }

            // BINPUT, LONG_BINPUT, MEMOIZE
            b'q' | b'r' | 0x94 => {
                let key = match opcode {
                    b'q' => self.array().map(|[n]| n.into())?,
                    b'r' => u32::from_le_bytes(self.array()?),
                    // There are fewer entries than opcodes.
                    _ => u32::try_from(self.memo.len()).unwrap_or(u32::MAX),
                };
                let value = *self.stack.last().filter(|_| self.stack.len() > self.floor()).ok_or_else(missing)?;
                self.memo.insert(key, value);
            }
            // BINGET, LONG_BINGET
            b'h' | b'j' => {
                let key =
                    if opcode == b'h' { self.array().map(|[n]| n.into())? } else { u32::from_le_bytes(self.array()?) };
                let value = self.memo.get(&key).ok_or_else(|| format!("expected a value in memo {key}, found none"))?;
                self.stack.push(*value);
            }
            other => {
                let value = self.constant(other)?;
                self.stack.push(value);
            }
        }
        Ok(None)
    }

    /// A number or a string.
    fn constant(&mut self, opcode: u8) -> Result<Value<'p>, String> {
        Ok(match opcode {
            // NONE, NEWTRUE, NEWFALSE, BINFLOAT
            b'N' | 0x88 | 0x89 => Value::Plain,
            b'G' => self.array::<8>().map(|_| Value::Plain)?,
            // BININT, BININT1, BININT2
            b'J' => Value::Int(i32::from_le_bytes(self.array()?).into()),
            b'K' => Value::Int(u8::from_le_bytes(self.array()?).into()),
            b'M' => Value::Int(u16::from_le_bytes(self.array()?).into()),
            // INT and LONG of protocol 1, in digits; INT is also a boolean
            b'I' | b'L' => {
                let line = self.line()?;
                let digits = std::str::from_utf8(line.strip_suffix(b"L").unwrap_or(line)).unwrap_or_default();
                digits.parse().map_or(Value::Plain, Value::Int)
            }
            // LONG1, LONG4
            0x8a => number(self.counted::<1>()?),
            0x8b => number(self.counted::<4>()?),
            // SHORT_BINSTRING, SHORT_BINUNICODE, SHORT_BINBYTES
            b'U' | 0x8c | b'C' => Value::Text(self.counted::<1>()?),
            // BINSTRING, BINUNICODE, BINBYTES
            b'T' | b'X' | b'B' => Value::Text(self.counted::<4>()?),
            // BINUNICODE8, BINBYTES8
            0x8d | 0x8e => Value::Text(self.counted::<8>()?),
            other => return Err(unwritten(other)),
        })
    }

    /// The next bytes of the pickle.
    fn bytes(&mut self, count: usize) -> Result<&'p [u8], String> {
        let end = self.at.checked_add(count);
        let bytes = end.and_then(|end| self.bytes.get(self.at..end)).ok_or("the pickle ends too early")?;
        self.at += count;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    /// The bytes after their number, which has `N` bytes.
    fn counted<const N: usize>(&mut self) -> Result<&'p [u8], String> {
        let mut count = [0; 8];
        count[..N].copy_from_slice(self.bytes(N)?);
        self.bytes(usize::try_from(u64::from_le_bytes(count)).unwrap_or(usize::MAX))
    }

    /// The rest of a line, without its end.
    fn line(&mut self) -> Result<&'p [u8], String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
        let line = self.bytes(length)?;
        self.bytes(1)?;
        Ok(line)
    }

    /// The height of the stack at the last mark: what is below cannot be taken.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Value<'p>, String> {
        if self.stack.len() <= self.floor() {
            return Err(missing());
        }
        self.stack.pop().ok_or_else(missing)
    }

    fn mark(&mut self) -> Result<usize, String> {
        self.marks.pop().ok_or_else(|| "expected a mark, found none".to_owned())
    }

    /// Takes the values from a height on.
    fn above(&mut self, start: usize) -> Result<Vec<Value<'p>>, String> {
        if start < self.floor() {
            return Err(missing());
        }
        Ok(self.stack.split_off(start))
    }

    fn above_mark(&mut self) -> Result<Vec<Value<'p>>, String> {
        let start = self.mark()?;
        self.above(start)
    }

    fn tuple(&mut self, start: usize) -> Result<(), String> {
        let values = self.above(start)?;
        let tuple = self.heap.add(values);
        self.stack.push(Value::Tuple(tuple));
        Ok(())
    }

    /// Adds values to the list on the stack, or pairs to the dictionary.
    fn extend(&mut self, values: Vec<Value<'p>>) -> Result<(), String> {
        let to = self.pop()?;
        match to {
            Value::List(list) => self.heap.lists[list].extend(values),
            Value::Map(map) if values.len().is_multiple_of(2) => self.heap.lists[map].extend(values),
            _ => return Err("expected a list, or a dictionary and pairs".into()),
        }
        self.stack.push(to);
        Ok(())
    }

    /// Sets an object's attributes: they become entries. Those of a `Namespace` are its content; an `OrderedDict` of
    /// `state_dict` has `_metadata`, without tensors. A parameter of PyTorch 0.3 has hooks and the like.
    fn build(&mut self) -> Result<(), String> {
        let (attributes, object) = (self.pop()?, self.pop()?);
        match (object, attributes) {
            (Value::Map(map), Value::Map(attributes)) => {
                // Moved, not copied: a dictionary that is built with itself would double at every step.
                let attributes = std::mem::take(&mut self.heap.lists[attributes]);
                self.heap.lists[map].extend(attributes);
            }
            (Value::Tensor(_), Value::Tuple(_)) => {}
            _ => return Err("expected a Namespace or an OrderedDict, and its attributes".into()),
        }
        self.stack.push(object);
        Ok(())
    }
}

/// A whole number of any size.
fn number(bytes: &[u8]) -> Value<'_> {
    if bytes.len() > 8 {
        return Value::Long(bytes);
    }
    let fill = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
    let mut all = [fill; 8];
    all[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(all))
}

fn missing() -> String {
    "expected a value on the stack, found none".into()
}

fn unwritten(opcode: u8) -> String {
    format!("found opcode 0x{opcode:02x}, which torch.save does not write")
}
