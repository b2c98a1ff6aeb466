//! The tables that hold a day of messages, deliveries and attempts each.

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection};

/// How many days there are tables for besides today.
const AHEAD: i32 = 7;

/// The table of a day.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct DayRow {
    /// The table that it is part of.
    pub base: String,
    /// Its own name.
    pub name: String,
    /// The day, in UTC.
    pub day: NaiveDate,
}

/// Makes the tables of yesterday, today and the week to come where they are not there; says how many.
pub async fn make(db: &mut PgConnection, now: DateTime<Utc>) -> sqlx::Result<i32> {
    let first = now.date_naive() - Days::new(1);
    sqlx::query_scalar(include_str!("sql/days/make.sql"))
        .bind(first)
        .bind(AHEAD + 2)
        .fetch_one(db)
        .await
}

/// Drops the tables of days that were over at `before` and on which nothing is on its way any more;
/// says how many. Each goes in two steps of which neither makes others wait: it is detached while they
/// read and write, then nobody knows it.
pub async fn forget(db: &mut PgConnection, before: DateTime<Utc>) -> sqlx::Result<u64> {
    let days: Vec<DayRow> =
        sqlx::query_as(include_str!("sql/days/list.sql")).fetch_all(&mut *db).await?;
    let mut dropped = 0;
    for DayRow { base, name, day } in days {
        let start = day.and_time(NaiveTime::MIN).and_utc();
        let end = start + Days::new(1);
        if end > before {
            break; // They are in the order of days.
        }
        let pending: bool = sqlx::query_scalar(include_str!("sql/days/pending.sql"))
            .bind(start)
            .bind(end)
            .fetch_one(&mut *db)
            .await?;
        if pending {
            continue;
        }
        // The names come from the catalog of our own schema.
        let detach = format!(
            "ALTER TABLE dispatcher.\"{base}\" DETACH PARTITION dispatcher.\"{name}\" CONCURRENTLY"
        );
        sqlx::raw_sql(AssertSqlSafe(detach)).execute(&mut *db).await?;
        let drop = format!("DROP TABLE dispatcher.\"{name}\"");
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut *db).await?;
        dropped += 1;
    }
    Ok(dropped)
}
