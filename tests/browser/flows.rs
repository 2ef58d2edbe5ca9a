//! What people do on the page, as one would: by what they see, click and type.

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use portsweep_tests::lab;
use std::time::Duration;

use crate::browser::Browser;
use crate::site::{NEEDS, PAGE, Site, tell};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        lab::trial("a_scan_from_the_form_shows_findings_as_they_come", NEEDS, || {
            tell(|site, page| Box::pin(started(site, page)))
        }),
        lab::trial("a_scan_is_paused_changed_and_cancelled", NEEDS, || tell(|site, page| Box::pin(levers(site, page)))),
        lab::trial("results_are_filtered_and_lead_to_a_host", NEEDS, || {
            tell(|site, page| Box::pin(filtered(site, page)))
        }),
        lab::trial("both_maps_lead_to_a_host", NEEDS, || tell(|site, page| Box::pin(mapped(site, page)))),
        lab::trial("a_join_token_lets_an_agent_in_that_is_then_labelled_and_revoked", NEEDS, || {
            tell(|site, page| Box::pin(joined(site, page)))
        }),
        lab::trial("a_page_is_right_after_its_coordinator_started_again", NEEDS, || {
            tell(|site, page| Box::pin(restarted(site, page)))
        }),
        lab::trial("without_a_session_a_page_asks_for_a_key", NEEDS, || {
            tell(|site, page| Box::pin(signed_out(site, page)))
        }),
    ]
}

/// How long a command may take.
const RUN_TIMEOUT: Duration = Duration::from_secs(60);

/// Marks the page, so that a reload shows.
const MARK: &str = "(window.marked = true)";

/// Fills the form and starts; where the scan's page is then.
async fn start(page: &Browser, targets: &str, ports: &str, rate: &str) -> anyhow::Result<String> {
    page.go(&format!("{PAGE}/scans/new")).await?;
    page.type_into("[name=targets]", targets).await?;
    page.type_into("[name=ports]", ports).await?;
    if !rate.is_empty() {
        page.click("summary").await?;
        page.type_into("[name=rate]", rate).await?;
    }
    page.click("form[data-check] .primary").await?;
    page.until("location.pathname.match(/^\\/scans\\/[0-9a-f-]{36}$/)").await?;
    let at = page.at().await?;
    Ok(at.split('?').next().unwrap_or(&at).to_owned())
}

async fn started(_: &mut Site, page: &Browser) -> anyhow::Result<()> {
    page.go(PAGE).await?;
    page.until("document.querySelector('[name=targets]').value === '127.0.0.1'").await?;
    page.go(&format!("{PAGE}/scans/new")).await?;
    // It is checked as it is typed.
    page.type_into("[name=targets]", "198.51.100.0/24 nonsense/99").await?;
    page.until("document.querySelector('[data-preview] .bad')").await?;
    page.type_into("[name=targets]", "198.51.100.1-198.51.100.16").await?;
    page.type_into("[name=ports]", "20-24,80,443").await?;
    page.type_into("[name=exclude]", "198.51.100.3").await?;
    page.until("document.querySelector('[data-preview] .big')?.textContent === '120'").await?;
    ensure!(
        page.text("[data-preview]").await?.contains("--exclude=198.51.100.3"),
        "{}",
        page.text("[data-preview]").await?
    );
    page.click("summary").await?;
    // Slow enough to be watched: 120 targets are 6 seconds. What is found, 15 hosts and 4 ports,
    // fits among the 20 that a scan's page shows, in whatever order it comes.
    page.type_into("[name=rate]", "20").await?;
    page.click("form[data-check] .primary").await?;
    page.until("document.querySelector('.badge.running')").await?;
    page.value(MARK).await?;
    page.until("document.querySelectorAll('[data-live=found] tr[data-key]').length > 0").await?;
    page.until("document.querySelector('.badge.done')").await?;
    page.until("document.querySelector('[data-live=progress] .counts').textContent.includes('4 open')").await?;
    let found = page.text("[data-live=found]").await?;
    for (address, port) in [("198.51.100.7", "22/tcp"), ("198.51.100.7", "443/tcp"), ("198.51.100.9", "22/tcp")] {
        ensure!(found.lines().any(|line| line.contains(address) && line.contains(port)), "{address} {port}: {found}");
    }
    ensure!(page.value("window.marked").await? == true, "the page was loaded anew");
    Ok(())
}

