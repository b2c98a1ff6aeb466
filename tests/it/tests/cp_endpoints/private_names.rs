//! Private DNS of endpoints (spec 3.4).

use postern_control_plane::app::connections::Decision;
use postern_control_plane::app::endpoints::CreateEndpoint;
use postern_control_plane::app::services::ModifyService;
use postern_control_plane::app::vpcs::ModifyVpcAttribute;
use postern_it::cp::doors::{Doors, PRIVATE_NAME};
use postern_it::cp::refusal;
use postern_model::Code;

use super::refused;

async fn accepting_by_itself(doors: &Doors) {
    let command = ModifyService {
        id: doors.service(),
        acceptance_required: Some(false),
        listeners: Vec::new(),
        private_dns_name: None,
        remove_private_dns_name: false,
        proxy_protocol_v2: None,
        idle_timeout_seconds: None,
    };
    doors.cp.app.modify_service(&doors.provider, command).await.unwrap();
}

#[tokio::test]
async fn a_private_name_is_claimed_once_in_a_vpc_until_its_endpoint_is_gone() {
    let doors = Doors::automatic().await;
    let not_said = || CreateEndpoint { private_dns: None, ..doors.ask() };
    let app = &doors.cp.app;
    let first = app.create_endpoint(&doors.consumer, not_said()).await.unwrap();
    assert_eq!(first.private_dns_name.as_ref().unwrap().as_str(), PRIVATE_NAME);
    let names = app.dns_entries(&first).unwrap();
    assert_eq!(names.last().unwrap().name, PRIVATE_NAME);
    assert_ne!(names.last().unwrap().hosted_zone, names[0].hosted_zone);

    let (code, message) = refused(&doors, not_said()).await;
    assert_eq!(code, Code::InvalidParameter);
    assert!(message.starts_with("private-dns-enabled cannot be set"), "{message}");
    doors.delete(first.id).await;
    assert_eq!(refused(&doors, not_said()).await.0, Code::InvalidParameter, "not gone yet");
    doors.obey().await;
    let second = app.create_endpoint(&doors.consumer, not_said()).await.unwrap();

    // Another one gets it when the first gives it up.
    let third = doors.endpoint().await;
    let on = |id| {
        let mut change = doors.change(id);
        change.private_dns = Some(true);
        change
    };
    let claimed = refusal(app.modify_endpoint(&doors.consumer, on(third.id)).await);
    assert!(claimed.message.starts_with("private-dns-enabled cannot be set"), "{claimed:?}");
    let mut off = doors.change(second.id);
    off.private_dns = Some(false);
    app.modify_endpoint(&doors.consumer, off).await.unwrap();
    let third = app.modify_endpoint(&doors.consumer, on(third.id)).await.unwrap();
    assert_eq!(third.private_dns_name.unwrap().as_str(), PRIVATE_NAME);
}

#[tokio::test]
async fn private_dns_needs_both_attributes_of_the_vpc_and_an_accepted_endpoint() {
    let doors = Doors::deciding().await;
    let app = &doors.cp.app;
    let not_said = CreateEndpoint { private_dns: None, ..doors.ask() };
    let endpoint = app.create_endpoint(&doors.consumer, not_said).await.unwrap();
    assert_eq!(endpoint.private_dns_name, None, "not before the provider has decided");
    let mut on = doors.change(endpoint.id);
    on.private_dns = Some(true);
    let early = refusal(app.modify_endpoint(&doors.consumer, on.clone()).await);
    assert!(early.message.contains("accepted"), "{early:?}");
    doors.decide(endpoint.id, Decision::Accept).await;

    for (dns_support, dns_hostnames) in [(true, false), (false, false)] {
        let attributes = ModifyVpcAttribute {
            vpc: doors.vpc.id,
            dns_support: Some(dns_support),
            dns_hostnames: Some(dns_hostnames),
        };
        app.modify_vpc_attribute(&doors.consumer, attributes).await.unwrap();
        let refusal = refusal(app.modify_endpoint(&doors.consumer, on.clone()).await);
        assert_eq!(refusal.code, Code::InvalidParameter);
        assert!(refusal.message.contains("enable_dns_support"), "{refusal:?}");
    }
    let attributes = ModifyVpcAttribute {
        vpc: doors.vpc.id,
        dns_support: Some(true),
        dns_hostnames: Some(true),
    };
    app.modify_vpc_attribute(&doors.consumer, attributes).await.unwrap();
    let on = app.modify_endpoint(&doors.consumer, on).await.unwrap();
    assert_eq!(on.private_dns_name.unwrap().as_str(), PRIVATE_NAME);

    accepting_by_itself(&doors).await;
    let nameless = ModifyService {
        id: doors.service(),
        acceptance_required: None,
        listeners: Vec::new(),
        private_dns_name: None,
        remove_private_dns_name: true,
        proxy_protocol_v2: None,
        idle_timeout_seconds: None,
    };
    app.modify_service(&doors.provider, nameless).await.unwrap();
    let ask = CreateEndpoint { private_dns: Some(true), ..doors.ask() };
    let (code, message) = refused(&doors, ask).await;
    assert_eq!(code, Code::InvalidParameter);
    assert!(message.contains("no private DNS name"), "{message}");
}
