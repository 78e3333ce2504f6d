//! Messages spoiled on purpose: what networks, bad peers and enemies do to a datagram. The same
//! seed gives the same mutants. The tests of the gateway's control use this file.

/// Numbers without a source of randomness: the same in each run (SplitMix64).
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, max: usize) -> usize {
        usize::try_from(self.next() % max.max(1) as u64).unwrap_or(0)
    }

    pub fn one_of<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}

/// What a number may be that nobody expects.
const NUMBERS: [&str; 14] = [
    "",
    "-1",
    "+1",
    "0",
    "255",
    "256",
    "65535",
    "65536",
    "2147483648",
    "4294967296",
    "0x10",
    "1e9",
    "00000000000000000000000000000000001",
    "99999999999999999999999999999999999999",
];
const METHODS: [&str; 16] = [
    "INVITE",
    "ACK",
    "BYE",
    "CANCEL",
    "REGISTER",
    "OPTIONS",
    "PRACK",
    "UPDATE",
    "INFO",
    "REFER",
    "NOTIFY",
    "SUBSCRIBE",
    "MESSAGE",
    "PUBLISH",
    "invite",
    "NONSENSE",
];
const LINES: [&str; 20] = [
    "Require: 100rel, nothing",
    "Max-Forwards: 0",
    "Content-Encoding: gzip",
    "Content-Type: multipart/mixed;boundary=x",
    "Accept: text/plain",
    "Contact: *",
    "Contact: <sips:x@[::1]:99999;transport=tls>;expires=-5",
    "Route: <sip:127.0.0.1;lr>, <sip:[::1];lr>",
    "Record-Route: <sip:a>,<sip:b>,,<sip:c>",
    "Via: SIP/2.0/TLS evil.example:0;received=1.2.3.4;rport=70000;maddr=224.0.0.1",
    "v: SIP/3.0/UDP x",
    "Expires: 4294967296",
    "Authorization: Digest username=\"1001\", realm=\"demo.tandem\", nonce=\"\", uri=\"\", response=\"\"",
    "Authorization: Digest username=\"",
    "Subject",
    ": nothing",
    "Warning: 999 \"",
    "Session-Expires: 1;refresher=nobody",
    "Timestamp: 99999999999999999999.9",
    "User-Agent: \u{1}\u{7f}\u{202e}",
];

/// A spoiled copy; `other` is another message, to be crossed with.
pub fn mutant(numbers: &mut Numbers, message: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = message.to_vec();
    // Most have one fault only: what is spoiled twice is seldom read at all.
    for _ in 0..=numbers.below(6).saturating_sub(3) {
        let way = numbers.below(WAYS.len());
        WAYS[way](numbers, &mut bytes, other);
    }
    // What no datagram can hold is cut off.
    bytes.truncate(65_535);
    bytes
}

type Way = fn(&mut Numbers, &mut Vec<u8>, &[u8]);

const WAYS: [Way; 20] = [
    flip_bits,
    splice,
    drop_line,
    double_line,
    swap_lines,
    fold_line,
    other_number,
    other_number,
    insert_zeros,
    insert_no_text,
    other_length,
    cut,
    stretch,
    flood,
    other_method,
    other_method,
    other_line_ends,
    insert_separator,
    cross,
    insert_line,
];

#[expect(clippy::ptr_arg, reason = "it is one of many ways")]
fn flip_bits(numbers: &mut Numbers, bytes: &mut Vec<u8>, _: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    for _ in 0..=numbers.below(3) {
        let at = numbers.below(bytes.len());
        bytes[at] ^= 1 << numbers.below(8);
    }
}

fn splice(numbers: &mut Numbers, bytes: &mut Vec<u8>, _: &[u8]) {
    let at = numbers.below(bytes.len() + 1);
    let end = (at + numbers.below(30)).min(bytes.len());
    let with: Vec<u8> = (0..numbers.below(12)).map(|_| numbers.next().to_le_bytes()[0]).collect();
    bytes.splice(at..end, with);
}

/// The lines of the head, each with its end; then the body.
fn lines(bytes: &[u8]) -> (Vec<Vec<u8>>, Vec<u8>) {
    let end =
        bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(bytes.len(), |at| at + 2);
    let lines = bytes[..end].split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    (lines, bytes[end..].to_vec())
}

/// Does something to the lines behind the first.
fn with_lines(bytes: &mut Vec<u8>, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let (mut lines, body) = lines(bytes);
    if lines.len() > 1 {
        change(&mut lines);
        *bytes = lines.concat();
        bytes.extend_from_slice(&body);
    }
}

fn drop_line(numbers: &mut Numbers, bytes: &mut Vec<u8>, _: &[u8]) {
    with_lines(bytes, |lines| {
        lines.remove(numbers.below(lines.len()));
    });
}

fn double_line(numbers: &mut Numbers, bytes: &mut Vec<u8>, _: &[u8]) {
    with_lines(bytes, |lines| {
        let line = lines[numbers.below(lines.len())].clone();
        lines.insert(1 + numbers.below(lines.len()), line);
    });
}

fn swap_lines(numbers: &mut Numbers, bytes: &mut Vec<u8>, _: &[u8]) {
    with_lines(bytes, |lines| {
        let (a, b) = (numbers.below(lines.len()), numbers.below(lines.len()));
        lines.swap(a, b);
    });
}

fn fold_line(numbers: &mut Numbers, bytes: &mut Vec<u8>, _: &[u8]) {
    let at = numbers.below(bytes.len() + 1);
    let fold = numbers.one_of(&["\r\n ", "\r\n\t", "\n  ", "\r\n \r\n ", "\r "]);
    bytes.splice(at..at, fold.bytes());
}

