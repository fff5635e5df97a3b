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
//! `run` measures everything (`vsepp bench`), and `serve` is this crate's side in `benches/peers/`, which compares
//! with other frameworks. Times are medians; for the peak, the minimum counts.

mod captions;
mod effort;
mod encoder;
mod machine;
mod measure;
mod run;
mod serve;
mod size;
mod spread;
mod subject;
mod work;

pub(crate) use captions::Captions;
pub(crate) use encoder::{EncoderMeasured, EncoderReport, Rate};
pub(crate) use machine::{cores, peak_rss_mib};
pub(crate) use measure::{Peak, Timing};
pub(crate) use run::{Measured, Options, Report, SizeReport, run};
pub(crate) use serve::{Data, Work};
pub(crate) use size::{Changes, Model, Size};
pub(crate) use spread::Spread;
pub(crate) use work::{Form, Product};

/// The seed of all random numbers here.
const SEED: u64 = 0;
