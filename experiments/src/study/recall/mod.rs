//! Recall: the share of exact attention that is found by looking at some of the keys.
//!
//! For queries of a trained model, the softmax over all earlier keys is computed; a *selection* then takes
//! some of the keys, and the measure is the share of the softmax mass on them: all of it, and that on keys
//! beyond the last [`NEAR`] positions, which a window over the neighbours would miss.

mod head;
mod recalled;
mod selections;

pub(crate) use head::{HeadVectors, heads};
pub(crate) use recalled::{Recalled, Sum, sorted_far};
pub(crate) use selections::{ROUNDS, Seen, Selection, selections};

/// Number of positions before a query that a window over its neighbours sees anyway.
pub(crate) const NEAR: usize = 64;
