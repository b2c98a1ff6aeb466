//! Deliveries over TLS to servers that a private authority vouches for, and to those it does not.

use std::net::SocketAddr;
use std::path::PathBuf;

use postern_dispatcher::deliver::email::MailTls;
use postern_proto::v1;
use postern_testkit::receiver::Receiver;
use postern_testkit::smtp::{MailSink, Protection};
use postern_testkit::tls::TestAuthority;

use crate::world::{PATIENCE, Setup, World};

const LOCALHOST: &str = "127.0.0.1";
const ANYWHERE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// An authority's certificate in a file, which goes when this is dropped.
struct Trusted(PathBuf);

impl Trusted {
    fn new(authority: &TestAuthority) -> Self {
        let path = std::env::temp_dir().join(format!("postern-ca-{}.pem", uuid::Uuid::new_v4()));
        authority.write(&path).unwrap();
        Self(path)
    }
}

impl Drop for Trusted {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn receiver(authority: &TestAuthority, name: &str) -> Receiver {
    let receiver =
        Receiver::start_at(ANYWHERE, Some(authority.server(&[name]).unwrap())).await.unwrap();
    receiver.confirm(true);
    receiver
}

/// A world that trusts `authority`, and the topic `doors` in it.
async fn world(trusted: &Trusted, setup: Setup) -> (World, String) {
    let world = World::with(Setup { ca_file: Some(trusted.0.clone()), ..setup }).await;
    let topic = world.topic().await.topic_arn;
    (world, topic)
}

#[tokio::test]
async fn a_webhook_with_a_certificate_of_the_given_authority_is_delivered_to() {
    let authority = TestAuthority::new().unwrap();
    let (trusted, receiver) = (Trusted::new(&authority), receiver(&authority, LOCALHOST).await);
    let (world, topic) = world(&trusted, Setup::default()).await;
    let subscription = world.subscribe(&topic, &receiver.url("/hook")).await;
    world.confirmed(&subscription).await;
    let id = world.publish(&topic, "over TLS").await;
    let came = receiver
        .wait_for(PATIENCE, |one| one.headers.get("x-amz-sns-message-id") == Some(&id))
        .await
        .unwrap();
    assert_eq!(came.json().unwrap()["Message"], "over TLS");
}

#[tokio::test]
async fn a_webhook_whose_certificate_proves_nothing_gets_nothing_and_the_attempt_says_why() {
    let authority = TestAuthority::new().unwrap();
    let trusted = Trusted::new(&authority);
    let stranger = receiver(&TestAuthority::new().unwrap(), LOCALHOST).await;
    let misnamed = receiver(&authority, "elsewhere.example.com").await;
    let (world, topic) = world(&trusted, Setup::default()).await;
    for (receiver, reason) in [
        (&stranger, "invalid peer certificate: "),
        (&misnamed, "certificate not valid for name \"127.0.0.1\""),
    ] {
        world.subscribe(&topic, &receiver.url("/hook")).await;
        let failed = world.newest(&topic, |delivery| delivery.attempt_count == 1).await;
        assert_eq!((failed.state(), failed.last_status_code), (v1::DeliveryState::Pending, 0));
        let told = &failed.attempts[0].error;
        let at = format!("the TLS handshake with {} failed: ", receiver.address());
        assert!(told.starts_with(&at) && told.contains(reason), "{told}");
        assert!(receiver.received().is_empty(), "something was sent before the proof");
    }
}

#[tokio::test]
async fn mails_go_over_starttls_or_tls_with_a_password_to_a_server_of_the_given_authority() {
    for (how, tls) in [
        (Protection::StartTls as fn(_) -> _, MailTls::StartTls),
        (Protection::Implicit as fn(_) -> _, MailTls::Implicit),
    ] {
        let authority = TestAuthority::new().unwrap();
        let (trusted, account) = (Trusted::new(&authority), ("postern", "pass=word"));
        let protection = how(authority.server(&[LOCALHOST]).unwrap());
        let sink = MailSink::start_with(ANYWHERE, protection, Some(account)).await.unwrap();
        let setup = Setup {
            mail: Some(sink.address()),
            mail_tls: tls,
            mail_account: Some(account),
            ..Setup::default()
        };
        let (world, topic) = world(&trusted, setup).await;
        world.subscribe(&topic, "someone@example.com").await;
        let mail = sink.wait_for(PATIENCE, |_| true).await.unwrap();
        assert_eq!(mail.to, ["someone@example.com"], "{tls:?}");
        let state = |one: &v1::Delivery| one.state() == v1::DeliveryState::Delivered;
        world.newest(&topic, state).await;
    }
}

/// Asks for one mail by STARTTLS, and returns what its first attempt came to.
async fn first_mail(
    sink: &MailSink,
    trusted: &Trusted,
    password: &'static str,
) -> (World, v1::Delivery) {
    let setup = Setup {
        mail: Some(sink.address()),
        mail_tls: MailTls::StartTls,
        mail_account: Some(("postern", password)),
        ..Setup::default()
    };
    let (world, topic) = world(trusted, setup).await;
    world.subscribe(&topic, "someone@example.com").await;
    let delivery = world.newest(&topic, |delivery| delivery.attempt_count == 1).await;
    (world, delivery)
}

#[tokio::test]
async fn a_mail_server_that_proves_nothing_or_offers_no_tls_gets_no_mail_and_no_password() {
    let authority = TestAuthority::new().unwrap();
    let trusted = Trusted::new(&authority);
    let foreign = TestAuthority::new().unwrap().server(&[LOCALHOST]).unwrap();
    let protection = Protection::StartTls(foreign);
    let stranger = MailSink::start_with(ANYWHERE, protection, None).await.unwrap();
    let (_world, failed) = first_mail(&stranger, &trusted, "password").await;
    assert_eq!(failed.state(), v1::DeliveryState::Pending);
    let told = &failed.attempts[0].error;
    assert!(told.contains("invalid peer certificate: "), "{told}");
    assert_eq!(told.matches("invalid peer certificate").count(), 1, "it is said twice: {told}");

    let open = MailSink::start().await.unwrap();
    let (_world, failed) = first_mail(&open, &trusted, "password").await;
    assert_eq!(failed.state(), v1::DeliveryState::Pending);
    assert!(failed.attempts[0].error.contains("STARTTLS"), "{}", failed.attempts[0].error);
    assert!(stranger.mails().is_empty() && open.mails().is_empty());
}

#[tokio::test]
async fn a_password_that_the_mail_server_does_not_take_costs_no_mail() {
    let authority = TestAuthority::new().unwrap();
    let trusted = Trusted::new(&authority);
    let protection = Protection::StartTls(authority.server(&[LOCALHOST]).unwrap());
    let account = Some(("postern", "the password"));
    let sink = MailSink::start_with(ANYWHERE, protection, account).await.unwrap();
    let (_world, failed) = first_mail(&sink, &trusted, "another password").await;
    // It is tried again: the password is the operator's to mend, and the mail is not lost by then.
    assert_eq!((failed.state(), failed.last_status_code), (v1::DeliveryState::Pending, 535));
    assert!(failed.attempts[0].error.contains("535"), "{}", failed.attempts[0].error);
    assert!(!failed.attempts[0].error.contains("another password"));
}
