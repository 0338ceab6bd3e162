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

/// In integer operations; quicker where there is neither a subnormal half nor one that is infinite or NaN among a few.
mod portable {
    use super::{Element, F16};

    /// Looked at together.
    const FEW: usize = 32;
    /// The exponents of f32 are that much greater. Moving them by a product needs no thought of 0.
    const UP: f32 = f32::from_bits((127 + 112) << 23);
    const DOWN: f32 = f32::from_bits((127 - 112) << 23);
    /// The least half that is not subnormal, and 65536, as the bits of f32: what lies between is rounded as bits are.
    const LEAST: i32 = (127 - 14) << 23;
    const BEYOND: i32 = (127 + 16) << 23;

    #[inline(always)]
    pub(super) fn widen(x: &[F16], y: &mut [f32]) {
        let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<FEW>(), y.as_chunks_mut::<FEW>());
        for (x, y) in x.iter().zip(y) {
            let mut odd = 0;
            for x in x {
                let magnitude = (x.0 & 0x7fff) as i16;
                odd |=
                    u16::from(magnitude > 0x7bff) | u16::from(magnitude < 0x0400) & u16::from(magnitude != 0);
            }
            if odd == 0 {
                for (x, y) in x.iter().zip(y) {
                    // The sign is shifted in again and again; once is enough.
                    let bits = (i32::from(x.0 as i16) << 16 >> 3) as u32 & 0x8fff_e000;
                    *y = f32::from_bits(bits) * UP;
                }
            } else {
                each_widened(x, y);
            }
        }
        each_widened(x_rest, y_rest);
    }

    #[inline(always)]
    fn each_widened(x: &[F16], y: &mut [f32]) {
        for (x, y) in x.iter().zip(y) {
            *y = x.widen();
        }
    }

    #[inline(always)]
    pub(super) fn narrow(x: &[f32], y: &mut [F16]) {
        let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<FEW>(), y.as_chunks_mut::<FEW>());
        for (x, y) in x.iter().zip(y) {
            let mut odd = 0;
            for x in x {
                let magnitude = (x.to_bits() & 0x7fff_ffff) as i32;
                odd |=
                    u32::from(magnitude >= BEYOND) | u32::from(magnitude < LEAST) & u32::from(magnitude != 0);
            }
            if odd == 0 {
                for (x, y) in x.iter().zip(y) {
                    let bits = (x * DOWN).to_bits() as i32;
                    let rounded = bits + 0x0fff + (bits >> 13 & 1); // half to even; may carry into the exponent
                    *y = F16((rounded >> 16 & -0x8000 | rounded >> 13 & 0x7fff) as u16);
                }
            } else {
                each_narrowed(x, y);
            }
        }
        each_narrowed(x_rest, y_rest);
    }

    #[inline(always)]
    fn each_narrowed(x: &[f32], y: &mut [F16]) {
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

#[cfg(test)]
mod tests {
    use super::{Element, F16, Isa, narrow, widen};

    /// Each alone, 32 times over, and beside all others.
    #[test]
    fn many_halves_are_widened_as_each_is() {
        let all: Vec<_> = (0..=u16::MAX).map(F16).collect();
        for isa in Isa::available() {
            let same = |x: &[F16]| {
                let mut y = vec![7.0; x.len()];
                widen(isa, x, &mut y);
                for (x, y) in x.iter().zip(y) {
                    let one = x.widen();
                    assert!(
                        y.to_bits() == one.to_bits() || y.is_nan() && one.is_nan(),
                        "{isa:?} {x:?} {y} {one}"
                    );
                }
            };
            all.iter().for_each(|x| same(&[*x; 33]));
            same(&all);
        }
    }

    /// All halves, what lies in the middle of two, and its neighbours.
    #[test]
    fn many_singles_are_narrowed_as_each_is() {
        let halves = (0..0x7c00_u16).map(|bits| (F16(bits).widen(), F16(bits + 1).widen().min(65536.0)));
        let near = |x: f32| [x.next_down(), x, x.next_up()];
        let mut all: Vec<_> =
            halves.flat_map(|(low, high)| [low, low + (high - low) / 2.0]).flat_map(near).collect();
        all.extend([65536.0, 65568.0, 70_000.0, 1e9, f32::MAX, f32::INFINITY, f32::NAN, 1e-45, 3e-8, 0.0]);
        all.extend(all.clone().into_iter().map(|x| -x));
        for isa in Isa::available() {
            let same = |x: &[f32]| {
                let mut y = vec![F16(7); x.len()];
                narrow(isa, x, &mut y);
                for (x, y) in x.iter().zip(y) {
                    let one = F16::narrow(*x);
                    assert!(y == one || y.widen().is_nan() && x.is_nan(), "{isa:?} {x} {y:?} {one:?}");
                }
            };
            all.iter().for_each(|x| same(&[*x; 33]));
            same(&all);
        }
    }
}
