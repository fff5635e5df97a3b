//! Reads a file at any position, from several threads.

use std::fs::File;
use std::io;

/// A file that is read at given positions, so that threads do not disturb each other.
#[derive(Debug)]
pub(super) struct Positioned {
    #[cfg(unix)]
    file: File,
    #[cfg(not(unix))]
    file: Shared,
}

impl Positioned {
    pub(super) fn new(file: File) -> Self {
        #[cfg(not(unix))]
        let file = Shared::new(file);
        Self { file }
    }

    /// Fills `bytes` from a position on.
    ///
    /// # Errors
    ///
    /// If reading fails, or if the file ends too early.
    pub(super) fn read(&self, bytes: &mut [u8], position: u64) -> io::Result<()> {
        #[cfg(unix)]
        return std::os::unix::fs::FileExt::read_exact_at(&self.file, bytes, position);
        #[cfg(not(unix))]
        return self.file.read(bytes, position);
    }
}

/// For systems without such a call: one thread at a time moves the position and reads.
#[cfg(any(test, not(unix)))]
#[derive(Debug)]
struct Shared(std::sync::Mutex<File>);

#[cfg(any(test, not(unix)))]
impl Shared {
    fn new(file: File) -> Self {
        Self(std::sync::Mutex::new(file))
    }

    fn read(&self, bytes: &mut [u8], position: u64) -> io::Result<()> {
        use std::io::{Read, Seek, SeekFrom};
        // A panic in another thread does no harm, because the position is set here.
        let mut file = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(SeekFrom::Start(position))?;
        file.read_exact(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;

    #[test]
    fn both_ways_read_what_is_at_a_position() {
        type Read<'a> = &'a (dyn Fn(&mut [u8], u64) -> io::Result<()> + Sync);
        let path = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..10_000u32).flat_map(u32::to_le_bytes).collect();
        std::fs::write(path.path(), &bytes).unwrap();
        let positioned = Positioned::new(File::open(path.path()).unwrap());
        let shared = Shared::new(File::open(path.path()).unwrap());
        let ways: [Read<'_>; 2] = [&|bytes, at| positioned.read(bytes, at), &|bytes, at| shared.read(bytes, at)];
        for read in ways {
            (0..2000u32).into_par_iter().for_each(|n| {
                let number = n * 7919 % 10_000;
                let mut found = [0; 4];
                read(&mut found, u64::from(number) * 4).unwrap();
                assert_eq!(u32::from_le_bytes(found), number);
            });
            let error = read(&mut [0; 8], 40_000 - 4).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}
