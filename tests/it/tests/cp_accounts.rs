//! Accounts, API keys, and who may come in.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use postern_control_plane::Error;
use postern_control_plane::api::auth::Authenticator;
use postern_control_plane::app::App;
use postern_control_plane::app::accounts::CreateAccount;
use postern_control_plane::app::api_keys::CreateApiKey;
use postern_control_plane::caller::Caller;
use postern_control_plane::store::Store;
use postern_it::cp::{Cp, Key, code, pages};
use postern_model::Code;
use postern_proto::page::Page;
use postern_proto::status::reason;
use postern_proto::v1;
use postern_proto::v1::account_service_client::AccountServiceClient;
use postern_proto::v1::host_service_client::HostServiceClient;
use postern_proto::v1::vpc_service_client::VpcServiceClient;
use postern_runtime::config::Secret;
use prost::Message as _;
use tonic::Code as Grpc;

#[tokio::test]
async fn an_account_gets_the_id_asked_for_once_and_a_random_one_otherwise() {
    let cp = Cp::start().await;
    let id = Some("000011112222".parse().unwrap());
    let command = CreateAccount { name: "provider".to_owned(), id };
    let made = cp.app.create_account(&Caller::Operator, command.clone()).await.unwrap();
    assert_eq!(Some(made.id), id);
    let again = cp.app.create_account(&Caller::Operator, command).await;
    assert_eq!(code(again), Code::InvalidAccountDuplicate);
    assert_eq!(cp.app.get_account(&Caller::Operator, made.id).await.unwrap(), made);
    let other = cp.account("consumer").await;
    assert_ne!(other.account().unwrap(), made.id);
    let unknown = cp.app.get_account(&Caller::Operator, "999999999999".parse().unwrap()).await;
    assert_eq!(code(unknown), Code::InvalidAccountNotFound);
}

#[tokio::test]
async fn each_account_names_all_zones_in_an_order_that_is_its_own_and_stays() {
    let cp = Cp::start().await;
    let all = Page { size: 100, after: None };
    let mut orders = BTreeSet::new();
    for number in 0..12 {
        let caller = cp.account(&format!("account {number}")).await;
        let (zones, next) = cp.app.list_zones(&caller, &all).await.unwrap();
        assert_eq!(next, "");
        let names: Vec<_> = zones.iter().map(|zone| zone.name.to_string()).collect();
        assert_eq!(names, ["us-east-1a", "us-east-1b", "us-east-1c"]);
        let ids: Vec<_> = zones.iter().map(|zone| zone.id.to_string()).collect();
        let sorted: BTreeSet<_> = ids.iter().map(String::as_str).collect();
        assert_eq!(sorted, BTreeSet::from(["use1-az1", "use1-az2", "use1-az3"]));
        assert_eq!(cp.app.list_zones(&caller, &all).await.unwrap().0, zones);
        orders.insert(ids);
    }
    // One order for all twelve by chance: once in 6^11.
    assert!(orders.len() > 1);
}

