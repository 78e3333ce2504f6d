//! The messages of RFC 4475 and RFC 5118, as files: what the parser makes of each. What the
//! gateway makes of it is `gateway/control`'s test; both read `torture/expectations.txt`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::sdp::{Audio, Codec};
use crate::transaction::Key;
use crate::uri::Scheme;
use crate::{
    Message, Method, ParseErrorKind, Request, Response, Transport, parse, response_destination,
};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("torture")
}

/// Each message with what the table expects of the parser.
fn table() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(folder().join("expectations.txt")).unwrap();
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let mut words = line.split_whitespace().map(str::to_owned);
            let name = words.next().expect("a name");
            let _section = words.next().expect("a section");
            (name, words.next().expect("what the parser does"))
        })
        .collect()
}

/// The bytes as they go by wire.
fn bytes(name: &str) -> Vec<u8> {
    let path = folder().join(format!("{name}.dat"));
    let archived = std::fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    if name.starts_with("rfc5118/") { made_whole(&archived) } else { archived }
}

/// The archive of RFC 5118 has bare line feeds, no empty line in two messages, and a
/// Content-Length that fits no body of any line end.
fn made_whole(archived: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(archived).unwrap().replace('\n', "\r\n");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text.trim_end(), ""));
    let head: String = head
        .split("\r\n")
        .filter(|line| !line.starts_with("Content-Length"))
        .map(|line| format!("{line}\r\n"))
        .collect();
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn request(name: &str) -> Request {
    match parse(&bytes(name)) {
        Ok(Message::Request(request)) => request,
        other => panic!("{name} is no request: {other:?}"),
    }
}

fn response(name: &str) -> Response {
    match parse(&bytes(name)) {
        Ok(Message::Response(response)) => response,
        other => panic!("{name} is no response: {other:?}"),
    }
}

/// What is wrong, and the phrase of the refusal.
fn refused(name: &str) -> (ParseErrorKind, Response) {
    let error = parse(&bytes(name)).expect_err(name);
    (error.kind, *error.answerable.expect(name))
}

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn each_message_is_read_or_refused_as_the_rfc_says() {
    let table = table();
    assert_eq!(table.iter().filter(|(name, _)| name.starts_with("rfc4475/")).count(), 49);
    assert_eq!(table.iter().filter(|(name, _)| name.starts_with("rfc5118/")).count(), 12);
    for (name, expected) in &table {
        let found = match parse(&bytes(name)) {
            Ok(message) => {
                assert_eq!(parse(&message.to_bytes()), Ok(message), "{name} is not written back");
                "read".to_owned()
            }
            Err(error) => match error.answerable {
                Some(response) => {
                    let again = parse(&response.to_bytes());
                    assert_eq!(again, Ok(Message::Response((*response).clone())), "{name}");
                    assert!(response.reason.contains(&error.kind.to_string()), "{name}: why");
                    response.status.to_string()
                }
                None => "dropped".to_owned(),
            },
        };
        assert_eq!(found, *expected, "{name}");
    }
}

#[test]
fn table_has_each_file_and_each_file_a_line() {
    let names: BTreeSet<String> = table().into_iter().map(|(name, _)| name).collect();
    let mut files = BTreeSet::new();
    for rfc in ["rfc4475", "rfc5118"] {
        for entry in std::fs::read_dir(folder().join(rfc)).unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            files.insert(format!("{rfc}/{}", file.strip_suffix(".dat").expect("a .dat file")));
        }
    }
    assert_eq!(files, names);
}

#[test]
fn each_message_is_survived_however_it_is_cut() {
    for (name, _) in table() {
        let whole = bytes(&name);
        for end in 0..whole.len() {
            let _ = parse(&whole[..end]);
        }
    }
}

