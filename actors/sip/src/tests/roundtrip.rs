//! What is written is read again as the same value, for values of every shape.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message as _;

use crate::message::{CSeq, Header, Headers, Message, Method, Request, Response, Transport, Via};
use crate::protobuf::Encode as _;
use crate::sdp::{Audio, Beside, Codec, Direction, Payload, Section};
use crate::srtp::{Crypto, Key, Suite};
use crate::uri::{NameAddr, Param, Scheme, Uri};
use crate::{parse, proto};

const TOKEN: &str = "[a-zA-Z0-9.!%*_+`'~-]{1,12}";

fn params() -> impl Strategy<Value = Vec<Param>> {
    let value = prop_oneof![Just("".to_owned()), TOKEN, Just("\"q;u,o<t>e\"".to_owned())];
    let param = (TOKEN, option::of(value)).prop_map(|(name, value)| Param { name, value });
    vec(param, 0..3)
}

fn uri_params() -> impl Strategy<Value = Vec<Param>> {
    let param = (TOKEN, option::of(TOKEN)).prop_map(|(name, value)| Param { name, value });
    vec(param, 0..3)
}

fn host() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z][a-z0-9-]{0,8}(\\.[a-z]{2,4})?",
        any::<std::net::Ipv4Addr>().prop_map(|ip| ip.to_string()),
        any::<std::net::Ipv6Addr>().prop_map(|ip| format!("[{ip}]")),
    ]
}

fn uri() -> impl Strategy<Value = Uri> {
    let sip = (
        prop_oneof![Just(Scheme::Sip), Just(Scheme::Sips)],
        option::of("[a-zA-Z0-9;?:&=+$,/%!~*'()_.-]{1,16}"),
        host(),
        option::of(any::<u16>()),
        uri_params(),
        option::of("[a-zA-Z0-9=&%_.-]{1,12}"),
    )
        .prop_map(|(scheme, user, host, port, params, headers)| Uri {
            scheme,
            user,
            host,
            port,
            params,
            headers,
        });
    let opaque = (
        prop_oneof![Just(Scheme::Tel), Just(Scheme::Other("urn".into()))],
        "[+a-z0-9][a-z0-9:;=-]{0,16}",
    )
        .prop_map(|(scheme, host)| Uri {
            scheme,
            user: None,
            host,
            port: None,
            params: Vec::new(),
            headers: None,
        });
    prop_oneof![4 => sip, 1 => opaque]
}

fn name_addr() -> impl Strategy<Value = NameAddr> {
    // Any character may stand in a quoted string but a line end.
    (option::of("[^\r\n]{0,12}"), uri(), params()).prop_map(|(display, uri, params)| NameAddr {
        display,
        uri,
        params,
    })
}

fn via() -> impl Strategy<Value = Via> {
    let transport = prop_oneof![
        Just(Transport::Udp),
        Just(Transport::Wss),
        Just(Transport::Other("SCTP".into()))
    ];
    (transport, host(), option::of(any::<u16>()), params())
        .prop_map(|(transport, host, port, params)| Via { transport, host, port, params })
}

fn method() -> impl Strategy<Value = Method> {
    prop_oneof![Just(Method::Invite), Just(Method::Bye), Just(Method::Other("x-ODD%".into()))]
}

fn headers() -> impl Strategy<Value = Headers> {
    let names =
        (vec(via(), 1..4), name_addr(), name_addr(), "[!-~]{1,20}", (0_u32..1 << 31, method()));
    let lists = (vec(name_addr(), 0..3), vec(name_addr(), 0..3), vec(name_addr(), 0..3));
    let other = ("X-[a-zA-Z0-9]{1,8}", "([!-~é]([ -~é]{0,16}[!-~é])?)?")
        .prop_map(|(name, value)| Header { name, value });
    let rest = (
        option::of(any::<u8>()),
        option::of(any::<u32>()),
        option::of(Just("application/sdp".to_owned())),
        vec(other, 0..4),
    );
    (names, lists, rest).prop_map(|(names, lists, rest)| {
        let (via, from, to, call_id, (number, method)) = names;
        let (contact, route, record_route) = lists;
        let (max_forwards, expires, content_type, other) = rest;
        Headers {
            via,
            from,
            to,
            call_id,
            cseq: CSeq { number, method },
            contact,
            route,
            record_route,
            max_forwards,
            expires,
            content_type,
            other,
        }
    })
}

