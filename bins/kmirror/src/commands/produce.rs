//! `kmirror produce`: one record for each line of standard input, with the properties of
//! `kafka-console-producer.sh`.

use std::io::{BufRead, IsTerminal, Read};
use std::time::Duration;

use clap::Args as ClapArgs;
use kmirror_client::batch::{Codec, Record};
use kmirror_client::config::keys::{Role, suggest};
use kmirror_client::config::properties::Properties;
use kmirror_client::producer::{self, Config, Producer};
use kmirror_client::{Client, clock};
use tokio::sync::mpsc;

use crate::connect::{ClusterArgs, client_config, parse_property};
use crate::exit::Failure;
use crate::plan::filled;
use crate::plan::units::{parse_bytes, parse_duration};
use crate::runtime;
use crate::signals::Signals;
use crate::text::reader::LineReader;

/// Write the lines of standard input to a topic, one record a line
#[derive(Debug, ClapArgs)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,

    /// The topic; it must exist, or the brokers must create topics by themselves
    #[arg(long, value_name = "TOPIC")]
    topic: String,

    /// The partition; unset, the key decides, as in Kafka's own producer
    #[arg(long, value_name = "NUMBER")]
    partition: Option<i32>,

    /// How lines are read; may be repeated. See below for the properties
    #[arg(
        long,
        visible_alias = "reader-property",
        value_name = "NAME=VALUE",
        value_parser = parse_property
    )]
    property: Vec<(String, String)>,

    /// Compress batches: none, gzip, snappy, lz4 or zstd; without a value gzip. Unset:
    /// compression.type among the properties, or none
    #[arg(
        long,
        visible_alias = "compression-type",
        value_name = "CODEC",
        num_args = 0..=1,
        default_missing_value = "gzip",
        value_parser = parse_codec
    )]
    compression_codec: Option<Codec>,

    /// Send a batch once it has this many bytes, or once no more lines wait
    #[arg(long, value_name = "SIZE", default_value = "16384", value_parser = parse_bytes)]
    batch_size: u64,

    /// How long a record is tried
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    timeout: Duration,

    #[command(flatten)]
    java: Java,
}

/// Flags of Kafka's tool that nothing is left to do for.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Accepted without effect")]
struct Java {
    /// Every in-sync replica acknowledges, whatever is asked for
    #[arg(long, value_name = "ACKS")]
    request_required_acks: Option<String>,

    /// Records go out in order and are waited for at the end
    #[arg(long)]
    sync: bool,

    /// Lines are read as Kafka's own LineMessageReader does it; another class is refused
    #[arg(long, value_name = "CLASS", value_parser = parse_line_reader)]
    line_reader: Option<String>,
}

/// Java classes are not loaded; the one that does what happens anyway is fine.
fn parse_line_reader(class: &str) -> Result<String, String> {
    if class.ends_with("LineMessageReader") {
        return Ok(class.to_owned());
    }
    Err("names a Java class; only LineMessageReader is known, leave the flag out".to_owned())
}

const EXAMPLES: &str = "\
Properties (--property), with their defaults:
  parse.key=false              the key stands before the value
  key.separator=TAB            between key and value
  parse.headers=false          headers stand before the key
  headers.delimiter=TAB        between headers and the rest
  headers.separator=,          between two headers
  headers.key.separator=:      between a header's key and value
  null.marker                  a text that means null; unset, there is none
  ignore.error=false           a line without its separators is taken as a value

Examples:
  echo hello | kmirror produce --bootstrap-server wn0:9092 --topic testtopic
  kmirror produce --bootstrap-server wn0:9092 --topic testtopic \\
    --property parse.key=true --property key.separator=: < pairs.txt";

impl Args {
    fn settings(&self, properties: &Properties) -> Config {
        let written = filled(properties, "compression.type").and_then(|it| parse_codec(it).ok());
        let mut settings = Config {
            codec: self.compression_codec.or(written).unwrap_or(Codec::None),
            batch_bytes: usize::try_from(self.batch_size).unwrap_or(usize::MAX),
            missing_timeout: MISSING_TIMEOUT.min(self.timeout),
            ..Config::default()
        };
        settings.produce.delivery_timeout = Some(self.timeout);
        settings.produce.missing_timeout = Some(self.timeout);
        settings
    }
}

