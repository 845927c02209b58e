//! The protocol's side: subscriptions, deadlines, heartbeats, replies. Nothing here knows what a task does.

use async_nats::{Client, ConnectOptions, HeaderMap, Message};
use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::{StreamExt, future::BoxFuture, stream::SelectAll};
use std::{fmt::Display, sync::Arc, time::Duration};
use time::{UtcDateTime, format_description::well_known::Rfc3339};
use tokio::{runtime, signal::unix, sync::Semaphore, sync::mpsc, time::Instant, time::interval_at, time::sleep_until};

/// The result, or the headers that say what went wrong.
pub type Outcome = Result<Vec<u8>, Vec<(&'static str, String)>>;
pub type Handler = fn(Attempt) -> BoxFuture<'static, Outcome>;

pub struct Attempt {
    pub name: String, // the type, without the family
    pub payload: Vec<u8>,
    headers: HeaderMap,
    progress: mpsc::UnboundedSender<String>,
}

impl Attempt {
    /// Names are compared without case; a blank value counts as absent.
    pub fn header(&self, name: &str) -> &str {
        let named = self.headers.iter().filter(|(key, _)| AsRef::<str>::as_ref(*key).eq_ignore_ascii_case(name));
        let mut values = named.flat_map(|(_, values)| values).map(|value| value.as_str().trim());
        values.find(|value| !value.is_empty()).unwrap_or("")
    }

    pub fn progress(&self, percent: u8, message: &str) {
        let _ = self.progress.send(serde_json::json!({"percent": percent, "message": message}).to_string());
    }
}

pub fn terminate(text: impl Display) -> Vec<(&'static str, String)> {
    vec![("AJ-Terminate", text.to_string())]
}

/// Serves `family:name` for each name, `limit` attempts at once, until SIGTERM; then finishes what runs.
pub async fn serve(family: &str, names: &[&str], limit: u32, handler: Handler) -> Result<(), async_nats::Error> {
    let url = std::env::var("NATS_URL").unwrap_or("nats://127.0.0.1:4222".into());
    let client = ConnectOptions::new().name("polyglot-rust").retry_on_initial_connect().connect(url).await?;
    let mut requests = SelectAll::new();
    for name in names {
        requests.push(client.queue_subscribe(format!("ajc.exec.{family}:{name}"), "ajc".into()).await?);
    }
    // Handlers have threads of their own: one that blocks holds up neither beats nor replies.
    let workers = runtime::Runtime::new()?;
    let room = Arc::new(Semaphore::new(limit as usize));
    let mut ending = unix::signal(unix::SignalKind::terminate())?;
    loop {
        let request = tokio::select! {
            request = requests.next() => request,
            // leaves the queue group; what has arrived is still served
            _ = ending.recv() => { for one in &mut requests { one.drain().await? }; continue }
        };
        let Some(request) = request else { break };
        let (client, workers, place) = (client.clone(), workers.handle().clone(), room.clone().try_acquire_owned());
        tokio::spawn(async move {
            let outcome = match &place {
                Ok(_) => attempt(&client, &workers, &request, handler).await,
                Err(_) => Err(vec![("AJ-Busy", format!("{limit} attempts are running"))]),
            };
            answer(&client, &request, outcome).await;
        });
    }
    let _ended = room.acquire_many(limit).await?;
    client.flush().await?;
    workers.shutdown_background();
    Ok(())
}

async fn attempt(client: &Client, workers: &runtime::Handle, request: &Message, handler: Handler) -> Outcome {
    let task: serde_json::Value = serde_json::from_slice(&request.payload).map_err(terminate)?;
    let payload = BASE64_STANDARD.decode(task["payload"].as_str().unwrap_or("")).map_err(terminate)?;
    let (progress, mut steps) = mpsc::unbounded_channel();
    let name = request.subject.rsplit(':').next().unwrap_or("").to_string();
    let attempt = Attempt { name, payload, headers: request.headers.clone().unwrap_or_default(), progress };
    let version = attempt.header("AJ-Protocol");
    if !matches!(version, "" | "1") {
        return Err(vec![("AJ-Busy", format!("protocol {version} is not spoken here"))]);
    }
    let milliseconds = |name| attempt.header(name).parse().ok().map(Duration::from_millis);
    let run_time = milliseconds("AJ-Timeout-Ms").unwrap_or(Duration::from_secs(30));
    let pause = milliseconds("AJ-Heartbeat-Ms").unwrap_or(run_time) * 3 / 4 + Duration::from_millis(1);
    let subject = Some(attempt.header("AJ-Heartbeat-Subject").to_string()).filter(|subject| !subject.is_empty());
    let last = UtcDateTime::parse(task["deadline"].as_str().unwrap_or(""), &Rfc3339); // no beat moves past it
    let left = last.map_or(Duration::MAX, |at| (at - UtcDateTime::now()).try_into().unwrap_or_default());
    let start = Instant::now();
    let (mut deadline, mut beats) = (start + run_time.min(left), interval_at(start + pause, pause));
    let mut work = workers.spawn(handler(attempt));
    loop {
        let beat = tokio::select! {
            biased;
            Some(step) = steps.recv() => step,
            ended = &mut work => return ended.unwrap_or_else(|panic| Err(vec![("AJ-Error", panic.to_string())])),
            _ = sleep_until(deadline - Duration::from_millis(50)) => break work.abort(),
            _ = beats.tick() => String::new(),
        };
        if let Some(subject) = &subject {
            let _ = client.publish(subject.clone(), beat.into()).await;
            deadline = start + (start.elapsed() + run_time).min(left);
        }
    }
    Err(vec![("AJ-Error", "not done by the deadline".into())])
}

async fn answer(client: &Client, request: &Message, outcome: Outcome) {
    let Some(to) = request.reply.clone() else { return };
    let _ = match outcome {
        Ok(result) if result.len() <= client.server_info().max_payload => client.publish(to, result.into()).await,
        refused => {
            let mut headers = HeaderMap::new();
            for (name, text) in refused.map_or_else(|headers| headers, |_| terminate("the result is too large")) {
                let line = text.replace(['\r', '\n'], " ");
                let text = &line[..line.floor_char_boundary(4096)];
                headers.insert(name, if text.trim().is_empty() { "no text" } else { text });
            }
            client.publish_with_headers(to, headers, "".into()).await
        }
    };
}
