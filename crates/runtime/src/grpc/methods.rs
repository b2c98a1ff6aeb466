//! The methods that a server has: what spans and metrics may be named after.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet};

/// Served by most processes besides their own: not in their descriptors.
const COMMON: [(&str, &str, bool); 4] = [
    ("grpc.health.v1.Health", "Check", false),
    ("grpc.health.v1.Health", "Watch", true),
    ("grpc.reflection.v1.ServerReflection", "ServerReflectionInfo", true),
    ("grpc.reflection.v1alpha.ServerReflection", "ServerReflectionInfo", true),
];

/// One method of a service.
#[derive(Debug, PartialEq, Eq)]
pub struct Method {
    /// The service with its package, such as `postern.v1.VpcEndpointService`.
    pub service: String,
    /// The method's own name.
    pub name: String,
    /// `service/name`, as in the request's path; `other` for what is not known.
    pub label: String,
    /// Whether either side sends a stream.
    pub streaming: bool,
}

/// The known methods. A caller can put any text in a path, so nothing is named after one that is not
/// known here: it counts as `other`.
#[derive(Clone, Debug)]
pub struct Methods {
    known: Arc<BTreeMap<String, Arc<Method>>>,
    other: Arc<Method>,
}

impl Methods {
    /// The methods in an encoded `FileDescriptorSet`, and those of health and reflection.
    ///
    /// # Errors
    /// When the bytes are no descriptor set.
    pub fn from_descriptor_set(encoded: &[u8]) -> Result<Self, prost::DecodeError> {
        let set = FileDescriptorSet::decode(encoded)?;
        let mut known = BTreeMap::new();
        let mut add = |service: &str, name: &str, streaming: bool| {
            let label = format!("{service}/{name}");
            let (service, name) = (service.to_owned(), name.to_owned());
            let method = Method { service, name, label: label.clone(), streaming };
            known.insert(label, Arc::new(method));
        };
        for (service, name, streaming) in COMMON {
            add(service, name, streaming);
        }
        for file in &set.file {
            for service in &file.service {
                let full = full_name(file, service.name());
                for method in &service.method {
                    let streaming = method.client_streaming() || method.server_streaming();
                    add(&full, method.name(), streaming);
                }
            }
        }
        let other = Method {
            service: "other".to_owned(),
            name: "other".to_owned(),
            label: "other".to_owned(),
            streaming: false,
        };
        Ok(Self { known: Arc::new(known), other: Arc::new(other) })
    }

    /// The method of a request's path (`/service/name`), or the one called `other`.
    pub fn of_path(&self, path: &str) -> &Arc<Method> {
        path.strip_prefix('/').and_then(|label| self.known.get(label)).unwrap_or(&self.other)
    }
}

fn full_name(file: &FileDescriptorProto, service: &str) -> String {
    match file.package() {
        "" => service.to_owned(),
        package => format!("{package}.{service}"),
    }
}