/// How long a topic that is not there is waited for: it may just have been created.
const MISSING_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads lines and writes records until the input ends or a signal comes.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut reader = LineReader::default();
    for (name, value) in &args.property {
        reader.set(name, value).map_err(|fault| {
            let failure = Failure::usage(format!("--property {name} {fault}"));
            match suggest(name, LineReader::PROPERTIES.iter().map(|(name, _)| *name)) {
                Some(near) if near != name => failure.with_help(format!("did you mean {near}?")),
                _ => failure,
            }
        })?;
    }
    runtime::block_on(produce(args, &reader))
}

async fn produce(args: &Args, reader: &LineReader) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let cluster = args.cluster.cluster(Role::Producer)?;
    let acks = args.java.request_required_acks.as_deref();
    if let Some(acks) = acks.filter(|acks| !["-1", "all"].contains(acks)) {
        tracing::warn!(acks, "ignored: always all in-sync replicas acknowledge");
    }
    let config = client_config(&cluster).await?;
    let client = Client::connect(config).await.map_err(Failure::runtime)?;
    let settings = args.settings(&cluster.properties);
    let mut producer = Producer::try_new(client, settings).map_err(Failure::runtime)?;
    let mut lines = lines();
    let mut number = 0;
    loop {
        let line = match lines.try_recv() {
            Ok(line) => Some(line),
            // Somebody types, or a pipe is slow: what was read goes now.
            Err(_) => {
                producer.flush().await.map_err(failed)?;
                tokio::select! {
                    line = lines.recv() => line,
                    _ = signals.next() => None,
                }
            }
        };
        let Some(line) = line else { break };
        let line = line.map_err(Failure::runtime)?;
        number += 1;
        let parsed = reader.parse(&line, number).map_err(|missing| {
            Failure::usage(missing).with_help(
                "name the separator with --property, or say --property ignore.error=true",
            )
        })?;
        let headers = parsed.headers_buffer();
        let record = Record::new(parsed.key, parsed.value)
            .with_timestamp(clock::unix_ms())
            .with_headers(headers.as_headers());
        producer.send(&args.topic, args.partition, &record).await.map_err(failed)?;
    }
    producer.flush().await.map_err(failed)
}

fn failed(error: producer::Error) -> Failure {
    let help = match &error {
        producer::Error::NoSuchTopic { .. } => "create it with kmirror topics --create",
        _ => return Failure::runtime(error),
    };
    Failure::runtime(error).with_help(help)
}

/// How many lines may wait for the producer.
const LINES_MAX: usize = 1024;

/// The longest line. A record of that size is far beyond what brokers take by default.
const LINE_LEN_MAX: u64 = 64 << 20;

type Line = Result<Vec<u8>, std::io::Error>;

/// Lines as they come, without their ends. The thread lasts as long as standard input or the
/// process.
fn lines() -> mpsc::Receiver<Line> {
    let (sender, receiver) = mpsc::channel(LINES_MAX);
    let prompt = std::io::stdin().is_terminal();
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        loop {
            if prompt {
                eprint!("> ");
            }
            let line = read_line(&mut input);
            let last = matches!(line, Ok(None) | Err(_));
            if let Some(line) = line.transpose()
                && sender.blocking_send(line).is_err()
            {
                return;
            }
            if last {
                return;
            }
        }
    });
    receiver
}

fn read_line(input: &mut impl BufRead) -> Result<Option<Vec<u8>>, std::io::Error> {
    let mut line = Vec::new();
    if input.take(LINE_LEN_MAX + 1).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.len() as u64 > LINE_LEN_MAX {
        return Err(std::io::Error::other("a line is longer than 64 MiB"));
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    Ok(Some(line))
}

fn parse_codec(text: &str) -> Result<Codec, String> {
    Codec::ALL
        .into_iter()
        .find(|codec| codec.name().eq_ignore_ascii_case(text))
        .ok_or_else(|| "must be none, gzip, snappy, lz4 or zstd".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_of_both_kinds_are_taken_off_and_a_last_line_needs_none() {
        let mut input = b"a\r\nb\n\nc\rd".as_slice();
        let mut lines = Vec::new();
        while let Some(line) = read_line(&mut input).unwrap() {
            lines.push(String::from_utf8(line).unwrap());
        }
        assert_eq!(lines, ["a", "b", "", "c\rd"]);
    }
}
