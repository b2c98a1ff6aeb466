//! The objects of a host's state, made from the rows of the moment.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddrV4};

use postern_model::desired::{
    Attachment, AttachmentKind, Interface, InterfaceListener, Key, Names, Object, Record,
    RecordData,
};
use postern_model::dns::{Label, PrivateDnsName, TTL_SECONDS};
use postern_model::endpoint::EndpointState;
use postern_model::id::{EndpointId, HostId, ServiceId};
use postern_model::security::{IngressRule, PortRange};
use postern_model::zone::{ZoneId, ZoneName};
use sqlx::{FromRow, PgConnection};

use super::{Naming, stored};
use crate::error::{Error, Result};
use crate::store::sql;

/// The objects that these keys stand for, as far as `host` has them. In no order.
pub(super) async fn read(
    db: &mut PgConnection,
    naming: &Naming,
    host: HostId,
    keys: &BTreeSet<Key>,
) -> Result<Vec<Object>> {
    let (mut attachments, mut interfaces) = (Vec::new(), Vec::new());
    let (mut vpcs, mut endpoints) = (Vec::new(), Vec::new());
    for key in keys {
        match key {
            Key::Attachment(id) => attachments.push(id.to_string()),
            Key::Interface(id) => interfaces.push(id.to_string()),
            Key::Names(vpc, endpoint) => {
                vpcs.push(vpc.to_string());
                endpoints.push(endpoint.to_string());
            }
        }
    }
    let host = host.to_string();
    let mut objects = Vec::with_capacity(keys.len());
    if !attachments.is_empty() {
        read_attachments(db, &host, &attachments, &mut objects).await?;
    }
    if !interfaces.is_empty() {
        read_interfaces(db, &host, &interfaces, &mut objects).await?;
    }
    if !endpoints.is_empty() {
        read_names(db, naming, &host, (&vpcs, &endpoints), &mut objects).await?;
    }
    Ok(objects)
}

async fn read_attachments(
    db: &mut PgConnection,
    host: &str,
    ids: &[String],
    objects: &mut Vec<Object>,
) -> Result<()> {
    type Row = (String, String, String, bool, String, Option<String>, Option<String>);
    let rows: Vec<Row> =
        sqlx::query_as(sql!("state/attachments")).bind(host).bind(ids).fetch_all(db).await?;
    for (id, vpc, cidr, dns_support, kind, address, namespace) in rows {
        let kind = match (kind.as_str(), address, namespace) {
            ("loopback", _, _) => AttachmentKind::Loopback,
            ("interface", Some(address), _) => {
                AttachmentKind::Interface { address: stored(&address)? }
            }
            ("namespace", _, Some(name)) => AttachmentKind::Namespace { name },
            _ => return Err(Error::internal(format!("the attachment {id} does not say how"))),
        };
        let (id, vpc, cidr) = (stored(&id)?, stored(&vpc)?, stored(&cidr)?);
        objects.push(Object::Attachment(Attachment { id, vpc, cidr, dns_support, kind }));
    }
    Ok(())
}

#[derive(FromRow)]
struct InterfaceRow(
    String,      // its id
    String,      // its endpoint
    String,      // its VPC
    String,      // its address
    i64,         // the epoch
    String,      // its zone
    String,      // the endpoint's state
    String,      // the service
    String,      // the service's VPC
    bool,        // PROXY protocol
    i32,         // idle timeout
    Vec<String>, // the endpoint's groups
);

async fn read_interfaces(
    db: &mut PgConnection,
    host: &str,
    ids: &[String],
    objects: &mut Vec<Object>,
) -> Result<()> {
    let rows: Vec<InterfaceRow> =
        sqlx::query_as(sql!("state/interfaces")).bind(host).bind(ids).fetch_all(&mut *db).await?;
    let services: BTreeSet<_> = rows.iter().map(|row| row.7.clone()).collect();
    let listeners = read_listeners(db, services).await?;
    let groups: BTreeSet<_> = rows.iter().flat_map(|row| row.11.iter().cloned()).collect();
    let rules = read_rules(db, groups).await?;
    for row in rows {
        let InterfaceRow(
            id,
            endpoint,
            vpc,
            address,
            epoch,
            zone,
            state,
            service,
            target_vpc,
            proxy_protocol_v2,
            idle_timeout,
            groups,
        ) = row;
        let state: EndpointState = stored(&state)?;
        let zone: ZoneId = stored(&zone)?;
        let offered = listeners.get(&service);
        let listeners = offered.into_iter().flatten().map(|(port, targets)| InterfaceListener {
            port: *port,
            targets: targets.iter().filter(|(at, _)| *at == zone).map(|(_, to)| *to).collect(),
        });
        // The union of the groups, each rule once, in an order that does not depend on the rows.
        let ingress: BTreeMap<_, _> = groups
            .iter()
            .filter_map(|group| rules.get(group))
            .flatten()
            .map(|rule| ((rule.source, rule.protocol, rule.ports), *rule))
            .collect();
        objects.push(Object::Interface(Interface {
            id: stored(&id)?,
            endpoint: stored(&endpoint)?,
            vpc: stored(&vpc)?,
            address: stored(&address)?,
            epoch,
            serving: state.serves(),
            ingress: ingress.into_values().collect(),
            listeners: listeners.collect(),
            target_vpc: stored(&target_vpc)?,
            proxy_protocol_v2,
            idle_timeout_seconds: u32::try_from(idle_timeout).unwrap_or(0),
        }));
    }
    Ok(())
}

/// The ports of a service in their order, each with its targets in theirs.
type Listeners = BTreeMap<u16, BTreeSet<(ZoneId, SocketAddrV4)>>;

