//! Brokers are killed and frozen under a running mirror: it waits, goes on by itself, loses nothing
//! and, because its producer is idempotent, repeats nothing.

use std::{thread, time::Duration};

use kmirror_tests::{Java, MirrorMaker, Pair, eventually, java::Load, records::arrival, unique};
use xtask::clock;

use crate::arrived;

const RATE: u64 = 2_000;
/// Longer than a fetch waits, shorter than a request may take.
const FROZEN: Duration = Duration::from_secs(8);

/// Mirrors a steady load of `seconds` on `pair` while `hurt` does its work; the mirror is never
/// restarted.
fn mirror_through(pair: &Pair, partitions: i32, seconds: u64, hurt: impl FnOnce(&Pair)) {
    let mut java = Java::start();
    let topic = unique("troubles");
    java.create(&pair.source, &topic, partitions, &[]);
    java.create(&pair.destination, &topic, partitions, &[]);
    let count = RATE * seconds;
    let load = Load { first: 0, count, rate: RATE, keys: 100, size: 200 };
    let mut mirror = MirrorMaker::new(pair, &unique("troubles"), &topic).with_streams(2).start();
    thread::scope(|scope| {
        let loader = scope.spawn(|| {
            let config = [("enable.idempotence", "true"), ("delivery.timeout.ms", "180000")];
            Java::start().load(&pair.source, &topic, &config, &load);
        });
        arrived(&mut java, pair, &topic, 1);
        hurt(pair);
        loader.join().expect("the load is acknowledged by the source");
    });
    let healed = clock::now();
    arrived(&mut java, pair, &topic, usize::try_from(count).expect("a number of records"));
    eprintln!("all arrived {} ms after the load ended", healed.elapsed().as_millis());
    mirror.assert_running();
    let found = eventually("every record at the destination", || {
        let found = java.dump(&pair.destination, &topic);
        arrival(count, &found).missing.is_empty().then_some(found)
    });
    assert!(mirror.terminate().success());
    let arrival = arrival(count, &found);
    assert_eq!(arrival.disordered, Vec::<u64>::new(), "the order of each key");
    assert_eq!(arrival.repeated, 0, "records that arrived more than once");
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn a_lone_broker_killed_or_frozen_costs_time_and_nothing_else() {
    let pair = Pair::start("3.9.1", "4.3.0", 1, &[]);
    mirror_through(&pair, 4, 40, |pair| {
        for end in [&pair.destination, &pair.source] {
            end.hurt(|cluster| cluster.kill(1));
            thread::sleep(Duration::from_secs(1));
            end.hurt(|cluster| cluster.restart(1));
            thread::sleep(Duration::from_secs(3));
            end.hurt(|cluster| cluster.freeze(1));
            thread::sleep(FROZEN);
            end.hurt(|cluster| cluster.thaw(1));
            thread::sleep(Duration::from_secs(2));
        }
    });
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn leaders_that_move_from_killed_brokers_lose_and_repeat_nothing() {
    let pair = Pair::start("3.9.1", "4.3.0", 3, &[("min.insync.replicas", "2")]);
    mirror_through(&pair, 6, 45, |pair| {
        for id in [1, 2, 3] {
            pair.destination.hurt(|cluster| cluster.kill(id));
            thread::sleep(Duration::from_secs(2));
            pair.destination.hurt(|cluster| cluster.restart(id));
        }
        pair.source.hurt(|cluster| cluster.kill(2));
        thread::sleep(Duration::from_secs(2));
        pair.source.hurt(|cluster| cluster.restart(2));
    });
}
