//! The fleet: hosts join, hear what they should be doing, and say what they are doing (design 5).
//!
//! An agent *enrols* once for an identity and renews it ([`EnrolmentService`]); with it, it opens its
//! one *stream*, over which a [`session`](follow) offers it the state that `store::state` reads. What
//! it answers goes into the database, and the endpoints concerned are looked at again. A session keeps
//! nothing that the next one, on whichever replica, could miss.
//!
//! [`EnrolmentService`]: postern_proto::agent::v1::enrolment_service_server::EnrolmentService

mod enrolment;
mod follow;
mod message;
mod metrics;
mod session;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postern_model::id::HostId;
use postern_proto::agent::v1::agent_service_server::AgentServiceServer;
use postern_proto::agent::v1::enrolment_service_server::EnrolmentServiceServer;
use postern_runtime::config::Secret;
use postern_runtime::grpc::MAX_MESSAGE_BYTES;
use postern_runtime::shutdown::Stop;
use postern_runtime::tls::Authority;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

pub use metrics::FleetMetrics;

use crate::app::App;
use crate::store::state::Naming;

/// How long a certificate lasts. Agents renew theirs after two thirds of it.
pub const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// The services that may enrol.
const SERVICES: [&str; 1] = ["dispatcher"];

/// Streams of one host that may be open on this replica: the one, one that it replaces, and one that is
/// being refused.
const STREAMS_MAX: usize = 3;

/// The fleet's side of the control plane. Clones share it.
#[derive(Clone)]
pub struct Fleet(Arc<Shared>);

struct Shared {
    app: App,
    naming: Naming,
    authority: Arc<Authority>,
    join_token: Secret,
    metrics: FleetMetrics,
    stop: Stop,
    sessions: TaskTracker,
    streams: Mutex<HashMap<HostId, usize>>,
}

impl Fleet {
    /// A fleet whose hosts and services join with `join_token` and get identities of `authority`. Its
    /// sessions end when `stop` is asked for.
    pub fn new(
        app: App,
        naming: Naming,
        authority: Arc<Authority>,
        join_token: Secret,
        metrics: FleetMetrics,
        stop: Stop,
    ) -> Self {
        Self(Arc::new(Shared {
            app,
            naming,
            authority,
            join_token,
            metrics,
            stop,
            sessions: TaskTracker::new(),
            streams: Mutex::default(),
        }))
    }

    /// The fleet's services, for the port that hosts reach.
    pub fn routes(&self) -> Routes {
        let enrolment = EnrolmentServiceServer::new(enrolment::Enrolment(self.clone()));
        let agents = AgentServiceServer::new(follow::Agents(self.clone()))
            .max_decoding_message_size(MAX_MESSAGE_BYTES);
        Routes::new(enrolment.max_decoding_message_size(MAX_MESSAGE_BYTES)).add_service(agents)
    }

    /// Waits for the sessions to end, which they do when the process is asked to stop.
    pub async fn ended(&self) {
        self.0.sessions.close();
        self.0.sessions.wait().await;
    }

    /// Counts a stream of `host` in; `None` when there are too many.
    fn admit(&self, host: HostId) -> Option<Admitted> {
        let mut streams = self.0.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let open = streams.entry(host).or_default();
        if *open >= STREAMS_MAX {
            return None;
        }
        *open += 1;
        self.0.metrics.streams.inc();
        Some(Admitted { fleet: self.clone(), host })
    }
}

/// One stream that is counted in. Dropping it counts it out.
struct Admitted {
    fleet: Fleet,
    host: HostId,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let shared = &self.fleet.0;
        shared.metrics.streams.dec();
        let mut streams = shared.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = streams.get_mut(&self.host) {
            *open -= 1;
            if *open == 0 {
                streams.remove(&self.host);
            }
        }
    }
}
