//! One process: started so that it dies with its supervisor, watched by a pidfd.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use anyhow::{Context as _, Result};

/// Above all that is not real time.
const RR_PRIORITY: libc::c_int = 20;
const NICE: libc::c_int = -15;
/// Dead processes that wait to be reaped; beyond it whoever brings one reaps it.
const DEAD_MAX: usize = 64;

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

    /// How it died, once it has. It is not reaped by that: see [`Reaper`].
    pub fn death(&self) -> Option<String> {
        // SAFETY: siginfo_t is plain numbers; zero is a valid value of each.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let how = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        let id = libc::id_t::from(self.pid());
        // SAFETY: waitid(2) with a valid pointer, for a child that nobody has reaped.
        if unsafe { libc::waitid(libc::P_PID, id, &raw mut info, how) } != 0 {
            // Somebody else reaped it, which leaves it just as dead.
            return Some(format!("is gone: {}", std::io::Error::last_os_error()));
        }
        // SAFETY: waitid(2) fills these fields in for a child, and leaves zero where none is dead.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        (pid != 0).then(|| match info.si_code {
            libc::CLD_EXITED => format!("ended with code {status}"),
            _ => format!("was killed by signal {status}"),
        })
    }
}

/// Reaps dead children, at ordinary priority. The kernel takes what it knows of a process apart
/// when it is reaped, and waits in a busy loop for whoever looks at it in /proc. A real-time
/// thread that reaps keeps that one from running: both then stand still, and with them all
/// ordinary work of a processor, until the kernel takes the real-time thread off it after a second.
pub struct Reaper(mpsc::SyncSender<std::process::Child>);

impl Reaper {
    /// # Errors
    /// The thread can't be started.
    pub fn spawn() -> std::io::Result<Self> {
        let (dead, inbox) = mpsc::sync_channel::<std::process::Child>(DEAD_MAX);
        std::thread::Builder::new().name("reaper".into()).spawn(move || {
            for mut process in inbox {
                if let Err(error) = process.wait() {
                    tracing::debug!(pid = process.id(), %error, "a dead process was reaped already");
                }
            }
        })?;
        Ok(Self(dead))
    }

    pub fn take(&self, child: Child) {
        if let Err(
            mpsc::TrySendError::Full(mut process) | mpsc::TrySendError::Disconnected(mut process),
        ) = self.0.try_send(child.process)
        {
            // Dead, so that this ends; who reads an error here would know of nothing to do.
            let _ = process.wait();
        }
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