#[tokio::test]
async fn accounts_keys_and_zones_come_in_pages() {
    let cp = Cp::start().await;
    let served = cp.serve().await;
    let operator = AccountServiceClient::new(served.operator());
    let first = cp.account("one of five").await;
    for _ in 0..4 {
        cp.account("one of five").await;
    }
    let accounts = pages(
        2,
        |account: &v1::Account| account.account_id.clone(),
        |page_size, page_token| {
            let mut client = operator.clone();
            async move {
                let request = v1::ListAccountsRequest { page_size, page_token };
                let page = client.list_accounts(request).await.unwrap().into_inner();
                (page.accounts, page.next_page_token)
            }
        },
    );
    assert_eq!(accounts.await.len(), 5);

    let account_id = cp.id_of(&first).to_string();
    for _ in 0..3 {
        cp.key(&first).await;
    }
    let keys = pages(
        1,
        |key: &v1::ApiKey| key.api_key_id.clone(),
        |page_size, page_token| {
            let (mut client, account_id) = (operator.clone(), account_id.clone());
            async move {
                let request = v1::ListApiKeysRequest { account_id, page_size, page_token };
                let page = client.list_api_keys(request).await.unwrap().into_inner();
                (page.api_keys, page.next_page_token)
            }
        },
    );
    assert_eq!(keys.await.len(), 3);

    let consumer = VpcServiceClient::new(served.as_(&cp.key(&first).await));
    let zones = pages(
        2,
        |zone: &v1::AvailabilityZone| zone.zone_name.clone(),
        |page_size, page_token| {
            let mut client = consumer.clone();
            async move {
                let request = v1::ListAvailabilityZonesRequest { page_size, page_token };
                let page = client.list_availability_zones(request).await.unwrap().into_inner();
                (page.availability_zones, page.next_page_token)
            }
        },
    );
    assert_eq!(zones.await.len(), 3);

    let mut client = operator.clone();
    let request = v1::ListAccountsRequest { page_size: 0, page_token: "zz".to_owned() };
    let refused = client.list_accounts(request).await.unwrap_err();
    assert_eq!(reason(&refused).as_deref(), Some("InvalidNextToken"));
}

#[tokio::test]
async fn a_key_lets_its_account_in_and_only_its_hash_is_kept() {
    let cp = Cp::start().await;
    let caller = cp.account("consumer").await;
    let Key(secret) = cp.key(&caller).await;
    assert!(secret.starts_with("pst_"), "{secret}");
    let authenticator = Authenticator::new(cp.app.clone(), &Secret::new("operator"));
    assert_eq!(authenticator.authenticate(&secret).await.unwrap(), caller);
    assert_eq!(authenticator.authenticate("operator").await.unwrap(), Caller::Operator);
    // Not the key, nor the part of it that nobody but its holder knows, is in the row.
    let row: String = sqlx::query_scalar("SELECT to_jsonb(api_key)::text FROM api_key")
        .fetch_one(&cp.pool)
        .await
        .unwrap();
    let (_, random) = secret.trim_start_matches("pst_").split_once('_').unwrap();
    assert!(!row.contains(random), "{row}");
}

#[tokio::test]
async fn a_text_that_is_nobodys_key_is_refused() {
    let cp = Cp::start().await;
    let Key(secret) = cp.key(&cp.account("consumer").await).await;
    let authenticator = Authenticator::new(cp.app.clone(), &Secret::new("operator"));
    let changed = format!("{}A", &secret[..secret.len() - 1]);
    let changed = if changed == secret { changed.replace("A", "B") } else { changed };
    for key in ["", "operato", "operator ", &secret[..20], &changed] {
        let refused = authenticator.authenticate(key).await;
        assert_eq!(code(refused), Code::AuthFailure, "{key}");
    }
}

#[tokio::test]
async fn a_deleted_key_is_refused_within_ten_seconds_and_a_remembered_answer_spares_the_database() {
    let cp = Cp::start().await;
    let caller = cp.account("consumer").await;
    let command = CreateApiKey { account: cp.id_of(&caller), description: "ci".to_owned() };
    let created = cp.app.create_api_key(&Caller::Operator, command).await.unwrap();
    let secret = created.secret.expose();
    let authenticator = Authenticator::new(cp.app.clone(), &Secret::new("operator"));
    authenticator.authenticate(secret).await.unwrap();

    cp.app.delete_api_key(&Caller::Operator, created.key.id).await.unwrap();
    assert_eq!(authenticator.authenticate(secret).await.unwrap(), caller, "remembered");
    cp.clock.advance(Duration::from_secs(11));
    assert_eq!(code(authenticator.authenticate(secret).await), Code::AuthFailure);
    let again = cp.app.delete_api_key(&Caller::Operator, created.key.id).await;
    assert_eq!(code(again), Code::InvalidApiKeyNotFound);
}

