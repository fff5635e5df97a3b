//! Measures the cost of a training step, an encoding and an evaluation, as a share of the machine's peak.
//!
//! ```text
//! share of peak = (useful operations / seconds) / (operations / seconds of a product of 2048³)
//! ```
//!
//! The product of 2048³ is timed in the same run, on the same number of threads. So the peak is measured,
//! not taken from a data sheet. Useful operations are the 2mkn operations of every product that the prefix
//! tree leaves (`work::products`). Gates, norms, sums and Adam take time but count as no operations.
//!
//! `run` measures everything (`vsepp bench`), and `benches/peers/` compares with other frameworks. Times are
//! medians; for the peak, the minimum counts.

mod captions;
mod machine;
mod measure;
mod run;
mod size;
mod spread;
mod subject;
mod work;

pub use captions::{Captions, batch, made_up};
pub use machine::{cores, load, peak_rss_mib};
pub use measure::Embeddings;
pub(crate) use measure::Peak;
pub(crate) use run::{Measured, SizeReport, Timing};
pub use run::{Options, Report, run};
pub use size::Size;
pub use spread::Spread;
pub use subject::Training;
pub use work::{Counts, step_operations};
pub(crate) use work::{Form, Product};

/// The seed of all random numbers here.
pub const SEED: u64 = 0;
