//! A minimal HTTP/1.1 client: one GET per connection, basic authentication, plain TCP.
//!
//! There is no TLS here yet: an `https` address is refused with a sentence saying so, never
//! downgraded. Redirects are not followed, so that credentials go only where they were sent.
//! An answer is at most [`RESPONSE_LEN_MAX`] bytes and takes at most the caller's timeout.

use std::fmt;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::address::{self, Address};

/// The longest answer read, head and body together.
pub const RESPONSE_LEN_MAX: usize = 16 << 20;

/// An `http://host:port/prefix` address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    address: Address,
    path: String,
}

impl Url {
    /// Reads an address of the form `http://host[:port][/prefix]`; the port is 80 if none is named.
    ///
    /// # Errors
    /// [`Error::Https`] for `https`, [`Error::Url`] for anything else that is not such an address.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let malformed = |source: Option<address::Error>| Error::Url {
            url: text.escape_debug().take(255).collect(),
            source,
        };
        if text.starts_with("https://") {
            return Err(Error::Https { url: text.escape_debug().take(255).collect() });
        }
        let rest = text.strip_prefix("http://").ok_or_else(|| malformed(None))?;
        let (host, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        // Credentials in an address end up in logs; they have their own arguments.
        if host.contains('@') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(malformed(None));
        }
        let address = Address::parse(host, 80).map_err(|cause| malformed(Some(cause)))?;
        Ok(Self { address, path: path.trim_end_matches('/').to_owned() })
    }

    /// The address with `path` appended. Every segment must already be escaped.
    #[must_use]
    pub fn with_path(&self, path: &str) -> Self {
        Self { address: self.address.clone(), path: format!("{}{path}", self.path) }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "http://{}{}", self.address, self.path)
    }
}

/// A user and a password. `Debug` shows the user only.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    user: String,
    password: String,
}

impl Credentials {
    /// Keeps a user and a password; neither is checked here.
    #[must_use]
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: user.into(), password: password.into() }
    }

    fn header(&self) -> String {
        format!("Basic {}", base64(format!("{}:{}", self.user, self.password).as_bytes()))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Credentials");
        shown.field("user", &self.user).field("password", &"[hidden]").finish()
    }
}

/// Fetches the body behind `url`.
///
/// # Errors
/// See [`Error`]; any status but 200 is one.
pub async fn fetch(
    url: &Url,
    credentials: Option<&Credentials>,
    timeout: Duration,
) -> Result<Vec<u8>, Error> {
    match tokio::time::timeout(timeout, exchange(url, credentials)).await {
        Ok(answered) => answered,
        Err(_) => Err(Error::Timeout { url: url.to_string(), timeout }),
    }
}

/// Why there is no body.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not an address of the form `http://host:port/path`.
    #[error("malformed address \"{url}\", expected http://host:port")]
    Url {
        /// The text, escaped.
        url: String,
        /// What is wrong with its host or port.
        source: Option<address::Error>,
    },
    /// TLS is not spoken here.
    #[error(
        "{url} needs TLS, which this client does not speak; \
         use the plain address inside the cluster (http://headnodehost:8080) or a tunnel to it"
    )]
    Https {
        /// The text, escaped.
        url: String,
    },
    /// The connection could not be opened, or broke.
    #[error("exchange with {url}")]
    Io {
        /// What was asked.
        url: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// No complete answer in time.
    #[error("no answer from {url} within {timeout:?}")]
    Timeout {
        /// What was asked.
        url: String,
        /// The bound of the whole exchange.
        timeout: Duration,
    },
    /// The server refused.
    #[error("{url} answered {status}{}", hint(*.status))]
    Status {
        /// What was asked.
        url: String,
        /// The HTTP status code.
        status: u16,
    },
    /// The answer is not HTTP/1.1, is cut short, or is too long.
    #[error("answer of {url} is malformed: {reason}")]
    Malformed {
        /// What was asked.
        url: String,
        /// What is wrong, a constant text.
        reason: &'static str,
    },
}

impl Error {
    /// Whether the same request may succeed a little later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Io { .. } | Self::Timeout { .. } => true,
            Self::Status { status, .. } => *status >= 500 || *status == 429,
            Self::Url { .. } | Self::Https { .. } | Self::Malformed { .. } => false,
        }
    }
}

fn hint(status: u16) -> &'static str {
    match status {
        401 => " (unauthorized): check the user and the password",
        403 => " (forbidden): this user may not read the cluster",
        404 => " (not found): check the cluster name",
        300..=399 => " (redirect): redirects are not followed, give the final address",
        _ => "",
    }
}

