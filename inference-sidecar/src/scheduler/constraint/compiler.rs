//! From a constraint to the state that follows a text through it.

use std::error::Error as StdError;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use llguidance::toktrie::TokEnv;
use llguidance::{Matcher, ParserFactory};
use proto::model::Constraint;

use super::vocabulary::Vocabulary;
use super::{ConstraintState, grammar, refusal};
use crate::error::Error;
use crate::text::ChatTokenizer;

/// Work on the regular expressions of one constraint before the first token; about 20 ms.
const COMPILE_FUEL_MAX: u64 = 1_000_000;
/// Symbols of one grammar; a JSON schema of some hundred kilobytes.
const GRAMMAR_SYMBOLS_MAX: usize = 200_000;
/// Work on regular expressions per token; about 15 ms.
const STEP_FUEL_MAX: u64 = 200_000;
/// Rules looked at per token; about 3 ms.
const STEP_ITEMS_MAX: usize = 50_000;
/// States of one sequence's automaton, 1 to 2 kB each.
const AUTOMATON_STATES_MAX: usize = 32_768;

/// Compiles constraints for one language model; built once, as the model is loaded.
pub struct ConstraintCompiler {
    factory: ParserFactory,
    /// Scores per step.
    rows: usize,
}

impl ConstraintCompiler {
    /// `vocabulary` is the number of scores per step, at least the number of tokens.
    /// Fails with `Error::Setup` when the vocabulary cannot be walked byte by byte.
    pub fn new(tokenizer: &Arc<ChatTokenizer>, vocabulary: usize) -> Result<Self, Error> {
        Self::from_vocabulary(Vocabulary::new(tokenizer, vocabulary), vocabulary)
    }

    /// As `new`, for a vocabulary without a tokenizer.
    pub fn of_bytes() -> Result<Self, Error> {
        Self::from_vocabulary(Vocabulary::of_bytes(), 257)
    }

    /// The state of a text that has not begun.
    /// Fails with `Error::ConstraintRefused`, whose reason quotes nothing of the constraint.
    pub fn compile(&self, constraint: &Constraint) -> Result<ConstraintState, Error> {
        let grammar = grammar::of(constraint)?;
        let parser = self.factory.create_parser(grammar);
        let parser = parser.map_err(|error| refusal::of(&format!("{error:#}")))?;
        let ends = self.factory.tok_env().tok_trie().eos_tokens().len();
        ConstraintState::new(Matcher::new(Ok(parser)), self.rows, ends)
    }

    fn from_vocabulary(vocabulary: Vocabulary, rows: usize) -> Result<Self, Error> {
        let build = || -> Result<ParserFactory, Box<dyn StdError + Send + Sync>> {
            let trie = vocabulary.into_trie().ok_or("no token ends a text")?;
            let environment: TokEnv = Arc::new(trie);
            Ok(ParserFactory::new_simple(&environment)?)
        };
        // The trie asserts its limits; a model file decides about the tokens.
        let factory = catch_unwind(AssertUnwindSafe(build))
            .unwrap_or_else(|_| Err("the vocabulary exceeds a limit".into()));
        let mut factory = factory.map_err(|source| Error::Setup {
            part: "constraints",
            source,
        })?;
        // Its log would quote constraints and texts.
        factory.quiet();
        let limits = factory.limits_mut();
        limits.initial_lexer_fuel = COMPILE_FUEL_MAX;
        limits.max_grammar_size = GRAMMAR_SYMBOLS_MAX;
        limits.step_lexer_fuel = STEP_FUEL_MAX;
        limits.step_max_items = STEP_ITEMS_MAX;
        limits.max_lexer_states = AUTOMATON_STATES_MAX;
        limits.verbose_errors = false;
        Ok(Self { factory, rows })
    }
}