async fn levers(_: &mut Site, page: &Browser) -> anyhow::Result<()> {
    let scan = start(page, "198.51.100.0/24", "1-1000", "50").await?;
    page.until("document.querySelector('.badge.running')").await?;
    page.click("[action$='/pause'] button").await?;
    page.until("document.querySelector('.badge.paused') && document.querySelector(\"[action$='/resume']\")").await?;
    page.click("[action$='/resume'] button").await?;
    page.until("document.querySelector('.badge.running')").await?;
    page.type_into("[action$='/rate'] [name=rate]", "100").await?;
    page.click("[action$='/rate'] button").await?;
    page.until("document.querySelector('[data-live=progress]').textContent.includes('100/s over all agents')").await?;
    // The other limit stays: its field holds it.
    page.type_into("[action$='/rate'] [name=per_host_rate]", "10").await?;
    page.click("[action$='/rate'] button").await?;
    page.until("/100\\/s over all agents at most, 10\\/s to one host/.test(document.querySelector('[data-live=progress]').textContent)").await?;
    page.type_into("[action$='/exclude'] [name=exclude]", "198.51.100.64/26").await?;
    page.click("[action$='/exclude'] button").await?;
    page.until("document.querySelector('[data-live=unseen]').textContent.includes('198.51.100.64-198.51.100.127')")
        .await?;
    page.click("[action$='/cancel'] button").await?;
    page.say_yes().await?;
    page.until("document.querySelector('.badge.cancelled') && document.querySelector('[data-live=unseen]').textContent.includes('cancelled')").await?;
    page.go(&format!("{PAGE}/audit")).await?;
    let audit = page.text("main").await?;
    let id = scan.rsplit('/').next().context("an id")?;
    for deed in ["pause", "resume", "rate", "exclude", "cancel"] {
        ensure!(audit.contains(&format!("POST /scans/{id}/{deed}")), "{deed}: {audit}");
    }
    Ok(())
}

async fn filtered(_: &mut Site, page: &Browser) -> anyhow::Result<()> {
    let scan = start(page, "198.51.100.1-198.51.100.40", "21-23,80,443", "").await?;
    page.until("document.querySelector('.badge.done')").await?;
    page.go(&format!("{scan}/results")).await?;
    page.until("document.querySelectorAll('tr[data-key]').length === 44").await?;
    page.click(".facets a[href*='port=22']").await?;
    page.until("location.search.includes('port=22') && document.querySelectorAll('tr[data-key]').length === 2").await?;
    page.click(".facets a[href*='state=closed']").await?;
    page.until("location.search.includes('state=closed') && document.querySelectorAll('tr[data-key]').length === 38")
        .await?;
    page.click(".chip").await?;
    page.until("!location.search.includes('port=22')").await?;
    page.go(&format!("{scan}/results?address=198.51.100.9")).await?;
    page.click("tr[data-key] a").await?;
    page.until("location.pathname.endsWith('/hosts/198.51.100.9')").await?;
    let host = page.text("main").await?;
    ensure!(host.contains("echo-reply") && host.contains("22/tcp") && host.contains("open"), "{host}");
    ensure!(host.contains("closed") && host.contains("conn-refused"), "{host}");
    Ok(())
}

/// From both maps of a scan, by clicks alone, to the page of one of its hosts.
async fn mapped(_: &mut Site, page: &Browser) -> anyhow::Result<()> {
    let scan = start(page, "198.51.100.0-198.51.100.63", "21-23,80,443", "").await?;
    page.until("document.querySelector('.badge.done')").await?;
    for map in ["addresses", "ports"] {
        page.go(&format!("{scan}/maps")).await?;
        // Cells become smaller with each click: a /26 is six of them away from a single address at most, whatever each halves.
        for _ in 0..8 {
            page.until(&format!("document.querySelector('[data-live={map}] svg a')")).await?;
            let cell = format!("[data-live={map}] svg a[href*='/hosts/198.51.100.7']");
            if page.value(&format!("document.querySelector(\"{cell}\") !== null")).await? == true {
                page.click(&cell).await?;
                break;
            }
            page.click(&format!("[data-live={map}] svg a")).await?;
            page.until("document.querySelector('main')").await?;
        }
        page.until("location.pathname.endsWith('/hosts/198.51.100.7')").await?;
        let host = page.text("main").await?;
        ensure!(host.contains("443/tcp") && host.contains("echo-reply"), "{map}: {host}");
    }
    Ok(())
}

