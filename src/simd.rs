//! The vector unit: loops that use all of it, and the register tile of the matrix products.
//!
//! The program is compiled once and runs on processors with vectors of four, eight or sixteen numbers;
//! `pulp` detects which. The width does not change a bit of a result: an elementwise loop computes the
//! same + − × ÷ √ for every width, and an element of a tile is one chain of additions for every tile
//! size. (A processor without fused multiply-add rounds the products of `f32` twice; see [`Tile`].)

use std::cell::Cell;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::LocalKey;

use ndarray::LinalgScalar;
use num_complex::Complex;
use pulp::{Arch, Simd, WithSimd};

/// Whether AVX-512 is left unused.
static AVX2_AT_MOST: AtomicBool = AtomicBool::new(false);

/// Leaves AVX-512 unused from now on, to measure on this machine what one without it would compute. The bits of
/// all results stay the same.
pub(crate) fn avx2_at_most() {
    AVX2_AT_MOST.store(true, Ordering::Relaxed);
}

/// The vector unit in use.
#[inline(always)]
fn arch() -> Arch {
    #[cfg(target_arch = "x86_64")]
    if AVX2_AT_MOST.load(Ordering::Relaxed)
        && let Some(avx2) = pulp::x86::V3::try_new()
    {
        return Arch::V3(avx2);
    }
    Arch::new()
}

/// The name of the vector unit in use.
#[must_use]
pub(crate) fn unit() -> &'static str {
    struct Name;
    impl WithSimd for Name {
        type Output = &'static str;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> &'static str {
            match S::F32_LANES {
                16 => "AVX-512",
                8 => "AVX2",
                4 => "NEON",
                _ => "none",
            }
        }
    }
    arch().dispatch(Name)
}

/// Runs `steps` fused multiplications and additions in each of twelve independent chains, in registers and on one
/// thread. Returns the number of operations: two for each lane.
#[must_use]
pub(crate) fn fused_operations(steps: usize) -> f64 {
    struct Chains {
        steps: usize,
    }
    impl WithSimd for Chains {
        type Output = f64;
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> f64 {
            const CHAINS: usize = 12;
            // The chains begin differently: otherwise the compiler would compute one of them.
            let mut sums = [simd.splat_f32s(0.0); CHAINS];
            let mut start = 0.0;
            for sum in &mut sums {
                *sum = simd.splat_f32s(black_box(start));
                start += 1.0;
            }
            let (x, y) = (simd.splat_f32s(black_box(0.5)), simd.splat_f32s(black_box(0.25)));
            for _ in 0..self.steps {
                for sum in &mut sums {
                    *sum = simd.mul_add_f32s(*sum, x, y);
                }
            }
            for sum in sums {
                black_box(simd.reduce_sum_f32s(sum));
            }
            (2 * CHAINS * S::F32_LANES * self.steps) as f64
        }
    }
    arch().dispatch(Chains { steps })
}

/// Runs a loop that is compiled for the widest vectors of the processor.
///
/// Mark the closure and the functions it calls `#[inline(always)]`: code that is not inlined is not
/// compiled for these vectors.
#[inline(always)]
pub(crate) fn vectorized<R>(run: impl FnOnce() -> R) -> R {
    arch().dispatch(run)
}

/// The sizes of a register tile, for a number type on this processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TileShape {
    /// The largest number of rows: lines of a panel of A.
    pub rows: usize,
    /// Columns: lines of a panel of B.
    pub columns: usize,
    /// The largest number of terms that are summed at once, so that what is read of a panel of B again and
    /// again stays in a near cache.
    pub depth: usize,
}

/// A use of memory that each thread keeps from one product or convolution to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// The panels of A.
    Left,
    /// The panels of B.
    Right,
    /// The sums of a block of C.
    Sums,
    /// The panels of a convolution's weight, for all its products.
    Weight,
    /// A convolution's columns: what the kernel sees of a picture.
    Columns,
    /// The sums of a block of outputs for the gradient of a convolution's weight.
    Gradient,
    /// A convolution's outputs, where they are not adjacent in the result.
    Outputs,
}