/// A run of digits becomes another.
fn other_number(numbers: &mut Numbers, bytes: &mut Vec<u8>, _: &[u8]) {
    let mut runs = Vec::new();
    let mut start = None;
    for (at, byte) in bytes.iter().chain(b" ").enumerate() {
        match (byte.is_ascii_digit(), start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                runs.push(from..at);
                start = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }
    if runs.is_empty() {
        return;
    }
    let run = runs.swap_remove(numbers.below(runs.len()));
    bytes.splice(run, numbers.one_of(&NUMBERS).bytes());
}

fn insert_zeros(numbers: &mut Numbers, bytes: &mut Vec<u8>, _: &[u8]) {
    let at = numbers.below(bytes.len() + 1);
    let zeros = vec![0; 1 + numbers.below(4)];
    bytes.splice(at..at, zeros);
}

/// What is no UTF-8, or looks like something else than it is.
fn insert_no_text(numbers: &mut Numbers, bytes: &mut Vec<u8>, _: &[u8]) {
    let at = numbers.below(bytes.len() + 1);
    let with: &[u8] = numbers.one_of(&[
        b"\xff\xfe".as_slice(),
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xc0\xaf",
        b"\xf8\x88",
        b"Z\xfcrich",
        "\u{2028}".as_bytes(),
        "\u{85}".as_bytes(),
        "İ".as_bytes(),
    ]);
    bytes.splice(at..at, with.iter().copied());
}

fn other_length(numbers: &mut Numbers, bytes: &mut Vec<u8>, _: &[u8]) {
    let value = numbers.one_of(&NUMBERS);
    with_lines(bytes, |lines| {
        let is_length = |line: &Vec<u8>| {
            let line = line.to_ascii_lowercase();
            line.starts_with(b"content-length") || line.starts_with(b"l:")
        };
        let at = lines.iter().position(is_length).unwrap_or(lines.len() - 1);
        lines[at] = format!("Content-Length: {value}\r\n").into_bytes();
    });
}

fn cut(numbers: &mut Numbers, bytes: &mut Vec<u8>, _: &[u8]) {
    bytes.truncate(numbers.below(bytes.len() + 1));
}

/// A piece many times over.
fn stretch(numbers: &mut Numbers, bytes: &mut Vec<u8>, _: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let at = numbers.below(bytes.len());
    let end = (at + 1 + numbers.below(8)).min(bytes.len());
    let piece = bytes[at..end].repeat(1 + numbers.below(700));
    bytes.splice(at..end, piece);
}

/// One line so often that no limit allows it, or nearly so.
fn flood(numbers: &mut Numbers, bytes: &mut Vec<u8>, _: &[u8]) {
    let many = 1 + numbers.below(300);
    with_lines(bytes, |lines| {
        let at = 1 + numbers.below(lines.len() - 1);
        let line = lines[at].clone();
        lines.splice(at..at, std::iter::repeat_n(line, many));
    });
}

/// Another method, in the start line, the CSeq or both.
fn other_method(numbers: &mut Numbers, bytes: &mut Vec<u8>, _: &[u8]) {
    let method = numbers.one_of(&METHODS);
    let places = 1 + numbers.below(3);
    with_lines(bytes, |lines| {
        if places & 1 != 0
            && let Some(end) = lines[0].iter().position(|byte| *byte == b' ')
        {
            lines[0].splice(..end, method.bytes());
        }
        let cseq = lines.iter().position(|line| line.to_ascii_lowercase().starts_with(b"cseq:"));
        if let Some(at) = cseq.filter(|_| places & 2 != 0) {
            let number = 1 + numbers.below(3);
            lines[at] = format!("CSeq: {number} {method}\r\n").into_bytes();
        }
    });
}

fn other_line_ends(numbers: &mut Numbers, bytes: &mut Vec<u8>, _: &[u8]) {
    let with = numbers.one_of(&["\n", "\r", "\r\r\n", "\n\r", "\r\n\r\n"]);
    let often = 1 + numbers.below(4);
    let text: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let mut spoiled = Vec::with_capacity(bytes.len());
    for (at, line) in text.iter().enumerate() {
        spoiled.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        if at + 1 < text.len() {
            let end = if numbers.below(often) == 0 { with } else { "\r\n" };
            spoiled.extend_from_slice(end.as_bytes());
        }
    }
    *bytes = spoiled;
}

fn insert_separator(numbers: &mut Numbers, bytes: &mut Vec<u8>, _: &[u8]) {
    for _ in 0..=numbers.below(3) {
        let at = numbers.below(bytes.len() + 1);
        let with = numbers.one_of(&[
            "\"", "<", ">", ";", ",", "@", ":", "?", "\\", "%", "=", " ", "\t", "[", "]", "/", "*",
            ";tag=", ";;", ",,", "%00", "sip:", "<>", "\"\"", "\\\"",
        ]);
        bytes.splice(at..at, with.bytes());
    }
}

/// The head of one, the tail of another.
fn cross(numbers: &mut Numbers, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = numbers.below(bytes.len() + 1);
    bytes.truncate(at);
    bytes.extend_from_slice(&other[numbers.below(other.len() + 1)..]);
}

fn insert_line(numbers: &mut Numbers, bytes: &mut Vec<u8>, _: &[u8]) {
    let line = format!("{}\r\n", numbers.one_of(&LINES));
    with_lines(bytes, |lines| lines.insert(1 + numbers.below(lines.len()), line.into_bytes()));
}
