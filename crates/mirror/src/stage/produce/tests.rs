//! The lanes over a fake destination.

use kmirror_client::batch::rebuild::Builder;
use kmirror_client::batch::{Codec, Compressor, Record};
use kmirror_client::produce::OnRejected;
use kmirror_client::{Client, ErrorCode};
use kmirror_fake::{Action, ApiKey, Cluster};
use proptest::prelude::*;

use super::aside::{LATELY, STALLED_AFTER, STALLED_AFTER_ANOTHER};
use super::*;
use crate::flow::Generation;
use crate::metrics::Metrics;
use crate::policy::filter::{Pattern, Selection};
use crate::stage::commit::Tracker;

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many replicas must be in sync for the destination to take anything: it has one.
const MIN_REPLICAS: &str = "min.insync.replicas";

/// The stage before a destination topic of many partitions.
struct Bench {
    cluster: Cluster,
    stage: Produce,
    life: Arc<Life>,
    tracker: Tracker,
    offset: i64,
}

impl Bench {
    /// The producer takes `queue_bytes_max` of a partition at once.
    async fn start(partitions: i32, queue_bytes_max: usize) -> Bench {
        let cluster = Cluster::builder().brokers(1).start().await.expect("a fake cluster");
        cluster.create_topic("orders", partitions);
        let cluster_config =
            || kmirror_client::Config::new(&cluster.bootstrap()).expect("an address");
        let client = Client::connect(cluster_config()).await.expect("a client");
        let topics = Selection::new(Pattern::try_new(".*").expect("a pattern"));
        let mut config = Config::new(cluster_config(), cluster_config(), topics);
        // Each parcel is sent as it is.
        config.produce.small_batch_bytes = 0;
        let config = Arc::new(config);
        let board = Arc::new(Board::new(Arc::new(Metrics::new())));
        let refusals = Arc::new(Refusals::new(config.trouble));
        let settings = produce::Config {
            queue_bytes_max,
            on_rejected: Arc::clone(&refusals) as _,
            ..produce::Config::default()
        };
        let producer = BatchProducer::try_new(client, settings).expect("a producer");
        let cell = board.begin(&TopicPartition::new("orders", 0), 0);
        let life = Life::new(TopicPartition::new("orders", 0), Generation(1), cell);
        let budget = Budget::new(64 << 20);
        let stage = Produce::new((producer, refusals), config, board, &budget);
        Bench { cluster, stage, life: Arc::new(life), tracker: Tracker::new(0), offset: 0 }
    }

    /// One parcel of one record waits for that partition.
    fn push(&mut self, partition: i32) -> usize {
        self.push_batch(partition, batch(b"x"))
    }

    fn push_batch(&mut self, partition: i32, outgoing: Outgoing) -> usize {
        let lane = self.stage.lane(&TopicPartition::new("orders", partition), 1 << 20);
        let records = i64::from(outgoing.records_count());
        let offsets = Offsets { first: self.offset, last: self.offset + records - 1 };
        self.offset += records;
        let span = self.tracker.track(self.offset, 1, outgoing.len_bytes());
        let origin = Origin { life: Arc::clone(&self.life), span, lease: None };
        self.stage.push(lane, origin, Parcel { partition, outgoing, way: Way::Keys, offsets });
        lane
    }

    /// Takes what has happened, as the stream would, but no more than once.
    async fn turn(&mut self) {
        let produced = tokio::time::timeout(PATIENCE, self.stage.next()).await;
        if let Produced::Acknowledged { spans, .. } = produced.expect("something wakes it") {
            for span in spans {
                self.tracker.acknowledge(span);
            }
        }
    }

    /// Lets the stage work until something is so.
    async fn until(&mut self, what: &str, is_so: impl Fn(&Bench) -> bool) {
        let begun = clock::now();
        while !is_so(self) {
            assert!(clock::now() < begun + PATIENCE, "not in time: {what}");
            let _ = tokio::time::timeout(Duration::from_millis(20), self.stage.next()).await;
        }
    }

    /// A lane with six parcels, the first of which is on the wire: it is answered after seconds.
    /// Those behind it are answered at once, once the guard is dropped.
    async fn with_one_on_the_wire(&mut self) -> kmirror_fake::Intercept {
        let unanswered =
            self.cluster.intercept(ApiKey::Produce, |_| Action::DelayReply(PATIENCE / 10));
        let lanes: Vec<usize> = (0..6).map(|_| self.push(0)).collect();
        self.stage.pump(lanes[0]);
        let begun = clock::now();
        while self.cluster.request_count(ApiKey::Produce) == 0 {
            assert!(clock::now() < begun + PATIENCE, "it is not sent");
            clock::sleep(Duration::from_millis(5)).await;
        }
        unanswered
    }

