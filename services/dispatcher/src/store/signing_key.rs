//! The keys that sign messages: one that signs, and the certificates of those before it.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

/// A key and its certificate.
#[derive(Clone, sqlx::FromRow)]
pub struct SigningKeyRow {
    /// Its number.
    pub id: i64,
    /// PKCS #8, PEM; none when it is sealed or retired.
    pub private_key_pem: Option<String>,
    /// The same under a key of the configuration.
    pub sealed: Option<Vec<u8>>,
    /// Which one.
    pub sealed_with: Option<String>,
    /// X.509, PEM.
    pub certificate_pem: String,
    /// SHA-256 of that text, in hexadecimal.
    pub certificate_sha256: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When a newer one took over.
    pub retired_at: Option<DateTime<Utc>>,
}

impl std::fmt::Debug for SigningKeyRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKeyRow")
            .field("id", &self.id)
            .field("certificate_sha256", &self.certificate_sha256)
            .field("retired_at", &self.retired_at)
            .finish_non_exhaustive()
    }
}

/// All of them, the one that signs first.
pub async fn list(db: &mut PgConnection) -> sqlx::Result<Vec<SigningKeyRow>> {
    sqlx::query_as(include_str!("sql/signing_key/list.sql")).fetch_all(db).await
}

/// Keeps the key, unless there is one that signs: another replica was faster.
pub async fn insert(db: &mut PgConnection, key: &SigningKeyRow) -> sqlx::Result<()> {
    sqlx::query(include_str!("sql/signing_key/insert.sql"))
        .bind(&key.private_key_pem)
        .bind(&key.sealed)
        .bind(&key.sealed_with)
        .bind(&key.certificate_pem)
        .bind(&key.certificate_sha256)
        .bind(key.created_at)
        .execute(db)
        .await
        .map(drop)
}

/// Retires the key that signs: its certificate stays.
pub async fn retire(db: &mut PgConnection, now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query(include_str!("sql/signing_key/retire.sql")).bind(now).execute(db).await.map(drop)
}

/// Replaces the key's open text by its sealed one.
pub async fn seal(db: &mut PgConnection, id: i64, sealed: &[u8], with: &str) -> sqlx::Result<()> {
    sqlx::query(include_str!("sql/signing_key/seal.sql"))
        .bind(id)
        .bind(sealed)
        .bind(with)
        .execute(db)
        .await
        .map(drop)
}

/// Forgets certificates whose keys were retired before `before`.
pub async fn forget(db: &mut PgConnection, before: DateTime<Utc>) -> sqlx::Result<u64> {
    let forgotten =
        sqlx::query(include_str!("sql/signing_key/forget.sql")).bind(before).execute(db).await?;
    Ok(forgotten.rows_affected())
}

/// The certificate whose name is made of this beginning of its SHA-256.
pub async fn certificate(db: &mut PgConnection, digest: &str) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar(include_str!("sql/signing_key/certificate.sql"))
        .bind(digest)
        .fetch_optional(db)
        .await
}
