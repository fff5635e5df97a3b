//! Checksums of files and data.
//!
//! ```text
//! digest(x) = SHA-256(SHA-256(block 0), SHA-256(block 1), …, the number of bytes)     blocks of 1 MiB
//! ```
//!
//! The blocks are digested in parallel. Their borders are fixed, so the result is the same for any number
//! of threads.

use std::fmt::Write;
use std::ops::Range;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::error::Result;

const BLOCK: usize = 1 << 20;

/// The digest of some bytes, as 64 hexadecimal digits.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let blocks = bytes.par_chunks(BLOCK).map(|block| Sha256::digest(block).into()).collect();
    of_blocks(blocks, bytes.len())
}

/// The digest of `count` numbers, little-endian. `read` appends the numbers of a range to a vector, with
/// scratch memory `M` for each thread. Only one block per thread is in memory at a time.
///
/// # Errors
///
/// The first error of `read`, in the order of the numbers.
pub(crate) fn digest_of_numbers<M: Default>(
    count: usize,
    read: impl Fn(Range<usize>, &mut M, &mut Vec<f32>) -> Result<()> + Sync,
) -> Result<String> {
    const NUMBERS: usize = BLOCK / size_of::<f32>();
    let block = |(memory, numbers, bytes): &mut (M, Vec<f32>, Vec<u8>), block: usize| {
        numbers.clear();
        read(block * NUMBERS..count.min((block + 1) * NUMBERS), memory, numbers)?;
        bytes.resize(size_of::<f32>() * numbers.len(), 0);
        for (to, x) in bytes.as_chunks_mut().0.iter_mut().zip(numbers) {
            *to = x.to_le_bytes();
        }
        Ok(Sha256::digest(&bytes).into())
    };
    let blocks: Vec<Result<[u8; 32]>> =
        (0..count.div_ceil(NUMBERS)).into_par_iter().map_init(Default::default, block).collect();
    Ok(of_blocks(blocks.into_iter().collect::<Result<_>>()?, size_of::<f32>() * count))
}

fn of_blocks(blocks: Vec<[u8; 32]>, bytes: usize) -> String {
    let mut all = Sha256::new();
    all.update(blocks.as_flattened());
    all.update((bytes as u64).to_le_bytes());
    hex(&all.finalize())
}

/// Two digits for each byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn a_digest_sees_every_byte_and_no_number_of_threads() {
        let mut numbers: Vec<f32> = (0..630_000).map(|i| (i / 900 * 7 + i % 900) as f32).collect();
        let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        assert!(bytes.len() > 2 * BLOCK);
        let expected = digest(&bytes);
        let of_numbers = |numbers: &[f32]| {
            let read = |range: Range<usize>, (): &mut (), to: &mut Vec<f32>| {
                to.extend_from_slice(&numbers[range]);
                Ok(())
            };
            digest_of_numbers(numbers.len(), read).unwrap()
        };
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(|| (digest(&bytes), of_numbers(&numbers))), (expected.clone(), expected.clone()));
        }
        for at in [0, 315_017, 629_999] {
            numbers[at] += 1.0;
            assert_ne!(of_numbers(&numbers), expected, "{at}");
            numbers[at] -= 1.0;
        }
        assert_eq!(of_numbers(&[]), digest(b""));
        assert_eq!(digest(b""), "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc");
    }

    #[test]
    fn the_first_error_is_reported() {
        let read = |range: Range<usize>, (): &mut (), _: &mut Vec<f32>| {
            if range.start == 0 { Ok(()) } else { Err(Error::mismatch(format!("from {}", range.start))) }
        };
        assert_eq!(digest_of_numbers(BLOCK, read).unwrap_err().to_string(), "from 262144");
    }
}
