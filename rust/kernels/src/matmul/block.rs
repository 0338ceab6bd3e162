//! A block of rows: gathered, multiplied, finished.

use super::{
    Finish,
    form::{Form, Part, Raised},
    linear::Offsets,
    room::Room,
    signed::Signed,
    source::Source,
    sums,
    tile::Ready,
    weight::{GROUP_BYTES, PANEL, Panels, Weight},
};
use crate::{
    integer::{Integer, Lie},
    parallel::{Team, share},
};

/// Rows of one job: a multiple of every form's height.
const ROWS: usize = 96;
/// Bytes of rows that stay in the L1 cache beside a panel.
const CACHE: usize = 16 * 1024;
/// Panels whose sums are in the cache at once.
pub(super) const PANELS: usize = 4;

impl Weight {
    /// Writes `rows` rows of `y`; the offsets are those of so many rows.
    pub(super) fn run<T: Integer, F: Finish>(
        &self,
        team: &dyn Team,
        rows: usize,
        offsets: &Offsets,
        x: &impl Source<T>,
        finish: &F,
        y: &mut [F::Y],
    ) {
        if self.is_empty() || rows == 0 {
            return;
        }
        let blocks = y.chunks_mut(ROWS * self.len()).enumerate();
        share(team, blocks, |(i, y)| {
            let block = match self.panels {
                _ if self.raises(rows) => Self::block::<T, Raised, _, F>,
                Panels::Bytes(..) => Self::block::<T, i8, _, F>,
                Panels::Quads(_) => unreachable!("quads are always multiplied by raised bytes"),
                Panels::Signed(..) => Self::block::<T, Signed, _, F>,
                Panels::Pairs(_) | Panels::Halves(..) => Self::block::<T, i16, _, F>,
            };
            block(self, i * ROWS, offsets, x, finish, y);
        });
    }

    /// The rows of `y`, the first of which is `first`: some at a time, so that they and a panel fit into the L1 cache.
    fn block<T: Integer, A: Form, X: Source<T>, F: Finish>(
        &self,
        first: usize,
        offsets: &Offsets,
        x: &X,
        finish: &F,
        y: &mut [F::Y],
    ) {
        let (shape, ready) = (self.shape(), Ready::new(self.isa));
        // If those of one tile don't fit, the more of them meet a panel while it is near.
        let fit = match CACHE / (shape.steps * GROUP_BYTES * A::HEIGHT) {
            0 => ROWS,
            tiles => (tiles * A::HEIGHT).min(ROWS),
        };
        let some = fit.min((y.len() / self.len()).next_multiple_of(A::HEIGHT));
        let line = shape.steps * shape.units;
        let mut room = Room::new(if x.lies(line) { 0 } else { some * line });
        let sums = some * PANELS.min(shape.panels) * PANEL;
        let (mut packed, mut acc) = (None, Room::new(sums));
        let mut wide = vec![0_i64; if offsets.narrow.is_some() { 0 } else { sums }];
        for (i, y) in y.chunks_mut(some * self.len()).enumerate() {
            let rows = y.len() / self.len();
            for group in 0..self.groups {
                let first = first + i * some;
                let x = x.rows(group, first..first + rows, line, room.values());
                let a = A::lying(self, x, rows).unwrap_or_else(|| {
                    let a = packed.get_or_insert_with(|| Room::new(some * line * A::planes(self))).values();
                    A::pack(self, &x[..rows * line], a);
                    a
                });
                for panel in (0..shape.panels).step_by(PANELS) {
                    let panels = panel..(panel + PANELS).min(shape.panels);
                    let part = Part { weight: self, ready: &ready, group, panels, steps: 0..shape.steps };
                    part.run(a, rows, offsets, (acc.values(), &mut wide), finish, y);
                }
            }
        }
    }
}

impl Part<'_> {
    /// Writes its columns of `y`; the sums are put down in between.
    fn run<A: Form, F: Finish>(
        &self,
        a: &[A],
        rows: usize,
        offsets: &Offsets,
        (acc, wide): (&mut [i32], &mut [i64]),
        finish: &F,
        y: &mut [F::Y],
    ) {
        let (weight, width) = (self.weight, self.panels.len() * PANEL);
        let first = self.panels.start * PANEL;
        let (length, channel) = ((weight.outputs - first).min(width), self.group * weight.outputs + first);
        let lie = Lie { length, width, stride: weight.len(), channel, columns: true };
        let first = self.group * weight.shape().panels * PANEL + first;
        let (offset, whole) = (first..first + width, rows.next_multiple_of(A::HEIGHT) * width);
        let (acc, y) = (&mut acc[..whole], &mut y[channel..]);
        if let Some(narrow) = &offsets.narrow {
            let start = match A::START {
                1 => &narrow[offset.clone()],
                tile => &offsets.tiles.get()[offset.start * tile..offset.end * tile],
            };
            sums::narrow(self, a, rows, &narrow[offset], start, acc);
            finish.rows(weight.isa, &acc[..rows * width], lie, y);
        } else {
            let wide = &mut wide[..whole];
            sums::wide(self, a, rows, &offsets.each[offset], acc, wide);
            finish.rows(weight.isa, &wide[..rows * width], lie, y);
        }
    }
}
