//! `[prompts]`: the folder of the prompts that flows name.

use std::path::PathBuf;

use super::reader::Reader;

const A_FOLDER: &str = "a folder of WAV files, 8000 or 16000 Hz, mono, 16-bit";

/// The folder, and the names that a flow may use. A server's file that names no folder can't know
/// them: its gateways have the prompts.
pub fn read(root: &Reader<'_, '_>) -> (Option<PathBuf>, Option<Vec<String>>) {
    let Some(reader) = root.table("prompts") else {
        let names = tandem_gateway::prompts::names(None).ok();
        return (None, names.filter(|_| !root.has("process")));
    };
    let folder = reader.required("folder", reader.string("folder", A_FOLDER), A_FOLDER);
    let read = folder.map(|folder| {
        let path = std::path::absolute(&folder.value).unwrap_or_else(|_| folder.value.into());
        let names = tandem_gateway::prompts::names(Some(&path));
        let names = names
            .inspect_err(|error| {
                reader.mistake(
                    "folder",
                    folder.at.clone(),
                    format!("is no use: {error}"),
                    A_FOLDER,
                );
            })
            .ok();
        (path, names)
    });
    reader.finish();
    match read {
        Some((path, names)) => (Some(path), names),
        None => (None, None),
    }
}
