//! Writes the lines of standard input to a topic:
//! `seq 10 | cargo run --example produce_lines -- localhost:9092 numbers`.

use kmirror_client::batch::Record;
use kmirror_client::producer::{self, Producer};
use kmirror_client::{Client, Config, clock};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let bootstrap = arguments.next().unwrap_or_else(|| "localhost:9092".to_owned());
    let topic = arguments.next().unwrap_or_else(|| "lines".to_owned());
    let client = Client::connect(Config::new(&bootstrap)?).await?;
    let mut producer = Producer::try_new(client, producer::Config::default())?;
    for line in std::io::stdin().lines() {
        let line = line?;
        let record = Record::new(None, Some(line.as_bytes())).with_timestamp(clock::unix_ms());
        producer.send(&topic, None, &record).await?;
    }
    Ok(producer.flush().await?)
}
