//! [`super::fused`] to int8 in AVX-512, 64 at a time: twice as fast as the same from the compiler, which narrows singly.
#![allow(
    unsafe_code,
    reason = "loads and stores of vectors take pointers; an Isa is the proof of its features"
)]

use std::arch::x86_64::*;

use super::{Lie, Output};
use crate::{Isa, Wide, isa::Level};

const N: usize = 64;

/// Writes the columns of `y` that come in whole 64s, and tells how many these are; none where `isa` has no AVX-512.
/// All products must lie within i32, and 0 mean 0.
pub(super) fn rows(isa: Isa, acc: &[i32], lie: Lie, scales: &[f64], output: Output, y: &mut [i8]) -> usize {
    if !matches!(isa.0, Level::Avx512 | Level::Avx512Vnni | Level::Amx) || output.zero_point != 0 {
        return 0;
    }
    let columns = lie.length / N * N;
    let one;
    let scales = if lie.columns {
        &scales[lie.channel..]
    } else {
        one = [scales[lie.channel]; N];
        &one[..]
    };
    for first in (0..columns).step_by(N) {
        let scales = if lie.columns { &scales[first..] } else { scales };
        let rows = acc.len().div_ceil(lie.width).min(y.len().div_ceil(lie.stride));
        assert!(scales.len() >= N && rows > 0);
        assert!(
            acc.len() >= (rows - 1) * lie.width + first + N && y.len() >= (rows - 1) * lie.stride + first + N
        );
        let (acc, y) = (acc[first..].as_ptr(), y[first..].as_mut_ptr());
        // SAFETY: `rows` rows of 64, from `first` on, are inside of what was asserted; the level has the features.
        unsafe {
            block((acc, lie.width), rows, scales.as_ptr(), (output.qmin, output.qmax), (y, lie.stride))
        };
    }
    columns
}

/// # Safety
/// From `scales` on lie 64; from `acc` on `rows` rows of 64, `width` apart; and as many, `stride` apart, from `y` on.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn block(
    (acc, width): (*const i32, usize),
    rows: usize,
    scales: *const f64,
    (low, high): (i16, i16),
    (y, stride): (*mut i8, usize),
) {
    let (low, high) = (_mm512_set1_epi8(low as i8), _mm512_set1_epi8(high as i8));
    let rounder = _mm512_set1_pd(f64::ROUNDER);
    // The low halves of 8 and 8 f64; and four bytes each of the four vectors that `packs` took turns with.
    let halves = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    let mut factors = [rounder; N / 8];
    for (i, factor) in factors.iter_mut().enumerate() {
        // SAFETY: 8 of the 64.
        *factor = unsafe { _mm512_loadu_pd(scales.add(8 * i)) };
    }
    for row in 0..rows {
        let sum = |i: usize| {
            // SAFETY: 8 of the 64 of that row, from `i` on.
            let acc = unsafe { _mm256_loadu_si256(acc.add(row * width + i).cast()) };
            _mm512_castpd_si512(_mm512_fmadd_pd(_mm512_cvtepi32_pd(acc), factors[i / 8], rounder))
        };
        let whole = |i: usize| _mm512_permutex2var_epi32(sum(i), halves, sum(i + 8));
        let left = _mm512_packs_epi32(whole(0), whole(16));
        let right = _mm512_packs_epi32(whole(32), whole(48));
        let bytes = _mm512_permutexvar_epi32(order, _mm512_packs_epi16(left, right));
        let bytes = _mm512_min_epi8(_mm512_max_epi8(bytes, low), high);
        // SAFETY: 64 of that row.
        unsafe { _mm512_storeu_si512(y.add(row * stride).cast(), bytes) };
    }
}