    fn written(&self) -> usize {
        self.cluster.records("orders", 0).len()
    }

    fn assert_every_lane_has_a_waker(&self) {
        for lane in &self.stage.lanes {
            let woken =
                !lane.in_flight.is_empty() || lane.mood == Mood::Resting || lane.waits_for_room;
            assert!(lane.waiting.is_empty() || woken, "{} has none", lane.partition);
        }
    }
}

/// One record of each letter.
fn batch(letters: &[u8]) -> Outgoing {
    let mut builder = Builder::new(Codec::None);
    for letter in letters {
        builder.push(&Record::new(None, Some(&[*letter; 100]))).expect("a record");
    }
    builder.finish(&mut Compressor::default()).expect("a batch")
}

#[test]
fn nothing_of_a_partition_that_was_given_up_is_sent_but_what_is_on_the_wire() {
    on_a_stream(async {
        let mut bench = Bench::start(1, 1 << 30).await;
        drop(bench.with_one_on_the_wire().await);
        let life = Arc::clone(&bench.life);
        life.end();
        bench.stage.forget(&life);
        bench.turn().await;
        assert!(bench.stage.lanes.iter().all(Lane::is_idle));
        assert!(bench.stage.producer.obstacle(&TopicPartition::new("orders", 0)).is_none());
        assert_eq!(bench.written(), 1);
        assert!(bench.stage.used.is_empty(), "nothing is remembered of it");
    });
}

#[test]
fn what_was_on_the_wire_of_a_partition_that_was_given_up_is_not_sent_again_if_it_is_not_taken() {
    on_a_stream(async {
        let mut bench = Bench::start(1, 1 << 30).await;
        let set = |replicas| bench.cluster.set_topic_config("orders", MIN_REPLICAS, replicas);
        set("2").expect("a setting");
        drop(bench.with_one_on_the_wire().await);
        let life = Arc::clone(&bench.life);
        life.end();
        bench.stage.forget(&life);
        assert!(!bench.stage.lanes[0].is_idle(), "one is on the wire");
        bench.until("it is dropped", |bench| bench.stage.lanes[0].is_idle()).await;
        assert_eq!(Arc::strong_count(&life), 2, "nothing keeps others from having it");
        bench.cluster.set_topic_config("orders", MIN_REPLICAS, "1").expect("a setting");
        bench.life = Arc::new(Life::new(life.partition.clone(), Generation(2), life.cell.clone()));
        let lane = bench.push(0);
        bench.stage.pump(lane);
        bench.turn().await;
        assert_eq!(bench.written(), 1);
    });
}

#[test]
fn what_is_set_aside_is_read_again_from_the_first_that_was_not_sent() {
    on_a_stream(async {
        let mut bench = Bench::start(1, 1 << 30).await;
        drop(bench.with_one_on_the_wire().await);
        let life = Arc::clone(&bench.life);
        let mut tracker = std::mem::replace(&mut bench.tracker, Tracker::new(0));
        assert!(bench.stage.put_aside(&life, &mut tracker), "one is on the wire");
        assert_eq!((tracker.position(), tracker.routed()), (0, 1));
        bench.tracker = tracker;
        bench.turn().await;
        assert_eq!((bench.written(), bench.tracker.position()), (1, 1));
        bench.offset = 1;
        let lane = bench.push(0);
        bench.stage.pump(lane);
        bench.turn().await;
        assert_eq!((bench.written(), bench.tracker.position()), (2, 2));
    });
}

#[test]
fn what_is_behind_a_record_that_was_left_out_is_not_read_again_with_what_was_written_before_it() {
    on_a_stream(async {
        let mut bench = Bench::start(1, 1 << 30).await;
        let lane = bench.push_batch(0, batch(b"abcd"));
        let to = TopicPartition::new("orders", 0);
        // As if the first half was written and the third record then refused.
        let too_large = produce::Rejection::of(ErrorCode::MESSAGE_TOO_LARGE);
        bench.stage.refusals.decide(&to, &batch(b"c"), &too_large);
        let whole = bench.stage.lanes[lane].waiting.pop_front().expect("a parcel");
        let rest = bench.stage.skip(lane, whole, "oversize").expect("a record is left");
        bench.stage.lanes[lane].waiting.push_front(rest);
        for is_merged in [false, true] {
            bench.push(0);
            if is_merged {
                let run: Vec<Waiting> = bench.stage.lanes[lane].waiting.drain(..).collect();
                bench.stage.lanes[lane].waiting.push_back(merge(&run, batch(b"dx")));
            }
            bench.stage.lanes[lane].mood = Mood::Resting;
            let life = Arc::clone(&bench.life);
            assert!(bench.stage.put_aside(&life, &mut bench.tracker));
            bench.offset = bench.tracker.routed();
            assert_eq!(bench.offset, if is_merged { 5 } else { 4 });
        }
    });
}

