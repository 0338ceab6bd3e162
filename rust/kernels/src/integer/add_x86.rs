//! [`super::add`] by halves of multipliers, by the instruction that multiplies pairs of i16 and adds them up: of the
//! same formula the compiler makes four products of 32 bits, which take several times as long.
#![allow(
    unsafe_code,
    reason = "loads and stores of vectors take pointers; an Isa is the proof of its features"
)]

use std::{any::TypeId, arch::x86_64::*};

use super::{Integer, add::Halves};
use crate::{Isa, isa::Level};

/// Writes the elements of `y` that come in whole vectors, and tells how many these are.
pub(super) fn whole_vectors<T: Integer, U: Integer>(
    isa: Isa,
    a: &[T],
    b: &[T],
    by: Halves,
    y: &mut [U],
) -> usize {
    match isa.0 {
        // SAFETY: every x86-64 has SSE2.
        Level::Baseline | Level::Sse42 => unsafe { sse2(a, b, by, y) },
        // SAFETY: an `Isa(Avx2)` is only made after detecting avx2.
        Level::Avx2 => unsafe { avx2(a, b, by, y) },
        // SAFETY: an `Isa` of these levels is only made after detecting avx512f and avx512bw.
        Level::Avx512 | Level::Avx512Vnni | Level::Amx => unsafe { avx512(a, b, by, y) },
    }
}

fn is<T: 'static, U: 'static>() -> bool {
    TypeId::of::<T>() == TypeId::of::<U>()
}

/// The intrinsics of one width. `$widen` makes i16 of half a vector of i8, `$narrow` the reverse, saturating; `$none` is 1
/// where the lower half of the first is 0 and the second even.
macro_rules! with {
    (
        $name:ident, $feature:literal, $n:literal, $load:ident, $store:ident, $load_half:ident, $store_half:ident,
        $set:ident, $low:ident, $high:ident, $madd:ident, $pack:ident, $sra:ident, $srl:ident, $and:ident, $add:ident,
        $sub:ident, $widen:expr, $narrow:expr, $none:expr
    ) => {
        #[target_feature(enable = $feature)]
        fn $name<T: Integer, U: Integer>(a: &[T], b: &[T], by: Halves, y: &mut [U]) -> usize {
            if !((is::<T, i8>() || is::<T, i16>()) && (is::<U, i8>() || is::<U, i16>())) {
                return 0;
            }
            let pair = |(of_a, of_b): (i32, i32)| $set(of_b << 16 | of_a & 0xffff);
            let (of_high, of_low) = (pair(by.high), pair(by.low));
            let (below, half) = ($set((1 << by.shift) - 1), $set(1 << (by.shift - 1)));
            let (sixteen, shift) = (_mm_cvtsi32_si128(16), _mm_cvtsi32_si128(by.shift as i32));
            let rounded = |pairs| {
                let low = $madd(pairs, of_low);
                let high = $add($madd(pairs, of_high), $sra(low, sixteen));
                let whole = $sra(high, shift);
                let up = $sub($add($and(high, below), half), $none(low, whole));
                $add(whole, $srl(up, shift))
            };
            let wide = |x: &[T; $n]| {
                // SAFETY: `x` holds as many i8, half a vector, or i16, a whole one: T is one of them.
                unsafe {
                    if is::<T, i8>() {
                        $widen($load_half(x.as_ptr().cast()))
                    } else {
                        $load(x.as_ptr().cast())
                    }
                }
            };
            let (a, b, y) = (a.as_chunks().0, b.as_chunks().0, y.as_chunks_mut::<$n>().0);
            for ((a, b), y) in a.iter().zip(b).zip(&mut *y) {
                let (a, b) = (wide(a), wide(b));
                // Unpacked and packed within each 128 bits, so in order again; packing saturates.
                let sum = $pack(rounded($low(a, b)), rounded($high(a, b)));
                // SAFETY: `y` has room for as many i8, half a vector, or i16, a whole one: U is one of them.
                unsafe {
                    if is::<U, i8>() {
                        $store_half(y.as_mut_ptr().cast(), $narrow(sum));
                    } else {
                        $store(y.as_mut_ptr().cast(), sum);
                    }
                }
            }
            y.len() * $n
        }
    };
}

with!(
    sse2,
    "sse2",
    8,
    _mm_loadu_si128,
    _mm_storeu_si128,
    _mm_loadl_epi64,
    _mm_storel_epi64,
    _mm_set1_epi32,
    _mm_unpacklo_epi16,
    _mm_unpackhi_epi16,
    _mm_madd_epi16,
    _mm_packs_epi32,
    _mm_sra_epi32,
    _mm_srl_epi32,
    _mm_and_si128,
    _mm_add_epi32,
    _mm_sub_epi32,
    |x| _mm_srai_epi16::<8>(_mm_unpacklo_epi8(x, x)),
    |sum| _mm_packs_epi16(sum, sum),
    |low, whole| {
        let none = _mm_cmpeq_epi32(_mm_slli_epi32::<16>(low), _mm_setzero_si128());
        _mm_srli_epi32::<31>(_mm_andnot_si128(_mm_slli_epi32::<31>(whole), none))
    }
);
with!(
    avx2,
    "avx2",
    16,
    _mm256_loadu_si256,
    _mm256_storeu_si256,
    _mm_loadu_si128,
    _mm_storeu_si128,
    _mm256_set1_epi32,
    _mm256_unpacklo_epi16,
    _mm256_unpackhi_epi16,
    _mm256_madd_epi16,
    _mm256_packs_epi32,
    _mm256_sra_epi32,
    _mm256_srl_epi32,
    _mm256_and_si256,
    _mm256_add_epi32,
    _mm256_sub_epi32,
    |x| _mm256_cvtepi8_epi16(x),
    |sum| _mm256_castsi256_si128(_mm256_permute4x64_epi64::<0b1000>(_mm256_packs_epi16(sum, sum))),
    |low, whole| {
        let none = _mm256_cmpeq_epi32(_mm256_slli_epi32::<16>(low), _mm256_setzero_si256());
        _mm256_srli_epi32::<31>(_mm256_andnot_si256(_mm256_slli_epi32::<31>(whole), none))
    }
);
with!(
    avx512,
    "avx512f,avx512bw",
    32,
    _mm512_loadu_si512,
    _mm512_storeu_si512,
    _mm256_loadu_si256,
    _mm256_storeu_si256,
    _mm512_set1_epi32,
    _mm512_unpacklo_epi16,
    _mm512_unpackhi_epi16,
    _mm512_madd_epi16,
    _mm512_packs_epi32,
    _mm512_sra_epi32,
    _mm512_srl_epi32,
    _mm512_and_si512,
    _mm512_add_epi32,
    _mm512_sub_epi32,
    |x| _mm512_cvtepi8_epi16(x),
    |sum| _mm512_cvtsepi16_epi8(sum),
    |low, whole| {
        let none = _mm512_testn_epi32_mask(low, _mm512_set1_epi32(0xffff));
        _mm512_maskz_andnot_epi32(none, whole, _mm512_set1_epi32(1))
    }
);
