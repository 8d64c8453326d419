//! The few HTTP requests that commands send to a master.

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A path below a master's page.
pub fn under(master: &str, path: &str) -> Result<String> {
    if !master.starts_with("http://") && !master.starts_with("https://") {
        bail!("--master {master}: write the page's address, such as http://127.0.0.1:8010/");
    }
    Ok(format!("{}/{path}", master.trim_end_matches('/')))
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(std::time::Duration::from_secs(30)))
        .http_status_as_error(false)
        .build()
        .into()
}

/// Posts a form; the answer must be a success.
pub fn post_form(url: &str, form: &[(&str, String)]) -> Result<String> {
    let fields = form.iter().map(|(name, value)| (*name, value.as_str()));
    let mut answer = agent().post(url).send_form(fields).with_context(|| format!("failed to reach {url}"))?;
    let status = answer.status();
    let text =
        answer.body_mut().read_to_string().with_context(|| format!("failed to read the answer of {url}"))?;
    if !status.is_success() {
        bail!("the master refused it ({status}): {}", text.trim());
    }
    Ok(text)
}

/// Posts JSON for an act that is carried out once however often it is asked for with the same key. Gives the status and the
/// answer, if it is JSON.
pub fn post_json_once(url: &str, body: &Value, key: &str) -> Result<(u16, Value)> {
    let mut answer = agent()
        .post(url)
        .header("content-type", "application/json")
        .header("accept", "application/json")
        .header("idempotency-key", key)
        .send(body.to_string())
        .with_context(|| format!("failed to reach {url}"))?;
    let status = answer.status();
    let text =
        answer.body_mut().read_to_string().with_context(|| format!("failed to read the answer of {url}"))?;
    let answer = serde_json::from_str(&text)
        .with_context(|| format!("the answer of {url} ({status}) is not JSON: {}", text.trim()))?;
    Ok((status.as_u16(), answer))
}

/// Gets JSON, whatever the status.
pub fn get_any_json(url: &str) -> Result<Value> {
    let mut answer = agent().get(url).call().with_context(|| format!("failed to reach {url}"))?;
    let text =
        answer.body_mut().read_to_string().with_context(|| format!("failed to read the answer of {url}"))?;
    serde_json::from_str(&text).with_context(|| format!("the answer of {url} is not JSON: {}", text.trim()))
}

/// Gets JSON; none if there is no such thing.
pub fn get_json(url: &str) -> Result<Option<Value>> {
    let mut answer = agent()
        .get(url)
        .header("accept", "application/json")
        .call()
        .with_context(|| format!("failed to reach {url}"))?;
    let status = answer.status();
    let text =
        answer.body_mut().read_to_string().with_context(|| format!("failed to read the answer of {url}"))?;
    match status.as_u16() {
        404 => Ok(None),
        200 => serde_json::from_str(&text)
            .map(Some)
            .with_context(|| format!("the answer of {url} is not JSON: {}", text.trim())),
        _ => bail!("the master refused it ({status}): {}", text.trim()),
    }
}

/// Gets a text whatever its status, and whether that was a success.
pub fn get_any(url: &str) -> Result<(bool, String)> {
    let mut answer = agent().get(url).call().with_context(|| format!("failed to reach {url}"))?;
    let well = answer.status().is_success();
    let text =
        answer.body_mut().read_to_string().with_context(|| format!("failed to read the answer of {url}"))?;
    Ok((well, text))
}

/// Posts JSON that asks for an act, and asks again (under one key, so that it is done once) while the master cannot tell
/// what came of it.
pub fn act_json(url: &str, body: &Value) -> Result<Value> {
    const TIMES: u32 = 8;
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let key = format!("{}-{}", std::process::id(), since.as_nanos());
    let mut wait = std::time::Duration::from_millis(50);
    for left in (0..TIMES).rev() {
        let sent = agent()
            .post(url)
            .header("content-type", "application/json")
            .header("accept", "application/json")
            .header("idempotency-key", &key)
            .send(body.to_string());
        let mut answer = match sent {
            Err(_) if left > 0 => None,
            sent => Some(sent.with_context(|| format!("failed to reach {url}"))?),
        };
        if let Some(answer) =
            answer.as_mut().filter(|it| left == 0 || !matches!(it.status().as_u16(), 503 | 504))
        {
            let text = answer
                .body_mut()
                .read_to_string()
                .with_context(|| format!("failed to read the answer of {url}"))?;
            return serde_json::from_str(&text)
                .with_context(|| format!("the answer of {url} is not JSON: {}", text.trim()));
        }
        pause(wait);
        wait *= 2;
    }
    bail!("{url} gave no answer")
}

#[allow(clippy::disallowed_methods, reason = "a command of one thread")]
fn pause(time: std::time::Duration) {
    std::thread::sleep(time);
}
