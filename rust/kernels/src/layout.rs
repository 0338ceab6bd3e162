//! Where the channels lie in flat memory.

/// A tensor in memory order: element `(o * channels + c) * inner + i` belongs to channel `c`.
///
/// Any dense permutation has this form: `inner` is the channel axis' stride.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How often all channels repeat.
    pub outer: usize,
    /// Number of channels.
    pub channels: usize,
    /// Neighbouring elements of one channel.
    pub inner: usize,
}

impl Layout {
    /// One channel of `n` elements.
    #[must_use]
    pub fn flat(n: usize) -> Self {
        Self { outer: 1, channels: 1, inner: n }
    }

    /// Number of elements; `None` if it does not fit a `usize`.
    #[must_use]
    pub fn checked_len(self) -> Option<usize> {
        self.outer.checked_mul(self.channels)?.checked_mul(self.inner)
    }
}
