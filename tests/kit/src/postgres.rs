//! Databases for tests.
//!
//! One server serves a whole run of the tests: the one that `POSTERN_TEST_POSTGRES_URL` names (the
//! superuser's URL; `postern-test-servers` prints it), else one that the test process starts for itself on
//! first use. Each test takes a database of its own, copied from a template in which the migrations
//! have been applied once, and the database goes when the test does.

use crate::leash::Leash;
use anyhow::{Context, Result};
use postern_local::{Cluster, Options};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, PgPool};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::str::FromStr;
use tokio::sync::OnceCell;

/// The variable that names the server of a run.
pub const URL_VARIABLE: &str = "POSTERN_TEST_POSTGRES_URL";

/// Stops the server whose home is `$1` and removes the directory `$2`.
const END: &str = r#"
    pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null) && kill -INT "$pid"
    i=0; while [ -e "$1/data/postmaster.pid" ] && [ $i -lt 100 ]; do sleep 0.1; i=$((i+1)); done
    rm -rf "$2"
"#;

/// A server of one's own, for a test that stops or kills its database. It and its files go with this
/// value, and also when the process dies first.
#[derive(Debug)]
pub struct PrivatePostgres {
    /// The server, to stop, kill and resume.
    pub cluster: Cluster,
    _leash: Leash,
}

impl PrivatePostgres {
    /// Starts one in a temporary directory.
    ///
    /// # Errors
    /// What [`Cluster::start`] says.
    pub async fn start() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("postern-postgres-").tempdir()?.keep();
        // The server's account must be able to enter.
        std::fs::set_permissions(&directory, Permissions::from_mode(0o755))?;
        let home = directory.join("postgres");
        // Before the server, so that a kill during its start leaves nothing behind either.
        let leash = Leash::new(END, [&home, &directory])?;
        let cluster = Cluster::start(Options::throwaway(home)).await?;
        Ok(Self { cluster, _leash: leash })
    }

    /// The superuser's URL of `database`.
    pub fn url(&self, database: &str) -> String {
        self.cluster.url(database)
    }
}

/// The superuser's connection options for the run's server.
async fn server() -> Result<&'static PgConnectOptions> {
    static SERVER: OnceCell<(PgConnectOptions, Option<PrivatePostgres>)> = OnceCell::const_new();
    let (options, _) = SERVER
        .get_or_try_init(|| async {
            let (url, own) = match std::env::var(URL_VARIABLE) {
                Ok(url) => (url, None),
                Err(_) => {
                    let own = PrivatePostgres::start().await.context("starting a PostgreSQL")?;
                    (own.url("postgres"), Some(own))
                }
            };
            let options = PgConnectOptions::from_str(&url).context(URL_VARIABLE)?;
            anyhow::Ok((options.disable_statement_logging(), own))
        })
        .await?;
    Ok(options)
}

async fn admin() -> Result<PgConnection> {
    PgConnection::connect_with(server().await?).await.context("connecting to the tests' PostgreSQL")
}

/// A database that one test has to itself. Dropping it drops the database, sessions and all.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    options: PgConnectOptions,
}

impl TestDatabase {
    /// A database with the migrations of `migrator` applied.
    ///
    /// # Errors
    /// When the server cannot be had or a migration fails.
    pub async fn create(migrator: &'static Migrator) -> Result<Self> {
        let mut key = String::from("m");
        for migration in migrator.iter() {
            let digest = migration.checksum.iter().take(4);
            key.extend(digest.map(|byte| format!("{byte:02x}")));
        }
        Self::prepared(&key, |pool| async move { Ok(migrator.run(&pool).await?) }).await
    }

    /// A database made by `prepare`, which runs once for all the tests of a run that give the same `key`.
    ///
    /// # Errors
    /// When the server cannot be had, or what `prepare` returns.
    pub async fn prepared<P, F>(key: &str, prepare: P) -> Result<Self>
    where
        P: FnOnce(PgPool) -> F,
        F: Future<Output = Result<()>>,
    {
        let mut admin = admin().await?;
        let template = format!("template_{:016x}", fnv(key));
        if !exists(&mut admin, &template).await? {
            build(&mut admin, &template, prepare).await?;
        }
        let database = Self::copy(&mut admin, &template).await?;
        admin.close().await?;
        Ok(database)
    }

