//! How PEFT says which modules it means: names, or regular expressions over module paths.
//!
//! Source: PEFT's `check_target_module_exists` and `get_pattern_key`.

use std::fmt;

use regex::{Regex, RegexBuilder};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Bytes that one compiled expression may take.
const REGEX_BYTES_MAX: usize = 256 << 10;
/// Expressions of one map; a file may have one per module of a large model.
const PATTERNS_MAX: usize = 1024;

/// A set of modules.
pub(super) enum ModuleSet {
    /// Paths, or what paths end with after a dot.
    Names(Vec<String>),
    /// The whole path matches.
    Pattern(Regex),
    /// Every linear layer but the output layer.
    AllLinear,
}

/// A set of modules as the file writes it.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum RawModuleSet {
    One(String),
    Many(Vec<String>),
}

/// Values per pattern, in the order of the file: the first match counts.
#[derive(Default)]
pub(super) struct RawPatterns(Vec<(String, f64)>);

/// Values for the modules whose path, or its end after a dot, matches.
pub(super) struct Patterns(Vec<(Regex, f64)>);

impl ModuleSet {
    /// Checks what the field `field` of the file says.
    pub(super) fn new(field: &str, raw: RawModuleSet) -> Result<Self, String> {
        Ok(match raw {
            RawModuleSet::Many(names) => Self::Names(names),
            RawModuleSet::One(text) if text == "all-linear" => Self::AllLinear,
            RawModuleSet::One(pattern) => {
                Self::Pattern(compile(field, &pattern, r"\A(?:", r")\z")?)
            }
        })
    }

    /// Whether the module at `path` belongs to it.
    pub(super) fn covers(&self, path: &str) -> bool {
        match self {
            Self::Names(names) => names.iter().any(|name| is_end(path, name)),
            Self::Pattern(pattern) => pattern.is_match(path),
            Self::AllLinear => path != "lm_head" && path != "model.embed_tokens",
        }
    }
}

impl Patterns {
    /// Checks what the field `field` of the file says.
    pub(super) fn new(field: &str, raw: RawPatterns) -> Result<Self, String> {
        if raw.0.len() > PATTERNS_MAX {
            return Err(format!("\"{field}\" has more than {PATTERNS_MAX} entries"));
        }
        let compiled = raw.0.into_iter().map(|(pattern, value)| {
            let pattern = compile(field, &pattern, r"\A(?:.*\.)?(?:", r")\z")?;
            Ok((pattern, value))
        });
        compiled.collect::<Result<_, String>>().map(Self)
    }

    /// The value of the module at `path`, if a pattern gives it one.
    pub(super) fn value(&self, path: &str) -> Option<f64> {
        let mut matches = self.0.iter().filter(|(pattern, _)| pattern.is_match(path));
        matches.next().map(|(_, value)| *value)
    }
}

impl<'de> Deserialize<'de> for RawPatterns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = RawPatterns;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a map of patterns to numbers")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<RawPatterns, M::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(RawPatterns(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

fn is_end(path: &str, name: &str) -> bool {
    let before = path.strip_suffix(name);
    before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

fn compile(field: &str, pattern: &str, start: &str, end: &str) -> Result<Regex, String> {
    let build = |text: &str| {
        RegexBuilder::new(text)
            .size_limit(REGEX_BYTES_MAX)
            .build()
            .map_err(|_| format!("the expression \"{pattern}\" of \"{field}\" is not usable"))
    };
    // Alone first: its parentheses may not close those around it.
    build(pattern)?;
    build(&format!("{start}{pattern}{end}"))
}
