//! Free ports on the loopback interface, chosen below the range from which the kernel takes ports
//! for outgoing connections: a client that dials a dead broker's port can therefore never be given
//! that port itself.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher, RandomState},
    net::{Ipv4Addr, TcpListener},
};

use super::Error;

const FIRST: u16 = 18_000;
const LAST: u16 = 31_999;

/// `count` different ports that nobody listens on now.
///
/// # Errors
/// When the whole range was tried and too few were free.
pub(super) fn free(count: usize) -> Result<Vec<u16>, Error> {
    let span = u64::from(LAST - FIRST + 1);
    let start = RandomState::new().hash_one(std::process::id()) % span;
    let mut ports = BTreeSet::new();
    for step in 0..span {
        if ports.len() == count {
            break;
        }
        let offset = u16::try_from((start + step) % span).expect("invariant: span fits a port");
        let port = FIRST + offset;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            ports.insert(port);
        }
    }
    if ports.len() < count {
        return Err(Error::NoPort { first: FIRST, last: LAST });
    }
    Ok(ports.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;

    #[test]
    fn free_ports_differ_and_can_be_listened_on() {
        let ports = free(8).expect("eight free ports");
        assert_eq!(ports.len(), 8);
        let listen = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).ok();
        for port in &ports {
            // A child that another test starts holds the probing socket until it executes.
            let free =
                clock::poll(Duration::from_secs(5), Duration::from_millis(5), || listen(port));
            assert!(free.is_some(), "port {port}");
        }
        assert!(ports.iter().all(|port| (FIRST..=LAST).contains(port)));
    }
}