async fn exchange(url: &Url, credentials: Option<&Credentials>) -> Result<Vec<u8>, Error> {
    let io = |source| Error::Io { url: url.to_string(), source };
    let mut request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\nConnection: close\r\n\
         User-Agent: kmirror\r\n",
        if url.path.is_empty() { "/" } else { &url.path },
        url.address
    );
    if let Some(credentials) = credentials {
        request.push_str(&format!("Authorization: {}\r\n", credentials.header()));
    }
    request.push_str("\r\n");
    let target = (url.address.host(), url.address.port());
    let mut stream = TcpStream::connect(target).await.map_err(io)?;
    stream.write_all(request.as_bytes()).await.map_err(io)?;
    let mut answer = Vec::new();
    let mut bounded = stream.take(RESPONSE_LEN_MAX as u64 + 1);
    bounded.read_to_end(&mut answer).await.map_err(io)?;
    let malformed = |reason| Error::Malformed { url: url.to_string(), reason };
    if answer.len() > RESPONSE_LEN_MAX {
        return Err(malformed("too long"));
    }
    let (status, body) = parse(answer).map_err(malformed)?;
    if status != 200 {
        return Err(Error::Status { url: url.to_string(), status });
    }
    Ok(body)
}

/// Splits a complete answer into status and body.
fn parse(answer: Vec<u8>) -> Result<(u16, Vec<u8>), &'static str> {
    let head_len = find(&answer, b"\r\n\r\n").ok_or("no end of head")?;
    let head = std::str::from_utf8(&answer[..head_len]).map_err(|_| "head is not text")?;
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let mut words = status_line.split(' ');
    if !words.next().is_some_and(|version| version.starts_with("HTTP/1.")) {
        return Err("not HTTP/1.1");
    }
    let status = words.next().and_then(|word| word.parse().ok()).ok_or("no status")?;
    let mut length = None;
    let mut chunked = false;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse::<usize>().map_err(|_| "malformed length")?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = value.trim().eq_ignore_ascii_case("chunked");
        }
    }
    let body = &answer[head_len + 4..];
    let body = match (chunked, length) {
        (true, _) => unchunk(body)?,
        (false, Some(length)) => body.get(..length).ok_or("cut short")?.to_vec(),
        (false, None) => body.to_vec(),
    };
    Ok((status, body))
}

/// Joins the chunks of a chunked body. The result is never longer than the input.
fn unchunk(mut rest: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut body = Vec::new();
    loop {
        let line_len = find(rest, b"\r\n").ok_or("cut short")?;
        let line = std::str::from_utf8(&rest[..line_len]).map_err(|_| "malformed chunk")?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let chunk_len = usize::from_str_radix(digits, 16).map_err(|_| "malformed chunk")?;
        rest = &rest[line_len + 2..];
        if chunk_len == 0 {
            return Ok(body);
        }
        let chunk = rest.get(..chunk_len).ok_or("cut short")?;
        body.extend_from_slice(chunk);
        rest = rest[chunk_len..].strip_prefix(b"\r\n").ok_or("cut short")?;
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let index = (bits >> (18 - 6 * at) & 63) as usize;
            text.push(if at <= group.len() { char::from(LETTERS[index]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads_as_rfc_4648_does() {
        for (plain, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("admin:Pa:ss\u{fc}", "YWRtaW46UGE6c3PDvA=="),
        ] {
            assert_eq!(base64(plain.as_bytes()), text);
        }
    }

    #[test]
    fn chunks_are_joined_and_a_cut_one_is_an_error() {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let body = |chunks: &str| parse(format!("{head}{chunks}").into_bytes());
        assert_eq!(body("3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"), Ok((200, b"abcde".to_vec())));
        assert_eq!(body("4\r\nabc"), Err("cut short"));
        assert_eq!(body("ffffffffffffffff\r\nabc\r\n"), Err("cut short"));
        assert_eq!(body("zz\r\nabc\r\n"), Err("malformed chunk"));
    }

    #[test]
    fn a_body_shorter_than_announced_is_an_error() {
        let answer = |text: &str| parse(text.as_bytes().to_vec());
        assert_eq!(answer("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab"), Err("cut short"));
        assert_eq!(answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nabX").unwrap().1, b"ab");
        assert_eq!(answer("SSH-2.0\r\n\r\n"), Err("not HTTP/1.1"));
        assert_eq!(answer("HTTP/1.1 200 OK\r\n"), Err("no end of head"));
    }

    #[test]
    fn https_is_refused_and_never_downgraded() {
        let error = Url::parse("https://c.azurehdinsight.net").unwrap_err();
        assert!(error.to_string().contains("needs TLS"), "{error}");
        assert!(Url::parse("http://user:secret@host").is_err());
        assert!(Url::parse("http://host/a\r\nX: y").is_err());
        assert!(Url::parse("host:8080").is_err());
    }

    #[test]
    fn a_password_is_not_shown() {
        let shown = format!("{:?}", Credentials::new("admin", "hunter2"));
        assert!(shown.contains("admin") && !shown.contains("hunter2"));
    }
}
