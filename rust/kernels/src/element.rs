//! The number types a tensor may hold, and the wider one each is computed in.

use std::ops::{Add, Mul, Sub};

use crate::{Isa, half};

/// What arithmetic runs in: f32, or f64 for f64 tensors.
pub trait Wide:
    Copy + PartialOrd + Send + Sync + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self>
{
    /// 1.5 · 2^(mantissa bits): adding it leaves no room for a fraction.
    const ROUNDER: Self;
    /// One.
    const ONE: Self;
    /// Exact.
    fn from_f32(value: f32) -> Self;
    /// Rounded to nearest.
    fn to_f32(self) -> f32;
    /// Exact.
    fn to_f64(self) -> f64;
}

/// A number type of a tensor.
pub trait Element: Copy + Send + Sync + PartialEq + std::fmt::Debug + 'static {
    /// What arithmetic on it runs in.
    type Wide: Wide;
    /// Zero.
    const ZERO: Self;
    /// Exact.
    fn widen(self) -> Self::Wide;
    /// Rounded to nearest, ties to even; NaN stays NaN.
    fn narrow(wide: Self::Wide) -> Self;
    /// The same memory, where these are f32 already.
    #[inline(always)]
    fn as_singles(_: &[Self]) -> Option<&[f32]> {
        None
    }

    /// What [`Element::staged`] hands on: the type itself, unless converting many at once is quicker than one by one.
    type Staged: Element<Wide = Self::Wide>;
    /// Lets `work` write `y` from `x`, at once or in pieces of [`STAGE`]; it is told the number of the first element.
    fn staged(
        isa: Isa,
        x: &[Self],
        y: &mut [Self],
        work: impl FnMut(usize, &[Self::Staged], &mut [Self::Staged]),
    );
}

/// Elements that are converted together.
pub(crate) const STAGE: usize = 512;

/// For types that need no conversion.
macro_rules! at_once {
    () => {
        type Staged = Self;
        #[inline(always)]
        fn staged(_: Isa, x: &[Self], y: &mut [Self], mut work: impl FnMut(usize, &[Self], &mut [Self])) {
            work(0, x, y);
        }
    };
}

macro_rules! native {
    ($float:ident, $rounder:expr, $($as_singles:item)?) => {
        impl Wide for $float {
            const ROUNDER: Self = $rounder;
            const ONE: Self = 1.0;
            #[inline(always)]
            fn from_f32(value: f32) -> Self {
                value.into()
            }
            #[inline(always)]
            #[allow(clippy::unnecessary_cast, reason = "the same line serves f32 and f64")]
            fn to_f32(self) -> f32 {
                self as f32
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self.into()
            }
        }
        impl Element for $float {
            type Wide = Self;
            const ZERO: Self = 0.0;
            #[inline(always)]
            fn widen(self) -> Self {
                self
            }
            #[inline(always)]
            fn narrow(wide: Self) -> Self {
                wide
            }
            $($as_singles)?
            at_once!();
        }
    };
}

native!(
    f32,
    12_582_912.0, // 1.5 · 2²³
    #[inline(always)]
    fn as_singles(x: &[Self]) -> Option<&[f32]> {
        Some(x)
    }
);
native!(f64, 6_755_399_441_055_744.0,); // 1.5 · 2⁵²

/// bfloat16: the upper half of an f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(pub u16);

impl Element for Bf16 {
    type Wide = f32;
    const ZERO: Self = Self(0);

    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }

    #[inline(always)]
    fn narrow(wide: f32) -> Self {
        let bits = wide.to_bits();
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        // Rounding could carry a NaN's mantissa into infinity.
        Self(if bits & 0x7fff_ffff > 0x7f80_0000 { 0x7fc0 } else { rounded as u16 })
    }

    at_once!();
}

/// IEEE half precision. Converted with integer operations where the CPU has no instruction for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct F16(pub u16);

impl Element for F16 {
    type Wide = f32;
    const ZERO: Self = Self(0);

    #[inline(always)]
    fn widen(self) -> f32 {
        let (sign, magnitude) = (u32::from(self.0 & 0x8000) << 16, u32::from(self.0 & 0x7fff));
        // All ones stay all ones, and what has no hidden 1 is given one, which is then taken away.
        let special = if magnitude > 0x7bff { (127 - 15) << 23 } else { 0 };
        let (one_more, hidden) =
            if magnitude < 0x0400 { (1 << 23, f32::from_bits((127 - 14) << 23)) } else { (0, 0.0) };
        let wide = f32::from_bits((magnitude << 13) + ((127 - 15) << 23) + special + one_more) - hidden;
        f32::from_bits(wide.to_bits() | sign)
    }

    #[inline(always)]
    fn narrow(wide: f32) -> Self {
        let bits = wide.to_bits();
        let (sign, magnitude) = ((bits >> 16) & 0x8000, f32::from_bits(bits & 0x7fff_ffff));
        // What is added to 2¹³ times its own power of two is rounded by the FPU to the 11 bits of a half; to multiples of
        // 2⁻²⁴ if added to 0.5, as a subnormal half is.
        let power = f32::from_bits(bits & 0x7f80_0000) * 8192.0;
        let power = if power > 0.5 { power } else { 0.5 };
        let mantissa = (magnitude + power).to_bits().wrapping_sub(power.to_bits());
        let finite = (power.to_bits().wrapping_sub(0.5_f32.to_bits()) >> 13).wrapping_add(mantissa);
        let half = if magnitude < 65536.0 { finite } else { 0x7c00 };
        let nan = if wide.is_nan() { 0x0200 } else { 0 };
        Self((sign | half | nan) as u16)
    }

    type Staged = f32;

    fn staged(isa: Isa, x: &[Self], y: &mut [Self], mut work: impl FnMut(usize, &[f32], &mut [f32])) {
        let (mut wide_x, mut wide_y) = ([0.0; STAGE], [0.0; STAGE]);
        for (i, (x, y)) in x.chunks(STAGE).zip(y.chunks_mut(STAGE)).enumerate() {
            let (wide_x, wide_y) = (&mut wide_x[..x.len()], &mut wide_y[..x.len()]);
            half::widen(isa, x, wide_x);
            work(i * STAGE, wide_x, wide_y);
            half::narrow(isa, wide_y, y);
        }
    }
}
