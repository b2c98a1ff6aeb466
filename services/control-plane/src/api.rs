//! The edge: gRPC requests become commands, and results become answers. A handler says who asks, what
//! for, does it and answers; decisions are the use cases' ([`crate::app`]).

pub mod accounts;
pub mod auth;
pub mod consumer;
pub mod fields;
pub mod hosts;
pub mod identity;
pub mod lists;
pub mod notifications;
pub mod outcomes;
pub mod provider;
pub mod states;
mod status;
pub mod vpcs;

use postern_proto::v1::account_service_server::AccountServiceServer;
use postern_proto::v1::consumer_service_server::ConsumerServiceServer;
use postern_proto::v1::host_service_server::HostServiceServer;
use postern_proto::v1::notification_service_server::NotificationServiceServer;
use postern_proto::v1::provider_service_server::ProviderServiceServer;
use postern_proto::v1::vpc_service_server::VpcServiceServer;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tonic_reflection::server::Builder as Reflection;

use self::auth::{AuthLayer, Authenticator};
use crate::app::App;

/// The public services of the control plane, by their full names.
pub const SERVICES: &[&str] = &[
    <AccountServiceServer<accounts::Accounts> as NamedService>::NAME,
    <VpcServiceServer<vpcs::Vpcs> as NamedService>::NAME,
    <HostServiceServer<hosts::Hosts> as NamedService>::NAME,
    <ProviderServiceServer<provider::Provider> as NamedService>::NAME,
    <ConsumerServiceServer<consumer::Consumer> as NamedService>::NAME,
    <NotificationServiceServer<notifications::Notifications> as NamedService>::NAME,
];

/// The public services. Every method wants an API key, those that don't exist too.
pub fn services(app: &App, authenticator: &Authenticator) -> Routes {
    let routes = Routes::new(AccountServiceServer::new(accounts::Accounts::new(app.clone())))
        .add_service(VpcServiceServer::new(vpcs::Vpcs::new(app.clone())))
        .add_service(HostServiceServer::new(hosts::Hosts::new(app.clone())))
        .add_service(ProviderServiceServer::new(provider::Provider::new(app.clone())))
        .add_service(ConsumerServiceServer::new(consumer::Consumer::new(app.clone())))
        .add_service(NotificationServiceServer::new(notifications::Notifications::new(
            app.clone(),
        )));
    guarded(routes, authenticator)
}

/// Puts the authenticating layer in front of all that `routes` has so far. What is added afterwards
/// is open.
pub fn guarded(routes: Routes, authenticator: &Authenticator) -> Routes {
    Routes::from(routes.into_axum_router().layer(AuthLayer::new(authenticator.clone())))
}

/// Adds what is open to everybody: health, as `health` reports it, and reflection (v1 and v1alpha) of
/// the services with these names.
///
/// # Errors
///
/// Descriptors that can't be read: our fault.
pub fn with_open_services(
    routes: Routes,
    names: &[&str],
    health: HealthReporter,
) -> Result<Routes, tonic_reflection::server::Error> {
    let reflection = || {
        let all = Reflection::configure()
            .register_encoded_file_descriptor_set(postern_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name(<HealthServer<HealthService> as NamedService>::NAME);
        names.iter().fold(all, |all, name| all.with_service_name(*name))
    };
    Ok(routes
        .add_service(HealthServer::new(HealthService::from_health_reporter(health)))
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?))
}

/// All that the public port serves.
///
/// # Errors
///
/// As [`with_open_services`].
pub fn routes(
    app: &App,
    authenticator: &Authenticator,
    health: HealthReporter,
) -> Result<Routes, tonic_reflection::server::Error> {
    with_open_services(services(app, authenticator), SERVICES, health)
}
