//! Fixtures of the whole-system tests: real PostgreSQL, real sidecar, real models.
//!
//! - [`config`]: what the environment says
//! - [`process`]: the directory of this run, its processes, and who clears them away
//! - [`cluster`]: a PostgreSQL cluster with the extension
//! - [`sidecar`]: an inference sidecar
//! - [`faulty_socket`]: a socket before a sidecar that some texts kill
//! - [`pgbouncer`]: PgBouncer before a cluster
//! - [`session`]: a connection that panics with the statement
//! - [`world`]: both together, and the one that read-only tests share
//! - [`deal_room`]: the sample data
//! - [`adapter`]: LoRA adapters of the test model
//! - [`meetings`]: real meetings as transcripts
//! - [`small_bert`]: a second embedding model
//! - [`measure`]: waiting with a limit, percentiles

pub mod adapter;
pub mod cluster;
pub mod config;
pub mod deal_room;
pub mod faulty_socket;
pub mod measure;
pub mod meetings;
pub mod pgbouncer;
pub mod process;
pub mod session;
pub mod sidecar;
pub mod small_bert;
pub mod world;
