//! `tandem dev start` and `stop`: one line of JSON over a socket in the cluster's folder, one
//! line back.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::folder::Folder;

const LINE_BYTES_MAX: u64 = 4_096;
/// A client that says nothing for so long is not heard.
const HEAR_MS_MAX: u64 = 5_000;
/// How long an order may take; longer than stopping or starting one process.
const OBEY_MS_MAX: u64 = 30_000;
/// Clients served at once.
pub const CLIENTS_MAX: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    Start,
    Stop,
    /// Makes what a witness needs and starts it; it waits to be let in.
    AddWitness,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    pub action: Action,
    pub name: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Answer {
    /// Why it was not done.
    pub error: Option<String>,
}

/// A socket's path may be 107 bytes long and a folder's much longer, so the socket is reached
/// through the folder's descriptor.
fn reach(folder: &Folder) -> Result<(File, PathBuf)> {
    let dir = File::open(folder.root())
        .with_context(|| format!("{} can't be opened", folder.root().display()))?;
    let name = folder.socket().file_name().unwrap_or_default().to_owned();
    let path = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name);
    Ok((dir, path))
}

pub fn listen(folder: &Folder) -> Result<UnixListener> {
    // The lock is held: whatever lies there is of a supervisor that is dead.
    match std::fs::remove_file(folder.socket()) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => bail!("{} can't be replaced: {error}", folder.socket().display()),
    }
    let (_dir, path) = reach(folder)?;
    let listener = UnixListener::bind(&path).map_err(|error| {
        anyhow::anyhow!("{} can't be bound: {error}", folder.socket().display())
    })?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .context("the control socket can't be closed to others")?;
    Ok(listener)
}

/// Reads the one order of a client.
pub async fn hear(stream: &mut UnixStream) -> Result<Order> {
    let mut line = String::new();
    let mut reader = BufReader::new(stream).take(LINE_BYTES_MAX);
    tokio::time::timeout(Duration::from_millis(HEAR_MS_MAX), reader.read_line(&mut line))
        .await
        .context("nothing was asked")??;
    Ok(serde_json::from_str(&line)?)
}

pub async fn answer(stream: &mut UnixStream, result: &Result<()>) -> Result<()> {
    let error = result.as_ref().err().map(ToString::to_string);
    let mut line = serde_json::to_vec(&Answer { error })?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    Ok(())
}

/// The client's side.
pub async fn ask(folder: &Folder, action: Action, name: &str) -> Result<Answer> {
    let (_dir, path) = reach(folder)?;
    let mut stream = UnixStream::connect(&path)
        .await
        .map_err(|_| anyhow::anyhow!("no cluster runs in {}", folder.root().display()))?;
    let mut line = serde_json::to_vec(&Order { action, name: name.to_owned() })?;
    line.push(b'\n');
    stream.write_all(&line).await.context("the supervisor hung up")?;
    let mut line = String::new();
    let mut reader = BufReader::new(&mut stream).take(LINE_BYTES_MAX);
    tokio::time::timeout(Duration::from_millis(OBEY_MS_MAX), reader.read_line(&mut line))
        .await
        .map_err(|_| crate::exit::TimedOut(format!("{name} took longer than {OBEY_MS_MAX} ms")))?
        .context("the supervisor hung up")?;
    serde_json::from_str(&line).context("the supervisor hung up")
}
