//! The few calls of Linux that the standard library lacks. All `unsafe` of this crate is here.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd as _, OwnedFd, RawFd};
use std::sync::Once;
use std::time::Duration;

/// Above ordinary work, below consensus, which has few and short turns.
const SCHED_RR_PRIORITY: i32 = 2;
const NICE: i32 = -10;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn owned(result: libc::c_int) -> io::Result<OwnedFd> {
    let fd = check(result)?;
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Level-triggered readiness of many descriptors.
pub struct Epoll(OwnedFd);

/// Room for what one wait reports.
pub struct Ready {
    events: Vec<libc::epoll_event>,
    count: usize,
}

impl Ready {
    pub fn with_capacity(capacity: usize) -> Self {
        Self { events: vec![libc::epoll_event { events: 0, u64: 0 }; capacity], count: 0 }
    }

    pub fn len(&self) -> usize {
        self.count
    }

    /// The tag of one ready descriptor.
    pub fn tag(&self, at: usize) -> u64 {
        self.events[..self.count][at].u64
    }
}

impl Epoll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed.
        owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }).map(Self)
    }

    pub fn add(&self, fd: &impl AsRawFd, tag: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: tag };
        self.control(libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &mut event)
    }

    pub fn remove(&self, fd: &impl AsRawFd) -> io::Result<()> {
        let mut unused = libc::epoll_event { events: 0, u64: 0 };
        self.control(libc::EPOLL_CTL_DEL, fd.as_raw_fd(), &mut unused)
    }

    fn control(&self, what: i32, fd: RawFd, event: &mut libc::epoll_event) -> io::Result<()> {
        // SAFETY: `event` lives through the call.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), what, fd, event) }).map(|_| ())
    }

    /// Waits without a time limit. A signal ends the wait with nothing ready.
    pub fn wait(&self, ready: &mut Ready) -> io::Result<()> {
        let room = i32::try_from(ready.events.len()).unwrap_or(i32::MAX);
        // SAFETY: the kernel writes at most `room` events into the vector.
        let result = check(unsafe {
            libc::epoll_wait(self.0.as_raw_fd(), ready.events.as_mut_ptr(), room, -1)
        });
        ready.count = 0;
        match result {
            Ok(count) => ready.count = usize::try_from(count).unwrap_or(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Expires at absolute multiples of its period, so that it never drifts.
pub struct Ticker(OwnedFd);

impl Ticker {
    pub fn new() -> io::Result<Self> {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: no pointers are passed.
        owned(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) }).map(Self)
    }

    /// A period of zero stops it.
    pub fn set(&self, period: Duration) -> io::Result<()> {
        let period = libc::timespec {
            tv_sec: period.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: period.subsec_nanos().into(),
        };
        let spec = libc::itimerspec { it_interval: period, it_value: period };
        // SAFETY: `spec` lives through the call; the old value is not asked for.
        check(unsafe {
            libc::timerfd_settime(self.0.as_raw_fd(), 0, &raw const spec, std::ptr::null_mut())
        })
        .map(|_| ())
    }

    /// Expirations since the last call.
    pub fn take(&self) -> u64 {
        read_counter(&self.0)
    }
}

impl AsRawFd for Ticker {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Wakes a thread that waits on an [`Epoll`].
pub struct Waker(OwnedFd);

impl Waker {
    pub fn new() -> io::Result<Self> {
        let flags = libc::EFD_CLOEXEC | libc::EFD_NONBLOCK;
        // SAFETY: no pointers are passed.
        owned(unsafe { libc::eventfd(0, flags) }).map(Self)
    }

    pub fn wake(&self) {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: eight bytes that live through the call. It can only fail when the counter is
        // full, and then the thread is awake anyway.
        let _ = unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    pub fn clear(&self) {
        read_counter(&self.0);
    }
}

impl AsRawFd for Waker {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn read_counter(fd: &OwnedFd) -> u64 {
    let mut count = [0_u8; 8];
    // SAFETY: the kernel writes at most eight bytes.
    let read = unsafe { libc::read(fd.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    if read == 8 { u64::from_ne_bytes(count) } else { 0 }
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` lives through the call, which can't fail for these clocks.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}

pub fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// Since 1970.
pub fn realtime_ns() -> u64 {
    clock_ns(libc::CLOCK_REALTIME)
}

/// Asks the kernel to stamp received datagrams (`CLOCK_REALTIME`).
pub fn stamp_received(socket: &impl AsRawFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: `on` lives through the call and its size is given.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    })
    .map(|_| ())
}

/// Receives without waiting: bytes, and when the kernel took the datagram in (now, if it
/// doesn't say).
pub fn receive_stamped(socket: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<(usize, u64)> {
    // Aligned as control messages must be; a timespec needs 32 bytes.
    let mut control = [0_u64; 16];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeros is a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: all that `message` points to lives through the call and has the size it says.
    let received =
        unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let Ok(bytes) = usize::try_from(received) else {
        return Err(io::Error::last_os_error());
    };
    // SAFETY: the macros walk the control messages that the kernel has written into `control`;
    // the time is read unaligned.
    let stamp = unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        let mut stamp = None;
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET
                && (*header).cmsg_type == libc::SCM_TIMESTAMPNS
            {
                stamp = Some(libc::CMSG_DATA(header).cast::<libc::timespec>().read_unaligned());
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
        stamp
    };
    let at_ns = stamp.map_or_else(realtime_ns, |time| {
        u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
            + u64::try_from(time.tv_nsec).unwrap_or(0)
    });
    Ok((bytes, at_ns))
}

/// Lets the calling thread go before ordinary work, as far as that is allowed: a packet that
/// waits for the processor is a gap that a caller hears.
pub fn hurry() {
    static SAID: Once = Once::new();
    let parameter = libc::sched_param { sched_priority: SCHED_RR_PRIORITY };
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // SAFETY: `parameter` lives through the call; 0 is the calling thread.
    let scheduled = check(unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) });
    let Err(refused) = scheduled else {
        SAID.call_once(|| tracing::info!("media threads run under SCHED_RR"));
        return;
    };
    // SAFETY: no pointers are passed; 0 is the calling thread.
    let niced = check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) });
    SAID.call_once(|| match niced {
        Ok(_) => tracing::info!(%refused, nice = NICE, "media threads run niced, not SCHED_RR"),
        Err(error) => tracing::warn!(
            %refused, %error,
            "media threads have no priority: grant CAP_SYS_NICE, or load will be heard"
        ),
    });
}

/// Has the kernel begin to write a file out. `fdatasync` is what waits for it and makes it count, so
/// that a failure here costs time and nothing else.
pub fn begin_writing(file: &impl AsRawFd) {
    // SAFETY: no pointers are passed; the descriptor is open for as long as the borrow lasts.
    unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}
