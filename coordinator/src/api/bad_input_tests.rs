//! What comes to the port of page and API that is no request of ours, or one of another site's page: an answer or the end of the connection,
//! nothing that is stored changes, and the next request is answered.

use super::contract_tests::{Ask, World, story};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Whoever is not answered within this is not answered at all. More than a request's head may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

impl World {
    /// Sends bytes, and gives what comes back until the other side has nothing more to say.
    async fn raw(&self, bytes: &[u8]) -> String {
        let stream = TcpStream::connect(self.at).await.unwrap();
        let (mut from, mut to) = stream.into_split();
        let sent = bytes.to_vec();
        let sending = tokio::task::spawn_local(async move {
            // Who is cut off has been answered.
            let _cut = to.write_all(&sent).await;
            let _cut = to.shutdown().await;
        });
        let mut said = Vec::new();
        // A reset is an end too.
        let ended = timeout(ANSWER_TIMEOUT, from.read_to_end(&mut said)).await;
        assert!(ended.is_ok(), "the connection is not ended: {}", String::from_utf8_lossy(&said));
        sending.abort();
        String::from_utf8_lossy(&said).into_owned()
    }

    /// What is stored, as the API shows it.
    async fn stored(&self) -> (u16, String) {
        let ask = Ask {
            method: "GET".into(),
            path: "/api/v1/scans".into(),
            token: Some(self.local_token()),
            ..Ask::default()
        };
        let answer = self.ask(&ask).await;
        (answer.status, String::from_utf8(answer.body).unwrap())
    }

    /// Sends a request and gives its status, 0 if there was none; nothing that is stored may change by it.
    async fn refused(&self, bytes: &[u8]) -> u16 {
        let before = self.stored().await;
        let said = self.raw(bytes).await;
        assert_eq!(self.stored().await, before, "something changed, or nothing is answered any more");
        status(&said)
    }

    fn request(&self, line: &str, headers: &[&str], body: &str) -> Vec<u8> {
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let bearer = format!("Authorization: Bearer {}\r\n", self.local_token());
        format!("{line} HTTP/1.1\r\n{bearer}{headers}Connection: close\r\n\r\n{body}").into_bytes()
    }
}

fn status(said: &str) -> u16 {
    said.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or(0)
}

#[test]
fn bad_input_15_tls_on_the_plaintext_port_is_no_request() {
    story(|world| async move {
        // A ClientHello: record header, handshake header, version, random, no session, a suite, no compression.
        let mut hello = vec![0x16, 3, 1, 0, 47, 1, 0, 0, 43, 3, 3];
        hello.extend([7; 32]);
        hello.extend([0, 0, 2, 0x13, 1, 1, 0]);
        assert!([0, 400].contains(&world.refused(&hello).await));
    });
}

#[test]
fn bad_input_17_an_agents_frame_on_the_page_port_is_no_request() {
    story(|world| async move {
        // A length and a map of MessagePack, as hello begins.
        let mut frame = vec![0, 0, 0, 7, 0x81, 0xa5];
        frame.extend(b"hello");
        assert!([0, 400].contains(&world.refused(&frame).await));
        assert!([0, 400].contains(&world.refused(&[0xff; 4_096]).await));
    });
}

#[test]
fn bad_input_90_a_host_or_an_origin_of_others_is_refused() {
    story(|world| async move {
        let body = r#"{"targets": ["127.0.0.1"]}"#;
        let length = format!("Content-Length: {}", body.len());
        let common = ["Content-Type: application/json", length.as_str()];
        let post = |headers: &[&str]| world.request("POST /api/v1/scans", &[headers, &common[..]].concat(), body);
        for host in ["evil.com", "test.evil.com", "localhost.evil.com", "test:1", "test@evil.com", "", "\u{442}est"] {
            let status = world.refused(&post(&[&format!("Host: {host}")])).await;
            assert!([400, 403].contains(&status), "{host}: {status}");
        }
        assert_eq!(world.refused(&post(&[])).await, 400, "no Host");
        assert_eq!(world.refused(&post(&["Host: test", "Host: test"])).await, 400, "two of them");
        for origin in ["null", "http://evil.com", "http://test.evil.com", "https://test:1", "test", "file://"] {
            let header = format!("Origin: {origin}");
            assert_eq!(world.refused(&post(&["Host: test", &header])).await, 403, "{origin}");
        }
        for site in ["cross-site", "same-site", "other"] {
            let header = format!("Sec-Fetch-Site: {site}");
            assert_eq!(world.refused(&post(&["Host: test", &header])).await, 403, "{site}");
        }
        // Our own page may.
        let said = world.raw(&post(&["Host: test", "Origin: http://test", "Sec-Fetch-Site: same-origin"])).await;
        assert_eq!(status(&said), 201, "{said}");
    });
}

