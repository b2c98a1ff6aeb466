//! Hosts, and how they reach VPCs.

use std::net::Ipv4Addr;

use chrono::{DateTime, Utc};
use postern_model::id::{AttachmentId, HostId, VpcId};
use postern_model::net::Cidr;
use postern_model::zone::ZoneId;
use postern_proto::page::Page;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row as _};

use super::columns::{parsed, parsed_or_none};
use super::sql;

/// A host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRow {
    /// Its id.
    pub id: HostId,
    /// Its name.
    pub name: String,
    /// The zone that it stands in.
    pub zone: ZoneId,
    /// Whether its agent is connected.
    pub connected: bool,
    /// When its agent was last heard of.
    pub last_seen_at: Option<DateTime<Utc>>,
    /// The generation of its desired state.
    pub desired_generation: i64,
    /// The generation that its agent last said to have applied.
    pub applied_generation: i64,
    /// The version of its agent; empty when never connected.
    pub agent_version: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for HostRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: parsed(row, "id")?,
            name: row.try_get("name")?,
            zone: parsed(row, "zone_id")?,
            connected: row.try_get("connected")?,
            last_seen_at: row.try_get("last_seen_at")?,
            desired_generation: row.try_get("desired_generation")?,
            applied_generation: row.try_get("applied_generation")?,
            agent_version: row.try_get("agent_version")?,
            created_at: row.try_get("created_at")?,
        })
    }
}

/// How a host reaches a VPC (design 8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The VPC lies in 127.0.0.0/8.
    Loopback,
    /// Addresses are added to the interface that has this one.
    Interface(Ipv4Addr),
    /// Sockets are opened in this network namespace: a name under /run/netns, or a path.
    Namespace(String),
}

impl Reach {
    fn kind(&self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Interface(_) => "interface",
            Self::Namespace(_) => "namespace",
        }
    }
}

/// An attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachmentRow {
    /// Its id.
    pub id: AttachmentId,
    /// The host.
    pub host: HostId,
    /// The VPC.
    pub vpc: VpcId,
    /// How the host reaches the VPC.
    pub reach: Reach,
    /// Where the VPC's resolver listens on the host; empty until its agent reports it.
    pub resolver_endpoint: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for AttachmentRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let interface = parsed_or_none(row, "interface_address")?;
        let namespace: Option<String> = row.try_get("network_namespace")?;
        // The table's check says which of the two belongs to which kind.
        let reach = match (interface, namespace) {
            (Some(address), _) => Reach::Interface(address),
            (None, Some(namespace)) => Reach::Namespace(namespace),
            (None, None) => Reach::Loopback,
        };
        Ok(Self {
            id: parsed(row, "id")?,
            host: parsed(row, "host_id")?,
            vpc: parsed(row, "vpc_id")?,
            reach,
            resolver_endpoint: row.try_get("resolver_endpoint")?,
            created_at: row.try_get("created_at")?,
        })
    }
}

/// Registers a host. A taken name violates `host_name_once`.
pub async fn insert(
    db: &mut PgConnection,
    id: HostId,
    name: &str,
    zone: &ZoneId,
) -> sqlx::Result<HostRow> {
    sqlx::query_as(sql!("hosts/insert"))
        .bind(id.to_string())
        .bind(name)
        .bind(zone.as_str())
        .fetch_one(db)
        .await
}

/// A host, if there is one.
pub async fn find(db: &mut PgConnection, id: HostId) -> sqlx::Result<Option<HostRow>> {
    sqlx::query_as(sql!("hosts/find")).bind(id.to_string()).fetch_optional(db).await
}

/// A page of hosts, and one row more when another follows.
pub async fn list(db: &mut PgConnection, page: &Page) -> sqlx::Result<Vec<HostRow>> {
    sqlx::query_as(sql!("hosts/list"))
        .bind(page.after.as_deref())
        .bind(page.limit())
        .fetch_all(db)
        .await
}

