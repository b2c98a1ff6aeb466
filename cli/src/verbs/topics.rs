//! `postern topic`: served by the dispatcher.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use postern_proto::v1::topic_service_client::TopicServiceClient;
use postern_proto::v1::{
    AddPermissionRequest, CreateTopicRequest, DeleteTopicRequest, ExplainTopicRequest,
    GetTopicRequest, ListTopicsRequest, MessageAttribute, PolicyDecision, PublishRequest,
    RemovePermissionRequest, SetTopicAttributesRequest, SignatureVersion,
};

use super::{Limit, call, pages};
use crate::connect::Connection;
use crate::exit::Failure;
use crate::output::Printer;

/// How messages are signed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Signature {
    /// RSA with SHA-1: weak, for receivers that know nothing else.
    #[value(name = "1")]
    Sha1,
    /// RSA with SHA-256.
    #[value(name = "2")]
    Sha256,
}

impl Signature {
    fn wire(signature: Option<Self>) -> i32 {
        let version = match signature {
            None => SignatureVersion::Unspecified,
            Some(Self::Sha1) => SignatureVersion::Sha1,
            Some(Self::Sha256) => SignatureVersion::Sha256,
        };
        version.into()
    }
}

/// Topics.
#[derive(Debug, Subcommand)]
pub enum Topic {
    /// Make a topic.
    #[command(
        after_help = "Example:\n  postern --profile provider topic create connections --policy-file policy.json"
    )]
    Create {
        /// Its name: letters, digits, - and _.
        name: String,
        /// A file with its policy [default: AWS's default policy].
        #[arg(long)]
        policy_file: Option<PathBuf>,
        /// The sender's name in mails.
        #[arg(long)]
        display_name: Option<String>,
        /// How messages are signed.
        #[arg(long, value_enum)]
        signature_version: Option<Signature>,
        /// How deliveries are repeated, as SNS's JSON.
        #[arg(long)]
        delivery_policy: Option<String>,
        /// The topic that gets notices about this one, such as that a subscription was disabled.
        #[arg(long)]
        notice_topic: Option<String>,
    },
    /// Show a topic with its policy.
    Get {
        /// The topic's ARN.
        topic_arn: String,
    },
    /// List the account's topics.
    List(Limit),
    /// Change a topic's attributes.
    #[command(after_help = "Examples:
  postern topic set arn:aws:sns:us-east-1:… --policy-file policy.json
  postern topic set arn:aws:sns:us-east-1:… --delivery-policy ''")]
    Set {
        /// The topic's ARN.
        topic_arn: String,
        /// A file with its new policy.
        #[arg(long)]
        policy_file: Option<PathBuf>,
        /// The sender's name in mails.
        #[arg(long)]
        display_name: Option<String>,
        /// How messages are signed.
        #[arg(long, value_enum)]
        signature_version: Option<Signature>,
        /// How deliveries are repeated, as SNS's JSON; empty for the default.
        #[arg(long)]
        delivery_policy: Option<String>,
        /// The topic that gets notices about this one; empty for none.
        #[arg(long)]
        notice_topic: Option<String>,
    },
    /// Let accounts do something with a topic: adds a statement to its policy.
    #[command(after_help = "Example:
  postern topic allow arn:aws:sns:us-east-1:… --label partners --account 444455556666 \\
      --action Publish --action Subscribe")]
    Allow {
        /// The topic's ARN.
        topic_arn: String,
        /// The statement's Sid, by which it is removed again.
        #[arg(long)]
        label: String,
        /// An account. Repeat it.
        #[arg(long = "account", required = true)]
        accounts: Vec<String>,
        /// What it may do, such as Publish. Repeat it.
        #[arg(long = "action", required = true)]
        actions: Vec<String>,
    },
    /// Remove the statement of a label from a topic's policy.
    Disallow {
        /// The topic's ARN.
        topic_arn: String,
        /// The statement's Sid.
        #[arg(long)]
        label: String,
    },
    /// Say which statement of a topic's policy decides on a request, and why the others don't.
    #[command(after_help = "Examples:
  postern topic explain arn:aws:sns:us-east-1:… \\
      --context aws:SourceArn=arn:aws:ec2:us-east-1:111122223333:vpc-endpoint-service/vpce-svc-… \\
      --context aws:SourceAccount=111122223333
  postern topic explain arn:aws:sns:us-east-1:… --principal 444455556666 --action Subscribe

Exit status 0: it is allowed; 1: it is not.")]
    Explain {
        /// The topic's ARN.
        topic_arn: String,
        /// Who asks: an account, a principal's ARN or a service [default: vpce.amazonaws.com].
        #[arg(long, default_value = "", hide_default_value = true)]
        principal: String,
        /// What is to be done.
        #[arg(long, default_value = "Publish")]
        action: String,
        /// What conditions look at: NAME=VALUE. Repeat it.
        #[arg(long, value_parser = pair, value_name = "NAME=VALUE")]
        context: Vec<(String, String)>,
        /// A file with a policy to try in place of the topic's.
        #[arg(long)]
        policy_file: Option<PathBuf>,
    },
    /// Delete a topic with its subscriptions.
    Delete {
        /// The topic's ARN.
        topic_arn: String,
    },
    /// Publish a message to a topic.
    #[command(after_help = "Examples:
  postern topic publish arn:aws:sns:us-east-1:… --subject Maintenance --message 'Sunday, 02:00'
  postern topic publish arn:aws:sns:us-east-1:… --message '{\"size\": 3}' --attribute kind=report
  postern topic publish arn:aws:sns:us-east-1:… --by-protocol \\
      --message '{\"default\": \"{}\", \"email\": \"for people\"}'")]
    Publish {
        /// The topic's ARN.
        topic_arn: String,
        /// The message.
        #[arg(long)]
        message: String,
        /// The subject.
        #[arg(long, default_value = "")]
        subject: String,
        /// An attribute that filters look at: NAME=TEXT, or NAME:Number=1 for another type. Repeat it.
        #[arg(long = "attribute", value_parser = pair, value_name = "NAME[:TYPE]=VALUE")]
        attributes: Vec<(String, String)>,
        /// The message is a JSON object with a text for each protocol, and `default`.
        #[arg(long)]
        by_protocol: bool,
    },
}

