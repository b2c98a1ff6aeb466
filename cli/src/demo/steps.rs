//! The steps of the story: what was done, what came of it, how long it took.

use std::future::Future;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::exit::Failure;
use crate::output::no_color;

/// The steps so far.
pub struct Steps {
    json: bool,
    color: bool,
    limit: Duration,
    started: Instant,
    done: Vec<Step>,
}

struct Step {
    title: &'static str,
    result: Result<String, String>,
    took: Duration,
}

impl Steps {
    /// No steps yet; each may take as long as `limit`.
    pub fn new(json: bool, limit: Duration) -> Self {
        let color = !json && std::io::stdout().is_terminal() && !no_color();
        Self { json, color, limit, started: Instant::now(), done: Vec::new() }
    }

    /// How long a step may take.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Does one step, and shows its result: the text that it returns with its value.
    pub async fn step<T>(
        &mut self,
        title: &'static str,
        doing: impl Future<Output = Result<(T, String), Failure>>,
    ) -> Result<T, Failure> {
        let started = Instant::now();
        let outcome = match tokio::time::timeout(self.limit, doing).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let waited = self.limit.as_secs_f64();
                Err(Failure::Demo(format!("not done after {waited} s")))
            }
        };
        let took = started.elapsed();
        let (value, result) = match outcome {
            Ok((value, detail)) => (Ok(value), Ok(detail)),
            Err(failure) => {
                let said = failure.sentence();
                (Err(Failure::Demo(format!("{title}: {said}"))), Err(said))
            }
        };
        let step = Step { title, result, took };
        if !self.json {
            self.show(&step);
        }
        self.done.push(step);
        value
    }

    fn show(&self, step: &Step) {
        let number = self.done.len() + 1;
        let (mark, color, detail) = match &step.result {
            Ok(detail) => ("ok  ", "\x1b[32m", detail),
            Err(detail) => ("FAIL", "\x1b[31m", detail),
        };
        let (on, off) = if self.color { (color, "\x1b[0m") } else { ("", "") };
        let millis = step.took.as_secs_f64() * 1000.0;
        let mut lines = detail.lines();
        let first = lines.next().unwrap_or_default();
        let mut text =
            format!("{on}{mark}{off} {number:>2}  {:<44} {millis:>8.1} ms  {first}\n", step.title);
        for line in lines {
            text.push_str(&format!("{:66}{line}\n", ""));
        }
        say(&text);
    }

    /// The last line for people.
    pub fn close(&self, ok: bool) {
        let seconds = self.started.elapsed().as_secs_f64();
        let steps = self.done.len();
        match ok {
            true => say(&format!("\nAll {steps} steps as they should be, in {seconds:.1} s.\n")),
            false => {
                say(&format!("\nNot as it should be, after {steps} steps and {seconds:.1} s.\n"))
            }
        }
    }

    /// Everything, for machines.
    pub fn report(&self, ok: bool, messages: &[Value]) -> Value {
        let steps: Vec<_> = self
            .done
            .iter()
            .map(|step| {
                let (ok, detail) = match &step.result {
                    Ok(detail) => (true, detail),
                    Err(detail) => (false, detail),
                };
                let millis = step.took.as_secs_f64() * 1000.0;
                json!({ "title": step.title, "ok": ok, "millis": millis, "detail": detail })
            })
            .collect();
        let millis = self.started.elapsed().as_secs_f64() * 1000.0;
        json!({ "ok": ok, "millis": millis, "steps": steps, "messages": messages })
    }
}

/// Says something to people. A reader that went away wants no more, and no complaint.
pub fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
