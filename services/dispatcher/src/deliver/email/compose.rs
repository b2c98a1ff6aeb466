//! What a mail says, as text and as HTML (spec 8.3). Pure.
//!
//! The two say the same. The HTML is what mail programs show: one column, styles beside the elements,
//! since many programs drop style sheets; nothing is loaded from anywhere. Everything that a publisher
//! wrote is escaped.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use crate::deliver::message::PublicUrl;
use crate::store::deliveries::Claimed;
use crate::store::digests::DigestItem;
use crate::store::messages::MessageKind;

/// Who a mail is from when the topic has no display name.
const SENDER: &str = "Postern Notifications";
/// How many fields of a JSON message are shown as a table; one with more is shown as it is.
const MAX_FIELDS: usize = 40;

/// What there is to say.
#[derive(Clone, Debug)]
pub struct Letter<'a> {
    /// What kind of message it is.
    pub kind: MessageKind,
    /// The topic.
    pub topic_arn: String,
    /// The topic's name.
    pub topic_name: &'a str,
    /// The sender's name; may be empty.
    pub display_name: &'a str,
    /// The subscription.
    pub subscription_arn: String,
    /// The message's subject.
    pub subject: Option<&'a str>,
    /// The message's text; for a digest a JSON list of [`DigestItem`]s.
    pub body: &'a str,
    /// What a confirmation carries.
    pub token: &'a str,
    /// When the message was published.
    pub published_at: DateTime<Utc>,
}

impl<'a> Letter<'a> {
    /// What the delivery has to say.
    pub fn of(claimed: &'a Claimed, kind: MessageKind) -> Self {
        Self {
            kind,
            topic_arn: claimed.topic_arn(),
            topic_name: &claimed.topic_name,
            display_name: &claimed.display_name,
            subscription_arn: claimed.subscription_arn(),
            subject: claimed.subject.as_deref(),
            body: &claimed.body,
            token: claimed.token.as_deref().unwrap_or_default(),
            published_at: claimed.published_at,
        }
    }
}

/// A mail's parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Composed {
    /// The sender's name.
    pub sender: String,
    /// The subject.
    pub subject: String,
    /// The text.
    pub text: String,
    /// The same as HTML.
    pub html: String,
    /// Where the subscription is ended by one request; for messages only, since a confirmation ends
    /// nothing.
    pub unsubscribe: Option<String>,
}

/// One message: a heading, a time and a body.
struct Entry<'a> {
    heading: Option<&'a str>,
    time: DateTime<Utc>,
    body: &'a str,
    cut: bool,
}

/// Composes the mail.
pub fn compose(letter: &Letter<'_>, public: &PublicUrl) -> Composed {
    let from = match letter.display_name {
        "" => letter.topic_name,
        name => name,
    };
    let sender = match letter.display_name {
        "" => SENDER.to_owned(),
        name => name.to_owned(),
    };
    let unsubscribe = public.unsubscribe(&letter.subscription_arn);
    match letter.kind {
        MessageKind::Notification => {
            let subject = match letter.subject {
                Some(subject) => subject.to_owned(),
                None => format!("Notification from {from}"),
            };
            let entry = Entry {
                heading: letter.subject,
                time: letter.published_at,
                body: letter.body,
                cut: false,
            };
            Composed {
                text: format!("{}\n\n{}", letter.body, farewell(&unsubscribe)),
                html: page(&subject, &entry_html(&entry), &footer(letter, &unsubscribe)),
                sender,
                subject,
                unsubscribe: Some(unsubscribe),
            }
        }
        MessageKind::Digest => digest(letter, from, sender, unsubscribe),
        MessageKind::SubscriptionConfirmation => {
            let link = public.subscribe(&letter.topic_arn, letter.token);
            let subject = format!("Confirm your subscription to {from}");
            let lead = "You have chosen to subscribe to the topic:";
            let ask = "To confirm this subscription, open this link:";
            let rest = "If you did not ask for this, do nothing: no mail will follow.";
            confirmation(sender, subject, letter, &link, [lead, ask, rest, "Confirm"])
        }
        MessageKind::UnsubscribeConfirmation => {
            let link = public.subscribe(&letter.topic_arn, letter.token);
            let subject = format!("Your subscription to {from} has ended");
            let lead = "Your subscription to this topic has ended:";
            let ask = "If this was not what you wanted, open this link to take it back:";
            let rest = "Otherwise do nothing: no mail will follow.";
            confirmation(sender, subject, letter, &link, [lead, ask, rest, "Subscribe again"])
        }
    }
}