#[test]
fn bad_input_91_no_form_and_no_stream_of_another_site_is_served() {
    story(|world| async move {
        let opened = world.raw(b"GET /?key=key HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await;
        let cookie = opened.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a session");
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
        let session = cookie.split(';').next().unwrap();
        let form = |kind: &str, extra: &str| {
            let body = r#"{"targets": ["127.0.0.1"]}"#;
            let head = "POST /api/v1/scans HTTP/1.1\r\nHost: test\r\nConnection: close\r\n";
            format!(
                "{head}Cookie: {session}\r\nContent-Type: {kind}\r\n{extra}Content-Length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a", "text/json"]
        {
            assert_eq!(world.refused(form(kind, "").as_bytes()).await, 415, "{kind}");
        }
        let foreign = form("application/json", "Origin: http://evil.com\r\n");
        assert_eq!(world.refused(foreign.as_bytes()).await, 403);
        let stream = format!(
            "GET /api/v1/events HTTP/1.1\r\nHost: test\r\nConnection: close\r\nCookie: {session}\r\nOrigin: http://evil.com\r\n\r\n"
        );
        assert_eq!(world.refused(stream.as_bytes()).await, 403);
        // The session itself is good.
        assert_eq!(status(&world.raw(form("application/json", "").as_bytes()).await), 201);
    });
}

#[test]
fn bad_input_92_paths_heads_and_pipelines_that_are_made_to_break() {
    story(|world| async move {
        for path in [
            "/../../etc/passwd",
            "/api/v1/../../../etc/passwd",
            "/api/v1/scans/..%2f..%2fetc%2fpasswd",
            "/api/v1/scans/%2e%2e/%2e%2e",
            "/api/v1/scans/%00",
            "/api/v1/agents/%00%ff",
            "//api/v1/scans",
            "/%",
        ] {
            let status = world.refused(&world.request(&format!("GET {path}"), &["Host: test"], "")).await;
            assert!([0, 400, 404].contains(&status), "{path}: {status}");
        }
        let long = world.request(&format!("GET /{}", "a".repeat(1 << 20)), &["Host: test"], "");
        assert!([0, 400, 404, 414, 431].contains(&world.refused(&long).await));
        let query = world.request(&format!("GET /api/v1/scans?status={}", "a".repeat(60_000)), &["Host: test"], "");
        assert!([0, 400, 414, 431].contains(&world.refused(&query).await));
        let many: Vec<_> = (0..1_000).map(|number| format!("X-{number}: a")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).chain(["Host: test"]).collect();
        assert!([0, 400, 431].contains(&world.refused(&world.request("POST /api/v1/scans", &many, "")).await));
        // Two ways to say where the body ends: whoever believes the other one would see a second request.
        let both = ["Host: test", "Content-Type: application/json", "Content-Length: 4", "Transfer-Encoding: chunked"];
        let smuggled = "0\r\n\r\nPOST /api/v1/join-tokens HTTP/1.1\r\nHost: test\r\n\r\n";
        assert!([0, 400].contains(&world.refused(&world.request("POST /api/v1/scans", &both, smuggled)).await));
        let pipelined = "GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n".repeat(9_999);
        let last = "GET /healthz HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
        let said = world.raw(format!("{pipelined}{last}").as_bytes()).await;
        assert_eq!(said.matches("HTTP/1.1 200 OK").count(), 10_000, "each of them is answered");
        assert_eq!(world.stored().await.0, 200);
    });
}

#[test]
fn bad_input_77_an_uploaded_list_that_is_none_is_refused_and_where_is_said() {
    story(|world| async move {
        let post = |headers: &[&str], body: &[u8]| {
            let common = ["Host: test", "Content-Type: text/plain"];
            let head = world.request("POST /api/v1/target-lists", &[&common[..], headers].concat(), "");
            [head, body.to_vec()].concat()
        };
        let whole = |body: &[u8]| post(&[&format!("Content-Length: {}", body.len())], body);
        let before = world.stored().await;
        let long_line = vec![b'1'; 1 << 20];
        for (body, says) in [
            (&b"192.0.2.1\0"[..], "NUL"),
            (b"\xff\xfe1\0", "UTF-16"),
            (b"192.0.2.1\n\xc3\x28", "line 2: a word is not UTF-8"),
            (&long_line, "bytes without a space"),
            (b"192.0.2.1\r\n\r\n10.0.0.0/33", "line 3: "),
            (b"10.0.0.5-1", "line 1: "),
            (b"# nobody\n", "no target"),
            (b"", "no target"),
        ] {
            let said = world.raw(&whole(body)).await;
            assert!(status(&said) == 400 && said.contains(says), "{says}: {said}");
        }
        // Longer than may be, as it says itself, and as it turns out. Who is cut off may hear of a reset only.
        let long = (64 << 20) + 1;
        assert_eq!(world.refused(&post(&[&format!("Content-Length: {long}")], b"")).await, 413);
        let mut chunk = b"100000\r\n#".to_vec();
        chunk.resize(chunk.len() + (1 << 20) - 2, b'x');
        chunk.extend(b"\n\r\n");
        let chunked = [chunk.repeat(65), b"0\r\n\r\n".to_vec()].concat();
        assert!([0, 413].contains(&world.refused(&post(&["Transfer-Encoding: chunked"], &chunked)).await));
        let cut = world.refused(&post(&["Content-Length: 100"], b"192.0.2.1\n")).await;
        assert!([0, 400].contains(&cut), "it does not come whole: {cut}");
        assert_eq!(world.stored().await, before);
        let said = world.raw(&whole(b"\xef\xbb\xbf127.0.0.1\r\n127.0.0.4-9 # some\r\n")).await;
        assert_eq!(status(&said), 201, "{said}");
    });
}
