use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;

struct Served {
    at: std::net::SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

async fn served(admin: &Admin) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let at = listener.local_addr().expect("an address");
    let stop = CancellationToken::new();
    let task = tokio::spawn(serve(listener, admin.clone(), stop.clone()));
    Served { at, stop, task }
}

/// Status and body of one request.
async fn fetch(served: &Served, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(served.at).await.expect("connected");
    let request = format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, answer)
}

#[tokio::test]
async fn the_index_names_the_process_and_links_the_other_pages() {
    let served = served(&Admin::new("postern-test")).await;
    let (status, body) = fetch(&served, "/").await;
    assert_eq!(status, 200);
    for part in ["<h1>postern-test</h1>", "\"/healthz\"", "\"/readyz\"", "\"/metrics\"", "version "]
    {
        assert!(body.contains(part), "{part} in {body}");
    }
    assert_eq!(fetch(&served, "/healthz").await.0, 200);
    assert_eq!(fetch(&served, "/other").await.0, 404);
}

#[tokio::test]
async fn readiness_is_refused_with_the_parts_that_are_missing_until_all_are_ready() {
    let admin = Admin::new("postern-test");
    let served = served(&admin).await;
    let (database, broker) = (admin.readiness.part("database"), admin.readiness.part("broker"));
    database.ready();
    let (status, body) = fetch(&served, "/readyz").await;
    assert_eq!(status, 503);
    assert!(body.contains(r#""notReady":{"broker":"starting"}"#), "{body}");
    broker.not_ready("connection refused");
    assert!(fetch(&served, "/readyz").await.1.contains("connection refused"));
    broker.ready();
    assert_eq!(fetch(&served, "/readyz").await.0, 200);
    database.not_ready("away");
    assert_eq!(fetch(&served, "/readyz").await.0, 503);
    drop(database);
    assert!(admin.readiness.is_ready());
}

#[tokio::test]
async fn metrics_show_the_process_and_what_was_registered() {
    let admin = Admin::new("postern-test");
    let counter = admin.register(|registry| {
        let counter = prometheus_client::metrics::counter::Counter::<u64>::default();
        registry.register("knocks", "Knocks on the door", counter.clone());
        counter
    });
    counter.inc_by(3);
    let served = served(&admin).await;
    let (status, body) = fetch(&served, "/metrics").await;
    assert_eq!(status, 200);
    for part in ["knocks_total 3", "process_start_time_seconds ", "process_open_fds ", "# EOF"] {
        assert!(body.contains(part), "{part} in {body}");
    }
}

#[tokio::test]
async fn a_stop_ends_the_server_even_with_an_idle_connection_open() {
    let served = served(&Admin::new("postern-test")).await;
    let mut idle = TcpStream::connect(served.at).await.expect("connected");
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: admin\r\n\r\n").await.expect("sent");
    let mut some = [0; 12];
    idle.read_exact(&mut some).await.expect("an answer");
    served.stop.cancel();
    let ended = timeout(Duration::from_secs(10), served.task).await.expect("in time");
    assert!(ended.expect("no panic").is_ok());
}
