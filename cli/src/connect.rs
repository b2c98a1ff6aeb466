//! The way to the servers: an address, a key on every call, a time limit.

use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

use crate::args::Globals;
use crate::exit::Failure;
use crate::profile::Profiles;

/// Where nothing else is said: what `postern dev` serves on.
pub const DEFAULT_ADDRESS: &str = "http://127.0.0.1:50051";

/// A channel that carries the key.
pub type Authenticated = InterceptedService<Channel, Key>;

/// The channels to the control plane and to the dispatcher.
#[derive(Clone, Debug)]
pub struct Connection {
    control_plane: Channel,
    topics: Channel,
    key: Key,
    /// How long one call may take.
    pub timeout: Duration,
}

/// Puts the API key and the time limit on each call.
#[derive(Clone, Debug)]
pub struct Key {
    bearer: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Key {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(bearer) = &self.bearer {
            request.metadata_mut().insert("authorization", bearer.clone());
        }
        Ok(request)
    }
}

impl Connection {
    /// Connects as the options say; what they leave open is the profile's. Nothing is dialled before
    /// the first call.
    pub fn open(globals: &Globals) -> Result<Self, Failure> {
        let profiles = Profiles::load(globals)?;
        let profile = profiles.find(globals.profile.as_deref())?;
        let address = globals
            .address
            .clone()
            .or_else(|| profile.map(|profile| profile.address.clone()))
            .unwrap_or_else(|| DEFAULT_ADDRESS.to_owned());
        let topics = globals
            .topics_address
            .clone()
            // An address on the command line is another deployment than the profile's.
            .or_else(|| match globals.address {
                Some(_) => None,
                None => profile.and_then(|profile| profile.topics_address.clone()),
            })
            .unwrap_or_else(|| address.clone());
        let key =
            globals.api_key.clone().or_else(|| profile.and_then(|profile| profile.api_key.clone()));
        Self::new(&address, &topics, key.as_deref(), globals.timeout)
    }

    /// Connects to these addresses with this key.
    pub fn new(
        address: &str,
        topics: &str,
        key: Option<&str>,
        timeout: Duration,
    ) -> Result<Self, Failure> {
        let bearer = key
            .map(|key| format!("Bearer {key}").parse::<MetadataValue<Ascii>>())
            .transpose()
            .map_err(|_| Failure::Usage("the API key has characters that no key has".to_owned()))?;
        let bearer = bearer.map(|mut bearer| {
            bearer.set_sensitive(true);
            bearer
        });
        Ok(Self {
            control_plane: channel(address, timeout)?,
            topics: channel(topics, timeout)?,
            key: Key { bearer },
            timeout,
        })
    }

    /// The same servers, asked by somebody else.
    pub fn with_key(&self, key: &str) -> Result<Self, Failure> {
        let mut bearer: MetadataValue<Ascii> = format!("Bearer {key}")
            .parse()
            .map_err(|_| Failure::Usage("the API key has characters that no key has".to_owned()))?;
        bearer.set_sensitive(true);
        Ok(Self { key: Key { bearer: Some(bearer) }, ..self.clone() })
    }

    /// The channel to the control plane.
    pub fn control_plane(&self) -> Authenticated {
        InterceptedService::new(self.control_plane.clone(), self.key.clone())
    }

    /// The channel to the dispatcher.
    pub fn topics(&self) -> Authenticated {
        InterceptedService::new(self.topics.clone(), self.key.clone())
    }

    /// A request with the time limit.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        request
    }
}

fn channel(address: &str, timeout: Duration) -> Result<Channel, Failure> {
    let address = match address.contains("://") {
        true => address.to_owned(),
        false => format!("http://{address}"),
    };
    let wrong = |error| Failure::Usage(format!("{address} is no address: {error}"));
    let mut endpoint = Endpoint::from_shared(address.clone()).map_err(wrong)?;
    if address.starts_with("https://") {
        endpoint =
            endpoint.tls_config(ClientTlsConfig::new().with_native_roots()).map_err(wrong)?;
    }
    Ok(endpoint.connect_timeout(timeout.min(Duration::from_secs(5))).connect_lazy())
}
