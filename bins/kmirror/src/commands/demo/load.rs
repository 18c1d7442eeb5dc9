//! The demonstration's load: three topics, each made to take another way through the mirror.

use kmirror_client::batch::{Codec, HeadersBuffer, Record};
use kmirror_client::producer::{Config as ProducerConfig, Producer};
use kmirror_client::{Client, Config, Lane, clock};

use crate::exit::Failure;

/// A topic of the source.
#[derive(Debug, Clone, Copy)]
pub(super) struct Topic {
    pub(super) name: &'static str,
    pub(super) partitions: i32,
    codec: Codec,
    batch_bytes: usize,
}

/// Large compressed batches that pass untouched, many tiny ones that are merged, and a topic with
/// another number of partitions at the destination.
pub(super) const TOPICS: [Topic; 3] = [
    Topic { name: "orders", partitions: 6, codec: Codec::Lz4, batch_bytes: 64 << 10 },
    Topic { name: "clicks", partitions: 4, codec: Codec::None, batch_bytes: 1 << 10 },
    Topic { name: "payments", partitions: 4, codec: Codec::Zstd, batch_bytes: 32 << 10 },
];

/// How much is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) records: u64,
    pub(super) record_bytes: u64,
}

impl Load {
    /// Writes the records, to the topics in turn. The same arguments write the same records.
    pub(super) async fn write(&self, config: Config) -> Result<(), Failure> {
        let client = Client::connect(config).await.map_err(Failure::runtime)?;
        let mut producers = Vec::with_capacity(TOPICS.len());
        for (number, topic) in (0..).zip(TOPICS) {
            let mut settings = ProducerConfig {
                codec: topic.codec,
                batch_bytes: topic.batch_bytes,
                ..ProducerConfig::default()
            };
            settings.produce.lane = Lane::Produce(number);
            let producer = Producer::try_new(client.clone(), settings).map_err(Failure::runtime)?;
            producers.push((topic, producer));
        }
        let mut headers = HeadersBuffer::new();
        for number in 0..self.records {
            let turn = usize::try_from(number).unwrap_or(0) % TOPICS.len();
            let (topic, producer) = &mut producers[turn];
            let key = format!("customer-{}", scramble(number) % 1_000);
            // One record in a hundred has no key, one in fifty no value.
            let key = (number % 100 != 7).then_some(key.as_bytes());
            let value = self.value(number);
            let value = (number % 50 != 9).then_some(value.as_bytes());
            headers.clear();
            headers.push(b"trace", Some(&number.to_be_bytes()));
            headers.push(b"trace", None);
            let record = Record::new(key, value)
                .with_timestamp(clock::unix_ms())
                .with_headers(headers.as_headers());
            producer.send(topic.name, None, &record).await.map_err(Failure::runtime)?;
        }
        for (_, producer) in &mut producers {
            producer.flush().await.map_err(Failure::runtime)?;
        }
        Ok(())
    }

    fn value(&self, number: u64) -> String {
        let mut text = format!("{{\"number\":{number},\"filler\":\"");
        let mut state = number;
        let length = usize::try_from(self.record_bytes).unwrap_or(0);
        while text.len() + 2 < length {
            state = scramble(state);
            text.push_str(WORDS[usize::try_from(state % WORDS.len() as u64).unwrap_or(0)]);
        }
        text.push_str("\"}");
        text
    }
}

const WORDS: [&str; 8] =
    ["alder ", "birch ", "cedar ", "elm ", "hazel ", "larch ", "maple ", "rowan "];

/// splitmix64: different numbers for different numbers, and the same for the same.
fn scramble(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
