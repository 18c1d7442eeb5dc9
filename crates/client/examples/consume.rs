//! Prints a topic from its beginning until nothing more comes for two seconds:
//! `cargo run --example consume -- localhost:9092 numbers`.

use std::collections::BTreeMap;
use std::time::Duration;

use kmirror_client::batch::Decompressor;
use kmirror_client::consumer::{self, Consumer, Start};
use kmirror_client::{Client, Config, TopicPartition};

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "it is what the example is for")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let bootstrap = arguments.next().unwrap_or_else(|| "localhost:9092".to_owned());
    let topic = arguments.next().unwrap_or_else(|| "lines".to_owned());
    let client = Client::connect(Config::new(&bootstrap)?).await?;
    client.watch_topics([topic.as_str().into()]);
    let view = client.refresh(client.view().generation).await?;
    let partitions = view.topic(&topic).ok_or("no such topic")?.partitions.keys();
    let starts: BTreeMap<TopicPartition, Start> = partitions
        .map(|index| (TopicPartition::new(topic.as_str(), *index), Start::Earliest))
        .collect();
    let mut consumer = Consumer::of(client, consumer::Config::default(), starts).await?;
    let mut decompressor = Decompressor::new(64 << 20);
    let quiet = Duration::from_secs(2);
    while let Ok(chunk) = tokio::time::timeout(quiet, consumer.next()).await {
        chunk?.visit(&mut decompressor, |record| {
            println!("{}", String::from_utf8_lossy(record.value.unwrap_or(b"null")));
        })?;
    }
    Ok(())
}
