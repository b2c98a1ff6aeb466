//! The Prometheus registry's figures in OpenTelemetry's terms.
//!
//! The registry is the one place where metrics are, and its text format (OpenMetrics 1.0) the one way
//! to read it: this turns that text into OTLP's messages. A family keeps its name; `_total` and the
//! like are the text's way to tell the parts of a family apart, and go. Counts are cumulative, since
//! the process started.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum,
    number_data_point,
};

/// When what is counted began, and when it was read: nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) began: u64,
    pub(super) read: u64,
}

/// The families in `text`. A line that is none of the format's is left out: the text is our own.
pub(super) fn read(text: &str, span: Span) -> Vec<Metric> {
    let mut families: Vec<Family<'_>> = Vec::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (what, name) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let rest = words.next().unwrap_or_default();
            if what == "HELP" {
                families.push(Family {
                    name,
                    help: rest.trim_end_matches('.'),
                    ..Family::default()
                });
            } else if let Some(family) = families.last_mut().filter(|last| last.name == name) {
                match what {
                    "TYPE" => family.kind = rest,
                    "UNIT" => family.unit = rest,
                    _ => {}
                }
            }
        } else if let Some(family) = families.last_mut()
            && let Some(sample) = sample(line)
        {
            family.samples.push(sample);
        }
    }
    families
        .into_iter()
        .filter(|family| !family.samples.is_empty())
        .map(|f| f.metric(span))
        .collect()
}

#[derive(Default)]
struct Family<'a> {
    name: &'a str,
    help: &'a str,
    kind: &'a str,
    unit: &'a str,
    samples: Vec<Sample<'a>>,
}

impl Family<'_> {
    fn metric(self, span: Span) -> Metric {
        let cumulative = AggregationTemporality::Cumulative.into();
        let data = match self.kind {
            "counter" => Data::Sum(Sum {
                data_points: self.samples.iter().map(|sample| sample.number(span)).collect(),
                aggregation_temporality: cumulative,
                is_monotonic: true,
            }),
            "histogram" => Data::Histogram(Histogram {
                data_points: histograms(self.name, &self.samples, span),
                aggregation_temporality: cumulative,
            }),
            _ => Data::Gauge(Gauge {
                data_points: self.samples.iter().map(|sample| sample.number(span)).collect(),
            }),
        };
        Metric {
            name: self.name.to_owned(),
            description: self.help.to_owned(),
            unit: unit(if self.unit.is_empty() { self.name } else { self.unit }).to_owned(),
            data: Some(data),
            ..Metric::default()
        }
    }
}

/// OpenTelemetry's way to write what a name ends in.
fn unit(name: &str) -> &'static str {
    match name.rsplit('_').next() {
        Some("seconds") => "s",
        Some("bytes") => "By",
        _ => "",
    }
}

struct Sample<'a> {
    name: &'a str,
    labels: Vec<(String, String)>,
    value: &'a str,
}

impl Sample<'_> {
    fn number(&self, span: Span) -> NumberDataPoint {
        let value = match self.value.parse() {
            Ok(whole) => number_data_point::Value::AsInt(whole),
            Err(_) => number_data_point::Value::AsDouble(self.float()),
        };
        NumberDataPoint {
            attributes: attributes(self.labels.iter()),
            start_time_unix_nano: span.began,
            time_unix_nano: span.read,
            value: Some(value),
            ..NumberDataPoint::default()
        }
    }

    fn float(&self) -> f64 {
        self.value.parse().unwrap_or(f64::NAN)
    }

    fn count(&self) -> u64 {
        self.value.parse().unwrap_or_default()
    }
}

/// The parts of each series stand together: sum, count, and the buckets, each with those below it.
fn histograms(name: &str, samples: &[Sample<'_>], span: Span) -> Vec<HistogramDataPoint> {
    let mut points: Vec<HistogramDataPoint> = Vec::new();
    let mut below = 0;
    for sample in samples {
        let part = sample.name.strip_prefix(name).unwrap_or_default();
        if part == "_sum" {
            below = 0;
            points.push(HistogramDataPoint {
                attributes: attributes(sample.labels.iter()),
                start_time_unix_nano: span.began,
                time_unix_nano: span.read,
                sum: Some(sample.float()),
                ..HistogramDataPoint::default()
            });
        }
        let Some(point) = points.last_mut() else { continue };
        match part {
            "_count" => point.count = sample.count(),
            "_bucket" => {
                let bound = sample.labels.iter().find(|(label, _)| label == "le");
                let bound = bound.and_then(|(_, text)| text.parse::<f64>().ok());
                point.bucket_counts.push(sample.count().saturating_sub(below));
                below = sample.count();
                // The last bucket has no bound.
                point.explicit_bounds.extend(bound.filter(|bound| bound.is_finite()));
            }
            _ => {}
        }
    }
    points
}

fn attributes<'a>(labels: impl Iterator<Item = &'a (String, String)>) -> Vec<KeyValue> {
    labels
        .map(|(key, value)| KeyValue {
            key: key.clone(),
            value: Some(AnyValue { value: Some(any_value::Value::StringValue(value.clone())) }),
            ..KeyValue::default()
        })
        .collect()
}

/// `name{label="value",...} value`, where the labels may be missing and an exemplar may follow.
fn sample(line: &str) -> Option<Sample<'_>> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    Some(Sample { name, labels, value: rest.split_ascii_whitespace().next()? })
}

type Labels = Vec<(String, String)>;