async fn read_listeners(
    db: &mut PgConnection,
    services: BTreeSet<String>,
) -> Result<HashMap<String, Listeners>> {
    type Row = (String, i32, Option<String>, Option<i32>, Option<String>);
    let services: Vec<_> = services.into_iter().collect();
    let rows: Vec<Row> =
        sqlx::query_as(sql!("state/targets")).bind(&services).fetch_all(db).await?;
    let mut listeners: HashMap<String, Listeners> = HashMap::new();
    for (service, number, address, to, zone) in rows {
        let targets = listeners.entry(service).or_default().entry(port(number)?).or_default();
        if let (Some(address), Some(to), Some(zone)) = (address, to, zone) {
            let address: Ipv4Addr = stored(&address)?;
            targets.insert((stored(&zone)?, SocketAddrV4::new(address, port(to)?)));
        }
    }
    Ok(listeners)
}

async fn read_rules(
    db: &mut PgConnection,
    groups: BTreeSet<String>,
) -> Result<HashMap<String, Vec<IngressRule>>> {
    let groups: Vec<_> = groups.into_iter().collect();
    let rows: Vec<(String, String, String, i32, i32)> =
        sqlx::query_as(sql!("state/rules")).bind(&groups).fetch_all(db).await?;
    let mut rules: HashMap<String, Vec<IngressRule>> = HashMap::new();
    for (group, source, protocol, from, to) in rows {
        let ports = PortRange::new(port(from)?, port(to)?)
            .map_err(|_| Error::internal(format!("a rule of {group} ends before it begins")))?;
        let rule = IngressRule { source: stored(&source)?, protocol: stored(&protocol)?, ports };
        rules.entry(group).or_default().push(rule);
    }
    Ok(rules)
}

fn port(number: i32) -> Result<u16> {
    u16::try_from(number).map_err(|_| Error::internal(format!("{number} is no port")))
}

#[derive(FromRow)]
struct NamesRow(
    String,         // the endpoint
    String,         // the VPC
    String,         // the service
    String,         // the label
    bool,           // published
    Option<String>, // the private name
    bool,           // whether the VPC takes private names
);

/// An address of an endpoint, and what its owner calls the zone.
struct Address {
    zone: ZoneName,
    address: Ipv4Addr,
    bound: bool,
}

async fn read_names(
    db: &mut PgConnection,
    naming: &Naming,
    host: &str,
    (vpcs, endpoints): (&[String], &[String]),
    objects: &mut Vec<Object>,
) -> Result<()> {
    let rows: Vec<NamesRow> = sqlx::query_as(sql!("state/names"))
        .bind(host)
        .bind(vpcs)
        .bind(endpoints)
        .fetch_all(&mut *db)
        .await?;
    let published: Vec<_> = rows.iter().filter(|row| row.4).map(|row| row.0.clone()).collect();
    let mut addresses: HashMap<String, Vec<Address>> = HashMap::new();
    if !published.is_empty() {
        let rows: Vec<(String, String, bool, String)> =
            sqlx::query_as(sql!("state/addresses")).bind(&published).fetch_all(db).await?;
        for (endpoint, address, bound, zone) in rows {
            let address = Address { zone: stored(&zone)?, address: stored(&address)?, bound };
            addresses.entry(endpoint).or_default().push(address);
        }
    }
    for row in rows {
        let NamesRow(endpoint, vpc, service, label, published, private, takes_private) = row;
        let mut addresses = addresses.remove(&endpoint).unwrap_or_default();
        addresses.sort_by(|one, other| (&one.zone, one.address).cmp(&(&other.zone, other.address)));
        let private = private.filter(|_| published && takes_private);
        let private: Option<PrivateDnsName> = private.as_deref().map(stored).transpose()?;
        let endpoint: EndpointId = stored(&endpoint)?;
        let (service, label): (ServiceId, Label) = (stored(&service)?, stored(&label)?);
        let base = naming.suffixes.base_name(&naming.region, service);
        let regional = base.regional(endpoint, label);
        let mut records = vec![record(&regional, RecordData::Addresses(in_use(&addresses)))];
        for Address { zone, address, .. } in &addresses {
            let name = base.zonal(endpoint, label, zone);
            records.push(record(&name, RecordData::Addresses(vec![*address])));
        }
        if let Some(private) = &private {
            records.push(record(private.as_str(), RecordData::Alias(regional)));
        }
        objects.push(Object::Names(Names {
            vpc: stored(&vpc)?,
            endpoint,
            records,
            base_name: base.to_string(),
            private_zone: private.map(|name| name.zone().to_owned()),
        }));
    }
    Ok(())
}

fn record(name: &str, data: RecordData) -> Record {
    Record { name: name.to_owned(), ttl_seconds: TTL_SECONDS, data }
}

/// The addresses that the regional name leads to: those bound on their hosts. When none is, all: what
/// we know may be older than what is (spec 3.3). Zonal names keep theirs either way.
fn in_use(addresses: &[Address]) -> Vec<Ipv4Addr> {
    let none_bound = addresses.iter().all(|address| !address.bound);
    addresses
        .iter()
        .filter(|address| address.bound || none_bound)
        .map(|address| address.address)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8, bound: bool) -> Address {
        Address {
            zone: "us-east-1a".parse().unwrap(),
            address: Ipv4Addr::new(10, 0, 0, last),
            bound,
        }
    }

    #[test]
    fn the_regional_name_leaves_out_what_is_not_bound_unless_nothing_is() {
        let addresses = [address(1, true), address(2, false)];
        assert_eq!(in_use(&addresses), [Ipv4Addr::new(10, 0, 0, 1)]);
        assert_eq!(in_use(&[address(1, false), address(2, false)]).len(), 2);
        assert!(in_use(&[]).is_empty());
    }
}
