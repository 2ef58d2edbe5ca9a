//! What whoever is scanned, or who may ask a little, can write is shown as the text that it is: nothing of it runs, and no policy of a page is
//! even tried.

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use portsweep_tests::lab;
use serde_json::{Value, json};
use std::time::Duration;

use crate::browser::Browser;
use crate::site::{NEEDS, PAGE, Site, tell};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        lab::trial("bad_input_82_escapes_for_terminals_are_text_of_a_page", NEEDS, || {
            tell(|_, page| Box::pin(texts(page, &ESCAPES)))
        }),
        lab::trial("bad_input_83_markup_is_text_of_a_page", NEEDS, || tell(|_, page| Box::pin(texts(page, &MARKUP)))),
        lab::trial("bad_input_84_formulas_are_text_of_a_page", NEEDS, || {
            tell(|_, page| Box::pin(texts(page, &FORMULAS)))
        }),
        lab::trial("bad_input_85_what_breaks_xml_is_text_of_a_page", NEEDS, || {
            tell(|_, page| Box::pin(texts(page, &XML)))
        }),
        lab::trial("bad_input_86_faked_lines_and_directions_are_text_of_a_page", NEEDS, || {
            tell(|_, page| Box::pin(texts(page, &LINES)))
        }),
        lab::trial("bad_input_91_another_origin_changes_nothing", NEEDS, || {
            tell(|site, page| Box::pin(foreign(site, page)))
        }),
    ]
}

const RUN_TIMEOUT: Duration = Duration::from_secs(60);

const ESCAPES: [&str; 2] = ["\u{1b}]0;owned\u{7}\u{1b}[6n\u{9b}21t", "\u{1b}P$qm\u{1b}\\\u{1b}]52;c;b3duZWQ=\u{7}"];
const MARKUP: [&str; 5] = [
    "<script>window.owned = 1</script>",
    "\"><img src=x onerror=\"window.owned=1\">",
    "</textarea></code></td><script>window.owned=1</script>",
    "javascript:window.owned=1",
    "' onmouseover='window.owned=1",
];
const FORMULAS: [&str; 2] = ["=HYPERLINK(\"http://192.0.2.1/\")", "\t@SUM(1,2)\"\n\""];
const XML: [&str; 2] = ["]]>&xxe;\u{fffe}", "<!DOCTYPE x [<!ENTITY a SYSTEM \"file:///etc/passwd\">]>&a;"];
const LINES: [&str; 2] = ["a\r\n192.0.2.66 owned\r\n", "\u{202e}txt.exe"];

/// Asks the API from the page, as its scripts could.
async fn post(page: &Browser, path: &str, body: &Value) -> anyhow::Result<Value> {
    let ask = format!(
        "(() => {{ const ask = new XMLHttpRequest(); ask.open('POST', '{path}', false);
          ask.setRequestHeader('content-type', 'application/json'); ask.send({});
          return ask.responseText; }})()",
        Value::String(body.to_string())
    );
    let answer = page.value(&ask).await?;
    Ok(serde_json::from_str(answer.as_str().context("an answer")?)?)
}

