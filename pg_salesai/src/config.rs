//! Every setting (GUC) of the extension, with one typed getter each. None holds a secret.

use std::ffi::CString;
use std::path::PathBuf;
use std::time::Duration;

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};

/// Unix socket of the inference sidecar.
static SIDECAR_SOCKET: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"/run/salesai/sidecar.sock"));
/// Longest wait for a connection to the sidecar.
static CONNECT_TIMEOUT_MS: GucSetting<i32> = GucSetting::<i32>::new(1_000);
/// Longest interactive call.
static TIMEOUT_MS: GucSetting<i32> = GucSetting::<i32>::new(30_000);
/// File with the master key.
static MASTER_KEY_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
/// Databases that get a background worker.
static WORKER_DATABASES: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
/// Workers of each of them.
static WORKERS_PER_DATABASE: GucSetting<i32> = GucSetting::<i32>::new(2);
/// How often an idle worker looks at the queue without having been woken.
static WORKER_POLL_MS: GucSetting<i32> = GucSetting::<i32>::new(1_000);
/// Jobs that a worker leases at a time.
static WORKER_BATCH_SIZE: GucSetting<i32> = GucSetting::<i32>::new(8);
/// Longest model call of a job; a lease lasts twice as long for each job of a batch.
static JOB_TIMEOUT_MS: GucSetting<i32> = GucSetting::<i32>::new(120_000);

/// Most jobs that may wait; 0: any number.
static QUEUE_LIMIT: GucSetting<i32> = GucSetting::<i32>::new(5_000_000);
/// Type of the vectors of new embedding sets.
static EMBEDDING_ELEMENT: GucSetting<EmbeddingElement> =
    GucSetting::<EmbeddingElement>::new(EmbeddingElement::Vector);
/// How the vectors of new embedding sets are found.
static EMBEDDING_INDEX: GucSetting<EmbeddingIndex> =
    GucSetting::<EmbeddingIndex>::new(EmbeddingIndex::Codes);
/// Neighbours of a vector in the HNSW graph of new embedding sets.
static HNSW_M: GucSetting<i32> = GucSetting::<i32>::new(16);
/// Candidates that are looked at when a vector is added to it.
static HNSW_EF_CONSTRUCTION: GucSetting<i32> = GucSetting::<i32>::new(64);

/// Whether what models made is kept and used again.
static RESULT_CACHE: GucSetting<bool> = GucSetting::<bool>::new(true);
/// How large the cache of results may become, in MB.
static RESULT_CACHE_SIZE: GucSetting<i32> = GucSetting::<i32>::new(256);
/// Whether queries call operators for many rows at once.
static BATCH_OPERATORS: GucSetting<bool> = GucSetting::<bool>::new(true);

/// How fast the repetition of a word is saturated.
static BM25_K1: GucSetting<f64> = GucSetting::<f64>::new(1.2);
/// How much long chunks are held back.
static BM25_B: GucSetting<f64> = GucSetting::<f64>::new(0.75);

/// pgvector's types that an HNSW index takes.
#[derive(Debug, Clone, Copy, PostgresGucEnum)]
enum EmbeddingElement {
    /// 4 bytes for each dimension.
    #[name = c"vector"]
    Vector,
    /// 2 bytes.
    #[name = c"halfvec"]
    Halfvec,
}

/// What finds the vectors of a set.
#[derive(Debug, Clone, Copy, PostgresGucEnum)]
enum EmbeddingIndex {
    /// A scan of two bits a dimension.
    #[name = c"codes"]
    Codes,
    /// pgvector's graph.
    #[name = c"hnsw"]
    Hnsw,
}

const DAY_MS: i32 = 86_400_000;

/// Declares the settings and reserves their prefix.
pub fn register() {
    register_paths();
    register_limits();
    register_worker();
    register_queue();
    register_embedding_sets();
    register_search();
    register_models();
    // SAFETY: called once while the library loads, with a literal that outlives the server.
    #[allow(unsafe_code)]
    unsafe {
        pgrx::pg_sys::MarkGUCPrefixReserved(c"salesai".as_ptr());
    }
}

