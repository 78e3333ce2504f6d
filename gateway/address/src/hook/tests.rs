use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Instant;

use super::*;

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));
/// Beyond the limit: the machine may be busy.
const SLACK: Duration = Duration::from_secs(3);

/// A hook that is this text, run by a shell in the folder.
fn hook(dir: &Path, text: &str) -> Hook {
    let script = dir.join("hook");
    std::fs::write(&script, format!("cd {}\n{text}\n", dir.display())).unwrap();
    let arguments = vec![script.display().to_string(), "first".to_owned()];
    Hook { command: "/bin/sh".into(), arguments }
}

fn said(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("said")).unwrap_or_default()
}

#[tokio::test]
async fn hook_hears_what_it_is_run_for_by_arguments_and_environment() {
    let dir = tempfile::tempdir().unwrap();
    let hook =
        hook(dir.path(), "echo \"$@ / $TANDEM_ACTION $TANDEM_LINE $TANDEM_ADDRESS\" >> said");
    hook.run(Action::Take, "gateway-a", ADDRESS).await.unwrap();
    hook.run(Action::Drop, "gateway-a", ADDRESS).await.unwrap();
    assert_eq!(
        said(dir.path()),
        "first take gateway-a 10.0.0.7 / take gateway-a 10.0.0.7\n\
         first drop gateway-a 10.0.0.7 / drop gateway-a 10.0.0.7\n"
    );
}

#[tokio::test]
async fn hook_that_fails_or_is_not_there_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let failed = hook(dir.path(), "exit 3").run(Action::Take, "gateway-a", ADDRESS).await;
    let text = failed.unwrap_err().to_string();
    assert_eq!(text, "the command /bin/sh take failed: exit status: 3");
    let absent = Hook { command: dir.path().join("absent"), arguments: Vec::new() };
    let failed = absent.run(Action::Drop, "gateway-a", ADDRESS).await;
    assert!(matches!(failed, Err(Error::Start { .. })), "{failed:?}");
}

/// What it has started writes its number, and would write more if it lived on.
#[tokio::test]
async fn hook_that_hangs_is_killed_with_all_that_it_has_started() {
    let dir = tempfile::tempdir().unwrap();
    let hook = hook(dir.path(), "(echo $$ > group; sleep 600) &\nwait");
    let begun = Instant::now();
    let hung = hook.run(Action::Take, "gateway-a", ADDRESS).await;
    assert!(matches!(hung, Err(Error::Hung { limit: HOOK_TAKE, .. })), "{hung:?}");
    let took = begun.elapsed();
    assert!(took >= HOOK_TAKE && took < HOOK_TAKE + SLACK, "{took:?}");
    let group: i32 =
        std::fs::read_to_string(dir.path().join("group")).unwrap().trim().parse().unwrap();
    let until = Instant::now() + SLACK;
    while lives(group) {
        assert!(Instant::now() < until, "somebody of the group {group} lives on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn hook_that_nobody_waits_for_any_more_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let hook = hook(dir.path(), "echo $$ > group\nsleep 600");
    let running = tokio::spawn(async move { hook.run(Action::Take, "gateway-a", ADDRESS).await });
    let path = dir.path().join("group");
    let group: i32 = loop {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        if let Ok(group) = text.trim().parse() {
            break group;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    running.abort();
    let until = Instant::now() + SLACK;
    while lives(group) {
        assert!(Instant::now() < until, "the group {group} lives on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether any process of a group is left that has not ended.
fn lives(group: i32) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(|it| std::fs::read_to_string(it.path().join("stat")).ok()).any(|stat| {
        // Behind the name: state, parent, group (proc(5)).
        let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let fields: Vec<&str> = rest.split(' ').collect();
        fields.get(2) == Some(&group.to_string().as_str()) && fields[0] != "Z"
    })
}
