//! Messages out of a stream of bytes (RFC 3261 §18.3): sans-IO, and the same whatever pieces the
//! bytes come in.

use bytes::{Buf, Bytes, BytesMut};
use tandem_sip::{MESSAGE_BYTES_MAX, ParseErrorKind, body_length};

/// What stands next in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A whole message: for the parser.
    Message(Bytes),
    /// An empty line twice: it asks for one (RFC 5626 §4.4.1).
    KeepAlive,
}

/// Where the next message begins is not known: the stream is of no more use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    pub why: Why,
    /// The start line and header of the message that broke it, where they were whole.
    pub head: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    #[error("no SIP message begins like that")]
    NoMessage,
    #[error("Content-Length is missing")]
    NoLength,
    #[error("{0}")]
    BadLength(ParseErrorKind),
    #[error("the message is longer than {MESSAGE_BYTES_MAX} bytes")]
    TooLong,
}

/// Holds what was read and is no whole message yet: at most one message and one read.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: BytesMut,
    /// Bytes of the buffer in which no header ends.
    searched: usize,
    /// Bytes of header and body of the message that stands first, once its header is whole.
    needed: Option<usize>,
}

impl Framer {
    /// Where the next bytes are put.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// A message has begun and is not whole. Empty lines are none.
    pub fn is_within_message(&self) -> bool {
        self.needed.is_some() || self.buffer.iter().any(|byte| !matches!(byte, b'\r' | b'\n'))
    }

