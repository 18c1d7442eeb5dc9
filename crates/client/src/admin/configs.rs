//! DescribeConfigs (versions 1 to 4; 0 in [`configs_v0`]) and IncrementalAlterConfigs (0 to 1), or
//! AlterConfigs (0 to 2) where the broker does not have it (before 2.3).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::messages::{
    AlterConfigsRequest, ApiKey, DescribeConfigsRequest, IncrementalAlterConfigsRequest,
    alter_configs_request, incremental_alter_configs_request,
};

use super::{Admin, Results, configs_v0, outcome, text};
use crate::broker::{Broker, Lane};
use crate::error::{Error, Subject};
use crate::name::BrokerId;

/// Something that has a configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// A topic.
    Topic(Arc<str>),
    /// A broker.
    Broker(BrokerId),
}

/// One entry of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its value; `None` if it has none or may not be shown.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether it cannot be changed.
    pub is_read_only: bool,
    /// Whether it is a secret.
    pub is_sensitive: bool,
}

/// Where the value of a configuration entry comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigSource {
    /// It was set for this topic.
    Topic,
    /// It was set for this broker, or all, while they run.
    DynamicBroker,
    /// It is in the broker's file.
    StaticBroker,
    /// It is Kafka's default.
    Default,
    /// Something that this client does not know.
    Unknown,
}

/// A change of one configuration entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChange {
    /// Sets it.
    Set(String),
    /// Takes it away, so that the default is in force again.
    Delete,
}

impl Admin {
    /// Shows configurations, every entry with where it comes from. Brokers have this from 0.11 on;
    /// before, configurations are in ZooKeeper only.
    ///
    /// # Errors
    /// When no broker answers; what is wrong with one resource is in its result.
    pub async fn describe_configs(
        &self,
        resources: &[Resource],
    ) -> Result<Results<Resource, BTreeMap<String, ConfigEntry>>, Error> {
        let timeout = self.client.config().request_timeout;
        let mut results = Results::new();
        for (responsible, resources) in by_responsible(resources) {
            let described = self
                .retry(async || {
                    let broker = self.responsible(responsible).await?;
                    describe(&broker, &resources, timeout).await
                })
                .await?;
            results.extend(described);
        }
        Ok(results)
    }

    /// Changes entries of one configuration and leaves the others.
    ///
    /// A broker before 2.3 can only replace a whole configuration, so there it is read first.
    ///
    /// # Errors
    /// When no broker answers, or it refuses.
    pub async fn alter_configs(
        &self,
        resource: &Resource,
        changes: &BTreeMap<String, ConfigChange>,
    ) -> Result<(), Error> {
        let timeout = self.client.config().request_timeout;
        self.retry(async || {
            let broker = self.responsible(resource.broker()).await?;
            match alter(&broker, resource, changes).await {
                Err(Error::UnsupportedVersion { .. }) => {
                    replace(&broker, resource, changes, timeout).await
                }
                outcome => outcome,
            }
        })
        .await
    }

    async fn responsible(&self, broker: Option<BrokerId>) -> Result<Broker, Error> {
        match broker {
            Some(id) => self.client.broker(id),
            None => self.client.any_broker().await,
        }
    }
}

impl Resource {
    /// The only broker that may be asked, if it is not any.
    fn broker(&self) -> Option<BrokerId> {
        match self {
            Resource::Topic(_) => None,
            Resource::Broker(id) => Some(*id),
        }
    }

    /// The number that Kafka gives this kind (`ConfigResource.Type`).
    fn kind(&self) -> i8 {
        match self {
            Resource::Topic(_) => 2,
            Resource::Broker(_) => 4,
        }
    }

    fn name(&self) -> String {
        match self {
            Resource::Topic(name) => name.to_string(),
            Resource::Broker(id) => id.to_string(),
        }
    }

    fn subject(&self) -> Subject {
        match self {
            Resource::Topic(name) => Subject::Topic(Arc::clone(name)),
            Resource::Broker(id) => Subject::Broker(*id),
        }
    }
}

fn by_responsible(resources: &[Resource]) -> BTreeMap<Option<BrokerId>, Vec<Resource>> {
    let mut grouped: BTreeMap<_, Vec<Resource>> = BTreeMap::new();
    for resource in resources {
        grouped.entry(resource.broker()).or_default().push(resource.clone());
    }
    grouped
}

