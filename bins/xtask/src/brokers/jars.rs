//! The jars of a version of Kafka, fetched once through Maven and kept.
//!
//! A version's directory exists only when it is complete: Maven fills a directory beside it, which
//! is then renamed. Two processes that want the same version take turns by a file lock.

use std::{
    fmt::Write as _,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use super::{Error, Home, Version, config, process};

/// The jars of one version.
#[derive(Clone, Debug)]
pub struct Jars {
    version: Version,
    directory: PathBuf,
}

impl Jars {
    /// The jars of `version`, fetched now if they are not there yet.
    ///
    /// # Errors
    /// When Maven is missing or cannot fetch them, or the directory cannot be written.
    pub fn fetch(home: &Home, version: &Version) -> Result<Self, Error> {
        let all = home.jars();
        fs::create_dir_all(&all).map_err(Error::file("create", &all))?;
        let directory = all.join(version.to_string());
        let lock_path = all.join(format!("{version}.lock"));
        let lock = File::create(&lock_path).map_err(Error::file("create", &lock_path))?;
        lock.lock().map_err(Error::file("lock", &lock_path))?;
        let jars = Self { version: version.clone(), directory };
        if !jars.directory.exists() {
            jars.fill(&all.join(format!("{version}.partial")))?;
        }
        Ok(jars)
    }

    fn fill(&self, partial: &Path) -> Result<(), Error> {
        eprintln!("fetching the jars of Kafka {} with Maven", self.version);
        if partial.exists() {
            fs::remove_dir_all(partial).map_err(Error::file("remove", partial))?;
        }
        fs::create_dir_all(partial).map_err(Error::file("create", partial))?;
        let pom = partial.join("pom.xml");
        fs::write(&pom, self.pom()).map_err(Error::file("write", &pom))?;
        let mut maven = Command::new("mvn");
        maven.args(["--batch-mode", "--quiet", "--file"]).arg(&pom);
        maven.args(["dependency:copy-dependencies", "-DincludeScope=runtime"]);
        maven.arg("-Dmdep.overWriteReleases=false");
        maven.arg(format!("-DoutputDirectory={}", partial.display()));
        process::run(maven, "dependency:copy-dependencies")?;
        let (name, text) = config::logging(&self.version);
        let logging = partial.join(name);
        fs::write(&logging, text).map_err(Error::file("write", &logging))?;
        fs::rename(partial, &self.directory).map_err(Error::file("rename", partial))
    }

    fn pom(&self) -> String {
        let mut dependencies = String::new();
        for artifact in self.version.artifacts() {
            let mut parts = artifact.splitn(3, ':');
            let mut part = || parts.next().unwrap_or_default();
            writeln!(
                dependencies,
                "<dependency><groupId>{}</groupId><artifactId>{}</artifactId>\
                 <version>{}</version></dependency>",
                part(),
                part(),
                part()
            )
            .expect("invariant: writing to a string cannot fail");
        }
        format!(
            "<project><modelVersion>4.0.0</modelVersion><groupId>kmirror</groupId>\
             <artifactId>brokers</artifactId><version>1</version><dependencies>\n\
             {dependencies}</dependencies></project>\n"
        )
    }

    /// The version.
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// The directory that holds them, and the logging configuration.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The class path of all of them, as `java -cp` takes it.
    #[must_use]
    pub fn class_path(&self) -> String {
        format!("{}/*", self.directory.display())
    }

    /// Flags of the Java virtual machine that log what is at least as grave as `level` to standard
    /// error. Without them log4j 1 logs everything.
    #[must_use]
    pub fn logging_flags(&self, level: &str) -> [String; 2] {
        config::logging_flags(&self.version, &self.directory, level)
    }

    /// A command that runs main class `main` of these jars with quiet logging and `heap`;
    /// `extra` is put before the jars on the class path.
    #[must_use]
    pub fn command(&self, extra: Option<&Path>, heap: &str, main: &str) -> Command {
        let mut command = Command::new(process::java());
        command.args(self.version.jvm_flags()).arg(format!("-Xmx{heap}"));
        command.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]);
        command.args(self.logging_flags("ERROR"));
        let class_path = match extra {
            Some(extra) => format!("{}:{}", extra.display(), self.class_path()),
            None => self.class_path(),
        };
        command.arg("-cp").arg(class_path).arg(main);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_to_log_at_is_always_said() {
        for version in ["3.9.1", "4.3.0"] {
            let version: Version = version.parse().expect("a version");
            let jars = Jars { version, directory: PathBuf::from("/jars") };
            let [file, level] = jars.logging_flags("WARN");
            assert!(file.contains("/jars/log4j"), "{file}");
            assert_eq!(level, "-Dkmirror.level=WARN");
        }
    }

    #[test]
    fn the_pom_names_group_artifact_and_version() {
        let version: Version = "0.10.2.2".parse().expect("a version");
        let jars = Jars { version, directory: PathBuf::new() };
        let pom = jars.pom();
        assert!(pom.contains(
            "<groupId>org.apache.kafka</groupId><artifactId>kafka_2.11</artifactId>\
             <version>0.10.2.2</version>"
        ));
        assert_eq!(pom.matches("<dependency>").count(), 3);
    }
}