#[tokio::test]
async fn a_key_is_for_an_account_that_exists() {
    let cp = Cp::start().await;
    let account = "999999999999".parse().unwrap();
    let command = CreateApiKey { account, description: String::new() };
    let refused = cp.app.create_api_key(&Caller::Operator, command).await.map(|_| ());
    assert_eq!(code(refused), Code::InvalidAccountNotFound);
    let page = Page { size: 10, after: None };
    let listed = cp.app.list_api_keys(&Caller::Operator, account, &page).await;
    assert_eq!(code(listed), Code::InvalidAccountNotFound);
}

#[tokio::test]
async fn with_the_database_away_requests_are_unavailable_and_not_refused() {
    let cp = Cp::start().await;
    // Nobody listens on this port.
    let store = Store::open("postgres://nobody@127.0.0.1:1/none", 1).unwrap();
    let app = App { store, ..cp.app.clone() };
    let authenticator = Authenticator::new(app, &Secret::new("operator"));
    let key = format!("pst_{}_{}", "0".repeat(17), "A".repeat(43));
    let answer = authenticator.authenticate(&key).await;
    assert!(matches!(answer, Err(Error::Unavailable { .. })), "{answer:?}");
    assert_eq!(authenticator.authenticate("operator").await.unwrap(), Caller::Operator);
}

/// Calls a method by its path with an empty message, and says how it ended.
async fn call(channel: tonic::transport::Channel, path: &str, key: Option<&str>) -> tonic::Status {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let mut request = tonic::Request::new(());
    if let Some(key) = key {
        let value = format!("Bearer {key}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    match client.unary(request, path.parse().unwrap(), codec).await {
        Ok(_) => tonic::Status::ok(""),
        Err(status) => status,
    }
}

/// The paths of every method that there is.
fn methods() -> Vec<String> {
    let set = prost_types::FileDescriptorSet::decode(postern_proto::FILE_DESCRIPTOR_SET).unwrap();
    let mut paths = Vec::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                let (package, name) = (file.package(), service.name());
                paths.push(format!("/{package}.{name}/{}", method.name()));
            }
        }
    }
    assert!(paths.len() > 40, "{paths:?}");
    paths
}

#[tokio::test]
async fn no_method_of_any_service_answers_without_a_key() {
    let cp = Cp::start().await;
    let served = cp.serve().await;
    let unknown = format!("pst_{}_{}", "0".repeat(17), "A".repeat(43));
    let mut paths = methods();
    paths.push("/postern.v1.VpcService/NoSuchMethod".to_owned());
    paths.push("/no.such.Service/Method".to_owned());
    for path in paths {
        for key in [None, Some("nonsense"), Some(unknown.as_str())] {
            let status = call(served.channel.clone(), &path, key).await;
            assert_eq!(status.code(), Grpc::Unauthenticated, "{path} with {key:?}: {status:?}");
            assert_eq!(reason(&status).as_deref(), Some("AuthFailure"), "{path}");
        }
    }
}

