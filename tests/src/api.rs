//! A client of the HTTP API, as any outsider would write it.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tokio::time::Instant;

/// How long any one answer may take: generous, for a loaded machine.
const ANSWER_MS_MAX: u64 = 10_000;
/// Between two looks at something that is awaited.
const LOOK_AGAIN_MS: u64 = 25;

#[derive(Clone)]
pub struct Api {
    bases: Vec<String>,
    token: String,
    client: reqwest::Client,
}

impl Api {
    pub fn new(bases: Vec<String>, token: String) -> Result<Self> {
        let client =
            reqwest::Client::builder().timeout(Duration::from_millis(ANSWER_MS_MAX)).build()?;
        Ok(Self { bases, token, client })
    }

    /// The base URL of one gateway, by its place.
    pub fn base(&self, at: usize) -> Result<&str> {
        self.bases.get(at).map(String::as_str).context("the cluster has no such API")
    }

    /// The same API at one gateway alone, by its place.
    pub fn only(&self, at: usize) -> Self {
        let bases = self.bases.get(at).cloned().into_iter().collect();
        Self { bases, ..self.clone() }
    }

    /// The same with connections of its own, for a client that waits no longer than this for an answer.
    pub fn patient_for(&self, within: Duration) -> Result<Self> {
        Ok(Self { client: reqwest::Client::builder().timeout(within).build()?, ..self.clone() })
    }

    /// Status and body of one look at the first gateway, whatever it answers.
    pub async fn look(&self, path: &str) -> Result<(u16, Value)> {
        let base = self.bases.first().context("the cluster has no API")?;
        let answer = self.client.get(format!("{base}{path}")).bearer_auth(&self.token).send();
        let answer = answer.await?;
        Ok((answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null)))
    }

    /// One look at one path, at the first gateway that answers 200.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let mut last = String::from("the cluster has no API");
        for base in &self.bases {
            let answer = self.client.get(format!("{base}{path}")).bearer_auth(&self.token).send();
            match answer.await {
                Ok(answer) if answer.status().is_success() => return Ok(answer.json().await?),
                Ok(answer) => {
                    last = format!("{base}{path}: {} {}", answer.status(), answer.text().await?);
                }
                Err(error) => last = format!("{base}{path}: {error}"),
            }
        }
        bail!(last)
    }

    /// The status and text of a path that needs no token.
    pub async fn probe(&self, base: &str, path: &str) -> Result<(u16, String)> {
        let answer = self.client.get(format!("{base}{path}")).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<(u16, Value)> {
        let base = self.bases.first().context("the cluster has no API")?;
        let answer = self
            .client
            .post(format!("{base}{path}"))
            .bearer_auth(&self.token)
            .json(body)
            .send()
            .await?;
        Ok((answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null)))
    }

    /// The same under a name by which it counts once; with the place of what was made.
    pub async fn post_once(
        &self,
        path: &str,
        body: &Value,
        key: &str,
    ) -> Result<(u16, Option<String>, Value)> {
        let base = self.bases.first().context("the cluster has no API")?;
        let answer = self
            .client
            .post(format!("{base}{path}"))
            .bearer_auth(&self.token)
            .header("Idempotency-Key", key)
            .json(body)
            .send()
            .await?;
        let location = answer.headers().get("location").and_then(|value| value.to_str().ok());
        let location = location.map(str::to_owned);
        let status = answer.status().as_u16();
        Ok((status, location, answer.json().await.unwrap_or(Value::Null)))
    }

    /// A call without a body that needs no token; its status.
    pub async fn post_to(&self, url: &str) -> Result<u16> {
        Ok(self.client.post(url).send().await?.status().as_u16())
    }

    pub async fn delete(&self, path: &str) -> Result<u16> {
        let base = self.bases.first().context("the cluster has no API")?;
        let answer =
            self.client.delete(format!("{base}{path}")).bearer_auth(&self.token).send().await?;
        Ok(answer.status().as_u16())
    }

    /// The body of a path, for instance a recording's audio.
    pub async fn bytes(&self, path: &str) -> Result<Vec<u8>> {
        let base = self.bases.first().context("the cluster has no API")?;
        let answer =
            self.client.get(format!("{base}{path}")).bearer_auth(&self.token).send().await?;
        if !answer.status().is_success() {
            bail!("{base}{path}: {}", answer.status());
        }
        Ok(answer.bytes().await?.to_vec())
    }

    /// The items of a list.
    pub async fn items(&self, path: &str) -> Result<Vec<Value>> {
        let mut page = self.get(path).await?;
        match page.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => Ok(items),
            _ => bail!("{path} gave no items: {page}"),
        }
    }

    /// Until a call is in `state`.
    pub async fn call_is(&self, sip_call_id: &str, state: &str, within: Duration) -> Result<()> {
        let path = format!("/v1/calls?sip_call_id={sip_call_id}");
        let is = |page: &Value| (page["items"].get(0)?["state"] == state).then_some(());
        self.until(&path, within, is).await
    }

    pub async fn agent_is(&self, id: &str, state: &str, within: Duration) -> Result<()> {
        let path = format!("/v1/agents/{id}");
        self.until(&path, within, |agent| (agent["state"] == state).then_some(())).await
    }

    /// The one CDR of a call, once it is there; an error if there is more than one.
    pub async fn cdr(&self, sip_call_id: &str, within: Duration) -> Result<Value> {
        let path = format!("/v1/cdrs?sip_call_id={sip_call_id}");
        let some = |page: &Value| {
            let items = page["items"].as_array()?;
            (!items.is_empty()).then(|| items.clone())
        };
        let cdrs = self.until(&path, within, some).await?;
        ensure!(cdrs.len() == 1, "call {sip_call_id} has {} CDRs", cdrs.len());
        cdrs.into_iter().next().context("a CDR")
    }

    /// Looks until `found` gives something; the error tells what was seen last.
    pub async fn until<T>(
        &self,
        path: &str,
        within: Duration,
        mut found: impl FnMut(&Value) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + within;
        loop {
            let seen = self.get(path).await;
            if let Some(value) = seen.as_ref().ok().and_then(&mut found) {
                return Ok(value);
            }
            if Instant::now() >= deadline {
                bail!("{path} did not become what was awaited in {within:?}; last: {seen:?}");
            }
            tokio::time::sleep(Duration::from_millis(LOOK_AGAIN_MS)).await;
        }
    }
}
