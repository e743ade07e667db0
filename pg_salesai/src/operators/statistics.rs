//! What operators did in this session: failures that became NULL are counted, and told by
//! `salesai.operator_statistics()`.

use std::cell::RefCell;
use std::collections::BTreeMap;

thread_local! {
    static SESSION: RefCell<BTreeMap<String, OperatorStatistics>> = const { RefCell::new(BTreeMap::new()) };
}

/// Sums since the session began.
#[derive(Debug, Clone, Default)]
pub struct OperatorStatistics {
    pub calls: i64,
    pub documents: i64,
    pub failures: i64,
    /// Generations, of which equal documents of a call share one, and long ones take several.
    pub generations: i64,
    /// Texts of earlier calls that were used again (`salesai.result_cache`).
    pub remembered: i64,
    /// Of the generations, texts that ended because they had the most tokens, and were cut back to a whole sentence.
    pub shortened: i64,
    pub prompt_tokens: i64,
    pub completion_tokens: i64,
    pub last_error: Option<String>,
}

/// All operators that the session has used, by name.
pub fn statistics() -> BTreeMap<String, OperatorStatistics> {
    SESSION.with_borrow(BTreeMap::clone)
}

/// Counts something for an operator.
pub fn count(operator: &str, change: impl FnOnce(&mut OperatorStatistics)) {
    SESSION.with_borrow_mut(|session| change(session.entry(operator.to_owned()).or_default()));
}
