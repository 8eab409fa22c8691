//! A connection between two nodes that notices when the other one is gone.
//!
//! Frames are a kind, a length and content. Each side sends a sign of life now and then, whatever it
//! is busy with, so silence means that the process, its machine or the network is gone. A thread
//! reads all the time: a node that computes is never one that does not listen.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use super::error::ParallelError;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// A sign of life.
    Alive = b'a',
    /// A node that joins, and what it brings.
    Hello = b'h',
    /// Its place in the run.
    Welcome = b'w',
    /// A part of the state that a run goes on from.
    State = b's',
    /// What a node has in a step.
    Gradients = b'g',
    /// What all nodes have together.
    Sum = b'+',
    /// The run has come to its end, for this reason.
    End = b'e',
    /// The sender cannot go on, for this reason.
    GiveUp = b'x',
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Alive,
        Self::Hello,
        Self::Welcome,
        Self::State,
        Self::Gradients,
        Self::Sum,
        Self::End,
        Self::GiveUp,
    ];
}

/// A message.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) content: Vec<u8>,
}

/// Signs of life in the time after which silence means loss.
const SIGNS: u32 = 4;

/// The other node, as long as it lives.
#[derive(Debug)]
pub(super) struct Connection {
    /// What the other node is called in messages.
    pub(super) node: String,
    stream: Arc<Mutex<TcpStream>>,
    frames: Receiver<io::Result<Frame>>,
    silence: Duration,
}

impl Connection {
    /// Begins to listen and to send signs of life. Silence for so long is loss.
    pub(super) fn new(stream: TcpStream, node: String, silence: Duration) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(silence))?;
        stream.set_write_timeout(Some(silence))?;
        let reader = stream.try_clone()?;
        let stream = Arc::new(Mutex::new(stream));
        let (sender, frames) = channel();
        thread::spawn(move || listen(reader, &sender));
        let alive = Arc::downgrade(&stream);
        thread::spawn(move || show_life(&alive, silence / SIGNS));
        Ok(Self {
            node,
            stream,
            frames,
            silence,
        })
    }

    /// Sends a frame.
    pub(super) fn send(&self, kind: Kind, content: &[u8]) -> Result<(), ParallelError> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        write_frame(&mut stream, kind, content).map_err(|error| {
            // What the other one said before it left tells more than a broken pipe.
            drop(stream);
            self.last_words().unwrap_or_else(|| self.lost(&error))
        })
    }

    /// Waits for a frame of a kind.
    ///
    /// # Errors
    /// Any other frame, among them the end of the run.
    pub(super) fn receive(&self, kind: Kind) -> Result<Frame, ParallelError> {
        let frame = match self.frames.recv() {
            Ok(Ok(frame)) => frame,
            Ok(Err(error)) => return Err(self.lost(&error)),
            Err(_) => return Err(self.lost(&io::ErrorKind::NotConnected.into())),
        };
        match frame.kind {
            Kind::GiveUp => Err(self.gave_up(&frame)),
            Kind::End => Err(ParallelError::Ended {
                reason: text(&frame),
            }),
            found if found == kind => Ok(frame),
            found => Err(self.protocol(format!("it sent {found:?} where {kind:?} was due"))),
        }
    }

    /// Sends the last frame and waits until the other one has left too, so that it is not lost on the
    /// way.
    pub(super) fn close(self, kind: Kind, content: &[u8]) {
        if self.send(kind, content).is_err() {
            return;
        }
        if let Ok(stream) = self.stream.lock() {
            stream.shutdown(Shutdown::Write).ok();
        }
        while let Ok(Ok(_)) = self.frames.recv_timeout(self.silence) {}
    }

    /// Something that this version does not send.
    pub(super) fn protocol(&self, reason: impl Into<String>) -> ParallelError {
        ParallelError::Protocol {
            node: self.node.clone(),
            reason: reason.into(),
        }
    }

    fn last_words(&self) -> Option<ParallelError> {
        let mut frames = std::iter::from_fn(|| self.frames.recv_timeout(self.silence).ok()?.ok());
        let frame = frames.find(|frame| frame.kind == Kind::GiveUp)?;
        Some(self.gave_up(&frame))
    }

    fn gave_up(&self, frame: &Frame) -> ParallelError {
        ParallelError::GaveUp {
            node: self.node.clone(),
            reason: text(frame),
        }
    }

    fn lost(&self, error: &io::Error) -> ParallelError {
        let reason = match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::NotConnected
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => "it closed the connection".to_owned(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                format!("no sign of life in {:.0?}", self.silence)
            }
            _ => error.to_string(),
        };
        ParallelError::Lost {
            node: self.node.clone(),
            reason,
        }
    }
}

