use std::sync::mpsc::Receiver;

use super::*;

/// Generous: a loaded machine is no failure.
const SOON: Duration = Duration::from_secs(20);

struct Rig {
    supervisor: Supervisor,
    deaths: Receiver<Death>,
    changes: Receiver<States>,
    dir: tempfile::TempDir,
}

/// Two processes that do nothing, started.
async fn rig(restart: bool) -> Rig {
    rig_of(restart, "exec sleep 1000").await
}

async fn rig_of(restart: bool, script: &str) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let spec = |name: &str, script: &str| Spec {
        name: name.to_owned(),
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), script.into()],
        stderr: dir.path().join(name),
    };
    let (died, deaths) = mpsc::channel();
    let (changed, changes) = mpsc::channel();
    let listeners = Listeners {
        on_death: Box::new(move |death| drop(died.send(death.clone()))),
        on_change: Box::new(move |states| drop(changed.send(states.clone()))),
    };
    let supervisor = Supervisor::spawn(
        vec![spec("a", script), spec("b", "exec sleep 1000")],
        Incarnations::open(dir.path().join("incarnation")),
        restart,
        listeners,
    )
    .unwrap();
    supervisor.start("a").await.unwrap();
    supervisor.start("b").await.unwrap();
    Rig { supervisor, deaths, changes, dir }
}

impl Rig {
    fn until(&self, is: impl Fn(&States) -> bool) -> States {
        loop {
            let states = self.changes.recv_timeout(SOON).unwrap();
            if is(&states) {
                return states;
            }
        }
    }

    fn kill(&self, pid: u32) {
        // SAFETY: kill(2) takes plain numbers; the process is of this test.
        unsafe { libc::kill(i32::try_from(pid).unwrap(), libc::SIGKILL) };
    }
}

fn both_alive(states: &States) -> bool {
    states.values().all(|state| state.alive)
}

#[tokio::test]
async fn supervisor_tells_the_death_and_leaves_it_when_a_process_is_killed() {
    let rig = rig(false).await;
    let states = rig.until(both_alive);
    rig.kill(states["a"].pid);
    let death = rig.deaths.recv_timeout(SOON).unwrap();
    assert_eq!((death.name.as_str(), death.expected), ("a", false));
    assert_eq!(death.how, "was killed by signal 9");
    let after = rig.until(|states| !states["a"].alive);
    assert_eq!(after["a"].pid, states["a"].pid);
    assert!(after["b"].alive);
    rig.supervisor.stop_all().await.unwrap();
}

#[tokio::test]
async fn supervisor_gives_a_greater_incarnation_when_a_process_is_started_again() {
    let rig = rig(false).await;
    rig.supervisor.stop("a").await.unwrap();
    let first = rig.deaths.recv_timeout(SOON).unwrap();
    assert!(first.expected);
    rig.supervisor.start("a").await.unwrap();
    assert!(rig.supervisor.start("a").await.unwrap_err().to_string().contains("already runs"));
    rig.supervisor.stop("a").await.unwrap();
    let second = rig.deaths.recv_timeout(SOON).unwrap();
    assert!(second.incarnation > first.incarnation);
    assert!(rig.supervisor.stop("a").await.unwrap_err().to_string().contains("does not run"));
    assert!(rig.supervisor.start("z").await.unwrap_err().to_string().contains("no process"));
    rig.supervisor.stop_all().await.unwrap();
}

#[tokio::test]
async fn supervisor_brings_a_process_back_when_told_to() {
    let rig = rig(true).await;
    let first = rig.until(both_alive);
    rig.kill(first["b"].pid);
    let again = rig.until(|states| both_alive(states) && states["b"].pid != first["b"].pid);
    assert_eq!(again["a"].pid, first["a"].pid);
    rig.supervisor.stop_all().await.unwrap();
}

#[tokio::test]
async fn supervisor_kills_a_process_when_it_does_not_stop() {
    let rig = rig_of(false, "trap '' TERM; echo deaf >&2; while :; do sleep 0.1; done").await;
    let deadline = Instant::now() + SOON;
    while std::fs::read_to_string(rig.dir.path().join("a")).unwrap() != "deaf\n" {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    rig.supervisor.stop("a").await.unwrap();
    assert_eq!(rig.deaths.recv_timeout(SOON).unwrap().how, "was killed by signal 9");
    rig.supervisor.stop_all().await.unwrap();
    // Who asked for it needs no obituary.
    assert!(rig.deaths.try_recv().is_err());
}
