//! One process: started so that it dies with its supervisor, watched by a pidfd.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result};

/// Above all that is not real time.
const RR_PRIORITY: libc::c_int = 20;
const NICE: libc::c_int = -15;

/// How a process is started.
#[derive(Clone, Debug)]
pub struct Spec {
    pub name: String,
    pub program: PathBuf,
    /// `--incarnation N` is added at each start.
    pub arguments: Vec<OsString>,
    pub stderr: PathBuf,
}

pub struct Child {
    process: std::process::Child,
    pidfd: OwnedFd,
}

/// Call only from a thread that lives as long as the children shall: the kernel's
/// parent-death signal follows the thread, not the process.
pub fn spawn(spec: &Spec, incarnation: u64) -> Result<Child> {
    let stderr = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&spec.stderr)
        .map_err(|error| anyhow::anyhow!("{} can't be written: {error}", spec.stderr.display()))?;
    let parent = std::process::id();
    let mut command = Command::new(&spec.program);
    command
        .args(&spec.arguments)
        .arg("--incarnation")
        .arg(incarnation.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        // A Ctrl-C in the terminal is for the supervisor, who stops the others in order.
        .process_group(0);
    // SAFETY: between fork and exec only async-signal-safe calls are made: prctl, getppid, _exit.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            // The parent may have died before the call.
            if u32::try_from(libc::getppid()) != Ok(parent) {
                libc::_exit(1);
            }
            Ok(())
        });
    }
    let process = command.spawn().with_context(|| format!("{} can't be started", spec.name))?;
    // It is not reaped yet, so the id is its own.
    let pidfd = match pidfd(process.id()) {
        Ok(pidfd) => pidfd,
        Err(error) => {
            let mut process = process;
            process.kill().context("kill")?;
            process.wait().context("wait")?;
            return Err(error).context("pidfd_open");
        }
    };
    Ok(Child { process, pidfd })
}

/// Readable when the process is dead: all its threads, with all that they had open.
pub fn pidfd(pid: u32) -> std::io::Result<OwnedFd> {
    // SAFETY: pidfd_open(2) takes plain numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match i32::try_from(fd) {
        // SAFETY: the descriptor is new and nobody else's.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(std::io::Error::last_os_error()),
    }
}

impl Child {
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Readable when the process is dead.
    pub fn fd(&self) -> i32 {
        self.pidfd.as_raw_fd()
    }

    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: pidfd_send_signal(2) on a descriptor that `self` keeps open; it can never
        // reach another process that got the same id.
        unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.pidfd.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
    }

    /// How it died, once it has.
    pub fn reaped(&mut self) -> Option<String> {
        match self.process.try_wait() {
            Ok(status) => status.map(in_words),
            // Somebody else reaped it, which leaves it just as dead.
            Err(error) => Some(format!("is gone: {error}")),
        }
    }
}

fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Real time where it is allowed, else nice; never for the children.
pub fn prefer_this_thread() {
    let reset = libc::SCHED_RESET_ON_FORK;
    let wanted = libc::sched_param { sched_priority: RR_PRIORITY };
    // SAFETY: sched_setscheduler(2) on this thread with a valid parameter block.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_RR | reset, &wanted) } == 0 {
        return;
    }
    let none = libc::sched_param { sched_priority: 0 };
    // SAFETY: as above; setpriority(2) takes plain numbers. Refusal leaves the thread as it was.
    unsafe {
        libc::sched_setscheduler(0, libc::SCHED_OTHER | reset, &none);
        libc::setpriority(libc::PRIO_PROCESS, 0, NICE);
    }
}
