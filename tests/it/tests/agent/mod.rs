//! A fake agent with behaviour: it enrols, follows over mTLS, keeps the state as the real one does,
//! and says that what it was told to bind is bound.

// Each file of tests takes what it needs.
#![allow(dead_code)]

pub(crate) mod world;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use postern_control_plane::app::App;
use postern_control_plane::fleet::{Fleet, FleetMetrics};
use postern_control_plane::store::state::Naming;
use postern_it::cp::Cp;
use postern_model::desired::{HostState, Key, Object};
use postern_model::id::HostId;
use postern_proto::FILE_DESCRIPTOR_SET;
use postern_proto::agent::v1::agent_service_client::AgentServiceClient;
use postern_proto::agent::v1::enrolment_service_client::EnrolmentServiceClient;
use postern_proto::agent::v1::follow_request::Message as Said;
use postern_proto::agent::v1::follow_response::Message as Told;
use postern_proto::agent::v1::{
    Applied, EnrolRequest, FollowRequest, Hello, InterfaceStatus, ResolverStatus,
};
use postern_proto::desired::{read_delta, read_snapshot};
use postern_runtime::clock::SystemClock;
use postern_runtime::config::Secret;
use postern_runtime::grpc::{Methods, RpcMetrics, ServeOptions, serve};
use postern_runtime::shutdown::Stop;
use postern_runtime::tls::{
    Authority, ClientAuth, ClientTls, Identity, IdentityHandle, ServerTls, SpiffeId,
};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// The join token of the tests.
pub(crate) const TOKEN: &str = "the join token of the tests";

/// What names are made from in the tests.
pub(crate) fn naming() -> Naming {
    Naming { region: "us-east-1".parse().unwrap(), suffixes: Default::default() }
}

/// Waits until `look` has something.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    for _ in 0..1000 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("waited 20 s for {what}");
}

/// The fleet's port of one replica.
pub(crate) struct Port {
    pub(crate) address: String,
    pub(crate) authority: Arc<Authority>,
    stop: Stop,
    _task: JoinHandle<()>,
}

impl Port {
    /// Serves agents for a control plane.
    pub(crate) async fn open(cp: &Cp) -> Self {
        let authority = Arc::new(Authority::ephemeral(Arc::new(SystemClock)).unwrap());
        Self::with(cp.app.clone(), authority).await
    }

    /// Serves agents under an authority that another replica has too.
    pub(crate) async fn with(app: App, authority: Arc<Authority>) -> Self {
        let stop = Stop::new();
        let mut registry = Registry::default();
        let metrics = FleetMetrics::register(&mut registry);
        let token = Secret::new(TOKEN);
        let fleet = Fleet::new(app, naming(), Arc::clone(&authority), token, metrics, stop.clone());
        let me = SpiffeId::service("control-plane").unwrap();
        let own = authority.issue_identity(&me, &[], Duration::from_secs(3600)).unwrap();
        let tls = ServerTls::mutual(IdentityHandle::new(own), ClientAuth::Optional);
        let methods = Methods::from_descriptor_set(FILE_DESCRIPTOR_SET).unwrap();
        let options = ServeOptions::new(RpcMetrics::register(&mut registry), methods).tls(tls);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serving = serve(listener, fleet.routes(), options, stop.clone());
        let task = tokio::spawn(async move { serving.await.unwrap() });
        Self { address, authority, stop, _task: task }
    }

    /// Enrols, with a token or with the identity held.
    pub(crate) async fn enrol(
        &self,
        identity: Option<&IdentityHandle>,
        request: EnrolRequest,
    ) -> Result<(Identity, String), Status> {
        let server = SpiffeId::service("control-plane").unwrap();
        let tls = match identity {
            Some(identity) => ClientTls::mutual(identity.clone(), server),
            None => ClientTls::anonymous(self.authority.ca_pem(), server).unwrap(),
        };
        let mut client = EnrolmentServiceClient::new(tls.channel(&self.address).unwrap());
        let asked = Identity::generate_csr(&SpiffeId::host("me").unwrap()).unwrap();
        let request =
            EnrolRequest { certificate_signing_request: asked.csr_pem.clone(), ..request };
        let answer = client.enrol(request).await?.into_inner();
        assert!(answer.not_after.is_some());
        let identity = Identity::new(answer.certificate, asked.key_pem, answer.authority).unwrap();
        Ok((identity, answer.host_id))
    }

    /// A host of this name in a zone joins.
    pub(crate) async fn join(&self, name: &str, zone: &str) -> (HostId, IdentityHandle) {
        let request = EnrolRequest {
            host_name: name.to_owned(),
            availability_zone_id: zone.to_owned(),
            join_token: TOKEN.to_owned(),
            ..EnrolRequest::default()
        };
        let (identity, host) = self.enrol(None, request).await.unwrap();
        (host.parse().unwrap(), IdentityHandle::new(identity))
    }

