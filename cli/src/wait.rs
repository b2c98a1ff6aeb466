//! Waiting for an endpoint's state, on the watch stream: no polling, no missed state at the end.

use std::future::Future;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use postern_proto::v1::consumer_service_client::ConsumerServiceClient;
use postern_proto::v1::{VpcEndpoint, VpcEndpointState, WatchVpcEndpointsRequest};
use tokio::time::Instant;

use crate::connect::Connection;
use crate::exit::Failure;
use crate::output::{Printer, no_color, shorten};

/// Waits until the endpoint is in one of the states, and returns it as it is then.
///
/// It gives up at once where no further state leads there: an endpoint that failed, say.
pub async fn wait_for(
    connection: &Connection,
    id: &str,
    states: &[VpcEndpointState],
    timeout: Duration,
    printer: &Printer,
) -> Result<VpcEndpoint, Failure> {
    watch(connection, id, states, timeout, Spinner::new(!printer.is_json())).await
}

/// The same, with nothing shown while it waits.
pub async fn settled(
    connection: &Connection,
    id: &str,
    states: &[VpcEndpointState],
    timeout: Duration,
) -> Result<VpcEndpoint, Failure> {
    watch(connection, id, states, timeout, Spinner::new(false)).await
}

/// Asks again and again until there is an answer. What it costs is bounded by whoever awaits it.
pub async fn until<T, F>(mut ask: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<Option<T>, Failure>>,
{
    loop {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn watch(
    connection: &Connection,
    id: &str,
    states: &[VpcEndpointState],
    timeout: Duration,
    mut spinner: Spinner,
) -> Result<VpcEndpoint, Failure> {
    let started = Instant::now();
    let request = WatchVpcEndpointsRequest { vpc_endpoint_ids: vec![id.to_owned()] };
    let mut client = ConsumerServiceClient::new(connection.control_plane());
    let mut stream = client.watch_vpc_endpoints(request).await?.into_inner();
    let mut last = VpcEndpoint::default();
    let deadline = tokio::time::sleep(timeout);
    tokio::pin!(deadline);
    let mut frames = tokio::time::interval(Duration::from_millis(100));
    loop {
        tokio::select! {
            change = stream.message() => {
                let Some(change) = change? else {
                    return Err(Failure::TimedOut(format!("the server ended the watch of {id}")));
                };
                last = change.vpc_endpoint.unwrap_or_default();
                let state = last.state();
                if states.contains(&state) {
                    return Ok(last);
                }
                let ended = matches!(
                    state,
                    VpcEndpointState::Failed
                        | VpcEndpointState::Rejected
                        | VpcEndpointState::Expired
                        | VpcEndpointState::Deleted
                );
                let leaving = states.contains(&VpcEndpointState::Deleted);
                if ended && !leaving {
                    let state = shorten(state.as_str_name());
                    let why = match last.failure_reason.is_empty() {
                        true => String::new(),
                        false => format!(": {}", last.failure_reason),
                    };
                    return Err(Failure::TimedOut(format!("{id} is {state}{why}")));
                }
            }
            _ = frames.tick() => spinner.show(id, &last, started.elapsed()),
            () = &mut deadline => {
                let state = shorten(last.state().as_str_name());
                let why = match last.failure_reason.is_empty() {
                    true => String::new(),
                    false => format!(" ({})", last.failure_reason),
                };
                let waited = timeout.as_secs_f64();
                return Err(Failure::TimedOut(format!(
                    "{id} is still {state} after {waited} s{why}"
                )));
            }
        }
    }
}

/// Something that moves on standard error, when a person looks at it.
struct Spinner {
    shown: bool,
    frame: usize,
    frames: &'static [char],
}

impl Spinner {
    fn new(wanted: bool) -> Self {
        let shown = wanted && std::io::stderr().is_terminal();
        let frames = if no_color() {
            &['|', '/', '-', '\\'][..]
        } else {
            &['⠋', '⠙', '⠸', '⠴', '⠦', '⠇'][..]
        };
        Self { shown, frame: 0, frames }
    }

    fn show(&mut self, id: &str, endpoint: &VpcEndpoint, elapsed: Duration) {
        if !self.shown {
            return;
        }
        self.frame += 1;
        let frame = self.frames[self.frame % self.frames.len()];
        let state = shorten(endpoint.state().as_str_name());
        let seconds = elapsed.as_secs_f32();
        eprint!("\r\x1b[K{frame} {id} is {state}, {seconds:.1} s");
        // What can't be shown is no reason to stop waiting.
        let _ = std::io::stderr().flush();
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        if self.shown {
            eprint!("\r\x1b[K");
        }
    }
}
