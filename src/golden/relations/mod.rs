//! Local relations.
mod edits;
mod equations;
mod evaluate;
pub(crate) mod findings;
mod graph;
mod identify;
mod local;
pub(crate) mod language;
mod places;
mod search;
mod values;
