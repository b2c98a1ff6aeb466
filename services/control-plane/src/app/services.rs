//! Endpoint services: the provider's side (spec 1.5 to 1.9).

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use postern_model::dns::{PrivateDnsName, ServiceName, Suffixes};
use postern_model::id::{ServiceId, VpcId};
use postern_model::service::{self, LISTENERS_MAX, Listener, TARGETS_MAX, Target};
use postern_model::zone::{ZoneId, ZoneName};
use postern_model::{AccountId, Code};
use postern_proto::page::Page;
use sqlx::PgConnection;

use super::App;
use super::client_tokens::{Asked, ClientToken, mismatch};
use super::endpoints::no_such_service;
use super::events::Word;
use super::items::Unsuccessful;
use super::trace_context;
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::store::client_tokens::{Claim, Fingerprint};
use crate::store::fleet::Touched;
use crate::store::services::{Hold, OfferedService, ServiceRow};
use crate::store::{fleet, services};

/// A service as its owner is shown it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its row.
    pub row: ServiceRow,
    /// Its ports and targets.
    pub listeners: Vec<Listener>,
    /// The zones that it is offered in, by id and as its owner names them.
    pub zones: Vec<(ZoneId, ZoneName)>,
}

/// A target as it is asked for, its zone not read yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedTarget {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its port.
    pub port: u16,
    /// Its zone, by id or as the provider's account names it.
    pub zone: String,
}

/// A listener as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedListener {
    /// The port.
    pub port: u16,
    /// The targets.
    pub targets: Vec<WantedTarget>,
}

/// Asks to publish a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateService {
    /// The provider's VPC.
    pub vpc: VpcId,
    /// The ports and targets.
    pub listeners: Vec<WantedListener>,
    /// Whether the provider decides on each request.
    pub acceptance_required: bool,
    /// A name that consumers may use within their VPCs.
    pub private_dns_name: Option<String>,
    /// Whether targets get a PROXY protocol v2 header.
    pub proxy_protocol_v2: bool,
    /// After how many seconds without a byte a connection is reset.
    pub idle_timeout_seconds: u32,
    /// Makes a repeat harmless.
    pub client_token: Option<ClientToken>,
}

/// Asks to change a service. What is absent stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModifyService {
    /// The service.
    pub id: ServiceId,
    /// Whether the provider decides on each later request.
    pub acceptance_required: Option<bool>,
    /// All the ports and targets, when not empty.
    pub listeners: Vec<WantedListener>,
    /// The new private name.
    pub private_dns_name: Option<String>,
    /// Takes the private name away.
    pub remove_private_dns_name: bool,
    /// Whether targets get a PROXY protocol v2 header.
    pub proxy_protocol_v2: Option<bool>,
    /// After how many seconds without a byte a connection is reset.
    pub idle_timeout_seconds: Option<u32>,
}

impl CreateService {
    fn fingerprint(&self) -> Fingerprint {
        let listeners: Vec<_> = self.listeners.iter().map(|one| format!("{one:?}")).collect();
        let name: Vec<_> = self.private_dns_name.iter().cloned().collect();
        Fingerprint::of(&[
            &[self.vpc.to_string()],
            &listeners,
            &[self.acceptance_required.to_string()],
            &name,
            &[self.proxy_protocol_v2.to_string()],
            &[self.idle_timeout_seconds.to_string()],
        ])
    }
}

