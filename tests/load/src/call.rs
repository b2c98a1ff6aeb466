//! The method: its description, its requests as bytes, and one call of it.

use crate::config::{Config, Descriptors};
use crate::template::Template;
use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tokio_stream::StreamExt;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ErrorResponse, FileDescriptorResponse, ServerReflectionRequest};

/// A request body, made once where it can be.
#[derive(Debug)]
enum Body {
    Plain(Bytes),
    Template(Template),
}

/// A method ready to be called over and over.
#[derive(Debug)]
pub struct Method {
    path: PathAndQuery,
    input: MessageDescriptor,
    streams: bool,
    bodies: Vec<Body>,
    metadata: MetadataMap,
    timeout: Duration,
    stream_for: Option<Duration>,
    stream_count: u64,
}

impl Method {
    /// Finds the method that `config` names, asking the server over `channel` if need be, and checks every
    /// request against it.
    ///
    /// # Errors
    /// When there is no such method, it takes a stream, or a request does not fit its message.
    pub async fn prepare(config: &Config, channel: &Channel) -> Result<Self> {
        let metadata = metadata(config)?;
        let pool = match described(config)? {
            Some(pool) => pool,
            None => reflect(channel, &metadata, &config.service).await?,
        };
        Self::find(config, &pool, metadata)
    }

    fn find(config: &Config, pool: &DescriptorPool, metadata: MetadataMap) -> Result<Self> {
        let Config { service, method: name, .. } = config;
        let descriptor = pool
            .get_service_by_name(service)
            .with_context(|| format!("call: no service {service}"))?;
        let method = descriptor
            .methods()
            .find(|method| method.name() == name)
            .with_context(|| format!("call: {service} has no method {name}"))?;
        ensure!(
            !method.is_client_streaming(),
            "call: {name} takes a stream; that is not supported"
        );
        let input = method.input();
        let mut bodies = Vec::new();
        for request in &config.data {
            let template = Template::parse(&request.to_string())?;
            // Also a template must give a request that fits, before the first is sent.
            let bytes = encode(&input, &template.render(0, 0))?;
            let is_plain = template.is_plain();
            bodies.push(if is_plain { Body::Plain(bytes) } else { Body::Template(template) });
        }
        Ok(Self {
            path: format!("/{service}/{name}").parse()?,
            input,
            streams: method.is_server_streaming(),
            bodies,
            metadata,
            timeout: config.timeout,
            stream_for: config.stream_call_duration,
            stream_count: config.stream_call_count.unwrap_or(u64::MAX),
        })
    }

    /// Makes call number `number` (from 0) and waits for its end.
    ///
    /// # Errors
    /// The status that ended it, DeadlineExceeded when it took longer than the timeout. A stream that the
    /// client ended as configured is no error.
    pub async fn call(&self, channel: &Channel, number: u64, worker: u32) -> Result<(), Status> {
        let which = usize::try_from(number).unwrap_or(0) % self.bodies.len().max(1);
        let body = match self.bodies.get(which) {
            Some(Body::Plain(bytes)) => bytes.clone(),
            Some(Body::Template(template)) => encode(&self.input, &template.render(number, worker))
                .map_err(|error| Status::invalid_argument(error.to_string()))?,
            None => Bytes::new(),
        };
        let mut request = Request::from_parts(self.metadata.clone(), Default::default(), body);
        request.set_timeout(self.timeout);
        let deadline = Instant::now() + self.timeout;
        match timeout_at(deadline, self.exchange(channel, request)).await {
            Ok(ended) => ended,
            Err(_) => Err(Status::deadline_exceeded("the driver's timeout")),
        }
    }

    async fn exchange(&self, channel: &Channel, request: Request<Bytes>) -> Result<(), Status> {
        let mut client = tonic::client::Grpc::new(channel.clone());
        client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = self.path.clone();
        if !self.streams {
            return client.unary(request, path, Raw).await.map(drop);
        }
        let end = self.stream_for.map(|duration| Instant::now() + duration);
        let messages = async {
            let mut stream = client.server_streaming(request, path, Raw).await?.into_inner();
            let mut count = 0;
            while count < self.stream_count {
                match stream.next().await {
                    Some(message) => drop(message?),
                    None => break,
                }
                count += 1;
            }
            Ok(())
        };
        match end {
            None => messages.await,
            Some(end) => timeout_at(end, messages).await.unwrap_or(Ok(())),
        }
    }
}

