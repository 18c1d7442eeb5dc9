//! Whether a broker answers, and how many brokers it knows: one Metadata request (version 1, which
//! every Kafka from 0.10 on accepts), written and read by hand so that this tool needs no client.

use std::{
    io::{Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

const TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What a broker said of its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Number of brokers it knows to be alive.
    pub(super) brokers: usize,
    /// Whether it knows a controller.
    pub(super) has_controller: bool,
}

/// Asks the broker at `address` (`host:port`); nothing if it does not answer sensibly in time.
pub(super) fn ask(address: &str) -> Option<Answer> {
    let address = address.to_socket_addrs().ok()?.next()?;
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).ok()?;
    stream.set_read_timeout(Some(TIMEOUT)).ok()?;
    stream.set_write_timeout(Some(TIMEOUT)).ok()?;
    stream.write_all(&request()).ok()?;
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let length = usize::try_from(i32::from_be_bytes(length)).ok()?;
    if length > ANSWER_BYTES_MAX {
        return None;
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    parse(&body)
}

fn request() -> Vec<u8> {
    let client = b"kmirror-xtask";
    let mut body = Vec::new();
    body.extend_from_slice(&3_i16.to_be_bytes()); // Metadata
    body.extend_from_slice(&1_i16.to_be_bytes()); // version
    body.extend_from_slice(&1_i32.to_be_bytes()); // correlation id
    body.extend_from_slice(&13_i16.to_be_bytes());
    body.extend_from_slice(client);
    body.extend_from_slice(&0_i32.to_be_bytes()); // no topics
    let length = i32::try_from(body.len()).expect("invariant: a request of a few bytes");
    [length.to_be_bytes().as_slice(), &body].concat()
}

fn parse(body: &[u8]) -> Option<Answer> {
    let mut rest = body.get(4..)?; // correlation id
    let brokers = usize::try_from(take_i32(&mut rest)?).ok()?;
    if brokers > rest.len() {
        return None;
    }
    for _ in 0..brokers {
        take_i32(&mut rest)?; // id
        take_string(&mut rest)?; // host
        take_i32(&mut rest)?; // port
        take_string(&mut rest)?; // rack
    }
    Some(Answer { brokers, has_controller: take_i32(&mut rest)? >= 0 })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn take_i32(rest: &mut &[u8]) -> Option<i32> {
    take::<4>(rest).map(i32::from_be_bytes)
}

fn take_string(rest: &mut &[u8]) -> Option<()> {
    let length = i16::from_be_bytes(take::<2>(rest)?);
    let length = usize::try_from(length).unwrap_or(0); // -1 is null
    *rest = rest.get(length..)?;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(controller: i32) -> Vec<u8> {
        let mut body = vec![0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 7];
        body.extend_from_slice(&[0, 2, b'h', b'i', 0, 0, 0x23, 0x84, 0xff, 0xff]);
        body.extend_from_slice(&controller.to_be_bytes());
        body.extend_from_slice(&[0, 0, 0, 0]);
        body
    }

    #[test]
    fn an_answer_tells_brokers_and_controller() {
        assert_eq!(parse(&answer(7)), Some(Answer { brokers: 1, has_controller: true }));
        assert_eq!(parse(&answer(-1)), Some(Answer { brokers: 1, has_controller: false }));
    }

    #[test]
    fn a_cut_or_garbled_answer_is_no_answer() {
        let whole = answer(7);
        for length in 0..whole.len() - 4 {
            assert_eq!(parse(&whole[..length]), None, "{length} bytes");
        }
        assert_eq!(parse(&[0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff, 0, 0]), None);
    }
}
