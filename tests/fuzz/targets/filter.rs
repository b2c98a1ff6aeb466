//! The first line as a filter policy, the second as a body and as attributes: nothing panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postern_model::filter::{Attribute, FilterPolicy, FilterScope, Message};

fuzz_target!(|text: &str| {
    let (policy, message) = text.split_once('\n').unwrap_or((text, ""));
    let attributes = ["String", "Number", "String.Array", "Binary"]
        .into_iter()
        .map(|data_type| Attribute { name: data_type, data_type, value: message });
    let held = Message::new(attributes, message);
    for scope in [FilterScope::MessageAttributes, FilterScope::MessageBody] {
        if let Ok(policy) = FilterPolicy::parse(policy, scope) {
            let again = Message::new([], message);
            assert!(
                scope == FilterScope::MessageAttributes
                    || policy.matches(&held) == policy.matches(&again)
            );
            let _ = policy.matches(&held);
        }
    }
});
