//! What agents say, read from the wire. No generated type goes further than this.

use postern_model::desired::Digest;
use postern_model::field::{InvalidField, parse};
use postern_model::id::AttachmentId;
use postern_proto::agent::v1;

use crate::store::reports::{Status, Usage};

/// Generations are counted, so a number like this is no count.
const GENERATION_MAX: i64 = 1 << 53;
/// The longest text of an error, a reason or a version that is kept, in bytes.
const TEXT_MAX: usize = 1024;

/// Something that an agent says.
#[derive(Debug)]
pub(super) enum Said {
    Hello(Hello),
    Applied(Applied),
    Refused { generation: i64, reason: String },
    Report(Report),
}

/// An agent introduces itself.
#[derive(Debug)]
pub(super) struct Hello {
    /// The generation that it holds; 0 when none.
    pub(super) generation: i64,
    /// The digest of what it holds.
    pub(super) digest: Option<Digest>,
    pub(super) agent_version: String,
    pub(super) interfaces: Vec<Status>,
    pub(super) resolvers: Vec<(AttachmentId, String)>,
}

/// A state offered is in effect.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) generation: i64,
    pub(super) interfaces: Vec<Status>,
    pub(super) resolvers: Vec<(AttachmentId, String)>,
}

/// What a host is doing.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) boot: String,
    pub(super) usage: Vec<Usage>,
    pub(super) interfaces: Vec<Status>,
}

impl TryFrom<v1::FollowRequest> for Said {
    type Error = InvalidField;

    fn try_from(request: v1::FollowRequest) -> Result<Self, InvalidField> {
        use v1::follow_request::Message;
        let v1::FollowRequest { message } = request;
        match message.ok_or_else(|| InvalidField::new("message", "is missing"))? {
            Message::Hello(hello) => hello.try_into().map(Self::Hello),
            Message::Applied(applied) => applied.try_into().map(Self::Applied),
            Message::Refused(v1::Refused { generation, reason }) => Ok(Self::Refused {
                generation: counted("refused.generation", generation)?,
                reason: cut(reason),
            }),
            Message::Report(report) => report.try_into().map(Self::Report),
        }
    }
}

impl TryFrom<v1::Hello> for Hello {
    type Error = InvalidField;

    fn try_from(hello: v1::Hello) -> Result<Self, InvalidField> {
        let v1::Hello { generation, digest, agent_version, interfaces, resolvers } = hello;
        let digest = match digest.len() {
            0 => None,
            _ => Some(
                Digest::from_slice(&digest)
                    .ok_or_else(|| InvalidField::new("hello.digest", "must have 32 bytes"))?,
            ),
        };
        Ok(Self {
            generation: counted("hello.generation", generation)?,
            digest,
            agent_version: cut(agent_version),
            interfaces: statuses("hello.interfaces", interfaces)?,
            resolvers: resolving("hello.resolvers", resolvers)?,
        })
    }
}

impl TryFrom<v1::Applied> for Applied {
    type Error = InvalidField;

    fn try_from(applied: v1::Applied) -> Result<Self, InvalidField> {
        let v1::Applied { generation, interfaces, resolvers } = applied;
        Ok(Self {
            generation: counted("applied.generation", generation)?,
            interfaces: statuses("applied.interfaces", interfaces)?,
            resolvers: resolving("applied.resolvers", resolvers)?,
        })
    }
}

impl TryFrom<v1::Report> for Report {
    type Error = InvalidField;

    fn try_from(report: v1::Report) -> Result<Self, InvalidField> {
        let v1::Report { usage, boot_id, interfaces } = report;
        let mut meters = Vec::with_capacity(usage.len());
        for (index, usage) in usage.into_iter().enumerate() {
            let v1::InterfaceUsage {
                network_interface_id,
                bytes_in,
                bytes_out,
                active_connections,
                total_connections,
                failed_connections,
            } = usage;
            let field = format!("report.usage[{index}].network_interface_id");
            meters.push(Usage {
                interface: parse(&field, &network_interface_id)?,
                bytes_in,
                bytes_out,
                active: active_connections,
                total: total_connections,
                failed: failed_connections,
            });
        }
        let interfaces = statuses("report.interfaces", interfaces)?;
        Ok(Self { boot: cut(boot_id), usage: meters, interfaces })
    }
}

fn statuses(field: &str, said: Vec<v1::InterfaceStatus>) -> Result<Vec<Status>, InvalidField> {
    let mut statuses = Vec::with_capacity(said.len());
    for (index, status) in said.into_iter().enumerate() {
        let v1::InterfaceStatus { network_interface_id, epoch, bound, error } = status;
        let field = format!("{field}[{index}].network_interface_id");
        let interface = parse(&field, &network_interface_id)?;
        statuses.push(Status { interface, epoch, bound, error: cut(error) });
    }
    Ok(statuses)
}

/// Where resolvers listen. Why one does not is in the agent's log and its metrics.
fn resolving(
    field: &str,
    said: Vec<v1::ResolverStatus>,
) -> Result<Vec<(AttachmentId, String)>, InvalidField> {
    let mut resolvers = Vec::with_capacity(said.len());
    for (index, resolver) in said.into_iter().enumerate() {
        let v1::ResolverStatus { attachment_id, endpoint, error } = resolver;
        let attachment = parse(&format!("{field}[{index}].attachment_id"), &attachment_id)?;
        if !error.is_empty() {
            let error = cut(error);
            tracing::warn!(%attachment, error, "a host can't open the resolver of a VPC");
        }
        resolvers.push((attachment, cut(endpoint)));
    }
    Ok(resolvers)
}

fn counted(field: &str, generation: i64) -> Result<i64, InvalidField> {
    if (0..GENERATION_MAX).contains(&generation) {
        return Ok(generation);
    }
    Err(InvalidField::new(field, format!("{generation} can't be a count of changes")))
}

/// At most [`TEXT_MAX`] bytes of a text, without the zero bytes that Postgres does not take.
fn cut(mut text: String) -> String {
    text.retain(|c| c != '\0');
    if text.len() > TEXT_MAX {
        let mut end = TEXT_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_and_loses_zero_bytes() {
        assert_eq!(cut("a\0b".to_owned()), "ab");
        let long = cut("ä".repeat(TEXT_MAX));
        assert!(long.len() <= TEXT_MAX && long.chars().all(|c| c == 'ä'));
    }

    #[test]
    fn what_can_not_be_a_generation_is_refused_by_its_field() {
        let hello = v1::Hello { generation: -1, ..v1::Hello::default() };
        assert_eq!(Hello::try_from(hello).unwrap_err().field, "hello.generation");
        let refused = v1::Refused { generation: i64::MAX, reason: String::new() };
        let request =
            v1::FollowRequest { message: Some(v1::follow_request::Message::Refused(refused)) };
        assert_eq!(Said::try_from(request).unwrap_err().field, "refused.generation");
    }

    #[test]
    fn a_malformed_status_is_named_with_its_place() {
        let good = v1::InterfaceStatus {
            network_interface_id: "eni-00000000000000001".to_owned(),
            ..v1::InterfaceStatus::default()
        };
        let bad = v1::InterfaceStatus::default();
        let fault = statuses("applied.interfaces", vec![good, bad]).unwrap_err();
        assert_eq!(fault.field, "applied.interfaces[1].network_interface_id");
    }
}
