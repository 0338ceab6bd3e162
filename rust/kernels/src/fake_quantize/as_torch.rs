//! How torch moves a range and chooses a grid, for what stands in for its observers. Formula for formula in its types.
//!
//! ```text
//! min_val, max_val += c * (low - min_val), c * (high - max_val)       # in f32, with a constant of 1 too
//! low, high = min(min_val, 0), max(max_val, 0)                        # 0 is always on the grid
//! affine:    scale = max((high - low) / (qmax - qmin), least_scale);  zero_point = clamp(qmin - round(low / scale))
//! symmetric: scale = max(max(-low, high) / ((qmax - qmin) / 2), least_scale);  zero_point = middle
//! fused:     as affine, divided in f64, with the zero point from the end that it suits better; symmetric: widened before
//! ```

use super::{
    grid::Grid,
    observed::{Follow, Range},
};

/// A range that moves, and the integers of the grid that covers it, by one of torch's rules.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AsTorch {
    /// How far the range moves towards the batch.
    pub averaging_constant: f32,
    /// Least integer.
    pub qmin: i32,
    /// Greatest integer.
    pub qmax: i32,
    /// How the grid covers the range.
    pub rule: TorchRule,
}

/// Which of torch's rules.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TorchRule {
    /// That of its observers, on the range as it is.
    Affine {
        /// No scale is less.
        least_scale: f32,
    },
    /// That of its observers, on a range with 0 in its middle.
    Symmetric {
        /// The zero point.
        middle: i32,
        /// No scale is less.
        least_scale: f32,
    },
    /// That of `fused_moving_avg_obs_fake_quant`.
    Fused {
        /// On a range with 0 in its middle?
        symmetric: bool,
    },
}

/// Below this scale torch's fused operator goes ways of its own, which are left to it.
const LEAST_FUSED_SCALE: f64 = 6.1e-5;
/// So does it with greater integers: it adds the zero point to the steps in f32.
const LARGEST_FUSED: i32 = 1 << 22;

impl Follow for AsTorch {
    fn follow(self, range: Range, low: f32, high: f32) -> Option<(Range, Grid)> {
        let c = self.averaging_constant;
        let fresh = (range.min_val, range.max_val) == (f32::INFINITY, f32::NEG_INFINITY);
        let towards = |m: f32, end: f32| if fresh { end } else { m + c * (end - m) };
        let range = Range { min_val: towards(range.min_val, low), max_val: towards(range.max_val, high) };
        let usual = range.min_val.is_finite() && range.max_val.is_finite() && range.min_val <= range.max_val;
        let grid = if usual { self.grid(range) } else { None };
        grid.map(|grid| (range, grid))
    }
}

impl AsTorch {
    fn grid(self, range: Range) -> Option<Grid> {
        let Self { qmin, qmax, .. } = self;
        if qmin >= qmax {
            return None;
        }
        let (low, high) = (range.min_val.min(0.0), range.max_val.max(0.0));
        let steps = f64::from(qmax) - f64::from(qmin);
        let (scale, zero_point) = match self.rule {
            TorchRule::Affine { least_scale } => {
                let scale = ((high - low) / steps as f32).max(least_scale);
                let zero_point = f64::from(qmin) - f64::from((low / scale).round_ties_even());
                (scale, zero_point.clamp(f64::from(qmin), f64::from(qmax)) as i32)
            }
            TorchRule::Symmetric { middle, least_scale } => {
                (((-low).max(high) / (steps / 2.0) as f32).max(least_scale), middle)
            }
            TorchRule::Fused { symmetric } => return self.fused(low, high, symmetric),
        };
        usable(Grid { scale, zero_point, qmin, qmax })
    }

    fn fused(self, mut low: f32, mut high: f32, symmetric: bool) -> Option<Grid> {
        let Self { qmin, qmax, .. } = self;
        if qmin < -LARGEST_FUSED || qmax > LARGEST_FUSED {
            return None;
        }
        let steps = qmax - qmin;
        let widened = symmetric && low < 0.0 && high > 0.0;
        if widened {
            let (below, above) = (-(steps / 2 + 1) as f32, (steps / 2) as f32);
            let scale = f64::from((low / below).abs().max((high / above).abs()));
            (low, high) = ((scale * f64::from(below)) as f32, (scale * f64::from(above)) as f32);
        }
        // torch goes on with the scale in f32, which decides where a zero point lies between two integers.
        let scale = f64::from(((f64::from(high) - f64::from(low)) / f64::from(steps)) as f32);
        if scale < LEAST_FUSED_SCALE {
            return None;
        }
        let ends = [(qmin, f64::from(low) / scale), (qmax, f64::from(high) / scale)];
        let [from_low, from_high] = ends.map(|(end, steps)| f64::from(end) - steps);
        let [error_low, error_high] = ends.map(|(end, steps)| f64::from(end).abs() + steps.abs());
        let zero_point = if widened {
            (f64::from(qmin) + f64::from(qmax)) / 2.0
        } else if error_low < error_high {
            from_low
        } else {
            from_high
        };
        let zero_point = zero_point.round_ties_even().clamp(f64::from(qmin), f64::from(qmax)) as i32;
        usable(Grid { scale: scale as f32, zero_point, qmin, qmax })
    }
}

/// Only a scale that can be divided by: a range may overflow, and one bit around 0 leaves a fused grid no step above.
fn usable(grid: Grid) -> Option<Grid> {
    (grid.scale.is_finite() && (1.0 / grid.scale).is_finite()).then_some(grid)
}
