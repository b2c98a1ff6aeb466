//! The key that signs messages.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

/// The key and its certificate, both PEM.
#[derive(Clone, sqlx::FromRow)]
pub struct SigningKeyRow {
    /// PKCS #8.
    pub private_key_pem: String,
    /// X.509.
    pub certificate_pem: String,
}

impl std::fmt::Debug for SigningKeyRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKeyRow").finish_non_exhaustive()
    }
}

/// The key, when there is one.
pub async fn get(db: &mut PgConnection) -> sqlx::Result<Option<SigningKeyRow>> {
    sqlx::query_as(include_str!("sql/signing_key/get.sql")).fetch_optional(db).await
}

/// Keeps the key, unless another replica was faster.
pub async fn insert(
    db: &mut PgConnection,
    key: &SigningKeyRow,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query(include_str!("sql/signing_key/insert.sql"))
        .bind(&key.private_key_pem)
        .bind(&key.certificate_pem)
        .bind(now)
        .execute(db)
        .await
        .map(drop)
}