fn digest(letter: &Letter<'_>, from: &str, sender: String, unsubscribe: String) -> Composed {
    // It was written by us; one that cannot be read is shown as it is, rather than lost.
    let items: Vec<DigestItem> = serde_json::from_str(letter.body).unwrap_or_else(|_| {
        vec![DigestItem {
            message_id: uuid::Uuid::nil(),
            subject: None,
            body: letter.body.to_owned(),
            cut: false,
            published_at: letter.published_at,
        }]
    });
    let plural = if items.len() == 1 { "" } else { "s" };
    let subject = format!("{} notification{plural} from {from}", items.len());
    let mut text = format!("{subject}\n");
    let mut body = format!("<h1 style=\"{HEADING}\">{}</h1>\n", escaped(&subject));
    for (number, item) in items.iter().enumerate() {
        let heading = item.subject.as_deref().unwrap_or("Notification");
        let entry = Entry {
            heading: Some(heading),
            time: item.published_at,
            body: &item.body,
            cut: item.cut,
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\n{}. {heading}\n{}\n", number + 1, moment(entry.time));
        text.push_str(&entry_text(&entry));
        body.push_str(&entry_html(&entry));
    }
    text.push('\n');
    text.push_str(&farewell(&unsubscribe));
    let html = page(&subject, &body, &footer(letter, &unsubscribe));
    Composed { sender, subject, text, html, unsubscribe: Some(unsubscribe) }
}

fn confirmation(
    sender: String,
    subject: String,
    letter: &Letter<'_>,
    link: &str,
    [lead, ask, rest, button]: [&str; 4],
) -> Composed {
    let topic = &letter.topic_arn;
    let text = format!("{lead}\n{topic}\n\n{ask}\n{link}\n\n{rest}\n");
    let href = escaped(link);
    let body = format!(
        "<h1 style=\"{HEADING}\">{}</h1>\n<p style=\"{TEXT}\">{lead}<br>{}</p>\n\
         <p style=\"{TEXT}\"><a href=\"{href}\" style=\"{BUTTON}\">{button}</a></p>\n\
         <p style=\"{SMALL}\">{ask}<br><a href=\"{href}\">{href}</a></p>\n",
        escaped(&subject),
        escaped(topic),
    );
    let html = page(&subject, &body, &format!("<p style=\"{SMALL}\">{rest}</p>\n"));
    Composed { sender, subject, text, html, unsubscribe: None }
}

fn farewell(unsubscribe: &str) -> String {
    format!("--\nTo stop receiving notifications from this topic, open this link:\n{unsubscribe}\n")
}

fn footer(letter: &Letter<'_>, unsubscribe: &str) -> String {
    format!(
        "<p style=\"{SMALL}\">You receive this because this address is subscribed to {}.<br>\
         <a href=\"{}\">Stop receiving notifications from this topic</a></p>\n",
        escaped(&letter.topic_arn),
        escaped(unsubscribe),
    )
}

/// A time for people.
fn moment(time: DateTime<Utc>) -> String {
    time.format("%-d %b %Y, %H:%M:%S UTC").to_string()
}

const HEADING: &str = "font:600 20px/1.3 sans-serif;margin:0 0 8px;color:#1a1a1a";
const TEXT: &str = "font:15px/1.5 sans-serif;margin:0 0 16px;color:#1a1a1a";
const SMALL: &str = "font:13px/1.5 sans-serif;margin:16px 0 0;color:#5f5f5f";
const WORDS: &str = "font:15px/1.5 sans-serif;margin:0 0 24px;color:#1a1a1a;white-space:pre-wrap;\
                     overflow-wrap:anywhere";
const BUTTON: &str = "display:inline-block;padding:10px 20px;background:#1f4e79;color:#ffffff;\
                      text-decoration:none;border-radius:4px";
const CELL: &str = "font:14px/1.5 sans-serif;padding:4px 16px 4px 0;color:#1a1a1a;text-align:left;\
                    vertical-align:top;border-bottom:1px solid #e5e5e5;overflow-wrap:anywhere";

fn page(title: &str, body: &str, footer: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n</head>\n\
         <body style=\"margin:0;padding:24px;background:#ffffff\">\n\
         <div style=\"max-width:640px;margin:0 auto\">\n{body}{footer}</div>\n</body>\n</html>\n",
        escaped(title)
    )
}

