//! From messages to all who want them: the deliveries, and the places in digests.
//!
//! Subscriptions with the same filter are decided together, and a filter is parsed once in the life of a
//! process: what is asked of the database is which filters a topic has, by their hashes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use postern_model::filter::{Attribute, FilterPolicy, Message};
use serde_json::{Map, Value};
use sqlx::PgConnection;
use tracing::warn;
use uuid::Uuid;

use crate::error::Error;
use crate::store::fanout::{self, DocumentRow, Refused};
use crate::store::messages::NewMessage;

/// How many parsed filters are kept. One has 5 keys at most, so all of them are some megabytes.
const MAX_KEPT: usize = 10_000;

/// `None` for a document that this version cannot read.
type Parsed = Option<Arc<FilterPolicy>>;

/// The filters that were parsed. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Fanout {
    parsed: Arc<Mutex<HashMap<Vec<u8>, Parsed>>>,
}

impl Fanout {
    /// Makes deliveries of messages, which are stored already and were published at `now`, for every
    /// subscription that wants them; says how many.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn insert(
        &self,
        db: &mut PgConnection,
        messages: &[NewMessage],
        now: DateTime<Utc>,
    ) -> Result<u64, Error> {
        let refused = self.refused(db, messages).await?;
        Ok(fanout::insert(db, messages, &refused, now).await?)
    }

    async fn refused(
        &self,
        db: &mut PgConnection,
        messages: &[NewMessage],
    ) -> Result<Refused, Error> {
        let mut topics: Vec<Uuid> = messages.iter().map(|message| message.topic_id).collect();
        topics.sort_unstable();
        topics.dedup();
        let mut refused = Refused::default();
        let mut by_topic: HashMap<Uuid, Vec<Vec<u8>>> = HashMap::new();
        for row in fanout::filters(db, &topics).await? {
            by_topic.entry(row.topic_id).or_default().push(row.filter_sha256);
        }
        if by_topic.is_empty() {
            return Ok(refused);
        }
        let filters = self.parsed(db, &topics, &by_topic).await?;
        for message in messages {
            let Some(hashes) = by_topic.get(&message.topic_id) else { continue };
            let attributes: Map<String, Value> =
                serde_json::from_str(&message.attributes).unwrap_or_default();
            let read = Message::new(attributes.iter().filter_map(attribute), &message.body);
            for hash in hashes {
                // What cannot be read is as if it were not set: better one too many than one lost.
                if let Some(Some(filter)) = filters.get(hash)
                    && !filter.matches(&read)
                {
                    refused.messages.push(message.id);
                    refused.filters.push(hash.clone());
                }
            }
        }
        Ok(refused)
    }

    /// The filters with these hashes; those that are not known yet are read and parsed.
    async fn parsed(
        &self,
        db: &mut PgConnection,
        topics: &[Uuid],
        by_topic: &HashMap<Uuid, Vec<Vec<u8>>>,
    ) -> Result<HashMap<Vec<u8>, Parsed>, Error> {
        let mut found = HashMap::new();
        let mut unknown = Vec::new();
        {
            let kept = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
            for hash in by_topic.values().flatten() {
                match kept.get(hash) {
                    Some(filter) => drop(found.insert(hash.clone(), filter.clone())),
                    None => unknown.push(hash.clone()),
                }
            }
        }
        if unknown.is_empty() {
            return Ok(found);
        }
        let documents = fanout::documents(db, topics, &unknown).await?;
        let mut kept = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        for row in documents {
            // Filters come and go: the ones in use are read again.
            if kept.len() >= MAX_KEPT {
                kept.clear();
            }
            let filter = parse(&row);
            kept.insert(row.filter_sha256.clone(), filter.clone());
            found.insert(row.filter_sha256, filter);
        }
        Ok(found)
    }
}

fn parse(row: &DocumentRow) -> Parsed {
    let scope = row.filter_scope.parse().unwrap_or_default();
    // It was parsed when it was set; a later version may not read it any more.
    FilterPolicy::parse(&row.filter_policy, scope)
        .map(Arc::new)
        .inspect_err(|error| warn!(%error, "a filter cannot be read, and lets everything through"))
        .ok()
}

fn attribute<'a>((name, attribute): (&'a String, &'a Value)) -> Option<Attribute<'a>> {
    let data_type = attribute.get("Type")?.as_str()?;
    Some(Attribute { name, data_type, value: attribute.get("Value")?.as_str()? })
}
