//! Times the parts of training and retrieval one by one, with `vsepp::bench`.
//!
//! ```text
//! cargo bench --bench parts                       # everything
//! cargo bench --bench parts -- coco               # everything with "coco" in its name
//! cargo bench --bench parts -- 'product.*paper'   # a regular expression
//! ```
//!
//! `vsepp bench` measures the same and gives shares of the machine's peak. Use this file to watch one part
//! while you change it. `cargo test --benches` starts it without `--bench`: everything runs once, at the
//! smallest size.

use std::fmt;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use vsepp::bench::{Embeddings, Operands, Product, Size, Subject, Training, batch, made_up, products};
use vsepp::model::Batch;
use vsepp::nn::PrefixTree;

fn main() {
    divan::main();
}

/// Numbers of threads.
const THREADS: [usize; 2] = [1, 2];

/// A size on a number of threads.
#[derive(Clone, Copy)]
struct Case {
    size: Size,
    threads: usize,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}t", self.size.name(), self.threads)
    }
}

impl Case {
    fn pool(self) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(self.threads).build().expect("threads")
    }

    fn captions(self, number: usize) -> Vec<Vec<u32>> {
        made_up(self.size.settings().1.vocab_size, number)
    }

    fn batch(self) -> Batch<f32> {
        let (config, architecture) = self.size.settings();
        batch(&architecture, self.captions(config.batch_size))
    }
}

/// The sizes; only the smallest in a test.
fn sizes() -> &'static [Size] {
    if std::env::args().any(|argument| argument == "--bench") { &Size::ALL } else { &Size::ALL[..1] }
}

fn cases() -> Vec<Case> {
    sizes().iter().flat_map(|&size| THREADS.map(|threads| Case { size, threads })).collect()
}

#[divan::bench(args = cases(), max_time = 10)]
fn step(bencher: Bencher, case: Case) {
    let (pool, batch) = (case.pool(), case.batch());
    let mut training = Training::new(case.size).expect("a size that fits memory");
    bencher.bench_local(|| pool.install(|| training.step(&batch).expect("a step")));
}

#[divan::bench(args = cases(), max_time = 10)]
fn forward(bencher: Bencher, case: Case) {
    let (pool, batch, mut subject) = (case.pool(), case.batch(), Subject::<f32>::new(case.size));
    bencher.bench_local(|| pool.install(|| subject.forward(&batch).expect("a forward pass")));
}

#[divan::bench(args = cases(), max_time = 10)]
fn backward(bencher: Bencher, case: Case) {
    let (pool, batch, mut subject) = (case.pool(), case.batch(), Subject::<f32>::new(case.size));
    subject.forward(&batch).expect("a forward pass");
    bencher.bench_local(|| pool.install(|| subject.backward(&batch)));
}

#[divan::bench(args = cases(), max_time = 10)]
fn adam(bencher: Bencher, case: Case) {
    let (pool, batch, mut subject) = (case.pool(), case.batch(), Subject::<f32>::new(case.size));
    pool.install(|| subject.step(&batch)).expect("a step");
    bencher.bench_local(|| pool.install(|| subject.update()));
}

#[divan::bench(args = cases(), max_time = 10)]
fn encoding(bencher: Bencher, case: Case) {
    const CAPTIONS: usize = 1000;
    let (pool, captions, subject) = (case.pool(), case.captions(CAPTIONS), Subject::<f32>::new(case.size));
    let bencher = bencher.counter(ItemsCount::new(CAPTIONS));
    bencher.bench_local(|| pool.install(|| black_box(subject.encode(&captions).expect("captions"))));
}

#[divan::bench(args = cases(), max_time = 10)]
fn evaluation(bencher: Bencher, case: Case) {
    let embeddings = Embeddings::new(1000, case.size.settings().1.embed_size).expect("vectors");
    let pool = case.pool();
    bencher.bench_local(|| pool.install(|| embeddings.evaluate().expect("ranks")));
}

/// A product of a step, on a number of threads.
struct ProductCase {
    case: Case,
    product: Product,
}

impl fmt::Display for ProductCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Product { name, k, n, .. } = &self.product;
        write!(f, "{} {name} {}×{k}×{n}", self.case, self.product.rows())
    }
}

fn product_cases() -> Vec<ProductCase> {
    let of_case = |case: Case| {
        let (config, architecture) = case.size.settings();
        let tree = PrefixTree::new(&case.captions(config.batch_size));
        products(&architecture, &tree).into_iter().map(move |product| ProductCase { case, product })
    };
    cases().into_iter().flat_map(of_case).collect()
}

/// Times a product; its items are operations.
#[divan::bench(args = product_cases(), max_time = 1)]
fn product(bencher: Bencher, case: &ProductCase) {
    let (pool, mut operands) = (case.case.pool(), Operands::new(&case.product));
    let bencher = bencher.counter(operations(case.product.operations()));
    bencher.bench_local(|| pool.install(|| operands.run()));
}

/// A whole number, below 2⁵³.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn operations(number: f64) -> ItemsCount {
    ItemsCount::new(number as u64)
}
