//! What the dispatcher keeps, in Postgres: the only place with SQL.
//!
//! Each module holds one aggregate: its rows, and the functions that run the statements of its folder
//! under `sql/`. A use case owns the transaction and the functions borrow its connection; the scope
//! (the account) comes second. Everything is in the schema `dispatcher`.

pub mod days;
pub mod deliveries;
pub mod digests;
pub mod fanout;
pub mod inbox;
pub mod messages;
pub mod outcomes;
pub mod policy_changes;
pub mod redrives;
pub mod signing_key;
pub mod subscriptions;
pub mod topics;

use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, PgPool, Postgres, Transaction};

/// The schema that everything is in.
const SCHEMA: &str = "dispatcher";
/// For a connection from the pool: longer waits are answered with "unavailable".
const ACQUIRE: Duration = Duration::from_secs(5);

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/dispatcher");

/// The connections to the database.
#[derive(Clone, Debug)]
pub struct Store {
    pool: PgPool,
}

/// The database's schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// The database did not do what it was told.
    #[error("the schema could not be made")]
    Database(#[from] sqlx::Error),
    /// A migration failed, or does not fit to those that were run before.
    #[error("a migration failed")]
    Migration(#[from] MigrateError),
}

impl Store {
    /// A store of at most `connections` connections to the database at `url`. It connects when it is
    /// first used, and again whenever it must.
    ///
    /// # Errors
    /// When the URL is malformed.
    pub fn new(url: &str, connections: u32) -> sqlx::Result<Self> {
        let options = PgConnectOptions::from_str(url)?
            .application_name("postern-dispatcher")
            .options([
                ("search_path", SCHEMA),
                ("statement_timeout", "30s"),
                // Planning a statement over the tables of many days takes longer than running it.
                ("plan_cache_mode", "force_generic_plan"),
                // Every statement goes by an index; what the planner knows of a table that was empty
                // a minute ago is no reason to read all of it.
                ("enable_seqscan", "off"),
                ("enable_hashjoin", "off"),
                ("enable_mergejoin", "off"),
            ])
            .log_slow_statements(tracing::log::LevelFilter::Warn, Duration::from_secs(1));
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE)
            .connect_lazy_with(options);
        Ok(Self { pool })
    }

    /// Brings the schema up to date. Replicas that start together do it one after the other.
    ///
    /// # Errors
    /// When the database is away or a migration fails.
    pub async fn migrate(&self) -> Result<(), MigrationError> {
        // Two sessions that create it at the same moment collide, and then it exists.
        let created = sqlx::query(include_str!("store/sql/schema.sql")).execute(&self.pool).await;
        if let Err(error) = created
            && !error.as_database_error().is_some_and(|error| error.is_unique_violation())
        {
            return Err(error.into());
        }
        Ok(MIGRATIONS.run(&self.pool).await?)
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> sqlx::Result<()> {
        sqlx::query("SELECT 1").execute(&self.pool).await.map(drop)
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// When no connection can be had.
    pub async fn begin(&self) -> sqlx::Result<Transaction<'static, Postgres>> {
        self.pool.begin().await
    }

    /// A connection for statements that need no transaction of their own.
    ///
    /// # Errors
    /// When none can be had.
    pub async fn connection(&self) -> sqlx::Result<sqlx::pool::PoolConnection<Postgres>> {
        self.pool.acquire().await
    }

    /// The pool, for tests that look at the tables themselves.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Closes every connection.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}