/// §3.1.1.1
#[test]
fn tortuous_invite_is_understood() {
    let invite = request("rfc4475/wsinv");
    assert_eq!(invite.uri.param("unknownparam"), Some(""));
    let headers = &invite.headers;
    assert_eq!(headers.to.uri.to_string(), "sip:vivekg@chair-dnrc.example.com");
    assert_eq!((headers.to_tag(), headers.from_tag()), (Some("1918181833n"), Some("98asjd8")));
    assert_eq!(headers.from.display.as_deref(), Some("J Rosenberg \\\""));
    assert_eq!((headers.max_forwards, headers.cseq.number), (Some(68), 9));
    assert_eq!(headers.cseq.method, Method::Invite);
    assert_eq!(headers.call_id, "wsinv.ndaksdj@192.0.2.1");
    let hops: Vec<_> =
        headers.via.iter().map(|via| (via.transport.as_str(), &*via.host, via.branch())).collect();
    assert_eq!(
        hops,
        [
            ("UDP", "192.0.2.2", Some("390skdjuw")),
            ("TCP", "spindle.example.com", Some("z9hG4bK9ikj8")),
            ("UDP", "192.168.255.111", Some("z9hG4bK30239")),
        ]
    );
    assert_eq!(headers.other("subject"), Some(""));
    assert_eq!(
        headers.other("NewFangledHeader"),
        Some("newfangled value continued newfangled value")
    );
    assert_eq!(headers.other("UnknownHeaderWithUnusualValue"), Some(";;,,;;,;"));
    assert_eq!(headers.route[0].uri.param("unknown-no-value"), Some(""));
    let contact = &headers.contact[0];
    assert_eq!(contact.display.as_deref(), Some("Quoted string \"\""));
    assert_eq!((contact.param("newparam"), contact.param("q")), (Some("newvalue"), Some("0.33")));
    let audio = Audio::parse(&invite.body).unwrap();
    assert_eq!(audio.remote(), Some("192.0.2.4:49217".parse().unwrap()));
    assert_eq!(audio.payloads[0].codec, Codec::Pcmu);
}

/// §3.1.1.2, §3.1.1.5, §3.1.1.6
#[test]
fn tokens_may_hold_odd_characters_and_percent_signs() {
    let odd = request("rfc4475/intmeth");
    let method = "!interesting-Method0123456789_*+`.%indeed'~";
    assert_eq!((odd.method.as_str(), odd.headers.cseq.method.as_str()), (method, method));
    let user = "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)";
    assert_eq!((odd.uri.user.as_deref(), &*odd.uri.host), (Some(user), "example.com"));
    assert_eq!(odd.headers.to.display.as_deref(), Some("BEL:\u{7} NUL:\0 DEL:\u{7f}"));
    assert_eq!(odd.headers.from.display.as_deref(), Some("token1~` token2'+_ token3*%!.-"));
    assert_eq!(odd.headers.from_tag(), Some("_token~1'+`*%!-."));
    assert_eq!(odd.headers.branch(), "z9hG4bK-.!%66*_+`'~");
    assert_eq!(odd.headers.other("extensionHeader-!.%*+_`'~"), Some("\u{feff}大停電"));

    let percent = request("rfc4475/esc02");
    assert_eq!(percent.method, Method::Other("RE%47IST%45R".into()));
    assert_eq!(percent.headers.to.display.as_deref(), Some("%Z%45"));
    assert_eq!(percent.headers.contact.len(), 2, "C%6Fntact is another header");
    assert_eq!(
        percent.headers.other("C%6Fntact"),
        Some("<sip:alias2@host2.example.com>"),
        "which is kept as it came"
    );

    let tight = request("rfc4475/lwsdisp").headers.from;
    assert_eq!(tight.display.as_deref(), Some("caller"));
    assert_eq!((&*tight.uri.host, tight.tag()), ("example.com", Some("323")));
}

