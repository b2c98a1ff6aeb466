//! The desired state of a host on the wire.

use std::collections::BTreeMap;
use std::collections::HashMap;

use postern_model::InvalidField;
use postern_model::desired::{
    Attachment, AttachmentKind, Change, Digest, HostState, Interface, InterfaceListener, Key,
    Names, Object, Record, RecordData,
};
use postern_model::field::parse;
use postern_model::security::{IngressRule, PortRange};

use crate::agent::v1;

/// A snapshot as it goes out.
pub fn snapshot(state: &HostState, trace_context: BTreeMap<String, String>) -> v1::Snapshot {
    let objects = Objects::of(state.objects().cloned());
    v1::Snapshot {
        generation: state.generation,
        digest: state.digest().as_bytes().to_vec().into(),
        attachments: objects.attachments,
        interfaces: objects.interfaces,
        names: objects.names,
        trace_context: trace_context.into_iter().collect(),
    }
}

/// A snapshot as it comes in: the state, its digest, and the trace context of what caused it.
///
/// # Errors
///
/// The first field that is not well formed.
pub fn read_snapshot(
    snapshot: v1::Snapshot,
) -> Result<(HostState, Digest, BTreeMap<String, String>), InvalidField> {
    let v1::Snapshot { generation, digest, attachments, interfaces, names, trace_context } =
        snapshot;
    let digest = Digest::from_slice(&digest)
        .ok_or_else(|| InvalidField::new("digest", "must have 32 bytes"))?;
    let objects = read_objects(attachments, interfaces, names)?;
    Ok((HostState::new(generation, objects), digest, context(trace_context)))
}

/// A change as it goes out.
pub fn delta(change: &Change, trace_context: BTreeMap<String, String>) -> v1::Delta {
    let objects = Objects::of(change.upserts.iter().cloned());
    let mut delta = v1::Delta {
        from_generation: change.from,
        generation: change.to,
        attachments: objects.attachments,
        interfaces: objects.interfaces,
        names: objects.names,
        trace_context: trace_context.into_iter().collect(),
        ..v1::Delta::default()
    };
    for key in &change.removals {
        match key {
            Key::Attachment(id) => delta.removed_attachments.push(id.to_string()),
            Key::Interface(id) => delta.removed_interfaces.push(id.to_string()),
            Key::Names(vpc, endpoint) => delta.removed_names.push(v1::NamesKey {
                vpc_id: vpc.to_string(),
                vpc_endpoint_id: endpoint.to_string(),
            }),
        }
    }
    delta
}

/// A change as it comes in, and the trace context of what caused it.
///
/// # Errors
///
/// The first field that is not well formed.
pub fn read_delta(delta: v1::Delta) -> Result<(Change, BTreeMap<String, String>), InvalidField> {
    let v1::Delta {
        from_generation,
        generation,
        attachments,
        interfaces,
        names,
        removed_attachments,
        removed_interfaces,
        removed_names,
        trace_context,
    } = delta;
    let mut removals = Vec::new();
    for id in removed_attachments {
        removals.push(Key::Attachment(parse("removed_attachments", &id)?));
    }
    for id in removed_interfaces {
        removals.push(Key::Interface(parse("removed_interfaces", &id)?));
    }
    for v1::NamesKey { vpc_id, vpc_endpoint_id } in removed_names {
        removals.push(Key::Names(
            parse("removed_names.vpc_id", &vpc_id)?,
            parse("removed_names.vpc_endpoint_id", &vpc_endpoint_id)?,
        ));
    }
    let upserts = read_objects(attachments, interfaces, names)?;
    let change = Change { from: from_generation, to: generation, upserts, removals };
    Ok((change, context(trace_context)))
}

fn context(map: HashMap<String, String>) -> BTreeMap<String, String> {
    map.into_iter().collect()
}

#[derive(Default)]
struct Objects {
    attachments: Vec<v1::Attachment>,
    interfaces: Vec<v1::Interface>,
    names: Vec<v1::Names>,
}

impl Objects {
    fn of(objects: impl Iterator<Item = Object>) -> Self {
        let mut this = Self::default();
        for object in objects {
            match object {
                Object::Attachment(attachment) => this.attachments.push(attachment.into()),
                Object::Interface(interface) => this.interfaces.push(interface.into()),
                Object::Names(names) => this.names.push(names.into()),
            }
        }
        this
    }
}

fn read_objects(
    attachments: Vec<v1::Attachment>,
    interfaces: Vec<v1::Interface>,
    names: Vec<v1::Names>,
) -> Result<Vec<Object>, InvalidField> {
    let mut objects = Vec::with_capacity(attachments.len() + interfaces.len() + names.len());
    for attachment in attachments {
        objects.push(Object::Attachment(attachment.try_into()?));
    }
    for interface in interfaces {
        objects.push(Object::Interface(interface.try_into()?));
    }
    for names in names {
        objects.push(Object::Names(names.try_into()?));
    }
    Ok(objects)
}

