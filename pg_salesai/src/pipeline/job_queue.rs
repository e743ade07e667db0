//! The queue's SQL functions (`sql/schema/58_queue.sql` and `60_pipeline.sql`), called in whatever transaction is open.

use pgrx::datum::DatumWithOid;
use pgrx::{JsonB, Spi, Uuid};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::chunks::Material;
use super::indexing::{Index, SetVectors, TargetSet};
use super::reading::{Payload, PayloadText};
use crate::error::Error;

/// A leased job.
#[derive(Debug, Deserialize)]
pub struct Job {
    #[serde(rename = "job_id")]
    pub id: i64,
    #[serde(default)]
    interaction_id: Option<i64>,
    version: i32,
    #[serde(deserialize_with = "uuid")]
    lease_token: Uuid,
    /// A schema of before 0.3.0 knows only this one.
    #[serde(default)]
    pub kind: JobKind,
    #[serde(default)]
    pub embedding_set_id: Option<i64>,
    /// How often whoever worked on it was lost.
    #[serde(default)]
    pub losses: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    #[default]
    Index,
    Embed,
    BuildIndex,
}

/// Which jobs a process takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lanes {
    /// What models work on.
    Models,
    /// Builds of indexes, which take long and need no model.
    Maintenance,
    /// Both.
    All,
}

impl Lanes {
    pub fn names(self) -> Vec<&'static str> {
        match self {
            Self::Models => vec!["interactive", "background"],
            Self::Maintenance => vec!["maintenance"],
            Self::All => vec!["interactive", "background", "maintenance"],
        }
    }
}

/// A segment as the queue hands it out.
pub struct JobSegment {
    pub heading: String,
    pub position: i32,
    pub speaker: Option<String>,
    pub start_char: i32,
    pub end_char: i32,
    pub content: String,
    pub kind: String,
    pub occurred_on: String,
    pub language: Option<String>,
    /// `domain::Part` by name.
    pub part: String,
    /// An acknowledgement, no statement.
    pub is_backchannel: bool,
}

/// A chunk of the version that is indexed.
pub struct IndexedChunk {
    pub first_position: i32,
    pub heading: String,
    pub content: String,
}

/// A chunk of a range that is embedded for a set.
pub struct RangeChunk {
    pub chunk_id: i64,
    pub heading: String,
    pub content: String,
    pub kind: String,
    pub occurred_on: String,
    /// Of its content, by the model that was active when it was made.
    pub token_count: u32,
}

/// Whether the schema has what came with 0.3.0; the library also serves older ones, until they are upgraded.
pub fn is_schema_current() -> Result<bool, Error> {
    const HAS_SETS: &str = "select pg_catalog.to_regprocedure('salesai.target_sets()') is not null";
    Ok(Spi::get_one::<bool>(HAS_SETS)?.unwrap_or(false))
}

pub fn claim(jobs_max: i32, lease_ms: i32, lanes: Lanes) -> Result<Vec<Job>, Error> {
    let lane_names = lanes.names();
    let mut arguments: Vec<DatumWithOid> = vec![jobs_max.into(), lease_ms.into()];
    let query = if is_schema_current()? {
        arguments.push(lane_names.into());
        "select to_jsonb(j) from salesai.claim_jobs($1, $2, $3) j"
    } else if lanes == Lanes::Maintenance {
        return Ok(Vec::new());
    } else {
        "select to_jsonb(j) from salesai.claim_jobs($1, $2) j"
    };
    Spi::connect_mut(|client| {
        let mut jobs = Vec::new();
        for row in client.update(query, None, &arguments)? {
            if let Some(JsonB(job)) = row.get(1)? {
                jobs.push(serde_json::from_value(job)?);
            }
        }
        Ok(jobs)
    })
}

/// The original that is not read yet; None for jobs whose segments are there.
pub fn unread_payload(job: &Job) -> Result<Option<Payload>, Error> {
    // Before 0.3.0 segments were made at ingestion.
    if !is_schema_current()? {
        return Ok(None);
    }
    Spi::connect(|client| {
        let rows = client.select(
            "select * from salesai.unread_payload($1, $2)",
            None,
            &[job.interaction_id.into(), job.version.into()],
        )?;
        let mut payloads = Vec::new();
        for row in rows {
            payloads.push(Payload {
                kind: row.get(1)?.unwrap_or_default(),
                file_name: row.get(2)?.unwrap_or_default(),
                media_type: row.get(3)?.unwrap_or_default(),
                content: row.get(4)?.unwrap_or_default(),
            });
        }
        Ok(payloads.pop())
    })
}

