//! The files that `tandem dev` writes, for processes on hosts of their own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use toml::{Table, Value};

use super::network::{Family, Network, Place};

/// Every address of a box becomes that of its place, and service addresses such that either gateway may have them on its
/// interface; ports stay. Gives where each process has its HTTP.
pub fn move_to(dir: &Path, network: &Network, family: Family) -> Result<BTreeMap<String, String>> {
    let mut moved = BTreeMap::new();
    for entry in std::fs::read_dir(dir.join("conf"))? {
        let path = entry?.path();
        let mut file: Table = toml::from_str(&std::fs::read_to_string(&path)?)
            .with_context(|| format!("read {}", path.display()))?;
        let own = file.get("process").and_then(|it| it.get("name")?.as_str()).map(str::to_owned);
        let mut own_place = None;
        let Some(cluster) = file.get_mut("cluster").and_then(Value::as_table_mut) else {
            continue;
        };
        for (list, keys, http) in [
            ("member", ["raft", "link", "http"], "http"),
            ("gateway", ["vip", "api", "copies"], "api"),
        ] {
            let rows = cluster.get_mut(list).and_then(Value::as_array_mut);
            for row in rows.context("the cluster's processes")? {
                let row = row.as_table_mut().context("a process")?;
                let text = |row: &Table, key: &str| {
                    row.get(key).and_then(Value::as_str).map(str::to_owned)
                };
                let place = Place::of_box(&text(row, "box").context("its box")?)?;
                for key in keys {
                    let Some(was) = text(row, key) else { continue };
                    let was: SocketAddr = was.parse()?;
                    let now = match key {
                        "vip" => network.vip(place, family),
                        _ => network.address(place),
                    };
                    let now = SocketAddr::new(now, was.port());
                    row.insert(key.to_owned(), now.to_string().into());
                }
                let (name, http) = (text(row, "name"), text(row, http));
                if list == "gateway" && name == own {
                    own_place = Some(place);
                }
                moved.insert(name.context("its name")?, http.context("its HTTP")?);
            }
        }
        if let Some(place) = own_place {
            let address = Table::from_iter([("interface".into(), network.interface(place).into())]);
            file.insert("address".into(), Value::Table(address));
        }
        std::fs::write(&path, toml::to_string(&file)?)?;
    }
    ensure!(!moved.is_empty(), "no process in {}", dir.display());
    Ok(moved)
}
