//! Whether who asks may see any interaction.

use pgrx::Spi;

use crate::errand;
use crate::error::Error;

/// Whether the session's role sees no interaction at all, as far as the schema can tell.
pub fn reads_nothing() -> Result<bool, Error> {
    // A schema of before 0.3.0 cannot.
    const CAN_TELL: &str =
        "select pg_catalog.to_regprocedure('salesai.reads_nothing()') is not null";
    errand::ask(|| Ok(truth(CAN_TELL)? && truth("select salesai.reads_nothing()")?))
}

/// `Spi::get_one` would assign a transaction id, which a standby has none of.
fn truth(question: &str) -> Result<bool, Error> {
    let answer = Spi::connect(|client| client.select(question, Some(1), &[])?.first().get_one())?;
    Ok(answer.unwrap_or(false))
}