impl App {
    /// Publishes a service. Nobody but its owner may connect until principals are allowed.
    ///
    /// # Errors
    ///
    /// `InvalidVpcID.NotFound`, what is wrong with a listener, `ResourceLimitExceeded`,
    /// `IdempotentParameterMismatch`.
    pub async fn create_service(&self, caller: &Caller, command: CreateService) -> Result<Service> {
        let owner = caller.account()?;
        let now = self.clock.now();
        let id = ServiceId::generate(&mut rand::rng());
        let mut tx = self.store.begin().await?;
        let asked = Asked {
            account: owner,
            action: "CreateVpcEndpointServiceConfiguration",
            token: command.client_token.as_ref(),
            fingerprint: command.fingerprint(),
        };
        match self.claim(&mut tx, asked, &id.to_string(), now).await? {
            Claim::First => {}
            Claim::Mismatch => return Err(mismatch()),
            Claim::Repeat(made) => {
                drop(tx);
                let made = made.parse().map_err(|_| Error::internal("a token's resource"))?;
                return self.service(caller, made).await;
            }
        }
        let held = services::count(&mut tx, owner).await?;
        let listeners =
            self.check_listeners(&mut tx, owner, command.vpc, &command.listeners).await?;
        let private_dns_name =
            command.private_dns_name.map(|name| self.check_name(&name)).transpose()?;
        let quota = self.settings.quotas.services;
        if held >= i64::from(quota) {
            let message = format!("an account has at most {quota} endpoint services");
            return Err(Error::refused(Code::ResourceLimitExceeded, message));
        }
        let row = ServiceRow {
            id,
            owner,
            vpc: command.vpc,
            name: ServiceName::endpoint(&self.settings.region, id).to_string(),
            acceptance_required: command.acceptance_required,
            private_dns_name,
            proxy_protocol_v2: command.proxy_protocol_v2,
            idle_timeout_seconds: command.idle_timeout_seconds,
            created_at: now,
        };
        services::insert(&mut tx, &row).await?;
        services::set_listeners(&mut tx, id, &listeners).await?;
        let names = services::zone_names(&mut tx, owner).await?;
        tx.commit().await?;
        Ok(shown(row, listeners, &names))
    }

    /// One of the caller's services.
    ///
    /// # Errors
    ///
    /// `InvalidVpcEndpointServiceId.NotFound`, also for another account's.
    pub async fn service(&self, caller: &Caller, id: ServiceId) -> Result<Service> {
        let owner = caller.account()?;
        let mut db = self.store.acquire().await?;
        let row = services::find(&mut db, owner, id).await?.ok_or_else(|| no_service(id))?;
        let mut shown = show(&mut db, owner, vec![row]).await?;
        shown.pop().ok_or_else(|| no_service(id))
    }

    /// A page of the caller's services, by id.
    ///
    /// # Errors
    ///
    /// The database away.
    pub async fn services(&self, caller: &Caller, page: &Page) -> Result<Vec<Service>> {
        let owner = caller.account()?;
        let mut db = self.store.acquire().await?;
        let rows = services::list(&mut db, owner, page.after.as_deref(), page.limit()).await?;
        show(&mut db, owner, rows).await
    }

    /// Changes a service. The hosts of its endpoints hear of new targets and settings; acceptance and
    /// the private name concern later requests only (spec 1.7).
    ///
    /// # Errors
    ///
    /// `InvalidVpcEndpointServiceId.NotFound`, what is wrong with a listener, and
    /// `ExistingVpcEndpointConnections` when a zone would be without targets that an endpoint has an
    /// interface in.
    pub async fn modify_service(&self, caller: &Caller, command: ModifyService) -> Result<Service> {
        let owner = caller.account()?;
        if command.remove_private_dns_name && command.private_dns_name.is_some() {
            return Err(Error::of_field(
                Code::InvalidParameterCombination,
                "remove_private_dns_name",
                "a name can't be given and taken away at once",
            ));
        }
        let mut tx = self.store.begin().await?;
        let locked = services::lock(&mut tx, owner, &[command.id], Hold::Update).await?;
        let Some(before) = locked.into_iter().next() else { return Err(no_service(command.id)) };
        let mut row = before.clone();
        if let Some(required) = command.acceptance_required {
            row.acceptance_required = required;
        }
        if let Some(name) = &command.private_dns_name {
            row.private_dns_name = Some(self.check_name(name)?);
        }
        if command.remove_private_dns_name {
            row.private_dns_name = None;
        }
        row.proxy_protocol_v2 = command.proxy_protocol_v2.unwrap_or(row.proxy_protocol_v2);
        row.idle_timeout_seconds = command.idle_timeout_seconds.unwrap_or(row.idle_timeout_seconds);
        let mut listeners =
            services::listeners(&mut tx, &[row.id]).await?.remove(&row.id).unwrap_or_default();
        let mut forwards = row.proxy_protocol_v2 != before.proxy_protocol_v2
            || row.idle_timeout_seconds != before.idle_timeout_seconds;
        let connected = services::connected(&mut tx, &[row.id]).await?;
        if !command.listeners.is_empty() {
            let new = self.check_listeners(&mut tx, owner, row.vpc, &command.listeners).await?;
            let zones = service::zones(&new);
            let lost = connected
                .iter()
                .flat_map(|one| &one.interfaces)
                .find(|(_, zone)| !zones.contains(zone));
            if let Some((_, zone)) = lost {
                return Err(Error::of_field(
                    Code::ExistingVpcEndpointConnections,
                    "listeners",
                    format!("endpoints have interfaces in {zone}, where a port has no target"),
                ));
            }
            forwards |= new != listeners;
            services::set_listeners(&mut tx, row.id, &new).await?;
            listeners = new;
        }
        services::update(&mut tx, &row).await?;
        let mut touched = Touched::default();
        if forwards {
            for (interface, _) in connected.iter().flat_map(|one| &one.interfaces) {
                touched.interface(*interface);
            }
        }
        let names = services::zone_names(&mut tx, owner).await?;
        let hosts = fleet::advance(&mut tx, &touched, &trace_context()).await?;
        tx.commit().await?;
        self.spread(Word { hosts, ..Word::default() });
        Ok(shown(row, listeners, &names))
    }