fn message() -> impl Strategy<Value = Message> {
    let body = vec(any::<u8>(), 0..40);
    let request = (uri(), headers(), body.clone()).prop_map(|(uri, headers, body)| {
        let method = headers.cseq.method.clone();
        Message::Request(Request { method, uri, headers, body })
    });
    let response = (100_u16..700, "([!-~ü]([ -~ü]{0,16}[!-~ü])?)?", headers(), body).prop_map(
        |(status, reason, headers, body)| {
            Message::Response(Response { status, reason, headers, body })
        },
    );
    prop_oneof![request, response]
}

fn audio() -> impl Strategy<Value = Audio> {
    let codecs = prop_oneof![
        Just(vec![(0, Codec::Pcmu), (8, Codec::Pcma)]),
        Just(vec![(8, Codec::Pcma)]),
        Just(vec![(97, Codec::Pcmu)]),
        Just(vec![(96, Codec::Opus), (9, Codec::G722), (18, Codec::G729), (8, Codec::Pcma)]),
    ];
    let directions = prop_oneof![
        Just(Direction::SendRecv),
        Just(Direction::SendOnly),
        Just(Direction::RecvOnly),
        Just(Direction::Inactive)
    ];
    let fmtp = option::of("[!-~]([ -~]{0,60}[!-~])?");
    let events = (option::of(98_u8..=112), option::of(113_u8..=127));
    (
        // A section that nobody refused is taken before one that somebody did.
        (any::<std::net::IpAddr>(), 1..=u16::MAX, codecs, fmtp, events),
        (directions, 10_u16..100, any::<u64>(), any::<u64>()),
        (vec(crypto(), 0..3), any::<bool>(), vec(section(), 0..4), vec(section(), 0..4)),
    )
        .prop_map(
            |((address, port, codecs, fmtp, events), rest, (crypto, secure, before, after))| {
                let said = |codec| match codec {
                    Codec::Opus | Codec::G729 => fmtp.clone(),
                    Codec::Pcmu | Codec::Pcma | Codec::G722 => None,
                };
                let (direction, ptime_ms, session_id, session_version) = rest;
                Audio {
                    address,
                    port,
                    payloads: codecs
                        .into_iter()
                        .map(|(number, codec)| Payload { number, codec, fmtp: said(codec) })
                        .collect(),
                    telephone_event: events.0,
                    telephone_event_wide: events.1,
                    direction,
                    ptime_ms: Some(ptime_ms),
                    session_id,
                    session_version,
                    secure: secure && !crypto.is_empty(),
                    crypto,
                    beside: Beside { before, after },
                }
            },
        )
}

fn crypto() -> impl Strategy<Value = Crypto> {
    let suite = proptest::sample::select(Suite::ALL.to_vec());
    (1_u32..1_000, suite, any::<[u8; 8]>()).prop_map(|(tag, suite, secret)| Crypto {
        tag,
        suite,
        key: Key::derive(&secret, suite, b""),
    })
}

fn section() -> impl Strategy<Value = Section> {
    let media = "(video|application|image|audio)";
    let protocol = "(UDP/TLS/RTP/SAVPF|udptl|RTP/AVPF)";
    (media, protocol, "[0-9]{1,3}").prop_map(|(media, protocol, format)| Section {
        media,
        protocol,
        format,
    })
}

