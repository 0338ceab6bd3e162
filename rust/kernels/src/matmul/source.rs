//! Where the rows of a product come from: they lie there, or are gathered.

use std::ops::Range;

use crate::integer::Integer;

/// Activations, row after row.
pub(crate) trait Source<T>: Sync {
    /// Do rows lie there, `line` long, so that no room is needed?
    fn lies(&self, _line: usize) -> bool {
        false
    }
    /// Some rows of a group, each `line` long, and perhaps what is behind them: as they lie; or in `room`, whose rows end
    /// in zeros.
    fn rows<'a>(&'a self, group: usize, rows: Range<usize>, line: usize, room: &'a mut [T]) -> &'a [T];
}

/// A matrix of whole rows, the same for all groups.
pub(super) struct Matrix<'a, T> {
    pub(super) a: &'a [T],
    pub(super) depth: usize,
}

impl<T: Integer> Source<T> for Matrix<'_, T> {
    fn lies(&self, line: usize) -> bool {
        line == self.depth
    }

    fn rows<'a>(&'a self, _: usize, rows: Range<usize>, line: usize, room: &'a mut [T]) -> &'a [T] {
        let depth = self.depth;
        if self.lies(line) {
            return &self.a[rows.start * depth..];
        }
        let a = &self.a[rows.start * depth..rows.end * depth];
        for (a, room) in a.chunks(depth.max(1)).zip(room.chunks_mut(line)) {
            room[..depth].copy_from_slice(a);
        }
        room
    }
}