/// Locks the VPCs that a host reaches `FOR UPDATE`, before the host itself.
pub async fn lock_vpcs(db: &mut PgConnection, id: HostId) -> sqlx::Result<()> {
    sqlx::query(sql!("hosts/lock_vpcs")).bind(id.to_string()).execute(db).await?;
    Ok(())
}

/// Locks a host `FOR UPDATE`; false when there is none.
pub async fn lock(db: &mut PgConnection, id: HostId) -> sqlx::Result<bool> {
    let locked = sqlx::query(sql!("hosts/lock")).bind(id.to_string()).fetch_optional(db).await?;
    Ok(locked.is_some())
}

/// Whether a host owns an interface.
pub async fn has_interfaces(db: &mut PgConnection, id: HostId) -> sqlx::Result<bool> {
    sqlx::query_scalar(sql!("hosts/has_interfaces")).bind(id.to_string()).fetch_one(db).await
}

/// Removes a host that is locked, with its attachments.
pub async fn delete(db: &mut PgConnection, id: HostId) -> sqlx::Result<()> {
    sqlx::query(sql!("hosts/delete")).bind(id.to_string()).execute(db).await?;
    Ok(())
}

/// Makes an attachment. VPC and host are locked. A second one of the two violates
/// `host_attachment_once`; one whose addresses another has on the host,
/// `host_attachments_outside_namespaces_do_not_overlap`.
pub async fn insert_attachment(
    db: &mut PgConnection,
    id: AttachmentId,
    host: HostId,
    (vpc, cidr): (VpcId, Cidr),
    reach: &Reach,
) -> sqlx::Result<AttachmentRow> {
    let (address, namespace) = match reach {
        Reach::Loopback => (None, None),
        Reach::Interface(address) => (Some(address.to_string()), None),
        Reach::Namespace(namespace) => (None, Some(namespace.as_str())),
    };
    sqlx::query_as(sql!("hosts/insert_attachment"))
        .bind(id.to_string())
        .bind(host.to_string())
        .bind(vpc.to_string())
        .bind(cidr.to_string())
        .bind(reach.kind())
        .bind(address)
        .bind(namespace)
        .fetch_one(db)
        .await
}

/// A page of attachments, of one host or VPC when given, and one row more when another follows.
pub async fn list_attachments(
    db: &mut PgConnection,
    host: Option<HostId>,
    vpc: Option<VpcId>,
    page: &Page,
) -> sqlx::Result<Vec<AttachmentRow>> {
    sqlx::query_as(sql!("hosts/list_attachments"))
        .bind(host.map(|host| host.to_string()))
        .bind(vpc.map(|vpc| vpc.to_string()))
        .bind(page.after.as_deref())
        .bind(page.limit())
        .fetch_all(db)
        .await
}

/// Locks the VPC of an attachment `FOR UPDATE`, and says which host and VPC it joins. The attachment may
/// be gone by then: [`delete_attachment`] says so.
pub async fn lock_attachment(
    db: &mut PgConnection,
    id: AttachmentId,
) -> sqlx::Result<Option<(HostId, VpcId)>> {
    let row: Option<PgRow> =
        sqlx::query(sql!("hosts/lock_attachment")).bind(id.to_string()).fetch_optional(db).await?;
    row.map(|row| Ok((parsed(&row, "host_id")?, parsed(&row, "vpc_id")?))).transpose()
}

/// Whether an interface on `host` needs the host to reach `vpc`.
pub async fn depends_on_attachment(
    db: &mut PgConnection,
    host: HostId,
    vpc: VpcId,
) -> sqlx::Result<bool> {
    sqlx::query_scalar(sql!("hosts/depends_on_attachment"))
        .bind(host.to_string())
        .bind(vpc.to_string())
        .fetch_one(db)
        .await
}

/// Removes an attachment whose VPC and host are locked; false when it is gone already.
pub async fn delete_attachment(db: &mut PgConnection, id: AttachmentId) -> sqlx::Result<bool> {
    let deleted =
        sqlx::query(sql!("hosts/delete_attachment")).bind(id.to_string()).execute(db).await?;
    Ok(deleted.rows_affected() > 0)
}
