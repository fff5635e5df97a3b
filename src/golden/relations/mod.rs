//! The computation of a case as data, and what a backend computes instead.
//!
//! | | |
//! |---|---|
//! | [`language`], `elsewhere`, `equations` | relations, as text: `c[b,t,j] = h[b,t-1,k] W_hh[j,k] + b_hh[j]` |
//! | `graph`, `pictures` | which relations a case has, and which tensor each of their leaves is |
//! | `evaluate`, `values` | what a relation gives, on the backend's own values |
//! | `local` | which relations do not hold |
//! | `edit`, `factors`, `edits`, `several` | changes of a relation, and of several at once |
//! | `changed`, `results`, `places` | what they give, and where they may hold |
//! | `family`, `parts`, `identify`, `sources`, `search` | the cheapest change that gives the backend's values in all cases |
//! | `simulate`, [`planted`] | a whole case computed by its relations, forward and backward, with known mistakes |
//! | [`findings`] | the explanation of a red check |

mod changed;
mod edit;
mod edits;
mod elsewhere;
mod equations;
mod evaluate;
mod factors;
mod family;
pub(crate) mod findings;
mod graph;
mod identify;
pub(crate) mod language;
mod local;
mod parts;
mod pictures;
mod places;
pub(crate) mod planted;
mod results;
mod search;
mod several;
mod simulate;
mod sources;
mod values;
