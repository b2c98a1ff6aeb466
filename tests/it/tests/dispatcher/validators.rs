//! Other people's packages check our signatures. `tests/validators/run` installs them.

use std::path::Path;
use std::process::Command;

use postern_proto::v1;
use postern_testkit::receiver::{Received, Receiver};
use serde_json::json;

use crate::world::{PATIENCE, PROVIDER, Setup, World, by};

fn run(program: &str, arguments: &[&str], modules: &Path) {
    let output = Command::new(program)
        .args(arguments)
        .env("NODE_PATH", modules.join("node_modules"))
        .env("NODE_EXTRA_CA_CERTS", modules.join("cert.pem"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    print!("{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_people_s_packages_accept_our_signatures() {
    let Some(home) = std::env::var_os("POSTERN_VALIDATORS") else {
        println!("SKIPPED: tests/validators/run has not installed the packages");
        return;
    };
    let home = Path::new(&home);
    // They look at the time.
    let setup = Setup::default();
    let now = chrono::Utc::now();
    let ahead = now - crate::world::start();
    setup.clock.advance(ahead.to_std().unwrap());
    let world = World::with(setup).await;
    let receiver = Receiver::start().await.unwrap();
    let topic = world.topic().await.topic_arn;
    receiver.confirm(true);
    let subscription = world.subscribe(&topic, &receiver.url("/hook")).await;
    world.confirmed(&subscription).await;
    let subscription_arn = subscription.subscription_arn.clone();
    let get = v1::GetSubscriptionSecretRequest { subscription_arn };
    let secret = world.client().get_subscription_secret(by(PROVIDER, get)).await.unwrap();
    let secret = secret.into_inner().secret;
    let mut wanted = Vec::new();
    for version in [v1::SignatureVersion::Sha1, v1::SignatureVersion::Sha256] {
        let set = v1::SetTopicAttributesRequest {
            topic_arn: topic.clone(),
            signature_version: version.into(),
            ..Default::default()
        };
        world.client().set_topic_attributes(by(PROVIDER, set)).await.unwrap();
        for text in ["plain", "two\nlines, caf\u{e9} \u{1f6aa}", "{\"json\": [1, \"x\"]}"] {
            wanted.push(world.publish(&topic, text).await);
        }
    }
    let is_wanted = |one: &Received| {
        one.headers.get("x-amz-sns-message-id").is_some_and(|id| wanted.contains(id))
    };
    let mut came = receiver.wait_for_all(PATIENCE, wanted.len(), is_wanted).await.unwrap();
    // The confirmation, whose signature has other keys.
    came.extend(receiver.received().into_iter().take(1));
    let url = came[0].json().unwrap()["SigningCertURL"].as_str().unwrap().to_owned();
    let (_, certificate) = world.get(&url).await;
    let requests: Vec<_> =
        came.iter().map(|one| json!({"headers": one.headers, "body": one.body})).collect();
    let told = json!({"certificate": certificate, "secret": secret, "requests": requests});
    let file = home.join("told.json");
    std::fs::write(&file, told.to_string()).unwrap();
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../validators");
    let (file, script) = (file.to_str().unwrap(), |name: &str| scripts.join(name));
    let python = home.join("venv/bin/python");
    run(python.to_str().unwrap(), &[script("check.py").to_str().unwrap(), file], home);
    if home.join("node_modules/sns-validator").exists() {
        let (key, certificate) = (home.join("key.pem"), home.join("cert.pem"));
        let arguments = [
            script("check.js").to_str().unwrap().to_owned(),
            file.to_owned(),
            key.to_str().unwrap().to_owned(),
            certificate.to_str().unwrap().to_owned(),
        ];
        run("node", &arguments.iter().map(String::as_str).collect::<Vec<_>>(), home);
    }
}
