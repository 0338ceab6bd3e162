//! Which of equal bins a magnitude falls into.
//!
//! ```text
//! bin = min(trunc(|x| * per_unit), bins - 1)                        # in f64
//! ```
//!
//! f32 finds twice as many at once, and twice over: at a position that is surely less than that of f64, and at one that
//! is surely greater. Where both lie in the same bin, f64's does too; so it is in nearly all blocks of 64.

/// Values whose bins are found at once.
pub(super) const AT_ONCE: usize = 64;
/// With more bins than this, too many values would lie near an edge.
pub(super) const MANY_BINS: usize = 1 << 13;
/// Added to a number below 2³², it leaves no room for a fraction, and the number in the lower bits.
const WHOLE: f64 = (1_u64 << 52) as f64;
/// The same for numbers from ½ to 2²², in f32; and rounds down, but for what lies on an edge.
const FLOOR: f32 = (1_u32 << 23) as f32 - 0.5;
/// How much less and greater the positions of f32 are. Rounding `per_unit` and the product may bring each of them back by
/// 2⁻²⁴ and 2⁻²⁴. The third 2⁻²⁴ is for what f64 rounds, and keeps both off an edge that f64 is on: [`FLOOR`] may round
/// there to either side.
const MARGIN: f64 = 3.0 / (1 << 24) as f64;

/// `count` bins, `per_unit` of them for each 1.0.
#[derive(Clone, Copy)]
pub(super) struct Bins {
    pub count: usize,
    per_unit: f64,
    singles: Option<Singles>,
}

/// The same in f32.
#[derive(Clone, Copy)]
struct Singles {
    less: f32,
    greater: f32,
    /// The middle of the first bin: all below is in it.
    first: f32,
    /// The middle of the last bin: all beyond is in it.
    last: f32,
}

impl Bins {
    /// `count` bins over `0..limit`; if that is 0, there is only the first.
    pub(super) fn new(count: usize, limit: f64) -> Self {
        let per_unit = if limit > 0.0 { (count as f64 / limit).min(f64::MAX) } else { 0.0 };
        let usual = count <= MANY_BINS && (1e-30..=1e30).contains(&per_unit);
        let singles = usual.then(|| Singles {
            less: (per_unit * (1.0 - MARGIN)) as f32,
            greater: (per_unit * (1.0 + MARGIN)) as f32,
            first: (0.5 / per_unit) as f32,
            last: ((count as f64 - 0.5) / per_unit) as f32,
        });
        Self { count, per_unit, singles }
    }

    /// Writes the bin of each value to the lower bits of `found`, as many as [`MANY_BINS`] has, or all if there are more
    /// bins. NaN goes to the first; tells how many.
    #[inline(always)]
    pub(super) fn find(self, x: &[f32; AT_ONCE], found: &mut [u32; AT_ONCE]) -> u32 {
        if self.singles.is_some_and(|singles| singles.find(x, found)) {
            0
        } else {
            self.find_in_double(x, found)
        }
    }

    #[inline(always)]
    fn find_in_double(self, x: &[f32; AT_ONCE], found: &mut [u32; AT_ONCE]) -> u32 {
        let last = (self.count - 1) as f64;
        let mut nan = 0;
        for (found, x) in found.iter_mut().zip(x) {
            let position = f64::from(x.abs()) * self.per_unit;
            nan += u32::from(position.is_nan());
            let position = if position > 0.0 { position } else { 0.0 }; // NaN goes to 0
            let position = if position > last { last } else { position };
            // `as` would check for what cannot be, and not be vectorised. Rounds to nearest, then corrects.
            let nearest = (position + WHOLE) - WHOLE;
            let whole = if nearest > position { nearest - 1.0 } else { nearest };
            *found = (whole + WHOLE).to_bits() as u32;
        }
        nan
    }
}

impl Singles {
    /// False where f64 might find another bin, or there is a NaN.
    #[inline(always)]
    fn find(self, x: &[f32; AT_ONCE], found: &mut [u32; AT_ONCE]) -> bool {
        let mut sure = 1;
        for (found, x) in found.iter_mut().zip(x) {
            let x = x.abs();
            let x = if self.first > x { self.first } else { x }; // NaN stays NaN, also below
            let x = if self.last < x { self.last } else { x };
            let (less, greater) = (x * self.less + FLOOR, x * self.greater + FLOOR);
            *found = less.to_bits();
            sure &= u32::from(less == greater); // never, of NaN
        }
        sure == 1
    }
}