/// What stands before the closing brace, and what follows it.
fn labels(mut text: &str) -> Option<(Labels, &str)> {
    let mut labels = Vec::new();
    loop {
        text = text.trim_start_matches(',');
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (label, rest) = text.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = rest.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at,
                (_, '\\') => match characters.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.push((label.to_owned(), value));
        text = &rest[end + 1..];
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::family::Family;
    use prometheus_client::metrics::gauge::Gauge;
    use prometheus_client::metrics::histogram::Histogram;
    use prometheus_client::registry::{Registry, Unit};

    use super::*;

    const SPAN: Span = Span { began: 1, read: 2 };

    fn metrics(registry: &Registry) -> Vec<Metric> {
        let mut text = String::new();
        encode(&mut text, registry).expect("text");
        read(&text, SPAN)
    }

    fn text_of(attributes: &[KeyValue]) -> Vec<(String, String)> {
        let text = |value: &AnyValue| match &value.value {
            Some(any_value::Value::StringValue(text)) => text.clone(),
            other => panic!("{other:?}"),
        };
        attributes
            .iter()
            .map(|one| (one.key.clone(), one.value.as_ref().map(text).unwrap_or_default()))
            .collect()
    }

    #[test]
    fn counters_are_cumulative_sums_under_the_family_s_name_and_unit() {
        let mut registry = Registry::default();
        let passed = Family::<Vec<(String, String)>, Counter>::default();
        let within = registry.sub_registry_with_prefix("postern");
        within.register_with_unit("passed", "Bytes", Unit::Bytes, passed.clone());
        let label = vec![("direction".to_owned(), "a b, c={}".to_owned())];
        passed.get_or_create(&label).inc_by(42);
        let found = metrics(&registry);
        assert_eq!(
            (found[0].name.as_str(), found[0].unit.as_str()),
            ("postern_passed_bytes", "By")
        );
        assert_eq!(found[0].description, "Bytes");
        let Some(Data::Sum(sum)) = &found[0].data else { panic!("{found:?}") };
        assert!(sum.is_monotonic);
        assert_eq!(sum.aggregation_temporality, AggregationTemporality::Cumulative as i32);
        let point = &sum.data_points[0];
        assert_eq!(point.value, Some(number_data_point::Value::AsInt(42)));
        assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (1, 2));
        assert_eq!(text_of(&point.attributes), label);
    }

    #[test]
    fn gauges_keep_whole_numbers_whole_and_fractions_as_they_are() {
        let mut registry = Registry::default();
        let (depth, age) = (Gauge::<i64>::default(), Gauge::<f64, _>::default());
        depth.set(-7);
        let _: &std::sync::atomic::AtomicU64 = age.inner();
        age.set(0.25);
        registry.register("depth", "Depth", depth);
        registry.register("oldest_seconds", "Age", age);
        let values: Vec<_> = metrics(&registry)
            .into_iter()
            .map(|metric| match metric.data {
                Some(Data::Gauge(gauge)) => (metric.unit, gauge.data_points[0].value),
                other => panic!("{other:?}"),
            })
            .collect();
        let whole = number_data_point::Value::AsInt(-7);
        let part = number_data_point::Value::AsDouble(0.25);
        assert_eq!(values, [(String::new(), Some(whole)), ("s".to_owned(), Some(part))]);
    }

    #[test]
    fn each_series_of_a_histogram_has_its_own_buckets_and_the_last_has_no_bound() {
        let mut registry = Registry::default();
        let took = Family::<Vec<(String, String)>, Histogram>::new_with_constructor(|| {
            Histogram::new([0.5, 1.0])
        });
        registry.register("took_seconds", "Time", took.clone());
        for (method, seconds) in [("a", 0.1), ("a", 0.7), ("a", 9.0), ("b", 0.2)] {
            took.get_or_create(&vec![("method".to_owned(), method.to_owned())]).observe(seconds);
        }
        let found = metrics(&registry);
        let Some(Data::Histogram(histogram)) = &found[0].data else { panic!("{found:?}") };
        assert_eq!((found[0].name.as_str(), found[0].unit.as_str()), ("took_seconds", "s"));
        let mut points = histogram.data_points.clone();
        points.sort_by_key(|point| point.count);
        let of = |point: &HistogramDataPoint| (point.count, point.bucket_counts.clone());
        assert_eq!(
            points.iter().map(of).collect::<Vec<_>>(),
            [(1, vec![1, 0, 0]), (3, vec![1, 1, 1])]
        );
        assert_eq!(points[1].explicit_bounds, [0.5, 1.0]);
        assert!((points[1].sum.unwrap_or_default() - 9.8).abs() < 1e-9);
        assert_eq!(text_of(&points[1].attributes), [("method".to_owned(), "a".to_owned())]);
    }

    #[test]
    fn escapes_in_labels_are_undone() {
        let text =
            "# HELP x X.\n# TYPE x gauge\nx{a=\"q\\\"\\\\\\n}\",b=\"\"} 1.5 # {t=\"1\"} 1\n# EOF\n";
        let found = read(text, SPAN);
        let Some(Data::Gauge(gauge)) = &found[0].data else { panic!("{found:?}") };
        let labels = text_of(&gauge.data_points[0].attributes);
        assert_eq!(labels[0], ("a".to_owned(), "q\"\\\n}".to_owned()));
        assert_eq!(labels[1], ("b".to_owned(), String::new()));
    }
}
