//! Output for people and programs: observers of a training's events, and tables.

pub(crate) mod bench;
pub(crate) mod console;
pub(crate) mod golden;
mod golden_page;
pub(crate) mod jsonl;
mod study;
pub(crate) mod table;

pub(crate) use bench::bench_report;
pub(crate) use console::{Console, say};
pub(crate) use golden::{golden_case, golden_list, golden_mistakes, golden_report, golden_tensor, tensor_of};
pub(crate) use golden_page::golden_page;
pub(crate) use jsonl::JsonLines;
pub(crate) use study::{Score, mean_and_deviation, study_figure, study_steps, study_table};
pub(crate) use table::{evaluation_table, gradcheck_table, thousands};
