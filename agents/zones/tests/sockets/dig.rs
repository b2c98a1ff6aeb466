//! Asked by BIND's dig, which is as strict a reader as there is.

use std::process::Stdio;

use postern_zones::{Forward, Limits};
use tokio::process::Command;
use tokio::time::timeout;

use super::support::*;

/// What dig prints; `None` where it isn't installed.
async fn dig(world: &World, words: &[&str]) -> Option<String> {
    let port = world.address().port().to_string();
    let mut command = Command::new("dig");
    command.args(["@127.0.0.1", "-p", &port, "+tries=1", "+time=5"]).args(words);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    match timeout(PATIENCE, output).await.expect("dig ends") {
        Ok(output) => {
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success(), "{words:?}: {text}");
            assert!(!text.contains("WARNING") && !text.contains("malformed"), "{words:?}: {text}");
            Some(text)
        }
        Err(error) => {
            eprintln!("SKIPPED, dig can't be run (Debian package bind9-dnsutils): {error}");
            None
        }
    }
}

#[tokio::test]
async fn dig_reads_every_kind_of_answer() {
    // Nobody that answers, but somebody to ask: recursion is on offer.
    let upstream = Upstream::start(|_| None).await;
    let forward = Forward::new(&forward_to(upstream.address)).unwrap();
    let world = World::with(forward, Limits::default());
    let soa = "ns.vpce.amazonaws.com. hostmaster.vpce.amazonaws.com. 1 7200 900 1209600 60";
    for transport in ["+notcp", "+tcp"] {
        for (words, expected) in [
            (vec![PRIVATE, "A"], vec!["NOERROR", "flags: qr aa rd ra;", "CNAME", "10.0.0.4", "60"]),
            (vec![REGIONAL, "A", "+noedns"], vec!["NOERROR", "ANSWER: 2", "ADDITIONAL: 0"]),
            (vec![REGIONAL, "AAAA"], vec!["NOERROR", "ANSWER: 0", "AUTHORITY: 1", soa]),
            (vec!["no.vpce.amazonaws.com", "A"], vec!["NXDOMAIN", "AUTHORITY: 1", soa]),
            (vec![PRIVATE, "SOA"], vec!["NOERROR", soa]),
            (vec![PRIVATE, "NS"], vec!["NOERROR", "ns.vpce.amazonaws.com."]),
            (vec![REGIONAL, "ANY", "+notcp"], vec!["NOERROR", "ANSWER: 2"]),
            (vec![REGIONAL, "A", "+dnssec", "+cookie"], vec!["flags: do; udp: 1232", "ANSWER: 2"]),
            (vec![REGIONAL, "A", "+edns=1", "+noednsnegotiation"], vec!["BADVERS"]),
            (vec!["version.bind", "TXT", "CH"], vec!["REFUSED"]),
            (vec!["www.example.org", "A", "+norecurse"], vec!["REFUSED"]),
            (vec![REGIONAL, "A", "+opcode=status", "+noedns"], vec!["NOTIMP"]),
            (vec![MANY, "A", "+ignore", "+notcp"], vec!["qr aa tc rd", "ANSWER: 0"]),
            (vec![MANY, "A"], vec!["ANSWER: 100"]),
        ] {
            let words = [&[transport][..], &words].concat();
            let Some(text) = dig(&world, &words).await else { return };
            for expected in expected {
                let squeezed = text.split_whitespace().collect::<Vec<_>>().join(" ");
                assert!(squeezed.contains(expected), "{words:?}: no {expected:?} in\n{text}");
            }
        }
    }
}