/// Reads NAME=VALUE.
fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// NAME, or NAME:TYPE.
fn attribute((name, value): (String, String)) -> (String, MessageAttribute) {
    match name.split_once(':') {
        Some((name, data_type)) => {
            (name.to_owned(), MessageAttribute { data_type: data_type.to_owned(), value })
        }
        None => (name, MessageAttribute { data_type: "String".to_owned(), value }),
    }
}

fn policy(file: Option<PathBuf>) -> Result<Option<String>, Failure> {
    file.map(|path| {
        std::fs::read_to_string(&path)
            .map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
    })
    .transpose()
}

pub(super) async fn topic(
    verb: Topic,
    connection: &Connection,
    printer: &Printer,
) -> Result<(), Failure> {
    match verb {
        Topic::Create {
            name,
            policy_file,
            display_name,
            signature_version,
            delivery_policy,
            notice_topic,
        } => {
            let request = CreateTopicRequest {
                name,
                display_name,
                policy: policy(policy_file)?,
                signature_version: Signature::wire(signature_version),
                delivery_policy,
                notice_topic_arn: notice_topic,
            };
            printer.message(&call!(connection, topics, TopicServiceClient, create_topic, request)?)
        }
        Topic::Get { topic_arn } => printer.message(&call!(
            connection,
            topics,
            TopicServiceClient,
            get_topic,
            GetTopicRequest { topic_arn }
        )?),
        Topic::List(limit) => {
            let topics = pages!(
                connection,
                topics,
                TopicServiceClient,
                list_topics,
                ListTopicsRequest::default(),
                topics,
                limit.limit
            );
            printer.list(
                "topics",
                &topics,
                &[
                    ("TOPIC", "topicArn"),
                    ("CONFIRMED", "subscriptionsConfirmed"),
                    ("PENDING", "subscriptionsPending"),
                    ("CREATED", "createTime"),
                ],
            )
        }
        Topic::Set {
            topic_arn,
            policy_file,
            display_name,
            signature_version,
            delivery_policy,
            notice_topic,
        } => {
            let request = SetTopicAttributesRequest {
                topic_arn,
                policy: policy(policy_file)?,
                display_name,
                signature_version: Signature::wire(signature_version),
                delivery_policy,
                notice_topic_arn: notice_topic,
            };
            printer.message(&call!(
                connection,
                topics,
                TopicServiceClient,
                set_topic_attributes,
                request
            )?)
        }
        Topic::Delete { topic_arn } => {
            let request = DeleteTopicRequest { topic_arn: topic_arn.clone() };
            call!(connection, topics, TopicServiceClient, delete_topic, request)?;
            printer.done(&format!("{topic_arn} deleted"));
            Ok(())
        }
        Topic::Allow { topic_arn, label, accounts, actions } => {
            let request = AddPermissionRequest {
                topic_arn,
                label,
                account_ids: accounts,
                action_names: actions,
            };
            let answer = call!(connection, topics, TopicServiceClient, add_permission, request)?;
            printer.message(&answer)
        }
        Topic::Disallow { topic_arn, label } => {
            let request = RemovePermissionRequest { topic_arn, label };
            let answer = call!(connection, topics, TopicServiceClient, remove_permission, request)?;
            printer.message(&answer)
        }
        Topic::Explain { topic_arn, principal, action, context, policy_file } => {
            let request = ExplainTopicRequest {
                topic_arn,
                action,
                principal,
                context: context.into_iter().collect(),
                policy: policy(policy_file)?,
            };
            explain(request, connection, printer).await
        }
        Topic::Publish { topic_arn, message, subject, attributes, by_protocol } => {
            let request = PublishRequest {
                topic_arn,
                message,
                subject,
                message_attributes: attributes.into_iter().map(attribute).collect(),
                message_by_protocol: by_protocol,
            };
            printer.message(&call!(connection, topics, TopicServiceClient, publish, request)?)
        }
    }
}

/// Shows the answer, then the statements; a refusal is exit status 1, so that scripts can ask.
async fn explain(
    request: ExplainTopicRequest,
    connection: &Connection,
    printer: &Printer,
) -> Result<(), Failure> {
    let answer = call!(connection, topics, TopicServiceClient, explain_topic, request)?;
    let allowed = answer.decision() == PolicyDecision::Allowed;
    let sentence = answer.explanation.clone();
    if printer.is_json() {
        printer.message(&answer)?;
    } else {
        printer.done(&sentence);
        printer.list(
            "statements",
            &answer.statements,
            &[
                ("STATEMENT", "index"),
                ("SID", "sid"),
                ("EFFECT", "effect"),
                ("APPLIES", "applies"),
                ("REASON", "reason"),
            ],
        )?;
        if !answer.suggested_statement.is_empty() {
            printer
                .done(&format!("this statement would allow it:\n{}", answer.suggested_statement));
        }
    }
    if allowed { Ok(()) } else { Err(Failure::NotAllowed(sentence)) }
}
