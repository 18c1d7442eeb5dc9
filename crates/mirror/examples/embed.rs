//! A mirror inside another program, between two clusters that live in its own process: run it with
//! `cargo run -p kmirror --example embed`. It needs no broker and ends by itself.

use kmirror::config::Group;
use kmirror::policy::filter::{Pattern, Selection};
use kmirror::{Config, Mirror, shutdown};
use kmirror_fake::{Cluster, Record};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Two clusters with something to mirror. Yours are real ones.
    let source = Cluster::builder().brokers(2).cluster_id("here").start().await?;
    let destination = Cluster::builder().brokers(2).cluster_id("there").start().await?;
    source.create_topic("orders", 4);
    for order in 0..1_000 {
        let record = Record::new(format!("customer-{}", order % 50), format!("order {order}"));
        source.produce_direct("orders", order % 4, record)?;
    }

    // What is mirrored, and how: every setting has a default that loses nothing.
    let topics = Selection::new(Pattern::try_new("orders")?);
    let config = Config::new(
        kmirror_client::Config::new(&source.bootstrap())?,
        kmirror_client::Config::new(&destination.bootstrap())?,
        topics,
    )
    .with_group(Group::new("mirror"))
    .with_until_caught_up();

    // Nothing moves before `run`, which comes back once everything is mirrored, or when the trigger
    // asks for an end: `trigger.signal()` drains, and aborts the second time.
    let mirror = Mirror::build(config).await?;
    let (_trigger, shutdown) = shutdown::channel();
    let report = mirror.run(shutdown).await?;

    let status = mirror.status().borrow().clone();
    let mut output = std::io::stdout();
    serde_json::to_writer_pretty(&mut output, &*status)?;
    let there: usize = (0..4).map(|at| destination.records("orders", at).len()).sum();
    assert_eq!((there, report.is_clean()), (1_000, true));
    Ok(())
}
