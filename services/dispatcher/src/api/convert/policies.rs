//! Requests about policies.

use postern_model::policy::{
    ACTIONS, ConditionKey, Decision, ENDPOINT_EVENTS, MAX_PRINCIPALS, Trace,
};
use postern_model::{AccountId, Code, InvalidField, Refusal, field};
use postern_proto::v1;

use crate::app::{AddPermission, Asker, ExplainTopic, Explained, RemovePermission};

/// The most actions of a permission: there are fewer, and each counts once.
const MAX_ACTIONS: usize = 20;
/// The most context keys of a question.
const MAX_CONTEXT: usize = 32;
/// The longest value of one, and the longest name of a principal, in bytes.
const MAX_VALUE: usize = 2048;

impl TryFrom<v1::AddPermissionRequest> for AddPermission {
    type Error = Refusal;

    fn try_from(request: v1::AddPermissionRequest) -> Result<Self, Refusal> {
        let v1::AddPermissionRequest { topic_arn, label, account_ids, action_names } = request;
        let bad = |field: &str, why: String| Refusal::of_field(Code::InvalidParameter, field, why);
        if account_ids.len() > MAX_PRINCIPALS {
            return Err(bad("account_ids", format!("has at most {MAX_PRINCIPALS} accounts")));
        }
        if action_names.len() > MAX_ACTIONS {
            return Err(bad("action_names", format!("has at most {MAX_ACTIONS} actions")));
        }
        let accounts = account_ids
            .iter()
            .enumerate()
            .map(|(number, text)| field::parse(&format!("account_ids[{number}]"), text))
            .collect::<Result<_, InvalidField>>()?;
        Ok(Self {
            topic: field::parse("topic_arn", &topic_arn)?,
            label,
            accounts,
            actions: action_names,
        })
    }
}

impl TryFrom<v1::RemovePermissionRequest> for RemovePermission {
    type Error = Refusal;

    fn try_from(request: v1::RemovePermissionRequest) -> Result<Self, Refusal> {
        let v1::RemovePermissionRequest { topic_arn, label } = request;
        if label.is_empty() {
            return Err(Refusal::of_field(Code::InvalidParameter, "label", "is missing"));
        }
        Ok(Self { topic: field::parse("topic_arn", &topic_arn)?, label })
    }
}

impl TryFrom<v1::ExplainTopicRequest> for ExplainTopic {
    type Error = Refusal;

    fn try_from(request: v1::ExplainTopicRequest) -> Result<Self, Refusal> {
        let v1::ExplainTopicRequest { topic_arn, action, principal, context, policy } = request;
        let bad = |field: &str, why: String| Refusal::of_field(Code::InvalidParameter, field, why);
        let action = match action.as_str() {
            "" => "SNS:Publish",
            text => ACTIONS
                .into_iter()
                .find(|known| {
                    known.eq_ignore_ascii_case(text)
                        || known.strip_prefix("SNS:").is_some_and(|n| n.eq_ignore_ascii_case(text))
                })
                .ok_or_else(|| bad("action", format!("must be one of {}", ACTIONS.join(", "))))?,
        };
        if context.len() > MAX_CONTEXT {
            return Err(bad("context", format!("has at most {MAX_CONTEXT} keys")));
        }
        let mut given = Vec::with_capacity(context.len());
        for (key, value) in context {
            let shown: String = key.chars().take(64).collect();
            let field = format!("context[{shown}]");
            if value.len() > MAX_VALUE {
                return Err(bad(&field, format!("has at most {MAX_VALUE} bytes")));
            }
            let key: ConditionKey = field::parse(&field, &key)?;
            given.push((key, value));
        }
        // A map has no order of its own.
        given.sort_by(|a, b| (a.0.as_str(), &a.1).cmp(&(b.0.as_str(), &b.1)));
        Ok(Self {
            topic: field::parse("topic_arn", &topic_arn)?,
            action,
            asker: asker(&principal)?,
            context: given,
            policy,
        })
    }
}

/// An account's number, the ARN of a principal, or a service.
fn asker(text: &str) -> Result<Asker, InvalidField> {
    let bad = || {
        InvalidField::new(
            "principal",
            "must be an account's number, arn:aws:iam::<account>:root, :user/<name> or \
             :role/<name>, or a service such as vpce.amazonaws.com",
        )
    };
    if text.is_empty() {
        return Ok(Asker::Service(ENDPOINT_EVENTS.to_owned()));
    }
    if let Ok(account) = text.parse::<AccountId>() {
        return Ok(Asker::Account { account, principal: account.root_arn() });
    }
    if text.len() > MAX_VALUE {
        return Err(bad());
    }
    if let Some(rest) = text.strip_prefix("arn:aws:iam::") {
        let (account, resource) = rest.split_once(':').ok_or_else(bad)?;
        let account: AccountId = account.parse().map_err(|_| bad())?;
        let known = resource == "root"
            || ["user/", "role/"]
                .iter()
                .any(|kind| resource.strip_prefix(kind).is_some_and(|name| !name.is_empty()));
        return if known {
            Ok(Asker::Account { account, principal: text.to_owned() })
        } else {
            Err(bad())
        };
    }
    let named = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    if text.contains('.') && text.bytes().all(named) {
        return Ok(Asker::Service(text.to_owned()));
    }
    Err(bad())
}

impl From<Explained> for v1::ExplainTopicResponse {
    fn from(explained: Explained) -> Self {
        let Explained { decision, allowed, sentence, statements, suggestion } = explained;
        let by = match decision {
            Decision::Allowed { by } | Decision::Denied { by } => i32::try_from(by).ok(),
            Decision::NotAllowed => None,
        };
        let decision = match decision {
            _ if allowed => v1::PolicyDecision::Allowed,
            Decision::Denied { .. } => v1::PolicyDecision::Denied,
            Decision::Allowed { .. } | Decision::NotAllowed => v1::PolicyDecision::NotAllowed,
        };
        Self {
            decision: decision.into(),
            decided_by: by,
            explanation: sentence,
            statements: statements.into_iter().map(statement).collect(),
            suggested_statement: suggestion.unwrap_or_default(),
        }
    }
}

fn statement(trace: Trace) -> v1::StatementExplanation {
    let Trace { number, sid, effect, mismatch } = trace;
    v1::StatementExplanation {
        index: i32::try_from(number).unwrap_or(i32::MAX),
        sid: sid.unwrap_or_default(),
        effect: effect.as_str().to_owned(),
        applies: mismatch.is_none(),
        reason: mismatch.map(|mismatch| mismatch.to_string()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_an_account_a_principal_or_a_service() {
        let service = |name: &str| Asker::Service(name.to_owned());
        assert_eq!(asker("").unwrap(), service("vpce.amazonaws.com"));
        assert_eq!(asker("events.amazonaws.com").unwrap(), service("events.amazonaws.com"));
        let account: AccountId = "444455556666".parse().unwrap();
        let root = Asker::Account { account, principal: account.root_arn() };
        assert_eq!(asker("444455556666").unwrap(), root);
        assert_eq!(asker(&account.root_arn()).unwrap(), root);
        for bad in ["*", "somebody", "arn:aws:iam::1:root", "arn:aws:iam::444455556666:group/x"] {
            assert_eq!(asker(bad).unwrap_err().field, "principal", "{bad}");
        }
    }
}
