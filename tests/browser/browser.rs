//! A headless Chromium on a page, driven over WebDriver (W3C). What is waited for is waited for in the page, by a mutation observer: nothing
//! sleeps.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use fantoccini::error::CmdError;
use fantoccini::wd::{TimeoutConfiguration, WebDriverCompatibleCommand};
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

/// How long anything may take that a page is to show. Long, as machines that test are busy: nothing waits for it in vain when all is well.
const PATIENCE: Duration = Duration::from_secs(60);

/// Remembers what the policy of a page refused, over all pages of the tab.
const WATCH: &str = "
    addEventListener('securitypolicyviolation', (event) => {
        const seen = JSON.parse(sessionStorage.getItem('refused') ?? '[]');
        seen.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
        sessionStorage.setItem('refused', JSON.stringify(seen));
    });
    addEventListener('error', (event) => {
        const seen = JSON.parse(sessionStorage.getItem('errors') ?? '[]');
        seen.push(String(event.message));
        sessionStorage.setItem('errors', JSON.stringify(seen));
    });";

/// A browser with one tab.
pub(crate) struct Browser {
    client: Client,
}

/// A command of the Chrome DevTools Protocol, as its driver takes it.
#[derive(Debug)]
struct Tell(&'static str, Value);

impl WebDriverCompatibleCommand for Tell {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/goog/cdp/execute", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(json!({ "cmd": self.0, "params": self.1 }).to_string()))
    }
}

impl Browser {
    /// Starts one through the driver that listens on this machine's `port`. `profile` is a directory of its own.
    pub(crate) async fn start(port: u16, profile: &std::path::Path) -> anyhow::Result<Self> {
        // As root there is no sandbox; the shared memory of containers is small.
        let arguments =
            ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"].map(String::from);
        let arguments: Vec<_> =
            arguments.into_iter().chain([format!("--user-data-dir={}", profile.display())]).collect();
        let Value::Object(capabilities) = json!({ "goog:chromeOptions": { "args": arguments } }) else {
            bail!("capabilities are an object")
        };
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let client = builder.capabilities(capabilities).connect(&format!("http://127.0.0.1:{port}")).await?;
        client.update_timeouts(TimeoutConfiguration::new(Some(PATIENCE * 2), Some(PATIENCE * 2), None)).await?;
        client.issue_cmd(Tell("Page.addScriptToEvaluateOnNewDocument", json!({ "source": WATCH }))).await?;
        Ok(Self { client })
    }

    /// Goes to an address.
    pub(crate) async fn go(&self, url: &str) -> anyhow::Result<()> {
        Ok(self.client.goto(url).await?)
    }

    /// Where it is.
    pub(crate) async fn at(&self) -> anyhow::Result<String> {
        Ok(self.client.current_url().await?.to_string())
    }

    /// Waits until an expression of JavaScript is true of the page, or of one that it leads to.
    pub(crate) async fn until(&self, expression: &str) -> anyhow::Result<()> {
        let script = format!(
            "const done = arguments[arguments.length - 1];
             const holds = () => {{ try {{ return Boolean({expression}); }} catch {{ return false; }} }};
             if (holds()) return done(true);
             const look = () => {{ if (holds()) {{ observer.disconnect(); done(true); }} }};
             const observer = new MutationObserver(look);
             observer.observe(document, {{ subtree: true, childList: true, attributes: true, characterData: true }});
             addEventListener('load', look);
             setTimeout(() => done(false), {});",
            PATIENCE.as_millis()
        );
        // A page that is left takes its script with it: the next one is asked. Each has its own time, and pages are few.
        for _ in 0..32 {
            match self.client.execute_async(&script, Vec::new()).await {
                Ok(Value::Bool(true)) => return Ok(()),
                Ok(_) => bail!("in vain for {expression} at {}\n{}", self.at().await?, self.text("main").await?),
                Err(error) if is_left(&error) => {}
                Err(error) => return Err(error).context(expression.to_owned()),
            }
        }
        bail!("pages follow each other without end: {expression}")
    }

    /// What an expression of JavaScript is.
    pub(crate) async fn value(&self, expression: &str) -> anyhow::Result<Value> {
        self.client.execute(&format!("return {expression};"), Vec::new()).await.with_context(|| expression.to_owned())
    }

    /// The text of the first element.
    pub(crate) async fn text(&self, selector: &str) -> anyhow::Result<String> {
        Ok(self.client.find(Locator::Css(selector)).await?.text().await?)
    }

    /// Clicks the first element.
    pub(crate) async fn click(&self, selector: &str) -> anyhow::Result<()> {
        let element = self.client.find(Locator::Css(selector)).await.with_context(|| selector.to_owned())?;
        Ok(element.click().await?)
    }

    /// Types into the first element, in place of what stands there.
    pub(crate) async fn type_into(&self, selector: &str, text: &str) -> anyhow::Result<()> {
        let element = self.client.find(Locator::Css(selector)).await.with_context(|| selector.to_owned())?;
        element.clear().await?;
        Ok(element.send_keys(text).await?)
    }

    /// Says yes to what the page asks.
    pub(crate) async fn say_yes(&self) -> anyhow::Result<()> {
        Ok(self.client.accept_alert().await?)
    }

    /// Whatever the test did, no policy was broken and no script failed.
    pub(crate) async fn nothing_was_refused(&self) -> anyhow::Result<()> {
        for kept in ["refused", "errors"] {
            let seen = self.value(&format!("sessionStorage.getItem('{kept}')")).await?;
            ensure!(seen.is_null(), "{kept}: {seen}");
        }
        Ok(())
    }

    /// Ends it.
    pub(crate) async fn quit(self) -> anyhow::Result<()> {
        Ok(self.client.close().await?)
    }
}

/// Whether a script ended because its page was left.
fn is_left(error: &CmdError) -> bool {
    let text = error.to_string();
    [
        "document unloaded",
        "unloaded",
        "context was destroyed",
        "aborted by navigation",
        "target frame detached",
        "Cannot find context",
        // The script itself gives up sooner: its page is gone.
        "script timeout",
    ]
    .iter()
    .any(|left| text.contains(left))
}
