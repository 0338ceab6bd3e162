//! Arithmetic on exact integers: every operation rounds once and saturates once, at its output.
//!
//! ```text
//! factor = multiplier * 2^-shift                       # 2^30 <= multiplier < 2^31, fixed once at conversion
//! requantize(acc)      = clamp(round(acc * factor) + zero_point, qmin, qmax)
//! add_saturating(a, b) = saturate(round(a * factor_a + b * factor_b))               # on one common shift
//! mul_saturating(a, b) = saturate(round(a * b * factor))
//! lookup(x)            = table[x]
//! ```

mod add;
#[cfg(target_arch = "x86_64")]
mod add_x86;
mod arithmetic;
mod factor;
mod fused;
#[cfg(target_arch = "x86_64")]
mod fused_x86;
mod lookup;
mod mul;
mod requantize;
mod step;

pub use add::add_saturating;
pub use arithmetic::{Arithmetic, Rounding};
pub use factor::{Factor, Factors};
pub use lookup::lookup;
pub use mul::mul_saturating;
pub use requantize::{Accumulator, Lie, Output, Requantizer, requantize};

/// An integer type of a quantized tensor; results saturate at its ends.
pub trait Integer: Copy + Default + Send + Sync + PartialEq + std::fmt::Debug + 'static {
    /// Least and greatest value.
    const ENDS: (i16, i16);
    /// Exact.
    fn widen(self) -> i16;
    /// Of a whole number within [`Self::ENDS`].
    fn narrow(value: i32) -> Self;
    /// The same, if they are bytes.
    #[doc(hidden)]
    fn bytes(y: &mut [Self]) -> Option<&mut [i8]>;
    /// The same, to read.
    #[doc(hidden)]
    fn as_bytes(x: &[Self]) -> Option<&[i8]>;
}

macro_rules! integer {
    ($int:ident, |$y:ident| $bytes:expr) => {
        impl Integer for $int {
            const ENDS: (i16, i16) = ($int::MIN as i16, $int::MAX as i16);
            #[inline(always)]
            fn widen(self) -> i16 {
                self as i16
            }
            #[inline(always)]
            fn narrow(value: i32) -> Self {
                value as Self
            }
            fn bytes($y: &mut [Self]) -> Option<&mut [i8]> {
                $bytes
            }
            fn as_bytes($y: &[Self]) -> Option<&[i8]> {
                $bytes
            }
        }
    };
}

integer!(i8, |y| Some(y));
integer!(i16, |_y| None);
