//! Goal: .
