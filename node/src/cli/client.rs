//! A client of the HTTP API: the first gateway that answers will do.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::Which;
use crate::dev::folder::Folder;
use crate::dev::processes::Processes;
use crate::exit::TimedOut;

const ANSWER_MS_MAX: u64 = 5_000;
const CONNECT_MS_MAX: u64 = 1_000;

pub struct Client {
    bases: Vec<String>,
    token: String,
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
            .timeout(Duration::from_millis(ANSWER_MS_MAX))
            .connect_timeout(Duration::from_millis(CONNECT_MS_MAX))
            .no_proxy()
            .build()
            .context("HTTP can't be spoken")?;
        Ok(Self { bases, token: token.trim().to_owned(), http })
    }

    pub async fn get(&self, path: &str) -> Result<Value> {
        let mut failed: Option<anyhow::Error> = None;
        for base in &self.bases {
            match self.get_from(base, path).await {
                Ok(value) => return Ok(value),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| anyhow::anyhow!("no gateway of this cluster is alive")))
    }

    async fn get_from(&self, base: &str, path: &str) -> Result<Value> {
        let url = format!("{base}{path}");
        let answer = match self.http.get(&url).bearer_auth(&self.token).send().await {
            Ok(answer) => answer,
            Err(error) if error.is_timeout() => {
                return Err(TimedOut(format!("{url} did not answer in {ANSWER_MS_MAX} ms")).into());
            }
            Err(error) => bail!("{url} can't be reached: {}", root_of(&error)),
        };
        let status = answer.status();
        let body: Value = answer.json().await.unwrap_or_default();
        if !status.is_success() {
            bail!("{url}: {status}: {}", body["detail"].as_str().unwrap_or("no reason was given"));
        }
        Ok(body)
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