impl Drop for Connection {
    /// Ends both threads.
    fn drop(&mut self) {
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        stream.shutdown(Shutdown::Both).ok();
    }
}

fn text(frame: &Frame) -> String {
    String::from_utf8_lossy(&frame.content).into_owned()
}

fn write_frame(stream: &mut TcpStream, kind: Kind, content: &[u8]) -> io::Result<()> {
    let mut head = [kind as u8; 9];
    head[1..].copy_from_slice(&(content.len() as u64).to_le_bytes());
    stream.write_all(&head)?;
    stream.write_all(content)
}

fn read_frame(stream: &mut TcpStream) -> io::Result<Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head)?;
    let [kind, length @ ..] = head;
    let kind = Kind::ALL.into_iter().find(|known| *known as u8 == kind);
    let kind = kind.ok_or_else(|| io::Error::other("it speaks another language"))?;
    let length = u64::from_le_bytes(length);
    let mut content = Vec::new();
    // Grows as content comes: a wrong length costs no memory.
    if stream.take(length).read_to_end(&mut content)? as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Frame { kind, content })
}

/// Reads until the end, for somebody or nobody.
fn listen(mut stream: TcpStream, frames: &Sender<io::Result<Frame>>) {
    loop {
        let frame = read_frame(&mut stream);
        let is_last = frame.is_err();
        let is_sign = matches!(&frame, Ok(frame) if frame.kind == Kind::Alive);
        if !is_sign && frames.send(frame).is_err() || is_last {
            return;
        }
    }
}

/// Sends signs of life as long as the connection is there.
fn show_life(stream: &Weak<Mutex<TcpStream>>, pause: Duration) {
    loop {
        thread::sleep(pause);
        let Some(stream) = stream.upgrade() else {
            return;
        };
        let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
        if write_frame(&mut stream, Kind::Alive, &[]).is_err() {
            return; // Whoever waits for a frame is told by the thread that reads.
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Both ends; the second one raw.
    fn pair(silence: Duration) -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let connection = Connection::new(stream, "node 1".to_owned(), silence).unwrap();
        (connection, other)
    }

    fn connected() -> (Connection, Connection) {
        let silence = Duration::from_secs(20);
        let (here, there) = pair(silence);
        let there = Connection::new(there, "node 0".to_owned(), silence).unwrap();
        (here, there)
    }

    #[test]
    fn frames_arrive_whole_and_in_order_between_signs_of_life() {
        // Longer than the silence that would be loss.
        let silence = Duration::from_millis(200);
        let (here, there) = pair(silence);
        let there = Connection::new(there, "node 0".to_owned(), silence).unwrap();
        let large: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        here.send(Kind::State, &large).unwrap();
        thread::sleep(2 * silence);
        here.send(Kind::Sum, &[]).unwrap();
        assert_eq!(there.receive(Kind::State).unwrap().content, large);
        assert!(there.receive(Kind::Sum).unwrap().content.is_empty());
    }

    #[test]
    fn leaving_silence_and_nonsense_are_told_apart() {
        let message = |(connection, other): (Connection, TcpStream), says: &[u8], stays| {
            let mut other = other;
            other.write_all(says).unwrap();
            let _kept = Some(other).filter(|_| stays);
            connection.receive(Kind::Hello).unwrap_err().to_string()
        };
        let short = || pair(Duration::from_millis(100));
        let left = message(short(), b"", false);
        assert_eq!(left, "node 1 is lost: it closed the connection");
        let half = message(short(), b"h\x05\0\0\0\0\0\0\0abc", false);
        assert_eq!(half, left);
        let silent = message(short(), b"", true);
        assert_eq!(silent, "node 1 is lost: no sign of life in 100ms");
        let nonsense = message(short(), b"GET / HTTP/1.1\r\n\r\n", true);
        assert_eq!(nonsense, "node 1 is lost: it speaks another language");
    }

    #[test]
    fn last_words_are_heard() {
        let (here, there) = connected();
        let closing = thread::spawn(move || there.close(Kind::GiveUp, b"the disk is full"));
        let error = here.receive(Kind::Gradients).unwrap_err();
        assert_eq!(error.to_string(), "node 1 gave up: the disk is full");
        drop(here);
        closing.join().unwrap();
    }

    #[test]
    fn what_is_not_due_is_refused() {
        let (here, there) = connected();
        there.send(Kind::Welcome, &[]).unwrap();
        let error = here.receive(Kind::Gradients).unwrap_err();
        assert!(matches!(error, ParallelError::Protocol { .. }), "{error}");
    }
}
