//! Cascades: a cheap head decides where it is sure, the model that is asked (the oracle) where it is not.
//!
//! What the head may decide is chosen by rows that the oracle has judged, drawn at random, so that precision and recall
//! relative to the oracle are reached with the confidence that the caller names (SUPG, Kang et al., VLDB 2020; LOTUS,
//! Patel et al., VLDB 2025). The bounds are those of sampling without replacement, and the thresholds are chosen as in
//! risk-controlling prediction sets (Bates et al., J. ACM 2021): errors only grow as the head decides more.

mod bounds;
mod features;
mod head;
mod plan;
mod sample;

pub use features::Features;
pub use head::{Head, Lesson, Penalty, Row};
pub use plan::{Decision, Judged, Plan, Reached, Target, TargetError};
pub use sample::{Budget, shuffled};
