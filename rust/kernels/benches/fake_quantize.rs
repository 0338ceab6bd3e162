//! One row for each fake-quantize kernel and instruction set: `cargo bench --bench fake_quantize`.
//!
//! Every row is first checked against the baseline's bits.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use nashquant_kernels::{
    Isa, Layout,
    fake_quantize::{self, ChannelGrid, Grid, mask_len},
    parallel::Serial,
};

const GRID: Grid = Grid { scale: 0.02, zero_point: 0, qmin: -128, qmax: 127 };
const CHANNELS: usize = 64;
const SIZES: [(&str, usize); 2] = [("64K", 1 << 16), ("1M", 1 << 20)];

/// Bell-shaped enough: the sum of four hashed bytes, about 1 % of it outside the grid.
fn data(n: usize) -> Vec<f32> {
    let noise = |i: usize| (i as u32).wrapping_mul(2_654_435_761).wrapping_add(12_345).rotate_left(7);
    let bytes = |i| noise(i).to_le_bytes().iter().map(|&b| f32::from(b)).sum::<f32>();
    (0..n).map(|i| (bytes(i) - 510.0) / 148.0).collect()
}

/// Runs `kernel(isa, y)` for each size and instruction set.
fn rows(c: &mut Criterion, name: &str, mut kernel: impl FnMut(Isa, &[f32], &mut [f32])) {
    let mut group = c.benchmark_group(name);
    for (size, n) in SIZES {
        let x = data(n);
        let (mut y, mut baseline) = (vec![0.0; n], vec![0.0; n]);
        kernel(Isa::available()[0], &x, &mut baseline);
        group.throughput(Throughput::Bytes(8 * n as u64));
        for isa in Isa::available() {
            kernel(isa, &x, &mut y);
            assert_eq!(y, baseline, "{isa:?} differs from the baseline");
            group.bench_function(BenchmarkId::new(format!("{isa:?}"), size), |b| {
                b.iter(|| kernel(isa, &x, &mut y));
            });
        }
    }
    group.finish();
}

fn fake_quantize(c: &mut Criterion) {
    rows(c, "fake_quantize_per_tensor", |isa, x, y| {
        fake_quantize::per_tensor(isa, &Serial, x, GRID, None, y).expect("lengths fit");
    });
    let mut mask = Vec::new();
    rows(c, "fake_quantize_per_tensor_with_mask", |isa, x, y| {
        mask.resize(mask_len(x.len()), 0);
        fake_quantize::per_tensor_with_mask(isa, &Serial, x, GRID, None, y, &mut mask).expect("lengths fit");
    });
    rows(c, "fake_quantize_backward", |isa, x, y| {
        mask.resize(mask_len(x.len()), 0b1011_0111);
        fake_quantize::backward(isa, &Serial, x, &mask[..mask_len(x.len())], y).expect("lengths fit");
    });
    let scale: Vec<f32> = (0..CHANNELS).map(|c| 0.01 + 0.0003 * c as f32).collect();
    let grid = ChannelGrid { scale: &scale, zero_point: &[0; CHANNELS], qmin: -128, qmax: 127 };
    for (what, runs) in [("", true), ("_channels_last", false)] {
        rows(c, &format!("fake_quantize_per_channel{what}"), |isa, x, y| {
            let rest = x.len() / CHANNELS;
            let (outer, inner) = if runs { (1, rest) } else { (rest, 1) };
            let layout = Layout { outer, channels: CHANNELS, inner };
            fake_quantize::per_channel(isa, &Serial, x, layout, grid, y).expect("lengths fit");
        });
    }
}

criterion_group!(benches, fake_quantize);
criterion_main!(benches);