/// False when the lease was lost; then nothing was written.
pub fn store_reading(job: &Job, text: &PayloadText) -> Result<bool, Error> {
    let stored = Spi::get_one_with_args::<bool>(
        "select salesai.store_reading($1, $2, $3, $4)",
        &[
            job.id.into(),
            job.lease_token.into(),
            JsonB(text.to_json()).into(),
            text.markdown.as_deref().into(),
        ],
    )?;
    Ok(stored.unwrap_or(false))
}

/// The embedding sets that new chunks go into, the active one first; never empty.
pub fn target_sets() -> Result<Vec<TargetSet>, Error> {
    if !is_schema_current()? {
        return Ok(vec![TargetSet {
            set_id: None,
            model: String::new(),
            model_sha256: String::new(),
            template: "{heading}\n{content}".to_owned(),
        }]);
    }
    Spi::connect(|client| {
        let mut sets = Vec::new();
        for row in client.select("select * from salesai.target_sets()", None, &[])? {
            sets.push(TargetSet {
                set_id: row.get(1)?,
                model: row.get(2)?.unwrap_or_default(),
                model_sha256: row.get(3)?.unwrap_or_default(),
                template: row.get(4)?.unwrap_or_default(),
            });
        }
        Ok(sets)
    })
}

/// The segments of a job, and the chunks that are indexed.
pub fn material(job: &Job) -> Result<Material, Error> {
    let is_current = is_schema_current()?;
    Spi::connect(|client| {
        let rows = client.select(
            "select * from salesai.job_segments($1, $2)",
            None,
            &[job.interaction_id.into(), job.version.into()],
        )?;
        let mut segments = Vec::new();
        for row in rows {
            let mut segment = JobSegment {
                heading: row.get(1)?.unwrap_or_default(),
                position: row.get(2)?.unwrap_or_default(),
                speaker: row.get(4)?,
                start_char: row.get(5)?.unwrap_or_default(),
                end_char: row.get(6)?.unwrap_or_default(),
                content: row.get(7)?.unwrap_or_default(),
                kind: String::new(),
                occurred_on: String::new(),
                language: None,
                part: String::new(),
                is_backchannel: false,
            };
            if is_current {
                segment.kind = row.get(8)?.unwrap_or_default();
                segment.occurred_on = row.get(9)?.unwrap_or_default();
                segment.language = row.get(10)?;
                segment.part = row.get(11)?.unwrap_or_default();
                segment.is_backchannel = row.get(12)?.unwrap_or_default();
            }
            segments.push(segment);
        }
        let mut previous = Vec::new();
        if is_current {
            let query = "select * from salesai.indexed_chunks($1)";
            for row in client.select(query, None, &[job.interaction_id.into()])? {
                previous.push(IndexedChunk {
                    first_position: row.get(1)?.unwrap_or_default(),
                    heading: row.get(2)?.unwrap_or_default(),
                    content: row.get(3)?.unwrap_or_default(),
                });
            }
        }
        Ok(Material { segments, previous })
    })
}

/// False when the lease was lost; then nothing was written.
pub fn finish(job: &Job, index: &Index) -> Result<bool, Error> {
    let active = &index.active;
    let chunks = index.chunks_json();
    // Without a new chunk no model was asked.
    let model = (!active.is_empty()).then_some(active.model.as_str());
    let mut arguments: Vec<DatumWithOid> = vec![
        job.id.into(),
        job.lease_token.into(),
        JsonB(chunks.clone()).into(),
        active.values().into(),
        model.into(),
        active.model_sha256.as_str().into(),
        active.dimensions().into(),
    ];
    let query = if is_schema_current()? {
        let others: Vec<i64> = index.others.iter().filter_map(|set| set.set_id).collect();
        arguments.extend([others.into(), active.set_id.into()]);
        "select salesai.finish_job($1, $2, $3, $4, $5, $6, $7, $8, $9)"
    } else {
        "select salesai.finish_job($1, $2, $3, $4, $5, $6, $7)"
    };
    let is_done = Spi::get_one_with_args::<bool>(query, &arguments)?.unwrap_or(false);
    if is_done {
        for other in &index.others {
            store_embeddings(job, &chunks, other)?;
        }
    }
    Ok(is_done)
}

fn store_embeddings(job: &Job, chunks: &Value, set: &SetVectors) -> Result<(), Error> {
    Ok(Spi::run_with_args(
        "select salesai.store_embeddings($1, $2, $3, $4, $5)",
        &[
            job.interaction_id.into(),
            JsonB(chunks.clone()).into(),
            set.values().into(),
            set.set_id.into(),
            set.dimensions().into(),
        ],
    )?)
}

