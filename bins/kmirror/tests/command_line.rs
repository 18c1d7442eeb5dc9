//! Runs the binary as an operator does and looks at what it prints and how it exits. No network but
//! loopback, no file outside a temporary directory.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

fn kmirror(arguments: &[&str]) -> Ran {
    ran(Command::new(env!("CARGO_BIN_EXE_kmirror")).args(arguments).output().unwrap())
}

fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A directory with the two files of the documented walk-through, changed as a test needs.
struct Files {
    directory: TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self { directory: tempfile::tempdir().unwrap() };
        files.write("consumer.properties", "bootstrap.servers=127.0.0.1:1\ngroup.id=mirrorgroup\n");
        files.write("producer.properties", "bootstrap.servers=127.0.0.1:2\n");
        files
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn mirror_maker(&self, arguments: &[&str]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kmirror"));
        command.current_dir(self.directory.path()).args(["kafka.tools.MirrorMaker"]);
        command.args(["--consumer.config", "consumer.properties"]);
        command.args(["--producer.config", "producer.properties"]);
        ran(command.args(arguments).output().unwrap())
    }
}

#[test]
fn help_goes_to_standard_output_and_shows_examples_and_exit_codes() {
    let help = kmirror(&["--help"]);
    assert_eq!(help.code, 0);
    assert!(help.stdout.contains("Examples:") && help.stdout.contains("Exit codes:"));
    assert!(help.stdout.contains("130"), "{}", help.stdout);
    let help = kmirror(&["mirror-maker", "--help"]);
    assert_eq!(help.code, 0);
    for flag in ["--consumer.config <FILE>", "--num.streams <COUNT>", "--abort.on.send.failure"] {
        assert!(help.stdout.contains(flag), "{flag}");
    }
}