/// §3.1.1.3, §3.1.1.4, §3.1.1.9
#[test]
fn escapes_and_semicolons_of_a_user_end_nothing() {
    let escaped = request("rfc4475/esc01");
    assert_eq!(escaped.uri.user.as_deref(), Some("sips%3Auser%40example.com"));
    assert_eq!((&escaped.uri.scheme, &*escaped.uri.host), (&Scheme::Sip, "example.net"));
    assert_eq!(escaped.headers.from.uri.user.as_deref(), Some("I%20have%20spaces"));
    assert_eq!(escaped.headers.contact[0].uri.param("n%61me"), Some("v%61lue%25%34%31"));
    assert_eq!(escaped.headers.content_type.as_deref(), Some("application/sdp"));

    let nulls = request("rfc4475/escnull").headers;
    assert_eq!(nulls.to.uri.user.as_deref(), Some("null-%00-null"));
    let users: Vec<_> = nulls.contact.iter().map(|it| it.uri.user.as_deref()).collect();
    assert_eq!(users, [Some("%00"), Some("%00%00")]);

    let semicolon = request("rfc4475/semiuri");
    assert_eq!(semicolon.uri.user.as_deref(), Some("user;par=u%40example.net"));
    assert!(semicolon.uri.params.is_empty());
    assert_eq!(
        semicolon.headers.other("Accept"),
        Some(
            "application/sdp, application/pkcs7-mime, multipart/mixed, multipart/signed, \
             message/sip, message/sipfrag"
        )
    );
}

/// §3.1.1.7, §3.1.1.10, §3.1.1.11
#[test]
fn long_values_unknown_transports_and_octets_are_kept() {
    let long = request("rfc4475/longreq");
    assert_eq!(long.headers.via.len(), 34);
    assert_eq!((&*long.headers.via[0].host, long.headers.branch()), ("sip33.example.com", ""));
    assert!(long.headers.call_id.len() > 140);
    assert_eq!(long.headers.to.param("longparamnamenamenamenamenamenamenamenamenamenamenamenamenamenamenamenamenamenamenamenamenamenamenamenamename"), None);
    assert_eq!(long.body.len(), 150);

    let transports: Vec<Transport> =
        request("rfc4475/transports").headers.via.into_iter().map(|via| via.transport).collect();
    let other = |name: &str| Transport::Other(name.into());
    assert_eq!(
        transports,
        [Transport::Udp, other("SCTP"), Transport::Tls, other("UNKNOWN"), Transport::Tcp]
    );

    let octets = request("rfc4475/mpart01");
    assert_eq!(octets.method, Method::Message);
    assert_eq!(octets.body.len(), 553);
    assert!(octets.body.windows(4).any(|bytes| bytes == b"0\x82\x01R"));
    assert_eq!(octets.to_bytes()[octets.to_bytes().len() - 553..], octets.body);
}

/// §3.1.1.8
#[test]
fn what_is_behind_the_first_message_is_no_part_of_it() {
    let register = request("rfc4475/dblreq");
    assert_eq!((register.method, register.body), (Method::Register, Vec::new()));
}

/// §3.1.1.12, §3.1.1.13, §3.3.10
#[test]
fn reasons_are_any_text_or_none() {
    let odd = response("rfc4475/unreason");
    assert_eq!(odd.status, 200);
    assert_eq!(odd.reason, "= 2**3 * 5**2 но сто девяносто девять - простое");
    let none = response("rfc4475/noreason");
    assert_eq!((none.status, none.reason.as_str()), (100, ""));
    assert_eq!(response("rfc4475/bcast").headers.via[1].host, "255.255.255.255");
}

