//! Showing what happens: observers of a training's events, and tables.

pub mod console;
pub mod jsonl;
pub mod table;

pub use console::{Console, say};
pub use jsonl::JsonLines;
pub use table::{evaluation_table, gradcheck_table, thousands};
