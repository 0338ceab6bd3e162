//! The tile in AVX2 and AVX-512, with and without VNNI: as many sums as there are registers.
#![allow(
    unsafe_code,
    reason = "loads and stores of vectors take pointers; an Isa is the proof of its features"
)]

use std::arch::x86_64::*;

use super::{
    form::Raised,
    tile::{Columns, Rows},
    weight::{PANEL, PairLine, QuadLine},
};
use crate::{Isa, isa::Level};

/// Bytes of one step of one panel.
const STEP: usize = 64;

/// A tile of `R` rows by `V` vectors. The vectors of one step lie `apart` bytes from each other.
macro_rules! tile {
    ($name:ident, $features:literal, $vector:ident, $zero:ident, $spread:ident, $load:ident, $store:ident, $dot:expr) => {
        /// # Safety
        /// From `a` on lie `R` rows `stride` bytes apart, from `b` on `V` columns `apart` bytes apart, each of `steps`
        /// steps; from `acc` on lie `R` rows of `width` sums, `V` vectors of which
        /// are written; and from `start` on such rows `from_start` apart, that they begin with.
        #[target_feature(enable = $features)]
        unsafe fn $name<const R: usize, const V: usize>(
            (a, stride): (*const u8, usize),
            (b, apart): (*const u8, usize),
            steps: usize,
            (start, from_start): (*const i32, usize),
            (acc, width): (*mut i32, usize),
        ) {
            let lanes = size_of::<$vector>() / 4;
            let mut sums = [[$zero(); V]; R];
            for (row, sums) in sums.iter_mut().enumerate() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: within the rows that the caller promises.
                    *sum = unsafe { $load(start.add(row * from_start + v * lanes).cast()) };
                }
            }
            for step in 0..steps {
                let mut w = [$zero(); V];
                for (v, w) in w.iter_mut().enumerate() {
                    // SAFETY: within the columns that the caller promises.
                    *w = unsafe { $load(b.add(step * STEP + v * apart).cast()) };
                }
                for (row, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: within the rows that the caller promises.
                    let x = $spread(unsafe { a.add(row * stride + step * 4).cast::<i32>().read_unaligned() });
                    for (sum, w) in sums.iter_mut().zip(w) {
                        *sum = $dot(*sum, x, w);
                    }
                }
            }
            for (row, sums) in sums.into_iter().enumerate() {
                for (v, sum) in sums.into_iter().enumerate() {
                    // SAFETY: within the rows that the caller promises.
                    unsafe { $store(acc.add(row * width + v * lanes).cast(), sum) };
                }
            }
        }
    };
}

tile!(
    vnni_quads,
    "avx512f,avx512vnni",
    __m512i,
    _mm512_setzero_si512,
    _mm512_set1_epi32,
    _mm512_loadu_si512,
    _mm512_storeu_si512,
    |sum, x, w| _mm512_dpbusd_epi32(sum, x, w)
);
tile!(
    vnni_pairs,
    "avx512f,avx512vnni",
    __m512i,
    _mm512_setzero_si512,
    _mm512_set1_epi32,
    _mm512_loadu_si512,
    _mm512_storeu_si512,
    |sum, x, w| _mm512_dpwssd_epi32(sum, x, w)
);
tile!(
    avx512_pairs,
    "avx512f,avx512bw",
    __m512i,
    _mm512_setzero_si512,
    _mm512_set1_epi32,
    _mm512_loadu_si512,
    _mm512_storeu_si512,
    |sum, x, w| _mm512_add_epi32(sum, _mm512_madd_epi16(x, w))
);
tile!(
    avx2_pairs,
    "avx2",
    __m256i,
    _mm256_setzero_si256,
    _mm256_set1_epi32,
    _mm256_loadu_si256,
    _mm256_storeu_si256,
    |sum, x, w| _mm256_add_epi32(sum, _mm256_madd_epi16(x, w))
);

/// Covers `a` and `b` with tiles of at most the rows listed, longest first, by two panels (or one, `by_one`).
macro_rules! cover {
    ($a:ident, $b:ident, $start:ident, $acc:ident, $tile:ident, [$($rows:literal),*], $by_two:literal) => {{
        let (stride, panel) = (size_of_val(&$a.a[..1]) * $a.stride, size_of_val(&$b.b[..1]) * $b.panel);
        let width = $b.count * PANEL;
        assert!($a.count > 0 && size_of_val($a.a) >= ($a.count - 1) * stride + $a.steps * 4);
        assert!($b.count > 0 && size_of_val($b.b) >= ($b.count - 1) * panel + $a.steps * STEP);
        assert!($acc.len() >= $a.count * width && $start.is_none_or(|start| start.len() >= width));
        let mut first = 0;
        while first < $b.count {
            let two = $by_two && first + 1 < $b.count;
            let mut row = 0;
            $(while $a.count - row >= $rows {
                let a = ($a.a.as_ptr().cast::<u8>().wrapping_add(row * stride), stride);
                let from = $b.b.as_ptr().cast::<u8>().wrapping_add(first * panel);
                let acc = ($acc.as_mut_ptr().wrapping_add(row * width + first * PANEL), width);
                let start = match $start {
                    Some(start) => (start.as_ptr().wrapping_add(first * PANEL), 0),
                    None => (acc.0.cast_const(), width),
                };
                if two {
                    // SAFETY: the rows `row..row + ROWS` and two panels from `first` on are inside of what was
                    // asserted above; the level that was matched has the features.
                    unsafe { $tile::<$rows, 2>(a, (from, panel), $a.steps, start, acc) };
                } else if $by_two {
                    // SAFETY: as above, for one panel of one vector.
                    unsafe { $tile::<$rows, 1>(a, (from, panel), $a.steps, start, acc) };
                } else {
                    // SAFETY: as above, for one panel of two vectors that are neighbours.
                    unsafe { $tile::<$rows, 2>(a, (from, STEP / 2), $a.steps, start, acc) };
                }
                row += $rows;
            })*
            first += 1 + usize::from(two);
        }
        true
    }};
}

/// False where `isa` has none of these tiles.
pub(super) fn pairs(
    isa: Isa,
    a: Rows<'_, i16>,
    b: Columns<'_, PairLine>,
    start: Option<&[i32]>,
    acc: &mut [i32],
) -> bool {
    match isa.0 {
        Level::Avx512Vnni => cover!(a, b, start, acc, vnni_pairs, [12, 8, 4, 2, 1], true),
        Level::Avx512 => cover!(a, b, start, acc, avx512_pairs, [12, 8, 4, 2, 1], true),
        Level::Avx2 => cover!(a, b, start, acc, avx2_pairs, [6, 4, 2, 1], false),
        _ => false,
    }
}

/// False where `isa` has no such tile.
pub(super) fn quads(
    isa: Isa,
    a: Rows<'_, Raised>,
    b: Columns<'_, QuadLine>,
    start: Option<&[i32]>,
    acc: &mut [i32],
) -> bool {
    match isa.0 {
        Level::Avx512Vnni | Level::Amx => cover!(a, b, start, acc, vnni_quads, [12, 8, 4, 2, 1], true),
        _ => false,
    }
}
