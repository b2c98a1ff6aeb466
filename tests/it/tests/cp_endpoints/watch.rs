//! Watching endpoints.

use std::pin::pin;
use std::time::Duration;

use postern_control_plane::app::App;
use postern_control_plane::app::connections::Decision;
use postern_control_plane::pokes::Pokes;
use postern_control_plane::store::endpoints::Endpoint;
use postern_it::cp::code;
use postern_it::cp::doors::Doors;
use postern_model::Code;
use postern_model::endpoint::EndpointState as S;
use postern_model::id::EndpointId;
use tokio_stream::StreamExt as _;

#[tokio::test]
async fn a_watch_shows_each_state_and_ends_with_the_process() {
    let doors = Doors::deciding().await;
    let before = doors.endpoint().await;
    let watch = doors.cp.app.watch_endpoints(&doors.consumer, &[]).await.unwrap();
    let mut watch = pin!(watch);
    let mut next = async || -> Option<(EndpointId, S)> {
        let endpoint: Option<Endpoint> = watch.next().await.transpose().unwrap();
        endpoint.map(|endpoint| (endpoint.id, endpoint.state))
    };
    assert_eq!(next().await, Some((before.id, S::PendingAcceptance)));
    let id = doors.endpoint().await.id;
    assert_eq!(next().await, Some((id, S::PendingAcceptance)));
    doors.decide(id, Decision::Accept).await;
    assert_eq!(next().await, Some((id, S::Pending)));
    doors.obey().await;
    assert_eq!(next().await, Some((id, S::Available)));
    // What a client is too slow for comes as one, in its last state.
    doors.decide(id, Decision::Reject).await;
    doors.decide(id, Decision::Accept).await;
    doors.obey().await;
    doors.decide(id, Decision::Reject).await;
    assert_eq!(next().await, Some((id, S::Rejected)));
    doors.delete(id).await;
    assert_eq!(next().await, Some((id, S::Deleting)));
    doors.obey().await;
    assert_eq!(next().await, Some((id, S::Deleted)));
    doors.cp.app.pokes.end();
    assert_eq!(next().await, None);
}

#[tokio::test]
async fn a_watch_sees_what_it_was_not_told_of() {
    let mut doors = Doors::deciding().await;
    doors.set(|settings| settings.times.watch_refresh = Duration::from_millis(20));
    let endpoint = doors.endpoint().await;
    // As a replica whose pokes are lost on the way.
    let deaf = App { pokes: Pokes::default(), ..doors.cp.app.clone() };
    let watch = deaf.watch_endpoints(&doors.consumer, &[endpoint.id]).await.unwrap();
    let mut watch = pin!(watch);
    assert_eq!(watch.next().await.unwrap().unwrap().state, S::PendingAcceptance);
    doors.decide(endpoint.id, Decision::Accept).await;
    assert_eq!(watch.next().await.unwrap().unwrap().state, S::Pending);
}

#[tokio::test]
async fn too_many_watches_are_refused() {
    let doors = Doors::deciding().await;
    let app = &doors.cp.app;
    let somebody = "999999999999".parse().unwrap();
    let listen = |_| app.pokes.of_account(somebody, 2048).unwrap();
    let others: Vec<_> = (0..2048).map(listen).collect();
    let refused = app.watch_endpoints(&doors.consumer, &[]).await;
    assert_eq!(code(refused.map(|_| ())), Code::RequestLimitExceeded);
    drop(others);
    assert!(app.watch_endpoints(&doors.consumer, &[]).await.is_ok());
}