impl From<Attachment> for v1::Attachment {
    fn from(attachment: Attachment) -> Self {
        let Attachment { id, vpc, cidr, dns_support, kind } = attachment;
        Self {
            attachment_id: id.to_string(),
            vpc_id: vpc.to_string(),
            cidr_block: cidr.to_string(),
            dns_support,
            kind: Some(match kind {
                AttachmentKind::Loopback => v1::attachment::Kind::Loopback(v1::Loopback {}),
                AttachmentKind::Interface { address } => {
                    let address = address.to_string();
                    v1::attachment::Kind::Interface(v1::HostInterface { address })
                }
                AttachmentKind::Namespace { name } => {
                    v1::attachment::Kind::Namespace(v1::Namespace { name })
                }
            }),
        }
    }
}

impl TryFrom<v1::Attachment> for Attachment {
    type Error = InvalidField;

    fn try_from(attachment: v1::Attachment) -> Result<Self, InvalidField> {
        let v1::Attachment { attachment_id, vpc_id, cidr_block, dns_support, kind } = attachment;
        let kind = match kind {
            Some(v1::attachment::Kind::Loopback(v1::Loopback {})) => AttachmentKind::Loopback,
            Some(v1::attachment::Kind::Interface(v1::HostInterface { address })) => {
                AttachmentKind::Interface { address: parse("interface.address", &address)? }
            }
            Some(v1::attachment::Kind::Namespace(v1::Namespace { name })) => {
                AttachmentKind::Namespace { name }
            }
            None => return Err(InvalidField::new("kind", "is missing")),
        };
        Ok(Self {
            id: parse("attachment_id", &attachment_id)?,
            vpc: parse("vpc_id", &vpc_id)?,
            cidr: parse("cidr_block", &cidr_block)?,
            dns_support,
            kind,
        })
    }
}

impl From<Interface> for v1::Interface {
    fn from(interface: Interface) -> Self {
        let Interface {
            id,
            endpoint,
            vpc,
            address,
            epoch,
            serving,
            ingress,
            listeners,
            target_vpc,
            proxy_protocol_v2,
            idle_timeout_seconds,
        } = interface;
        Self {
            network_interface_id: id.to_string(),
            vpc_endpoint_id: endpoint.to_string(),
            vpc_id: vpc.to_string(),
            address: address.to_string(),
            epoch,
            serving,
            ingress: ingress.into_iter().map(Into::into).collect(),
            listeners: listeners.into_iter().map(Into::into).collect(),
            target_vpc_id: target_vpc.to_string(),
            proxy_protocol_v2,
            idle_timeout_seconds,
        }
    }
}

impl TryFrom<v1::Interface> for Interface {
    type Error = InvalidField;

    fn try_from(interface: v1::Interface) -> Result<Self, InvalidField> {
        let v1::Interface {
            network_interface_id,
            vpc_endpoint_id,
            vpc_id,
            address,
            epoch,
            serving,
            ingress,
            listeners,
            target_vpc_id,
            proxy_protocol_v2,
            idle_timeout_seconds,
        } = interface;
        Ok(Self {
            id: parse("network_interface_id", &network_interface_id)?,
            endpoint: parse("vpc_endpoint_id", &vpc_endpoint_id)?,
            vpc: parse("vpc_id", &vpc_id)?,
            address: parse("address", &address)?,
            epoch,
            serving,
            ingress: ingress.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            listeners: listeners.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            target_vpc: parse("target_vpc_id", &target_vpc_id)?,
            proxy_protocol_v2,
            idle_timeout_seconds,
        })
    }
}

impl From<IngressRule> for v1::IngressRule {
    fn from(rule: IngressRule) -> Self {
        let IngressRule { source, protocol, ports } = rule;
        Self {
            cidr_ipv4: source.to_string(),
            ip_protocol: protocol.to_string(),
            from_port: u32::from(ports.first()),
            to_port: u32::from(ports.last()),
        }
    }
}

impl TryFrom<v1::IngressRule> for IngressRule {
    type Error = InvalidField;

    fn try_from(rule: v1::IngressRule) -> Result<Self, InvalidField> {
        let v1::IngressRule { cidr_ipv4, ip_protocol, from_port, to_port } = rule;
        let ports = PortRange::new(port("from_port", from_port)?, port("to_port", to_port)?)
            .map_err(|empty| InvalidField::new("to_port", empty.to_string()))?;
        Ok(Self {
            source: parse("cidr_ipv4", &cidr_ipv4)?,
            protocol: parse("ip_protocol", &ip_protocol)?,
            ports,
        })
    }
}

fn port(field: &str, port: u32) -> Result<u16, InvalidField> {
    u16::try_from(port).map_err(|_| InvalidField::new(field, "must be 0 to 65535"))
}

impl From<InterfaceListener> for v1::InterfaceListener {
    fn from(listener: InterfaceListener) -> Self {
        let InterfaceListener { port, targets } = listener;
        let targets = targets.into_iter().map(|target| target.to_string()).collect();
        Self { port: u32::from(port), targets }
    }
}