async fn joined(site: &mut Site, page: &Browser) -> anyhow::Result<()> {
    page.go(&format!("{PAGE}/agents")).await?;
    page.click("[action='/agents/join-token'] button").await?;
    page.until("document.querySelector('#join-command')").await?;
    let command = page.text("#join-command").await?;
    let token = command.split(' ').nth(2).context("a token")?.to_owned();
    let state = site.directory().join("agent");
    let agent = site
        .host
        .command(lab::agent_bin()?)
        .args(["join", &token, "--allow", "198.51.100.0/25", "--name", "second"])
        .env("PORTSWEEP_AGENT_STATE", &state);
    let agent = agent.start()?;
    page.go(&format!("{PAGE}/agents")).await?;
    page.value(MARK).await?;
    page.until("[...document.querySelectorAll('tbody tr')].some((row) => row.textContent.includes('second') && row.querySelector('.dot.connected'))").await?;
    ensure!(page.text("main").await?.contains("198.51.100.0/25"), "its allow-list is not shown");
    page.click("a[href='/agents/second']").await?;
    page.type_into("[name=labels]", "site=lab").await?;
    page.click("[action$='/label'] button").await?;
    page.until("document.querySelector('[data-live=agent] .label')?.textContent === 'site=lab'").await?;
    page.click("[action$='/drain'] button").await?;
    page.until("document.querySelector('[data-live=agent] .dot.drained')").await?;
    page.click("[action$='/undrain'] button").await?;
    page.until("document.querySelector('[data-live=agent] .dot.connected')").await?;
    page.click("[action$='/revoke'] button").await?;
    page.say_yes().await?;
    page.until("document.querySelector('[data-live=agent] .dot.revoked')").await?;
    // It goes on asking, and is refused: its state is to be removed by whoever runs it.
    page.until("document.querySelector('[data-live=agent]').textContent.includes('agent second was revoked')").await?;
    agent.signal(libc::SIGTERM)?;
    agent.wait(RUN_TIMEOUT).map(drop)
}

async fn restarted(site: &mut Site, page: &Browser) -> anyhow::Result<()> {
    // Silent addresses beside those that answer: it goes on for as long as this takes, and is ended below.
    start(page, "198.51.100.0/24", "1-200", "100").await?;
    page.until("document.querySelector('.badge.running') && document.querySelector('[data-live=progress] .counts li')")
        .await?;
    page.value(MARK).await?;
    site.kill()?;
    page.until("!document.getElementById('link').hidden").await?;
    site.serve()?;
    page.until("document.getElementById('link').hidden && document.querySelector('.badge.running')").await?;
    // It is told of what happens now, and was not loaded anew.
    page.until(
        "[...document.querySelectorAll('[data-live=agents] td.n')].some((cell) => cell.textContent.match(/[1-9]/))",
    )
    .await?;
    ensure!(page.value("window.marked").await? == true, "the page was loaded anew");
    page.click("[action$='/cancel'] button").await?;
    page.say_yes().await?;
    page.until("document.querySelector('.badge.cancelled')").await
}

async fn signed_out(_: &mut Site, page: &Browser) -> anyhow::Result<()> {
    page.click(".foot button").await?;
    page.until("document.querySelector('[name=key]')").await?;
    page.go(&format!("{PAGE}/scans")).await?;
    page.until("document.querySelector('[name=key]')").await?;
    page.type_into("[name=key]", "psw_wrong").await?;
    page.click(".primary").await?;
    page.until("document.querySelector('main').textContent.includes('another start')").await?;
    ensure!(page.value("document.cookie").await? == "", "a script can read the session's cookie");
    Ok(())
}
