use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::clock::{Clock, ManualClock, SystemClock};

const HOUR: Duration = Duration::from_secs(3600);

fn authority() -> Authority {
    Authority::ephemeral(Arc::new(SystemClock)).expect("an authority")
}

fn host(id: &str) -> SpiffeId {
    SpiffeId::host(id).expect("a valid id")
}

fn control_plane() -> SpiffeId {
    SpiffeId::service("control-plane").expect("a valid name")
}

fn handle(authority: &Authority, spiffe: &SpiffeId) -> IdentityHandle {
    IdentityHandle::new(authority.issue_identity(spiffe, &[], HOUR).expect("an identity"))
}

/// One handshake over a real socket, and a byte each way: who the server saw, or whose fault it was.
async fn meet(server: ServerTls, client: ClientTls) -> Result<Option<SpiffeId>, String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let at = listener.local_addr().expect("an address").to_string();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("accepted");
        let config = server.config().expect("a server configuration");
        let mut stream = TlsAcceptor::from(config).accept(stream).await?;
        stream.write_u8(b'!').await?;
        stream.shutdown().await?;
        let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        Ok::<_, std::io::Error>(leaf.and_then(|leaf| SpiffeId::of_certificate(leaf)))
    });
    // In TLS 1.3 the client is done before the server has judged it: a byte tells.
    let greeted = async { client.connect(&at).await?.read_u8().await }.await;
    let seen = serving.await.expect("no panic");
    match (greeted, seen) {
        (Ok(b'!'), Ok(seen)) => Ok(seen),
        (client, server) => Err(format!("client: {client:?}, server: {server:?}")),
    }
}

#[test]
fn spiffe_ids_name_a_host_or_a_service_and_nothing_else() {
    assert_eq!(host("h-1").to_string(), "spiffe://postern/host/h-1");
    assert_eq!(host("h-1").as_host(), Some("h-1"));
    assert_eq!(host("h-1").as_service(), None);
    assert_eq!(control_plane().as_service(), Some("control-plane"));
    for bad in [
        "",
        "spiffe://postern/host/",
        "spiffe://postern/host/a/b",
        "spiffe://postern/host/..",
        "spiffe://postern/host/a b",
        "spiffe://elsewhere/host/a",
        "SPIFFE://postern/host/a",
        "spiffe://postern/admin/a",
        "spiffe://postern/host/ä",
    ] {
        assert!(bad.parse::<SpiffeId>().is_err(), "{bad}");
    }
    assert!(SpiffeId::host(&"x".repeat(129)).is_err());
}

#[tokio::test]
async fn two_identities_of_one_authority_meet_and_the_server_sees_who_came() {
    let authority = authority();
    let server = ServerTls::mutual(handle(&authority, &control_plane()), ClientAuth::Required);
    let client = ClientTls::mutual(handle(&authority, &host("h-1")), control_plane());
    assert_eq!(meet(server, client).await, Ok(Some(host("h-1"))));
}

#[tokio::test]
async fn a_client_refuses_a_server_of_another_authority() {
    let (ours, theirs) = (authority(), authority());
    let server = ServerTls::mutual(handle(&theirs, &control_plane()), ClientAuth::Optional);
    let client = ClientTls::mutual(handle(&ours, &host("h-1")), control_plane());
    let refused = meet(server, client).await.expect_err("refused");
    assert!(refused.contains("UnknownIssuer"), "{refused}");
}

#[tokio::test]
async fn a_server_refuses_a_client_of_another_authority_even_where_none_would_do() {
    let (ours, theirs) = (authority(), authority());
    let stranger = theirs.issue_identity(&host("h-1"), &[], HOUR).expect("an identity");
    // The stranger's certificate and key with our authority to check the server against.
    for auth in [ClientAuth::Required, ClientAuth::Optional] {
        let server = ServerTls::mutual(handle(&ours, &control_plane()), auth);
        let client = tokio_rustls::rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(identity::roots(ours.ca_pem()).expect("roots"))
            .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(
                stranger.certified(),
            )));
        let refused = raw(server, client).await;
        assert!(refused.is_err(), "{auth:?}: {refused:?}");
    }
}

/// As [`meet`], for a client that is not made by [`ClientTls`]; its server certificate is for localhost.
async fn raw(server: ServerTls, client: rustls::ClientConfig) -> Result<(), String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let at = listener.local_addr().expect("an address");
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("accepted");
        let config = server.config().expect("a server configuration");
        TlsAcceptor::from(config).accept(stream).await.map(drop)
    });
    let name = rustls_pki_types::ServerName::try_from("localhost").expect("a name");
    let stream = tokio::net::TcpStream::connect(at).await.expect("connected");
    let _client = tokio_rustls::TlsConnector::from(Arc::new(client)).connect(name, stream).await;
    serving.await.expect("no panic").map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_client_refuses_a_server_of_the_right_authority_but_the_wrong_name() {
    let authority = authority();
    let server = ServerTls::mutual(handle(&authority, &host("h-2")), ClientAuth::Required);
    let client = ClientTls::mutual(handle(&authority, &host("h-1")), control_plane());
    let refused = meet(server.clone(), client).await.expect_err("refused");
    assert!(refused.contains("host/h-2") && refused.contains("expected"), "{refused}");

    let client = ClientTls::mutual(handle(&authority, &host("h-1")), Expected::AnyHost);
    assert_eq!(meet(server, client).await, Ok(Some(host("h-1"))));
}

