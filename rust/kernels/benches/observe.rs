//! One row for each observing kernel and instruction set: `cargo bench --bench observe`.
//!
//! Every row is first checked against the baseline's bits.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use nashquant_kernels::{Isa, Layout, observe, parallel::Serial};

const CHANNELS: usize = 64;
const N: usize = 1 << 20;

fn data() -> Vec<f32> {
    let noise = |i: usize| (i as u32).wrapping_mul(2_654_435_761).wrapping_add(12_345).rotate_left(7);
    let bytes = |i| noise(i).to_le_bytes().iter().map(|&b| f32::from(b)).sum::<f32>();
    (0..N).map(|i| (bytes(i) - 510.0) / 148.0).collect()
}

/// Runs `kernel(isa, answer)` for each instruction set.
fn rows(c: &mut Criterion, name: &str, mut kernel: impl FnMut(Isa) -> Vec<f32>) {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Bytes(4 * N as u64)).sample_size(20);
    let baseline = kernel(Isa::available()[0]);
    for isa in Isa::available() {
        assert_eq!(kernel(isa), baseline, "{isa:?} differs from the baseline");
        group.bench_function(BenchmarkId::new(format!("{isa:?}"), "1M"), |b| b.iter(|| kernel(isa)));
    }
    group.finish();
}

fn observe(c: &mut Criterion) {
    let x = data();
    let layout = Layout { outer: 1, channels: CHANNELS, inner: N / CHANNELS };
    rows(c, "min_max_per_tensor", |isa| {
        let (low, high) = observe::min_max_per_tensor(isa, &Serial, &x).expect("not empty");
        vec![low, high]
    });
    rows(c, "min_max_per_channel", |isa| {
        let (mut low, mut high) = (vec![0.0; CHANNELS], vec![0.0; CHANNELS]);
        observe::min_max_per_channel(isa, &Serial, &x, layout, &mut low, &mut high).expect("lengths fit");
        [low, high].concat()
    });
    rows(c, "mse_search_per_tensor", |isa| {
        vec![observe::mse_search_per_tensor(isa, &Serial, &x, -128, 127, 1).expect("not empty")]
    });
    rows(c, "mse_search_per_channel", |isa| {
        let mut threshold = vec![0.0; CHANNELS];
        observe::mse_search_per_channel(isa, &Serial, &x, layout, -128, 127, 1, &mut threshold)
            .expect("lengths fit");
        threshold
    });
}

criterion_group!(benches, observe);
criterion_main!(benches);
