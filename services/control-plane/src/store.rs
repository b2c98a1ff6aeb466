//! The database, and the only place for its SQL. A module for each aggregate holds its rows and every
//! statement that touches them; the statements are files under `store/sql`, so that a review sees
//! the statement itself, and a test prepares each against the migrated schema.
//!
//! Who may lock what, and in which order, is what keeps concurrent requests from missing each other:
//!
//! - An endpoint's own changes, and those of its interfaces, are made under its row lock.
//! - What others inherit from a row is changed under that row's `FOR UPDATE` lock (a group's rules, a
//!   service's targets, a VPC's attributes and attachments). Whoever comes to depend on the row holds
//!   it by its foreign key (`FOR KEY SHARE`) or `FOR SHARE`, so that one of the two sees the other.
//! - Order: service, VPC, group, endpoint, interface, host; rows of a kind by id.

pub mod accounts;
pub mod client_tokens;
pub mod columns;
pub mod endpoints;
pub mod fleet;
pub mod hosts;
pub mod interfaces;
pub mod lease;
pub mod notifications;
pub mod outbox;
pub mod permissions;
pub mod placement;
pub mod reconcile;
pub mod relay;
pub mod reports;
pub mod security_groups;
pub mod services;
pub mod sites;
pub mod state;
pub mod subnets;
pub mod vpcs;

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, PgPool, Postgres, Transaction};

use crate::error::Result;

/// A statement of `store/sql`, by its path without the ending.
macro_rules! sql {
    ($path:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/sql/", $path, ".sql"))
    };
}
pub(crate) use sql;

/// The schema that everything of the control plane is in.
pub const SCHEMA: &str = "control_plane";

/// The schema's migrations, embedded.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/control_plane");

/// A connection that was not used for so long is asked whether it is still there before it is used.
const RESTED: Duration = Duration::from_secs(1);

/// An open transaction. Dropped without a commit, it leaves nothing.
pub type Tx = Transaction<'static, Postgres>;

/// The database.
#[derive(Clone, Debug)]
pub struct Store {
    pool: PgPool,
}

impl Store {
    /// The database at `url`, with at most `connections` open. It need not be there yet.
    ///
    /// # Errors
    ///
    /// A URL that is none.
    pub fn open(url: &str, connections: u32) -> Result<Self, sqlx::Error> {
        let options = PgConnectOptions::from_str(url)?
            .options([
                // `public` holds the extension's operators.
                ("search_path", format!("{SCHEMA},public")),
                // Planning a statement takes longer than most take to run. Each is written so that
                // one plan, by its indexes, is right for whatever it is asked (a test looks at them).
                ("plan_cache_mode", "force_generic_plan".to_owned()),
                // Compiling pays for reports, not for rows.
                ("jit", "off".to_owned()),
            ])
            .application_name("postern-control-plane")
            // Every statement would be logged otherwise.
            .disable_statement_logging();
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            // Longer than a failover of a local proxy, shorter than a caller's patience.
            .acquire_timeout(Duration::from_secs(3))
            // A connection in use a moment ago needs no question of its own before each statement;
            // one that rested may have lost its server meanwhile.
            .test_before_acquire(false)
            .before_acquire(|connection, usage| {
                Box::pin(async move {
                    if usage.idle_for >= RESTED {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(options);
        Ok(Self { pool })
    }

    /// A store over an open pool whose connections look in [`SCHEMA`] first.
    pub fn from_pool(pool: PgPool) -> Self {
        Self { pool }
    }

    /// The pool, for one statement outside any transaction.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Brings the schema up to date. Several may do so at once: one does it, the others wait.
    ///
    /// # Errors
    ///
    /// The database away, or a schema that is newer than this program.
    pub async fn migrate(&self) -> Result<(), sqlx::migrate::MigrateError> {
        // The migrator takes an advisory lock for its own work, but the schema that its table goes
        // into must be there before; two that create it at once can collide, and the second is done.
        let created = sqlx::query(sql!("schema/create")).execute(&self.pool).await;
        if let Err(error) = created
            && crate::error::violated(&error).is_none()
        {
            return Err(error.into());
        }
        MIGRATOR.run(&self.pool).await
    }

    /// A connection, for statements that need no transaction between them.
    ///
    /// # Errors
    ///
    /// The database away.
    pub async fn acquire(&self) -> Result<PoolConnection<Postgres>> {
        Ok(self.pool.acquire().await?)
    }

    /// Whether the database answers.
    ///
    /// # Errors
    ///
    /// It doesn't.
    pub async fn ping(&self) -> Result<(), sqlx::Error> {
        sqlx::query(sql!("schema/ping")).execute(&self.pool).await?;
        Ok(())
    }

    /// Tells whoever listens on this schema's channel.
    ///
    /// # Errors
    ///
    /// The database away.
    pub async fn notify(&self, payload: &str) -> Result<(), sqlx::Error> {
        sqlx::query(sql!("schema/notify")).bind(payload).execute(&self.pool).await?;
        Ok(())
    }

    /// Begins a transaction.
    ///
    /// # Errors
    ///
    /// The database away.
    pub async fn begin(&self) -> Result<Tx> {
        Ok(self.pool.begin().await?)
    }

    /// Begins a transaction that sees one moment of the database and changes nothing.
    ///
    /// # Errors
    ///
    /// The database away.
    pub async fn snapshot(&self) -> Result<Tx> {
        Ok(self.pool.begin_with(sql!("schema/snapshot")).await?)
    }
}