    /// Deletes services of the caller's; one with a living connection is not (spec 1.9).
    ///
    /// # Errors
    ///
    /// The database away. What is not deleted is an item of the answer.
    pub async fn delete_services(
        &self,
        caller: &Caller,
        ids: &[ServiceId],
    ) -> Result<Vec<Unsuccessful>> {
        let owner = caller.account()?;
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let rows = services::lock(&mut tx, owner, ids, Hold::Update).await?;
        let found: Vec<_> = rows.iter().map(|row| row.id).collect();
        let connected = services::connected(&mut tx, &found).await?;
        let holding = |id: ServiceId| {
            connected.iter().find(|one| one.service == id && one.state.holds_service())
        };
        let mut unsuccessful = Vec::new();
        let mut deleted = Vec::new();
        for id in ids {
            if !found.contains(id) {
                unsuccessful.push(Unsuccessful::service_not_found(*id));
            } else if let Some(one) = holding(*id) {
                let message = format!(
                    "the service {id} has connections: the endpoint {} is {}",
                    one.endpoint, one.state
                );
                let code = Code::ExistingVpcEndpointConnections;
                unsuccessful.push(Unsuccessful::new(id, code, message));
            } else {
                deleted.push(*id);
            }
        }
        if !deleted.is_empty() {
            services::delete(&mut tx, &deleted, now).await?;
        }
        tx.commit().await?;
        Ok(unsuccessful)
    }

    /// A page of the services that the caller may ask for, by name (spec 1.5); only those of `names`
    /// when it names any.
    ///
    /// # Errors
    ///
    /// `InvalidServiceName` for a name that there is none of, or none for this caller.
    pub async fn offered_services(
        &self,
        caller: &Caller,
        names: &[String],
        page: &Page,
    ) -> Result<Vec<OfferedService>> {
        let (account, principal) = caller.principal()?;
        let mut db = self.store.acquire().await?;
        if !names.is_empty() {
            let limit = names.len() as i64;
            let all = services::offered(&mut db, account, principal, names, None, limit).await?;
            let missing = names.iter().find(|name| all.iter().all(|one| one.name != **name));
            if let Some(name) = missing {
                return Err(no_such_service(name));
            }
        }
        let after = page.after.as_deref();
        services::offered(&mut db, account, principal, names, after, page.limit()).await
    }

    /// A private name that a service may have. Whether the provider owns it is not asked yet.
    fn check_name(&self, text: &str) -> Result<PrivateDnsName> {
        let suffixes: Suffixes = self
            .settings
            .dns_suffix
            .parse()
            .map_err(|error| Error::internal(format!("the DNS suffix: {error}")))?;
        suffixes.private_name(text).map_err(|error| {
            Error::of_field(Code::InvalidParameter, "private_dns_name", error.to_string())
        })
    }

