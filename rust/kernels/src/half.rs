//! Many halves to singles and back; with the instruction for it, where there is one (F16C).

use crate::{Element, F16, Isa, isa::per_f16c};

/// Exact.
pub(crate) fn widen(isa: Isa, x: &[F16], y: &mut [f32]) {
    per_f16c!(isa, with_f16c::widen, portable::widen, (x: &[F16], y: &mut [f32]));
}

/// Rounded to nearest, ties to even; NaN stays NaN.
pub(crate) fn narrow(isa: Isa, x: &[f32], y: &mut [F16]) {
    per_f16c!(isa, with_f16c::narrow, portable::narrow, (x: &[f32], y: &mut [F16]));
}

mod portable {
    use super::{Element, F16};

    #[inline(always)]
    pub(super) fn widen(x: &[F16], y: &mut [f32]) {
        for (x, y) in x.iter().zip(y) {
            *y = x.widen();
        }
    }

    #[inline(always)]
    pub(super) fn narrow(x: &[f32], y: &mut [F16]) {
        for (x, y) in x.iter().zip(y) {
            *y = F16::narrow(*x);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod with_f16c {
    use std::arch::x86_64::{
        _MM_FROUND_TO_NEAREST_INT, _mm_extract_epi16, _mm_setr_epi16, _mm256_castps_si256, _mm256_cvtph_ps,
        _mm256_cvtps_ph, _mm256_extract_epi32, _mm256_setr_ps,
    };

    use super::{F16, portable};

    // Lane by lane in and out, so that no pointer is needed: the compiler makes one load and one store of it.

    #[target_feature(enable = "avx2,f16c")]
    pub(super) fn widen(x: &[F16], y: &mut [f32]) {
        let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<8>(), y.as_chunks_mut::<8>());
        for (x, y) in x.iter().zip(y) {
            let [a, b, c, d, e, f, g, h] = x.map(|x| x.0 as i16);
            let wide = _mm256_castps_si256(_mm256_cvtph_ps(_mm_setr_epi16(a, b, c, d, e, f, g, h)));
            macro_rules! lane {
                ($($lane:literal)*) => { [$(f32::from_bits(_mm256_extract_epi32::<$lane>(wide) as u32)),*] };
            }
            *y = lane!(0 1 2 3 4 5 6 7);
        }
        portable::widen(x_rest, y_rest);
    }

    #[target_feature(enable = "avx2,f16c")]
    pub(super) fn narrow(x: &[f32], y: &mut [F16]) {
        let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<8>(), y.as_chunks_mut::<8>());
        for (x, y) in x.iter().zip(y) {
            let [a, b, c, d, e, f, g, h] = *x;
            let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_setr_ps(a, b, c, d, e, f, g, h));
            macro_rules! lane {
                ($($lane:literal)*) => { [$(F16(_mm_extract_epi16::<$lane>(halves) as u16)),*] };
            }
            *y = lane!(0 1 2 3 4 5 6 7);
        }
        portable::narrow(x_rest, y_rest);
    }
}
