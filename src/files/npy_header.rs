//! The header of a `.npy` file: magic string, version, length, and a Python dict.
//!
//! ```text
//! \x93NUMPY 1 0 len {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } spaces \n
//! ```
//!
//! The version has two bytes. The length has two in version 1 and four in versions 2 and 3, and counts the
//! dict, the spaces and the newline. The whole header is a multiple of 64 bytes.

/// The magic string.
pub(super) const MAGIC: &[u8] = b"\x93NUMPY";

/// The values of the dict.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    /// The type of the numbers, such as `<f4`.
    pub(super) descr: String,
    /// Whether the first index runs fastest.
    pub(super) fortran_order: bool,
    pub(super) shape: Vec<usize>,
}

impl Header {
    /// Where the dict begins, and how long it is with the spaces and the newline after it. `start` is the
    /// file's first 12 bytes, which begin with [`MAGIC`].
    ///
    /// # Errors
    ///
    /// If the version is unknown.
    pub(super) fn place(start: &[u8; 12]) -> Result<(usize, usize), String> {
        match (start[6], start[7]) {
            (1, 0) => Ok((10, usize::from(u16::from_le_bytes([start[8], start[9]])))),
            (2 | 3, 0) => Ok((12, u32::from_le_bytes([start[8], start[9], start[10], start[11]]) as usize)),
            (major, minor) => Err(format!("expected version 1.0, 2.0 or 3.0, found {major}.{minor}")),
        }
    }

    /// Parses the dict, up to and including the newline at its end.
    ///
    /// # Errors
    ///
    /// If it is not a dict of `descr`, `fortran_order` and `shape`, or if it does not end in a newline.
    pub(super) fn parse(dict: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(dict).map_err(|_| "the header is not text")?;
        let text = text.strip_suffix('\n').ok_or("the header does not end in a newline")?;
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        let mut rest = Rest(text);
        rest.expect("{")?;
        while !rest.skip("}") {
            let key = rest.string()?;
            rest.expect(":")?;
            match key {
                "descr" => descr = Some(rest.string()?.to_owned()),
                "fortran_order" => fortran_order = Some(rest.boolean()?),
                "shape" => shape = Some(rest.tuple()?),
                _ => return Err(format!("expected the keys 'descr', 'fortran_order' and 'shape', found '{key}'")),
            }
            if !rest.skip(",") {
                rest.expect("}")?;
                break;
            }
        }
        rest.end()?;
        let missing = |key: &str| format!("the key '{key}' is missing");
        Ok(Self {
            descr: descr.ok_or_else(|| missing("descr"))?,
            fortran_order: fortran_order.ok_or_else(|| missing("fortran_order"))?,
            shape: shape.ok_or_else(|| missing("shape"))?,
        })
    }

    /// The whole header, of version 1.0.
    ///
    /// # Errors
    ///
    /// If the shape has so many axes that the length does not fit in two bytes.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let axes: Vec<String> = self.shape.iter().map(usize::to_string).collect();
        let shape = if let [one] = axes.as_slice() { format!("{one},") } else { axes.join(", ") };
        let order = if self.fortran_order { "True" } else { "False" };
        let dict = format!("{{'descr': '{}', 'fortran_order': {order}, 'shape': ({shape})}}", self.descr);
        // 10 bytes come before the dict and a newline after it. There is at least one space.
        let spaces = 64 - (10 + dict.len() + 1) % 64;
        let length = u16::try_from(dict.len() + spaces + 1)
            .map_err(|_| format!("a shape of {} axes is too long for a .npy header", axes.len()))?;
        let mut header = [MAGIC, &[1, 0], &length.to_le_bytes(), dict.as_bytes()].concat();
        header.resize(header.len() + spaces, b' ');
        header.push(b'\n');
        Ok(header)
    }
}

