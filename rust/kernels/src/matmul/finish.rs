//! What becomes of the sums: they are kept, or requantized.

use std::marker::PhantomData;

use crate::{
    Error, Isa,
    error::check_len,
    integer::{Accumulator, Integer, Lie, Requantizer},
};

/// What becomes of exact sums.
pub trait Finish: Sync {
    /// The number type of the output.
    type Y: Copy + Send;
    /// An error unless it fits so many outputs, and sums of which none exceeds `bound`.
    #[doc(hidden)]
    fn check(&self, _outputs: usize, _bound: u128) -> Result<(), Error> {
        Ok(())
    }
    /// Writes rows of sums.
    #[doc(hidden)]
    fn rows<A: Accumulator>(&self, isa: Isa, acc: &[A], lie: Lie, y: &mut [Self::Y])
    where
        i64: From<A>;
}

/// The sums themselves, as i32; refused where the weight does not prove that they fit.
pub struct Exact32;
/// The sums themselves, as i64.
pub struct Exact64;
/// Requantized.
pub struct Requantized<'a, T>(&'a Requantizer, PhantomData<T>);

impl<'a, T: Integer> Requantized<'a, T> {
    /// To integers of `T`.
    #[must_use]
    pub fn new(by: &'a Requantizer) -> Self {
        Self(by, PhantomData)
    }
}

impl Finish for Exact32 {
    type Y = i32;
    fn check(&self, _: usize, bound: u128) -> Result<(), Error> {
        if bound <= i32::MAX as u128 { Ok(()) } else { Err(Error::Sums { bound }) }
    }
    fn rows<A: Accumulator>(&self, _: Isa, acc: &[A], lie: Lie, y: &mut [i32])
    where
        i64: From<A>,
    {
        for (acc, y) in lie.rows(acc, y) {
            y.iter_mut().zip(acc).for_each(|(y, acc)| *y = i64::from(*acc) as i32);
        }
    }
}

impl Finish for Exact64 {
    type Y = i64;
    fn rows<A: Accumulator>(&self, _: Isa, acc: &[A], lie: Lie, y: &mut [i64])
    where
        i64: From<A>,
    {
        for (acc, y) in lie.rows(acc, y) {
            y.iter_mut().zip(acc).for_each(|(y, acc)| *y = (*acc).into());
        }
    }
}

impl<T: Integer> Finish for Requantized<'_, T> {
    type Y = T;
    fn check(&self, outputs: usize, _: u128) -> Result<(), Error> {
        self.0.check::<T>()?;
        if self.0.channels() == 1 { Ok(()) } else { check_len("factor", self.0.channels(), outputs) }
    }
    fn rows<A: Accumulator>(&self, isa: Isa, acc: &[A], lie: Lie, y: &mut [T])
    where
        i64: From<A>,
    {
        let columns = self.0.channels() > 1;
        A::rows(isa, acc, Lie { channel: if columns { lie.channel } else { 0 }, columns, ..lie }, self.0, y);
    }
}