fn entry_html(entry: &Entry<'_>) -> String {
    let mut html = String::new();
    if let Some(heading) = entry.heading {
        let _ = writeln!(html, "<h2 style=\"{HEADING}\">{}</h2>", escaped(heading));
    }
    let _ = writeln!(html, "<p style=\"{SMALL};margin:0 0 12px\">{}</p>", moment(entry.time));
    match fields(entry) {
        Some(fields) => {
            html.push_str("<table style=\"border-collapse:collapse;margin:0 0 24px\">\n");
            for (name, value) in &fields {
                let _ = writeln!(
                    html,
                    "<tr><th style=\"{CELL};color:#5f5f5f;font-weight:400\">{}</th>\
                     <td style=\"{CELL}\">{}</td></tr>",
                    escaped(&words(name)),
                    escaped(&shown(value)),
                );
            }
            html.push_str("</table>\n");
        }
        None => {
            let more = if entry.cut { "\n[…]" } else { "" };
            let _ = writeln!(html, "<div style=\"{WORDS}\">{}{more}</div>", escaped(entry.body));
        }
    }
    html
}

/// As in a digest: of a JSON object a line for each field.
fn entry_text(entry: &Entry<'_>) -> String {
    match fields(entry) {
        Some(fields) => fields
            .iter()
            .map(|(name, value)| format!("{}: {}\n", words(name), shown(value)))
            .collect(),
        None => format!("{}{}\n", entry.body, if entry.cut { "\n[…]" } else { "" }),
    }
}

/// The fields of a message that is a JSON object, in its order; those that say nothing are left out.
fn fields(entry: &Entry<'_>) -> Option<Map<String, Value>> {
    if entry.cut {
        return None;
    }
    let mut fields: Map<String, Value> = serde_json::from_str(entry.body).ok()?;
    fields.retain(|_, value| !value.is_null());
    (!fields.is_empty() && fields.len() <= MAX_FIELDS).then_some(fields)
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| format!("{}: {}", words(name), shown(value)))
            .collect::<Vec<_>>()
            .join(", "),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(", "),
        Value::Null | Value::Number(_) => value.to_string(),
    }
}

/// `vpcEndpointId` as people write it: `vpc endpoint id`.
fn words(name: &str) -> String {
    let mut words = String::with_capacity(name.len() + 8);
    let mut lower = false;
    for character in name.chars() {
        if character.is_uppercase() && lower {
            words.push(' ');
        }
        lower = character.is_lowercase() || character.is_ascii_digit();
        words.extend(character.to_lowercase());
    }
    words
}

