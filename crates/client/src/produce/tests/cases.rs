//! The promises: every batch once, in order, whatever happens; and what is done when that cannot
//! be kept.

use proptest::prelude::*;

use super::Item;
use super::model::Faults;
use super::world::World;

const CALM: Faults = Faults { refuse: 0, append_and_fail: 0, disconnect: 0, move_leader: 0 };

/// Sends 60 batches to each of three partitions, while things happen, and checks the logs.
fn every_batch_is_written_once_and_in_order(seed: u64, faults: Faults, large: u32) {
    let mut world = World::new(seed, faults);
    let mut next = [0u32; 3];
    for token in 0..180u32 {
        let partition = token % 3;
        let count = 1 + world.random.below(4) as u32;
        let start = next[partition as usize];
        let mut item = Item::new(start..start + count);
        next[partition as usize] += count;
        if world.random.chance(large) {
            item.is_too_large = true;
        } else if world.random.chance(50) {
            // Sequence numbers run past 2^31 in a few of these.
            item.sequences = 700_000_000;
        }
        world.push(i32::try_from(partition).expect("few"), item, token);
        for _ in 0..world.random.below(12) {
            world.step();
        }
    }
    world.run();
    for (token, result) in &world.results {
        assert!(result.is_ok(), "seed {seed}: delivery {token}: {result:?}");
    }
    assert_eq!(world.results.len(), 180);
    for (partition, model) in &world.partitions {
        let sent: Vec<u32> = (0..next[*partition as usize]).collect();
        assert_eq!(model.log, sent, "seed {seed}: partition {partition}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_batch_is_written_once_and_in_order_whatever_happens(
        seed in any::<u64>(),
        refuse in 0u32..200,
        append_and_fail in 0u32..200,
        disconnect in 0u32..300,
        move_leader in 0u32..300,
    ) {
        let faults = Faults { refuse, append_and_fail, disconnect, move_leader };
        every_batch_is_written_once_and_in_order(seed, faults, 0);
    }

    #[test]
    fn batches_that_replace_one_take_its_place_in_the_order(
        seed in any::<u64>(),
        refuse in 0u32..100,
        move_leader in 0u32..100,
    ) {
        let faults = Faults { refuse, move_leader, ..CALM };
        every_batch_is_written_once_and_in_order(seed, faults, 100);
    }
}

#[test]
fn a_quiet_cluster_gets_every_batch_once_and_in_order() {
    every_batch_is_written_once_and_in_order(1, CALM, 0);
}
