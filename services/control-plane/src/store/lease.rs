//! Work that one replica does at a time. A lease has a token that grows with each holder: a holder
//! that was asleep while its lease ran out finds its writes refused, since they name its token.
//!
//! Leases are timed by the database's clock, which all replicas share.

use std::time::Duration;

use sqlx::PgConnection;
use uuid::Uuid;

use super::sql;
use crate::error::Result;

/// A lease held: what writes under it must name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// What the lease is for.
    pub name: &'static str,
    /// Who holds it.
    pub holder: Uuid,
    /// Its fencing token.
    pub token: i64,
}

/// Takes or extends the lease `name` for `holder`, for `lasting` from now. `None` while somebody
/// else holds it.
///
/// # Errors
///
/// The database away.
pub async fn take(
    db: &mut PgConnection,
    name: &'static str,
    holder: Uuid,
    lasting: Duration,
) -> Result<Option<Held>> {
    let token: Option<i64> = sqlx::query_scalar(sql!("lease/take"))
        .bind(name)
        .bind(holder.to_string())
        .bind(lasting.as_secs_f64())
        .fetch_optional(db)
        .await?;
    Ok(token.map(|token| Held { name, holder, token }))
}

/// Gives a lease back, so that another replica need not wait until it runs out.
///
/// # Errors
///
/// The database away.
pub async fn give_back(db: &mut PgConnection, held: Held) -> Result<()> {
    sqlx::query(sql!("lease/give_back"))
        .bind(held.name)
        .bind(held.holder.to_string())
        .bind(held.token)
        .execute(db)
        .await?;
    Ok(())
}
