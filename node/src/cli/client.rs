//! A client of the HTTP API: the first gateway that answers will do.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use reqwest::{Method, Response, StatusCode, Url};
use serde_json::Value;

use super::Which;
use crate::dev::folder::Folder;
use crate::dev::processes::Processes;
use crate::exit::{TimedOut, Unsafe};

const ANSWER_MS_MAX: u64 = 5_000;
/// A recording may be long, and is read whole to be verified.
const PATIENCE_MS_MAX: u64 = 120_000;
const CONNECT_MS_MAX: u64 = 1_000;

/// What a command waits on.
///
/// # Errors
/// Where the system gives it no thread or descriptor.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

pub struct Client {
    bases: Vec<String>,
    token: String,
    /// Whose calls, agents and records are asked for; none: the first one's.
    tenant: Option<String>,
    http: reqwest::Client,
}

impl Client {
    pub fn of(which: &Which) -> Result<Self> {
        let (bases, token_file) = match (&which.dir, &which.endpoint, &which.token_file) {
            (Some(dir), _, _) => {
                let processes = Processes::read(&Folder::existing(dir)?)?;
                let alive = |base: &&String| {
                    processes.processes.iter().any(|p| p.alive && base.ends_with(&p.http))
                };
                (processes.api.iter().filter(alive).cloned().collect(), processes.token_file)
            }
            (None, Some(endpoint), Some(token_file)) => {
                (vec![endpoint.trim_end_matches('/').to_owned()], token_file.clone())
            }
            (None, _, _) => bail!("say which cluster: --dir, or --endpoint with --token-file"),
        };
        let token = std::fs::read_to_string(&token_file).map_err(|error| {
            anyhow::anyhow!("the token file {} can't be read: {error}", token_file.display())
        })?;
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_millis(CONNECT_MS_MAX))
            .no_proxy()
            .build()
            .context("HTTP can't be spoken")?;
        Ok(Self { bases, token: token.trim().to_owned(), tenant: None, http })
    }

    pub fn of_tenant(self, tenant: Option<&str>) -> Self {
        Self { tenant: tenant.map(str::to_owned), ..self }
    }

    pub async fn get(&self, path: &str) -> Result<Value> {
        let answer = self.first_good(Method::GET, path, None, ANSWER_MS_MAX).await?;
        Ok(answer.json().await.unwrap_or_default())
    }

    /// Asks for something to be done, of which there is nothing to tell.
    pub async fn post(&self, path: &str, body: &Value) -> Result<()> {
        self.first_good(Method::POST, path, Some(body), ANSWER_MS_MAX).await?;
        Ok(())
    }

    /// The same, in another way than by POST.
    pub async fn order(&self, method: Method, path: &str, body: Option<&Value>) -> Result<()> {
        self.first_good(method, path, body, ANSWER_MS_MAX).await?;
        Ok(())
    }

    /// What makes a gateway read much before it answers.
    pub async fn ask_patiently(&self, method: Method, path: &str) -> Result<Value> {
        let answer = self.first_good(method, path, None, PATIENCE_MS_MAX).await?;
        Ok(answer.json().await.unwrap_or_default())
    }

    /// What is no JSON.
    pub async fn bytes(&self, path: &str) -> Result<Vec<u8>> {
        let answer = self.first_good(Method::GET, path, None, PATIENCE_MS_MAX).await?;
        Ok(answer.bytes().await.context("the answer broke off")?.to_vec())
    }

    async fn first_good(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        within_ms: u64,
    ) -> Result<Response> {
        let mut failed: Option<anyhow::Error> = None;
        for base in &self.bases {
            match self.ask_one(method.clone(), base, path, body, within_ms).await {
                Ok(answer) => return Ok(answer),
                // Another gateway asks the same cluster.
                Err(error) if error.is::<Unsafe>() => return Err(error),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| anyhow::anyhow!("no gateway of this cluster is alive")))
    }

    async fn ask_one(
        &self,
        method: Method,
        base: &str,
        path: &str,
        body: Option<&Value>,
        within_ms: u64,
    ) -> Result<Response> {
        let url = format!("{base}{path}");
        let mut of_tenant =
            Url::parse(&url).with_context(|| format!("{base:?} is no URL of a gateway"))?;
        if let Some(tenant) = &self.tenant {
            of_tenant.query_pairs_mut().append_pair("tenant", tenant);
        }
        let mut request = self.http.request(method, of_tenant).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = match request.timeout(Duration::from_millis(within_ms)).send().await {
            Ok(answer) => answer,
            Err(error) if error.is_timeout() => {
                return Err(TimedOut(format!("{url} did not answer in {within_ms} ms")).into());
            }
            Err(error) => bail!("{url} can't be reached: {}", root_of(&error)),
        };
        let status = answer.status();
        if !status.is_success() {
            let body: Value = answer.json().await.unwrap_or_default();
            if status == StatusCode::CONFLICT {
                let why = body["detail"].as_str().unwrap_or("no reason was given");
                return Err(Unsafe(why.to_owned()).into());
            }
            bail!("{url}: {status}: {}", body["detail"].as_str().unwrap_or("no reason was given"));
        }
        Ok(answer)
    }
}

/// What really went wrong, without the wrapping.
fn root_of(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