/// What is left of the dict. Every method first skips spaces.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    /// Skips a word, if it comes next.
    fn skip(&mut self, word: &str) -> bool {
        self.0 = self.0.trim_start();
        let rest = self.0.strip_prefix(word);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn expect(&mut self, word: &str) -> Result<(), String> {
        if self.skip(word) { Ok(()) } else { Err(self.found(word)) }
    }

    /// A string in either kind of quotes, without escapes.
    fn string(&mut self) -> Result<&'a str, String> {
        for quote in ["'", "\""] {
            if self.skip(quote) {
                let (inside, rest) = self.0.split_once(quote).ok_or_else(|| self.found(quote))?;
                self.0 = rest;
                return Ok(inside);
            }
        }
        Err(self.found("a string"))
    }

    fn boolean(&mut self) -> Result<bool, String> {
        if self.skip("True") {
            return Ok(true);
        }
        self.expect("False").map(|()| false).map_err(|_| self.found("True or False"))
    }

    /// A tuple of numbers: `()`, `(2,)`, `(2, 3)`, `(2, 3,)`.
    fn tuple(&mut self) -> Result<Vec<usize>, String> {
        let mut numbers = Vec::new();
        self.expect("(")?;
        while !self.skip(")") {
            self.0 = self.0.trim_start();
            let digits = self.0.bytes().take_while(u8::is_ascii_digit).count();
            let number = self.0[..digits].parse().map_err(|_| self.found("the length of an axis"))?;
            self.0 = &self.0[digits..];
            numbers.push(number);
            if !self.skip(",") {
                // (2) is a number in Python.
                if numbers.len() == 1 {
                    return Err(self.found(","));
                }
                self.expect(")")?;
                break;
            }
        }
        Ok(numbers)
    }

    fn end(&self) -> Result<(), String> {
        if self.0.trim().is_empty() { Ok(()) } else { Err(self.found("nothing but spaces")) }
    }

    fn found(&self, expected: &str) -> String {
        let shown: String = self.0.chars().take(20).collect();
        format!("in the header: expected {expected}, found {shown:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray_npy::npy::header::{Header as Theirs, Layout};

    fn parse(dict: &str) -> Result<Header, String> {
        Header::parse(dict.as_bytes())
    }

    #[test]
    fn headers_are_those_of_ndarray_npy() {
        let shapes: [&[usize]; 7] = [&[], &[7], &[2, 3], &[0, 4], &[usize::MAX, 1, 2], &[11; 16], &[1_000_000; 64]];
        for shape in shapes {
            for descr in ["<f4", "|b1", "<f2", ">i8"] {
                for fortran_order in [false, true] {
                    let ours = Header { descr: descr.into(), fortran_order, shape: shape.to_vec() };
                    let bytes = ours.to_bytes().unwrap();
                    let theirs = Theirs::from_reader(&mut bytes.as_slice()).unwrap();
                    assert_eq!(theirs.shape, shape);
                    assert_eq!(theirs.layout == Layout::Fortran, fortran_order);
                    assert_eq!(theirs.to_bytes().unwrap(), bytes, "{descr} {shape:?}");
                    let (begin, length) = Header::place(bytes.first_chunk().unwrap()).unwrap();
                    assert_eq!(begin + length, bytes.len());
                    assert_eq!(bytes.len() % 64, 0);
                    assert_eq!(Header::parse(&bytes[begin..]).unwrap(), ours);
                }
            }
        }
        let many = Header { descr: "<f4".into(), fortran_order: false, shape: vec![1; 30_000] };
        assert!(many.to_bytes().unwrap_err().contains("30000 axes"));
    }

    #[test]
    fn every_way_to_write_a_dict_is_read() {
        let expected = Header { descr: "<f4".into(), fortran_order: false, shape: vec![2, 3] };
        for dict in [
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }   \n",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}\n",
            "{ \"shape\" : ( 2 ,3, ) ,'fortran_order':False,'descr':\"<f4\"}\n",
        ] {
            assert_eq!(parse(dict).unwrap(), expected, "{dict}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_dict_is_said() {
        for (dict, problem) in [
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", "does not end in a newline"),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } x\n",
                "expected nothing but spaces, found \" x\"",
            ),
            ("{'descr': '<f4', 'fortran_order': False, }\n", "the key 'shape' is missing"),
            (
                "{'descr': '<f4', 'fortran_order': 0, 'shape': (2, 3)}\n",
                "expected True or False, found \"0, 'shape': (2, 3)}\"",
            ),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (2)}\n", "expected ,, found \")}\""),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (2, -3)}\n", "the length of an axis, found \"-3)}\""),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': [2, 3]}\n", "expected (, found \"[2, 3]}\""),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 1)}\n", "the length of an axis"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), 'x': 1}\n", "found 'x'"),
            (
                "{'descr': 4, 'fortran_order': False, 'shape': (2, 3)}\n",
                "expected a string, found \"4, 'fortran_order'",
            ),
            ("{'descr': '<f4\n", "expected ', found \"<f4\""),
            ("{'descr': '<f4'\n", "expected }, found \"\""),
            ("[]\n", "expected {, found \"[]\""),
            ("\n", "expected {, found \"\""),
        ] {
            let error = parse(dict).unwrap_err();
            assert!(error.contains(problem), "{dict}: {error}");
        }
        assert!(Header::parse(b"{'descr': '\xff'}\n").unwrap_err().contains("not text"));
        assert!(Header::place(b"\x93NUMPY\x01\x01\x00\x00\x00\x00").unwrap_err().contains("found 1.1"));
        assert!(Header::place(b"\x93NUMPY\x04\x00\x00\x00\x00\x00").unwrap_err().contains("found 4.0"));
    }
}
