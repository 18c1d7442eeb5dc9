//! Shows a cluster's brokers and topics: `cargo run --example describe_cluster -- localhost:9092`.

use kmirror_client::{Client, Config};

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "it is what the example is for")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bootstrap = std::env::args().nth(1).unwrap_or_else(|| "localhost:9092".to_owned());
    let client = Client::connect(Config::new(&bootstrap)?).await?;
    client.watch_all_topics();
    let view = client.refresh(client.view().generation).await?;
    println!("cluster {}", view.cluster_id.as_deref().unwrap_or("without an id"));
    for broker in view.brokers() {
        println!("broker {} at {}", broker.id, broker.address);
    }
    for topic in view.topics() {
        println!("topic {} with {} partitions", topic.name, topic.partitions.len());
    }
    Ok(())
}