    /// The listeners that are asked for, with their zones read, each port and target once, and every
    /// target in the provider's VPC, which is held.
    async fn check_listeners(
        &self,
        db: &mut PgConnection,
        owner: AccountId,
        vpc: VpcId,
        wanted: &[WantedListener],
    ) -> Result<Vec<Listener>> {
        let Some(cidr) = services::hold_vpc(db, owner, vpc).await? else {
            let reason = format!("the VPC {vpc} does not exist");
            return Err(Error::of_field(Code::InvalidVpcNotFound, "vpc_id", reason));
        };
        let names = services::zone_names(db, owner).await?;
        let refuse = |field: String, reason: String| {
            Err(Error::of_field(Code::InvalidParameterValue, field, reason))
        };
        if wanted.is_empty() || wanted.len() > LISTENERS_MAX {
            let reason = format!("must have 1 to {LISTENERS_MAX} listeners");
            return refuse("listeners".to_owned(), reason);
        }
        let mut ports = BTreeSet::new();
        let mut listeners = Vec::with_capacity(wanted.len());
        for (index, one) in wanted.iter().enumerate() {
            let at = format!("listeners[{index}]");
            if !ports.insert(one.port) {
                return refuse(
                    format!("{at}.port"),
                    format!("the port {} is there twice", one.port),
                );
            }
            if one.targets.is_empty() || one.targets.len() > TARGETS_MAX {
                return refuse(
                    format!("{at}.targets"),
                    format!("must have 1 to {TARGETS_MAX} targets"),
                );
            }
            let mut sockets = BTreeSet::new();
            let mut targets = Vec::with_capacity(one.targets.len());
            for (index, target) in one.targets.iter().enumerate() {
                let at = format!("{at}.targets[{index}]");
                if !services::can_be_target(cidr, target.address) {
                    let reason = format!("{} is not in the VPC's range {cidr}", target.address);
                    return refuse(format!("{at}.address"), reason);
                }
                if !sockets.insert((target.address, target.port)) {
                    let reason = format!("{}:{} is there twice", target.address, target.port);
                    return refuse(at, reason);
                }
                let zone = names
                    .iter()
                    .find(|(id, name)| id.as_str() == target.zone || name.as_str() == target.zone);
                let Some((zone, _)) = zone else {
                    return Err(Error::of_field(
                        Code::InvalidZoneNotFound,
                        format!("{at}.availability_zone"),
                        format!("the availability zone {:?} does not exist", target.zone),
                    ));
                };
                let (address, port) = (target.address, target.port);
                targets.push(Target { address, port, zone: zone.clone() });
            }
            targets.sort();
            listeners.push(Listener { port: one.port, targets });
        }
        listeners.sort();
        Ok(listeners)
    }
}

/// The same answer for a service that is not there and for somebody else's.
pub(super) fn no_service(id: ServiceId) -> Error {
    Error::of_field(
        Code::InvalidVpcEndpointServiceIdNotFound,
        "service_id",
        format!("the endpoint service {id} does not exist"),
    )
}

async fn show(
    db: &mut PgConnection,
    owner: AccountId,
    rows: Vec<ServiceRow>,
) -> Result<Vec<Service>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    let mut listeners = services::listeners(db, &ids).await?;
    let names = services::zone_names(db, owner).await?;
    let with = |row: ServiceRow| {
        let listeners = listeners.remove(&row.id).unwrap_or_default();
        shown(row, listeners, &names)
    };
    Ok(rows.into_iter().map(with).collect())
}

fn shown(row: ServiceRow, listeners: Vec<Listener>, names: &[(ZoneId, ZoneName)]) -> Service {
    let offered = service::zones(&listeners);
    // In the order of the owner's names.
    let zones = names.iter().filter(|(id, _)| offered.contains(id)).cloned().collect();
    Service { row, listeners, zones }
}
