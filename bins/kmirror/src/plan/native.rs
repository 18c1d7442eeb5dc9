//! From kmirror's own file to a plan: names of clusters become clusters, properties are checked by
//! the role they have.

use std::path::Path;

use kmirror_client::config::keys::{Finding, Level, Role, resolve, suggest};
use kmirror_client::config::properties::{Origin, Properties};

use super::circles;
use super::document::{Document, Settings, read};
use super::options::Value;
use super::{Cluster, Flow, Place, Plan, ZOOKEEPER_TIMEOUT, filled};
use crate::exit::Failure;
use crate::http::parse_address;

/// The longest file read.
const FILE_LEN_MAX: u64 = 1 << 20;

/// Reads and resolves a file.
pub(crate) fn load(path: &Path) -> Result<Plan, Failure> {
    let failed = |cause| Failure::usage(format!("read {}: {cause}", path.display()));
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > FILE_LEN_MAX {
        return Err(Failure::usage(format!("{} is longer than 1 MiB", path.display())));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    Ok(resolve_document(read(&path.display().to_string(), &text)))
}

/// Resolves a document.
pub(crate) fn resolve_document(document: Document) -> Plan {
    let mut resolver = Resolver { document: &document, findings: document.findings.clone() };
    let mut flows: Vec<Flow> =
        document.flows.iter().filter_map(|flow| resolver.flow(flow)).collect();
    resolver.check_clusters();
    if document.flows.is_empty() && resolver.findings.is_empty() {
        let origin = document.top.origin.clone().unwrap_or_else(|| Origin::new("the file"));
        resolver.report(origin, "flows", "is missing: there is nothing to mirror");
    }
    if let Some((Value::Text(text), origin)) = document.top.entry("http")
        && let Err(fault) = parse_address(text)
    {
        resolver.report(origin.clone(), "http", &fault);
    }
    for (at, flow) in flows.iter().enumerate() {
        if flows[..at].iter().any(|earlier| earlier.name == flow.name) {
            let origin = flow.settings.origin.clone().unwrap_or_else(|| Origin::new("the file"));
            let text = format!("{} is the name of two flows; name them apart", flow.name);
            resolver.report(origin, "name", &text);
        }
    }
    resolver.findings.append(&mut circles::check(&mut flows));
    let findings = resolver.findings;
    Plan { http: document.top.text("http").map(str::to_owned), flows, findings }
}

struct Resolver<'document> {
    document: &'document Document,
    findings: Vec<Finding>,
}

