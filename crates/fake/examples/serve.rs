//! Starts a fake cluster on free ports (or from `PORT` on), prints its bootstrap servers on
//! standard error and serves until interrupted: `cargo run -p kmirror-fake --example serve --
//! BROKERS [PORT]`.

use kmirror_fake::Cluster;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let brokers: i32 = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let first_port: Option<u16> = arguments.next().map(|text| text.parse()).transpose()?;
    let mut builder = Cluster::builder().brokers(brokers);
    for broker in 1..=brokers {
        if let Some(port) = first_port {
            builder = builder.port(broker, port + broker as u16 - 1);
        }
    }
    let cluster = builder.start().await?;
    eprintln!("{}", cluster.bootstrap());
    tokio::signal::ctrl_c().await?;
    Ok(())
}