/// Checks, without a server, that a configuration with a .proto file or a descriptor set of its own names
/// a method that can be driven and requests that fit it.
///
/// # Errors
/// As [`Method::prepare`], and for a configuration that leaves the description to the server.
pub fn check(config: &Config) -> Result<()> {
    let pool = described(config)?.context("proto: only the server can describe the method")?;
    Method::find(config, &pool, metadata(config)?).map(drop)
}

/// The description of the service from files; `None` when the server is to be asked.
fn described(config: &Config) -> Result<Option<DescriptorPool>> {
    Ok(match &config.descriptors {
        Descriptors::Proto(file, includes) => {
            let set = protox::compile([file], includes)
                .with_context(|| format!("proto: {}", file.display()))?;
            Some(DescriptorPool::from_file_descriptor_set(set)?)
        }
        Descriptors::Protoset(file) => {
            let bytes =
                std::fs::read(file).with_context(|| format!("protoset: {}", file.display()))?;
            Some(DescriptorPool::decode(bytes.as_slice())?)
        }
        Descriptors::Reflection => None,
    })
}

/// A request's bytes from its JSON.
fn encode(input: &MessageDescriptor, json: &str) -> Result<Bytes> {
    let mut json = serde_json::Deserializer::from_str(json);
    let message = DynamicMessage::deserialize(input.clone(), &mut json)
        .with_context(|| format!("data: no {}", input.full_name()))?;
    Ok(message.encode_to_vec().into())
}

fn metadata(config: &Config) -> Result<MetadataMap> {
    let mut metadata = MetadataMap::new();
    for (key, value) in &config.metadata {
        let name = MetadataKey::from_bytes(key.to_ascii_lowercase().as_bytes());
        let value: MetadataValue<_> = value.parse().with_context(|| format!("metadata: {key}"))?;
        metadata.insert(name.with_context(|| format!("metadata: {key}"))?, value);
    }
    Ok(metadata)
}

/// The files that describe `service` and what they import, from the server.
async fn reflect(
    channel: &Channel,
    metadata: &MetadataMap,
    service: &str,
) -> Result<DescriptorPool> {
    let mut client = ServerReflectionClient::new(channel.clone());
    let (ask, asked) = tokio::sync::mpsc::channel(1);
    let asked = tokio_stream::wrappers::ReceiverStream::new(asked);
    let symbol = MessageRequest::FileContainingSymbol(service.to_owned());
    let question = |message_request| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(message_request),
    };
    ask.send(question(symbol)).await?;
    let request = Request::from_parts(metadata.clone(), Default::default(), asked);
    let answers = tokio::time::timeout(Duration::from_secs(20), async {
        let mut answers = client.server_reflection_info(request).await?.into_inner();
        let mut files: Vec<prost_types::FileDescriptorProto> = Vec::new();
        loop {
            let answer = answers.next().await.context("the server ended the reflection")??;
            match answer.message_response {
                Some(MessageResponse::FileDescriptorResponse(FileDescriptorResponse {
                    file_descriptor_proto,
                })) => {
                    for bytes in file_descriptor_proto {
                        let file = prost_types::FileDescriptorProto::decode(bytes.as_slice())?;
                        if files.iter().all(|known| known.name() != file.name()) {
                            files.push(file);
                        }
                    }
                }
                Some(MessageResponse::ErrorResponse(ErrorResponse { error_message, .. })) => {
                    bail!("call: no service {service} by reflection: {error_message}")
                }
                _ => bail!("the server answered the reflection with something else"),
            }
            let has = |name: &str| files.iter().any(|file| file.name() == name);
            let missing = files.iter().flat_map(|file| &file.dependency).find(|name| !has(name));
            match missing.cloned() {
                Some(name) => ask.send(question(MessageRequest::FileByFilename(name))).await?,
                None => return Ok(files),
            }
        }
    });
    let files = answers.await.context("reflection took longer than 20 s")??;
    Ok(DescriptorPool::from_file_descriptor_set(prost_types::FileDescriptorSet { file: files })?)
}

/// Bytes out, bytes in: answers are counted, not looked into.
#[derive(Clone, Copy, Debug)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// A status code's name as ghz (Go's library) writes it.
pub fn code_name(code: Code) -> String {
    match code {
        Code::Ok => "OK".to_owned(),
        Code::Cancelled => "Canceled".to_owned(),
        other => format!("{other:?}"),
    }
}
