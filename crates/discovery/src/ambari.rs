//! Host names from Ambari's REST interface, as HDInsight clusters run it.
//!
//! One GET per question: the hosts of a component, or the name of the only cluster. Ambari knows
//! hosts, not ports, so the port is the component's usual one unless the caller says otherwise.

use std::time::Duration;

use serde::Deserialize;

use crate::address::{self, Address};
use crate::http::{self, Credentials, Url};

/// An Ambari server and how to ask it.
#[derive(Debug, Clone)]
pub struct Server {
    /// Its address, `http://headnodehost:8080` from within an HDInsight cluster.
    pub url: Url,
    /// Who asks.
    pub credentials: Option<Credentials>,
    /// The cluster's name; without one the server must manage exactly one.
    pub cluster: Option<String>,
    /// The bound of each request.
    pub timeout: Duration,
}

impl Server {
    /// The addresses of the Kafka brokers, in the order Ambari lists them.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn brokers(&self, port: u16) -> Result<Vec<Address>, Error> {
        self.hosts("KAFKA", "KAFKA_BROKER", port).await
    }

    /// The addresses of the ZooKeeper servers, in the order Ambari lists them.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn zookeeper_servers(&self, port: u16) -> Result<Vec<Address>, Error> {
        self.hosts("ZOOKEEPER", "ZOOKEEPER_SERVER", port).await
    }

    async fn hosts(
        &self,
        service: &'static str,
        component: &'static str,
        port: u16,
    ) -> Result<Vec<Address>, Error> {
        let cluster = match &self.cluster {
            Some(name) => name.clone(),
            None => self.only_cluster().await?,
        };
        let path = format!(
            "/api/v1/clusters/{}/services/{service}/components/{component}",
            escape_segment(&cluster)
        );
        let answer: Component = self.ask(&path).await?;
        if answer.host_components.is_empty() {
            return Err(Error::NoHosts { cluster, component });
        }
        let mut hosts = Vec::with_capacity(answer.host_components.len());
        for found in answer.host_components {
            hosts.push(Address::try_new(&found.roles.host_name, port)?);
        }
        Ok(hosts)
    }

    async fn only_cluster(&self) -> Result<String, Error> {
        let answer: Clusters = self.ask("/api/v1/clusters").await?;
        let mut names: Vec<_> =
            answer.items.into_iter().map(|item| item.cluster.cluster_name).collect();
        match names.len() {
            1 => Ok(names.remove(0)),
            _ => Err(Error::WhichCluster { names: names.join(", ").escape_debug().collect() }),
        }
    }

    async fn ask<T: for<'json> Deserialize<'json>>(&self, path: &str) -> Result<T, Error> {
        let url = self.url.with_path(path);
        let body = http::fetch(&url, self.credentials.as_ref(), self.timeout).await?;
        serde_json::from_slice(&body)
            .map_err(|cause| Error::Answer { url: url.to_string(), source: Box::new(cause) })
    }
}

/// Why Ambari named no hosts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request failed.
    #[error("ask ambari")]
    Http(#[from] http::Error),
    /// The answer is not what Ambari sends.
    #[error("answer of {url} is not ambari's")]
    Answer {
        /// What was asked.
        url: String,
        /// What the JSON lacks.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A host name is malformed.
    #[error("ambari names a malformed host")]
    Host(#[from] address::Error),
    /// The component is installed nowhere.
    #[error("ambari cluster {cluster} runs {component} on no host")]
    NoHosts {
        /// The cluster asked.
        cluster: String,
        /// The component asked for.
        component: &'static str,
    },
    /// There is no cluster, or a name is needed to choose one.
    #[error("name the cluster: ambari manages [{names}]")]
    WhichCluster {
        /// Those it manages, escaped.
        names: String,
    },
}

impl Error {
    /// Whether the same question may be answered a little later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Http(cause) => cause.is_retryable(),
            Self::Answer { .. }
            | Self::Host(_)
            | Self::NoHosts { .. }
            | Self::WhichCluster { .. } => false,
        }
    }
}

#[derive(Deserialize)]
struct Component {
    #[serde(default)]
    host_components: Vec<HostComponent>,
}

#[derive(Deserialize)]
struct HostComponent {
    #[serde(rename = "HostRoles")]
    roles: HostRoles,
}

#[derive(Deserialize)]
struct HostRoles {
    host_name: String,
}

#[derive(Deserialize)]
struct Clusters {
    items: Vec<ClusterItem>,
}

#[derive(Deserialize)]
struct ClusterItem {
    #[serde(rename = "Clusters")]
    cluster: Cluster,
}

#[derive(Deserialize)]
struct Cluster {
    cluster_name: String,
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
fn escape_segment(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_name_cannot_change_the_path() {
        assert_eq!(escape_segment("my cluster/../x"), "my%20cluster%2F..%2Fx");
    }
}
