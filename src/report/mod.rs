//! Output for people and programs: observers of a training's events, and tables.

pub mod bench;
pub mod console;
pub mod golden;
mod golden_page;
pub mod jsonl;
pub mod table;

pub use bench::bench_report;
pub use console::{Console, say};
pub use golden::{golden_case, golden_list, golden_mistakes, golden_report, golden_tensor, tensor_of};
pub use golden_page::golden_page;
pub use jsonl::JsonLines;
pub use table::{evaluation_table, gradcheck_table, thousands};
