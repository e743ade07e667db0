//! Milliseconds of each step.

use std::time::Instant;

use serde_json::{Map, Value};

#[derive(Default)]
pub struct Timings(Map<String, Value>);

impl Timings {
    pub fn take<T>(&mut self, name: &str, step: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = step();
        self.add(name, start);
        result
    }

    /// A step that ends now.
    pub fn add(&mut self, name: &str, start: Instant) {
        let ms = (start.elapsed().as_secs_f64() * 10_000.0).round() / 10.0;
        self.0.insert(name.to_owned(), ms.into());
    }

    pub fn json(&self) -> Value {
        Value::Object(self.0.clone())
    }
}
