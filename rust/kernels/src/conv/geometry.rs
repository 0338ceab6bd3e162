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
    /// How far the first window begins before the first element; or behind it, if it is less than 0.
    pub before: [isize; 3],
    /// From tap to tap.
    pub dilation: [usize; 3],
    /// Number of windows.
    pub output: [usize; 3],
}

/// Where a window begins: in which image, and at which place of it.
#[derive(Clone, Copy)]
pub(super) struct Corner {
    image: usize,
    place: [isize; 3],
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

    /// Image and first place under each window, from window `first` on; a place may be before the image.
    pub(super) fn corners(&self, first: usize) -> impl Iterator<Item = Corner> {
        let Self { stride, before, output: output @ [depth, height, width], .. } = *self;
        let mut image = first / width / height / depth;
        let mut place = [first / width / height % depth, first / width % height, first % width];
        std::iter::repeat_with(move || {
            let corner = std::array::from_fn(|i| (place[i] * stride[i]) as isize - before[i]);
            let corner = Corner { image, place: corner };
            for i in (0..3).rev() {
                place[i] += 1;
                if place[i] < output[i] {
                    return corner;
                }
                place[i] = 0;
            }
            image += 1;
            corner
        })
    }

    /// Is the tap of that dimension inside of the image, and where?
    #[inline(always)]
    pub(super) fn inside(&self, dimension: usize, corner: isize, tap: usize) -> Option<usize> {
        let place = corner + (tap * self.dilation[dimension]) as isize;
        usize::try_from(place).ok().filter(|&place| place < self.size[dimension])
    }

    /// From the first place under a window to that of each tap, in elements.
    pub(super) fn steps(&self) -> Vec<usize> {
        let [[kd, kh, kw], [dd, dh, dw], [_, height, width]] = [self.kernel, self.dilation, self.size];
        let places = (0..kd).flat_map(|d| (0..kh).flat_map(move |h| (0..kw).map(move |w| (d, h, w))));
        places.map(|(d, h, w)| ((d * dd * height + h * dh) * width + w * dw) * self.channels).collect()
    }

    /// For each tap of a window, all channels under it, or `outside`. `steps` are ours.
    pub(super) fn under<'a, T>(
        &self,
        x: &'a [T],
        corner: Corner,
        steps: &[usize],
        outside: &'a [T],
        under: &mut Vec<&'a [T]>,
    ) {
        let (image, [d, h, w], channels) = (corner.image, corner.place, self.channels);
        let whole = |i: usize| {
            let last = corner.place[i] + ((self.kernel[i] - 1) * self.dilation[i]) as isize;
            corner.place[i] >= 0 && last < self.size[i] as isize
        };
        if whole(0) && whole(1) && whole(2) {
            let [d, h, w] = [d as usize, h as usize, w as usize];
            let first = (((image * self.size[0] + d) * self.size[1] + h) * self.size[2] + w) * channels;
            let x = &x[first..];
            return under.extend(steps.iter().map(|step| &x[*step..step + channels]));
        }
        let [depth, height, width] = self.kernel;
        for tap_d in 0..depth {
            let d = self.inside(0, d, tap_d).map(|d| image * self.size[0] + d);
            for tap_h in 0..height {
                let h = d.and_then(|d| Some(d * self.size[1] + self.inside(1, h, tap_h)?));
                for tap_w in 0..width {
                    let w = h.and_then(|h| Some(h * self.size[2] + self.inside(2, w, tap_w)?));
                    under.push(w.map_or(outside, |w| &x[w * channels..(w + 1) * channels]));
                }
            }
        }
    }

    /// Writes what lies under the taps of a window, of `channels` channels from `first` on.
    pub(super) fn gather<T: Copy>(
        &self,
        x: &[T],
        Corner { image, place: corner }: Corner,
        first: usize,
        channels: usize,
        outside: T,
        taps: &mut [T],
    ) {
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
