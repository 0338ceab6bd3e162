//! The sums of some rows and panels: whole products, or those of bytes put together.
//!
//! ```text
//! acc = offset + sum over places of 256^place * sum over k of the products at this place
//! ```

use super::{
    block::PANELS,
    bytes::ROWS,
    form::{Form, Part},
    weight::PANEL,
};
use crate::isa::per_isa;

/// Where sums begin that come without an offset.
static ZEROS: [i32; ROWS * PANELS * PANEL] = [0; ROWS * PANELS * PANEL];

/// Writes the sums, which fit into i32: what wraps between comes back. `start` is `offset` as the form has it.
pub(super) fn narrow<A: Form>(
    part: &Part<'_>,
    a: &[A],
    rows: usize,
    offset: &[i32],
    start: &[i32],
    acc: &mut [i32],
) {
    let (isa, places, steps) = (part.weight.isa, A::places(part.weight), part.steps.clone());
    for place in (0..places).rev() {
        let (offset, start) =
            if place == 0 { (offset, start) } else { (&ZEROS[..offset.len()], &ZEROS[..start.len()]) };
        if place + 1 == places {
            A::multiply(part, a, rows, place, steps.clone(), Some(start), acc);
        } else {
            per_isa!(isa, raise, [], (acc: &mut [i32], offset: &[i32]) -> ());
            A::multiply(part, a, rows, place, steps.clone(), None, acc);
        }
    }
}

/// The same to `wide`, in pieces of the depth whose sums fit into `acc`.
pub(super) fn wide<A: Form>(
    part: &Part<'_>,
    a: &[A],
    rows: usize,
    offset: &[i64],
    acc: &mut [i32],
    wide: &mut [i64],
) {
    let (isa, width) = (part.weight.isa, offset.len());
    wide.chunks_mut(width).for_each(|wide| wide.copy_from_slice(offset));
    for place in (0..A::places(part.weight)).rev() {
        for first in part.steps.clone().step_by(A::PIECE) {
            let steps = first..(first + A::PIECE).min(part.steps.end);
            A::multiply(part, a, rows, place, steps, Some(&ZEROS[..A::START * width]), acc);
            let (acc, shift) = (&*acc, 8 * place as u32);
            per_isa!(isa, join, [], (acc: &[i32], shift: u32, wide: &mut [i64]) -> ());
        }
    }
}

/// `256 * acc + offset` for each row.
#[inline(always)]
fn raise(acc: &mut [i32], offset: &[i32]) {
    for acc in acc.chunks_mut(offset.len()) {
        acc.iter_mut().zip(offset).for_each(|(acc, offset)| *acc = (*acc << 8).wrapping_add(*offset));
    }
}

/// Adds sums at their place.
#[inline(always)]
fn join(acc: &[i32], shift: u32, wide: &mut [i64]) {
    wide.iter_mut().zip(acc).for_each(|(wide, acc)| *wide += i64::from(*acc) << shift);
}