/// §3.1.2, §3.3.1, §3.3.8, §3.3.9: the answer says what is wrong, and names the transaction even
/// where it can name nothing else.
#[test]
fn refusal_says_why() {
    let header = |name, value: &str| ParseErrorKind::Header { name, value: value.into() };
    for (name, kind) in [
        ("rfc4475/badinv01", header("Via", ";")),
        ("rfc4475/clerr", ParseErrorKind::ContentLength { said: 9_999, there: 154 }),
        ("rfc4475/ncl", header("Content-Length", "-999")),
        ("rfc4475/scalar02", header("CSeq", "36893488147419103232 REGISTER")),
        ("rfc4475/quotbal", header("To", "\"Mr. J. User <sip:j.user@example.com>")),
        ("rfc4475/ltgtruri", header("Request-URI", "<sip:user@example.com>")),
        ("rfc4475/lwsruri", header("Request-URI", "sip:user@example.com; lr")),
        (
            "rfc4475/regbadct",
            header("Contact", "sip:user@example.com?Route=%3Csip:sip.example.com%3E"),
        ),
        ("rfc4475/badvers", ParseErrorKind::Version("SIP/7.0".into())),
        (
            "rfc4475/mismatch01",
            ParseErrorKind::MethodMismatch { cseq: "INVITE".into(), line: "OPTIONS".into() },
        ),
        (
            "rfc4475/mismatch02",
            ParseErrorKind::MethodMismatch { cseq: "INVITE".into(), line: "NEWMETHOD".into() },
        ),
        ("rfc4475/insuf", ParseErrorKind::Missing("From")),
        ("rfc4475/multi01", ParseErrorKind::Twice("CSeq")),
        ("rfc4475/mcl01", ParseErrorKind::Twice("Content-Length")),
        ("rfc5118/ipv6-bad", header("Request-URI", "sip:2001:db8::10")),
    ] {
        let (found, response) = refused(name);
        assert_eq!(found, kind, "{name}");
        assert!(response.reason.ends_with(&format!("({kind})")), "{name}: {}", response.reason);
    }
    let (_, insufficient) = refused("rfc4475/insuf");
    assert_eq!(insufficient.headers.branch(), "z9hG4bKkdj.insuf");
    assert_eq!(insufficient.headers.cseq.number, 193_942);
    let (_, great) = refused("rfc4475/scalar02");
    assert_eq!(great.headers.branch(), "z9hG4bK342sdfoi3");
    assert_eq!(great.headers.cseq.to_string(), "0 REGISTER");
    assert_eq!(great.headers.call_id, "scalar02.23o0pd9vanlq3wnrlnewofjas9ui32");
    let (_, foreign) = refused("rfc4475/badvers");
    assert_eq!(foreign.headers.branch(), "z9hG4bKkdjuw");
}

/// §3.1.2.9 to §3.1.2.15: what may be ignored is.
#[test]
fn liberties_are_taken_where_the_rfc_allows() {
    assert_eq!(request("rfc4475/lwsstart").uri.to_string(), "sip:user@example.com");
    assert_eq!(request("rfc4475/trws").uri.to_string(), "sip:remote-target@example.com");
    let uri = request("rfc4475/escruri").uri;
    assert_eq!(uri.headers.as_deref(), Some("Route=%3Csip:example.com%3E"));
    let spaced = request("rfc4475/badaspec").headers.to;
    assert_eq!(spaced.uri.to_string(), "sip:t.watson@example.org");
    assert_eq!(spaced.display.as_deref(), Some("Watson, Thomas"));
    let comma = request("rfc4475/baddn").headers.from;
    assert_eq!(comma.display.as_deref(), Some("Bell, Alexander"));
    assert_eq!((&*comma.uri.host, comma.tag()), ("example.com", Some("43")));
}

/// §3.2.1, §3.4.1
#[test]
fn old_peers_name_no_transaction() {
    for name in ["rfc4475/badbranch", "rfc4475/inv2543", "rfc4475/longreq"] {
        assert_eq!(Key::of(&request(name)), None, "{name}");
    }
    let old = request("rfc4475/inv2543");
    assert_eq!((old.headers.max_forwards, old.headers.from_tag()), (None, None));
    assert_eq!(old.body.len(), 105);
}

