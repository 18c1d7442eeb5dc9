//! Brokers are killed and frozen for longer than a session lasts, on a machine that is kept busy by
//! others. Partitions are lost and come back, to the same stream or to the other one of the
//! process. A mirror that was never restarted loses nothing and repeats nothing.
//!
//! `KMIRROR_ROUNDS` says how often each scenario runs; once, unless it is set.

use std::{thread, time::Duration};

use kmirror_tests::{
    Java, MirrorMaker, Pair, busy::Busy, eventually, java::Load, records::arrival, unique,
};

use crate::arrived;

const RATE: u64 = 6_000;
const PARTITIONS: i32 = 6;
const SESSION: Duration = Duration::from_secs(6);
/// Longer than the session, so that the group has expelled the members when it answers again.
const AWAY: Duration = Duration::from_secs(9);

fn rounds() -> usize {
    let rounds = std::env::var("KMIRROR_ROUNDS").ok();
    rounds.map_or(1, |rounds| rounds.parse().expect("KMIRROR_ROUNDS is a number"))
}

/// Mirrors a steady load of `seconds` while `hurt` does its work and two processes keep the machine
/// busy.
fn mirror_through(pair: &Pair, seconds: u64, hurt: impl FnOnce(&Pair)) {
    let mut java = Java::start();
    let topic = unique("busy");
    java.create(&pair.source, &topic, PARTITIONS, &[]);
    java.create(&pair.destination, &topic, PARTITIONS, &[]);
    let count = RATE * seconds;
    let load = Load { first: 0, count, rate: RATE, keys: 100, size: 200 };
    let mut mirror = MirrorMaker::new(pair, &unique("busy"), &topic)
        .with_streams(2)
        .with_consumer("session.timeout.ms", &SESSION.as_millis().to_string())
        .with_consumer("heartbeat.interval.ms", "1000")
        .start();
    let busy = Busy::start(2);
    thread::scope(|scope| {
        let loader = scope.spawn(|| {
            let config = [("enable.idempotence", "true"), ("delivery.timeout.ms", "300000")];
            Java::start().load(&pair.source, &topic, &config, &load);
        });
        arrived(&mut java, pair, &topic, 1);
        hurt(pair);
        loader.join().expect("the load is acknowledged by the source");
    });
    arrived(&mut java, pair, &topic, usize::try_from(count).expect("a number of records"));
    drop(busy);
    mirror.assert_running();
    let found = eventually("every record at the destination", || {
        let found = java.dump(&pair.destination, &topic);
        arrival(count, &found).missing.is_empty().then_some(found)
    });
    let arrival = arrival(count, &found);
    assert_eq!(arrival.disordered, Vec::<u64>::new(), "the order of each key");
    assert_eq!(arrival.repeated, 0, "records that arrived more than once:\n{}", mirror.log());
    assert!(mirror.terminate().success());
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn a_coordinator_away_for_longer_than_the_session_on_a_busy_machine_repeats_nothing() {
    for _ in 0..rounds() {
        let pair = Pair::start("3.9.1", "4.3.0", 1, &[]);
        mirror_through(&pair, 40, |pair| {
            for end in [&pair.source, &pair.destination, &pair.source] {
                end.hurt(|cluster| cluster.freeze(1));
                thread::sleep(AWAY);
                end.hurt(|cluster| cluster.thaw(1));
                thread::sleep(Duration::from_secs(3));
                end.hurt(|cluster| cluster.kill(1));
                thread::sleep(Duration::from_secs(1));
                end.hurt(|cluster| cluster.restart(1));
                thread::sleep(Duration::from_secs(3));
            }
        });
    }
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn brokers_of_three_killed_and_frozen_in_turn_on_a_busy_machine_repeat_nothing() {
    for _ in 0..rounds() {
        let pair = Pair::start("3.9.1", "4.3.0", 3, &[("min.insync.replicas", "2")]);
        mirror_through(&pair, 40, |pair| {
            for id in [1, 2, 3] {
                pair.source.hurt(|cluster| cluster.freeze(id));
                thread::sleep(AWAY);
                pair.source.hurt(|cluster| cluster.thaw(id));
                pair.destination.hurt(|cluster| cluster.kill(id));
                thread::sleep(Duration::from_secs(3));
                pair.destination.hurt(|cluster| cluster.restart(id));
                thread::sleep(Duration::from_secs(2));
            }
        });
    }
}
