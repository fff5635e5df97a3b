//! Output for people and programs: observers of a training's events, and tables.

#[cfg(feature = "cli")]
pub(crate) mod bench;
mod chart;
#[cfg(feature = "cli")]
pub(crate) mod console;
pub(crate) mod golden;
mod golden_page;
#[cfg(feature = "cli")]
pub(crate) mod jsonl;
mod study;
pub(crate) mod table;

#[cfg(feature = "cli")]
pub(crate) use bench::bench_report;
#[cfg(feature = "cli")]
pub(crate) use console::{Console, say};
pub(crate) use golden::{golden_case, golden_list, golden_mistakes, golden_report, golden_tensor, tensor_of};
pub(crate) use golden_page::golden_page;
#[cfg(feature = "cli")]
pub(crate) use jsonl::JsonLines;
pub(crate) use study::{
    Score, Series, compare_figure, compare_table, mean_and_deviation, study_figure, study_steps, study_table,
    sweep_table,
};
pub(crate) use table::{evaluation_table, gradcheck_table, thousands};
