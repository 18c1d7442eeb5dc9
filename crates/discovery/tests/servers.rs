//! Discovery against servers of its own: one that speaks just enough of ZooKeeper's protocol, and
//! one that answers HTTP requests from a script.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kmirror_discovery::http::{Credentials, Url};
use kmirror_discovery::{ambari, join, zookeeper};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Answers connect, getChildren and getData from a fixed tree; anything else ends the connection.
struct FakeZookeeper {
    nodes: Vec<(&'static str, &'static str)>,
    /// Nodes are only told once so many were asked for.
    held: usize,
    /// The nodes whose data were asked for.
    asked: Arc<Mutex<Vec<String>>>,
}

impl FakeZookeeper {
    fn new(nodes: Vec<(&'static str, &'static str)>) -> Self {
        Self { nodes, held: 1, asked: Arc::default() }
    }

    async fn start(self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let _ = self.serve(stream).await;
            }
        };
        drop(start_task(server));
        address
    }

    async fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        read_frame(&mut stream).await?;
        let mut connected = Vec::new();
        connected.extend(0i32.to_be_bytes());
        connected.extend(6000i32.to_be_bytes());
        connected.extend(1i64.to_be_bytes());
        connected.extend(16i32.to_be_bytes());
        connected.extend([0u8; 16]);
        connected.push(0);
        write_frame(&mut stream, &connected).await?;
        let mut held = Vec::new();
        loop {
            let request = read_frame(&mut stream).await?;
            let xid: [u8; 4] = request[..4].try_into().unwrap();
            let operation = i32::from_be_bytes(request[4..8].try_into().unwrap());
            let path = match operation {
                4 | 8 => {
                    let len = u32::from_be_bytes(request[8..12].try_into().unwrap()) as usize;
                    String::from_utf8(request[12..12 + len].to_vec()).unwrap()
                }
                _ => String::new(),
            };
            let (error, body) = match operation {
                4 => self.data(&path),
                8 => self.children(&path),
                11 => (0, Vec::new()),
                _ => return Ok(()),
            };
            let mut answer = xid.to_vec();
            answer.extend(1i64.to_be_bytes());
            answer.extend(i32::to_be_bytes(error));
            answer.extend(body);
            if operation != 4 {
                write_frame(&mut stream, &answer).await?;
                continue;
            }
            self.asked.lock().unwrap().push(path);
            held.push(answer);
            if held.len() >= self.held {
                for answer in held.drain(..) {
                    write_frame(&mut stream, &answer).await?;
                }
            }
        }
    }

    fn data(&self, path: &str) -> (i32, Vec<u8>) {
        match self.nodes.iter().find(|(name, _)| *name == path) {
            Some((_, data)) => {
                let mut body = string(data);
                body.extend([0u8; 68]);
                (0, body)
            }
            None => (-101, Vec::new()),
        }
    }

    fn children(&self, path: &str) -> (i32, Vec<u8>) {
        let prefix = format!("{path}/");
        if !self.nodes.iter().any(|(name, _)| *name == path) {
            return (-101, Vec::new());
        }
        let below = self.nodes.iter().filter_map(|(name, _)| name.strip_prefix(&prefix));
        let names: Vec<_> = below.filter(|name| !name.contains('/')).collect();
        let mut body = (names.len() as i32).to_be_bytes().to_vec();
        names.iter().for_each(|name| body.extend(string(name)));
        (0, body)
    }
}

fn string(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as i32).to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

async fn read_frame(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let len = stream.read_u32().await?;
    let mut frame = vec![0; len as usize];
    stream.read_exact(&mut frame).await?;
    Ok(frame)
}

async fn write_frame(stream: &mut TcpStream, frame: &[u8]) -> std::io::Result<()> {
    stream.write_u32(frame.len() as u32).await?;
    stream.write_all(frame).await
}

/// The servers of this file live as long as the test's runtime.
#[expect(clippy::disallowed_methods, reason = "test servers end with the test's runtime")]
fn start_task(server: impl Future<Output = ()> + Send + 'static) -> tokio::task::JoinHandle<()> {
    tokio::spawn(server)
}

const REGISTRATION: &str = r#"{
    "listener_security_protocol_map":{"PLAINTEXT":"PLAINTEXT","SECURE":"SASL_SSL"},
    "endpoints":["PLAINTEXT://wn0:9092","SECURE://wn0:9093"],
    "host":"wn0","port":9092,"version":4}"#;