/// A number type for register tiles.
pub(crate) trait Tile: LinalgScalar {
    /// The sizes of a tile.
    #[must_use]
    fn shape() -> TileShape {
        PORTABLE
    }

    /// Computes `s_ij = Σ_k a_ki b_kj`, k from 0 upwards, or continues these sums if they are not `first`, for
    /// every panel of B with every panel of A.
    ///
    /// `a` has panels [depth, rows], `b` panels [depth, columns]; `sums` is [panels of B, panels of A, rows,
    /// columns].
    fn tiles(rows: usize, depth: usize, first: bool, a: &[Self], b: &[Self], sums: &mut [Self]) {
        vectorized(
            #[inline(always)]
            || portable_tiles(rows, depth, first, a, b, sums),
        );
    }

    /// This thread's memory.
    #[must_use]
    fn memory(of: Memory) -> &'static LocalKey<Cell<Vec<Self>>>;
}

macro_rules! memory {
    ($number:ty) => {
        fn memory(of: Memory) -> &'static LocalKey<Cell<Vec<Self>>> {
            thread_local! {
                static LEFT: Cell<Vec<$number>> = const { Cell::new(Vec::new()) };
                static RIGHT: Cell<Vec<$number>> = const { Cell::new(Vec::new()) };
                static SUMS: Cell<Vec<$number>> = const { Cell::new(Vec::new()) };
                static WEIGHT: Cell<Vec<$number>> = const { Cell::new(Vec::new()) };
                static COLUMNS: Cell<Vec<$number>> = const { Cell::new(Vec::new()) };
                static GRADIENT: Cell<Vec<$number>> = const { Cell::new(Vec::new()) };
                static OUTPUTS: Cell<Vec<$number>> = const { Cell::new(Vec::new()) };
            }
            match of {
                Memory::Left => &LEFT,
                Memory::Right => &RIGHT,
                Memory::Sums => &SUMS,
                Memory::Weight => &WEIGHT,
                Memory::Columns => &COLUMNS,
                Memory::Gradient => &GRADIENT,
                Memory::Outputs => &OUTPUTS,
            }
        }
    };
}

/// Fused: each step rounds once. The bits are the same on every processor with fused multiply-add: all of
/// x86-64-v3 and later, and all 64-bit ARM. Others round twice.
impl Tile for f32 {
    fn shape() -> TileShape {
        arch().dispatch(FusedShape)
    }

    fn tiles(rows: usize, depth: usize, first: bool, a: &[f32], b: &[f32], sums: &mut [f32]) {
        arch().dispatch(FusedTiles { rows, depth, first, a, b, sums });
    }

    memory!(f32);
}

/// Never fused: the same bits on every machine.
impl Tile for f64 {
    memory!(f64);
}

impl Tile for Complex<f64> {
    memory!(Complex<f64>);
}

/// The tile without vectors of a known length.
const PORTABLE: TileShape = TileShape { rows: 12, columns: PORTABLE_COLUMNS, depth: 256 };
const PORTABLE_COLUMNS: usize = 32;

/// Sums in the order of the definition; product and sum are rounded separately.
#[inline(always)]
fn portable_tiles<T: LinalgScalar>(rows: usize, depth: usize, first: bool, a: &[T], b: &[T], sums: &mut [T]) {
    let (sums, _) = sums.as_chunks_mut::<PORTABLE_COLUMNS>();
    let mut tiles = sums.chunks_exact_mut(rows);
    for b in b.chunks_exact(depth * PORTABLE_COLUMNS) {
        let (b, _) = b.as_chunks::<PORTABLE_COLUMNS>();
        for (a, tile) in a.chunks_exact(depth * rows).zip(&mut tiles) {
            for (i, sums) in tile.iter_mut().enumerate() {
                let mut row = if first { [T::zero(); PORTABLE_COLUMNS] } else { *sums };
                for (k, b) in b.iter().enumerate() {
                    let a = a[k * rows + i];
                    for j in 0..PORTABLE_COLUMNS {
                        row[j] = row[j] + a * b[j];
                    }
                }
                *sums = row;
            }
        }
    }
}

struct FusedShape;

