//! Any text as a policy: parsing never panics, what parses reads back, and a decision and its
//! explanation agree.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postern_model::policy::{
    ConditionKey, Context, Policy, Request, Requester, add_permission, remove_permission,
};

const TOPIC: &str = "arn:aws:sns:us-east-1:111122223333:doors";

fuzz_target!(|document: &str| {
    let Ok(policy) = Policy::parse(document) else { return };
    assert_eq!(Policy::parse(&policy.render()).as_ref(), Ok(&policy));
    let now = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_795_514_400);
    let account = "111122223333".parse().expect("an account");
    for requester in [
        Requester::Service("vpce.amazonaws.com"),
        Requester::Account { account, principal: "arn:aws:iam::111122223333:user/bob" },
    ] {
        let context = Context::of(requester, now.into())
            .with_source(TOPIC, "111122223333")
            .with(ConditionKey::SourceIp, "10.1.2.3")
            .with(ConditionKey::SourceVpc, "vpc-1")
            .with(ConditionKey::SourceVpc, "vpc-2");
        let request = Request { requester, action: "SNS:Publish", resource: TOPIC, context };
        let explanation = policy.explain(&request);
        assert_eq!(explanation.decision, policy.evaluate(&request));
        for trace in explanation.statements {
            let _ = trace.to_string();
        }
    }
    let topic = TOPIC.parse().expect("a topic");
    if let Ok(more) = add_permission(document, &topic, "fuzz", &[account], &["Publish"]) {
        let less = remove_permission(&more, "fuzz").expect("it was added");
        assert_eq!(Policy::parse(&less).as_ref(), Ok(&policy));
    }
});