/// The chunks that an embed job has still to embed, and the set that they are for; None when the job is gone.
pub fn range_chunks(job: &Job) -> Result<Option<(TargetSet, Vec<RangeChunk>)>, Error> {
    let set_id = job.embedding_set_id;
    let target = target_sets()?.into_iter().find(|set| set.set_id == set_id);
    let Some(target) = target else {
        return Ok(None);
    };
    Spi::connect(|client| {
        let query = "select * from salesai.range_chunks($1)";
        let mut chunks = Vec::new();
        for row in client.select(query, None, &[job.id.into()])? {
            chunks.push(RangeChunk {
                chunk_id: row.get(1)?.unwrap_or_default(),
                heading: row.get(2)?.unwrap_or_default(),
                content: row.get(3)?.unwrap_or_default(),
                kind: row.get(4)?.unwrap_or_default(),
                occurred_on: row.get(5)?.unwrap_or_default(),
                token_count: row.get::<i32>(6)?.unwrap_or_default().unsigned_abs(),
            });
        }
        Ok(Some((target, chunks)))
    })
}

/// False when the lease was lost or the range has more chunks.
pub fn finish_range(job: &Job, chunks: &[RangeChunk], vectors: &SetVectors) -> Result<bool, Error> {
    let chunk_ids: Vec<i64> = chunks.iter().map(|chunk| chunk.chunk_id).collect();
    let done = Spi::get_one_with_args::<bool>(
        "select salesai.finish_range($1, $2, $3, $4, $5, $6)",
        &[
            job.id.into(),
            job.lease_token.into(),
            chunk_ids.into(),
            vectors.values().into(),
            vectors.model_sha256.as_str().into(),
            vectors.dimensions().into(),
        ],
    )?;
    Ok(done.unwrap_or(false))
}

/// The statements that are left to build an index; None while its set is still filled.
pub fn index_build_steps(job: &Job) -> Result<Option<Vec<String>>, Error> {
    Ok(Spi::get_one_with_args::<Vec<String>>(
        "select salesai.index_build_steps($1)",
        &[job.id.into()],
    )?)
}

/// Whether chunks of the set of this index could not be embedded.
pub fn has_failed_ranges(job: &Job) -> Result<bool, Error> {
    let has_failed =
        Spi::get_one_with_args::<bool>("select salesai.has_failed_ranges($1)", &[job.id.into()])?;
    Ok(has_failed.unwrap_or(false))
}

/// False when the lease was lost or new chunks have to be waited for.
pub fn finish_index_build(job: &Job) -> Result<bool, Error> {
    let done = Spi::get_one_with_args::<bool>(
        "select salesai.finish_index_build($1, $2)",
        &[job.id.into(), job.lease_token.into()],
    )?;
    Ok(done.unwrap_or(false))
}

/// Renews the leases of all jobs of this process.
pub fn renew_leases(lease_ms: i32) -> Result<(), Error> {
    // An older schema's leases are long enough for what it does.
    if !is_schema_current()? {
        return Ok(());
    }
    Ok(Spi::run_with_args(
        "select salesai.renew_leases($1)",
        &[lease_ms.into()],
    )?)
}

pub fn release(job: &Job, retry_ms: i32) -> Result<(), Error> {
    Ok(Spi::run_with_args(
        "select salesai.release_job($1, $2, $3)",
        &[job.id.into(), job.lease_token.into(), retry_ms.into()],
    )?)
}

/// Gives it back as one that the sidecar may have died of.
pub fn lose(job: &Job, retry_ms: i32) -> Result<(), Error> {
    if !is_schema_current()? {
        return release(job, retry_ms);
    }
    Ok(Spi::run_with_args(
        "select salesai.lose_job($1, $2, $3)",
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

/// RFC 9562, section 4: hexadecimal digits with dashes between.
fn uuid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Uuid, D::Error> {
    let digits = String::deserialize(deserializer)?.replace('-', "");
    let number = u128::from_str_radix(&digits, 16).map_err(D::Error::custom)?;
    Ok(Uuid::from_bytes(number.to_be_bytes()))
}

/// Keeps the counts of jobs short, and the cache of results and the list of questions young.
pub fn tidy_up() -> Result<(), Error> {
    Spi::run("select salesai.add_up_job_counts()")?;
    Spi::run("select salesai.purge_results()")?;
    Spi::run("select salesai.forget_column_tasks()")?;
    Ok(Spi::run("select salesai.purge_requests()")?)
}
