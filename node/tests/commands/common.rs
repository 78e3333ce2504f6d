//! A cluster of real processes on a block of loopback addresses of its own.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const READY_S_MAX: u64 = 60;
const STOP_S_MAX: u64 = 30;

pub fn tandem(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tandem")).args(args).output().unwrap()
}

/// A configuration file that moves the cluster to 127.0.`block`.0.
pub fn config(dir: &Path, block: u8) -> String {
    let path = dir.join("tandem.toml");
    std::fs::write(&path, format!("[dev]\naddress_base = \"127.0.{block}.0\"\n")).unwrap();
    path.to_str().unwrap().to_owned()
}

pub fn exists(pid: i32) -> bool {
    // A zombie is dead: its parent just has not asked yet.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

pub fn kill(pid: i32) {
    // SAFETY: kill(2) takes plain numbers; the pid is of a child of a cluster of this test.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
}

pub struct Cluster {
    dir: tempfile::TempDir,
    config: String,
    options: Vec<String>,
    supervisor: Child,
}

impl Cluster {
    pub fn start(block: u8, options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), block);
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Self::on(dir, config, options)
    }

    fn on(dir: tempfile::TempDir, config: String, options: Vec<String>) -> Self {
        let mut supervisor = Command::new(env!("CARGO_BIN_EXE_tandem"))
            .args(["dev", "--config", &config, "--dir"])
            .arg(dir.path().join("cluster"))
            .args(&options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = supervisor.stdout.take().unwrap();
        let (said, hear) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if said.send(line).is_err() {
                    break;
                }
            }
        });
        let cluster = Self { dir, config, options, supervisor };
        let line = hear.recv_timeout(Duration::from_secs(READY_S_MAX));
        assert_eq!(line.as_deref(), Ok("ready"));
        cluster
    }

    pub fn dir(&self) -> &str {
        let path: &'static Path = Box::leak(self.path("").into_boxed_path());
        path.to_str().unwrap()
    }

    pub fn config(&self) -> &str {
        &self.config
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join("cluster").join(file)
    }

    /// Name, process id, alive.
    pub fn processes(&self) -> Vec<(String, i32, bool)> {
        let text = std::fs::read_to_string(self.path("processes.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let row = |row: &serde_json::Value| {
            let pid = i32::try_from(row["pid"].as_i64().unwrap()).unwrap();
            (row["name"].as_str().unwrap().to_owned(), pid, row["alive"].as_bool().unwrap())
        };
        json["processes"].as_array().unwrap().iter().map(row).collect()
    }

    fn process(&self, name: &str) -> (String, i32, bool) {
        self.processes().into_iter().find(|(known, ..)| known == name).unwrap()
    }

    pub fn pid(&self, name: &str) -> i32 {
        self.process(name).1
    }

    pub fn alive(&self, name: &str) -> bool {
        self.process(name).2
    }

    pub fn until(&self, what: &str, is: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is(self) {
            assert!(Instant::now() < deadline, "it never came about that {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn status(&self) -> Option<serde_json::Value> {
        let output = tandem(&["cluster", "status", "--json", "--dir", self.dir()]);
        serde_json::from_slice(&output.stdout).ok().filter(|_| output.status.success())
    }

    /// The supervisor is gone and its folder is free, for others to do something to it.
    pub fn into_folder(self) -> Stopped {
        let (config, options) = (self.config.clone(), self.options.clone());
        let (code, dir) = self.stop_and_keep();
        assert_eq!(code, Some(0));
        Stopped { dir, config, options }
    }

    pub fn kill_supervisor(&mut self) {
        self.supervisor.kill().unwrap();
        self.supervisor.wait().unwrap();
    }

    pub fn stop(mut self) -> Option<i32> {
        self.terminate()
    }

    /// The exit code, and the folder, which lives as long as the guard.
    pub fn stop_and_keep(mut self) -> (Option<i32>, tempfile::TempDir) {
        let code = self.terminate();
        (code, std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap()))
    }

    pub fn restart(mut self) -> Self {
        assert_eq!(self.terminate(), Some(0));
        self.start_again()
    }

    /// After the supervisor has ended in whatever way.
    pub fn start_again(mut self) -> Self {
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap());
        Self::on(dir, self.config.clone(), self.options.clone())
    }

    fn terminate(&mut self) -> Option<i32> {
        let pid = i32::try_from(self.supervisor.id()).unwrap();
        // SAFETY: as in `kill`; the supervisor is our own child and not yet reaped.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        let deadline = Instant::now() + Duration::from_secs(STOP_S_MAX);
        while Instant::now() < deadline {
            if let Some(status) = self.supervisor.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }
}

/// A cluster that ran.
pub struct Stopped {
    dir: tempfile::TempDir,
    config: String,
    options: Vec<String>,
}

impl Stopped {
    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join("cluster").join(file)
    }

    pub fn start(self) -> Cluster {
        Cluster::on(self.dir, self.config, self.options)
    }

    /// Its exit code and its last words, where it can't be started. `before` is run in the same
    /// shell, in a mount namespace of its own.
    pub fn fails_to_start(&self, before: &str) -> (Option<i32>, String) {
        // SAFETY: geteuid(2) can't fail.
        let root = unsafe { libc::geteuid() } == 0;
        let start = format!("{before}exec \"$0\" dev --config \"$1\" --dir \"$2\"");
        let output = Command::new("unshare")
            .args(if root { ["--mount", "--"].as_slice() } else { &["--mount", "-r", "--"] })
            .args(["timeout", &READY_S_MAX.to_string(), "sh", "-ec", &start])
            .arg(env!("CARGO_BIN_EXE_tandem"))
            .arg(&self.config)
            .arg(self.path(""))
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if matches!(self.supervisor.try_wait(), Ok(None)) {
            self.terminate();
            let _ = self.supervisor.kill();
            let _ = self.supervisor.wait();
        }
    }
}
