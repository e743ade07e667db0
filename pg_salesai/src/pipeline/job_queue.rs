//! The queue's SQL functions (`sql/schema/60_pipeline.sql`), called in whatever transaction is open.

use pgrx::{JsonB, Spi, Uuid};
use proto::wire::ReadDocumentResponse;

use super::indexing::{Index, JobSegment};
use super::reading::JobDocument;
use crate::error::Error;

/// A leased job.
pub struct Job {
    pub id: i64,
    interaction_id: i64,
    version: i32,
    lease_token: Uuid,
}

pub fn claim(jobs_max: i32, lease_ms: i32) -> Result<Vec<Job>, Error> {
    Spi::connect_mut(|client| {
        let rows = client.update(
            "select * from salesai.claim_jobs($1, $2)",
            None,
            &[jobs_max.into(), lease_ms.into()],
        )?;
        let mut jobs = Vec::new();
        for row in rows {
            let columns = (row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
            if let (Some(id), Some(interaction_id), Some(version), Some(lease_token)) = columns {
                jobs.push(Job {
                    id,
                    interaction_id,
                    version,
                    lease_token,
                });
            }
        }
        Ok(jobs)
    })
}

/// The document that is not read yet; None for all other jobs.
pub fn unread_document(job: &Job) -> Result<Option<JobDocument>, Error> {
    // A schema of before 0.3.0 has no documents.
    const HAS_DOCUMENTS: &str =
        "select pg_catalog.to_regprocedure('salesai.unread_document(bigint, integer)') is not null";
    if Spi::get_one::<bool>(HAS_DOCUMENTS)? != Some(true) {
        return Ok(None);
    }
    Spi::connect(|client| {
        let rows = client.select(
            "select * from salesai.unread_document($1, $2)",
            None,
            &[job.interaction_id.into(), job.version.into()],
        )?;
        let mut documents = Vec::new();
        for row in rows {
            documents.push(JobDocument {
                file_name: row.get(1)?.unwrap_or_default(),
                media_type: row.get(2)?.unwrap_or_default(),
                content: row.get(3)?.unwrap_or_default(),
            });
        }
        Ok(documents.pop())
    })
}

/// False when the lease was lost; then nothing was written.
pub fn store_document(job: &Job, text: &ReadDocumentResponse) -> Result<bool, Error> {
    let stored = Spi::get_one_with_args::<bool>(
        "select salesai.store_document($1, $2, $3, $4, $5)",
        &[
            job.id.into(),
            job.lease_token.into(),
            text.media_type.as_str().into(),
            text.title.as_str().into(),
            text.markdown.as_str().into(),
        ],
    )?;
    Ok(stored.unwrap_or(false))
}

pub fn segments(job: &Job) -> Result<Vec<JobSegment>, Error> {
    Spi::connect(|client| {
        let rows = client.select(
            "select * from salesai.job_segments($1, $2)",
            None,
            &[job.interaction_id.into(), job.version.into()],
        )?;
        let mut segments = Vec::new();
        for row in rows {
            segments.push(JobSegment {
                heading: row.get(1)?.unwrap_or_default(),
                position: row.get(2)?.unwrap_or_default(),
                turn: row.get::<i32>(3)?.unwrap_or_default().unsigned_abs(),
                speaker: row.get(4)?,
                start_char: row.get(5)?.unwrap_or_default(),
                end_char: row.get(6)?.unwrap_or_default(),
                content: row.get(7)?.unwrap_or_default(),
            });
        }
        Ok(segments)
    })
}

/// False when the lease was lost; then nothing was written.
pub fn finish(job: &Job, index: &Index) -> Result<bool, Error> {
    let done = Spi::get_one_with_args::<bool>(
        "select salesai.finish_job($1, $2, $3, $4, $5, $6, $7)",
        &[
            job.id.into(),
            job.lease_token.into(),
            JsonB(index.chunks_json()).into(),
            index.embedding_values().into(),
            index.model.as_str().into(),
            index.model_sha256.as_str().into(),
            index.dimensions.into(),
        ],
    )?;
    Ok(done.unwrap_or(false))
}

pub fn release(job: &Job, retry_ms: i32) -> Result<(), Error> {
    Ok(Spi::run_with_args(
        "select salesai.release_job($1, $2, $3)",
        &[job.id.into(), job.lease_token.into(), retry_ms.into()],
    )?)
}

pub fn fail(job: &Job, class: &str, step: &str, message: &str) -> Result<(), Error> {
    Ok(Spi::run_with_args(
        "select salesai.fail_job($1, $2, $3, $4, $5)",
        &[
            job.id.into(),
            job.lease_token.into(),
            class.into(),
            step.into(),
            message.into(),
        ],
    )?)
}
