//! What the kernels should say, in f64 and i64 and written to be read; and teams to run them with.
#![allow(dead_code, reason = "each test file takes what it needs")]

use nashquant_kernels::{
    Layout,
    fake_quantize::{ChannelGrid, Grid},
    parallel::Team,
};

/// `n` threads, each taking every `n`th job.
pub struct Threads(pub usize);

impl Team for Threads {
    fn run(&self, jobs: usize, job: &(dyn Fn(usize) + Sync)) {
        std::thread::scope(|scope| {
            for first in 0..self.0 {
                scope.spawn(move || (first..jobs).step_by(self.0).for_each(job));
            }
        });
    }
}

/// Half to even on an exact f64, by hand.
pub fn round_half_even(value: f64) -> i64 {
    let floor = value.floor();
    let up = match (value - floor).partial_cmp(&0.5).unwrap() {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal => floor as i64 % 2 != 0,
    };
    floor as i64 + i64::from(up)
}

/// The integer and whether it was inside, for a product already rounded to the type it is computed in.
pub fn quantize(product: f64, grid: Grid) -> (i64, bool) {
    let (qmin, qmax) = (i64::from(grid.qmin), i64::from(grid.qmax));
    if product.is_nan() || product.is_infinite() {
        return (if product > 0.0 { qmax } else { qmin }, false);
    }
    let q = round_half_even(product.clamp(-1e15, 1e15)) + i64::from(grid.zero_point);
    (q.clamp(qmin, qmax), (qmin..=qmax).contains(&q))
}

/// One f32: the two roundings of the contract are the products.
pub fn fake_quantize(x: f32, grid: Grid) -> (f32, bool) {
    let (q, inside) = quantize(f64::from(x * (1.0 / grid.scale)), grid);
    ((q - i64::from(grid.zero_point)) as f32 * grid.scale, inside)
}

/// One f64, per tensor: the last product in f32.
pub fn fake_quantize_f64(x: f64, grid: Grid, last_in_f32: bool) -> (f64, bool) {
    let (q, inside) = quantize(x * f64::from(1.0 / grid.scale), grid);
    let steps = q - i64::from(grid.zero_point);
    let y =
        if last_in_f32 { f64::from(steps as f32 * grid.scale) } else { steps as f64 * f64::from(grid.scale) };
    (y, inside)
}

/// Gradients of x, scale and zero point. Each term is f32; terms are added as the kernel promises: f32 over every 16th
/// of 512 neighbours, then f64 in order, over pieces of a run of at most 32768.
pub fn learnable_backward(
    grad_y: &[f32],
    x: &[f32],
    layout: Layout,
    grid: ChannelGrid<'_>,
    grad_factor: f64,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let mut grad_x = vec![0.0; x.len()];
    let mut sums = vec![(0.0_f64, 0.0_f64); layout.channels];
    for first in (0..x.len()).step_by(layout.inner) {
        let channel = first / layout.inner % layout.channels;
        let (scale, zero_point) = (grid.scale[channel], grid.zero_point[channel]);
        for piece in (first..first + layout.inner).collect::<Vec<_>>().chunks(32 * 1024) {
            let mut of_piece = (0.0, 0.0);
            for block in piece.chunks(512) {
                for lane in 0..16.min(block.len()) {
                    let mut of_lane = (0.0_f32, 0.0_f32);
                    for i in block[lane..].iter().copied().step_by(16) {
                        let one = Grid { scale, zero_point, qmin: grid.qmin, qmax: grid.qmax };
                        let (q, inside) = quantize(f64::from(x[i] * (1.0 / scale)), one);
                        let steps = (q - i64::from(zero_point)) as f32;
                        let term = if inside { (steps * scale - x[i]) * (1.0 / scale) } else { steps };
                        grad_x[i] = grad_y[i] * f32::from(u8::from(inside));
                        of_lane.0 += grad_y[i] * term;
                        of_lane.1 += if inside { 0.0 } else { grad_y[i] };
                    }
                    of_piece = (of_piece.0 + f64::from(of_lane.0), of_piece.1 + f64::from(of_lane.1));
                }
            }
            sums[channel] = (sums[channel].0 + of_piece.0, sums[channel].1 + of_piece.1);
        }
    }
    let of_scale = sums.iter().map(|sum| (sum.0 * grad_factor) as f32).collect();
    let of_zero_point = sums.iter().zip(grid.scale);
    let of_zero_point =
        of_zero_point.map(|(sum, scale)| (-sum.1 * f64::from(*scale) * grad_factor) as f32).collect();
    (grad_x, of_scale, of_zero_point)
}

/// Where the bit of an element is: byte, and which of it. 32 rows of 16 elements, the first row in the highest bits.
fn place(i: usize) -> (usize, usize) {
    let (block, bit, lane) = (i / 512, 31 - i % 512 / 16, i % 16);
    (block * 64 + lane * 4 + bit / 8, bit % 8)
}

/// Bits as bools.
pub fn unpacked(mask: &[u8], n: usize) -> Vec<bool> {
    (0..n).map(place).map(|(byte, bit)| mask[byte] >> bit & 1 == 1).collect()
}

/// Bools as bits; bits behind the last are 0.
pub fn packed(inside: &[bool]) -> Vec<u8> {
    let mut mask = vec![0; inside.len().div_ceil(512) * 64];
    for (i, inside) in inside.iter().enumerate() {
        let (byte, bit) = place(i);
        mask[byte] |= u8::from(*inside) << bit;
    }
    mask
}

/// Numbers that go wrong somewhere, then pseudo-random ones of all sizes; the same every time.
pub fn awkward(n: usize, spread: f32) -> Vec<f32> {
    let special = [
        0.0,
        -0.0,
        0.5,
        1.5,
        2.5,
        -0.5,
        -1.5,
        -2.5,
        126.5,
        127.5,
        -128.5,
        -129.5,
        1e-45,
        -1e-40,
        1e30,
        -1e30,
        f32::MAX,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        9.3e18,
        -9.3e18,
        0.49999997,
        8388609.0,
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|i| if i % 3 == 0 { special[i / 3 % special.len()] } else { random() * spread }).collect()
}

/// As [`awkward`], without what an observer refuses.
pub fn finite(n: usize, spread: f32) -> Vec<f32> {
    awkward(n, spread).into_iter().map(|x| if x.abs() < 1e6 { x } else { spread }).collect()
}
