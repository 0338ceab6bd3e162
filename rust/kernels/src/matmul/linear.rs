//! A weight, and what is added to its sums: ready for any number of rows.

use std::sync::Arc;

use super::{
    Finish, Source, Weight, bytes,
    room::Room,
    weight::{PANEL, Panels},
};
use crate::{Error, error::check_len, integer::Integer, parallel::Team};

/// `sum((x - zero_point) * weight) + bias`, of activations of `T`.
pub struct Linear<T> {
    weight: Arc<Weight>,
    zero_point: T,
    /// What no sum exceeds.
    bound: u128,
    offsets: Offsets,
    /// Those of few rows, where they are others.
    of_few: Option<Offsets>,
}

impl<T: Integer> Linear<T> {
    /// The weight is shared, all else copied.
    ///
    /// # Errors
    /// [`Error::Narrow`] if the weight was packed for activations of fewer bits; [`Error::ZeroPoint`] if that is no `T`;
    /// [`Error::LengthMismatch`] unless there is a bias for each output; [`Error::Bias`] beyond 2^62.
    pub fn new(weight: Arc<Weight>, zero_point: i16, bias: Option<&[i64]>) -> Result<Self, Error> {
        let bound = weight.bound::<T>(zero_point, bias)?;
        let offsets = |rows| Offsets::new(&weight, rows, zero_point.into(), bound, bias);
        let (many, few) = (usize::MAX, 1);
        let of_few = (weight.raises(few) != weight.raises(many)).then(|| offsets(few));
        Ok(Self { zero_point: T::narrow(zero_point.into()), bound, offsets: offsets(many), of_few, weight })
    }

    /// What `x` is where it means 0.
    pub(crate) fn zero_point(&self) -> T {
        self.zero_point
    }

    pub(crate) fn weight(&self) -> &Weight {
        &self.weight
    }

    /// Writes `rows` rows of sums, finished, to `y`; an error if these or their number don't fit.
    pub(crate) fn run<F: Finish>(
        &self,
        team: &dyn Team,
        rows: usize,
        x: &impl Source<T>,
        finish: &F,
        y: &mut [F::Y],
    ) -> Result<(), Error> {
        let outputs = self.weight.len();
        check_len("y", y.len(), rows.saturating_mul(outputs))?;
        finish.check(outputs, self.bound)?;
        let offsets = self.of_few.as_ref().filter(|_| self.weight.raises(rows)).unwrap_or(&self.offsets);
        self.weight.run(team, rows, offsets, x, finish, y);
        Ok(())
    }
}

/// What is added to the sums of each output, as the panels have them; and how wide these get.
pub(super) struct Offsets {
    pub(super) each: Vec<i64>,
    /// The same modulo 2^32, where no sum leaves i32.
    pub(super) narrow: Option<Vec<i32>>,
    /// That, as the form has it whose sums begin with whole tiles.
    pub(super) tiles: Room<i32>,
}

impl Offsets {
    /// Those that make of `sum(a * w)` what was asked for, of products of `rows` rows. No sum exceeds `bound`.
    fn new(weight: &Weight, rows: usize, zero_point: i64, bound: u128, bias: Option<&[i64]>) -> Self {
        // What packing added to each activation.
        let raised = match weight.panels {
            _ if weight.raises(rows) => 128,
            Panels::Signed(_, 2) => -128,
            _ => 0,
        };
        let bias = |output: usize| bias.map_or(0, |bias| bias[output]);
        let width = weight.shape().panels * PANEL;
        let mut each = vec![0; weight.groups * width];
        for (output, sum) in weight.sums.iter().enumerate() {
            each[output / weight.outputs * width + output % weight.outputs] =
                bias(output) - (zero_point + raised) * sum;
        }
        let fits = bound <= i32::MAX as u128;
        let narrow: Option<Vec<_>> = fits.then(|| each.iter().map(|offset| *offset as i32).collect());
        let tiled = matches!(weight.panels, Panels::Bytes(..)) && !weight.raises(rows);
        let tiles = narrow.as_deref().filter(|_| tiled).map_or_else(|| Room::new(0), bytes::tiles);
        Self { each, narrow, tiles }
    }
}
