//! What a topic's policy says to a request, and why.

use chrono::{DateTime, Utc};
use postern_model::AccountId;
use postern_model::arn::TopicArn;
use postern_model::policy::{
    ConditionKey, Context, Decision, Policy, Request, Requester, Trace, suggested_statement,
};
use serde_json::json;

use super::App;
use super::topics::check_policy;
use crate::caller::Caller;
use crate::error::Error;

/// Who is imagined to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A service.
    Service(String),
    /// A principal of an account.
    Account {
        /// The account.
        account: AccountId,
        /// The principal's ARN.
        principal: String,
    },
}

impl Asker {
    fn requester(&self) -> Requester<'_> {
        match self {
            Self::Service(name) => Requester::Service(name),
            Self::Account { account, principal } => {
                Requester::Account { account: *account, principal }
            }
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Service(name) => name,
            Self::Account { principal, .. } => principal,
        }
    }
}

/// Asks what a topic's policy says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainTopic {
    /// The topic.
    pub topic: TopicArn,
    /// What is to be done: `SNS:Publish`.
    pub action: &'static str,
    /// By whom.
    pub asker: Asker,
    /// What conditions look at, besides what follows from the asker and the time.
    pub context: Vec<(ConditionKey, String)>,
    /// A policy in place of the topic's.
    pub policy: Option<String>,
}

/// What the policy says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The answer of the policy's statements.
    pub decision: Decision,
    /// Whether it may be done in the end: the owner needs no statement.
    pub allowed: bool,
    /// The answer in a sentence.
    pub sentence: String,
    /// Every statement.
    pub statements: Vec<Trace>,
    /// A statement that would allow it.
    pub suggestion: Option<String>,
}

impl App {
    /// What the topic's policy says to a request, and why. Nothing is done.
    ///
    /// # Errors
    /// When there is no topic whose attributes the caller may see, or the policy to try is malformed.
    pub async fn explain_topic(
        &self,
        caller: &Caller,
        asked: ExplainTopic,
    ) -> Result<Explained, Error> {
        let mut db = self.store.connection().await?;
        let action = "SNS:GetTopicAttributes";
        let topic = self.topic(&mut db, caller, &asked.topic, action, false).await?;
        let document = match &asked.policy {
            Some(document) => {
                check_policy(document, &asked.topic)?;
                document
            }
            None => &topic.policy,
        };
        let policy = Policy::parse(document).map_err(|error| Error::Internal(error.into()))?;
        Ok(explain(&policy, &asked, self.clock.now()))
    }
}

fn explain(policy: &Policy, asked: &ExplainTopic, now: DateTime<Utc>) -> Explained {
    let arn = asked.topic.to_string();
    let requester = asked.asker.requester();
    let request = Request {
        requester,
        action: asked.action,
        resource: &arn,
        context: context(Context::of(requester, now), &asked.context),
    };
    let explanation = policy.explain(&request);
    let (who, action) = (asked.asker.name(), asked.action);
    let owned = matches!(requester, Requester::Account { account, .. }
        if account == asked.topic.account());
    let decision = explanation.decision;
    let (allowed, sentence) = match decision {
        _ if owned && action == "SNS:SetTopicAttributes" => {
            (true, format!("{who} may do {action}: no policy keeps an owner from replacing it"))
        }
        Decision::Allowed { by } => {
            (true, format!("{} allows {who} to do {action}", policy.statement_name(by)))
        }
        Decision::Denied { by } => {
            (false, format!("{} denies {action} to {who}", policy.statement_name(by)))
        }
        Decision::NotAllowed if owned => (
            true,
            format!("{who} may do {action}: it is the topic's owner, and no statement denies it"),
        ),
        Decision::NotAllowed => (false, format!("no statement allows {who} to do {action}")),
    };
    let suggestion = (!allowed && decision == Decision::NotAllowed)
        .then(|| suggestion(asked, &request))
        .flatten();
    Explained { decision, allowed, sentence, statements: explanation.statements, suggestion }
}