impl TryFrom<v1::InterfaceListener> for InterfaceListener {
    type Error = InvalidField;

    fn try_from(listener: v1::InterfaceListener) -> Result<Self, InvalidField> {
        let v1::InterfaceListener { port: number, targets } = listener;
        let targets =
            targets.iter().map(|target| parse("targets", target)).collect::<Result<_, _>>()?;
        Ok(Self { port: port("port", number)?, targets })
    }
}

impl From<Names> for v1::Names {
    fn from(names: Names) -> Self {
        let Names { vpc, endpoint, records, base_name, private_zone } = names;
        Self {
            vpc_id: vpc.to_string(),
            vpc_endpoint_id: endpoint.to_string(),
            records: records.into_iter().map(Into::into).collect(),
            base_name,
            private_zone: private_zone.unwrap_or_default(),
        }
    }
}

impl TryFrom<v1::Names> for Names {
    type Error = InvalidField;

    fn try_from(names: v1::Names) -> Result<Self, InvalidField> {
        let v1::Names { vpc_id, vpc_endpoint_id, records, base_name, private_zone } = names;
        Ok(Self {
            vpc: parse("vpc_id", &vpc_id)?,
            endpoint: parse("vpc_endpoint_id", &vpc_endpoint_id)?,
            records: records.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            base_name,
            private_zone: (!private_zone.is_empty()).then_some(private_zone),
        })
    }
}

impl From<Record> for v1::Record {
    fn from(record: Record) -> Self {
        let Record { name, ttl_seconds, data } = record;
        let (addresses, alias) = match data {
            RecordData::Addresses(addresses) => {
                (addresses.into_iter().map(|address| address.to_string()).collect(), String::new())
            }
            RecordData::Alias(alias) => (Vec::new(), alias),
        };
        Self { name, ttl_seconds, addresses, alias }
    }
}

impl TryFrom<v1::Record> for Record {
    type Error = InvalidField;

    fn try_from(record: v1::Record) -> Result<Self, InvalidField> {
        let v1::Record { name, ttl_seconds, addresses, alias } = record;
        let data = if alias.is_empty() {
            let addresses = addresses.iter().map(|address| parse("addresses", address));
            RecordData::Addresses(addresses.collect::<Result<_, _>>()?)
        } else if addresses.is_empty() {
            RecordData::Alias(alias)
        } else {
            return Err(InvalidField::new("alias", "must not come with addresses"));
        };
        Ok(Self { name, ttl_seconds, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> HostState {
        let vpc = "vpc-00000000000000001".parse().unwrap();
        let endpoint = "vpce-00000000000000002".parse().unwrap();
        HostState::new(
            7,
            [
                Object::Attachment(Attachment {
                    id: "hatt-00000000000000003".parse().unwrap(),
                    vpc,
                    cidr: "10.0.0.0/16".parse().unwrap(),
                    dns_support: true,
                    kind: AttachmentKind::Interface { address: "10.0.0.9".parse().unwrap() },
                }),
                Object::Interface(Interface {
                    id: "eni-00000000000000004".parse().unwrap(),
                    endpoint,
                    vpc,
                    address: "10.0.0.4".parse().unwrap(),
                    epoch: 2,
                    serving: true,
                    ingress: vec![IngressRule {
                        source: "10.0.0.0/16".parse().unwrap(),
                        protocol: "tcp".parse().unwrap(),
                        ports: PortRange::new(80, 90).unwrap(),
                    }],
                    listeners: vec![InterfaceListener {
                        port: 80,
                        targets: vec!["10.1.0.5:8080".parse().unwrap()],
                    }],
                    target_vpc: "vpc-00000000000000005".parse().unwrap(),
                    proxy_protocol_v2: true,
                    idle_timeout_seconds: 350,
                }),
                Object::Names(Names {
                    vpc,
                    endpoint,
                    records: vec![
                        Record {
                            name: "a.example".to_owned(),
                            ttl_seconds: 60,
                            data: RecordData::Addresses(vec!["10.0.0.4".parse().unwrap()]),
                        },
                        Record {
                            name: "b.example".to_owned(),
                            ttl_seconds: 60,
                            data: RecordData::Alias("a.example".to_owned()),
                        },
                    ],
                    base_name: "example".to_owned(),
                    private_zone: Some("b.example".to_owned()),
                }),
            ],
        )
    }

    #[test]
    fn a_snapshot_crosses_the_wire_unchanged() {
        let state = state();
        let (read, digest, context) =
            read_snapshot(snapshot(&state, BTreeMap::from([("a".to_owned(), "b".to_owned())])))
                .unwrap();
        assert_eq!(read, state);
        assert_eq!(digest, state.digest());
        assert_eq!(context.len(), 1);
    }

    #[test]
    fn a_change_crosses_the_wire_unchanged() {
        let change = Change {
            from: 6,
            to: 7,
            upserts: state().objects().cloned().collect(),
            removals: state().objects().map(Object::key).collect(),
        };
        assert_eq!(read_delta(delta(&change, BTreeMap::new())).unwrap().0, change);
    }
}
