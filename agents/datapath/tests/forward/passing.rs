//! Bytes on their way, and what comes before them.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use postern_datapath::Ending;

use crate::support::*;

#[test]
fn what_a_client_sends_reaches_the_target_and_the_answer_comes_back() {
    let (datapath, spec) = (start(), interface(&[echo()]));
    datapath.apply(spec.clone()).unwrap();
    let mut client = connect(front(&spec));
    assert_echo(&mut client);
    assert_echo(&mut client);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    assert_ended(&datapath, &spec, Ending::Closed, 1);
    let usage = usage(&datapath, &spec);
    assert_eq!((usage.bytes_in, usage.bytes_out, usage.accepted), (12, 12, 1));
}

#[test]
fn a_target_that_speaks_first_is_heard() {
    let (datapath, spec) = (start(), interface(&[named("hello")]));
    datapath.apply(spec.clone()).unwrap();
    let mut text = String::new();
    connect(front(&spec)).read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
}

#[test]
fn a_client_that_has_said_all_still_hears_the_answer() {
    let count = serve(|mut stream| {
        let mut question = Vec::new();
        stream.read_to_end(&mut question).unwrap();
        write!(stream, "{} bytes", question.len()).unwrap();
    });
    let (datapath, spec) = (start(), interface(&[count]));
    datapath.apply(spec.clone()).unwrap();
    let mut client = connect(front(&spec));
    client.write_all(&noise(1, 300_000)).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "300000 bytes");
    assert_ended(&datapath, &spec, Ending::Closed, 1);
}

#[test]
fn a_target_that_has_said_all_still_hears_the_client() {
    let (listener, at) = target();
    let (datapath, spec) = (start(), interface(&[at]));
    datapath.apply(spec.clone()).unwrap();
    let mut client = connect(front(&spec));
    let mut target = accept(&listener);
    target.write_all(b"bye").unwrap();
    target.shutdown(Shutdown::Write).unwrap();
    let mut heard = String::new();
    client.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "bye");

    client.write_all(b"one more thing").unwrap();
    drop(client);
    let mut heard = String::new();
    target.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "one more thing");
    assert_ended(&datapath, &spec, Ending::Closed, 1);
}

/// Sends and receives at once; both ways must come out whole.
fn exchange(client: TcpStream, sent: Vec<u8>) {
    let sender = client.try_clone().unwrap();
    let expected = sent.clone();
    let sending = thread::spawn(move || {
        (&sender).write_all(&sent).unwrap();
        sender.shutdown(Shutdown::Write).unwrap();
    });
    let mut received = Vec::with_capacity(expected.len());
    (&client).read_to_end(&mut received).unwrap();
    sending.join().unwrap();
    assert!(received == expected, "{} of {} bytes", received.len(), expected.len());
}

#[test]
fn a_long_stream_comes_through_whole_both_ways() {
    let (datapath, spec) = (start(), interface(&[echo()]));
    datapath.apply(spec.clone()).unwrap();
    exchange(connect(front(&spec)), noise(7, 48 << 20));
    assert_ended(&datapath, &spec, Ending::Closed, 1);
    let usage = usage(&datapath, &spec);
    assert_eq!((usage.bytes_in, usage.bytes_out), (48 << 20, 48 << 20));
}

#[test]
fn a_thousand_connections_at_once_keep_their_bytes_apart() {
    const CONNECTIONS: u64 = 1_000;
    const BYTES: usize = 100_000;
    let (datapath, spec) = (start(), interface(&[echo(), echo(), echo()]));
    datapath.apply(spec.clone()).unwrap();
    // All open at the same time before any of them is used.
    let clients: Vec<TcpStream> = (0..CONNECTIONS).map(|_| connect(front(&spec))).collect();
    wait_for("all to be accepted", || {
        (usage(&datapath, &spec).open == CONNECTIONS as u32).then_some(())
    });
    let (pool, work) = (16, std::sync::Mutex::new(clients.into_iter().zip(0..)));
    thread::scope(|scope| {
        for _ in 0..pool {
            scope.spawn(|| {
                loop {
                    let next = work.lock().unwrap().next();
                    let Some((client, seed)) = next else { return };
                    exchange(client, noise(seed, BYTES));
                }
            });
        }
    });
    assert_ended(&datapath, &spec, Ending::Closed, CONNECTIONS);
    let usage = usage(&datapath, &spec);
    assert_eq!(usage.bytes_in, CONNECTIONS * BYTES as u64);
    assert_eq!(usage.bytes_out, CONNECTIONS * BYTES as u64);
}

#[test]
fn a_slow_reader_holds_the_sender_back_and_loses_nothing() {
    // More than all the socket buffers on the way can take.
    const BYTES: usize = 96 << 20;
    let (listener, at) = target();
    let (datapath, spec) = (start(), interface(&[at]));
    datapath.apply(spec.clone()).unwrap();
    let client = connect(front(&spec));
    let mut target = accept(&listener);

    let sent = noise(3, BYTES);
    client.set_nonblocking(true).unwrap();
    let mut offered = 0;
    // Full when nothing was taken for as long as a worker surely needs to make room.
    let mut stuck_since = std::time::Instant::now();
    while stuck_since.elapsed() < Duration::from_millis(300) {
        match (&client).write(&sent[offered..]) {
            Ok(taken) if taken > 0 => {
                offered += taken;
                stuck_since = std::time::Instant::now();
            }
            Ok(_) => panic!("everything was taken though nobody reads"),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(offered < BYTES / 2, "{offered} bytes were taken though nobody reads");

    client.set_nonblocking(false).unwrap();
    let rest = sent[offered..].to_vec();
    let sending = thread::spawn(move || {
        (&client).write_all(&rest).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        client
    });
    let mut received = Vec::with_capacity(BYTES);
    target.read_to_end(&mut received).unwrap();
    assert!(received == sent, "{} of {BYTES} bytes", received.len());
    drop(sending.join().unwrap());
}

/// CRC32C bit by bit, for a check that shares nothing with the sender.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

#[test]
fn the_proxy_header_comes_first_and_a_header_of_the_clients_own_is_passed_on_behind_it() {
    let (sender, received) = mpsc::channel();
    let at = serve(move |mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        sender.send(all).unwrap();
    });
    let (datapath, mut spec) = (start(), interface(&[at]));
    spec.proxy_protocol = true;
    datapath.apply(spec.clone()).unwrap();
    let mut client = connect(front(&spec));
    let claimed = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n";
    client.write_all(claimed).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let all = received.recv_timeout(PATIENCE).unwrap();

    let (header, payload) = all.split_at(100);
    assert_eq!(payload, claimed);
    assert_eq!(header[..16], *b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x54");
    let std::net::SocketAddr::V4(own) = client.local_addr().unwrap() else { unreachable!() };
    assert_eq!(header[16..20], own.ip().octets());
    assert_eq!(header[20..24], spec.address.octets());
    assert_eq!(header[24..26], own.port().to_be_bytes());
    assert_eq!(header[26..28], PORT.to_be_bytes());
    assert_eq!(header[28..31], [3, 0, 4]);
    assert_eq!(header[35..61], *b"\xea\x00\x17\x01vpce-0a1b2c3d4e5f60718");
    assert_eq!(header[61..64], [4, 0, 0x24]);
    let mut without = header.to_vec();
    without[31..35].fill(0);
    assert_eq!(header[31..35], crc32c(&without).to_be_bytes());
    // Only what the client sent is counted as the client's.
    assert_ended(&datapath, &spec, Ending::Closed, 1);
    assert_eq!(usage(&datapath, &spec).bytes_in, claimed.len() as u64);
}