/// §3.3.2 to §3.3.4, §3.3.12 to §3.3.14
#[test]
fn uris_of_other_schemes_are_kept_and_parameters_stand_where_they_belong() {
    let opaque = request("rfc4475/unkscm").uri;
    assert_eq!(opaque.scheme, Scheme::Other("nobodyKnowsThisScheme".into()));
    assert_eq!(opaque.to_string(), "nobodyKnowsThisScheme:totallyopaquecontent");
    let novel = request("rfc4475/novelsc").uri;
    assert_eq!(novel.to_string(), "soap.beep://192.0.2.103:3002");
    let schemes = request("rfc4475/unksm2").headers;
    assert_eq!(schemes.to.uri.to_string(), "isbn:2983792873");
    assert_eq!(schemes.from.uri.to_string(), "http://www.example.com");
    assert_eq!(schemes.contact[0].uri.to_string(), "name:John_Smith");

    let of_header = &request("rfc4475/cparam01").headers.contact[0];
    assert_eq!(of_header.param("unknownparam"), Some(""));
    assert!(of_header.uri.params.is_empty());
    let of_uri = &request("rfc4475/cparam02").headers.contact[0];
    assert_eq!(of_uri.uri.param("unknownparam"), Some(""));
    assert!(of_uri.params.is_empty());
    let escaped = &request("rfc4475/regescrt").headers.contact[0];
    assert_eq!(escaped.uri.headers.as_deref(), Some("Route=%3Csip:sip.example.com%3E"));
}

#[test]
fn ipv6_references_are_addresses() {
    let good = request("rfc5118/ipv6-good");
    assert_eq!((good.uri.ip(), good.uri.port), (ip("2001:db8::10"), None));
    assert_eq!(good.headers.contact[0].uri.ip(), ip("2001:db8::1"));
    let ambiguous = request("rfc5118/port-ambiguous").uri;
    assert_eq!((ambiguous.ip(), ambiguous.port), (ip("2001:db8::10:5070"), None));
    let unambiguous = request("rfc5118/port-unambiguous").uri;
    assert_eq!((unambiguous.ip(), unambiguous.port), (ip("2001:db8::10"), Some(5070)));
    for name in ["rfc5118/via-received-param-with-delim", "rfc5118/via-received-param-no-delim"] {
        let request = request(name);
        assert_eq!(request.headers.via[0].received(), ip("2001:db8::9:255"), "{name}");
        let answer = request.respond(200, None, None);
        let there = "[2001:db8::9:255]:5060".parse().unwrap();
        assert_eq!(response_destination(&answer), Some(there), "{name}");
    }
    let hops = request("rfc5118/mult-ip-in-header").headers.via;
    assert_eq!((&*hops[0].host, hops[0].port), ("[2001:db8::9:1]", Some(6050)));
    assert_eq!((&*hops[1].host, hops[2].received()), ("192.0.2.1", ip("192.0.2.200")));
    let mapped = request("rfc5118/ipv4-mapped-ipv6");
    assert_eq!(mapped.headers.via[0].sent_by(), "[::ffff:192.0.2.10]:19823");
    assert_eq!(mapped.headers.contact[0].uri.ip(), ip("::ffff:192.0.2.2"));
    for name in ["rfc5118/ipv6-bug-abnf-3-colons", "rfc5118/ipv6-correct-abnf-2-colons"] {
        assert_eq!(request(name).uri.ip(), ip("2001:db8::192.0.2.1"), "{name}");
    }
}

#[test]
fn ipv6_addresses_of_sdp_are_read() {
    for (name, address, payloads) in [
        ("rfc5118/ipv6-in-sdp", "2001:db8::20", 0),
        ("rfc5118/mult-ip-in-sdp", "192.0.2.1", 1),
        ("rfc5118/ipv4-mapped-ipv6", "::ffff:192.0.2.2", 0),
    ] {
        let audio = Audio::parse(&request(name).body).unwrap();
        assert_eq!((Some(audio.address), audio.payloads.len()), (ip(address), payloads), "{name}");
    }
}
