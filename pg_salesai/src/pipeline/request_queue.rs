//! The SQL functions of questions that wait (`sql/schema/66_insight_requests.sql`), called in whatever transaction is
//! open.

use pgrx::datum::DatumWithOid;
use pgrx::{FromDatum, IntoDatum, JsonB, Spi, Uuid};
use serde::Deserialize;
use serde_json::Value;

use super::on_behalf::Lease;
use super::trouble::Trouble;
use crate::error::Error;

/// A leased question.
#[derive(Clone, Copy)]
pub struct Leased {
    pub id: i64,
    token: Uuid,
}

/// What it asks.
#[derive(Deserialize)]
pub struct Request {
    /// Whose rights it has.
    pub role: String,
    /// Why nobody may answer it.
    pub problem: Option<String>,
    /// After the questions before it.
    pub asked: String,
    pub options: Value,
    /// All of it, as SQL has it.
    #[serde(skip)]
    json: Value,
}

/// What search found for a question.
pub struct Gathered {
    pub evidence: Value,
    json: Value,
}

/// The answer as it is kept.
#[derive(Deserialize)]
pub struct Kept {
    insight_id: i64,
    details: Option<Value>,
}

impl Leased {
    /// The next question that is due.
    pub fn claim(lease_ms: i32) -> Result<Option<Self>, Error> {
        Spi::connect_mut(|client| {
            let question = "select request_id, lease_token from salesai.claim_request($1)";
            let rows = client.update(question, Some(1), &[lease_ms.into()])?;
            if rows.is_empty() {
                return Ok(None);
            }
            let (id, token) = rows.first().get_two::<i64, Uuid>()?;
            Ok(id.zip(token).map(|(id, token)| Self { id, token }))
        })
    }

    /// Keeps others from ending it until the transaction is over; false when the lease was lost, or it was cancelled.
    pub fn lock(&self) -> Result<bool, Error> {
        let locked = "select salesai.lock_request($1, $2)";
        Ok(one::<bool>(locked, &self.key())?.unwrap_or(false))
    }

    /// None when the lease was lost.
    pub fn request(&self) -> Result<Option<Request>, Error> {
        let question = "select salesai.leased_request($1, $2)";
        let Some(JsonB(json)) = one::<JsonB>(question, &self.key())? else {
            return Ok(None);
        };
        let request = Request::deserialize(&json)?;
        Ok(Some(Request { json, ..request }))
    }

    pub fn finish(&self, kept: Kept) -> Result<bool, Error> {
        let finished = "select salesai.finish_request($1, $2, $3, $4)";
        let arguments = [
            self.id.into(),
            self.token.into(),
            kept.insight_id.into(),
            kept.details.map(JsonB).into(),
        ];
        Ok(one::<bool>(finished, &arguments)?.unwrap_or(false))
    }

    pub fn fail(&self, trouble: &Trouble) -> Result<(), Error> {
        let arguments = [
            self.id.into(),
            self.token.into(),
            trouble.class().name().into(),
            trouble.code.as_str().into(),
            trouble.message.as_str().into(),
            trouble.hint.as_deref().into(),
            trouble.retry_ms().into(),
        ];
        Ok(Spi::run_with_args(
            "select salesai.fail_request($1, $2, $3, $4, $5, $6, $7)",
            &arguments,
        )?)
    }

    fn key(&self) -> [DatumWithOid<'static>; 2] {
        [self.id.into(), self.token.into()]
    }
}

impl Lease for Leased {
    /// False also when the question was cancelled.
    fn renew(&self, lease_ms: i32) -> Result<bool, Error> {
        let renewed = "select salesai.renew_request($1, $2, $3)";
        let arguments = [self.id.into(), self.token.into(), lease_ms.into()];
        Ok(one::<bool>(renewed, &arguments)?.unwrap_or(false))
    }
}

impl Request {
    /// With the rights of who asked.
    pub fn gather(&self) -> Result<Result<Gathered, Trouble>, Error> {
        let gathered =
            "select salesai.gather_evidence($1 ->> 'asked', $1 -> 'filters', $1 -> 'options')";
        let json = answer(gathered, &[JsonB(self.json.clone()).into()])?;
        Ok(json.map(|json| Gathered {
            evidence: json["evidence"].clone(),
            json,
        }))
    }

    /// With the rights of who asked.
    pub fn keep(
        &self,
        gathered: &Gathered,
        answered: &Value,
        elapsed_ms: i32,
    ) -> Result<Result<Kept, Trouble>, Error> {
        let arguments = [
            JsonB(self.json.clone()).into(),
            JsonB(gathered.json.clone()).into(),
            JsonB(answered.clone()).into(),
            elapsed_ms.into(),
        ];
        match answer("select salesai.keep_answer($1, $2, $3, $4)", &arguments)? {
            Ok(kept) => Ok(Ok(serde_json::from_value(kept)?)),
            Err(trouble) => Ok(Err(trouble)),
        }
    }
}

/// Whether a question is due; false in a schema of before 0.3.0.
pub fn has_due_requests() -> Result<bool, Error> {
    const IS_INSTALLED: &str =
        "select pg_catalog.to_regclass('salesai.insight_request') is not null";
    let is_installed = one::<bool>(IS_INSTALLED, &[])?.unwrap_or(false);
    Ok(is_installed && one::<bool>("select salesai.has_due_requests()", &[])?.unwrap_or(false))
}

/// Says at the questions that wait why nobody answers them.
pub fn note_outage(trouble: &Trouble) -> Result<(), Error> {
    Ok(Spi::run_with_args(
        "select salesai.note_outage($1, $2, $3)",
        &[
            trouble.code.as_str().into(),
            trouble.message.as_str().into(),
            trouble.hint.as_deref().into(),
        ],
    )?)
}

/// A function that returns its errors.
pub fn answer(
    question: &str,
    arguments: &[DatumWithOid<'_>],
) -> Result<Result<Value, Trouble>, Error> {
    let json = one::<JsonB>(question, arguments)?.map_or(Value::Null, |JsonB(json)| json);
    Ok(match json.get("error") {
        Some(error) => Err(Trouble::deserialize(error)?),
        None => Ok(json),
    })
}

pub fn one<T: FromDatum + IntoDatum>(
    question: &str,
    arguments: &[DatumWithOid<'_>],
) -> Result<Option<T>, Error> {
    Ok(Spi::get_one_with_args(question, arguments)?)
}