    /// An empty database.
    ///
    /// # Errors
    /// When the server cannot be had.
    pub async fn empty() -> Result<Self> {
        Self::copy(&mut admin().await?, "template1").await
    }

    async fn copy(admin: &mut PgConnection, template: &str) -> Result<Self> {
        let name = format!("test_{}", uuid::Uuid::new_v4().simple());
        let statement = format!("CREATE DATABASE {name} TEMPLATE {template}");
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(admin).await?;
        let options = server().await?.clone().database(&name);
        Ok(Self { name, options })
    }

    /// Its URL, with the superuser's password.
    pub fn url(&self) -> String {
        self.options.to_url_lossy().to_string()
    }

    /// A pool of at most `connections` connections to it.
    ///
    /// # Errors
    /// When the server does not take the first one.
    pub async fn pool(&self, connections: u32) -> Result<PgPool> {
        let options = PgPoolOptions::new().max_connections(connections);
        Ok(options.connect_with(self.options.clone()).await?)
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // A thread of its own, because the test's runtime may be the one that is going down.
        let dropped = std::thread::spawn(move || -> Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut admin = admin().await?;
                sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut admin).await?;
                anyhow::Ok(admin.close().await?)
            })
        })
        .join();
        if !matches!(dropped, Ok(Ok(()))) {
            eprintln!("the database {} stays: {dropped:?}", self.name);
        }
    }
}

async fn exists(admin: &mut PgConnection, database: &str) -> Result<bool> {
    let found = sqlx::query("SELECT 1 FROM pg_database WHERE datname = $1")
        .bind(database)
        .fetch_optional(admin)
        .await?;
    Ok(found.is_some())
}

/// Makes the template. Test processes run side by side, so one does it under a lock and the others wait;
/// it gets its name last, so that nobody ever copies half of it.
async fn build<P, F>(admin: &mut PgConnection, template: &str, prepare: P) -> Result<()>
where
    P: FnOnce(PgPool) -> F,
    F: Future<Output = Result<()>>,
{
    let lock = "SELECT pg_advisory_lock(hashtextextended($1, 0))";
    sqlx::query(lock).bind(template).execute(&mut *admin).await?;
    let built = async {
        if exists(admin, template).await? {
            return Ok(());
        }
        let draft = format!("{template}_draft");
        for statement in [
            format!("DROP DATABASE IF EXISTS {draft} WITH (FORCE)"),
            format!("CREATE DATABASE {draft}"),
        ] {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *admin).await?;
        }
        let options = server().await?.clone().database(&draft);
        let pool = PgPoolOptions::new().max_connections(4).connect_with(options).await?;
        let prepared = prepare(pool.clone()).await;
        pool.close().await; // A database with a session in it can be neither renamed nor copied.
        prepared.context("preparing the template database")?;
        let rename = format!("ALTER DATABASE {draft} RENAME TO {template}");
        sqlx::raw_sql(AssertSqlSafe(rename)).execute(&mut *admin).await?;
        Ok(())
    }
    .await;
    let unlock = "SELECT pg_advisory_unlock(hashtextextended($1, 0))";
    sqlx::query(unlock).bind(template).execute(admin).await?;
    built
}

/// FNV-1a: the same in every process of a run, which the standard hasher does not promise.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_template_is_made_once_and_each_test_has_a_copy_to_itself() {
        let make = |pool: PgPool| async move {
            sqlx::raw_sql("CREATE TABLE kept (id int)").execute(&pool).await?;
            Ok(())
        };
        let first = TestDatabase::prepared("one table", make).await.unwrap();
        let never = |_| async { anyhow::bail!("the template was there") };
        let second = TestDatabase::prepared("one table", never).await.unwrap();
        let (one, two) = (first.pool(1).await.unwrap(), second.pool(1).await.unwrap());
        sqlx::raw_sql("INSERT INTO kept VALUES (1)").execute(&one).await.unwrap();
        let count = "SELECT count(*) FROM kept";
        let seen: i64 = sqlx::query_scalar(count).fetch_one(&two).await.unwrap();
        assert_eq!(seen, 0);
    }

    #[tokio::test]
    async fn a_dropped_database_is_gone_though_sessions_were_open() {
        let database = TestDatabase::empty().await.unwrap();
        let (name, _pool) = (database.name.clone(), database.pool(2).await.unwrap());
        drop(database);
        assert!(!exists(&mut admin().await.unwrap(), &name).await.unwrap());
    }
}