#[tokio::test]
async fn a_client_without_a_certificate_is_let_in_only_where_it_is_optional() {
    let authority = authority();
    let identity = handle(&authority, &control_plane());
    let client = || ClientTls::anonymous(authority.ca_pem(), control_plane()).expect("a client");
    let optional = ServerTls::mutual(identity.clone(), ClientAuth::Optional);
    assert_eq!(meet(optional, client()).await, Ok(None));
    let required = ServerTls::mutual(identity, ClientAuth::Required);
    let refused = meet(required, client()).await.expect_err("refused");
    assert!(refused.contains("CertificateRequired"), "{refused}");
}

#[tokio::test]
async fn an_expired_certificate_is_refused_until_it_is_replaced() {
    let clock = ManualClock::new(Utc::now() - 2 * HOUR);
    let authority = Authority::ephemeral(Arc::new(clock.clone())).expect("an authority");
    let server_identity = handle(&authority, &control_plane());
    let server = ServerTls::mutual(server_identity.clone(), ClientAuth::Required);
    clock.set(Utc::now());
    let client = ClientTls::mutual(handle(&authority, &host("h-1")), control_plane());
    let refused = meet(server.clone(), client.clone()).await.expect_err("refused");
    assert!(refused.contains("xpired"), "{refused}");

    let renewed = authority.issue_identity(&control_plane(), &[], HOUR).expect("an identity");
    server_identity.replace(renewed);
    assert_eq!(meet(server, client).await, Ok(Some(host("h-1"))));
}

#[test]
fn a_request_gives_its_key_and_nothing_else() {
    let authority = authority();
    // It asks to be the control plane.
    let request = Identity::generate_csr(&control_plane()).expect("a request");
    let pem = authority.issue(&request.csr_pem, &host("h-1"), HOUR).expect("a certificate");
    let identity = Identity::new(pem, request.key_pem, authority.ca_pem().to_owned());
    assert_eq!(*identity.expect("an identity").spiffe(), host("h-1"));
}

#[test]
fn a_malformed_forged_or_huge_request_is_refused() {
    let authority = authority();
    let good = Identity::generate_csr(&host("h-1")).expect("a request").csr_pem;
    // The signature is at the end; a digit of it is another one.
    let end = good.find("-----END").expect("an end") - 6;
    let digit = |at: &usize| good.as_bytes()[*at].is_ascii_alphanumeric();
    let at = (0..end).rev().find(digit).expect("a digit");
    let digit = if good.as_bytes()[at] == b'A' { "B" } else { "A" };
    let forged = format!("{}{digit}{}", &good[..at], &good[at + 1..]);
    for bad in ["", "hello", &forged, &"x".repeat(20_000)] {
        let issued = authority.issue(bad, &host("h-1"), HOUR);
        assert!(matches!(issued, Err(TlsError::Request(_))), "{issued:?}");
    }
}

#[test]
fn a_server_certificate_carries_the_configured_names() {
    let authority = authority();
    let names = ["control-plane.example".to_owned(), "127.0.0.1".to_owned()];
    let identity = authority.issue_identity(&control_plane(), &names, HOUR).expect("issued");
    assert_eq!(*identity.spiffe(), control_plane());
    let bad = authority.issue_identity(&control_plane(), &["not a name".to_owned()], HOUR);
    assert!(matches!(bad, Err(TlsError::Name(_))), "{bad:?}");
}

#[test]
fn lifetimes_follow_the_clock_and_never_outlive_the_authority() {
    let start = DateTime::from_timestamp(1_800_000_000, 0).expect("a valid moment");
    let clock = ManualClock::new(start);
    let authority = Authority::ephemeral(Arc::new(clock.clone())).expect("an authority");
    let identity = authority.issue_identity(&host("h-1"), &[], 3 * HOUR).expect("issued");
    assert_eq!(identity.not_after(), start + 3 * HOUR);
    assert!(identity.renew_at() > start + HOUR && identity.renew_at() < start + 2 * HOUR);
    let long = authority.issue_identity(&host("h-1"), &[], 1_000_000 * HOUR).expect("issued");
    assert_eq!((long.not_after() - start).num_days(), 3650);
}

