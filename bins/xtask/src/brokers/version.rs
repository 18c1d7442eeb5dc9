//! Which Kafka is wanted, and what that version needs to run: its Maven artifacts, its mode, its
//! flags. Pure: a table by version range, nothing is looked up.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::Error;

/// A version of Apache Kafka: `3.9.1`, or four numbers for the versions before 1.0.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(Vec<u16>);

/// How the brokers of a cluster agree on who is who.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A ZooKeeper beside the brokers (all versions before 4.0).
    Zookeeper,
    /// Brokers that are their own controllers (3.3 and later).
    Kraft,
}

/// The logging library that the jars of a version bring or are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logging {
    /// log4j 1 or its successor reload4j: `-Dlog4j.configuration`.
    Log4j1,
    /// log4j 2: `-Dlog4j2.configurationFile`.
    Log4j2,
}

impl Version {
    /// Whether this version is `major.minor` or later.
    #[must_use]
    pub fn at_least(&self, major: u16, minor: u16) -> bool {
        self.0.as_slice() >= [major, minor].as_slice()
    }

    /// The mode this version is started in when none is asked for.
    #[must_use]
    pub fn default_mode(&self) -> Mode {
        if self.at_least(3, 7) { Mode::Kraft } else { Mode::Zookeeper }
    }

    /// Whether this version can be started in `mode`.
    #[must_use]
    pub fn supports(&self, mode: Mode) -> bool {
        match mode {
            Mode::Zookeeper => !self.at_least(4, 0),
            Mode::Kraft => self.at_least(3, 3),
        }
    }

    /// The logging library of this version.
    pub(super) fn logging(&self) -> Logging {
        if self.at_least(4, 0) { Logging::Log4j2 } else { Logging::Log4j1 }
    }

    /// The Maven artifacts, `group:artifact:version`, whose runtime dependencies are all the jars
    /// that a broker of this version and its tools need.
    #[must_use]
    pub fn artifacts(&self) -> Vec<String> {
        let scala = match () {
            () if self.at_least(3, 0) => "2.13",
            () if self.at_least(2, 4) => "2.12",
            () => "2.11",
        };
        let mut artifacts = vec![format!("org.apache.kafka:kafka_{scala}:{self}")];
        if self.at_least(3, 5) {
            for tool in ["kafka-tools", "connect-mirror", "connect-runtime"] {
                artifacts.push(format!("org.apache.kafka:{tool}:{self}"));
            }
        }
        if !self.at_least(1, 0) {
            artifacts.push("javax.xml.bind:jaxb-api:2.3.1".to_owned());
        }
        for artifact in self.logging_artifacts() {
            artifacts.push((*artifact).to_owned());
        }
        artifacts
    }

    fn logging_artifacts(&self) -> &'static [&'static str] {
        match () {
            () if self.at_least(4, 0) => &[
                "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4",
                "org.apache.logging.log4j:log4j-core:2.25.4",
                "org.apache.logging.log4j:log4j-api:2.25.4",
            ],
            () if self.at_least(3, 0) => &["org.slf4j:slf4j-reload4j:1.7.36"],
            () if self.at_least(2, 0) => &["org.slf4j:slf4j-log4j12:1.7.28"],
            () if self.at_least(1, 0) => &["org.slf4j:slf4j-log4j12:1.7.25"],
            () => &["org.slf4j:slf4j-log4j12:1.7.21"],
        }
    }

    /// What the Java virtual machine must be told so that this version runs on Java 17.
    #[must_use]
    pub fn jvm_flags(&self) -> &'static [&'static str] {
        if self.at_least(1, 0) {
            return &[];
        }
        &[
            "--add-opens=java.base/java.nio=ALL-UNNAMED",
            "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
            "--add-opens=java.base/java.lang=ALL-UNNAMED",
        ]
    }

    /// The published container image of this version; there is none before 3.7.
    #[must_use]
    pub fn image(&self) -> Option<String> {
        self.at_least(3, 7).then(|| format!("apache/kafka:{self}"))
    }
}

impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let numbers: Result<Vec<u16>, _> = text.split('.').map(str::parse).collect();
        match numbers {
            Ok(numbers) if (3..=4).contains(&numbers.len()) && numbers >= vec![0, 10, 0] => {
                Ok(Self(numbers))
            }
            _ => Err(Error::Version { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(u16::to_string).collect();
        formatter.write_str(&numbers.join("."))
    }
}

impl TryFrom<String> for Version {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().expect("a version")
    }

    #[test]
    fn versions_order_by_number_not_by_text() {
        assert!(version("0.10.2.2") < version("1.1.1"));
        assert!(version("3.9.1") < version("4.3.0"));
        assert!(version("3.10.0").at_least(3, 9));
        assert!(!version("2.4.1").at_least(3, 0));
    }

    #[test]
    fn what_is_no_version_is_refused_by_name() {
        for text in ["", "3", "3.9", "3.9.x", "latest", "0.9.0.1", "1.2.3.4.5"] {
            let error = text.parse::<Version>().expect_err(text);
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn each_line_of_kafka_gets_the_jars_it_needs() {
        let artifacts = |text| version(text).artifacts().join(" ");
        assert!(artifacts("0.10.2.2").contains("kafka_2.11:0.10.2.2"));
        assert!(artifacts("0.10.2.2").contains("jaxb-api"));
        assert!(!artifacts("1.1.1").contains("jaxb-api"));
        assert!(artifacts("2.4.1").contains("kafka_2.12:2.4.1"));
        assert!(artifacts("3.2.3").contains("slf4j-reload4j"));
        assert!(artifacts("3.9.1").contains("connect-mirror:3.9.1"));
        assert!(artifacts("4.3.0").contains("log4j-core"));
    }

    #[test]
    fn a_version_runs_only_in_the_modes_it_has() {
        assert_eq!(version("3.2.3").default_mode(), Mode::Zookeeper);
        assert_eq!(version("3.9.1").default_mode(), Mode::Kraft);
        assert!(version("3.9.1").supports(Mode::Zookeeper));
        assert!(!version("4.3.0").supports(Mode::Zookeeper));
        assert!(!version("2.4.1").supports(Mode::Kraft));
    }
}
