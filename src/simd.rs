//! The vector unit: loops that use all of it, and the register tile of the matrix products.
//!
//! The program is compiled once and runs on processors with vectors of four, eight or sixteen numbers;
//! `pulp` detects which. The width does not change a bit of a result: an elementwise loop computes the
//! same + − × ÷ √ for every width, and an element of a tile is one chain of additions for every tile
//! size. (A processor without fused multiply-add rounds the products of `f32` twice; see [`Tile`].)

use std::cell::Cell;
use std::thread::LocalKey;

use ndarray::LinalgScalar;
use num_complex::Complex;
use pulp::{Arch, Simd, WithSimd};

/// The largest number of rows of a register tile.
pub(crate) const TILE_ROWS: usize = 12;
/// Columns of a register tile, and of a panel of B.
pub(crate) const TILE_COLUMNS: usize = 32;

/// The sums of a register tile, one row for each row of A.
pub(crate) type Sums<T> = [[T; TILE_COLUMNS]; TILE_ROWS];

/// One of the two factors of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A.
    Left,
    /// B.
    Right,
}

/// Runs a loop that is compiled for the widest vectors of the processor.
///
/// Mark the closure and the functions it calls `#[inline(always)]`: code that is not inlined is not
/// compiled for these vectors.
#[inline(always)]
pub(crate) fn vectorized<R>(run: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(run)
}

/// A number type for register tiles.
pub trait Tile: LinalgScalar {
    /// The largest number of rows of a register tile on this processor.
    #[must_use]
    fn tile_rows() -> usize {
        TILE_ROWS
    }

    /// `sums_ij = Σ_k a_ki b_kj`, k from 0 upwards, for one register tile.
    ///
    /// `a` is a panel [K, rows], `b` a panel [K, 32]; rows beyond `rows` do not change.
    fn tile(rows: usize, a: &[Self], b: &[Self], sums: &mut Sums<Self>) {
        vectorized(
            #[inline(always)]
            || portable_tile(rows, a, b, sums),
        );
    }

    /// The buffer for the panels of one factor. Each thread keeps it from one product to the next.
    #[must_use]
    fn panel_memory(side: Side) -> &'static LocalKey<Cell<Vec<Self>>>;
}

macro_rules! panel_memory {
    ($number:ty) => {
        fn panel_memory(side: Side) -> &'static LocalKey<Cell<Vec<Self>>> {
            thread_local! {
                static LEFT: Cell<Vec<$number>> = const { Cell::new(Vec::new()) };
                static RIGHT: Cell<Vec<$number>> = const { Cell::new(Vec::new()) };
            }
            match side {
                Side::Left => &LEFT,
                Side::Right => &RIGHT,
            }
        }
    };
}

/// Fused: each step rounds once. The bits are the same on every processor with fused multiply-add: all of
/// x86-64-v3 and later, and all 64-bit ARM. Others round twice.
impl Tile for f32 {
    fn tile_rows() -> usize {
        struct Rows;
        impl WithSimd for Rows {
            type Output = usize;
            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) -> usize {
                if S::REGISTER_COUNT >= 32 { TILE_ROWS } else { TILE_ROWS / 2 }
            }
        }
        Arch::new().dispatch(Rows)
    }

    fn tile(rows: usize, a: &[f32], b: &[f32], sums: &mut Sums<f32>) {
        Arch::new().dispatch(FusedTile { rows, a, b, sums });
    }

    panel_memory!(f32);
}

/// Never fused: the same bits on every machine.
impl Tile for f64 {
    panel_memory!(f64);
}

impl Tile for Complex<f64> {
    panel_memory!(Complex<f64>);
}

/// Sums in the order of the definition; product and sum are rounded separately.
#[inline(always)]
fn portable_tile<T: LinalgScalar>(rows: usize, a: &[T], b: &[T], sums: &mut Sums<T>) {
    let (b, _) = b.as_chunks::<TILE_COLUMNS>();
    for (i, sums) in sums[..rows].iter_mut().enumerate() {
        let mut row = [T::zero(); TILE_COLUMNS];
        for (k, b) in b.iter().enumerate() {
            let a = a[k * rows + i];
            for (j, &b) in b.iter().enumerate() {
                row[j] = row[j] + a * b;
            }
        }
        *sums = row;
    }
}

struct FusedTile<'a> {
    rows: usize,
    a: &'a [f32],
    b: &'a [f32],
    sums: &'a mut Sums<f32>,
}

impl WithSimd for FusedTile<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { rows, a, b, sums } = self;
        if S::F32_LANES < 4 {
            return portable_tile(rows, a, b, sums);
        }
        // The number of rows must be known at compile time, so that all sums stay in registers.
        match rows {
            1 => fused_tile::<S, 1>(simd, a, b, sums),
            2 => fused_tile::<S, 2>(simd, a, b, sums),
            3 => fused_tile::<S, 3>(simd, a, b, sums),
            4 => fused_tile::<S, 4>(simd, a, b, sums),
            5 => fused_tile::<S, 5>(simd, a, b, sums),
            6 => fused_tile::<S, 6>(simd, a, b, sums),
            7 => fused_tile::<S, 7>(simd, a, b, sums),
            8 => fused_tile::<S, 8>(simd, a, b, sums),
            9 => fused_tile::<S, 9>(simd, a, b, sums),
            10 => fused_tile::<S, 10>(simd, a, b, sums),
            11 => fused_tile::<S, 11>(simd, a, b, sums),
            _ => fused_tile::<S, TILE_ROWS>(simd, a, b, sums),
        }
    }
}

/// Computes two vectors of columns at a time for all rows, with ROWS × 2 sums in registers.
///
/// Nothing here may take a reference to `tile` in a call that is not inlined, such as `zip` or
/// `copy_from_slice`: the sums would then be written to memory at every k.
#[inline(always)]
fn fused_tile<S: Simd, const ROWS: usize>(simd: S, a: &[f32], b: &[f32], sums: &mut Sums<f32>) {
    let (a, _) = a.as_chunks::<ROWS>();
    let (b, _) = b.as_chunks::<TILE_COLUMNS>();
    for columns in (0..TILE_COLUMNS).step_by(2 * S::F32_LANES) {
        let mut tile = [[simd.splat_f32s(0.0); 2]; ROWS];
        for (k, a) in a.iter().enumerate() {
            let (b, _) = S::as_simd_f32s(&b[k][columns..]);
            for (i, &a) in a.iter().enumerate() {
                let a = simd.splat_f32s(a);
                tile[i][0] = simd.mul_add_f32s(a, b[0], tile[i][0]);
                tile[i][1] = simd.mul_add_f32s(a, b[1], tile[i][1]);
            }
        }
        for (i, tile) in tile.iter().enumerate() {
            let (sums, _) = S::as_mut_simd_f32s(&mut sums[i][columns..]);
            (sums[0], sums[1]) = (tile[0], tile[1]);
        }
    }
}
