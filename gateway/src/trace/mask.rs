//! What is never written down: what proves a password, keys of SRTP, keys that a caller pressed,
//! numbers of cards. Each byte of a secret becomes an `x`, so that lengths stay true.

const MASK: u8 = b'x';
/// Digits of a card's number (ISO/IEC 7812-1).
const CARD_DIGITS: std::ops::RangeInclusive<usize> = 13..=19;
/// Digits of a card's number that stay, at its end.
const CARD_DIGITS_SHOWN: usize = 4;

/// Headers whose value proves a password.
const PROOFS: [&[u8]; 3] = [b"authorization", b"proxy-authorization", b"authentication-info"];
/// Headers that name a dialog, a transaction or a way: digits in them are no card's.
const NAMES: [&[u8]; 12] = [
    b"via",
    b"v",
    b"from",
    b"f",
    b"to",
    b"t",
    b"call-id",
    b"i",
    b"contact",
    b"m",
    b"cseq",
    b"content-length",
];
/// Bodies that carry keys of a telephone (RFC 6086).
const KEYS: [&[u8]; 2] = [b"application/dtmf-relay", b"application/dtmf"];
/// What follows is a key (RFC 4568 §6.1, RFC 8839 §5.4).
const SDP_KEYS: [(&[u8], &[u8]); 2] = [(b"a=crypto:", b"inline:"), (b"a=ice-pwd:", b"a=ice-pwd:")];

/// A message of SIP without its secrets.
pub fn message(bytes: &[u8]) -> Vec<u8> {
    let mut masked = bytes.to_vec();
    let end = headers_end(bytes);
    let (headers, body) = masked.split_at_mut(end);
    let mut keys = false;
    // The value of a folded header goes on in the next line.
    let mut proof = false;
    for (at, line) in lines(headers).enumerate() {
        if at == 0 {
            cards(line);
            continue;
        }
        let folded = matches!(line.first(), Some(b' ' | b'\t'));
        let (name, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) if !folded => {
                let (name, value) = line.split_at_mut(colon + 1);
                (name[..colon].trim_ascii().to_ascii_lowercase(), value)
            }
            Some(_) | None => {
                if proof && folded {
                    fill(line);
                }
                continue;
            }
        };
        proof = PROOFS.contains(&name.as_slice());
        if proof {
            fill(value);
        } else if !NAMES.contains(&name.as_slice()) {
            cards(value);
        }
        if name == b"content-type" || name == b"c" {
            let kind = value.split(|byte| *byte == b';').next().unwrap_or_default();
            keys = KEYS.contains(&kind.trim_ascii().to_ascii_lowercase().as_slice());
        }
    }
    if keys {
        fill(body);
        return masked;
    }
    for line in lines(body) {
        let secret = SDP_KEYS.iter().find_map(|(begin, before)| {
            let at = line.starts_with(begin).then(|| find(line, before)).flatten()?;
            Some(at + before.len())
        });
        match secret {
            Some(at) => fill(&mut line[at..]),
            None => cards(line),
        }
    }
    masked
}

fn headers_end(bytes: &[u8]) -> usize {
    let ends: [&[u8]; 2] = [b"\r\n\r\n", b"\n\n"];
    let end = ends.into_iter().filter_map(|end| Some(find(bytes, end)? + end.len())).min();
    end.unwrap_or(bytes.len())
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|part| part == wanted)
}

fn lines(bytes: &mut [u8]) -> impl Iterator<Item = &mut [u8]> {
    bytes.split_mut(|byte| *byte == b'\n')
}

/// White space stays, so that the message reads as it did.
fn fill(bytes: &mut [u8]) {
    for byte in bytes.iter_mut().filter(|byte| !byte.is_ascii_whitespace()) {
        *byte = MASK;
    }
}

/// Runs of digits, with single spaces or dashes between them, that are a card's by the check digit
/// (Luhn, ISO/IEC 7812-1 annex B).
fn cards(bytes: &mut [u8]) {
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let places = run(bytes, at);
        at = places.last().copied().unwrap_or(at) + 1;
        let digits: Vec<u8> = places.iter().map(|place| bytes[*place] - b'0').collect();
        if CARD_DIGITS.contains(&digits.len()) && luhn(&digits) {
            for place in &places[..places.len() - CARD_DIGITS_SHOWN] {
                bytes[*place] = MASK;
            }
        }
    }
}

/// Where the digits of the run that begins at `from` stand.
fn run(bytes: &[u8], from: usize) -> Vec<usize> {
    let mut places = vec![from];
    let mut at = from + 1;
    while at < bytes.len() {
        if bytes[at].is_ascii_digit() {
            places.push(at);
            at += 1;
        } else if matches!(bytes[at], b' ' | b'-')
            && bytes.get(at + 1).is_some_and(u8::is_ascii_digit)
        {
            at += 1;
        } else {
            break;
        }
    }
    places
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| {
            let digit = u32::from(*digit);
            match (at % 2, digit) {
                (0, digit) => digit,
                (_, digit) if digit > 4 => 2 * digit - 9,
                (_, digit) => 2 * digit,
            }
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str) -> String {
        let bytes = message(text.as_bytes());
        assert_eq!(bytes.len(), text.len(), "lengths stay true");
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn password_proof_is_masked_also_where_it_is_folded() {
        let text = "REGISTER sip:a SIP/2.0\r\nCall-ID: 1\r\n\
                    Authorization: Digest username=\"1001\",\r\n response=\"0123abc\"\r\n\
                    User-Agent: phone\r\n\r\n";
        let seen = masked(text);
        assert!(!seen.contains("1001") && !seen.contains("0123abc"), "{seen}");
        assert!(seen.contains("Authorization:") && seen.contains("User-Agent: phone"), "{seen}");
    }

    #[test]
    fn srtp_keys_and_pressed_keys_are_masked() {
        let sdp = "INVITE sip:1@a SIP/2.0\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n\
                   a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwg\r\na=sendrecv\r\n";
        let seen = masked(sdp);
        assert!(!seen.contains("WVNf"), "{seen}");
        assert!(seen.contains("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:xxxx"), "{seen}");
        assert!(seen.contains("a=sendrecv"), "{seen}");
        let info = "INFO sip:1@a SIP/2.0\r\nc: application/dtmf-relay\r\n\r\nSignal=7\r\n";
        assert!(!masked(info).contains("Signal=7"));
    }

    #[test]
    fn card_numbers_are_masked_but_for_their_end_and_other_numbers_stay() {
        let text = "MESSAGE sip:4001@a SIP/2.0\r\nCall-ID: 4111111111111111\r\n\
                    Subject: 4111 1111 1111 1111\r\n\r\n\
                    card 5500-0000-0000-0004, order 4111111111111112, phone 13800138000";
        let seen = masked(text);
        assert!(seen.contains("Subject: xxxx xxxx xxxx 1111"), "{seen}");
        assert!(seen.contains("card xxxx-xxxx-xxxx-0004"), "{seen}");
        assert!(seen.contains("order 4111111111111112, phone 13800138000"), "{seen}");
        assert!(seen.contains("Call-ID: 4111111111111111"), "{seen}");
    }

    #[test]
    fn what_is_no_message_is_left_in_one_piece() {
        for junk in ["", "\n", "abc", "\r\n\r\n", "a:b\n\n4", ":::\n:::\n\n:::"] {
            assert_eq!(masked(junk).len(), junk.len());
        }
    }
}