async fn describe(
    broker: &Broker,
    resources: &[Resource],
    timeout: Duration,
) -> Result<Results<Resource, BTreeMap<String, ConfigEntry>>, Error> {
    let request = resources.iter().map(|resource| {
        DescribeConfigsResource::default()
            .with_resource_type(resource.kind())
            .with_resource_name(text(&resource.name()))
            .with_configuration_keys(None)
    });
    let request = DescribeConfigsRequest::default().with_resources(request.collect());
    let connection = broker.connection(Lane::Control).await?;
    let answer = if configs_v0::is_all_there_is(&connection) {
        configs_v0::describe(&connection, &request, timeout).await?
    } else {
        let version = connection.version(ApiKey::DescribeConfigs, 1..=4)?;
        connection.call(version, &request, timeout).await?
    };
    let mut results = Results::new();
    for result in &answer.results {
        let is_it = |resource: &&Resource| {
            resource.kind() == result.resource_type
                && resource.name() == result.resource_name.as_str()
        };
        let Some(resource) = resources.iter().find(is_it) else { continue };
        let detail = result.error_message.as_ref();
        let code = result.error_code;
        let done = outcome(ApiKey::DescribeConfigs, resource.subject(), code, detail);
        let entries =
            result.configs.iter().map(|entry| (entry.name.to_string(), read_entry(entry)));
        results.insert(resource.clone(), done.map(|()| entries.collect()));
    }
    Ok(results)
}

fn read_entry(entry: &DescribeConfigsResourceResult) -> ConfigEntry {
    ConfigEntry {
        value: entry.value.as_ref().map(ToString::to_string),
        // `ConfigEntry.ConfigSource` of Kafka's DescribeConfigsResponse.
        source: match entry.config_source {
            1 => ConfigSource::Topic,
            2 | 3 => ConfigSource::DynamicBroker,
            4 => ConfigSource::StaticBroker,
            5 => ConfigSource::Default,
            _ => ConfigSource::Unknown,
        },
        is_read_only: entry.read_only,
        is_sensitive: entry.is_sensitive,
    }
}

async fn alter(
    broker: &Broker,
    resource: &Resource,
    changes: &BTreeMap<String, ConfigChange>,
) -> Result<(), Error> {
    use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let configs = changes.iter().map(|(name, change)| {
        // `AlterConfigOp.OpType`: 0 sets, 1 deletes.
        let (operation, value) = match change {
            ConfigChange::Set(value) => (0, Some(text(value))),
            ConfigChange::Delete => (1, None),
        };
        AlterableConfig::default()
            .with_name(text(name))
            .with_config_operation(operation)
            .with_value(value)
    });
    let request = AlterConfigsResource::default()
        .with_resource_type(resource.kind())
        .with_resource_name(text(&resource.name()))
        .with_configs(configs.collect());
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![request]);
    let answer = broker.call(Lane::Control, 0..=1, |_| request).await?;
    answer.body.responses.iter().try_for_each(|result| {
        let detail = result.error_message.as_ref();
        let api = ApiKey::IncrementalAlterConfigs;
        outcome(api, resource.subject(), result.error_code, detail)
    })
}

async fn replace(
    broker: &Broker,
    resource: &Resource,
    changes: &BTreeMap<String, ConfigChange>,
    timeout: Duration,
) -> Result<(), Error> {
    use alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let mut described = describe(broker, std::slice::from_ref(resource), timeout).await?;
    let current = described.remove(resource).unwrap_or_else(|| Ok(BTreeMap::new()))?;
    let own = |entry: &ConfigEntry| {
        matches!(entry.source, ConfigSource::Topic | ConfigSource::DynamicBroker)
    };
    let mut whole: BTreeMap<String, Option<String>> = current
        .into_iter()
        .filter(|(_, entry)| own(entry))
        .map(|(name, entry)| (name, entry.value))
        .collect();
    for (name, change) in changes {
        match change {
            ConfigChange::Set(value) => whole.insert(name.clone(), Some(value.clone())),
            ConfigChange::Delete => whole.remove(name),
        };
    }
    let configs = whole.iter().map(|(name, value)| {
        AlterableConfig::default().with_name(text(name)).with_value(value.as_deref().map(text))
    });
    let request = AlterConfigsResource::default()
        .with_resource_type(resource.kind())
        .with_resource_name(text(&resource.name()))
        .with_configs(configs.collect());
    let request = AlterConfigsRequest::default().with_resources(vec![request]);
    let answer = broker.call(Lane::Control, 0..=2, |_| request).await?;
    answer.body.responses.iter().try_for_each(|result| {
        let detail = result.error_message.as_ref();
        outcome(ApiKey::AlterConfigs, resource.subject(), result.error_code, detail)
    })
}
