//! What the caller may see, of what was found without asking.

use std::collections::HashSet;

use domain::top::Hit;
use pgrx::datum::DatumWithOid;
use pgrx::{JsonB, Spi};

use super::plans;
use crate::error::Error;

/// An SQL condition on `salesai.chunk c`. It is never the caller's own text: that would see what is not the caller's.
pub struct Condition(String);

impl Condition {
    /// Of filters as `salesai.chunk_condition` takes them.
    pub fn new(filters: JsonB) -> Result<Self, Error> {
        // Nothing to put into words; row-level security binds each look-up anyway.
        if filters.0.as_object().is_some_and(serde_json::Map::is_empty) {
            return Ok(Self("true".to_owned()));
        }
        let condition = text("select salesai.chunk_condition($1)", &[filters.into()])?;
        Ok(Self(condition.unwrap_or_else(|| "true".to_owned())))
    }

    /// Whether nothing is asked for but what row-level security asks.
    fn is_true(&self) -> bool {
        self.0 == "true"
    }

    /// Whether all chunks fulfil it, and the caller may see all.
    pub fn admits_all(&self) -> Result<bool, Error> {
        Ok(self.is_true()
            && text("select salesai.reads_all()::text", &[])?.as_deref() == Some("true"))
    }
}

/// The text that a query returns. `Spi::get_one` would assign a transaction id, which a standby has none of.
pub fn text(query: &str, arguments: &[DatumWithOid<'_>]) -> Result<Option<String>, Error> {
    Spi::connect(|client| {
        let mut text = None;
        for row in client.select(query, Some(1), arguments)? {
            text = row.get(1)?;
        }
        Ok(text)
    })
}

/// How many to ask for after so many, of which so many were admitted: as many as should do by that share, and some more.
pub fn more(asked: usize, admitted: usize, wanted: usize) -> usize {
    let needed = asked.saturating_mul(wanted) / admitted.max(1);
    (needed + needed / 4).clamp(asked.saturating_mul(2), asked.saturating_mul(16))
}

/// Leaves what the caller may see and wants.
pub fn admit(found: &mut Vec<Hit>, condition: &Condition) -> Result<(), Error> {
    let ids = found.iter().map(|hit| hit.document).collect();
    let admitted = admitted(ids, condition)?;
    found.retain(|hit| admitted.contains(&hit.document));
    Ok(())
}

/// Which of these chunks the caller may see and wants.
pub fn admitted(chunk_ids: Vec<i64>, condition: &Condition) -> Result<HashSet<i64>, Error> {
    if chunk_ids.is_empty() {
        return Ok(HashSet::new());
    }
    let query = format!(
        "select c.id from salesai.chunk c where c.id = any ($1) and ({})",
        condition.0
    );
    Spi::connect(|client| {
        let values = [chunk_ids.into()];
        // What filters say is in the text, so that it is planned for them.
        let rows = match condition.is_true() {
            true => plans::select(client, &query, &values)?,
            false => client.select(query.as_str(), None, &values)?,
        };
        rows.map(|row| Ok(row.get::<i64>(1)?.unwrap_or_default()))
            .collect()
    })
}
