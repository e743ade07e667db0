//! tokio-postgres as an application uses it.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tests::cluster::DATABASE;
use tests::pgbouncer::{PASSWORD, SINGLE_DATABASE, USER};
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSqlOwned, ToSql, Type};
use tokio_postgres::{Client, Config, Error, NoTls, Row};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_stream::StreamExt;

use super::{PROMPT, Place, Pooled, ROLE, questions, sql};

const BUSY_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// Parameters with their types, which let a statement run without being prepared first.
type Typed<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];
/// Text and method.
type Answer = (String, String);

/// What the clients in other languages check, but prepared statements where a pooler keeps none.
pub(super) fn check(place: &Place) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("start a runtime");
    let answers = runtime.block_on(insight(place));
    runtime.block_on(stream(place));
    runtime.block_on(insight_stream(place));
    runtime.block_on(cursor(place));
    runtime.block_on(cancel(place));
    runtime.block_on(timeouts(place));
    match &place.pooled {
        None => runtime.block_on(prepared(place, &answers)),
        Some(pooled) => {
            runtime.block_on(role_ends_with_transaction(place));
            runtime.block_on(other_authority_is_refused(place, pooled));
        }
    }
}

async fn insight(place: &Place) -> Vec<Answer> {
    let client = connect(place, DATABASE).await;
    let mut answers = Vec::new();
    for [question, account] in questions() {
        let parameters: Typed<'_> = &[(&question, Type::TEXT), (&account, Type::TEXT)];
        answers.push(answer(&row(&client, sql::INSIGHT, parameters).await));
    }
    for (text, method) in &answers {
        assert!(!text.is_empty());
        assert!(["generated", "extractive"].contains(&method.as_str()));
    }
    answers
}

async fn stream(place: &Place) {
    let mut client = connect(place, DATABASE).await;
    let watch = connect(place, DATABASE).await;
    wait_until_busy(&watch, false).await;
    let transaction = client.transaction().await.expect("begin");
    let pid: i32 = one(transaction.client(), sql::BACKEND_PID, &[]).await;
    let pieces = transaction
        .query_typed_raw(sql::STREAM, [(PROMPT, Type::TEXT)])
        .await;
    let mut pieces = pin!(pieces.expect("start the stream"));
    let first = pieces.next().await.expect("a piece");
    first.expect("the first piece");
    // Were rows only sent together, their backend would be at rest by now.
    let is_active: bool = one(&watch, sql::IS_ACTIVE, &[(&pid, Type::INT4)]).await;
    assert!(is_active, "the first piece came with the last");
    let mut more = 0;
    while let Some(piece) = pieces.next().await {
        piece.expect("a piece");
        more += 1;
    }
    assert!(more > 0);
}

async fn insight_stream(place: &Place) {
    let client = connect(place, DATABASE).await;
    let [question, account] = &questions()[0];
    let pieces = client
        .query_typed(
            sql::INSIGHT_STREAM,
            &[(question, Type::TEXT), (account, Type::TEXT)],
        )
        .await
        .expect("stream an answer");
    assert!(!pieces.is_empty());
    for piece in pieces {
        assert!(!piece.get::<_, &str>(0).trim().is_empty());
    }
}

async fn cursor(place: &Place) {
    let mut client = connect(place, DATABASE).await;
    let watch = connect(place, DATABASE).await;
    wait_until_busy(&watch, false).await;
    let transaction = client.transaction().await.expect("begin");
    transaction
        .batch_execute(&sql::declare())
        .await
        .expect("declare a cursor");
    row(transaction.client(), sql::FETCH, &[]).await;
    assert!(is_busy(&watch).await, "everything was generated for a row");
    transaction
        .batch_execute(sql::CLOSE)
        .await
        .expect("close the cursor");
    transaction.commit().await.expect("commit");
    assert_usable(&client).await;
}

async fn cancel(place: &Place) {
    let mut client = connect(place, DATABASE).await;
    let watch = connect(place, DATABASE).await;
    wait_until_busy(&watch, false).await;
    let token = client.cancel_token();
    let transaction = client.transaction().await.expect("begin");
    let pid: i32 = one(transaction.client(), sql::BACKEND_PID, &[]).await;
    let cancelling = async {
        wait_until_busy(&watch, true).await;
        match &place.pooled {
            None => token.cancel_query(NoTls).await.expect("send the cancel"),
            // PgBouncer before 1.19 ends itself when a sender of a cancel hangs up at once, as this driver does.
            Some(_) => assert!(one::<bool>(&watch, sql::CANCEL, &[(&pid, Type::INT4)]).await),
        }
    };
    let (generated, ()) = tokio::join!(generate(transaction.client()), cancelling);
    assert_cancelled(generated);
    transaction.rollback().await.expect("roll back");
    assert_usable(&client).await;
}