fn register_paths() {
    GucRegistry::define_string_guc(
        c"salesai.sidecar_socket",
        c"Unix socket of the inference sidecar.",
        c"Absolute path. Change it when the sidecar was started with another --socket.",
        &SIDECAR_SOCKET,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"salesai.master_key_file",
        c"File with the master key that wraps the keys of originals.",
        c"Absolute path of a file with 64 hex digits that only the server's user can read. Ingestion needs it.",
        &MASTER_KEY_FILE,
        GucContext::Suset,
        GucFlags::SUPERUSER_ONLY,
    );
}

fn register_limits() {
    GucRegistry::define_int_guc(
        c"salesai.connect_timeout_ms",
        c"Longest wait for a connection to the sidecar.",
        c"Milliseconds, 10 to 60000. After it a call fails with SQLSTATE 58000.",
        &CONNECT_TIMEOUT_MS,
        10,
        60_000,
        GucContext::Userset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"salesai.timeout_ms",
        c"Longest model call of a query.",
        c"Milliseconds, 1 to 86400000. After it a call fails with SQLSTATE 57014. Raise it for long answers on slow machines.",
        &TIMEOUT_MS,
        1,
        DAY_MS,
        GucContext::Userset,
        GucFlags::UNIT_MS,
    );
}

fn register_worker() {
    GucRegistry::define_string_guc(
        c"salesai.worker_databases",
        c"Databases whose queue a background worker drains.",
        c"Names separated by commas, at most 8; needs pg_salesai in shared_preload_libraries.",
        &WORKER_DATABASES,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"salesai.workers_per_database",
        c"Background workers of each database.",
        c"1 to 16, besides one that builds indexes. While one stores, another keeps the models busy.",
        &WORKERS_PER_DATABASE,
        1,
        16,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"salesai.worker_poll_ms",
        c"How often an idle worker looks at the queue without having been woken.",
        c"Milliseconds, 50 to 60000. Commits wake it at once; this finds retries and expired leases.",
        &WORKER_POLL_MS,
        50,
        60_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"salesai.worker_batch_size",
        c"Jobs that a worker leases at a time.",
        c"1 to 256.",
        &WORKER_BATCH_SIZE,
        1,
        256,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"salesai.job_timeout_ms",
        c"Longest model call of a job.",
        c"Milliseconds, 100 to 86400000. After it the job goes back to the queue, to be worked on alone; after ten times it fails.",
        &JOB_TIMEOUT_MS,
        100,
        DAY_MS,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
}

fn register_queue() {
    GucRegistry::define_int_guc(
        c"salesai.queue_limit",
        c"Jobs that may wait before ingestion is refused.",
        c"0 to 2147483647; 0 is no limit. Beyond it ingestion fails with SQLSTATE 53400 and stores nothing.",
        &QUEUE_LIMIT,
        0,
        i32::MAX,
        GucContext::Suset,
        GucFlags::default(),
    );
}

/// Read by `salesai.create_embedding_set`.
fn register_embedding_sets() {
    GucRegistry::define_enum_guc(
        c"salesai.embedding_element",
        c"Type of the vectors of new embedding sets.",
        c"vector (4 bytes for each dimension) or halfvec (2 bytes).",
        &EMBEDDING_ELEMENT,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"salesai.embedding_index",
        c"How the vectors of new embedding sets are found.",
        c"codes: all in two bits a dimension are scanned, and the best compared as they are; for up to some millions of vectors. hnsw: an index of pgvector is followed, which finds a little less, and much less where filters are selective.",
        &EMBEDDING_INDEX,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"salesai.hnsw_m",
        c"Neighbours of a vector in the HNSW index of new embedding sets.",
        c"2 to 100: more find better and take more room.",
        &HNSW_M,
        2,
        100,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"salesai.hnsw_ef_construction",
        c"Candidates that are looked at when a vector is added to that index.",
        c"4 to 1000, at least twice salesai.hnsw_m: more find better and take longer to build.",
        &HNSW_EF_CONSTRUCTION,
        4,
        1_000,
        GucContext::Suset,
        GucFlags::default(),
    );
}

fn register_search() {
    GucRegistry::define_float_guc(
        c"salesai.bm25_k1",
        c"How fast the repetition of a word is saturated in lexical ranking.",
        c"0 to 10; 0 does not count repetitions at all.",
        &BM25_K1,
        0.0,
        10.0,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_float_guc(
        c"salesai.bm25_b",
        c"How much long chunks are held back in lexical ranking.",
        c"0 (not at all) to 1.",
        &BM25_B,
        0.0,
        1.0,
        GucContext::Userset,
        GucFlags::default(),
    );
}

fn register_models() {
    GucRegistry::define_bool_guc(
        c"salesai.result_cache",
        c"Keeps what models make, and uses it again.",
        c"For the same weights, prompt and rights; a week at most. Turn it off where texts may not be kept, or to measure the model.",
        &RESULT_CACHE,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"salesai.result_cache_size",
        c"How large the cache of what models made may become.",
        c"MB, 1 to 1048576. Workers delete the oldest beyond it within minutes.",
        &RESULT_CACHE_SIZE,
        1,
        1 << 20,
        GucContext::Sighup,
        GucFlags::UNIT_MB,
    );
    GucRegistry::define_bool_guc(
        c"salesai.batch_operators",
        c"Lets a query that calls an operator for each row call it for many rows at once.",
        c"Queries that are planned from then on. Turn it off to see what each row asks.",
        &BATCH_OPERATORS,
        GucContext::Userset,
        GucFlags::EXPLAIN,
    );
}

/// Path of the sidecar's socket; empty when unset.
pub fn sidecar_socket() -> PathBuf {
    path(&SIDECAR_SOCKET).unwrap_or_default()
}

/// Path of the master key, if one is set.
pub fn master_key_file() -> Option<PathBuf> {
    path(&MASTER_KEY_FILE).filter(|path| !path.as_os_str().is_empty())
}

pub fn connect_timeout() -> Duration {
    milliseconds(&CONNECT_TIMEOUT_MS)
}

pub fn timeout() -> Duration {
    milliseconds(&TIMEOUT_MS)
}

/// Names in `salesai.worker_databases`, in order, without duplicates.
pub fn worker_databases() -> Vec<String> {
    let list = WORKER_DATABASES
        .get()
        .map(|list| list.to_string_lossy().into_owned());
    let mut names: Vec<String> = Vec::new();
    for name in list
        .unwrap_or_default()
        .split(',')
        .map(|name| name.trim().trim_matches('"'))
    {
        if !name.is_empty() && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

pub fn workers_per_database() -> i32 {
    WORKERS_PER_DATABASE.get()
}

pub fn worker_poll() -> Duration {
    milliseconds(&WORKER_POLL_MS)
}

pub fn worker_batch_size() -> i32 {
    WORKER_BATCH_SIZE.get()
}

pub fn job_timeout() -> Duration {
    milliseconds(&JOB_TIMEOUT_MS)
}

pub fn bm25_k1() -> f32 {
    BM25_K1.get() as f32
}

pub fn bm25_b() -> f32 {
    BM25_B.get() as f32
}

pub fn result_cache() -> bool {
    RESULT_CACHE.get()
}

pub fn batch_operators() -> bool {
    BATCH_OPERATORS.get()
}

fn milliseconds(setting: &GucSetting<i32>) -> Duration {
    Duration::from_millis(u64::try_from(setting.get()).unwrap_or(0))
}

fn path(setting: &GucSetting<Option<CString>>) -> Option<PathBuf> {
    setting
        .get()
        .map(|value| PathBuf::from(value.to_string_lossy().into_owned()))
}