/// Text that HTML shows as it is.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = "{\"version\":\"1\",\"eventId\":\"0b5c7e1a-5f0e-4c8b-9d43-2b1f6a7c8d9e\",\
        \"event\":\"Connect\",\"time\":\"2026-01-02T03:04:05.678Z\",\"region\":\"us-east-1\",\
        \"notificationId\":\"vpce-nfn-0a1b2c3d4e5f60718\",\"serviceId\":\"vpce-svc-0a1b2c3d4e5f60718\",\
        \"serviceName\":\"com.amazonaws.vpce.us-east-1.vpce-svc-0a1b2c3d4e5f60718\",\
        \"vpcEndpointId\":\"vpce-0a1b2c3d4e5f60718\",\"vpcEndpointOwner\":\"444455556666\",\
        \"vpcEndpointState\":\"pendingAcceptance\",\"previousState\":null,\"acceptanceRequired\":true,\
        \"actor\":{\"side\":\"consumer\",\"account\":\"444455556666\"}}";

    fn letter(kind: MessageKind) -> Letter<'static> {
        let topic_arn = "arn:aws:sns:us-east-1:111122223333:doors".to_owned();
        Letter {
            kind,
            subscription_arn: format!("{topic_arn}:9f0c1a52-7b5c-4a5e-8f6a-0a1b2c3d4e5f"),
            topic_arn,
            topic_name: "doors",
            display_name: "Example Payments",
            subject: Some("VPC endpoint Connect"),
            body: EVENT,
            token: "0123456789abcdef",
            published_at: "2026-01-02T03:04:06Z".parse().unwrap(),
        }
    }

    fn composed(letter: &Letter<'_>) -> Composed {
        compose(letter, &PublicUrl::new("https://events.example.com"))
    }

    /// Compares with a file of the tree; with BLESS set, writes it.
    fn same_as_file(name: &str, rendered: &str) {
        let path = format!("{}/../../docs/mail/{name}", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, rendered).unwrap();
        }
        assert_eq!(rendered, std::fs::read_to_string(&path).unwrap(), "{path} is out of date");
    }

    #[test]
    fn a_notification_is_the_mail_in_the_documentation() {
        let mail = composed(&letter(MessageKind::Notification));
        assert_eq!(mail.sender, "Example Payments");
        assert_eq!(mail.subject, "VPC endpoint Connect");
        same_as_file("notification.txt", &mail.text);
        same_as_file("notification.html", &mail.html);
    }

    #[test]
    fn a_digest_is_the_mail_in_the_documentation() {
        let item = |subject: &str, body: &str, at: &str| DigestItem {
            message_id: uuid::Uuid::nil(),
            subject: Some(subject.to_owned()),
            body: body.to_owned(),
            cut: false,
            published_at: at.parse().unwrap(),
        };
        let items = [
            item("VPC endpoint Connect", EVENT, "2026-01-02T03:04:06Z"),
            item(
                "VPC endpoint Accept",
                &EVENT.replace("Connect", "Accept"),
                "2026-01-02T03:06:00Z",
            ),
            item("Maintenance", "The service is away\non Sunday, 02:00.", "2026-01-02T03:07:30Z"),
        ];
        let body = serde_json::to_string(&items).unwrap();
        let mail = composed(&Letter { body: &body, subject: None, ..letter(MessageKind::Digest) });
        assert_eq!(mail.subject, "3 notifications from Example Payments");
        same_as_file("digest.txt", &mail.text);
        same_as_file("digest.html", &mail.html);
    }

    #[test]
    fn a_confirmation_is_the_mail_in_the_documentation_and_ends_nothing() {
        let mail = composed(&letter(MessageKind::SubscriptionConfirmation));
        assert_eq!(mail.unsubscribe, None);
        same_as_file("confirmation.txt", &mail.text);
        same_as_file("confirmation.html", &mail.html);
    }

    #[test]
    fn what_a_publisher_writes_is_text_and_never_html() {
        let body = "<script>alert(1)</script> & \"quotes\"";
        let json = "{\"<b>\":\"<i>\"}";
        for body in [body, json] {
            let subject = Some("<img src=x>");
            let mail = composed(&Letter { body, subject, ..letter(MessageKind::Notification) });
            for tag in ["<script", "<img", "<b>", "<i>"] {
                assert!(!mail.html.contains(tag), "{}", mail.html);
            }
        }
    }

    #[test]
    fn a_mail_without_a_subject_says_whom_it_is_from() {
        let plain = Letter { subject: None, display_name: "", ..letter(MessageKind::Notification) };
        let mail = composed(&plain);
        assert_eq!(mail.subject, "Notification from doors");
        assert_eq!(mail.sender, SENDER);
    }
}
