//! A connection whose failures name the statement.

use std::io::{ErrorKind, Write};

use postgres::error::DbError;
use postgres::types::{FromSqlOwned, ToSql};
use postgres::{Client, Row, SimpleQueryMessage};

/// Parameters of a statement.
pub type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

pub struct Session {
    client: Client,
}

impl Session {
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Runs statements without a result.
    pub fn run(&mut self, sql: &str) {
        self.client
            .batch_execute(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    pub fn rows(&mut self, sql: &str, parameters: Parameters<'_>) -> Vec<Row> {
        self.client
            .query(sql, parameters)
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }

    /// The only row.
    pub fn row(&mut self, sql: &str, parameters: Parameters<'_>) -> Row {
        self.client
            .query_one(sql, parameters)
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }

    /// The first column of the only row.
    pub fn one<T: FromSqlOwned>(&mut self, sql: &str, parameters: Parameters<'_>) -> T {
        let row = self.row(sql, parameters);
        row.try_get(0)
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }

    /// The first column of all rows.
    pub fn column<T: FromSqlOwned>(&mut self, sql: &str, parameters: Parameters<'_>) -> Vec<T> {
        self.rows(sql, parameters)
            .iter()
            .map(|row| row.get(0))
            .collect()
    }

    /// The first column of all rows as text, a line each.
    pub fn text(&mut self, sql: &str) -> String {
        let messages = self.client.simple_query(sql);
        let messages = messages.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let lines = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The error of a statement that must fail.
    pub fn refusal(&mut self, sql: &str, parameters: Parameters<'_>) -> Refusal {
        match self.try_run(sql, parameters) {
            Ok(()) => panic!("{sql}: did not fail"),
            Err(refusal) => refusal,
        }
    }

    /// Runs one statement that may fail. The driver may see the end of a connection before the server's
    /// last word: the SQLSTATE is [`CLOSED`] then.
    pub fn try_run(&mut self, sql: &str, parameters: Parameters<'_>) -> Result<(), Refusal> {
        match self.client.query(sql, parameters) {
            Ok(_) => Ok(()),
            Err(error) => Err(Refusal::of(sql, &error)),
        }
    }

    /// Sends lines to a `copy ... from stdin`; how many rows it took.
    pub fn copy_in(&mut self, sql: &str, lines: &str) -> u64 {
        self.try_copy_in(sql, lines)
            .unwrap_or_else(|refusal| panic!("{sql}: {refusal:?}"))
    }

    /// The same for one that may fail.
    pub fn try_copy_in(&mut self, sql: &str, lines: &str) -> Result<u64, Refusal> {
        let mut copy = || {
            let mut writer = self.client.copy_in(sql)?;
            // A failure shows at the end.
            let _ = writer.write_all(lines.as_bytes());
            writer.finish()
        };
        copy().map_err(|error| Refusal::of(sql, &error))
    }

    pub fn backend_pid(&mut self) -> i32 {
        self.one("select pg_backend_pid()", &[])
    }

    pub fn is_closed(&mut self) -> bool {
        self.client.is_closed() || self.client.simple_query("select 1").is_err()
    }
}

/// Stands for the SQLSTATE that was not heard.
pub const CLOSED: &str = "closed";

/// What PostgreSQL said when it refused.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub sqlstate: String,
    pub message: String,
    pub hint: Option<String>,
}

impl From<&DbError> for Refusal {
    fn from(error: &DbError) -> Self {
        Self {
            sqlstate: error.code().code().to_owned(),
            message: error.message().to_owned(),
            hint: error.hint().map(str::to_owned),
        }
    }
}

/// The connection ended: the server closed it, or was killed and the system reset it.
fn is_lost(error: &postgres::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref());
    let kind = source.map(std::io::Error::kind);
    error.is_closed()
        || matches!(
            kind,
            Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
        )
}

impl Refusal {
    fn of(sql: &str, error: &postgres::Error) -> Self {
        match error.as_db_error() {
            Some(refused) => Self::from(refused),
            None if is_lost(error) => Self {
                sqlstate: CLOSED.to_owned(),
                message: error.to_string(),
                hint: None,
            },
            None => panic!("{sql}: {error:?}"),
        }
    }

    /// The SQLSTATE is this one, and the message follows PostgreSQL's style guide.
    pub fn assert_is(&self, sqlstate: &str, what: &str) {
        assert_eq!(self.sqlstate, sqlstate, "{what}: {self:?}");
        let first = self.message.chars().next();
        assert!(first.is_some_and(|c| !c.is_uppercase()), "{what}: {self:?}");
        assert!(
            !self.message.ends_with('.') && !self.message.contains('\n'),
            "{what}: {self:?}"
        );
    }
}
