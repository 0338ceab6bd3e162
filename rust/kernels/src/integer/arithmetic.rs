//! How a chip rounds: its data, and one type for each way, for loops that are compiled for it.

/// What becomes of the fraction that a product with a factor leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// To nearest; a half to the even neighbour.
    HalfEven,
    /// To nearest; a half towards plus infinity.
    HalfUp,
    /// To nearest; a half away from zero.
    HalfAway,
    /// Towards minus infinity.
    Floor,
    /// Twice, as TFLite: behind 31 bits half up, then behind what is left of the shift half away.
    Tflite,
}

/// The rules of a chip's integer arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arithmetic {
    /// Of every product with a factor.
    pub rounding: Rounding,
    /// 31; or 15, the upper half of the 31 as TFLite rounds it.
    pub multiplier_bits: u32,
}

impl Arithmetic {
    /// Our choice for the NASH BPU.
    pub const NASH: Self = Self { rounding: Rounding::HalfEven, multiplier_bits: 31 };
    /// TFLite's reference kernels on accumulators of 32 bits.
    pub const TFLITE: Self = Self { rounding: Rounding::Tflite, multiplier_bits: 31 };
    /// The same on accumulators of 64 bits.
    pub const TFLITE_INT16: Self = Self { rounding: Rounding::HalfUp, multiplier_bits: 15 };
}

/// Rounds magnitudes, since SSE2 and AVX2 multiply and shift only unsigned numbers.
pub(crate) trait Round: Copy + Send + Sync {
    /// `magnitude * 2^-shift`, of a number with that sign (`negative` is all ones, or 0); 1 to 62 of `shift`, and 63
    /// bits of `magnitude`.
    fn round(magnitude: u64, shift: u32, negative: u64) -> u64;
}

macro_rules! round {
    ($($name:ident: |$magnitude:ident, $shift:ident, $negative:ident| $body:expr;)*) => {$(
        #[derive(Clone, Copy)]
        pub(crate) struct $name;
        impl Round for $name {
            #[inline(always)]
            fn round($magnitude: u64, $shift: u32, $negative: u64) -> u64 { $body }
        }
    )*};
}

round! {
    // Just below a half, plus 1 where the whole part is odd: exactly a half then goes up to even, and down else.
    HalfEven: |magnitude, shift, _negative|
        (magnitude + ((1_u64 << (shift - 1)) - 1) + ((magnitude >> shift) & 1)) >> shift;
    HalfUp: |magnitude, shift, negative| (magnitude + (1_u64 << (shift - 1)) - (negative & 1)) >> shift;
    HalfAway: |magnitude, shift, _negative| (magnitude + (1_u64 << (shift - 1))) >> shift;
    Floor: |magnitude, shift, negative| (magnitude + (negative & ((1_u64 << shift) - 1))) >> shift;
    Tflite: |magnitude, shift, negative| {
        let first = shift.min(31);
        let rest = shift - first;
        (HalfUp::round(magnitude, first, negative) + ((1_u64 << rest) >> 1)) >> rest
    };
}

/// Runs `$body` with `$R` as the type that rounds so.
macro_rules! by_rounding {
    ($rounding:expr, $R:ident => $body:expr) => {{
        use $crate::integer::arithmetic as ways;
        match $rounding {
            $crate::integer::Rounding::HalfEven => {
                type $R = ways::HalfEven;
                $body
            }
            $crate::integer::Rounding::HalfUp => {
                type $R = ways::HalfUp;
                $body
            }
            $crate::integer::Rounding::HalfAway => {
                type $R = ways::HalfAway;
                $body
            }
            $crate::integer::Rounding::Floor => {
                type $R = ways::Floor;
                $body
            }
            $crate::integer::Rounding::Tflite => {
                type $R = ways::Tflite;
                $body
            }
        }
    }};
}

pub(crate) use by_rounding;
