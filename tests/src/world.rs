//! A cluster together with a sidecar, and the state in which a queue must come to rest.

use std::sync::OnceLock;
use std::time::Duration;

use crate::cluster::{Cluster, Settings};
use crate::deal_room;
use crate::measure::wait_until;
use crate::session::Session;
use crate::sidecar::Sidecar;

/// Longest wait for a queue; the machine may have two slow cores.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(300);

/// A cluster with a worker and a sidecar of its own, for tests that break something.
pub struct World {
    pub cluster: Cluster,
    pub sidecar: Sidecar,
}

impl World {
    pub fn start() -> Self {
        let sidecar = Sidecar::start();
        let cluster = Cluster::start(&Settings::new(sidecar.socket()));
        Self { cluster, sidecar }
    }

    /// Like [`Self::start`], with the interactions of one account of the deal room, processed.
    pub fn start_with_account(account: &str) -> Self {
        let world = Self::start();
        let mut session = world.cluster.connect();
        deal_room::load(&mut session, |entry| entry["account"] == account);
        drain(&mut session);
        world
    }
}

/// The cluster that read-only tests share: the whole deal room, processed by the worker.
pub fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(|| {
        let cluster = Cluster::start(&Settings::new(Sidecar::shared().socket()));
        let mut session = cluster.connect();
        deal_room::load(&mut session, |_| true);
        drain(&mut session);
        cluster
    })
}

/// Waits until no job is pending or running.
pub fn drain(session: &mut Session) {
    wait_until("the queue is empty", DRAIN_LIMIT, || {
        let failed: i64 = session.one("select failed from salesai.queue_status", &[]);
        if failed > 0 {
            let errors: Vec<String> =
                session.column("select step || ': ' || message from salesai.job_error", &[]);
            panic!("{failed} jobs failed: {errors:?}");
        }
        // Such a job waits for somebody who will not come.
        let blocked: Vec<String> = session.column(
            "select e.step || ': ' || e.message from salesai.job_error e join salesai.job j using (interaction_id)
             where e.class = 'pipeline_permanent' and j.state = 'pending' and j.not_before > now()",
            &[],
        );
        assert!(blocked.is_empty(), "jobs are blocked: {blocked:?}");
        session.one::<bool>(
            "select pending + running = 0 from salesai.queue_status",
            &[],
        )
    });
}

/// Waits until the worker has leased a job.
pub fn wait_until_running(session: &mut Session) {
    wait_until("a job is running", Duration::from_secs(60), || {
        session.one::<bool>(
            "select exists (select from salesai.job where state = 'running')",
            &[],
        )
    });
}

/// Every interaction was processed exactly once, with all chunks and embeddings.
pub fn assert_settled(session: &mut Session) {
    let set: i64 = session.one(
        "select id from salesai.embedding_set where state = 'active'",
        &[],
    );
    let embeddings = format!("salesai.embedding_{set}");
    let wrong = [
        ("jobs left", "select count(*) from salesai.job".to_owned()),
        (
            "interactions that are not ready",
            "select count(*) from salesai.interaction
             where state <> 'ready' or processed_version is distinct from version"
                .to_owned(),
        ),
        (
            "interactions without chunks",
            "select count(*) from salesai.interaction i
             where not exists (select from salesai.chunk c where c.interaction_id = i.id)"
                .to_owned(),
        ),
        (
            "chunks of an old version",
            "select count(*) from salesai.chunk c join salesai.interaction i on i.id = c.interaction_id
             where c.version <> i.version"
                .to_owned(),
        ),
        (
            "interactions whose chunks are not 0..n-1",
            "select count(*) from (
                 select from salesai.chunk group by interaction_id
                 having min(position) <> 0 or max(position) <> count(*) - 1
                     or count(distinct position) <> count(*)) gaps"
                .to_owned(),
        ),
        (
            "chunks without an embedding, or embeddings without a chunk",
            format!(
                "select count(*) from salesai.chunk c full join {embeddings} e on e.chunk_id = c.id
                 where c.id is null or e.chunk_id is null"
            ),
        ),
    ];
    for (what, sql) in wrong {
        assert_eq!(session.one::<i64>(&sql, &[]), 0, "{what}");
    }
}

/// A cluster with the shared sidecar.
pub fn cluster(worker: bool) -> Cluster {
    Cluster::start(&Settings {
        worker,
        ..Settings::new(Sidecar::shared().socket())
    })
}

/// Ingests notes of one source; their keys begin with the lane.
pub fn ingest_notes(session: &mut Session, source: &str, count: usize, lane: &str) {
    for key in 0..count {
        session.rows(
            "select salesai.ingest_note($1, $2, 'A note about the plant.', lane => $3)",
            &[&source, &format!("{lane}-{key}"), &lane],
        );
    }
}

/// The counts of jobs are those of the jobs.
pub fn assert_counted(session: &mut Session) {
    let counted = "select row(coalesce(sum(delta) filter (where state = 'pending'), 0),
            coalesce(sum(delta) filter (where state = 'running'), 0),
            coalesce(sum(delta) filter (where state = 'failed'), 0))::text from salesai.job_count";
    let real = "select row(count(*) filter (where state = 'pending'), count(*) filter (where state = 'running'),
            count(*) filter (where state = 'failed'))::text from salesai.job";
    let counted: String = session.one(counted, &[]);
    assert_eq!(counted, session.one::<String>(real, &[]));
    let shown: String = session.one(
        "select row(pending, running, failed)::text from salesai.queue_status",
        &[],
    );
    assert_eq!(counted, shown);
}