#[test]
fn an_identity_survives_the_disk_and_only_its_owner_can_read_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path().join("identity");
    assert!(Identity::load(&dir).expect("no fault").is_none());
    let saved = authority().issue_identity(&host("h-1"), &[], HOUR).expect("issued");
    saved.save(&dir).expect("saved");
    saved.save(&dir).expect("saved again");
    let loaded = Identity::load(&dir).expect("no fault").expect("an identity");
    assert_eq!(loaded.cert_pem(), saved.cert_pem());
    assert_eq!(loaded.key_pem(), saved.key_pem());
    assert_eq!(loaded.ca_pem(), saved.ca_pem());
    assert_eq!(mode(&dir.join("identity.pem")), 0o600);
    assert_eq!(std::fs::read_dir(&dir).expect("listed").count(), 1);
}

#[test]
fn an_identity_of_parts_that_do_not_belong_together_is_refused() {
    let (ours, theirs) = (authority(), authority());
    let one = ours.issue_identity(&host("h-1"), &[], HOUR).expect("issued");
    let two = ours.issue_identity(&host("h-1"), &[], HOUR).expect("issued");
    let cert = || one.cert_pem().to_owned();
    let other_key = Identity::new(cert(), two.key_pem().clone(), ours.ca_pem().to_owned());
    assert!(other_key.is_err(), "{other_key:?}");
    let other_ca = Identity::new(cert(), one.key_pem().clone(), theirs.ca_pem().to_owned());
    assert!(other_ca.is_err(), "{other_ca:?}");
    let empty = Identity::new(String::new(), one.key_pem().clone(), ours.ca_pem().to_owned());
    assert!(matches!(empty, Err(TlsError::Pem { what: "certificate", .. })), "{empty:?}");
}

#[test]
fn replicas_that_start_together_share_one_authority() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ca");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let load = || Authority::load_or_create(&path, Arc::clone(&clock)).expect("an authority");
    let pems: Vec<String> = std::thread::scope(|scope| {
        let replicas: Vec<_> = (0..8).map(|_| scope.spawn(|| load().ca_pem().to_owned())).collect();
        replicas.into_iter().map(|replica| replica.join().expect("no panic")).collect()
    });
    assert!(pems.iter().all(|pem| *pem == pems[0]));
    assert_eq!(load().ca_pem(), pems[0]);
    assert_eq!((mode(&path.join("ca.key")), mode(&path)), (0o600, 0o700));
}

#[test]
fn what_is_published_is_the_certificate_alone_for_everybody_and_replaced_at_each_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let (kept, shown) = (dir.path().join("ca"), dir.path().join("shown"));
    let load = || Authority::load_or_create(&kept, Arc::new(SystemClock)).expect("an authority");
    load().publish(&shown).expect("published");
    std::fs::write(shown.join("ca.pem"), "old").expect("written");
    let authority = load();
    authority.publish(&shown).expect("published again");
    let names: Vec<_> = std::fs::read_dir(&shown)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(names, ["ca.pem"]);
    let text = std::fs::read_to_string(shown.join("ca.pem")).expect("text");
    assert_eq!(text, authority.ca_pem());
    assert_eq!((mode(&shown.join("ca.pem")), mode(&shown)), (0o644, 0o755));
}

#[test]
fn a_creation_that_was_cut_short_is_finished_and_contradictions_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let load = || Authority::load_or_create(dir.path(), Arc::new(SystemClock));
    load().expect("created");
    std::fs::remove_file(dir.path().join("ca.pem")).expect("removed");
    load().expect("finished");

    let other = tempfile::tempdir().expect("a directory");
    Authority::load_or_create(other.path(), Arc::new(SystemClock)).expect("created");
    std::fs::copy(other.path().join("ca.key"), dir.path().join("ca.key")).expect("copied");
    let told = load().expect_err("refused").to_string();
    assert!(told.contains("ca.key does not belong to ca.pem"), "{told}");
    std::fs::remove_file(dir.path().join("ca.key")).expect("removed");
    let told = load().expect_err("refused").to_string();
    assert!(told.contains("ca.key is missing"), "{told}");
}

#[tokio::test]
async fn a_public_port_serves_a_certificate_from_files() {
    let dir = tempfile::tempdir().expect("a directory");
    let identity = authority()
        .issue_identity(&control_plane(), &["localhost".to_owned()], HOUR)
        .expect("issued");
    let (cert, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    std::fs::write(&cert, identity.cert_pem()).expect("written");
    std::fs::write(&key, identity.key_pem().expose()).expect("written");
    let server = ServerTls::from_pem_files(&cert, &key).expect("a server");
    let client = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(identity::roots(identity.ca_pem()).expect("roots"))
        .with_no_client_auth();
    raw(server, client).await.expect("a handshake");
    assert!(ServerTls::from_pem_files(&key, &key).is_err());
    assert!(ServerTls::from_pem_files(&dir.path().join("none"), &key).is_err());
}

#[test]
fn an_address_to_connect_to_must_be_host_and_port() {
    let client = ClientTls::anonymous(authority().ca_pem(), control_plane()).expect("a client");
    for bad in ["", "localhost", "localhost:x", "a b:1", ":1"] {
        let channel = client.channel(bad);
        assert!(matches!(channel, Err(TlsError::Address(_))), "{bad}");
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("a file").permissions().mode() & 0o777
}
