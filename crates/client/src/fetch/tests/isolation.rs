//! What aborted transactions wrote is left out, however the broker lists them.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use crate::fetch::digest::{Aborted, digest};
use crate::isolation::Isolation;

use super::batches::Stored;

fn joined(batches: &[Bytes]) -> Bytes {
    let mut bytes = BytesMut::new();
    batches.iter().for_each(|batch| bytes.extend_from_slice(batch));
    bytes.freeze()
}

/// The base offsets of what is handed out, and where the position stands after it.
fn read(
    batches: &[Bytes],
    fetch_offset: i64,
    isolation: Isolation,
    aborted: &[(i64, i64)],
) -> (Vec<i64>, i64) {
    let aborted = aborted
        .iter()
        .map(|&(producer_id, first_offset)| Aborted { producer_id, first_offset })
        .collect();
    let digest = digest(joined(batches), fetch_offset, isolation, aborted);
    assert_eq!(digest.error, None);
    (digest.entries.iter().map(crate::batch::Entry::base_offset).collect(), digest.next_offset)
}

#[test]
fn an_aborted_transaction_is_left_out_up_to_its_marker() {
    let batches = [
        Stored::plain(0).with(&["a"]),
        Stored::transactional(1, 7).with(&["b", "c"]),
        Stored::transactional(3, 8).with(&["d"]),
        Stored::transactional(4, 7).marker(false),
        Stored::transactional(5, 7).with(&["e"]),
        Stored::transactional(6, 7).marker(true),
        Stored::transactional(7, 8).marker(true),
    ];
    let aborted = [(7, 1)];
    let committed = read(&batches, 0, Isolation::ReadCommitted, &aborted);
    assert_eq!(committed, (vec![0, 3, 5], 8));
    let all = read(&batches, 0, Isolation::ReadUncommitted, &aborted);
    assert_eq!(all, (vec![0, 1, 3, 5], 8));
}

#[test]
fn the_list_of_aborted_transactions_may_be_in_any_order() {
    let batches = [
        Stored::transactional(0, 7).with(&["a"]),
        Stored::transactional(1, 8).with(&["b"]),
        Stored::transactional(2, 8).marker(false),
        Stored::transactional(3, 7).marker(false),
        Stored::transactional(4, 7).with(&["c"]),
        Stored::transactional(5, 7).marker(false),
        Stored::plain(6).with(&["d"]),
    ];
    for aborted in [[(7, 0), (8, 1), (7, 4)], [(7, 4), (8, 1), (7, 0)], [(8, 1), (7, 4), (7, 0)]] {
        let found = read(&batches, 0, Isolation::ReadCommitted, &aborted);
        assert_eq!(found, (vec![6], 7), "{aborted:?}");
    }
}

#[test]
fn an_answer_of_nothing_but_aborted_data_moves_the_position() {
    let batches =
        [Stored::transactional(5, 7).with(&["a", "b"]), Stored::transactional(7, 7).marker(false)];
    assert_eq!(read(&batches, 5, Isolation::ReadCommitted, &[(7, 5)]), (vec![], 8));
}

#[test]
fn a_transaction_that_was_aborted_before_the_position_is_left_out_as_well() {
    let batches =
        [Stored::transactional(9, 7).with(&["z"]), Stored::transactional(10, 7).marker(false)];
    assert_eq!(read(&batches, 9, Isolation::ReadCommitted, &[(7, 2)]), (vec![], 11));
}

#[test]
fn what_lies_wholly_before_the_position_is_not_handed_out_again() {
    let batches = [Stored::plain(0).with(&["a", "b"]), Stored::plain(2).with(&["c", "d"])];
    assert_eq!(read(&batches, 2, Isolation::ReadCommitted, &[]), (vec![2], 4));
    assert_eq!(read(&batches, 3, Isolation::ReadCommitted, &[]), (vec![2], 4));
}

#[test]
fn what_is_whole_before_damage_is_handed_out() {
    let mut damaged = Stored::plain(1).with(&["b"]).to_vec();
    *damaged.last_mut().expect("not empty") ^= 1;
    let bytes = joined(&[Stored::plain(0).with(&["a"]), Bytes::from(damaged)]);
    let digest = digest(bytes, 0, Isolation::ReadCommitted, Vec::new());
    assert_eq!((digest.entries.len(), digest.next_offset), (1, 1));
    assert!(digest.error.is_some());
}

#[test]
fn a_batch_that_is_cut_off_says_how_large_it_is() {
    let whole = Stored::plain(0).with(&["a long value, so that it can be cut"]);
    let digest = digest(whole.slice(..40), 0, Isolation::ReadCommitted, Vec::new());
    assert_eq!((digest.entries.len(), digest.next_offset), (0, 0));
    assert_eq!(digest.cut_off_bytes, Some(whole.len()));
}

/// What a producer does next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Write(usize),
    End { producer: usize, commits: bool },
    Plain,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0usize..3).prop_map(Step::Write),
        2 => (0usize..3, any::<bool>())
            .prop_map(|(producer, commits)| Step::End { producer, commits }),
        1 => Just(Step::Plain),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    /// Whatever producers do, wherever reading begins, and however the list is mixed: what comes
    /// out is what a log without the aborted transactions would hold.
    #[test]
    fn only_committed_data_is_handed_out(
        steps in steps(),
        from in 0usize..40,
        mix in any::<u64>(),
    ) {
        let mut batches = Vec::new();
        let mut open: [Option<(i64, Vec<i64>)>; 3] = [const { None }; 3];
        let mut aborted = Vec::new();
        let mut visible = Vec::new();
        for step in steps {
            let offset = batches.len() as i64;
            match step {
                Step::Plain => {
                    visible.push(offset);
                    batches.push(Stored::plain(offset).with(&["v"]));
                }
                Step::Write(producer) => {
                    open[producer].get_or_insert((offset, Vec::new())).1.push(offset);
                    batches.push(Stored::transactional(offset, producer as i64).with(&["v"]));
                }
                Step::End { producer, commits } => {
                    if let Some((first, written)) = open[producer].take() {
                        if commits {
                            visible.extend(written);
                        } else {
                            aborted.push((producer as i64, first, offset));
                        }
                    }
                    let batch = Stored::transactional(offset, producer as i64);
                    batches.push(batch.marker(commits));
                }
            }
        }
        // A broker shows nothing from the first open transaction on.
        let stable = open.iter().flatten().map(|(first, _)| *first).min();
        let stable = stable.unwrap_or(batches.len() as i64);
        let from = (from as i64).min(stable);
        let mut listed: Vec<(i64, i64)> = aborted
            .iter()
            .filter(|(_, first, last)| *first < stable && *last >= from)
            .map(|(producer, first, _)| (*producer, *first))
            .collect();
        let turn = usize::try_from(mix % 97).expect("small") % listed.len().max(1);
        listed.rotate_left(turn);
        if mix % 2 == 0 {
            listed.reverse();
        }
        let range = usize::try_from(from).expect("small")..usize::try_from(stable).expect("small");
        let found = read(&batches[range], from, Isolation::ReadCommitted, &listed);
        let mut expected: Vec<i64> =
            visible.into_iter().filter(|offset| (from..stable).contains(offset)).collect();
        expected.sort_unstable();
        prop_assert_eq!(found, (expected, stable.max(from)));
    }
}
