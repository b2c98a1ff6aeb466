//! A data plane with one interface and nothing else: what the load scripts measure.
//!
//! `forward LISTEN TARGET` forwards from one address to another until its standard input closes, and
//! prints `ready` once it takes connections. It is the code that the agent runs, told by its arguments
//! instead of by a control plane.

use std::error::Error;
use std::io::Read as _;
use std::net::SocketAddrV4;
use std::time::Duration;

use postern_datapath::{Config, Datapath, InterfaceSpec, Listener, Place};
use postern_model::id::{EndpointId, NetworkInterfaceId};
use postern_model::net::Cidr;
use postern_model::security::{IngressRule, PortRange, Protocol};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(listen), Some(target), None) = (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("usage: forward LISTEN TARGET".into());
    };
    let (listen, target): (SocketAddrV4, SocketAddrV4) = (listen.parse()?, target.parse()?);
    let datapath = Datapath::start(Config::default())?;
    datapath.apply(InterfaceSpec {
        id: NetworkInterfaceId::generate(&mut rand::rng()),
        endpoint_id: EndpointId::generate(&mut rand::rng()),
        address: *listen.ip(),
        place: Place::Host,
        listeners: vec![Listener { port: listen.port(), targets: vec![target] }],
        ingress: vec![IngressRule {
            source: Cidr::new("0.0.0.0/0".parse()?),
            protocol: Protocol::Tcp,
            ports: PortRange::single(listen.port()),
        }],
        serving: true,
        idle_timeout: Duration::from_secs(350),
        proxy_protocol: false,
        target_place: Place::Host,
        target_source: None,
    })?;
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    datapath.shutdown(Duration::from_secs(1));
    Ok(())
}
