//! Digest answers: those of the RFCs, ours, and those that prove nothing.

use crate::digest::{self, Algorithm, Authorization, Error};

/// RFC 7616 §3.9.1, with either algorithm.
fn of_the_rfc(algorithm: &str, response: &str) -> Authorization {
    let value = format!(
        "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", uri=\"/dir/index.html\", \
         algorithm={algorithm}, nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
         nc=00000001, cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth, \
         response=\"{response}\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
    );
    Authorization::parse(&value).unwrap()
}

#[test]
fn answers_of_rfc_7616_are_verified() {
    for (algorithm, response) in [
        (Algorithm::Md5, "8ca523f5e9506fed4657c9700eebdbec"),
        (Algorithm::Sha256, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ] {
        let ha1 = digest::ha1_with(algorithm, "Mufasa", "http-auth@example.org", "Circle of Life");
        let authorization = of_the_rfc(algorithm.name(), response);
        assert!(digest::verify("GET", &ha1, &authorization), "{algorithm:?}");
        assert!(!digest::verify("PUT", &ha1, &authorization), "{algorithm:?}");
        for name in ["MD5", "SHA-256", "MD5-sess", "none"] {
            if name != algorithm.name() {
                let claimed = of_the_rfc(name, response);
                assert!(!digest::verify("GET", &ha1, &claimed), "{algorithm:?} as {name}");
            }
        }
    }
}

#[test]
fn answer_to_either_challenge_is_verified() {
    for algorithm in [Algorithm::Md5, Algorithm::Sha256] {
        let challenge = digest::challenge_with(algorithm, "demo", "n", true);
        assert!(challenge.ends_with(", stale=true"));
        let value = digest::answer(&challenge, "1001", "secret", "REGISTER", "sip:x", "c").unwrap();
        let authorization = Authorization::parse(&value).unwrap();
        let ha1 = digest::ha1_with(algorithm, "1001", "demo", "secret");
        assert!(digest::verify("REGISTER", &ha1, &authorization));
    }
}

#[test]
fn answer_that_claims_more_than_it_shows_is_refused() {
    let ha1 = digest::ha1("u", "r", "p");
    let challenge = digest::challenge("r", "n", false);
    let whole =
        Authorization::parse(&digest::answer(&challenge, "u", "p", "BYE", "sip:x", "c").unwrap())
            .unwrap();
    assert!(digest::verify("BYE", &ha1, &whole));
    for spoiled in [
        Authorization { qop: Some("auth-int".into()), ..whole.clone() },
        Authorization { nc: None, ..whole.clone() },
        Authorization { qop: None, ..whole.clone() },
        Authorization { response: String::new(), ..whole.clone() },
        Authorization { response: whole.response[..31].into(), ..whole.clone() },
        Authorization { nonce: "m".into(), ..whole },
    ] {
        assert!(!digest::verify("BYE", &ha1, &spoiled), "{spoiled:?}");
    }
}

#[test]
fn header_that_is_no_digest_tells_why() {
    assert_eq!(Authorization::parse("Basic eA=="), Err(Error::Scheme));
    assert_eq!(Authorization::parse("Digest"), Err(Error::Scheme));
    assert_eq!(
        Authorization::parse("Digest username=\"a,b=c\", realm=\"r\""),
        Err(Error::Missing("nonce"))
    );
    let challenge = "Digest realm=\"r\", nonce=\"n\", algorithm=SHA-512-256";
    assert_eq!(
        digest::answer(challenge, "u", "p", "BYE", "sip:x", "c"),
        Err(Error::Algorithm("SHA-512-256".into()))
    );
}