#[tokio::test]
async fn what_is_the_operators_is_refused_to_accounts_and_the_other_way_round() {
    let cp = Cp::start().await;
    let served = cp.serve().await;
    let consumer = cp.key(&cp.account("consumer").await).await;
    let denied = |status: tonic::Status| {
        assert_eq!(status.code(), Grpc::PermissionDenied, "{status:?}");
        assert_eq!(reason(&status).as_deref(), Some("UnauthorizedOperation"));
    };

    let mut accounts = AccountServiceClient::new(served.as_(&consumer));
    let account_id = "111122223333".to_owned();
    let request = v1::CreateAccountRequest { name: "mine".to_owned(), account_id: String::new() };
    denied(accounts.create_account(request).await.unwrap_err());
    let request = v1::GetAccountRequest { account_id: account_id.clone() };
    denied(accounts.get_account(request).await.unwrap_err());
    denied(accounts.list_accounts(v1::ListAccountsRequest::default()).await.unwrap_err());
    let request = v1::CreateApiKeyRequest { account_id: account_id.clone(), ..Default::default() };
    denied(accounts.create_api_key(request).await.unwrap_err());
    let request = v1::ListApiKeysRequest { account_id, ..Default::default() };
    denied(accounts.list_api_keys(request).await.unwrap_err());
    let api_key_id = "key-00000000000000000".to_owned();
    denied(accounts.delete_api_key(v1::DeleteApiKeyRequest { api_key_id }).await.unwrap_err());

    let mut hosts = HostServiceClient::new(served.as_(&consumer));
    let host_id = "host-00000000000000000".to_owned();
    let request = v1::CreateHostRequest {
        name: "node-1".to_owned(),
        availability_zone_id: "use1-az1".to_owned(),
    };
    denied(hosts.create_host(request).await.unwrap_err());
    denied(hosts.get_host(v1::GetHostRequest { host_id: host_id.clone() }).await.unwrap_err());
    denied(hosts.list_hosts(v1::ListHostsRequest::default()).await.unwrap_err());
    let request = v1::DeleteHostRequest { host_id: host_id.clone() };
    denied(hosts.delete_host(request).await.unwrap_err());
    let request = v1::CreateHostAttachmentRequest {
        host_id,
        vpc_id: "vpc-00000000000000000".to_owned(),
        kind: v1::AttachmentKind::Loopback.into(),
        ..Default::default()
    };
    denied(hosts.create_host_attachment(request).await.unwrap_err());
    let request = v1::ListHostAttachmentsRequest::default();
    denied(hosts.list_host_attachments(request).await.unwrap_err());
    let attachment_id = "hatt-00000000000000000".to_owned();
    let request = v1::DeleteHostAttachmentRequest { attachment_id };
    denied(hosts.delete_host_attachment(request).await.unwrap_err());

    let mut vpcs = VpcServiceClient::new(served.operator());
    denied(vpcs.list_vpcs(v1::ListVpcsRequest::default()).await.unwrap_err());
    let request =
        v1::CreateVpcRequest { cidr_block: "10.0.0.0/16".to_owned(), ..Default::default() };
    denied(vpcs.create_vpc(request).await.unwrap_err());
    let request = v1::ListAvailabilityZonesRequest::default();
    denied(vpcs.list_availability_zones(request).await.unwrap_err());
}

#[tokio::test]
async fn a_faulty_field_is_named_and_a_missing_one_too() {
    use tonic_types::StatusExt as _;
    let cp = Cp::start().await;
    let served = cp.serve().await;
    let mut accounts = AccountServiceClient::new(served.operator());
    for (name, account_id, field, why) in [
        ("", "", "name", "MissingParameter"),
        ("a\u{1b}[2J", "", "name", "InvalidParameterValue"),
        (&"a".repeat(129), "", "name", "InvalidParameterValue"),
        ("ok", "12", "account_id", "InvalidParameterValue"),
    ] {
        let (name, account_id) = (name.to_owned(), account_id.to_owned());
        let request = v1::CreateAccountRequest { name, account_id };
        let status = accounts.create_account(request).await.unwrap_err();
        assert_eq!(status.code(), Grpc::InvalidArgument);
        assert_eq!(reason(&status).as_deref(), Some(why));
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, field);
    }
}

#[tokio::test]
async fn health_and_both_versions_of_reflection_are_open_to_everybody() {
    use tonic_health::pb::health_client::HealthClient;
    use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
    use tonic_reflection::pb::{v1, v1alpha};
    let cp = Cp::start().await;
    let served = cp.serve().await;
    let mut health = HealthClient::new(served.channel.clone());
    let answer = health.check(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::Serving);

    let mut reflection =
        v1::server_reflection_client::ServerReflectionClient::new(served.channel.clone());
    let question = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    };
    let answers = reflection.server_reflection_info(tokio_stream::once(question)).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(list)) =
        answer.message_response
    else {
        panic!("{answer:?}");
    };
    let names: BTreeSet<_> = list.service.into_iter().map(|service| service.name).collect();
    assert!(names.contains("postern.v1.VpcService"), "{names:?}");
    assert!(!names.iter().any(|name| name.contains("internal")), "{names:?}");

    let mut reflection =
        v1alpha::server_reflection_client::ServerReflectionClient::new(served.channel.clone());
    let question = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
                "postern.v1.VpcService".to_owned(),
            ),
        ),
    };
    let answers = reflection.server_reflection_info(tokio_stream::once(question)).await.unwrap();
    assert!(answers.into_inner().message().await.unwrap().is_some());
}

