//! Answers, for people and for programs.
//!
//! Every message of the API is shown by its descriptor: as JSON in protobuf's own mapping, or as a
//! table of a few of its fields. So a new field needs no code here to appear in JSON.

use std::io::{IsTerminal as _, Write as _};
use std::sync::LazyLock;

use postern_proto::FILE_DESCRIPTOR_SET;
use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::{Map, Value};

use crate::args::Output;
use crate::exit::Failure;

/// A column of a table: its heading, and the field's JSON name; dots lead into nested messages.
pub type Column = (&'static str, &'static str);

/// Shows answers.
#[derive(Clone, Debug)]
pub struct Printer {
    output: Output,
    bold: bool,
}

static DESCRIPTORS: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).ok());

/// A message in protobuf's JSON mapping.
pub fn json<M: Message + Name>(message: &M) -> Result<Value, Failure> {
    let shown = || -> anyhow::Result<Value> {
        let name = M::full_name();
        let descriptor = DESCRIPTORS
            .as_ref()
            .and_then(|pool| pool.get_message_by_name(&name))
            .ok_or_else(|| anyhow::anyhow!("{name} has no descriptor"))?;
        let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())?;
        // 64-bit numbers as numbers: ours stay below 2^53, and scripts want to count with them.
        let options =
            SerializeOptions::new().skip_default_fields(false).stringify_64_bit_integers(false);
        Ok(dynamic.serialize_with_options(serde_json::value::Serializer, &options)?)
    };
    shown().map_err(Failure::Other)
}

impl Printer {
    /// A printer to standard output.
    pub fn new(output: Output) -> Self {
        let bold = std::io::stdout().is_terminal() && !no_color();
        Self { output, bold }
    }

    /// Whether a program reads it.
    pub fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    /// Shows one message: as JSON, or its fields one a line.
    pub fn message<M: Message + Name>(&self, message: &M) -> Result<(), Failure> {
        let value = json(message)?;
        if self.is_json() {
            self.value(&value);
            return Ok(());
        }
        // An answer is mostly one resource under its name: show the resource.
        let shown = match &value {
            Value::Object(fields) if fields.len() == 1 => match fields.values().next() {
                Some(inner @ Value::Object(_)) => inner,
                _ => &value,
            },
            _ => &value,
        };
        self.fields(shown);
        Ok(())
    }

    /// Shows the items of a list: as JSON under `name`, or as a table.
    pub fn list<M: Message + Name>(
        &self,
        name: &str,
        items: &[M],
        columns: &[Column],
    ) -> Result<(), Failure> {
        let rows = items.iter().map(json).collect::<Result<Vec<_>, _>>()?;
        self.values(name, rows, columns);
        Ok(())
    }

    /// Shows rows: as JSON under `name`, or as a table.
    pub fn values(&self, name: &str, rows: Vec<Value>, columns: &[Column]) {
        if self.is_json() {
            let mut object = Map::new();
            object.insert(name.to_owned(), Value::Array(rows));
            self.value(&Value::Object(object));
            return;
        }
        if rows.is_empty() {
            eprintln!("none");
            return;
        }
        self.print(&table(&rows, columns, self.bold));
    }

    /// Shows a JSON value.
    pub fn value(&self, value: &Value) {
        let text = serde_json::to_string_pretty(value).unwrap_or_default();
        self.print(&format!("{text}\n"));
    }

    /// Says that something is done, to people.
    pub fn done(&self, sentence: &str) {
        if self.is_json() {
            self.value(&Value::Object(Map::new()));
        } else {
            self.print(&format!("{sentence}\n"));
        }
    }

    fn fields(&self, value: &Value) {
        let Value::Object(fields) = value else {
            self.print(&format!("{}\n", cell(value)));
            return;
        };
        let width = fields.keys().map(String::len).max().unwrap_or_default();
        let mut text = String::new();
        for (name, value) in fields {
            match value {
                Value::Array(items) if items.iter().any(Value::is_object) => {
                    for item in items {
                        text.push_str(&format!("{name:width$}  {}\n", cell(item)));
                    }
                }
                value => text.push_str(&format!("{name:width$}  {}\n", cell(value))),
            }
        }
        self.print(&text);
    }

    fn print(&self, text: &str) {
        // A reader that went away (`| head`) wants no more, and no complaint.
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    }
}

/// Whether colours are unwanted: https://no-color.org.
pub fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

fn table(rows: &[Value], columns: &[Column], bold: bool) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| columns.iter().map(|(_, path)| cell(at(row, path))).collect())
        .collect();
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(index, (heading, _))| {
            let widest = cells.iter().map(|row| row[index].chars().count()).max();
            widest.unwrap_or_default().max(heading.len())
        })
        .collect();
    let line = |texts: Vec<&str>| {
        let mut line = String::new();
        for (text, width) in texts.iter().zip(&widths) {
            line.push_str(text);
            let padding = width.saturating_sub(text.chars().count()) + 2;
            line.extend(std::iter::repeat_n(' ', padding));
        }
        line.trim_end().to_owned()
    };
    let headings = line(columns.iter().map(|(heading, _)| *heading).collect());
    let mut text = match bold {
        true => format!("\x1b[1m{headings}\x1b[0m\n"),
        false => format!("{headings}\n"),
    };
    for row in &cells {
        text.push_str(&line(row.iter().map(String::as_str).collect()));
        text.push('\n');
    }
    text
}

fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |value, name| value.get(name).unwrap_or(&Value::Null))
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => shorten(text),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !matches!(value, Value::Null))
            .map(|(name, value)| format!("{name}={}", cell(value)))
            .collect::<Vec<_>>()
            .join(" "),
        Value::Number(number) => number.to_string(),
    }
}

/// The prefixes that protobuf's style gives to enum values; people know the rest.
const ENUM_PREFIXES: &[&str] = &[
    "VPC_ENDPOINT_STATE_",
    "SERVICE_STATE_",
    "NOTIFICATION_STATE_",
    "CONNECTION_EVENT_",
    "ATTACHMENT_KIND_",
    "SUBSCRIPTION_PROTOCOL_",
    "SUBSCRIPTION_STATE_",
    "DELIVERY_STATE_",
    "DELIVERY_KIND_",
    "SIGNATURE_VERSION_",
    "FILTER_POLICY_SCOPE_",
    "POLICY_DECISION_",
];

/// An enum's value without its prefix; any other text as it is.
pub fn shorten(text: &str) -> String {
    match ENUM_PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)) {
        Some(rest) => rest.to_ascii_lowercase().replace('_', "-"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use postern_proto::v1;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_message_is_shown_in_protobufs_json() {
        let subnet = v1::Subnet { subnet_id: "subnet-1".to_owned(), ..v1::Subnet::default() };
        let value = super::json(&subnet).unwrap();
        assert_eq!(value["subnetId"], "subnet-1");
        assert_eq!(value["availableIpAddressCount"], 0);
    }

    #[test]
    fn a_table_has_aligned_columns_and_says_what_is_not_there() {
        let rows = [
            json!({"id": "a", "state": "VPC_ENDPOINT_STATE_PENDING_ACCEPTANCE"}),
            json!({"id": "long"}),
        ];
        let text = table(&rows, &[("ID", "id"), ("STATE", "state")], false);
        assert_eq!(text, "ID    STATE\na     pending-acceptance\nlong  -\n");
    }
}
