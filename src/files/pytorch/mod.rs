//! Files of `torch.save`: a pickle of dictionaries, lists and tensors, and the tensors' numbers next to it.
//!
//! A pickle is a program, and Python executes it. [`pickle`] executes nothing: it knows the few names in
//! [`objects`] that files of weights need, and refuses any other by name before a tensor is read. What is nested
//! gets flat names ([`names`]); a tensor is a view of a storage ([`strided`]), read on request.
//!
//! | | |
//! |---|---|
//! | [`objects`] | values, the known names, storages and tensors |
//! | [`pickle`] | the machine |
//! | [`strided`] | the numbers of a tensor |
//! | [`names`] | `model.0.fc.weight` |
//! | [`zip`], [`legacy`] | where the pickle and the numbers are: since PyTorch 1.6, and before |

mod legacy;
mod names;
mod objects;
mod pickle;
mod strided;
#[cfg(test)]
mod tests;
mod zip;

pub(super) use legacy::read_legacy;
pub(super) use names::Tensors as StridedTensors;
pub(super) use strided::Strided;
pub(super) use zip::{find_pickle, read_zip};