#[test]
fn a_lane_that_stalled_and_has_nothing_to_send_any_more_does_not_hurry_the_others_for_ever() {
    on_a_stream(async {
        let mut bench = Bench::start(2, 1 << 30).await;
        let set = |replicas| bench.cluster.set_topic_config("orders", MIN_REPLICAS, replicas);
        set("2").expect("a setting");
        let lane = bench.push(0);
        bench.stage.pump(lane);
        bench.until("it stalls", |bench| bench.stage.lanes[0].stalled_at.is_some()).await;
        bench.life.end();
        let life = Arc::clone(&bench.life);
        bench.stage.forget(&life);
        bench.until("it is given up", |bench| bench.stage.lanes[0].is_idle()).await;
        assert_eq!(bench.stage.patience(clock::now()), STALLED_AFTER_ANOTHER);
        assert_eq!(bench.stage.patience(clock::now() + LATELY), STALLED_AFTER);
    });
}

#[test]
fn a_life_without_progress_is_told_of_once_and_then_costs_only_the_lanes_it_has_something_in() {
    on_a_stream(async {
        let mut bench = Bench::start(50, 1 << 30).await;
        let set = |replicas| bench.cluster.set_topic_config("orders", MIN_REPLICAS, replicas);
        set("2").expect("a setting");
        let lanes: Vec<usize> = (0..50).map(|partition| bench.push(partition)).collect();
        lanes.iter().for_each(|lane| bench.stage.pump(*lane));
        let told = tokio::time::timeout(PATIENCE, bench.stage.next()).await.expect("news");
        assert!(matches!(told, Produced::Stalled { .. }));
        assert!(bench.stage.produced.is_empty(), "it is told of once, not for each lane");
        let life = Arc::clone(&bench.life);
        let is_any_left = bench.stage.put_aside(&life, &mut bench.tracker);
        let left: BTreeSet<usize> =
            lanes.into_iter().filter(|lane| !bench.stage.lanes[*lane].is_idle()).collect();
        assert_eq!(is_any_left, !left.is_empty());
        assert_eq!(bench.stage.used.remove(&life.generation).unwrap_or_default(), left);
        // What is pushed later is found as well.
        bench.offset = bench.tracker.routed();
        let lane = bench.push(49);
        assert!(bench.stage.used[&life.generation].contains(&lane) || left.contains(&lane));
    });
}

/// On a runtime as a stream has it: everything on one thread, the stage in a task.
fn on_a_stream<F: Future<Output = ()> + 'static>(work: F) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build_local(tokio::runtime::LocalOptions::default());
    let runtime = runtime.expect("a runtime");
    let task = runtime.spawn_local(work);
    runtime.block_on(task).expect("no panic");
}

#[test]
fn more_parcels_than_a_task_may_do_operations_in_one_turn_are_all_sent() {
    on_a_stream(async {
        let mut bench = Bench::start(1_000, 1 << 30).await;
        let lanes: Vec<usize> = (0..1_000).map(|partition| bench.push(partition)).collect();
        lanes.into_iter().for_each(|lane| bench.stage.pump(lane));
        bench.assert_every_lane_has_a_waker();
        while !bench.tracker.is_settled() {
            bench.turn().await;
        }
        assert!((0..1_000).all(|at| bench.cluster.records("orders", at).len() == 1));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever is pushed, pumped and taken in whatever order, however little the producer takes.
    #[test]
    fn no_lane_with_waiting_parcels_is_ever_without_a_waker(
        steps in prop::collection::vec((0i32..40, any::<bool>(), 1i32..200, 0i32..6), 1..12),
        queue_bytes_max in 100usize..1_000,
    ) {
        on_a_stream(async move {
            let mut bench = Bench::start(200, queue_bytes_max).await;
            for (first, takes, partitions, parcels) in steps {
                let pushed = (0..parcels).flat_map(|_| first..(first + partitions).min(200));
                let lanes: Vec<usize> = pushed.map(|partition| bench.push(partition)).collect();
                lanes.into_iter().for_each(|lane| bench.stage.pump(lane));
                bench.assert_every_lane_has_a_waker();
                if takes && !bench.tracker.is_settled() {
                    bench.turn().await;
                    bench.assert_every_lane_has_a_waker();
                }
            }
            while !bench.tracker.is_settled() {
                bench.turn().await;
                bench.assert_every_lane_has_a_waker();
            }
            assert!(bench.stage.lanes.iter().all(|lane| lane.waiting.is_empty()));
        });
    }
}
