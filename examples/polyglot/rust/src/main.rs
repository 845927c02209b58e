mod responder;

use responder::{Attempt, Outcome, serve, terminate};
use serde_json::json;
use std::time::Duration;

const NAMES: [&str; 10] =
    ["render", "echo", "fail", "crash", "terminate", "busy", "later", "about", "slow", "progress"];

/// What each type does. To make it yours: keep the shape, replace the arms.
async fn handle(attempt: Attempt) -> Outcome {
    let text = String::from_utf8_lossy(&attempt.payload).into_owned();
    match attempt.name.as_str() {
        "render" => {
            let mut page = String::new();
            pulldown_cmark::html::push_html(&mut page, pulldown_cmark::Parser::new(&text));
            Ok(page.into_bytes())
        }
        "echo" => Ok(attempt.payload),
        "fail" => Err(vec![("AJ-Error", text)]),
        "crash" => panic!("{text}"),
        "terminate" => Err(terminate(text)),
        "busy" => Err(vec![("AJ-Busy", text)]),
        "later" => Err(vec![("AJ-Error", "later".into()), ("AJ-Retry-After-Ms", text)]),
        "about" => {
            let (text, number) = (|name| attempt.header(name), |name| attempt.header(name).parse().unwrap_or(0));
            let about = json!({"id": text("AJ-Task-Id"), "type": text("AJ-Task-Type"), "queue": text("AJ-Queue"),
                "try": number("AJ-Try"), "max_tries": number("AJ-Max-Tries")});
            Ok(about.to_string().into_bytes())
        }
        "slow" => {
            tokio::time::sleep(Duration::from_millis(text.parse().map_err(terminate)?)).await;
            Ok(attempt.payload)
        }
        "progress" => {
            (1..=4).for_each(|quarter| attempt.progress(25 * quarter, &format!("quarter {quarter} of 4")));
            Ok("done".into())
        }
        unknown => Err(terminate(format!("no handler for {unknown}"))),
    }
}

#[tokio::main]
async fn main() -> Result<(), async_nats::Error> {
    let family = std::env::var("AJC_FAMILY").unwrap_or("conform".into());
    serve(&family, &NAMES, 10, |attempt| Box::pin(handle(attempt))).await
}