#[tokio::test]
async fn brokers_are_read_from_zookeeper() {
    let nodes = vec![
        ("/brokers/ids", ""),
        ("/brokers/ids/1002", r#"{"host":"wn1","port":9092,"version":1}"#),
        ("/brokers/ids/1001", REGISTRATION),
    ];
    let server = FakeZookeeper::new(nodes).start().await;
    let brokers = zookeeper::brokers(&server, TIMEOUT).await.unwrap();
    assert_eq!(brokers.iter().map(|broker| broker.id).collect::<Vec<_>>(), [1001, 1002]);
    assert_eq!(join(&zookeeper::addresses(&brokers, "PLAINTEXT").unwrap()), "wn0:9092,wn1:9092");
    assert_eq!(join(&zookeeper::addresses(&brokers, "SASL_SSL").unwrap()), "wn0:9093");
}

#[tokio::test]
async fn a_chroot_is_looked_below_and_a_missing_one_is_named() {
    let nodes = vec![
        ("/kafka/brokers/ids", ""),
        ("/kafka/brokers/ids/1", r#"{"host":"wn1","port":9092,"version":1}"#),
    ];
    let server = FakeZookeeper::new(nodes).start().await;
    let found = zookeeper::brokers(&format!("{server}/kafka"), TIMEOUT).await.unwrap();
    assert_eq!(found.len(), 1);
    let error = zookeeper::brokers(&server, TIMEOUT).await.unwrap_err();
    assert!(error.to_string().contains("a chroot such as /kafka may be missing"), "{error}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_cluster_without_brokers_is_an_error() {
    let server = FakeZookeeper::new(vec![("/brokers/ids", "")]).start().await;
    let error = zookeeper::brokers(&server, TIMEOUT).await.unwrap_err();
    assert!(matches!(error, zookeeper::Error::NoBrokers { .. }), "{error:?}");
}

#[tokio::test]
async fn an_unreachable_zookeeper_fails_at_once_and_a_silent_one_in_time() {
    let refused = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let error = zookeeper::brokers(&refused, TIMEOUT).await.unwrap_err();
    assert!(matches!(error, zookeeper::Error::Connect { .. }), "{error:?}");
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let error = zookeeper::brokers(&address, Duration::from_millis(300)).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
}

#[tokio::test]
async fn the_offsets_of_an_old_consumer_group_are_read() {
    let nodes = vec![
        ("/consumers/g/offsets", ""),
        ("/consumers/g/offsets/t", ""),
        ("/consumers/g/offsets/t/1", "42"),
        ("/consumers/g/offsets/t/0", "7"),
    ];
    let server = FakeZookeeper::new(nodes).start().await;
    let offsets = zookeeper::consumer_offsets(&server, "g", TIMEOUT, all).await.unwrap();
    let found: Vec<_> = offsets.iter().map(|it| (it.partition, it.next_offset)).collect();
    assert_eq!(found, [(0, 7), (1, 42)]);
    assert!(zookeeper::consumer_offsets(&server, "nobody", TIMEOUT, all).await.unwrap().is_empty());
    assert!(zookeeper::consumer_offsets(&server, "g/..", TIMEOUT, all).await.unwrap().is_empty());
}

fn all(_: &str, _: i32) -> bool {
    true
}

#[tokio::test]
async fn offsets_are_asked_for_at_once_and_only_those_that_are_wanted() {
    let partitions = [
        ("/consumers/g/offsets/orders/0", "10"),
        ("/consumers/g/offsets/orders/1", "11"),
        ("/consumers/g/offsets/orders/2", "12"),
        ("/consumers/g/offsets/orders/3", "13"),
    ];
    let above = [("/consumers/g/offsets", ""), ("/consumers/g/offsets/orders", "")];
    let nodes = above.into_iter().chain(partitions).collect();
    let fake = FakeZookeeper { held: 3, ..FakeZookeeper::new(nodes) };
    let asked = Arc::clone(&fake.asked);
    let server = fake.start().await;
    let wanted = |topic: &str, partition| topic == "orders" && partition != 2;
    // Whoever asked for one after the other would wait for the first answer for ever.
    let offsets = zookeeper::consumer_offsets(&server, "g", TIMEOUT, wanted).await.unwrap();
    let found: Vec<_> = offsets.iter().map(|it| (it.partition, it.next_offset)).collect();
    assert_eq!(found, [(0, 10), (1, 11), (3, 13)]);
    assert!(!asked.lock().unwrap().contains(&"/consumers/g/offsets/orders/2".to_owned()));
}

#[tokio::test]
async fn an_offset_that_is_none_fails_the_call() {
    let nodes = vec![
        ("/consumers/g/offsets", ""),
        ("/consumers/g/offsets/t", ""),
        ("/consumers/g/offsets/t/0", "many"),
    ];
    let server = FakeZookeeper::new(nodes).start().await;
    let error = zookeeper::consumer_offsets(&server, "g", TIMEOUT, all).await.unwrap_err();
    assert_eq!(error.to_string(), "/consumers/g/offsets/t/0 in zookeeper holds no offset");
}

type Requests = Arc<Mutex<Vec<String>>>;

/// Answers each connection with the text that `answer` makes of the request's path.
async fn fake_http(answer: fn(&str) -> String) -> (Url, Requests) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let requests = Requests::default();
    let seen = Arc::clone(&requests);
    drop(start_task(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let path = head.split(' ').nth(1).unwrap().to_owned();
            seen.lock().unwrap().push(head);
            let _ = stream.write_all(answer(&path).as_bytes()).await;
        }
    }));
    (url, requests)
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn server(url: Url, cluster: Option<&str>) -> ambari::Server {
    ambari::Server {
        url,
        credentials: Some(Credentials::new("admin", "secret")),
        cluster: cluster.map(str::to_owned),
        timeout: TIMEOUT,
    }
}

const AMBARI_HOSTS: &str = r#"{"href":"x","host_components":[
    {"href":"y","HostRoles":{"cluster_name":"c","host_name":"wn0-k"}},
    {"href":"z","HostRoles":{"cluster_name":"c","host_name":"wn1-k"}}]}"#;

