//! The demonstration's clusters, and connections to them that are pipes within the process.

use std::io;

use futures::future::BoxFuture;
use kmirror_client::Config;
use kmirror_client::connection::{Address, Connector, Duplex};
use kmirror_fake::Cluster;

use crate::exit::Failure;

/// Starts a cluster of three brokers on the current runtime.
pub(super) async fn start(id: &str, topics: &[(&str, i32)]) -> Result<Cluster, Failure> {
    let mut builder = Cluster::builder().brokers(3).in_memory().cluster_id(id);
    for (name, partitions) in topics {
        builder = builder.topic(*name, *partitions);
    }
    builder.start().await.map_err(Failure::runtime)
}

/// The configuration of a client whose connections are pipes.
pub(super) fn client(cluster: &Cluster) -> Result<Config, Failure> {
    let config = Config::new(&cluster.bootstrap()).map_err(Failure::runtime)?;
    Ok(config.with_connector(std::sync::Arc::new(Pipes { cluster: cluster.clone() })))
}

/// Takes the first record of a partition away, as retention would.
pub(super) fn lose_a_record(cluster: &Cluster) -> Result<(), Failure> {
    cluster.delete_records("orders", 0, 1).map_err(Failure::runtime)
}

#[derive(Debug)]
struct Pipes {
    cluster: Cluster,
}

impl Connector for Pipes {
    fn connect<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Duplex>> {
        Box::pin(async move {
            let stream = self.cluster.dial(address.host(), address.port())?;
            let (read, write) = tokio::io::split(stream);
            Ok(Duplex { read: Box::new(read), write: Box::new(write) })
        })
    }
}