    /// The next frame; `None` until more bytes are there.
    ///
    /// # Errors
    /// Where none can follow any more.
    pub fn poll(&mut self) -> Result<Option<Frame>, Broken> {
        if self.needed.is_none() {
            if self.take_empty_lines() {
                return Ok(Some(Frame::KeepAlive));
            }
            match self.buffer.first() {
                None | Some(b'\r' | b'\n') => return Ok(None),
                Some(byte) if !begins_message(*byte) => return self.broken(Why::NoMessage, 0),
                Some(_) => {}
            }
            let Some(head) = self.find_head() else {
                if self.buffer.len() > MESSAGE_BYTES_MAX {
                    return self.broken(Why::TooLong, 0);
                }
                return Ok(None);
            };
            if head > MESSAGE_BYTES_MAX {
                return self.broken(Why::TooLong, 0);
            }
            let body = match body_length(&self.buffer[..head]) {
                Ok(Some(body)) => body,
                Ok(None) => return self.broken(Why::NoLength, head),
                Err(kind) => return self.broken(Why::BadLength(kind), head),
            };
            match head.checked_add(body) {
                Some(whole) if whole <= MESSAGE_BYTES_MAX => self.needed = Some(whole),
                Some(_) | None => return self.broken(Why::TooLong, head),
            }
        }
        match self.needed {
            Some(whole) if self.buffer.len() >= whole => {
                (self.needed, self.searched) = (None, 0);
                Ok(Some(Frame::Message(self.buffer.split_to(whole).freeze())))
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Passes over empty lines before a message; true where they are a keep-alive. One that may
    /// become one stays.
    fn take_empty_lines(&mut self) -> bool {
        const TWICE: &[u8] = b"\r\n\r\n";
        loop {
            if self.buffer.starts_with(TWICE) {
                self.buffer.advance(TWICE.len());
                return true;
            }
            let skip = match self.buffer.as_ref() {
                // The answer to a keep-alive of ours, or a line too many behind a message.
                [b'\r', b'\n', next, ..] if *next != b'\r' => 2,
                [b'\r', b'\n', b'\r', next, ..] if *next != b'\n' => 2,
                [b'\n', ..] => 1,
                [b'\r', next, ..] if *next != b'\n' => 1,
                _ => return false,
            };
            self.buffer.advance(skip);
        }
    }

    /// Bytes up to the first empty line and with it, as the parser sees it.
    fn find_head(&mut self) -> Option<usize> {
        let bytes = self.buffer.as_ref();
        let mut at = self.searched;
        while let Some(end) = bytes[at..].iter().position(|byte| *byte == b'\n') {
            let next = at + end + 1;
            let rest = &bytes[next..];
            if rest.first() == Some(&b'\n') {
                return Some(next + 1);
            }
            if rest.starts_with(b"\r\n") {
                return Some(next + 2);
            }
            if rest.len() < 2 {
                // What follows this line is not there yet.
                self.searched = next - 1;
                return None;
            }
            at = next;
        }
        self.searched = bytes.len();
        None
    }

    fn broken(&mut self, why: Why, head: usize) -> Result<Option<Frame>, Broken> {
        let head = self.buffer.split_to(head).freeze();
        self.buffer.clear();
        Err(Broken { why, head })
    }
}

/// A method and `SIP/2.0` are tokens (RFC 3261 §25.1): a handshake of TLS, or another protocol's
/// bytes, are none.
fn begins_message(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(body: &str) -> String {
        format!(
            "OPTIONS sip:x SIP/2.0\r\nCall-ID: c\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    /// All frames of the pieces, and whether and how the stream broke.
    fn frames<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> (Vec<Frame>, Option<Broken>) {
        let mut framer = Framer::default();
        let mut frames = Vec::new();
        for piece in pieces {
            framer.buffer().extend_from_slice(piece);
            loop {
                match framer.poll() {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(broken) => return (frames, Some(broken)),
                }
            }
        }
        (frames, None)
    }

    fn whole(text: &str) -> (Vec<Frame>, Option<Why>) {
        let (frames, broken) = frames([text.as_bytes()]);
        (frames, broken.map(|broken| broken.why))
    }

    fn framed(text: &str) -> Frame {
        Frame::Message(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn messages_of_one_segment_are_told_apart() {
        let (first, second) = (message("hello"), message(""));
        let stream = format!("\r\n{first}\r\n{second}\r\n\r\n\n{first}\r\n\r\n\r\n");
        let expected = vec![
            framed(&first),
            framed(&second),
            Frame::KeepAlive,
            framed(&first),
            Frame::KeepAlive,
        ];
        assert_eq!(whole(&stream), (expected, None));
    }

    #[test]
    fn length_is_read_as_the_parser_reads_it() {
        let text = "A b SIP/2.0\nl:\n 3\n\nabcX";
        assert_eq!(whole(text).0, [framed(&text[..text.len() - 1])]);
    }

    #[test]
    fn stream_is_broken_where_no_end_can_be_known() {
        let of = |length: &str| whole(&format!("A b SIP/2.0\r\n{length}\r\n\r\n")).1;
        assert_eq!(of("Call-ID: x"), Some(Why::NoLength));
        assert!(matches!(of("Content-Length: -1"), Some(Why::BadLength(_))));
        assert!(matches!(of("Content-Length: 1\r\nl: 1"), Some(Why::BadLength(_))));
        assert_eq!(of("Content-Length: 65535"), Some(Why::TooLong));
        assert_eq!(of("Content-Length: 18446744073709551615"), Some(Why::TooLong));
        assert_eq!(whole("\u{16}\u{3}\u{1}").1, Some(Why::NoMessage));
        assert_eq!(whole(&"x".repeat(MESSAGE_BYTES_MAX)), (Vec::new(), None));
        assert_eq!(whole(&"x".repeat(MESSAGE_BYTES_MAX + 1)).1, Some(Why::TooLong));
    }

    #[test]
    fn empty_lines_are_no_message_that_has_begun() {
        let mut framer = Framer::default();
        framer.buffer().extend_from_slice(b"\r\n\r");
        assert_eq!((framer.poll(), framer.is_within_message()), (Ok(None), false));
        framer.buffer().extend_from_slice(b"\nO");
        assert_eq!(framer.poll(), Ok(Some(Frame::KeepAlive)));
        assert_eq!((framer.poll(), framer.is_within_message()), (Ok(None), true));
    }

    /// What peers send, and what nobody should.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            6 => "[a-z\r\n]{0,40}".prop_map(|body| message(&body).into_bytes()),
            3 => Just(b"\r\n\r\n".to_vec()),
            2 => Just(b"\r\n".to_vec()),
            1 => Just(b"\n".to_vec()),
            1 => Just(b"\r".to_vec()),
            1 => Just(b"A b SIP/2.0\n l: 1\nl :\n 2\n\r\nxy".to_vec()),
            1 => Just(b"A b SIP/2.0\r\n\r\n".to_vec()),
            1 => proptest::collection::vec(any::<u8>(), 0..8),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_frames(
            stream in stream(),
            mut cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let expected = frames([stream.as_slice()]);
            prop_assert_eq!(&frames(stream.chunks(1)), &expected);
            let mut at: Vec<usize> = cuts.drain(..).map(|cut| cut.index(stream.len() + 1)).collect();
            at.sort_unstable();
            let mut rest = stream.as_slice();
            let mut pieces = Vec::new();
            let mut before = 0;
            for cut in at {
                let (piece, behind) = rest.split_at(cut - before);
                pieces.push(piece);
                (rest, before) = (behind, cut);
            }
            pieces.push(rest);
            prop_assert_eq!(&frames(pieces), &expected);
        }

        /// What the framer cuts out, the parser reads to its end: nothing hides behind it.
        #[test]
        fn frame_ends_where_the_parser_says(stream in stream()) {
            for frame in frames([stream.as_slice()]).0 {
                let Frame::Message(bytes) = frame else { continue };
                if let Err(error) = tandem_sip::parse(&bytes) {
                    let short = matches!(error.kind, ParseErrorKind::ContentLength { .. });
                    prop_assert!(!short, "{error}");
                }
            }
        }
    }
}
