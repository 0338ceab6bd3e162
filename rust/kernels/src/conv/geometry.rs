//! Which elements lie under which tap.

use crate::{Error, error::check_len};

/// Where the windows of a convolution over three dimensions lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Number of images.
    pub batch: usize,
    /// Of an image: depth, height, width.
    pub size: [usize; 3],
    /// Channels of an image.
    pub channels: usize,
    /// Taps of a window.
    pub kernel: [usize; 3],
    /// From window to window.
    pub stride: [usize; 3],
    /// How far the first window begins before the first element.
    pub before: [usize; 3],
    /// From tap to tap.
    pub dilation: [usize; 3],
    /// Number of windows.
    pub output: [usize; 3],
}

impl Geometry {
    /// The number of windows of all images. An error if `x` has another length, or there is no window.
    pub(super) fn check(&self, len: usize) -> Result<usize, Error> {
        let all = self.output.iter().chain(&self.stride).chain(&self.dilation).chain(&self.kernel);
        if all.into_iter().any(|&n| n == 0) {
            return Err(Error::Window);
        }
        let product = |sizes: [usize; 3], n: usize| sizes.iter().try_fold(n, |n, &size| n.checked_mul(size));
        let expected = product(self.size, self.batch).and_then(|n| n.checked_mul(self.channels));
        check_len("x", len, expected.unwrap_or(usize::MAX))?;
        product(self.output, self.batch).ok_or(Error::Window)
    }

    pub(super) fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Image and first place under window `row`; the place may be before the image.
    pub(super) fn corner(&self, row: usize) -> (usize, [isize; 3]) {
        let [depth, height, width] = self.output;
        let (row, w) = divided(row, width);
        let (row, h) = divided(row, height);
        let (image, d) = divided(row, depth);
        let place = [d, h, w];
        (image, std::array::from_fn(|i| (place[i] * self.stride[i]) as isize - self.before[i] as isize))
    }

    /// Is the tap of that dimension inside of the image, and where?
    #[inline(always)]
    pub(super) fn inside(&self, dimension: usize, corner: isize, tap: usize) -> Option<usize> {
        let place = corner + (tap * self.dilation[dimension]) as isize;
        usize::try_from(place).ok().filter(|&place| place < self.size[dimension])
    }

    /// For each tap of window `row`, all channels under it, or `outside`.
    pub(super) fn under<'a, T>(&self, x: &'a [T], row: usize, outside: &'a [T], under: &mut Vec<&'a [T]>) {
        let (image, corner) = self.corner(row);
        let [depth, height, width] = self.kernel;
        for d in 0..depth {
            let d = self.inside(0, corner[0], d).map(|d| image * self.size[0] + d);
            for h in 0..height {
                let h = d.and_then(|d| Some(d * self.size[1] + self.inside(1, corner[1], h)?));
                for w in 0..width {
                    let w = h.and_then(|h| Some(h * self.size[2] + self.inside(2, corner[2], w)?));
                    under.push(w.map_or(outside, |w| &x[w * self.channels..(w + 1) * self.channels]));
                }
            }
        }
    }

    /// Writes what lies under the taps of window `row`, of `channels` channels from `first` on.
    pub(super) fn gather<T: Copy>(
        &self,
        x: &[T],
        row: usize,
        first: usize,
        channels: usize,
        outside: T,
        taps: &mut [T],
    ) {
        let (image, corner) = self.corner(row);
        let line = self.kernel[2] * channels;
        let neighbours = self.dilation[2] == 1 && channels == self.channels;
        let lines = (0..self.kernel[0]).flat_map(|d| (0..self.kernel[1]).map(move |h| (d, h)));
        for (taps, (d, h)) in taps.chunks_mut(line.max(1)).zip(lines) {
            let (Some(d), Some(h)) = (self.inside(0, corner[0], d), self.inside(1, corner[1], h)) else {
                taps.fill(outside);
                continue;
            };
            let start = ((image * self.size[0] + d) * self.size[1] + h) * self.size[2];
            if neighbours {
                // One run of all taps that are inside.
                let end = corner[2] + self.kernel[2] as isize;
                let from = corner[2].clamp(0, self.size[2] as isize) as usize;
                let to = end.clamp(from as isize, self.size[2] as isize) as usize;
                let skipped = ((from as isize - corner[2]).max(0) as usize * channels).min(line);
                let len = (to - from) * channels;
                taps[..skipped].fill(outside);
                taps[skipped..skipped + len]
                    .copy_from_slice(&x[(start + from) * channels..(start + to) * channels]);
                taps[skipped + len..].fill(outside);
                continue;
            }
            for (w, taps) in taps.chunks_mut(channels.max(1)).enumerate() {
                match self.inside(2, corner[2], w) {
                    Some(w) => {
                        let at = (start + w) * self.channels + first;
                        taps.copy_from_slice(&x[at..at + channels]);
                    }
                    None => taps.fill(outside),
                }
            }
        }
    }
}

/// Quotient and rest, in 32 bits where they fit: that takes half as long.
fn divided(n: usize, by: usize) -> (usize, usize) {
    match (u32::try_from(n), u32::try_from(by)) {
        (Ok(n), Ok(by)) => ((n / by) as usize, (n % by) as usize),
        _ => (n / by, n % by),
    }
}
