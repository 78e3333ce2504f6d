//! Is what lies here right, and where it is not, from where is it made right?

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tandem_media::record::copies::Copies;
use tandem_media::record::manifest::{manifest_path, wav_path};
use tandem_media::record::verify::{Verdict, verify};
use tokio::task::spawn_blocking;

use super::pb;
use super::pb::copies_client::CopiesClient;
use crate::limits;
use crate::link::client::Way;

/// What lies here of one recording: where, and how it was found.
pub struct Found {
    pub dir: PathBuf,
    pub verdict: Verdict,
}

/// Reads all of it again, in the first of the folders that has it.
///
/// # Errors
/// The disk's.
pub async fn look(folders: [PathBuf; 2], recording: u64) -> std::io::Result<Option<Found>> {
    let looked = spawn_blocking(move || {
        for dir in folders {
            if let Some(verdict) = verify(&dir, recording)? {
                return Ok(Some(Found { dir, verdict }));
            }
        }
        Ok(None)
    });
    looked.await.map_err(std::io::Error::other)?
}

/// As the API shows it.
pub fn show(gateway: &str, found: &Found) -> Value {
    let Verdict { manifest, damaged, wrong_hash, .. } = &found.verdict;
    let damaged: Vec<Value> =
        damaged.iter().map(|of| json!({"chunk": of.chunk, "at_ms": of.at_ms})).collect();
    json!({
        "gateway": gateway,
        "good": found.verdict.is_good(),
        "sealed": manifest.sealed,
        "chunks": manifest.chunks,
        "duration_ms": manifest.duration_ms(),
        "damaged": damaged,
        "wrong_hash": wrong_hash,
        "hash": manifest.hash,
    })
}

/// Fetches all of the recording from another gateway and puts it in the place of what lies in
/// `dir`. False where the other has none that is whole.
///
/// # Errors
/// In one sentence.
pub(crate) async fn fetch(way: &Way, dir: &Path, recording: u64) -> Result<bool, String> {
    let channel = way.connect().await.map_err(|error| error.to_string())?;
    let answer = CopiesClient::new(channel).fetch(pb::FetchRequest { recording }).await;
    let mut items = answer.map_err(|status| status.message().to_owned())?.into_inner();
    let fetched = dir.join("fetched");
    let open = fetched.clone();
    let mut copies =
        blocking(move || Copies::open(open).map_err(|error| error.to_string())).await?;
    let wait = Duration::from_millis(limits::FETCH_ITEM_MS_MAX);
    loop {
        let next = tokio::time::timeout(wait, items.message()).await;
        let item = next.map_err(|_| "it stopped sending".to_owned())?;
        let Some(item) = item.map_err(|status| status.message().to_owned())? else { break };
        copies = blocking(move || {
            let pb::Item { recording, at, line, audio } = item;
            copies.put(recording, at, &line, &audio).map_err(|error| error.to_string())?;
            Ok(copies)
        })
        .await?;
    }
    let dir = dir.to_owned();
    blocking(move || {
        let synced = copies.sync();
        let whole = synced.into_iter().any(|(of, synced)| {
            of == recording && synced.is_ok_and(|synced| synced.whole.is_some())
        });
        if whole {
            // The audio first: a manifest of before would not agree, and be found out.
            for path in [wav_path, manifest_path] {
                std::fs::rename(path(&fetched, recording), path(&dir, recording))
                    .map_err(|error| error.to_string())?;
            }
        }
        Ok(whole)
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    spawn_blocking(work).await.map_err(|error| error.to_string())?
}
