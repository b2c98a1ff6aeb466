//! Attachments: which VPCs a host reaches, and how (design 8).

use ipnet::Ipv4Net;
use postern_model::Code;
use postern_model::id::{AttachmentId, HostId, VpcId};
use postern_model::net::Cidr;
use postern_proto::page::Page;

use super::App;
use super::hosts::unknown_host;
use super::vpcs::{still_in_use, unknown_vpc};
use crate::caller::Caller;
use crate::error::{Error, Result, violated};
use crate::pokes::Poke;
use crate::store::fleet::{self, Touched};
use crate::store::hosts::{self, AttachmentRow, Reach};
use crate::store::vpcs;

/// Asks to attach a VPC, of any account, to a host.
#[derive(Clone, Debug)]
pub struct CreateAttachment {
    /// The host.
    pub host: HostId,
    /// The VPC.
    pub vpc: VpcId,
    /// How the host reaches the VPC.
    pub reach: Reach,
}

impl App {
    /// Says that a host reaches a VPC, and how.
    ///
    /// # Errors
    ///
    /// `InvalidHostID.NotFound`, `InvalidVpcID.NotFound`; a VPC that is not in 127.0.0.0/8 over
    /// loopback, or one that is over an interface (`InvalidParameterCombination`);
    /// `InvalidAttachment.Conflict` when the host reaches the VPC already, or another one with some of
    /// the same addresses outside namespaces; anybody but the operator asking; the database away.
    pub async fn create_attachment(
        &self,
        caller: &Caller,
        command: CreateAttachment,
    ) -> Result<AttachmentRow> {
        caller.operator()?;
        let CreateAttachment { host, vpc, reach } = command;
        let mut tx = self.store.begin().await?;
        // The VPC before the host: the order of locks. The host's is taken here, since what follows
        // holds it by its foreign key, and two who do that can't both go on to lock it.
        let range = vpcs::lock_any(&mut tx, vpc).await?.ok_or_else(|| unknown_vpc(vpc))?.cidr;
        if !hosts::lock(&mut tx, host).await? {
            return Err(unknown_host(host));
        }
        fits(&reach, range)?;
        let id = AttachmentId::generate(&mut rand::rng());
        let made = hosts::insert_attachment(&mut tx, id, host, (vpc, range), &reach).await;
        let attachment = made.map_err(|error| match violated(&error) {
            Some("host_attachment_once") => Error::refused(
                Code::InvalidAttachmentConflict,
                format!("the host '{host}' is attached to the VPC '{vpc}' already"),
            ),
            Some("host_attachments_outside_namespaces_do_not_overlap") => Error::refused(
                Code::InvalidAttachmentConflict,
                format!(
                    "the host '{host}' reaches another VPC with addresses of {range}: only network \
                     namespaces keep them apart"
                ),
            ),
            _ => error.into(),
        })?;
        let mut touched = Touched::default();
        touched.attachment(host, id, vpc);
        let hosts = fleet::advance(&mut tx, &touched, &super::trace_context()).await?;
        tx.commit().await?;
        self.poke_hosts(&hosts);
        // Interfaces without a host may have found one.
        self.pokes.poke(Poke::Reconcile);
        Ok(attachment)
    }

    /// Lists attachments, of one host or VPC when given.
    ///
    /// # Errors
    ///
    /// Anybody but the operator asking; the database away.
    pub async fn list_attachments(
        &self,
        caller: &Caller,
        host: Option<HostId>,
        vpc: Option<VpcId>,
        page: &Page,
    ) -> Result<(Vec<AttachmentRow>, String)> {
        caller.operator()?;
        let mut db = self.store.acquire().await?;
        let mut attachments = hosts::list_attachments(&mut db, host, vpc, page).await?;
        let next = page.cut(&mut attachments, |attachment| attachment.id.to_string());
        Ok((attachments, next))
    }

    /// Takes an attachment away that no interface on the host depends on.
    ///
    /// # Errors
    ///
    /// `InvalidAttachmentID.NotFound`, `DependencyViolation`; anybody but the operator asking; the
    /// database away.
    pub async fn delete_attachment(&self, caller: &Caller, id: AttachmentId) -> Result<()> {
        caller.operator()?;
        let mut tx = self.store.begin().await?;
        let locked = hosts::lock_attachment(&mut tx, id).await?;
        let (host, vpc) = locked.ok_or_else(|| unknown_attachment(id))?;
        hosts::lock(&mut tx, host).await?;
        if hosts::depends_on_attachment(&mut tx, host, vpc).await? {
            return Err(still_in_use(
                &format!("the attachment '{id}'"),
                &["a network interface".to_owned()],
            ));
        }
        if !hosts::delete_attachment(&mut tx, id).await? {
            return Err(unknown_attachment(id));
        }
        let mut touched = Touched::default();
        touched.attachment(host, id, vpc);
        let hosts = fleet::advance(&mut tx, &touched, &super::trace_context()).await?;
        tx.commit().await?;
        self.poke_hosts(&hosts);
        Ok(())
    }
}

/// Checks that a VPC of this range can be reached like this.
fn fits(reach: &Reach, range: Cidr) -> Result<()> {
    let loopback = Ipv4Net::new_assert([127, 0, 0, 0].into(), 8);
    let bad = |reason: String| Error::of_field(Code::InvalidParameterCombination, "kind", reason);
    match (reach, loopback.contains(&range.net())) {
        (Reach::Loopback, false) => {
            Err(bad(format!("loopback reaches only VPCs in {loopback}, and this one has {range}")))
        }
        (Reach::Interface(_), true) => Err(bad(format!(
            "an interface can't have addresses of {loopback}, and this VPC has {range}"
        ))),
        _ => Ok(()),
    }
}

fn unknown_attachment(id: AttachmentId) -> Error {
    Error::refused(Code::InvalidAttachmentNotFound, format!("the attachment '{id}' does not exist"))
}
