//! The state file: what is running, so that another process can find it, hurt it and stop it.

use std::{collections::BTreeMap, fs, path::Path};

use serde::{Deserialize, Serialize};

use super::{Cluster, Error};

/// The clusters that were started together, by name.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// Each cluster under its name: `source`, `destination`.
    pub clusters: BTreeMap<String, Cluster>,
}

impl State {
    /// Reads the file at `path`; nothing if there is none.
    ///
    /// # Errors
    /// When the file cannot be read or is not a state file.
    pub fn read(path: &Path) -> Result<Option<Self>, Error> {
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| Error::State { path: path.to_owned(), source }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file("read", path)(error)),
        }
    }

    /// Writes the file at `path`, all of it or nothing.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(Error::file("create", directory))?;
        }
        let text = serde_json::to_vec_pretty(self).expect("invariant: a state is plain data");
        let partial = path.with_extension("partial");
        fs::write(&partial, text).map_err(Error::file("write", &partial))?;
        fs::rename(&partial, path).map_err(Error::file("rename", &partial))
    }

    /// Stops every cluster and removes its data and the file at `path`.
    ///
    /// # Errors
    /// The first cluster that could not be stopped; the others are stopped all the same.
    pub fn down(mut self, path: &Path) -> Result<(), Error> {
        let stopped: Vec<_> = self.clusters.values_mut().map(Cluster::stop).collect();
        if path.exists() {
            fs::remove_file(path).map_err(Error::file("remove", path))?;
        }
        stopped.into_iter().collect()
    }

    /// The variables that tell a command where the clusters are: `KMIRROR_SOURCE`,
    /// `KMIRROR_SOURCE_ZOOKEEPER`, `KMIRROR_SOURCE_VERSION`, and the same for each other cluster.
    #[must_use]
    pub fn environment(&self) -> BTreeMap<String, String> {
        let mut variables = BTreeMap::new();
        for (name, cluster) in &self.clusters {
            let prefix = format!("KMIRROR_{}", name.to_uppercase().replace('-', "_"));
            variables.insert(format!("{prefix}_VERSION"), cluster.version.to_string());
            if let Some(zookeeper) = &cluster.zookeeper {
                variables.insert(format!("{prefix}_ZOOKEEPER"), zookeeper.clone());
            }
            variables.insert(prefix, cluster.bootstrap.clone());
        }
        variables
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> State {
        let version = "2.4.1".parse().expect("a version");
        let mut cluster = Cluster::external("source", version, "127.0.0.1:9092");
        cluster.zookeeper = Some("127.0.0.1:2181".to_owned());
        State { clusters: BTreeMap::from([("source".to_owned(), cluster)]) }
    }

    #[test]
    fn a_state_reads_back_as_it_was_written() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("below/state.json");
        assert!(State::read(&path).expect("no file is no error").is_none());
        example().write(&path).expect("a file");
        let read = State::read(&path).expect("a state").expect("a file");
        assert_eq!(read.clusters["source"].bootstrap, "127.0.0.1:9092");
        assert_eq!(read.clusters["source"].version, example().clusters["source"].version);
        fs::write(&path, "{}").expect("a file");
        assert!(State::read(&path).is_err());
    }

    #[test]
    fn the_environment_names_each_end() {
        let variables = example().environment();
        assert_eq!(variables["KMIRROR_SOURCE"], "127.0.0.1:9092");
        assert_eq!(variables["KMIRROR_SOURCE_ZOOKEEPER"], "127.0.0.1:2181");
        assert_eq!(variables["KMIRROR_SOURCE_VERSION"], "2.4.1");
    }
}
