//! The generations of hosts: every change of what a host should be doing goes through [`advance`], or
//! through its twin in `endpoints/insert`, which does the same for a new endpoint in the same statement.

use std::collections::BTreeMap;

use postern_model::id::{AttachmentId, EndpointId, HostId, NetworkInterfaceId, VpcId};
use sqlx::PgConnection;
use sqlx::types::Json;

use super::sql;
use crate::error::Result;

/// What a transaction changed, of what hosts do.
#[derive(Clone, Debug, Default)]
pub struct Touched {
    interfaces: Vec<NetworkInterfaceId>,
    names: Vec<(VpcId, EndpointId)>,
    rows: Vec<Row>,
}

/// One object of one host's state.
#[derive(Clone, Debug)]
struct Row {
    host: HostId,
    kind: &'static str,
    object: String,
    vpc: String,
}

impl Touched {
    /// An interface is different for the host that owns it.
    pub fn interface(&mut self, interface: NetworkInterfaceId) {
        self.interfaces.push(interface);
    }

    /// An interface is gone from a host that owned it until now.
    pub fn interface_left(&mut self, host: HostId, interface: NetworkInterfaceId) {
        let (object, vpc) = (interface.to_string(), String::new());
        self.rows.push(Row { host, kind: "interface", object, vpc });
    }

    /// An endpoint's names are different for every host that reaches the VPC.
    pub fn names(&mut self, vpc: VpcId, endpoint: EndpointId) {
        self.names.push((vpc, endpoint));
    }

    /// An attachment of a host is new, different or gone. With a new one, the host gets the names of
    /// the VPC too.
    pub fn attachment(&mut self, host: HostId, attachment: AttachmentId, vpc: VpcId) {
        let (object, vpc) = (attachment.to_string(), vpc.to_string());
        self.rows.push(Row { host, kind: "attachment", object, vpc });
    }

    /// Whether nothing was touched.
    pub fn is_empty(&self) -> bool {
        self.interfaces.is_empty() && self.names.is_empty() && self.rows.is_empty()
    }
}

/// Advances the generation of each host that is touched, in one round trip after the hosts are known,
/// locking them in the order of their ids. VPCs whose names are touched are held `FOR SHARE`. Returns the hosts, which want a poke after the commit.
///
/// # Errors
///
/// The database away.
pub async fn advance(
    db: &mut PgConnection,
    touched: &Touched,
    trace_context: &BTreeMap<String, String>,
) -> Result<Vec<HostId>> {
    if touched.is_empty() {
        return Ok(Vec::new());
    }
    let mut hosts = Vec::new();
    let mut kinds = Vec::new();
    let mut objects = Vec::new();
    let mut vpcs = Vec::new();
    if !touched.interfaces.is_empty() || !touched.names.is_empty() {
        let interfaces: Vec<_> = touched.interfaces.iter().map(ToString::to_string).collect();
        let (in_vpcs, endpoints): (Vec<_>, Vec<_>) = touched
            .names
            .iter()
            .map(|(vpc, endpoint)| (vpc.to_string(), endpoint.to_string()))
            .unzip();
        if !in_vpcs.is_empty() {
            sqlx::query(sql!("fleet/hold")).bind(&in_vpcs).execute(&mut *db).await?;
        }
        let resolved: Vec<(String, String, String, String)> = sqlx::query_as(sql!("fleet/resolve"))
            .bind(&interfaces)
            .bind(&in_vpcs)
            .bind(&endpoints)
            .fetch_all(&mut *db)
            .await?;
        for (host, kind, object, vpc) in resolved {
            hosts.push(host);
            kinds.push(kind);
            objects.push(object);
            vpcs.push(vpc);
        }
    }
    for row in &touched.rows {
        hosts.push(row.host.to_string());
        kinds.push(row.kind.to_owned());
        objects.push(row.object.clone());
        vpcs.push(row.vpc.clone());
    }
    if hosts.is_empty() {
        return Ok(Vec::new());
    }
    let advanced: Vec<String> = sqlx::query_scalar(sql!("fleet/advance"))
        .bind(&hosts)
        .bind(&kinds)
        .bind(&objects)
        .bind(&vpcs)
        .bind(Json(trace_context))
        .fetch_all(db)
        .await?;
    Ok(advanced.iter().filter_map(|host| host.parse().ok()).collect())
}