#[tokio::test]
async fn ambari_names_brokers_and_zookeeper_servers() {
    let (url, requests) = fake_http(|_| ok(AMBARI_HOSTS)).await;
    let server = server(url, Some("c"));
    assert_eq!(join(&server.brokers(9092).await.unwrap()), "wn0-k:9092,wn1-k:9092");
    assert_eq!(join(&server.zookeeper_servers(2181).await.unwrap()), "wn0-k:2181,wn1-k:2181");
    let seen = requests.lock().unwrap();
    assert!(seen[0].starts_with("GET /api/v1/clusters/c/services/KAFKA/components/KAFKA_BROKER "));
    assert!(seen[0].contains("\r\nAuthorization: Basic YWRtaW46c2VjcmV0\r\n"));
    assert!(seen[1].contains("/services/ZOOKEEPER/components/ZOOKEEPER_SERVER "));
}

#[tokio::test]
async fn the_only_cluster_needs_no_name() {
    let (url, _) = fake_http(|path| match path {
        "/api/v1/clusters" => ok(r#"{"items":[{"Clusters":{"cluster_name":"only one"}}]}"#),
        "/api/v1/clusters/only%20one/services/KAFKA/components/KAFKA_BROKER" => ok(AMBARI_HOSTS),
        _ => "HTTP/1.1 404 Not Found\r\n\r\n".to_owned(),
    })
    .await;
    assert_eq!(server(url, None).brokers(9092).await.unwrap().len(), 2);
}

#[tokio::test]
async fn several_clusters_need_a_name() {
    let (url, _) = fake_http(|_| {
        let named = |name| format!(r#"{{"Clusters":{{"cluster_name":"{name}"}}}}"#);
        ok(&format!(r#"{{"items":[{},{}]}}"#, named("a"), named("b")))
    })
    .await;
    let error = server(url, None).brokers(9092).await.unwrap_err();
    assert_eq!(error.to_string(), "name the cluster: ambari manages [a, b]");
}

#[tokio::test]
async fn a_wrong_password_says_so() {
    let (url, _) = fake_http(|_| "HTTP/1.1 401 Unauthorized\r\n\r\n".to_owned()).await;
    let error = server(url, Some("c")).brokers(9092).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.ends_with("answered 401 (unauthorized): check the user and the password"));
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_server_that_never_ends_its_answer_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let mut server = server(url, Some("c"));
    server.timeout = Duration::from_millis(200);
    let error = server.brokers(9092).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    drop(listener);
}