    /// The client of an enrolled host.
    pub(crate) fn client(
        &self,
        identity: &IdentityHandle,
    ) -> AgentServiceClient<tonic::transport::Channel> {
        let server = SpiffeId::service("control-plane").unwrap();
        let tls = ClientTls::mutual(identity.clone(), server);
        AgentServiceClient::new(tls.channel(&self.address).unwrap())
    }

    /// Starts an agent.
    pub(crate) fn agent(&self, identity: &IdentityHandle, held: HostState) -> Agent {
        Agent::start(self.client(identity), held)
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.stop.kill();
    }
}

/// What an agent did and has.
#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) state: HostState,
    pub(crate) snapshots: usize,
    pub(crate) deltas: usize,
    pub(crate) contexts: Vec<std::collections::BTreeMap<String, String>>,
    /// Why addresses can't be bound, if they can't.
    pub(crate) broken: Option<String>,
    pub(crate) ended: Option<Status>,
}

/// A running agent; dropped, it is gone without a word.
pub(crate) struct Agent {
    pub(crate) inner: Arc<Mutex<Inner>>,
    pub(crate) say: mpsc::Sender<FollowRequest>,
    task: JoinHandle<()>,
}

impl Agent {
    fn start(mut client: AgentServiceClient<tonic::transport::Channel>, held: HostState) -> Self {
        let inner = Arc::new(Mutex::new(Inner { state: held, ..Inner::default() }));
        let (say, said) = mpsc::channel(64);
        let (shared, out) = (Arc::clone(&inner), say.clone());
        let task = tokio::spawn(async move {
            let hello = shared.lock().unwrap().hello();
            out.send(hello).await.unwrap();
            let ended = match client.follow(ReceiverStream::new(said)).await {
                Err(status) => status,
                Ok(answer) => follow(&shared, answer.into_inner(), &out).await,
            };
            shared.lock().unwrap().ended = Some(ended);
        });
        Self { inner, say, task }
    }

    /// What it holds now.
    pub(crate) fn state(&self) -> HostState {
        self.inner.lock().unwrap().state.clone()
    }

    /// Says something of its own accord.
    pub(crate) async fn says(&self, message: Said) {
        let _ = self.say.send(FollowRequest { message: Some(message) }).await;
    }

    /// Waits for the end of its stream.
    pub(crate) async fn ended(&self) -> Status {
        until("the end of a stream", || async { self.inner.lock().unwrap().ended.clone() }).await
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(
    shared: &Mutex<Inner>,
    mut told: tonic::Streaming<postern_proto::agent::v1::FollowResponse>,
    out: &mpsc::Sender<FollowRequest>,
) -> Status {
    loop {
        let message = match told.message().await {
            Ok(Some(message)) => message.message.unwrap(),
            Ok(None) => return Status::ok("closed"),
            Err(status) => return status,
        };
        let answer = shared.lock().unwrap().obey(message);
        if out.send(answer).await.is_err() {
            return Status::ok("gone");
        }
    }
}

impl Inner {
    fn hello(&self) -> FollowRequest {
        let holds = self.state.generation > 0;
        let digest = if holds { self.state.digest().as_bytes().to_vec() } else { Vec::new() };
        let hello = Hello {
            generation: self.state.generation,
            digest: digest.into(),
            agent_version: "test".to_owned(),
            interfaces: self.statuses(self.state.objects().map(Object::key).collect()),
            resolvers: self.resolvers(),
        };
        FollowRequest { message: Some(Said::Hello(hello)) }
    }

    fn obey(&mut self, told: Told) -> FollowRequest {
        let touched = match told {
            Told::Snapshot(snapshot) => {
                let (state, digest, context) = read_snapshot(snapshot).unwrap();
                self.state = self.state.replace(state, digest).unwrap();
                self.snapshots += 1;
                self.contexts.push(context);
                self.state.objects().map(Object::key).collect()
            }
            Told::Delta(delta) => {
                let (change, context) = read_delta(delta).unwrap();
                let touched = change.upserts.iter().map(Object::key).collect();
                self.state.take(change).unwrap();
                self.deltas += 1;
                self.contexts.push(context);
                touched
            }
        };
        let applied = Applied {
            generation: self.state.generation,
            interfaces: self.statuses(touched),
            resolvers: self.resolvers(),
        };
        FollowRequest { message: Some(Said::Applied(applied)) }
    }

    fn statuses(&self, keys: Vec<Key>) -> Vec<InterfaceStatus> {
        let status = |key: &Key| match self.state.get(key) {
            Some(Object::Interface(interface)) => Some(InterfaceStatus {
                network_interface_id: interface.id.to_string(),
                epoch: interface.epoch,
                bound: self.broken.is_none(),
                error: self.broken.clone().unwrap_or_default(),
            }),
            _ => None,
        };
        keys.iter().filter_map(status).collect()
    }

    fn resolvers(&self) -> Vec<ResolverStatus> {
        let resolver = |attachment: &postern_model::desired::Attachment| ResolverStatus {
            attachment_id: attachment.id.to_string(),
            endpoint: format!("{}:53", attachment.cidr.resolver()),
            error: String::new(),
        };
        self.state.attachments().map(resolver).collect()
    }
}
