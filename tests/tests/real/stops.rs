//! The mirror is stopped, in order or not, under load, and started again: nothing is missing, and
//! what is repeated stays within what is promised.

use std::{
    thread,
    time::{Duration, Instant},
};

use kmirror_tests::{
    Java, Kmirror, MirrorMaker, clusters::pair, eventually, java::Load, records::arrival, unique,
};
use xtask::clock;

use crate::arrived;

const RATE: u64 = 3_000;
const SECONDS: u64 = 18;
const COUNT: u64 = RATE * SECONDS;
const STOPS: usize = 3;
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// Far less than the session time-out of 45 s, which a killed member's successor must not wait out.
const FLOWING_AGAIN: Duration = Duration::from_secs(10);

/// Mirrors a steady load while `stop` ends the mirror three times; each time it is started again,
/// records must flow again soon. Gives how many records arrived more than once.
fn stop_under_load(stop: impl Fn(&mut Kmirror)) -> usize {
    let mut java = Java::start();
    let topic = unique("stops");
    java.create(&pair().source, &topic, 8, &[]);
    let maker = MirrorMaker::new(pair(), &unique("stops"), &topic)
        .with_streams(2)
        .with_flag("--offset.commit.interval.ms", &COMMIT_INTERVAL.as_millis().to_string());
    let load = {
        let topic = topic.clone();
        let load = Load { first: 0, count: COUNT, rate: RATE, keys: 100, size: 200 };
        thread::spawn(move || Java::start().load(&pair().source, &topic, &[], &load))
    };
    let mut mirror = maker.start();
    for _ in 0..STOPS {
        let begin = clock::now();
        let before = java.length(&pair().destination, &topic);
        flowing(&mut java, &topic, before, begin);
        thread::sleep(Duration::from_secs(2));
        stop(&mut mirror);
        mirror = maker.start();
    }
    load.join().expect("the load is acknowledged by the source");
    let count = usize::try_from(COUNT).expect("a number of records");
    arrived(&mut java, pair(), &topic, count);
    let found = eventually("every record at the destination", || {
        let found = java.dump(&pair().destination, &topic);
        arrival(COUNT, &found).missing.is_empty().then_some(found)
    });
    assert!(mirror.terminate().success());
    let arrival = arrival(COUNT, &found);
    assert_eq!(arrival.disordered, Vec::<u64>::new(), "the order of each key");
    arrival.repeated
}

/// Waits until the topic has grown beyond `before`, in good time since `begin`.
fn flowing(java: &mut Java, topic: &str, before: i64, begin: Instant) {
    eventually("records at the destination", || {
        (java.length(&pair().destination, topic) > before).then_some(())
    });
    let took = begin.elapsed();
    eprintln!("flowing after {} ms", took.as_millis());
    assert!(took < FLOWING_AGAIN, "flowing only after {} ms", took.as_millis());
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn a_mirror_stopped_in_order_under_load_loses_and_repeats_nothing() {
    let repeated = stop_under_load(|mirror| {
        let begin = clock::now();
        let status = mirror.terminate();
        assert!(status.success(), "an orderly stop ends with {status}");
        assert!(begin.elapsed() < Duration::from_secs(10), "an orderly stop is quick");
    });
    assert_eq!(repeated, 0);
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn a_mirror_killed_under_load_loses_nothing_and_repeats_what_was_not_committed() {
    let repeated = stop_under_load(Kmirror::kill);
    eprintln!("repeated {repeated} records after {STOPS} kills");
    // What arrived since the last commit, a second for the commit itself to be late, and what had
    // gathered while the mirror was being started again and then flowed at once.
    let window = COMMIT_INTERVAL + Duration::from_secs(1) + FLOWING_AGAIN / 2;
    let bound = STOPS * usize::try_from(RATE * window.as_secs()).expect("a number of records");
    assert!(repeated <= bound, "{repeated} repeated, more than {bound}");
}