#[test]
fn an_unknown_flag_is_a_usage_error_with_a_suggestion() {
    let ran = kmirror(&["mirror-maker", "--consumer.confg", "x", "--num.stream", "4"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("--consumer.config"), "{}", ran.stderr);
    let ran = kmirror(&["miror-maker"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("mirror-maker"), "{}", ran.stderr);
}

#[test]
fn a_missing_pattern_is_a_usage_error() {
    let ran = Files::new().mirror_maker(&[]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("--include"), "{}", ran.stderr);
}

#[test]
fn a_flag_may_be_shortened_as_javas_option_parser_allows() {
    let ran = Files::new().mirror_maker(&["--whitel", "t", "--num.str", "4", "--check"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("streams = 4  (--num.streams)"), "{}", ran.stdout);
}

#[test]
fn a_link_with_the_name_of_kafkas_script_takes_its_flags() {
    let files = Files::new();
    let link = files.directory.path().join("kafka-mirror-maker.sh");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_kmirror"), &link).unwrap();
    let mut command = Command::new(link);
    command.current_dir(files.directory.path()).args(["--consumer.config", "consumer.properties"]);
    command.args(["--producer.config", "producer.properties", "--include", "t", "--check"]);
    let ran = ran(command.output().unwrap());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("topics = t"), "{}", ran.stdout);
}

#[test]
fn include_wins_over_whitelist_and_says_so() {
    let ran = Files::new().mirror_maker(&["--include", "new", "--whitelist", "old", "--check"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("topics = new"), "{}", ran.stdout);
    assert!(ran.stderr.contains("--whitelist"), "{}", ran.stderr);
}

#[test]
fn a_blacklist_alone_mirrors_everything_else() {
    let ran = Files::new().mirror_maker(&["--blacklist", "secret.*", "--check"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("topics = .*") && ran.stdout.contains("exclude = secret.*"));
}

#[test]
fn java_classes_are_refused_with_what_to_do_instead() {
    for flag in ["--message.handler", "--consumer.rebalance.listener"] {
        let ran = Files::new().mirror_maker(&["--include", "t", flag, "com.example.Mine"]);
        assert_eq!(ran.code, 2);
        assert!(
            ran.stderr.contains("cannot load") && ran.stderr.contains("help: "),
            "{}",
            ran.stderr
        );
    }
}

#[test]
fn flags_that_lost_their_meaning_are_accepted() {
    let old = ["--new.consumer", "--num.producers", "2", "--queue.size", "10", "--new.producer"];
    let mut arguments = vec!["--include", "t", "--check"];
    arguments.extend(old);
    let ran = Files::new().mirror_maker(&arguments);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for flag in ["--num.producers", "--queue.size", "--new.producer"] {
        assert!(ran.stderr.contains(flag), "{flag}: {}", ran.stderr);
    }
    assert!(!ran.stderr.contains("--new.consumer"));
}

#[test]
fn a_broken_properties_file_names_file_line_and_key() {
    let files = Files::new();
    files.write(
        "consumer.properties",
        "bootstrap.servers=a:1\ngroup.id=g\nauto.ofset.reset=latest\nfetch.min.bytes=many\n\
         interceptor.classes=com.example.Audit\n",
    );
    let ran = files.mirror_maker(&["--include", "t"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("consumer.properties:3"), "{}", ran.stderr);
    assert!(ran.stderr.contains("did you mean auto.offset.reset?"), "{}", ran.stderr);
    for error in [
        "error: consumer.properties:4: fetch.min.bytes must be a whole number, 0 or more",
        "error: consumer.properties:5: interceptor.classes is not supported: ",
    ] {
        assert!(ran.stderr.contains(error), "{}", ran.stderr);
    }
}

#[test]
fn a_missing_properties_file_is_named() {
    let ran = kmirror(&[
        "mirror-maker",
        "--consumer.config",
        "/nonexistent/c",
        "--producer.config",
        "p",
        "--include",
        "t",
    ]);
    assert_eq!(ran.code, 2);
    assert_eq!(ran.stderr, "error: read /nonexistent/c: No such file or directory (os error 2)\n");
}

#[test]
fn a_pattern_that_is_no_expression_is_a_usage_error() {
    let ran = Files::new().mirror_maker(&["--include", "orders("]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("error: --include: topics: "), "{}", ran.stderr);
}

#[test]
fn a_cluster_that_cannot_be_reached_is_a_failure_that_names_the_end() {
    let ran = Files::new().mirror_maker(&["--include", "t", "--connect-timeout", "1s"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("error: flow mirrorgroup: "), "{}", ran.stderr);
    assert!(ran.stderr.contains("help: check the addresses"), "{}", ran.stderr);
}

fn check(content: &str) -> Ran {
    let files = Files::new();
    let path = files.write("k.toml", content);
    kmirror(&["config", "--check", path.to_str().unwrap()])
}

#[test]
fn a_file_with_mistakes_is_checked_and_every_mistake_named_with_its_line() {
    let ran =
        check("[clusters.a]\nbootstrp = \"a:1\"\n[[flows]]\nsource = \"a\"\ntopics = \"t\"\n");
    assert_eq!(ran.code, 2);
    for found in [
        "k.toml:2: clusters.a.bootstrp is not an option; did you mean bootstrap?",
        "k.toml:3: flows[0].destination is missing",
    ] {
        assert!(ran.stdout.contains(found), "{}", ran.stdout);
    }
}

#[test]
fn a_good_file_is_shown_as_what_it_comes_to() {
    let ran = check(
        "[clusters.a]\nbootstrap = \"a:1\"\n[clusters.b]\nzookeeper = \"zk:2181\"\n[[flows]]\n\
         source = \"a\"\ndestination = \"b\"\ntopics = [\"t\", \"u.*\"]\nmemory = \"64MiB\"\n",
    );
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("flow a-b\n  source       a:1\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("topics = t, u.*"), "{}", ran.stdout);
    assert!(ran.stdout.contains("registered in zookeeper zk:2181"), "{}", ran.stdout);
}

#[test]
fn what_the_engine_refuses_is_refused_by_the_check() {
    let ran = check(
        "[clusters.a]\nbootstrap = \"a:1\"\n[clusters.b]\nbootstrap = \"b:1\"\n[[flows]]\n\
         source = \"a\"\ndestination = \"b\"\ntopics = \"t\"\nmemory = \"512KiB\"\n",
    );
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("k.toml:9: memory: 524288 is not"), "{}", ran.stderr);
}

#[test]
fn properties_files_are_checked_alone() {
    let files = Files::new();
    let path = files.write("p.properties", "metadata.broker.list=a:1\nacks=1\nliger.ms=5\n");
    let ran = kmirror(&["config", "--check-producer", path.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for found in [
        "note: ",
        "metadata.broker.list is read as bootstrap.servers",
        "warning: ",
        "acks is ignored: always all",
        "liger.ms is unknown and ignored; did you mean linger.ms?",
    ] {
        assert!(ran.stdout.contains(found), "{found}: {}", ran.stdout);
    }
}

#[test]
fn the_documentation_of_the_options_is_what_the_program_prints() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/CONFIGURATION.md");
    let stored = std::fs::read_to_string(&path).unwrap();
    let printed = kmirror(&["config", "--markdown"]).stdout;
    assert!(
        stored == printed,
        "docs/CONFIGURATION.md is old: run kmirror config --markdown > docs/CONFIGURATION.md"
    );
}

#[test]
fn zookeeper_servers_are_found_in_a_nodes_files() {
    let files = Files::new();
    let site = files.write(
        "yarn-site.xml",
        "<property><name>hadoop.registry.zk.quorum</name>\n\
         <value>zk0:2181,zk1:2181</value></property>",
    );
    let from = site.to_str().unwrap();
    let ran = kmirror(&["discover", "zookeeper", "--yarn-site", from]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "zk0:2181,zk1:2181\n"));
    let ran = kmirror(&["discover", "zookeeper", "--yarn-site", from, "--lines"]);
    assert_eq!(ran.stdout, "zk0:2181\nzk1:2181\n");
}

#[test]
fn brokers_are_found_in_a_nodes_files() {
    let files = Files::new();
    let hosts = r#"{"clusterHostInfo":{"kafka_broker_hosts":["wn0","wn1"]}}"#;
    files.write("command-7.json", hosts);
    let directory = files.directory.path().to_str().unwrap();
    let ran = kmirror(&["discover", "brokers", "--agent-data", directory]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "wn0:9092,wn1:9092\n"));
}

#[test]
fn an_ambari_behind_tls_is_refused_with_what_to_do() {
    let ran =
        kmirror(&["discover", "brokers", "--from", "ambari", "--ambari-url", "https://c.net"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("needs TLS"), "{}", ran.stderr);
}

#[test]
fn completions_and_manual_pages_are_made() {
    let ran = kmirror(&["completions", "bash"]);
    assert!(ran.code == 0 && ran.stdout.contains("mirror-maker"));
    let ran = kmirror(&["man"]);
    assert!(ran.code == 0 && ran.stdout.contains(".TH kmirror"));
    let files = Files::new();
    let directory = files.directory.path();
    assert_eq!(kmirror(&["man", "--directory", directory.to_str().unwrap()]).code, 0);
    assert!(directory.join("kmirror-mirror-maker.1").exists());
}

#[test]
fn logs_can_be_json_and_a_wrong_level_is_refused() {
    let files = Files::new();
    let ran = files.mirror_maker(&[
        "--include",
        "t",
        "--queue.size",
        "1",
        "--check",
        "--log-format",
        "json",
    ]);
    let line = ran.stderr.lines().next().unwrap();
    let json: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(json["flag"], "--queue.size");
    let ran = files.mirror_maker(&["--include", "t", "--check", "--log", "kmirror=loud"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
}
