//! RabbitMQ for tests.
//!
//! A [`Node`] is a broker of one's own with its files in a temporary directory, its own epmd and nothing
//! shared with a broker that the machine may run. A whole run shares one node, whose home
//! `POSTERN_TEST_AMQP_HOME` names (`postern-test-servers` prints it); a test process without that
//! variable starts one on first use. The names of exchanges and queues are fixed, so each test has a
//! virtual host to itself. Making one takes seconds, so the node makes a stock of them as it starts,
//! and a test claims one by removing its file.

mod node;

pub use node::Node;

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use tokio::sync::OnceCell;

/// The variable that names the home of a run's node.
pub const HOME_VARIABLE: &str = "POSTERN_TEST_AMQP_HOME";

/// How many virtual hosts a process that starts a node for itself has it make.
const OWN_STOCK: usize = 4;

/// A virtual host that one test has to itself. It is not used again after the test.
#[derive(Clone, Debug)]
pub struct Vhost {
    /// Its name.
    pub name: String,
    /// The URL for a client, user and password included.
    pub url: String,
}

impl Vhost {
    /// A fresh one on the run's node.
    ///
    /// # Errors
    /// When no node can be had, or its stock is used up and it makes no more.
    pub async fn claim() -> Result<Self> {
        let home = home().await?;
        let port = node::Ports::of(home)?.amqp;
        let name = match claim(&home.join("vhosts"))? {
            Some(name) => name,
            None => {
                let name = format!("more-{}", uuid::Uuid::new_v4().simple());
                node::ctl(home, &["add_vhost", &name]).await?;
                let all = ["set_permissions", "-p", &name, node::USER, ".*", ".*", ".*"];
                node::ctl(home, &all).await?;
                name
            }
        };
        Ok(Self { url: node::url(port, &name), name })
    }
}

/// Takes a name out of the stock: whoever removes the file has it.
fn claim(stock: &Path) -> Result<Option<String>> {
    for entry in std::fs::read_dir(stock).with_context(|| format!("reading {}", stock.display()))? {
        let entry = entry?;
        if std::fs::remove_file(entry.path()).is_ok() {
            return Ok(entry.file_name().to_str().map(str::to_owned));
        }
    }
    Ok(None)
}

async fn home() -> Result<&'static PathBuf> {
    static HOME: OnceCell<(PathBuf, Option<Node>)> = OnceCell::const_new();
    let (home, _) = HOME
        .get_or_try_init(|| async {
            if let Some(home) = std::env::var_os(HOME_VARIABLE) {
                return anyhow::Ok((PathBuf::from(home), None));
            }
            let node = Node::start_new(OWN_STOCK).await?;
            Ok((node.home().to_owned(), Some(node)))
        })
        .await?;
    Ok(home)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapin::options::{BasicGetOptions, BasicPublishOptions, QueueDeclareOptions};
    use lapin::types::{AMQPValue, FieldTable};
    use lapin::{BasicProperties, Connection, ConnectionProperties};

    /// Publishes one message to a new durable quorum queue, or says how many an old one holds.
    async fn queue(url: &str) -> lapin::Result<(lapin::Channel, u32)> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        let queue = channel.queue_declare("q".into(), options, arguments).await?;
        Ok((channel, queue.message_count()))
    }

    #[tokio::test]
    async fn each_claim_is_another_vhost_and_they_see_nothing_of_each_other() {
        let (one, two) = (Vhost::claim().await.unwrap(), Vhost::claim().await.unwrap());
        assert_ne!(one.name, two.name);
        let (channel, _) = queue(&one.url).await.unwrap();
        let confirm = lapin::options::ConfirmSelectOptions::default();
        channel.confirm_select(confirm).await.unwrap();
        let options = BasicPublishOptions::default();
        let sent = channel
            .basic_publish("".into(), "q".into(), options, b"x", BasicProperties::default())
            .await
            .unwrap();
        assert!(sent.await.unwrap().is_ack());
        let got = channel.basic_get("q".into(), BasicGetOptions::default()).await.unwrap();
        assert!(got.is_some());
        assert_eq!(queue(&two.url).await.unwrap().1, 0);
    }

    #[tokio::test]
    async fn a_private_node_keeps_its_port_and_queues_over_a_stop_and_a_kill() {
        let mut node = Node::private().await.unwrap();
        let url = node.url();
        queue(&url).await.unwrap();
        node.stop().await.unwrap();
        assert!(queue(&url).await.is_err(), "somebody listens on a stopped node");
        node.start().await.unwrap();
        queue(&url).await.unwrap();
        node.kill().await.unwrap();
        node.start().await.unwrap();
        queue(&url).await.unwrap();
    }
}
