//! The tile in NEON: four rows by one panel, whose 64 sums are 16 registers.
//!
//! ```text
//! signed: sdot   4 sums += 4 bytes of each output * 4 bytes of a row
//! pairs:  smlal  4 sums += 1 number of each output * 1 number of a row; the first of all pairs, then the second
//! ```
//!
//! Bytes without the dot product are pairs too: to multiply them (`smull`) and to add up (`sadalp`) are two instructions
//! for eight products, as many as `smlal` takes.
#![allow(
    unsafe_code,
    reason = "loads and stores of vectors take pointers, one instruction is assembly; an Isa is the proof of its features"
)]

use std::arch::{aarch64::*, asm};

use super::{
    signed::Signed,
    tile::{Columns, Rows},
    weight::{PANEL, PairLine, QuadLine},
};
use crate::{Isa, isa::Level};

/// The sums of a row: four outputs in each vector.
type Sums = [int32x4_t; PANEL / 4];

/// Steps of a row that one vector holds.
const STEPS: usize = 4;

#[inline]
#[target_feature(enable = "neon")]
fn load(from: &[i32], sums: &mut Sums) {
    for (from, sum) in from[..PANEL].as_chunks::<4>().0.iter().zip(sums) {
        // SAFETY: reads four.
        *sum = unsafe { vld1q_s32(from.as_ptr()) };
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn store(sums: &Sums, to: &mut [i32]) {
    for (sum, to) in sums.iter().zip(to[..PANEL].as_chunks_mut::<4>().0) {
        // SAFETY: writes four.
        unsafe { vst1q_s32(to.as_mut_ptr(), *sum) };
    }
}

/// The first 16 of a row; zeros behind its end.
#[inline]
#[target_feature(enable = "neon")]
fn load_bytes(row: &[Signed]) -> int8x16_t {
    let mut padded = [Signed(0); 16];
    let whole = row.first_chunk().unwrap_or_else(|| {
        padded[..row.len()].copy_from_slice(row);
        &padded
    });
    // SAFETY: reads 16 bytes.
    unsafe { vld1q_s8(whole.as_ptr().cast()) }
}

/// The first 8 of a row; zeros behind its end.
#[inline]
#[target_feature(enable = "neon")]
fn load_numbers(row: &[i16]) -> int16x8_t {
    let mut padded = [0; 8];
    let whole = row.first_chunk().unwrap_or_else(|| {
        padded[..row.len()].copy_from_slice(row);
        &padded
    });
    // SAFETY: reads 8 numbers.
    unsafe { vld1q_s16(whole.as_ptr()) }
}

/// To each of four sums, the products of four bytes of `w` and those of `x` at `STEP`. Its intrinsic is not stable yet.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot<const STEP: i32>(mut sum: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: reads and writes the registers that it names; the features are there, as they are the function's.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {w:v}.16b, {x:v}.4b[{step}]",
            sum = inout(vreg) sum,
            w = in(vreg) w,
            x = in(vreg) x,
            step = const STEP,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// One step of bytes.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn signed_step<const R: usize, const STEP: i32>(line: &QuadLine, x: [int8x16_t; R], sums: &mut [Sums; R]) {
    // SAFETY: reads the 64 bytes of the line.
    let int8x16x4_t(a, b, c, d) = unsafe { vld1q_s8_x4(line.0.as_ptr()) };
    for (sums, x) in sums.iter_mut().zip(x) {
        for (sum, w) in sums.iter_mut().zip([a, b, c, d]) {
            *sum = dot::<STEP>(*sum, w, x);
        }
    }
}

/// One step of pairs, whose numbers in `x` are at `FIRST` and `SECOND`.
#[inline]
#[target_feature(enable = "neon")]
fn pairs_step<const R: usize, const FIRST: i32, const SECOND: i32>(
    line: &PairLine,
    x: [int16x8_t; R],
    sums: &mut [Sums; R],
) {
    let (left, right) = line.0.split_at(PANEL);
    // SAFETY: each reads the pairs of eight outputs, and parts their first numbers from the second.
    let halves = unsafe { [vld2q_s16(left.as_ptr()), vld2q_s16(right.as_ptr())] };
    for (sums, x) in sums.iter_mut().zip(x) {
        for ([low, high], int16x8x2_t(first, second)) in sums.as_chunks_mut::<2>().0.iter_mut().zip(halves) {
            *low = vmlal_laneq_s16::<FIRST>(*low, vget_low_s16(first), x);
            *high = vmlal_high_laneq_s16::<FIRST>(*high, first, x);
            *low = vmlal_laneq_s16::<SECOND>(*low, vget_low_s16(second), x);
            *high = vmlal_high_laneq_s16::<SECOND>(*high, second, x);
        }
    }
}

/// A tile of `R` rows by one panel; `$step` is one of the steps that a vector holds.
macro_rules! tile {
    ($name:ident, $features:literal, $form:ty, $line:ty, $load:ident, $zero:expr, [$($step:expr),*]) => {
        /// From `acc` on lie `R` rows `width` apart, 16 sums of which are written.
        #[target_feature(enable = $features)]
        fn $name<const R: usize>(
            a: Rows<'_, $form>,
            lines: &[$line],
            start: Option<&[i32]>,
            acc: &mut [i32],
            width: usize,
        ) {
            let lanes = 16 / size_of::<$form>();
            let mut rows = [&a.a[..0]; R];
            let mut sums = [[vdupq_n_s32(0); PANEL / 4]; R];
            for (row, (from, sums)) in rows.iter_mut().zip(&mut sums).enumerate() {
                *from = &a.a[row * a.stride..][..lines.len() * (lanes / STEPS)];
                load(start.unwrap_or(&acc[row * width..]), sums);
            }
            for (i, lines) in lines.chunks(STEPS).enumerate() {
                let mut x = [$zero; R];
                for (x, row) in x.iter_mut().zip(rows) {
                    *x = $load(&row[i * lanes..]);
                }
                let mut lines = lines.iter();
                $(if let Some(line) = lines.next() {
                    $step(line, x, &mut sums);
                })*
            }
            for (row, sums) in sums.iter().enumerate() {
                store(sums, &mut acc[row * width..]);
            }
        }
    };
}

tile!(
    signed_tile,
    "neon,dotprod",
    Signed,
    QuadLine,
    load_bytes,
    vdupq_n_s8(0),
    [signed_step::<R, 0>, signed_step::<R, 1>, signed_step::<R, 2>, signed_step::<R, 3>]
);
tile!(
    pairs_tile,
    "neon",
    i16,
    PairLine,
    load_numbers,
    vdupq_n_s16(0),
    [pairs_step::<R, 0, 1>, pairs_step::<R, 2, 3>, pairs_step::<R, 4, 5>, pairs_step::<R, 6, 7>]
);

/// Covers `a` and `b` with tiles of at most four rows.
macro_rules! cover {
    ($a:ident, $b:ident, $start:ident, $acc:ident, $tile:ident, [$($rows:literal),*]) => {{
        let width = $b.count * PANEL;
        for panel in 0..$b.count {
            let lines = &$b.b[panel * $b.panel..][..$a.steps];
            let start = $start.map(|start| &start[panel * PANEL..]);
            let mut row = 0;
            $(while $a.count - row >= $rows {
                let a = Rows { a: &$a.a[row * $a.stride..], ..$a };
                let acc = &mut $acc[row * width + panel * PANEL..];
                // SAFETY: the level that was matched has the features.
                unsafe { $tile::<$rows>(a, lines, start, acc, width) };
                row += $rows;
            })*
        }
        true
    }};
}

/// False where `isa` is not even NEON.
pub(super) fn pairs(
    isa: Isa,
    a: Rows<'_, i16>,
    b: Columns<'_, PairLine>,
    start: Option<&[i32]>,
    acc: &mut [i32],
) -> bool {
    match isa.0 {
        Level::Neon | Level::NeonDotprod => cover!(a, b, start, acc, pairs_tile, [4, 2, 1]),
        Level::Baseline => false,
    }
}

/// False where `isa` has no dot product.
pub(super) fn signed(
    isa: Isa,
    a: Rows<'_, Signed>,
    b: Columns<'_, QuadLine>,
    start: Option<&[i32]>,
    acc: &mut [i32],
) -> bool {
    match isa.0 {
        Level::NeonDotprod => cover!(a, b, start, acc, signed_tile, [4, 2, 1]),
        Level::Baseline | Level::Neon => false,
    }
}
