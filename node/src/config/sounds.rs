//! `[prompts]` and `[music]`: the folders of what callers hear, and what is in them.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use super::reader::Reader;

const PROMPTS: &str = "a folder of WAV files, 8000 or 16000 Hz, mono, 16-bit";
const MUSIC: &str = "a folder of WAV files, and of folders of them: 8000 or 16000 Hz, mono, 16-bit";

/// Where gateways find what they play beside what is built in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sounds {
    pub prompts: Option<PathBuf>,
    pub music: Option<PathBuf>,
}

/// The names that the rest of the file may use; none where it can't know them: a server's file that names no
/// folder, since its gateways have it.
#[derive(Debug, Default)]
pub struct Names {
    pub prompts: Option<Vec<String>>,
    pub music: Option<Vec<String>>,
}

pub fn read(root: &Reader<'_, '_>) -> (Sounds, Names) {
    let (prompts, of_prompts) = folder(root, "prompts", PROMPTS, tandem_gateway::prompts::names);
    let (music, of_music) = folder(root, "music", MUSIC, tandem_gateway::music::names);
    (Sounds { prompts, music }, Names { prompts: of_prompts, music: of_music })
}

fn folder<E: Display>(
    root: &Reader<'_, '_>,
    table: &'static str,
    expected: &str,
    names: fn(Option<&Path>) -> Result<Vec<String>, E>,
) -> (Option<PathBuf>, Option<Vec<String>>) {
    let Some(reader) = root.table(table) else {
        return (None, names(None).ok().filter(|_| !root.has("process")));
    };
    let folder = reader.required("folder", reader.string("folder", expected), expected);
    let read = folder.map(|folder| {
        let path = std::path::absolute(&folder.value).unwrap_or_else(|_| folder.value.into());
        let names = names(Some(&path)).inspect_err(|error| {
            reader.mistake("folder", folder.at.clone(), format!("is no use: {error}"), expected);
        });
        (path, names.ok())
    });
    reader.finish();
    match read {
        Some((path, names)) => (Some(path), names),
        None => (None, None),
    }
}
