//! Showing what happens: observers of a training's events, and tables.

mod console;
mod jsonl;
mod table;

pub use console::Console;
pub use jsonl::JsonLines;
pub use table::{evaluation_table, gradcheck_table, thousands};
