//! What a training step, an encoding and an evaluation cost, and how near that is to the machine's best.
//!
//! ```text
//! share of peak = (useful operations / seconds) / (operations / seconds of a product of 2048³)
//! ```
//!
//! The product of 2048³ is timed in the same run, on the same number of threads: the machine's own
//! measured peak, not the one of its data sheet. Useful are the 2mkn operations of every product that
//! the prefix tree leaves ([`products`]); gates, norms, sums and Adam count as no operations, and cost
//! time all the same.
//!
//! `run` measures all of it (`vsepp bench`). `benches/parts.rs` times the same things one by one, and
//! `benches/peers/` sets them beside other frameworks. Times are medians; of a product that measures
//! the peak, the least.

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
pub use measure::{Embeddings, Operands, Peak};
pub use run::{Encoded, Evaluated, Measured, Options, ProductTime, Report, SizeReport, Timing, run};
pub use size::Size;
pub use spread::{Effort, Spread};
pub use subject::{Laps, Subject, Training};
pub use work::{Counts, Form, Pass, Product, operations, products};

/// Seed of everything that is drawn here.
pub const SEED: u64 = 0;
