//! Just enough of a ZooKeeper for a read-only look: connect, getChildren, getData.

use std::collections::BTreeMap;
use std::io::{Read, Result, Write};
use std::net::{TcpListener, TcpStream};

/// Serves a fixed tree for as long as the test runs; gives the address.
pub(crate) fn serve(nodes: BTreeMap<String, String>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // The client hangs up when it has seen enough.
            let _ = session(&nodes, stream.unwrap());
        }
    });
    address
}

fn session(nodes: &BTreeMap<String, String>, mut stream: TcpStream) -> Result<()> {
    read_frame(&mut stream)?;
    let mut connected = [0i32.to_be_bytes(), 6000i32.to_be_bytes()].concat();
    connected.extend(1i64.to_be_bytes());
    connected.extend(16i32.to_be_bytes());
    connected.extend([0; 17]);
    write_frame(&mut stream, &connected)?;
    loop {
        let request = read_frame(&mut stream)?;
        let operation = i32::from_be_bytes(request[4..8].try_into().unwrap());
        let path = match operation {
            4 | 8 => {
                let len = u32::from_be_bytes(request[8..12].try_into().unwrap()) as usize;
                String::from_utf8(request[12..12 + len].to_vec()).unwrap()
            }
            11 => String::new(),
            _ => return Ok(()),
        };
        let found = nodes.get(&path);
        let error: i32 = if operation != 11 && found.is_none() { NO_NODE } else { 0 };
        let mut answer = request[..4].to_vec();
        answer.extend(1i64.to_be_bytes());
        answer.extend(error.to_be_bytes());
        if let (Some(data), 4) = (found, operation) {
            answer.extend(string(data));
            answer.extend([0; 68]);
        } else if let (Some(_), 8) = (found, operation) {
            let prefix = format!("{path}/");
            let below = nodes.keys().filter_map(|name| name.strip_prefix(&prefix));
            let names: Vec<_> = below.filter(|name| !name.contains('/')).collect();
            answer.extend((names.len() as u32).to_be_bytes());
            names.iter().for_each(|name| answer.extend(string(name)));
        }
        write_frame(&mut stream, &answer)?;
    }
}

const NO_NODE: i32 = -101;

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes(), text.as_bytes()].concat()
}

fn read_frame(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut len = [0; 4];
    stream.read_exact(&mut len)?;
    let mut frame = vec![0; u32::from_be_bytes(len) as usize];
    stream.read_exact(&mut frame)?;
    Ok(frame)
}

fn write_frame(stream: &mut TcpStream, frame: &[u8]) -> Result<()> {
    stream.write_all(&[&(frame.len() as u32).to_be_bytes(), frame].concat())
}