impl Resolver<'_> {
    /// Clusters are checked whether or not a flow uses them.
    fn check_clusters(&mut self) {
        for settings in self.document.clusters.values() {
            let (_, findings) = resolve(&settings.properties("properties"), Role::Admin);
            self.findings.extend(findings);
        }
    }

    fn flow(&mut self, settings: &Settings) -> Option<Flow> {
        let source = self.cluster(settings, "source", "consumer", Role::Consumer);
        let destination = self.cluster(settings, "destination", "producer", Role::Producer);
        if settings.text("prefix").is_some()
            && let Some((_, origin)) = settings.entry("suffix")
        {
            self.report(origin.clone(), "suffix", "cannot be set beside prefix");
        }
        let name = settings.text("name").map(str::to_owned).or_else(|| {
            Some(format!("{}-{}", settings.text("source")?, settings.text("destination")?))
        });
        let mut settings = settings.clone();
        let name = name?;
        let names_group = |source: &Cluster| filled(&source.properties, "group.id").is_some();
        if settings.entry("group").is_none() && !source.as_ref().is_some_and(names_group) {
            let origin = Origin::new("the flow's name");
            settings.set("group", Value::Text(format!("kmirror-{name}")), origin);
        }
        Some(Flow { name, source: source?, destination: destination?, settings })
    }

    fn cluster(
        &mut self,
        flow: &Settings,
        end: &'static str,
        table: &'static str,
        role: Role,
    ) -> Option<Cluster> {
        let (Value::Text(name), origin) = flow.entry(end)? else { return None };
        let Some(settings) = self.document.clusters.get(name) else {
            let near = suggest(name, self.document.clusters.keys().map(String::as_str));
            let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            let text = format!("there is no [clusters.{name}]{near}");
            self.report(origin.clone(), end, &text);
            return None;
        };
        let (own, findings) = resolve(&flow.properties(table), role);
        self.findings.extend(findings);
        // What the cluster says is checked once for all flows; here it only fills what the flow
        // left.
        let (mut properties, _) = resolve(&settings.properties("properties"), role);
        for entry in own.iter() {
            properties.set(&entry.key, entry.value.clone(), entry.origin.clone());
        }
        let place = self.place(name, settings, &properties)?;
        let address_map = match settings.entry("address_map") {
            Some((Value::Pairs(pairs), _)) => pairs.clone(),
            _ => Vec::new(),
        };
        let cluster_id = settings.text("cluster_id").map(str::to_owned);
        Some(Cluster { place, properties, address_map, cluster_id })
    }

    fn place(&mut self, name: &str, settings: &Settings, properties: &Properties) -> Option<Place> {
        let servers = settings.texts("bootstrap");
        if !servers.is_empty() {
            return Some(Place::Servers(servers.join(",")));
        }
        if let Some(connect) = settings.text("zookeeper") {
            let connect = connect.to_owned();
            return Some(Place::Zookeeper { connect, timeout: ZOOKEEPER_TIMEOUT });
        }
        let place = Place::from_properties(properties);
        if place.is_none() {
            let origin = settings.origin.clone().unwrap_or_else(|| Origin::new("the file"));
            let key = format!("clusters.{name}");
            self.report(origin, &key, "has neither bootstrap nor zookeeper");
        }
        place
    }

    fn report(&mut self, origin: Origin, key: &str, text: &str) {
        let (key, text) = (key.to_owned(), text.to_owned());
        let finding = Finding { level: Level::Error, origin, key, text };
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str) -> Plan {
        resolve_document(read("k.toml", text))
    }

    fn findings(text: &str) -> Vec<String> {
        plan(text).findings.iter().map(ToString::to_string).collect()
    }

    const CLUSTERS: &str = "[clusters.west]\nbootstrap = [\"a:1\", \"b:1\"]\n\
                            [clusters.west.properties]\nclient.id = \"w\"\n\
                            [clusters.east]\nzookeeper = \"zk:2181\"\n";

    #[test]
    fn a_flow_joins_its_clusters_with_its_own_properties() {
        let flow = "[[flows]]\nsource = \"west\"\ndestination = \"east\"\ntopics = \"t\"\n\
                    consumer = { \"auto.offset.reset\" = \"smallest\" }\n";
        let plan = plan(&format!("{CLUSTERS}{flow}"));
        assert_eq!(plan.findings, []);
        let flow = &plan.flows[0];
        assert_eq!(flow.name, "west-east");
        assert_eq!(flow.settings.text("group"), Some("kmirror-west-east"));
        assert_eq!(flow.source.place, Place::Servers("a:1,b:1".to_owned()));
        assert_eq!(flow.source.properties.value("client.id"), Some("w"));
        assert_eq!(flow.source.properties.value("auto.offset.reset"), Some("earliest"));
        assert!(matches!(&flow.destination.place, Place::Zookeeper { .. }));
    }

    #[test]
    fn a_group_among_the_consumers_properties_is_the_flows() {
        let flow = "[[flows]]\nsource = \"west\"\ndestination = \"east\"\ntopics = \"t\"\n\
                    consumer = { \"group.id\" = \"mine\" }\n";
        let plan = plan(&format!("{CLUSTERS}{flow}"));
        assert_eq!(plan.findings, []);
        assert_eq!(plan.flows[0].settings.text("group"), None);
        assert_eq!(plan.flows[0].group(), "mine");
    }

    #[test]
    fn a_flow_to_an_unknown_cluster_is_named_with_its_line() {
        let flow = "[[flows]]\nsource = \"wets\"\ndestination = \"east\"\ntopics = \"t\"\n";
        assert_eq!(
            findings(&format!("{CLUSTERS}{flow}")),
            ["k.toml:8: source there is no [clusters.wets]; did you mean west?"]
        );
    }

    #[test]
    fn properties_are_checked_by_their_role() {
        let flow = "[[flows]]\nsource = \"west\"\ndestination = \"east\"\ntopics = \"t\"\n\
                    producer = { \"group.id\" = \"g\" }\n";
        let found = findings(&format!("{CLUSTERS}{flow}"));
        assert_eq!(found, ["k.toml:11: group.id is ignored: it is a property of the consumer"]);
    }

    #[test]
    fn a_cluster_without_brokers_and_a_file_without_flows_are_errors() {
        let text = "[clusters.a]\n[[flows]]\nsource=\"a\"\ndestination=\"a\"\ntopics=\"t\"\n";
        assert_eq!(findings(text), ["k.toml:1: clusters.a has neither bootstrap nor zookeeper"]);
        assert_eq!(findings(""), ["k.toml:1: flows is missing: there is nothing to mirror"]);
    }

    #[test]
    fn an_address_that_is_none_is_named_with_its_line() {
        let flow = "[[flows]]\nsource = \"west\"\ndestination = \"east\"\ntopics = \"t\"\n";
        let found = findings(&format!("http = \"here\"\n{CLUSTERS}{flow}"));
        assert!(found[0].starts_with("k.toml:1: http must be PORT or ADDRESS:PORT"), "{found:?}");
    }

    #[test]
    fn two_flows_of_one_name_are_refused() {
        let flow = "[[flows]]\nsource = \"west\"\ndestination = \"east\"\ntopics = \"t\"\n";
        let found = findings(&format!("{CLUSTERS}{flow}{flow}"));
        assert!(found[0].contains("west-east is the name of two flows"), "{found:?}");
    }
}
