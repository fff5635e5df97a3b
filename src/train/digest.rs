//! Checksums of files and data.
//!
//! ```text
//! digest(x) = SHA-256(SHA-256(block 0), SHA-256(block 1), …, the number of bytes)     blocks of 1 MiB
//! ```
//!
//! The blocks are digested in parallel; their borders depend on nothing, so the result is the same on
//! any number of threads.

use std::fmt::Write;

use ndarray::ArrayView2;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

const BLOCK: usize = 1 << 20;

/// The digest of some bytes, as 64 hexadecimal digits.
pub(super) fn digest(bytes: &[u8]) -> String {
    let blocks = bytes.par_chunks(BLOCK).map(|block| Sha256::digest(block).into()).collect();
    of_blocks(blocks, bytes.len())
}

/// The digest of a matrix's numbers, little-endian, row by row.
pub(super) fn digest_of_matrix(matrix: ArrayView2<'_, f32>) -> String {
    let matrix = matrix.as_standard_layout();
    let numbers = matrix.as_slice().unwrap_or_default();
    let block = |numbers: &[f32]| {
        let mut bytes = vec![0; 4 * numbers.len()];
        for (to, x) in bytes.as_chunks_mut().0.iter_mut().zip(numbers) {
            *to = x.to_le_bytes();
        }
        Sha256::digest(&bytes).into()
    };
    of_blocks(numbers.par_chunks(BLOCK / 4).map(block).collect(), 4 * numbers.len())
}

fn of_blocks(blocks: Vec<[u8; 32]>, bytes: usize) -> String {
    let mut all = Sha256::new();
    all.update(blocks.as_flattened());
    all.update((bytes as u64).to_le_bytes());
    hex(&all.finalize())
}

/// Two digits for each byte.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    #[test]
    fn a_digest_sees_every_byte_and_no_number_of_threads() {
        let mut matrix = Array2::from_shape_fn((700, 900), |(i, j)| (i * 7 + j) as f32);
        let bytes: Vec<u8> = matrix.iter().flat_map(|x| x.to_le_bytes()).collect();
        assert!(bytes.len() > 2 * BLOCK);
        let expected = digest(&bytes);
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(
                pool.install(|| (digest(&bytes), digest_of_matrix(matrix.view()))),
                (expected.clone(), expected.clone())
            );
        }
        for at in [[0, 0], [350, 17], [699, 899]] {
            matrix[at] += 1.0;
            assert_ne!(digest_of_matrix(matrix.view()), expected, "{at:?}");
            matrix[at] -= 1.0;
        }
        assert_eq!(digest_of_matrix(matrix.t()), digest_of_matrix(matrix.t().to_owned().view()));
        assert_eq!(digest(b""), "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc");
    }
}