/// Pieces that parsers stumble over.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..6),
        prop_oneof![
            Just("\r\n"),
            Just("\n "),
            Just("\r"),
            Just("\r\n\r\n"),
            Just("\""),
            Just("\\"),
            Just("<"),
            Just(">"),
            Just(","),
            Just(";"),
            Just("@"),
            Just("?"),
            Just("="),
            Just(": "),
            Just("["),
            Just("]"),
            Just("\0"),
            Just("%"),
            Just("v: "),
            Just("m:*\r\n"),
            Just("99999999999999999999"),
            Just("+1"),
            Just("Content-Length: 3\r\n"),
            Just("é"),
        ]
        .prop_map(|text| text.as_bytes().to_vec()),
    ]
}

proptest! {
    #[test]
    fn message_is_read_as_it_was_written(message in message()) {
        let bytes = message.to_bytes();
        prop_assert_eq!(&bytes, &message.to_bytes());
        prop_assert_eq!(parse(&bytes), Ok(message));
    }

    #[test]
    fn uri_and_name_addr_are_read_as_they_were_written(uri in uri(), name in name_addr()) {
        prop_assert_eq!(uri.to_string().parse::<Uri>(), Ok(uri));
        prop_assert_eq!(name.to_string().parse::<NameAddr>(), Ok(name));
    }

    #[test]
    fn audio_is_read_as_it_was_written(audio in audio()) {
        prop_assert_eq!(Audio::parse(&audio.compose()), Ok(audio));
    }

    #[test]
    fn encoding_is_read_as_it_was_written(message in message(), audio in audio()) {
        // And it is what prost writes of the same message.
        macro_rules! check {
            ($value:expr, $plain:ty, $encoded:ty) => {{
                let bytes = $value.encoded();
                let read = <$encoded>::decode(bytes.as_slice()).expect("own encoding");
                prop_assert_eq!(read.encode_to_vec(), bytes);
                prop_assert_eq!(<$plain>::try_from(read), Ok($value));
            }};
        }
        check!(audio, Audio, proto::Audio);
        match message {
            Message::Request(request) => check!(request, Request, proto::Request),
            Message::Response(response) => check!(response, Response, proto::Response),
        }
    }

    /// Whatever a name holds: written out, it stays within its own line.
    #[test]
    fn no_value_smuggles_a_header_in(text in "[a\r\n :]{0,20}", message in message()) {
        let mut message = message;
        let headers = match &mut message {
            Message::Request(request) => &mut request.headers,
            Message::Response(response) => &mut response.headers,
        };
        let lines = |message: &Message| {
            let bytes = message.to_bytes();
            let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(0);
            bytes[..end].iter().filter(|byte| matches!(byte, b'\r' | b'\n')).count()
        };
        headers.push_other("X", "");
        headers.from.display = None;
        let plain = lines(&message);
        let headers = match &mut message {
            Message::Request(request) => &mut request.headers,
            Message::Response(response) => &mut response.headers,
        };
        headers.remove_other("X");
        headers.push_other("X", &text);
        headers.from.display = Some(text.clone());
        headers.call_id.push_str(&text);
        prop_assert_eq!(lines(&message), plain);
    }

    /// A damaged message is refused, or read and written back the same.
    #[test]
    fn damaged_message_is_survived(
        message in message(),
        damage in vec((any::<prop::sample::Index>(), 0..12_usize, fragment()), 1..4),
    ) {
        let mut bytes = message.to_bytes();
        for (at, cut, with) in damage {
            let at = at.index(bytes.len() + 1);
            let end = (at + cut).min(bytes.len());
            bytes.splice(at..end, with);
        }
        match parse(&bytes) {
            Ok(message) => prop_assert_eq!(parse(&message.to_bytes()), Ok(message)),
            Err(error) => {
                if let Some(response) = error.answerable {
                    let again = parse(&response.to_bytes());
                    prop_assert_eq!(again, Ok(Message::Response(*response)));
                }
            }
        }
    }
}
