//! Memory that begins on a line of the cache: tiles of 64 bytes that lie across two lines take twice as long.

/// Bytes of a line.
const LINE: usize = 64;

/// Do they begin on one?
pub(super) fn on_line<T>(values: &[T]) -> bool {
    values.as_ptr().addr().is_multiple_of(LINE)
}

/// `n` values, all the default at first.
pub(super) struct Room<T> {
    all: Vec<T>,
    first: usize,
    n: usize,
}

impl<T: Copy + Default> Room<T> {
    pub(super) fn new(n: usize) -> Self {
        let all = vec![T::default(); n + LINE / size_of::<T>()];
        let first = all.as_ptr().align_offset(LINE).min(all.len() - n);
        Self { all, first, n }
    }

    pub(super) fn get(&self) -> &[T] {
        &self.all[self.first..][..self.n]
    }

    pub(super) fn values(&mut self) -> &mut [T] {
        &mut self.all[self.first..][..self.n]
    }
}
