//! A connection against a hand-written far end.

use std::io;
use std::sync::Mutex as StdMutex;

use futures::future::BoxFuture;
use kafka_protocol::messages::api_versions_response::{ApiVersion, ApiVersionsResponse};
use kafka_protocol::messages::{MetadataRequest, MetadataResponse};
use kafka_protocol::protocol::Encodable;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::error::Fate;

/// Gives out one end of a pipe, once.
#[derive(Debug)]
struct OnePipe(StdMutex<Option<DuplexStream>>);

impl Connector for OnePipe {
    fn connect<'a>(&'a self, _: &'a Address) -> BoxFuture<'a, io::Result<Duplex>> {
        let stream = self.0.lock().unwrap().take();
        Box::pin(async move {
            let stream = stream.ok_or(io::ErrorKind::ConnectionRefused)?;
            let (read, write) = tokio::io::split(stream);
            Ok(Duplex { read: Box::new(read), write: Box::new(write) })
        })
    }
}

const IDLE_MAX: Duration = Duration::from_secs(60);

fn pipe() -> (Options, DuplexStream) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let options = Options {
        client_id: "test".into(),
        connect_timeout: Duration::from_secs(5),
        frame_bytes_max: 1 << 20,
        idle_max: IDLE_MAX,
        connector: Arc::new(OnePipe(StdMutex::new(Some(near)))),
        round_trip: RoundTrip::default(),
    };
    (options, far)
}

async fn read_request(far: &mut DuplexStream) -> (i16, i16, i32) {
    let length = far.read_i32().await.unwrap();
    let mut frame = vec![0; usize::try_from(length).unwrap()];
    far.read_exact(&mut frame).await.unwrap();
    let field = |at: usize| i16::from_be_bytes([frame[at], frame[at + 1]]);
    (field(0), field(2), i32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]]))
}

async fn write_answer(far: &mut DuplexStream, id: i32, body: &[u8]) {
    far.write_i32(i32::try_from(body.len() + 4).unwrap()).await.unwrap();
    far.write_i32(id).await.unwrap();
    far.write_all(body).await.unwrap();
}

async fn shake_hands(far: &mut DuplexStream) {
    let (api, version, id) = read_request(far).await;
    assert_eq!((api, version), (ApiKey::ApiVersions as i16, 3));
    let metadata = ApiVersion::default().with_api_key(3).with_min_version(0).with_max_version(9);
    let mut body = bytes::BytesMut::new();
    ApiVersionsResponse::default().with_api_keys(vec![metadata]).encode(&mut body, 3).unwrap();
    write_answer(far, id, &body).await;
}

async fn open() -> (Connection, DuplexStream) {
    let (options, mut far) = pipe();
    let address = Address::new("broker", 9092);
    let (connection, ()) =
        futures::join!(Connection::open(&address, &options), shake_hands(&mut far));
    (connection.unwrap(), far)
}

/// A metadata answer of version 1, told apart by its controller.
fn answer(controller: i32) -> Vec<u8> {
    let mut body = bytes::BytesMut::new();
    MetadataResponse::default().with_controller_id(controller.into()).encode(&mut body, 1).unwrap();
    body.to_vec()
}

fn metadata(connection: &Connection, timeout: Duration) -> Pending {
    let body = codec::encode(&MetadataRequest::default(), 1).unwrap();
    connection.send(ApiKey::Metadata, 1, vec![body], timeout)
}

#[tokio::test]
async fn requests_are_pipelined_and_answers_find_them() {
    let (connection, mut far) = open().await;
    let first = metadata(&connection, Duration::from_secs(5));
    let second = metadata(&connection, Duration::from_secs(5));
    let (_, _, first_id) = read_request(&mut far).await;
    let (_, _, second_id) = read_request(&mut far).await;
    write_answer(&mut far, first_id, &answer(1)).await;
    write_answer(&mut far, second_id, &answer(2)).await;
    assert_eq!(first.await.unwrap(), answer(1));
    assert_eq!(second.await.unwrap(), answer(2));
}

#[tokio::test]
async fn the_memory_of_a_large_answer_is_used_again_once_nobody_reads_it() {
    let (connection, mut far) = open().await;
    let buffers = Buffers::new(1 << 20);
    connection.read_into(&buffers);
    let mut places = Vec::new();
    for _ in 0..3 {
        let pending = metadata(&connection, Duration::from_secs(5));
        let (_, _, id) = read_request(&mut far).await;
        // What is behind the answer's fields is nobody's.
        let mut body = answer(1);
        body.resize(300_000, 9);
        let (received, ()) = futures::join!(pending, write_answer(&mut far, id, &body));
        let received = received.unwrap();
        assert_eq!(received, body);
        places.push(received.as_ptr());
    }
    assert!(places.iter().all(|place| *place == places[0]), "{places:?}");
}

