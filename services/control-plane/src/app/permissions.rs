//! Who may ask for a connection to a service (spec 1.10 and 6).

use postern_model::Code;
use postern_model::id::{ServiceId, ServicePermissionId};
use postern_model::principal::PrincipalPattern;
use postern_proto::page::Page;

use super::App;
use super::services::no_service;
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::store::permissions::{self, Permission};
use crate::store::services::{self, Hold};

/// Asks to change who may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModifyPermissions {
    /// The service.
    pub service: ServiceId,
    /// Principals to allow; those that are allowed don't matter.
    pub add: Vec<PrincipalPattern>,
    /// Principals to allow no longer; those that are not allowed don't matter.
    pub remove: Vec<PrincipalPattern>,
}

impl App {
    /// Allows principals, or no longer. Connections that are there stay (spec 2.3). Returns those that
    /// were not allowed before.
    ///
    /// # Errors
    ///
    /// `InvalidVpcEndpointServiceId.NotFound`, `ResourceLimitExceeded`.
    pub async fn modify_permissions(
        &self,
        caller: &Caller,
        command: ModifyPermissions,
    ) -> Result<Vec<Permission>> {
        let owner = caller.account()?;
        let ModifyPermissions { service, add, remove } = command;
        if let Some(index) = add.iter().position(|principal| remove.contains(principal)) {
            return Err(Error::of_field(
                Code::InvalidParameterCombination,
                format!("add_allowed_principals[{index}]"),
                format!("{} is to be added and removed at once", add[index]),
            ));
        }
        let mut tx = self.store.begin().await?;
        if services::lock(&mut tx, owner, &[service], Hold::Update).await?.is_empty() {
            return Err(no_service(service));
        }
        if !remove.is_empty() {
            permissions::remove(&mut tx, service, &remove).await?;
        }
        let mut added = Vec::new();
        if !add.is_empty() {
            let mut new: Vec<Permission> = Vec::with_capacity(add.len());
            for principal in add {
                if new.iter().all(|one| one.principal != principal) {
                    let id = ServicePermissionId::generate(&mut rand::rng());
                    new.push(Permission { id, principal });
                }
            }
            added = permissions::add(&mut tx, service, &new).await?;
            let quota = self.settings.quotas.principals_per_service;
            if permissions::count(&mut tx, service).await? > i64::from(quota) {
                let message = format!("a service allows at most {quota} principals");
                return Err(Error::refused(Code::ResourceLimitExceeded, message));
            }
        }
        tx.commit().await?;
        Ok(added)
    }

    /// A page of the principals that a service of the caller's allows, by id of the permission.
    ///
    /// # Errors
    ///
    /// `InvalidVpcEndpointServiceId.NotFound`.
    pub async fn permissions(
        &self,
        caller: &Caller,
        service: ServiceId,
        page: &Page,
    ) -> Result<Vec<Permission>> {
        let owner = caller.account()?;
        let mut db = self.store.acquire().await?;
        if services::find(&mut db, owner, service).await?.is_none() {
            return Err(no_service(service));
        }
        permissions::list(&mut db, service, page.after.as_deref(), page.limit()).await
    }
}