#[tokio::test]
async fn only_services_learn_over_mtls_whose_key_it_is() {
    use postern_control_plane::api::auth::digest;
    use postern_control_plane::api::identity::Identity;
    use postern_proto::internal::v1::AuthenticateRequest;
    use postern_proto::internal::v1::identity_service_client::IdentityServiceClient;
    use postern_proto::internal::v1::identity_service_server::IdentityServiceServer;
    use postern_runtime::clock::SystemClock;
    use postern_runtime::grpc::{self, Methods, RpcMetrics, ServeOptions};
    use postern_runtime::shutdown::Stop;
    use postern_runtime::tls::{
        self, Authority, ClientAuth, ClientTls, IdentityHandle, ServerTls, SpiffeId,
    };

    tls::install_provider();
    let cp = Cp::start().await;
    let caller = cp.account("consumer").await;
    let Key(secret) = cp.key(&caller).await;
    let authenticator = Authenticator::new(cp.app.clone(), &Secret::new("operator"));

    let authority = Authority::ephemeral(Arc::new(SystemClock)).unwrap();
    let day = Duration::from_secs(86_400);
    let names = ["127.0.0.1".to_owned()];
    let identity = |spiffe: SpiffeId| {
        IdentityHandle::new(authority.issue_identity(&spiffe, &names, day).unwrap())
    };
    let control_plane = SpiffeId::service("control-plane").unwrap();
    let tls = ServerTls::mutual(identity(control_plane.clone()), ClientAuth::Required);
    let mut registry = prometheus_client::registry::Registry::default();
    let methods = Methods::from_descriptor_set(postern_proto::FILE_DESCRIPTOR_SET).unwrap();
    let options = ServeOptions::new(RpcMetrics::register(&mut registry), methods).tls(tls);
    let routes =
        tonic::service::Routes::new(IdentityServiceServer::new(Identity::new(authenticator)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let stop = Stop::new();
    let serving = tokio::spawn(grpc::serve(listener, routes, options, stop.clone()));

    let client = |spiffe: SpiffeId| {
        let tls = ClientTls::mutual(identity(spiffe), control_plane.clone());
        IdentityServiceClient::new(tls.channel(&address).unwrap())
    };
    let ask = |text: &str| AuthenticateRequest { api_key_sha256: digest(text).to_vec().into() };
    let mut dispatcher = client(SpiffeId::service("dispatcher").unwrap());
    let known = dispatcher.authenticate(ask(&secret)).await.unwrap().into_inner();
    assert_eq!(known.account_id, cp.id_of(&caller).to_string());
    assert_eq!(known.principal_arn, cp.id_of(&caller).root_arn());
    assert!(!known.is_operator);
    let operator = dispatcher.authenticate(ask("operator")).await.unwrap().into_inner();
    assert!(operator.is_operator && operator.account_id.is_empty());
    let nobody = dispatcher.authenticate(ask("nobody")).await.unwrap_err();
    assert_eq!(nobody.code(), Grpc::Unauthenticated);
    let short = AuthenticateRequest { api_key_sha256: vec![0; 31].into() };
    assert_eq!(dispatcher.authenticate(short).await.unwrap_err().code(), Grpc::InvalidArgument);

    let host = postern_model::id::HostId::generate(&mut rand::rng()).to_string();
    let mut agent = client(SpiffeId::host(&host).unwrap());
    let refused = agent.authenticate(ask(&secret)).await.unwrap_err();
    assert_eq!(refused.code(), Grpc::PermissionDenied, "a host is no service");

    stop.stop();
    stop.kill();
    serving.await.unwrap().unwrap();
}
