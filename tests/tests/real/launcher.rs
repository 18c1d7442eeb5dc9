//! The launcher itself: every version of Kafka that the documentation names can be started, written
//! to by librdkafka and read by Java; a broker that was killed comes back with what it had.

use kmirror_tests::{Java, Record, eventually, kcat};

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn every_version_of_kafka_starts_and_a_killed_broker_comes_back() {
    let mut java = Java::start();
    for version in ["0.10.2.2", "1.1.1", "2.4.1", "3.2.3", "3.9.1", "4.3.0"] {
        let end = kmirror_tests::End::start("launcher", version, 1, &[]);
        java.create(&end, "t", 2, &[]);
        kcat::produce(&end, "t", &[], &[Record::new("k", version).to(1)]);
        if ["2.4.1", "4.3.0"].contains(&version) {
            end.hurt(|cluster| cluster.kill(1));
            end.hurt(|cluster| cluster.restart(1));
        }
        // A leader that has just come back does not know at once how much of its log is committed.
        let records = eventually(&format!("the record of {version}"), || {
            Some(java.dump(&end, "t")).filter(|records| !records.is_empty())
        });
        assert_eq!(records.len(), 1, "{version}");
        assert_eq!(records[0].value.as_deref(), Some(version.as_bytes()), "{version}");
        assert_eq!(records[0].partition, Some(1), "{version}");
    }
}