#[tokio::test]
async fn the_answer_of_a_dropped_request_reaches_nobody_else() {
    let (connection, mut far) = open().await;
    let dropped = metadata(&connection, Duration::from_secs(5));
    let (_, _, dropped_id) = read_request(&mut far).await;
    drop(dropped);
    let kept = metadata(&connection, Duration::from_secs(5));
    let (_, _, kept_id) = read_request(&mut far).await;
    write_answer(&mut far, dropped_id, &answer(3)).await;
    write_answer(&mut far, kept_id, &answer(4)).await;
    assert_eq!(kept.await.unwrap(), answer(4));
}

#[tokio::test(start_paused = true)]
async fn a_written_request_without_an_answer_closes_the_connection() {
    let (connection, mut far) = open().await;
    let slow = metadata(&connection, Duration::from_secs(3));
    let behind = metadata(&connection, Duration::from_secs(30));
    read_request(&mut far).await;
    let error = slow.await.unwrap_err();
    assert!(matches!(error, Error::Timeout { written: true, .. }), "{error}");
    assert_eq!(error.fate(), Fate::Unknown);
    assert!(connection.is_closed());
    assert!(matches!(behind.await, Err(Error::Closed { .. })));
}

#[tokio::test]
async fn an_answer_with_a_wrong_id_closes_the_connection() {
    let (connection, mut far) = open().await;
    let pending = metadata(&connection, Duration::from_secs(5));
    let (_, _, id) = read_request(&mut far).await;
    write_answer(&mut far, id + 1, b"?").await;
    let error = pending.await.unwrap_err();
    assert!(matches!(error, Error::Closed { written: true, .. }), "{error}");
}

#[tokio::test]
async fn something_that_is_not_kafka_is_called_so() {
    let (options, mut far) = pipe();
    let address = Address::new("web", 80);
    let answer = far.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let (opened, _) = futures::join!(Connection::open(&address, &options), answer);
    let error = opened.unwrap_err();
    assert!(matches!(error, Error::NotKafka { .. }), "{error}");
    assert!(error.to_string().starts_with("web:80 does not speak plain Kafka"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_shortest_exchange_tells_how_far_the_broker_is() {
    let (options, mut far) = pipe();
    let address = Address::new("broker", 9092);
    let slow = async {
        clock::sleep(Duration::from_millis(50)).await;
        shake_hands(&mut far).await;
    };
    let (connection, ()) = futures::join!(Connection::open(&address, &options), slow);
    let connection = connection.unwrap();
    let millis = || options.round_trip.shortest().map(|shortest| shortest.as_millis());
    let too_few = [90, 70, 60, 55, 80, 51].map(|delay| (delay, None));
    let enough = [(65, Some(50)), (3, Some(3)), (60, Some(3))];
    for (delay, shortest) in too_few.into_iter().chain(enough) {
        let answered = metadata(&connection, Duration::from_secs(5));
        let broker = async {
            let (_, _, id) = read_request(&mut far).await;
            clock::sleep(Duration::from_millis(delay)).await;
            write_answer(&mut far, id, &[]).await;
        };
        let _ = futures::join!(answered, broker);
        assert_eq!(millis(), shortest, "after an answer that took {delay} ms");
    }
}

#[tokio::test]
async fn dropping_the_last_handle_closes_the_stream() {
    let (connection, mut far) = open().await;
    drop(connection);
    let mut rest = Vec::new();
    far.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn an_answer_that_claims_more_than_it_brings_is_an_error_not_an_allocation() {
    let (connection, mut far) = open().await;
    let pending = metadata(&connection, Duration::from_secs(5));
    let (_, _, id) = read_request(&mut far).await;
    write_answer(&mut far, id, &i32::MAX.to_be_bytes()).await;
    let error = pending.await.unwrap_err();
    assert!(matches!(error, Error::Decode { api: ApiKey::Metadata, version: 1, .. }), "{error}");
    assert_eq!(error.fate(), Fate::Unknown);
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_says_nothing_is_told_from_one_that_is_not_there() {
    let (options, _far) = pipe();
    let error = Connection::open(&Address::new("web", 80), &options).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("said nothing in 5s"), "{cause}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_closed_when_nothing_was_asked_for_long_and_not_while_an_answer_is_due() {
    let (connection, mut far) = open().await;
    clock::sleep(IDLE_MAX / 2).await;
    let slow = metadata(&connection, IDLE_MAX * 4);
    let (_, _, id) = read_request(&mut far).await;
    clock::sleep(IDLE_MAX * 3).await;
    write_answer(&mut far, id, &answer(1)).await;
    assert_eq!(slow.await.unwrap(), answer(1));
    assert!(!connection.is_closed());
    let mut rest = Vec::new();
    far.read_to_end(&mut rest).await.unwrap();
    assert!(connection.is_closed());
    let late = metadata(&connection, Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(late.fate(), Fate::NotWritten);
}