async fn texts(page: &Browser, texts: &[&str]) -> anyhow::Result<()> {
    let mut scans = Vec::new();
    for &text in texts {
        let spec = json!({ "targets": ["198.51.100.7"], "ports": "22", "command": text });
        let taken = post(page, "/api/v1/scans", &spec).await?;
        // What a command line cannot hold may be refused, in words that are text too.
        if let Some(id) = taken["scan"]["id"].as_str() {
            scans.push((id.to_owned(), text));
        }
        post(page, "/api/v1/tokens", &json!({ "name": text, "role": "viewer" })).await?;
        post(page, "/api/v1/scans", &json!({ "targets": [text] })).await?;
    }
    ensure!(!scans.is_empty(), "none of them was taken");
    for (id, text) in &scans {
        page.go(&format!("{PAGE}/scans/{id}")).await?;
        page.until("document.querySelector('.badge.done')").await?;
        let shown = page.value("document.querySelector('#command').textContent").await?;
        // A line end in a document is one character, whichever it was.
        let lines = |text: &str| text.replace("\r\n", "\n").replace('\r', "\n");
        ensure!(lines(shown.as_str().context("a text")?) == lines(text), "{shown} for {text:?}");
    }
    let mut paths = vec!["/".to_owned(), "/scans".to_owned(), "/audit".to_owned(), "/agents".to_owned()];
    for text in texts {
        let encoded: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let id = &scans[0].0;
        paths.extend([
            format!("/scans/new?targets={encoded}&tcp=on&ports={encoded}&exclude={encoded}"),
            format!("/scans/{id}/results?agent={encoded}"),
            format!("/scans/{id}/results?address={encoded}"),
            format!("/scans/{id}/hosts/{encoded}"),
            format!("/agents/{encoded}"),
            format!("/audit?{encoded}={encoded}"),
        ]);
    }
    for path in paths {
        page.go(&format!("{PAGE}{path}")).await?;
        ensure!(page.value("window.owned === undefined").await? == true, "it ran at {path}");
        let strange = "document.querySelectorAll('main script, main img:not([src^=\"/assets/\"]), [onerror], [onmouseover], a[href^=\"javascript:\" i]').length";
        ensure!(page.value(strange).await? == 0, "it became part of the page at {path}");
    }
    Ok(())
}

/// A page of another origin, with a session's cookie in the same browser, tries all that it can.
async fn foreign(site: &mut Site, page: &Browser) -> anyhow::Result<()> {
    let scans = || site.portsweep(&["scans", "--coordinator"])?.run(RUN_TIMEOUT)?.expect_code(0);
    let before = scans()?.stdout;
    // Another port is another origin; it is the same site, so that the cookie's SameSite alone would let it come along.
    let evil = std::net::TcpListener::bind("127.0.0.1:8080")?;
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        let form = |kind: &str| {
            format!(
                "<form method=post enctype='{kind}' action='{PAGE}/scans'><input name=targets value=198.51.100.7><input name=tcp value=on></form>"
            )
        };
        let forms = [form("application/x-www-form-urlencoded"), form("text/plain")].concat();
        let body = format!("<!doctype html><title>evil</title>{forms}");
        for mut stream in evil.incoming().flatten() {
            let mut head = [0; 4_096];
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            // Who leaves early asks again.
            let _ = stream.read(&mut head).and_then(|_| stream.write_all(answer.as_bytes()));
        }
    });
    for form in 0..2 {
        page.go("http://127.0.0.1:8080/").await?;
        page.until("document.title === 'evil'").await?;
        page.value(&format!("document.forms[{form}].submit()")).await?;
        page.until("location.port === '7420' && document.body").await?;
        ensure!(
            page.value("document.body.textContent.includes('nother site')").await? == true,
            "{}",
            page.text("body").await?
        );
    }
    page.go("http://127.0.0.1:8080/").await?;
    for (method, kind) in
        [("POST", "application/json"), ("POST", "text/plain"), ("GET", "text/plain"), ("DELETE", "text/plain")]
    {
        let ask = format!(
            "fetch('{PAGE}/api/v1/scans', {{ method: '{method}', credentials: 'include', headers: {{ 'content-type': '{kind}' }}, body: '{method}' === 'GET' ? undefined : '{{\"targets\":[\"198.51.100.7\"]}}' }}).then(() => {{ document.title = 'read'; }}, () => {{ document.title = 'refused'; }})"
        );
        page.value(&format!("((document.title = 'asking'), {ask}, 0)")).await?;
        page.until("document.title === 'refused'").await?;
    }
    let stream = format!(
        "(window.told = 0, window.stream = new EventSource('{PAGE}/api/v1/events', {{ withCredentials: true }}), stream.onopen = () => {{ document.title = 'open'; }}, stream.onerror = () => {{ document.title = 'closed'; }}, 0)"
    );
    page.value(&stream).await?;
    page.until("document.title === 'closed'").await?;
    ensure!(scans()?.stdout == before, "something was changed: {}", scans()?.stdout);
    page.go(PAGE).await?;
    page.until("document.querySelector('nav')").await
}