async fn timeouts(place: &Place) {
    let mut client = connect(place, DATABASE).await;
    let transaction = client.transaction().await.expect("begin");
    transaction
        .batch_execute(sql::SET_TIMEOUT)
        .await
        .expect("set a timeout");
    assert_cancelled(generate(transaction.client()).await);
    transaction.rollback().await.expect("roll back");
    let timeout: String = one(&client, "show statement_timeout", &[]).await;
    assert_eq!(timeout, "0");

    let [question, account] = &questions()[0];
    let answered = client
        .query_typed(
            sql::TIMEOUT_MS,
            &[(question, Type::TEXT), (account, Type::TEXT)],
        )
        .await;
    assert_cancelled(answered);
    assert_usable(&client).await;
}

async fn prepared(place: &Place, answers: &[Answer]) {
    let client = connect(place, DATABASE).await;
    let statement = client.prepare(sql::INSIGHT).await.expect("prepare");
    for ([question, account], before) in questions().iter().zip(answers) {
        let row = client.query_one(&statement, &[question, account]).await;
        assert_eq!(&answer(&row.expect("ask")), before);
    }
    let count: i32 = one(&client, sql::PREPARED_COUNT, &[(&sql::INSIGHT, Type::TEXT)]).await;
    assert_eq!(count, 1);
}

async fn role_ends_with_transaction(place: &Place) {
    let mut client = connect(place, SINGLE_DATABASE).await;
    let other = connect(place, SINGLE_DATABASE).await;
    let transaction = client.transaction().await.expect("begin");
    transaction
        .batch_execute(&sql::set_role())
        .await
        .expect("set the role");
    let own = row(transaction.client(), sql::WHO, &[]).await;
    transaction.commit().await.expect("commit");
    let others = row(&other, sql::WHO, &[]).await;
    assert_eq!(
        own.get::<_, i32>(0),
        others.get::<_, i32>(0),
        "they did not share the connection"
    );
    assert_eq!(own.get::<_, &str>(1), ROLE);
    assert_eq!(others.get::<_, &str>(1), USER);
    assert!(own.get::<_, i32>(2) < others.get::<_, i32>(2));
}

async fn other_authority_is_refused(place: &Place, pooled: &Pooled) {
    let tls = tls(&pooled.other_authority);
    let refused = config(place, DATABASE).connect(tls).await;
    let error = refused.err().expect("it trusted a stranger");
    assert!(format!("{error:?}").contains("UnknownIssuer"), "{error:?}");
}

async fn connect(place: &Place, database: &str) -> Client {
    let config = config(place, database);
    match &place.pooled {
        None => {
            let (client, connection) = config.connect(NoTls).await.expect("connect");
            tokio::spawn(connection);
            client
        }
        Some(pooled) => {
            let tls = tls(&pooled.authority);
            let (client, connection) = config.connect(tls).await.expect("connect");
            tokio::spawn(connection);
            client
        }
    }
}

fn config(place: &Place, database: &str) -> Config {
    let mut config = Config::new();
    config
        .host(&place.host)
        .port(place.port)
        .user(USER)
        .dbname(database);
    if place.pooled.is_some() {
        config.password(PASSWORD).ssl_mode(SslMode::Require);
    }
    config
}

fn tls(authority: &Path) -> MakeRustlsConnect {
    let certificate = CertificateDer::from_pem_file(authority).expect("read a certificate");
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("take a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("a version of TLS")
        .with_root_certificates(roots)
        .with_no_client_auth();
    MakeRustlsConnect::new(config)
}

async fn generate(client: &Client) -> Result<Vec<Row>, Error> {
    client
        .query_typed(sql::GENERATE, &[(&PROMPT, Type::TEXT)])
        .await
}

async fn is_busy(watch: &Client) -> bool {
    one(watch, sql::IS_BUSY, &[]).await
}

async fn wait_until_busy(watch: &Client, wanted: bool) {
    let start = Instant::now();
    while is_busy(watch).await != wanted {
        assert!(start.elapsed() < BUSY_LIMIT, "not after {BUSY_LIMIT:?}");
        tokio::time::sleep(POLL).await;
    }
}

async fn row(client: &Client, sql: &str, parameters: Typed<'_>) -> Row {
    client
        .query_typed_one(sql, parameters)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error:?}"))
}

async fn one<T: FromSqlOwned>(client: &Client, sql: &str, parameters: Typed<'_>) -> T {
    row(client, sql, parameters).await.get(0)
}

fn answer(row: &Row) -> Answer {
    (row.get(0), row.get(1))
}

fn assert_cancelled(outcome: Result<Vec<Row>, Error>) {
    let error = outcome.expect_err("it was not cancelled");
    assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED), "{error:?}");
}

async fn assert_usable(client: &Client) {
    assert_eq!(one::<i32>(client, "select 1", &[]).await, 1);
}