impl WithSimd for FusedShape {
    type Output = TileShape;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> TileShape {
        if S::F32_LANES < 4 {
            return PORTABLE;
        }
        // Two vectors of columns. The sums, two vectors of B and a number of A must fit the registers.
        let columns = 2 * S::F32_LANES;
        let (rows, depth) = if S::REGISTER_COUNT >= 32 { (FUSED_ROWS, 512) } else { (FUSED_ROWS / 2, 384) };
        TileShape { rows, columns, depth }
    }
}

/// The largest number of rows of a fused tile: 24 sums, and 12 on a processor with 16 registers.
const FUSED_ROWS: usize = 12;

struct FusedTiles<'a> {
    rows: usize,
    depth: usize,
    first: bool,
    a: &'a [f32],
    b: &'a [f32],
    sums: &'a mut [f32],
}

impl WithSimd for FusedTiles<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { rows, depth, first, a, b, sums } = self;
        if S::F32_LANES < 4 {
            return portable_tiles(rows, depth, first, a, b, sums);
        }
        // The number of rows must be known at compile time, so that all sums stay in registers.
        match rows {
            1 => fused_tiles::<S, 1>(simd, depth, first, a, b, sums),
            2 => fused_tiles::<S, 2>(simd, depth, first, a, b, sums),
            3 => fused_tiles::<S, 3>(simd, depth, first, a, b, sums),
            4 => fused_tiles::<S, 4>(simd, depth, first, a, b, sums),
            5 => fused_tiles::<S, 5>(simd, depth, first, a, b, sums),
            6 => fused_tiles::<S, 6>(simd, depth, first, a, b, sums),
            7 => fused_tiles::<S, 7>(simd, depth, first, a, b, sums),
            8 => fused_tiles::<S, 8>(simd, depth, first, a, b, sums),
            9 => fused_tiles::<S, 9>(simd, depth, first, a, b, sums),
            10 => fused_tiles::<S, 10>(simd, depth, first, a, b, sums),
            11 => fused_tiles::<S, 11>(simd, depth, first, a, b, sums),
            _ => fused_tiles::<S, FUSED_ROWS>(simd, depth, first, a, b, sums),
        }
    }
}

#[inline(always)]
fn fused_tiles<S: Simd, const ROWS: usize>(simd: S, depth: usize, first: bool, a: &[f32], b: &[f32], sums: &mut [f32]) {
    let (sums, _) = S::as_mut_simd_f32s(sums).0.as_chunks_mut::<2>();
    let (b, _) = S::as_simd_f32s(b).0.as_chunks::<2>();
    let mut tiles = sums.as_chunks_mut::<ROWS>().0.iter_mut();
    for b in b.chunks_exact(depth) {
        for (a, tile) in a.chunks_exact(depth * ROWS).zip(&mut tiles) {
            fused_tile(simd, first, a, b, tile);
        }
    }
}

/// One tile, with ROWS × 2 vectors of sums in registers.
#[inline(always)]
fn fused_tile<S: Simd, const ROWS: usize>(
    simd: S,
    first: bool,
    a: &[f32],
    b: &[[S::f32s; 2]],
    sums: &mut [[S::f32s; 2]; ROWS],
) {
    let (a, _) = a.as_chunks::<ROWS>();
    let mut tile = if first { [[simd.splat_f32s(0.0); 2]; ROWS] } else { *sums };
    // Four terms at a time.
    let ((a_fours, a_rest), (b_fours, b_rest)) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    for (a, b) in a_fours.iter().zip(b_fours) {
        for k in 0..4 {
            fused_term(simd, &a[k], &b[k], &mut tile);
        }
    }
    for (a, b) in a_rest.iter().zip(b_rest) {
        fused_term(simd, a, b, &mut tile);
    }
    *sums = tile;
}

/// Adds the products of one k.
#[inline(always)]
fn fused_term<S: Simd, const ROWS: usize>(simd: S, a: &[f32; ROWS], b: &[S::f32s; 2], tile: &mut [[S::f32s; 2]; ROWS]) {
    for row in 0..ROWS {
        let x = simd.splat_f32s(a[row]);
        tile[row][0] = simd.mul_add_f32s(x, b[0], tile[row][0]);
        tile[row][1] = simd.mul_add_f32s(x, b[1], tile[row][1]);
    }
}
