//! One thread that talks and listens for all endpoints of a process.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use super::listening::Listening;
use super::talking::{PACKET_BYTES, Talking};
use super::{Endpoint, Error};
use crate::limits::DATAGRAM_BYTES_MAX;
use crate::srtp::Armour;
use crate::sys::{self, Epoll, Ready, Ticker, Waker};
use crate::tones::{self, Loop};

/// Endpoints take turns within 20 ms, so that a hundred don't all send at the same moment.
const PHASES: usize = 4;
const TICK: Duration = Duration::from_millis(20 / PHASES as u64);
/// Ticks made up for after the thread was held up.
const CATCH_UP_TICKS_MAX: u64 = 40;
const READY_MAX: usize = 256;
const TONES_MAX: usize = 256;
const TONE_LEVEL: f64 = 8000.0;
const TAG_WAKER: u64 = u64::MAX;
const TAG_TICKER: u64 = u64::MAX - 1;

/// Endpoints may outlive it, but are deaf and dumb then.
pub struct EndpointPool {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

pub struct Shared {
    epoll: Epoll,
    waker: Waker,
    ticker: Ticker,
    lines: Mutex<Vec<Option<Arc<Line>>>>,
    tones: Mutex<HashMap<u32, Arc<Loop>>>,
    next_ssrc: AtomicU32,
    stopped: AtomicBool,
}

pub struct Line {
    pub address: SocketAddr,
    socket: UdpSocket,
    pub state: Mutex<State>,
}

pub struct State {
    pub talking: Talking,
    pub listening: Listening,
    pub armour: Armour,
}

impl EndpointPool {
    /// # Errors
    /// The system has no descriptor or thread for it.
    pub fn start() -> Result<Self, Error> {
        let shared = Arc::new(Shared::new().map_err(Error::Thread)?);
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("rtp-endpoints".into())
            .spawn(move || run(&of_thread))
            .map_err(Error::Thread)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// An endpoint on a free port.
    ///
    /// # Errors
    /// No socket can be bound there.
    pub fn open(&self, ip: IpAddr) -> Result<Endpoint, Error> {
        let refused = |error| Error::Open { address: ip, error };
        let (line, at) = self.shared.open(ip).map_err(refused)?;
        Ok(Endpoint { shared: Arc::clone(&self.shared), line, at })
    }
}

impl Drop for EndpointPool {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Relaxed);
        self.shared.waker.wake();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the endpoints' thread has panicked");
        }
    }
}

impl Shared {
    fn new() -> io::Result<Self> {
        let shared = Self {
            epoll: Epoll::new()?,
            waker: Waker::new()?,
            ticker: Ticker::new()?,
            lines: Mutex::default(),
            tones: Mutex::default(),
            // The clock is seed enough: SSRCs of one process differ by construction.
            next_ssrc: AtomicU32::new(sys::realtime_ns() as u32),
            stopped: AtomicBool::new(false),
        };
        shared.epoll.add(&shared.waker, TAG_WAKER)?;
        shared.epoll.add(&shared.ticker, TAG_TICKER)?;
        shared.ticker.set(TICK)?;
        Ok(shared)
    }

    fn open(&self, ip: IpAddr) -> io::Result<(Arc<Line>, usize)> {
        let socket = UdpSocket::bind((ip, 0))?;
        socket.set_nonblocking(true)?;
        sys::stamp_received(&socket)?;
        // An odd step that visits all numbers, spread wide.
        let ssrc = self.next_ssrc.fetch_add(0x9e37_79b1, Relaxed);
        let line = Arc::new(Line {
            address: socket.local_addr()?,
            socket,
            state: Mutex::new(State {
                talking: Talking::new(ssrc),
                listening: Listening::new(),
                armour: Armour::Clear,
            }),
        });
        let mut lines = self.lines.lock();
        let at = lines.iter().position(Option::is_none).unwrap_or(lines.len());
        self.epoll.add(&line.socket, at as u64)?;
        let entry = Some(Arc::clone(&line));
        match lines.get_mut(at) {
            Some(free) => *free = entry,
            None => lines.push(entry),
        }
        Ok((line, at))
    }

    pub fn close(&self, at: usize) {
        let mut lines = self.lines.lock();
        if let Some(line) = lines.get_mut(at).and_then(Option::take) {
            // Closing the socket removes it all the same.
            let _ = self.epoll.remove(&line.socket);
        }
    }

    pub fn tone(&self, hz: u32) -> Arc<Loop> {
        let mut tones = self.tones.lock();
        if tones.len() >= TONES_MAX {
            tones.clear();
        }
        let made = tones.entry(hz).or_insert_with(|| Arc::new(tones::sine(hz, TONE_LEVEL)));
        Arc::clone(made)
    }
}

fn run(shared: &Shared) {
    sys::hurry();
    let mut ready = Ready::with_capacity(READY_MAX);
    let mut phase = 0;
    while !shared.stopped.load(Relaxed) {
        if let Err(error) = shared.epoll.wait(&mut ready) {
            tracing::error!(%error, "the endpoints' thread ends");
            return;
        }
        let lines = shared.lines.lock();
        for at in 0..ready.len() {
            match ready.tag(at) {
                TAG_WAKER => shared.waker.clear(),
                TAG_TICKER => {
                    for _ in 0..shared.ticker.take().min(CATCH_UP_TICKS_MAX) {
                        phase = (phase + 1) % PHASES;
                        talk(&lines, phase);
                    }
                }
                tag => {
                    if let Some(line) = lines.get(tag as usize).and_then(Option::as_ref) {
                        listen(line);
                    }
                }
            }
        }
    }
}

fn talk(lines: &[Option<Arc<Line>>], phase: usize) {
    let mut packet = [0; PACKET_BYTES];
    for line in lines.iter().skip(phase).step_by(PHASES).flatten() {
        let State { talking, armour, .. } = &mut *line.state.lock();
        let next = talking.next(sys::realtime_ns(), &mut packet);
        if let Some((bytes, remote)) = next
            && let Ok(sealed) = armour.seal(&packet[..bytes])
        {
            // What the kernel doesn't take shows as loss where it is measured.
            let _ = line.socket.send_to(sealed, remote);
        }
    }
}

fn listen(line: &Line) {
    let mut datagram = [0; DATAGRAM_BYTES_MAX];
    if let Ok((bytes, at_ns)) = sys::receive_stamped(&line.socket, &mut datagram) {
        let State { listening, armour, .. } = &mut *line.state.lock();
        match armour.open(&mut datagram, bytes.min(DATAGRAM_BYTES_MAX)) {
            Ok(bytes) => listening.on_datagram(&datagram[..bytes], at_ns),
            Err(_) => listening.on_unauthentic(),
        }
    }
}
