//! The SQL that all drivers run.

use serde_json::{Value, json};

use super::{PROMPT, ROLE};

pub(super) const INSIGHT: &str = "select answer, method from salesai.insight($1, account => $2)";
pub(super) const INSIGHT_STREAM: &str =
    "select salesai.insight_stream($1, account => $2, max_tokens => 160)";
/// Its pieces, a token or so each, are fewer bytes than PostgreSQL keeps back (8 kB): they come one by one only if they
/// are sent one by one.
pub(super) const STREAM: &str = "select salesai.generate_stream($1, max_tokens => 400)";
/// Longer than anybody will wait for.
pub(super) const LONG_STREAM: &str = "select salesai.generate_stream($1, max_tokens => 2000)";
pub(super) const GENERATE: &str = "select salesai.generate($1, max_tokens => 2000)";
pub(super) const FETCH: &str = "fetch 1 from piece";
pub(super) const CLOSE: &str = "close piece";
pub(super) const SET_TIMEOUT: &str = "set local statement_timeout = '300ms'";
pub(super) const TIMEOUT_MS: &str =
    "select answer from salesai.insight($1, account => $2, timeout_ms => 1)";
pub(super) const BACKEND_PID: &str = "select pg_backend_pid()";
pub(super) const IS_ACTIVE: &str =
    "select exists (select from pg_stat_activity where pid = $1 and state = 'active')";
pub(super) const IS_BUSY: &str = "select running_requests > 0 from salesai.sidecar_status";
pub(super) const PREPARED_COUNT: &str =
    "select count(*)::integer from pg_prepared_statements where statement = $1";
pub(super) const WHO: &str = "select pg_backend_pid(), salesai.current_role_name(),
    (select count(*)::integer from salesai.interaction)";
pub(super) const CANCEL: &str = "select pg_cancel_backend($1)";

/// The statement is written out, as a cursor takes no parameters.
pub(super) fn declare() -> String {
    let query = LONG_STREAM.replace("$1", &format!("'{PROMPT}'"));
    format!("declare piece no scroll cursor for {query}")
}

pub(super) fn set_role() -> String {
    format!("set local role {ROLE}")
}

/// All of it by name, for clients in other languages.
pub(super) fn all() -> Value {
    json!({
        "insight": INSIGHT,
        "insight_stream": INSIGHT_STREAM,
        "stream": STREAM,
        "long_stream": LONG_STREAM,
        "generate": GENERATE,
        "declare": declare(),
        "fetch": FETCH,
        "close": CLOSE,
        "set_timeout": SET_TIMEOUT,
        "timeout_ms": TIMEOUT_MS,
        "backend_pid": BACKEND_PID,
        "is_active": IS_ACTIVE,
        "is_busy": IS_BUSY,
        "cancel": CANCEL,
        "prepared_count": PREPARED_COUNT,
        "set_role": set_role(),
        "who": WHO,
    })
}
