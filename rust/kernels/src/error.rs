//! What can be wrong with a call, in words for the person who made it.

use std::fmt;

/// Why a kernel refused; nothing was written.
#[derive(Clone, Debug, PartialEq)]
pub enum Error {
    /// Two slices that belong together differ in length.
    LengthMismatch {
        /// Name of the argument with the wrong length.
        name: &'static str,
        /// Its length.
        len: usize,
        /// What the other arguments call for.
        expected: usize,
    },
    /// A scale that cannot divide: zero, negative, NaN, infinite, or with an infinite inverse.
    Scale {
        /// Channel, if there are many scales.
        channel: Option<usize>,
        /// The value.
        scale: f32,
    },
    /// No integer lies between `qmin` and `qmax`.
    EmptyRange {
        /// Least integer.
        qmin: i32,
        /// Greatest integer.
        qmax: i32,
    },
    /// The zero point lies outside `qmin..=qmax`.
    ZeroPoint {
        /// Channel, if there are many zero points.
        channel: Option<usize>,
        /// The value.
        zero_point: i32,
        /// Least integer.
        qmin: i32,
        /// Greatest integer.
        qmax: i32,
    },
    /// The range has more steps than f32 counts exactly.
    WideRange {
        /// Least integer.
        qmin: i32,
        /// Greatest integer.
        qmax: i32,
    },
    /// An end of the range lies where f32 does not count exactly.
    FarRange {
        /// Least integer.
        qmin: i32,
        /// Greatest integer.
        qmax: i32,
    },
    /// Nothing lies between the bounds that values are clamped to.
    Bounds {
        /// Least value.
        low: f32,
        /// Greatest value.
        high: f32,
    },
    /// A ratio of scales that is no fixed-point number: negative, NaN, or 2^31 and more.
    Factor {
        /// The value.
        value: f64,
    },
    /// Ends of an output that are none of its integers, or not in order.
    Ends {
        /// Least integer asked for.
        qmin: i16,
        /// Greatest integer asked for.
        qmax: i16,
        /// Least and greatest integer there are.
        of: (i16, i16),
    },
    /// A matrix product with the weight of a convolution in groups.
    Groups {
        /// How many.
        groups: usize,
    },
    /// Activations of 16 bits, with a weight that was packed for 8.
    Narrow,
    /// A bias with which i64 might not hold the sums.
    Bias {
        /// The value.
        value: i64,
    },
    /// Sums as i32 that might need more bits.
    Sums {
        /// What they may reach.
        bound: u128,
    },
    /// A convolution without a window, or with a stride or dilation of 0.
    Window,
    /// There is no minimum of nothing.
    Empty,
    /// `stride` of a search is zero.
    Stride,
    /// A histogram without bins.
    Bins,
    /// The upper edge of a histogram is negative, NaN or infinite.
    Limit {
        /// Channel, if there are many.
        channel: Option<usize>,
        /// The value.
        limit: f64,
    },
    /// Not a number of percent.
    Percentile {
        /// The value.
        percentile: f64,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |channel: &Option<usize>| channel.map_or(String::new(), |c| format!("[{c}]"));
        match self {
            Self::LengthMismatch { name, len, expected } => {
                write!(f, "{name} has {len} elements, but {expected} are needed")
            }
            Self::Scale { channel, scale } => write!(
                f,
                "scale{} is {scale:?}, but must be positive and finite, and so must 1 / scale",
                at(channel)
            ),
            Self::EmptyRange { qmin, qmax } => {
                write!(f, "qmin is {qmin} and qmax {qmax}, but qmin must be less")
            }
            Self::ZeroPoint { channel, zero_point, qmin, qmax } => write!(
                f,
                "zero_point{} is {zero_point}, but must lie between qmin {qmin} and qmax {qmax}",
                at(channel)
            ),
            Self::WideRange { qmin, qmax } => write!(
                f,
                "qmin {qmin} and qmax {qmax} span more than 2**22 steps, which f32 does not count exactly"
            ),
            Self::FarRange { qmin, qmax } => write!(
                f,
                "qmin is {qmin} and qmax {qmax}, but both must lie between -2**22 and 2**22, where f32 counts exactly"
            ),
            Self::Bounds { low, high } => {
                write!(f, "bounds are {low:?} and {high:?}, but the first must be finite and less")
            }
            Self::Factor { value } => {
                write!(f, "a factor is {value:?}, but must be at least 0 and less than 2**31")
            }
            Self::Ends { qmin, qmax, of: (low, high) } => write!(
                f,
                "qmin is {qmin} and qmax {qmax}, but must be in order and lie between {low} and {high}"
            ),
            Self::Groups { groups } => {
                write!(f, "the weight has {groups} groups, but of a matrix product must have one")
            }
            Self::Narrow => {
                write!(f, "the activations have 16 bits, but the weight was packed for activations of 8")
            }
            Self::Bias { value } => {
                write!(f, "a bias is {value}, but must lie between -2**62 and 2**62")
            }
            Self::Sums { bound } => {
                write!(f, "sums may reach {bound}, but to be written as int32 must stay below 2**31")
            }
            Self::Window => write!(f, "there is no window: a stride or dilation is 0, or x is too small"),
            Self::Empty => write!(f, "x has no elements, so no minimum, maximum or scale"),
            Self::Bins => write!(f, "bins must be at least 1"),
            Self::Limit { channel, limit } => {
                write!(f, "limit{} is {limit:?}, but must be finite and not negative", at(channel))
            }
            Self::Percentile { percentile } => {
                write!(f, "percentile is {percentile:?}, but must be from 0 to 100")
            }
            Self::Stride => write!(f, "stride is 0, but must be at least 1"),
        }
    }
}

impl std::error::Error for Error {}

/// An error unless `len` is `expected`.
pub(crate) fn check_len(name: &'static str, len: usize, expected: usize) -> Result<(), Error> {
    if len == expected { Ok(()) } else { Err(Error::LengthMismatch { name, len, expected }) }
}
