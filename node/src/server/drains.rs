//! What an operator has emptied: no lead and no line is given to such a process where another one can have it, and
//! what it has goes to others with its calls. Said in the meta shard, so that it holds over deaths and restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::watch;

use super::desk::Moved;
use super::meta::Meta;

/// Behind it stands the name of a process or box.
const DRAINS: &str = "drain/";
const DRAINED: &[u8] = b"drained";

/// The names that are drained, of processes and boxes.
pub fn names(meta: &dyn Meta) -> BTreeSet<String> {
    let all = meta.under(DRAINS).into_iter();
    let drained = all.filter(|(_, value)| value == DRAINED);
    drained.filter_map(|(key, _)| Some(key.strip_prefix(DRAINS)?.to_owned())).collect()
}

/// The processes among `boxes` (their boxes by their names) that are drained, or whose box is.
pub fn processes(
    names: &BTreeSet<String>,
    boxes: impl IntoIterator<Item = (String, String)>,
) -> BTreeSet<String> {
    let is_drained = |process: &str, box_name: &str| {
        names.contains(process) || (!box_name.is_empty() && names.contains(box_name))
    };
    let all = boxes.into_iter().filter(|(process, box_name)| is_drained(process, box_name));
    all.map(|(process, _)| process).collect()
}

/// Puts it into the meta shard.
pub async fn set(meta: &dyn Meta, name: &str, drained: bool) -> Moved {
    let key = format!("{DRAINS}{name}");
    let known = meta.get(&key);
    let value = if drained { DRAINED.to_vec() } else { Vec::new() };
    if known.as_ref() == Some(&value) || (known.is_none() && !drained) {
        return Moved::Done;
    }
    match meta.replace(&key, known, value, Vec::new()).await {
        Ok(true) => {
            tracing::info!(name, drained, "an operator has said what it may have");
            Moved::Done
        }
        Ok(false) => Moved::Refused("somebody else has just said otherwise; ask again".to_owned()),
        Err(error) => Moved::Refused(format!("{error:#}; ask again")),
    }
}

/// The processes that are drained, whenever that changes. `boxes` tells those of now.
pub fn watch(
    meta: Arc<dyn Meta>,
    boxes: impl Fn() -> BTreeMap<String, String> + Send + 'static,
    tell: impl Fn(BTreeSet<String>) + Send + 'static,
) -> watch::Receiver<BTreeSet<String>> {
    let (told, drained) = watch::channel(BTreeSet::new());
    let mut applied = meta.applied();
    tokio::spawn(async move {
        loop {
            applied.mark_unchanged();
            let now = processes(&names(&*meta), boxes());
            tell(now.clone());
            told.send_if_modified(|known| {
                let changed = *known != now;
                *known = now;
                changed
            });
            if applied.changed().await.is_err() {
                return;
            }
        }
    });
    drained
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::solo::SoloMeta;

    fn boxes() -> BTreeMap<String, String> {
        let all = [("node-a", "a"), ("gateway-a", "a"), ("gateway-b", "b"), ("witness", "")];
        all.map(|(name, place)| (name.to_owned(), place.to_owned())).into()
    }

    async fn drained(meta: &SoloMeta) -> Vec<String> {
        processes(&names(meta), boxes()).into_iter().collect()
    }

    #[tokio::test]
    async fn box_is_drained_with_all_of_it_until_it_is_undrained() {
        let meta = SoloMeta::default();
        meta.take_lead();
        assert_eq!(set(&meta, "b", false).await, Moved::Done, "it was not drained");
        assert_eq!(set(&meta, "a", true).await, Moved::Done);
        assert_eq!(drained(&meta).await, ["gateway-a", "node-a"]);
        assert_eq!(set(&meta, "gateway-b", true).await, Moved::Done);
        assert_eq!(set(&meta, "gateway-b", true).await, Moved::Done, "again");
        assert_eq!(set(&meta, "a", false).await, Moved::Done);
        assert_eq!(drained(&meta).await, ["gateway-b"]);
    }
}
