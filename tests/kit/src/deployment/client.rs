//! Calls to the API, with a key on each and a limit of time.

use std::time::Duration;

use postern_proto::v1::account_service_client::AccountServiceClient;
use postern_proto::v1::consumer_service_client::ConsumerServiceClient;
use postern_proto::v1::host_service_client::HostServiceClient;
use postern_proto::v1::notification_service_client::NotificationServiceClient;
use postern_proto::v1::provider_service_client::ProviderServiceClient;
use postern_proto::v1::topic_service_client::TopicServiceClient;
use postern_proto::v1::vpc_service_client::VpcServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// For a call to be answered: longer than the server's own limits, so that its answer is what is seen.
const PATIENCE: Duration = Duration::from_secs(40);

/// A channel that carries a key.
pub type Door = InterceptedService<Channel, Key>;

/// Puts the API key on each call.
#[derive(Clone, Debug)]
pub struct Key(MetadataValue<Ascii>);

impl Interceptor for Key {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// Somebody who calls the API.
#[derive(Clone, Debug)]
pub struct Client {
    control_plane: Channel,
    topics: Channel,
    key: Key,
}

macro_rules! doors {
    ($($name:ident: $client:ident at $server:ident, $what:literal;)*) => {
        impl Client {
            $(
                #[doc = $what]
                pub fn $name(&self) -> $client<Door> {
                    let door = InterceptedService::new(self.$server.clone(), self.key.clone());
                    $client::new(door)
                }
            )*
        }
    };
}

doors! {
    accounts: AccountServiceClient at control_plane, "Accounts and API keys.";
    vpcs: VpcServiceClient at control_plane, "VPCs, subnets, security groups.";
    hosts: HostServiceClient at control_plane, "Hosts and attachments.";
    provider: ProviderServiceClient at control_plane, "Services and their connections.";
    consumer: ConsumerServiceClient at control_plane, "Endpoints and their interfaces.";
    notifications: NotificationServiceClient at control_plane, "Connection notifications.";
    topics: TopicServiceClient at topics, "Topics and subscriptions.";
}

impl Client {
    /// A client of the servers at these addresses, `host:port`. Nothing is dialled before it is used.
    pub fn new(control_plane: &str, topics: &str, key: &str) -> Self {
        let channel = |address: &str| {
            let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
            endpoint.connect_timeout(Duration::from_secs(5)).timeout(PATIENCE).connect_lazy()
        };
        let (control_plane, topics) = (channel(control_plane), channel(topics));
        Self { control_plane, topics, key: Key::of(key) }
    }

    /// The same servers, asked by somebody else.
    #[must_use]
    pub fn with_key(&self, key: &str) -> Self {
        Self { key: Key::of(key), ..self.clone() }
    }
}

impl Key {
    fn of(key: &str) -> Self {
        Self(format!("Bearer {key}").parse().expect("a key is ASCII"))
    }
}
