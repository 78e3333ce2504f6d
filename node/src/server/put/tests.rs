use super::*;
use crate::server::solo::SoloMeta;

/// With the demo tenant.
async fn puts() -> (Puts, Arc<SoloMeta>) {
    let meta = Arc::new(SoloMeta::default());
    let demo = wire::encode_config(&tandem_core::demo::demo_config());
    meta.put(&meta::config_key(FIRST), demo).await.unwrap();
    let shared: Arc<dyn Meta> = meta.clone();
    (Puts { meta: shared, shards: 3 }, meta)
}

fn text(name: &str, more: &str) -> String {
    format!("[tenant]\nname = \"{name}\"\nrealm = \"{name}.example\"\n{more}")
}

fn asked(name: &str, config: &str, shard: &str) -> pb::PutTenant {
    pb::PutTenant { tenant: name.into(), config: config.into(), shard: shard.into() }
}

fn refused(moved: &Moved) -> &str {
    match moved {
        Moved::Refused(why) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn tenant_gets_a_number_a_shard_and_a_secret_and_keeps_them() {
    let (puts, meta) = puts().await;
    for (name, number, group) in [("acme", 1, 1), ("other", 2, 2), ("third", 3, 0)] {
        assert_eq!(puts.put(&asked(name, &text(name, ""), "")).await, Moved::Done);
        let config = meta::config(meta.as_ref(), number).unwrap();
        assert_eq!((config.tenant.as_str(), config.version), (name, 1));
        assert_eq!(puts.places()[&number], Place { group, ..Place::default() }, "{name}");
    }
    let before = meta::config(meta.as_ref(), 1).unwrap();
    assert!(!before.srtp.secret.bytes().is_empty());
    // The same once more changes nothing; another text does.
    let revision = meta.get(REVISION);
    assert_eq!(puts.put(&asked("acme", &text("acme", ""), "")).await, Moved::Done);
    assert_eq!(meta.get(REVISION), revision);
    let text = text("acme", "acw_ms = 7000\n");
    assert_eq!(puts.put(&asked("acme", &text, "")).await, Moved::Done);
    let after = meta::config(meta.as_ref(), 1).unwrap();
    assert_eq!((after.version, after.acw_ms, after.srtp), (2, 7_000, before.srtp));
    let moved = puts.put(&asked("acme", &text, "s2")).await;
    assert!(refused(&moved).contains("`tandem tenant move`"), "{moved:?}");
}

#[tokio::test]
async fn tenant_that_can_not_be_is_refused_with_what_to_do() {
    let (puts, meta) = puts().await;
    let before = meta.under("");
    let put = async |name: &str, text: &str, shard: &str| puts.put(&asked(name, text, shard)).await;
    let moved = put("acme", "[tenant]\nname = \"acme\"\n", "").await;
    assert!(refused(&moved).contains("realm"), "{moved:?}");
    let moved = put("acme", &text("other", ""), "").await;
    assert_eq!(refused(&moved), "its name is other, and the request is about acme");
    let moved = put("acme", "", "").await;
    assert!(refused(&moved).contains("[tenant] is missing"), "{moved:?}");
    let moved = put("demo", &text("demo", ""), "").await;
    assert!(refused(&moved).contains("the cluster's file says"), "{moved:?}");
    let realm = text("acme", "").replace("acme.example", "demo.tandem");
    let moved = put("acme", &realm, "").await;
    assert!(refused(&moved).contains("the realm demo.tandem is that of tenant demo"), "{moved:?}");
    let moved = put("acme", &text("acme", ""), "s3").await;
    assert_eq!(moved, Moved::Unknown("shard \"s3\"".into()));
    assert_eq!(meta.under(""), before, "nothing was changed");
}

/// Two nodes that know the same of the others.
#[tokio::test]
async fn of_two_changes_at_once_one_is_made() {
    let (puts, meta) = puts().await;
    let known = meta.get(REVISION);
    assert_eq!(puts.put(&asked("acme", &text("acme", ""), "")).await, Moved::Done);
    let also = vec![(meta::config_key(1), b"another".to_vec())];
    let moved = puts.commit(known, also).await;
    assert!(refused(&moved).contains("try again"), "{moved:?}");
    assert!(meta::config(meta.as_ref(), 1).is_some());
}