/// What follows from the asker and the time, but for the keys that are given.
fn context<'a>(known: Context<'a>, given: &'a [(ConditionKey, String)]) -> Context<'a> {
    let mut context = Context::default();
    for key in ConditionKey::ALL {
        let mut values: Vec<String> =
            given.iter().filter(|(one, _)| *one == key).map(|(_, value)| value.clone()).collect();
        if values.is_empty() {
            values = known.values(key).map(str::to_owned).collect();
        }
        for value in values {
            context = context.with(key, value);
        }
    }
    context
}

/// A service without a source is let in by nothing that one should advise: it could act for anybody.
fn suggestion(asked: &ExplainTopic, request: &Request<'_>) -> Option<String> {
    match &asked.asker {
        Asker::Service(_) => {
            let source = request.context.values(ConditionKey::SourceArn).next()?;
            let account = request.context.values(ConditionKey::SourceAccount).next()?;
            Some(suggested_statement(&asked.topic, source, account))
        }
        Asker::Account { principal, .. } => Some(
            json!({
                "Effect": "Allow",
                "Principal": {"AWS": principal},
                "Action": asked.action,
                "Resource": asked.topic.to_string(),
            })
            .to_string(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: &str = "arn:aws:sns:us-east-1:111122223333:doors";
    const SOURCE: &str = "arn:aws:ec2:us-east-1:111122223333:vpc-endpoint-service/vpce-svc-1";

    fn asked(asker: Asker, context: &[(ConditionKey, &str)]) -> ExplainTopic {
        ExplainTopic {
            topic: TOPIC.parse().unwrap(),
            action: "SNS:Publish",
            asker,
            context: context.iter().map(|(key, value)| (*key, (*value).to_owned())).collect(),
            policy: None,
        }
    }

    fn told(document: &str, asked: &ExplainTopic) -> Explained {
        explain(&Policy::parse(document).unwrap(), asked, "2026-01-02T03:04:05Z".parse().unwrap())
    }

    #[test]
    fn a_suggested_statement_allows_what_was_not() {
        let account = "444455556666".parse().unwrap();
        let principal = "arn:aws:iam::444455556666:user/ann".to_owned();
        let service = Asker::Service("vpce.amazonaws.com".to_owned());
        let source =
            [(ConditionKey::SourceArn, SOURCE), (ConditionKey::SourceAccount, "111122223333")];
        for asked in
            [asked(service.clone(), &source), asked(Asker::Account { account, principal }, &[])]
        {
            let default = postern_model::policy::default_document(&asked.topic);
            let before = told(&default, &asked);
            assert!(!before.allowed && before.sentence.starts_with("no statement allows"));
            let statement = before.suggestion.unwrap();
            let after = told(&format!("{{\"Statement\":[{statement}]}}"), &asked);
            assert_eq!(after.decision, Decision::Allowed { by: 0 });
        }
        assert_eq!(told("{\"Statement\":[]}", &asked(service, &[])).suggestion, None);
    }

    #[test]
    fn an_owner_needs_no_statement_and_a_given_time_counts() {
        let account = "111122223333".parse().unwrap();
        let owner = Asker::Account { account, principal: "arn:aws:iam::111122223333:root".into() };
        let explained = told("{\"Statement\":[]}", &asked(owner.clone(), &[]));
        assert!(explained.allowed && explained.sentence.contains("owner"));
        let night = format!(
            "{{\"Statement\":[{{\"Sid\":\"Night\",\"Effect\":\"Deny\",\"Principal\":\"*\",\
             \"Action\":\"SNS:*\",\"Resource\":\"{TOPIC}\",\"Condition\":{{\"DateGreaterThan\":\
             {{\"aws:CurrentTime\":\"2026-06-01T00:00:00Z\"}}}}}}]}}"
        );
        assert!(told(&night, &asked(owner.clone(), &[])).allowed);
        let later = asked(owner, &[(ConditionKey::CurrentTime, "2026-07-01T00:00:00Z")]);
        let explained = told(&night, &later);
        assert!(!explained.allowed && explained.sentence.contains("Statement[0] (Night) denies"));
    }
}
