//! A coordinator that was taken over cannot aim an agent at anything that its own allow-list leaves out.
//!
//! The test is the coordinator: it has an authority of its own, a real agent joins it, and it sends grants for addresses in every spelling
//! that the wire knows, grants that make no sense, and control states. A counter of the packet filter in the agent's namespace sees every
//! packet that leaves it, loopback included: none may go to an address outside the allow-list, and grants within it are probed.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use libtest_mimic::Trial;
use portsweep::fleet::authority::{AGENT_LIFE, Authority};
use portsweep_tests::lab::{self, Host, Need, Process};
use protocol::id::{Epoch, ScanId};
use protocol::message::{CommitReply, Control, CoordinatorMessage, ProbeOptions, Report, Run, Welcome};
use protocol::port::PortSet;
use protocol::probe::{Cause, Outcome};
use protocol::range_set::{AddressSet, RankedRanges};
use protocol::rate::Rate;
use protocol::token::{JoinToken, Secret};
use protocol::{chunk, covers};
use serde::Serialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::hostile_session::{Said, Session};
use crate::world::RUN_TIMEOUT;

/// The one address of each version that the narrow agent may probe, and another of the same machine that it may not.
const INSIDE: [&str; 2] = ["192.0.2.11", "2001:db8::11"];
const BESIDE: [&str; 2] = ["192.0.2.12", "2001:db8::12"];
const COORDINATOR: &str = "203.0.113.1";
/// Stands in a frame where an address is written that our own types would not let through.
const PLACEHOLDER: &str = "2001:db8:dead:beef:dead:beef:dead:beef";
const SCAN: ScanId = ScanId::from_bytes([9; 16]);
/// How many grants are drawn at random.
const RANDOM: u64 = 40;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        lab::trial("hostile_coordinator_reaches_nothing_outside_a_narrow_allow_list", &[Need::Hosts], narrow),
        lab::trial("hostile_coordinator_reaches_no_guarded_address_through_a_wide_allow_list", &[Need::Hosts], wide),
    ]
}

/// A cohort, whatever it holds.
#[derive(Serialize, Clone)]
struct Cohort {
    number: u64,
    addresses: RankedRanges,
    slots: Slots,
    seed: u64,
}

#[derive(Serialize, Clone)]
struct Slots {
    ping: bool,
    ports: PortSet,
    discover: bool,
}

/// A grant whose parts nobody checked.
#[derive(Serialize, Clone)]
struct Grant {
    epoch: u64,
    scan: ScanId,
    pass: u8,
    cohort: Cohort,
    lo: u32,
    hi: u32,
    #[serde(with = "serde_bytes")]
    covers: Vec<u8>,
    options: ProbeOptions,
}

#[derive(Serialize)]
enum Message {
    Grant(Grant),
}

/// Ping and four ports of every address.
const SLOTS: u32 = 5;

impl Grant {
    fn of(addresses: AddressSet) -> anyhow::Result<Self> {
        let hosts = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        let slots = Slots { ping: true, ports: (1..SLOTS as u16).collect(), discover: false };
        let addresses = RankedRanges::try_from(&addresses).context("ranges")?;
        Ok(Self {
            epoch: 1,
            scan: SCAN,
            pass: 1,
            cohort: Cohort { number: 0, addresses, slots, seed: 7 },
            lo: 0,
            hi: hosts.saturating_mul(SLOTS).min(protocol::plan::SHARD_TARGETS_MAX),
            covers: Vec::new(),
            options: ProbeOptions::new(200, 64),
        })
    }

    /// With a bitmap of the targets whose address is (or is not) one of those.
    fn covering(self, only: &[&str], inside: bool) -> anyhow::Result<Self> {
        let body = protocol::codec::encode(&self.cohort)?;
        let cohort: protocol::plan::Cohort = protocol::codec::decode(&body)?;
        let covered = |index: u32| {
            let is_one = |target: protocol::probe::Target| only.contains(&target.address.to_string().as_str());
            cohort.target(index).is_some_and(|target| is_one(target) == inside)
        };
        Ok(Self { covers: covers::bitmap(self.lo, self.hi, covered), ..self })
    }
}

/// The frame of a grant, with `instead` written where the placeholder stands.
fn frame(grant: Grant, instead: Option<Ipv6Addr>) -> anyhow::Result<Vec<u8>> {
    let mut frame = protocol::codec::encode(&Message::Grant(grant))?;
    let placeholder = PLACEHOLDER.parse::<Ipv6Addr>()?.octets();
    if let Some(instead) = instead {
        let mut at = 0;
        while let Some(found) = frame[at..].windows(16).position(|window| window == placeholder) {
            frame[at + found..at + found + 16].copy_from_slice(&instead.octets());
            at += found + 16;
        }
        ensure!(at > 0, "the frame has no placeholder");
    }
    Ok(frame)
}

/// A frame that reaches outside, and what it is.
type Offer = (String, Vec<u8>);

/// A grant of one address alone, as it is spelled, and one of it beside an address that is allowed.
fn offers_of(address: IpAddr) -> anyhow::Result<Vec<Offer>> {
    let (stands_for, instead) = match address {
        IpAddr::V4(_) => (address, None),
        // Our own set would take a mapped address for what it maps.
        IpAddr::V6(v6) => (PLACEHOLDER.parse()?, Some(v6)),
    };
    let alone = Grant::of(AddressSet::from(stands_for))?;
    // One IPv6 range at most, so that ranges are in order however the placeholder is spelled.
    let mut both = AddressSet::from(stands_for);
    both.insert(INSIDE[0].parse()?);
    let name = stands_for.to_string();
    let only = Grant::of(both.clone())?.covering(&[&name], true)?;
    Ok(vec![
        (format!("{address} alone"), frame(alone, instead)?),
        (format!("{address} beside what is allowed"), frame(Grant::of(both)?, instead)?),
        (format!("{address} alone of a cohort"), frame(only, instead)?),
    ])
}

/// Loopback, link-local, multicast and unspecified addresses in every spelling, and the coordinator's.
const GUARDED: [&str; 20] = [
    "0.0.0.0",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "224.0.0.1",
    "239.255.255.255",
    COORDINATOR,
    "::",
    "::1",
    "fe80::1",
    "febf::1",
    "ff02::1",
    "ff0e::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:203.0.113.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::e000:1",
    "64:ff9b::",
];

/// Ordinary addresses that the narrow agent may not probe, spelled so that some stand for one that it may.
const ORDINARY: [&str; 9] = [
    BESIDE[0],
    BESIDE[1],
    "192.0.2.10",
    "255.255.255.255",
    "203.0.113.2",
    "::ffff:192.0.2.11",
    "::ffff:192.0.2.12",
    "64:ff9b::c000:20b",
    "::192.0.2.11",
];

fn outside(addresses: &[&str]) -> anyhow::Result<Vec<Offer>> {
    let mut offers = Vec::new();
    for address in addresses {
        offers.extend(offers_of(address.parse()?)?);
    }
    Ok(offers)
}

/// Grants that no coordinator of ours would make: of huge ranges, and of what is allowed but makes no sense.
fn odd() -> anyhow::Result<Vec<Offer>> {
    let inside = || Grant::of(AddressSet::from(INSIDE[0].parse::<IpAddr>()?));
    let net = |text: &str| anyhow::Ok(AddressSet::from(text.parse::<ipnet::IpNet>()?));
    let options = ProbeOptions::new(200, 64);
    let mut grants = vec![
        ("a whole cohort of 4,096", Grant::of(net("192.0.0.0/20")?)?),
        ("a cohort that is too large", Grant::of(net("192.0.0.0/19")?)?),
        ("every IPv4 address", Grant::of(net("0.0.0.0/0")?)?),
        ("half of IPv6's documentation", Grant::of(net("2001:db8::/66")?)?),
        ("an empty shard", Grant { hi: 0, ..inside()? }),
        ("a shard that ends before it begins", Grant { lo: 4, hi: 1, ..inside()? }),
        ("a shard beyond its cohort", Grant { hi: SLOTS + 1, ..inside()? }),
        ("the longest shard", Grant { hi: u32::MAX, ..inside()? }),
        ("a shard at the end of numbers", Grant { lo: u32::MAX - 1, hi: u32::MAX, ..inside()? }),
        ("no pass", Grant { pass: 0, ..inside()? }),
        ("a bitmap that is too long", Grant { covers: vec![0xf8, 0xff, 0xff], ..inside()? }),
        ("a bitmap beyond its shard", Grant { covers: vec![0xff], ..inside()? }),
        ("a bitmap of a megabyte", Grant { covers: vec![0xff; 1 << 19], ..inside()? }),
        ("a bitmap of nothing", Grant { covers: vec![0], ..inside()? }),
        ("no timeout", Grant { options: ProbeOptions { timeout_ms: 0, ..options }, ..inside()? }),
        ("an endless timeout", Grant { options: ProbeOptions { timeout_ms: u32::MAX, ..options }, ..inside()? }),
        ("no window", Grant { options: ProbeOptions { window: 0, ..options }, ..inside()? }),
        ("no window to a host", Grant { options: ProbeOptions { per_host_window: 0, ..options }, ..inside()? }),
        ("no rate", Grant { options: ProbeOptions { per_host_rate: Some(Rate::ZERO), ..options }, ..inside()? }),
    ];
    let mut nothing = inside()?;
    nothing.cohort.addresses = RankedRanges::try_from(&AddressSet::new())?;
    grants.push(("no address", nothing));
    let mut nothing = inside()?;
    nothing.cohort.slots = Slots { ping: false, ports: PortSet::default(), discover: false };
    grants.push(("nothing that is asked", nothing));
    grants.into_iter().map(|(what, grant)| Ok((what.to_owned(), frame(grant, None)?))).collect()
}

/// Grants at random: ranges around what is allowed and far from it, any slots, any shard, any bitmap.
fn random() -> anyhow::Result<Vec<Offer>> {
    let (mut offers, mut state) = (Vec::new(), 1_u64);
    // Xorshift (Marsaglia, 2003): the same grants each time.
    let mut draw = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for number in 0..RANDOM {
        let base = match draw(5) {
            // Next to what is allowed, in both directions.
            0 => 0xc000_020b - draw(8) as u32,
            1 => 0x7f00_0000 + draw(1 << 24) as u32,
            2 => 0xa9fe_0000 + draw(1 << 16) as u32,
            3 => 0xe000_0000 + draw(1 << 28) as u32,
            _ => draw(1 << 32) as u32,
        };
        let mut addresses = AddressSet::new();
        let last = base.saturating_add(1 + draw(300) as u32);
        addresses.insert_range(IpAddr::V4(base.into()), IpAddr::V4(last.into()))?;
        let mut grant = Grant::of(addresses)?;
        grant.cohort.seed = draw(u64::MAX);
        grant.cohort.number = draw(u64::MAX);
        grant.cohort.slots.discover = draw(2) == 0;
        grant.scan = ScanId::from_bytes([draw(3) as u8 + 8; 16]);
        grant.pass = draw(256) as u8;
        grant.lo = draw(u64::from(grant.hi)) as u32;
        if draw(2) == 0 {
            // Of what it covers something lies outside: all but the one address is.
            grant = grant.covering(&INSIDE, false)?;
        }
        offers.push((format!("random grant {number} from {}", IpAddr::V4(base.into())), frame(grant, None)?));
    }
    Ok(offers)
}

/// An agent with a coordinator that is the test, and a machine with addresses that it may and may not probe.
struct Lab {
    agent: Host,
    _target: Host,
    _coordinator: Host,
    listener: TcpListener,
    authority: Authority,
    directory: TempDir,
    epochs: u64,
    /// What was reported: an agent that did not hear that it was taken sends it again.
    reported: BTreeSet<Epoch>,
    /// Why it refused what it was offered before, as its last hello said.
    said: Option<String>,
}

/// What an offer came to.
#[derive(Debug)]
enum Came {
    /// The session ended, or the agent said something that is no report.
    Refused,
    Report(Report),
}

impl Lab {
    fn new() -> anyhow::Result<Self> {
        let (coordinator, agent, target) = (Host::new("coordinator")?, Host::new("agent")?, Host::new("target")?);
        lab::wire((&coordinator, &[&format!("{COORDINATOR}/30")]), (&agent, &["203.0.113.2/30"]))?;
        let at = |address: &str| format!("{address}/{}", if address.contains(':') { 64 } else { 24 });
        let addresses: Vec<_> = INSIDE.iter().chain(&BESIDE).map(|address| at(address)).collect();
        let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
        lab::wire((&agent, &["192.0.2.1/24", "2001:db8::1/64"]), (&target, &addresses))?;
        // Whatever an agent sends anywhere leaves it.
        let directory = TempDir::new()?;
        let run = |program: &str, words: &[&str]| {
            let path = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(|directory| Path::new(directory).join(program));
            let path = path.into_iter().find(|path| path.exists()).with_context(|| format!("there is no {program}"))?;
            agent.command(&path).args(words).run(RUN_TIMEOUT)?.expect_code(0)
        };
        run("ip", &["route", "add", "default", "via", INSIDE[0]])?;
        run("ip", &["-6", "route", "add", "default", "via", INSIDE[1]])?;
        let rules = directory.path().join("leaving.nft");
        std::fs::write(&rules, rules_of_what_leaves())?;
        run("nft", &["-f", rules.to_str().context("a path")?])?;
        let listener = coordinator.enter(|| TcpListener::bind((COORDINATOR, 7421)))?;
        let authority = Authority::open(&directory.path().join("authority"), AGENT_LIFE)?;
        Ok(Self {
            agent,
            _target: target,
            _coordinator: coordinator,
            listener,
            authority,
            directory,
            epochs: 0,
            reported: BTreeSet::new(),
            said: None,
        })
    }

    /// Packets that left the agent: to what the narrow list allows, and to anything else than that and its coordinator.
    fn left(&self) -> anyhow::Result<(u64, u64)> {
        let nft = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"].iter().map(Path::new).find(|path| path.exists());
        let command = self.agent.command(nft.context("there is no nft")?);
        let listing = command.args(["-j", "list", "chain", "inet", "leaving", "out"]).run(RUN_TIMEOUT)?;
        let listing: Value = serde_json::from_str(&listing.expect_code(0)?.stdout)?;
        let count = |what: &str| {
            let rules = listing["nftables"].as_array().into_iter().flatten().map(|entry| &entry["rule"]);
            let of = rules.filter(|rule| rule["comment"] == what);
            of.flat_map(|rule| rule["expr"].as_array().into_iter().flatten())
                .filter_map(|expr| expr["counter"]["packets"].as_u64())
                .sum()
        };
        Ok((count("inside"), count("outside")))
    }

    /// Lets an agent join that may probe this.
    fn join(&self, allow: &[&str]) -> anyhow::Result<Process> {
        let at = format!("{COORDINATOR}:7421").parse().context("an address")?;
        let token = JoinToken::new(vec![at], self.authority.pin(), Secret::from_bytes([5; 16]))?;
        let mut words = vec!["join".to_owned(), token.to_string(), "--name".to_owned(), "a".to_owned()];
        allow.iter().for_each(|net| words.extend(["--allow".to_owned(), (*net).to_owned()]));
        let command = self.agent.command(lab::agent_bin()?).args(words).directory(self.directory.path());
        let process = command.env("PORTSWEEP_AGENT_STATE", self.directory.path().join("state")).start()?;
        Session::enrol(&self.listener, &self.authority)?;
        Ok(process)
    }

    /// Welcomes the agent with this control state, and offers it this once it claims; what that comes to.
    fn offer(&mut self, control: Control, frame: &[u8]) -> anyhow::Result<Came> {
        let mut session = self.welcome(control)?;
        let mut offered = false;
        loop {
            match session.hear()? {
                Said::Asked { number, claims } => {
                    session.tell(&CoordinatorMessage::Answered { number })?;
                    if claims && !offered {
                        offered = true;
                        session.write(frame)?;
                    }
                }
                Said::Report(report) => {
                    let epoch = report.epoch;
                    session.tell(&CoordinatorMessage::Committed { epoch, reply: CommitReply::Applied })?;
                    if self.reported.insert(epoch) {
                        return Ok(Came::Report(report));
                    }
                }
                Said::Acknowledged => {}
                Said::Other | Said::Gone => {
                    ensure!(offered, "the agent went before anything was offered");
                    return Ok(Came::Refused);
                }
            }
        }
    }

    fn welcome(&mut self, control: Control) -> anyhow::Result<Session> {
        let (mut session, hello) = Session::link(&self.listener, &self.authority)?;
        self.said = hello.refused.map(|refused| refused.reason);
        let controls = vec![control];
        let welcome = Welcome { version: 1, ttl_ms: 60_000, renew_every_ms: 1_000, keep: Vec::new(), controls };
        session.tell(&CoordinatorMessage::Welcome(welcome))?;
        Ok(session)
    }

    /// None of these is taken, and none sends a packet outside.
    fn all_refused(&mut self, offers: &[Offer]) -> anyhow::Result<()> {
        for (what, frame) in offers {
            let came = self.offer(control(Run::Go, AddressSet::new()), frame)?;
            let (_, outside) = self.left()?;
            ensure!(outside == 0, "{outside} packets left for an address outside the allow-list: {what}");
            ensure!(matches!(came, Came::Refused), "it was taken: {what}: {came:?}");
        }
        Ok(())
    }

    /// This is within the allow-list: it is probed, and what is reported of it.
    fn probed(&mut self, grant: Grant) -> anyhow::Result<Vec<Outcome>> {
        let (before, _) = self.left()?;
        let covered = covers::count(&grant.covers, grant.lo, grant.hi);
        let frame = self.numbered(grant)?;
        let came = self.offer(control(Run::Go, AddressSet::new()), &frame)?;
        let Came::Report(report) = came else { bail!("it was refused") };
        let (after, outside) = self.left()?;
        ensure!(after >= before + u64::from(covered), "{} packets left, not {covered}", after - before);
        ensure!(outside == 0, "{outside} packets left for an address outside the allow-list");
        Ok(chunk::decode(&report.chunk, covered)?)
    }

    /// The frame with an epoch that the agent does not know yet.
    fn numbered(&mut self, grant: Grant) -> anyhow::Result<Vec<u8>> {
        self.epochs += 1;
        frame(Grant { epoch: 1_000 + self.epochs, ..grant }, None)
    }
}

fn rules_of_what_leaves() -> String {
    format!(
        "add table inet leaving\n\
         add chain inet leaving out {{ type filter hook output priority -300 ; }}\n\
         add rule inet leaving out ip daddr {} counter accept comment \"inside\"\n\
         add rule inet leaving out ip6 daddr {} counter accept comment \"inside\"\n\
         add rule inet leaving out ip daddr {COORDINATOR} tcp dport 7421 accept\n\
         add rule inet leaving out icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, \
         mld-listener-report, mld2-listener-report, destination-unreachable }} accept\n\
         add rule inet leaving out icmp type destination-unreachable accept\n\
         add rule inet leaving out counter comment \"outside\"\n",
        INSIDE[0], INSIDE[1]
    )
}

fn control(run: Run, exclude: AddressSet) -> Control {
    Control { scan: SCAN, version: 1, run, exclude, share: None, per_host_rate: None }
}

fn inside() -> anyhow::Result<AddressSet> {
    let mut set = AddressSet::new();
    for address in INSIDE {
        set.insert(address.parse()?);
    }
    Ok(set)
}

fn narrow() -> anyhow::Result<()> {
    let mut lab = Lab::new()?;
    let agent = lab.join(&[&format!("{}/32", INSIDE[0]), &format!("{}/128", INSIDE[1])])?;
    // That the trial can fail: what is allowed is probed, and counted.
    let outcomes = lab.probed(Grant::of(inside()?)?)?;
    ensure!(outcomes.iter().all(|outcome| outcome.is_probed()), "{outcomes:?}");
    lab.all_refused(&outside(&GUARDED)?)?;
    lab.all_refused(&outside(&ORDINARY)?)?;
    lab.all_refused(&odd()?)?;
    lab.all_refused(&random()?)?;
    // Of a cohort that reaches outside, what is allowed may be covered alone.
    let mut both = inside()?;
    for address in BESIDE {
        both.insert(address.parse()?);
    }
    let part = Grant::of(both)?.covering(&INSIDE, true)?;
    ensure!(lab.probed(part)?.iter().all(|outcome| outcome.is_probed()), "it was not probed");
    // It says what it refused, in the hello after.
    let mut beside = AddressSet::new();
    beside.insert(BESIDE[0].parse()?);
    let frame = lab.numbered(Grant::of(beside)?)?;
    lab.all_refused(&[("an address beside".to_owned(), frame)])?;
    lab.probed(Grant::of(inside()?)?)?;
    let said = lab.said.clone().unwrap_or_default();
    ensure!(said.contains(&format!("covers {}", BESIDE[0])), "it said {said:?}");
    changes(&mut lab)?;
    agent.signal(libc::SIGKILL)?;
    agent.wait(RUN_TIMEOUT)?;
    // That a packet outside would have been counted, whoever sends it.
    lab.agent.enter(|| UdpSocket::bind("0.0.0.0:0")?.send_to(b"outside", (BESIDE[0], 9)))?;
    ensure!(lab.left()?.1 == 1, "the packet filter does not count what leaves");
    Ok(())
}

/// Control states keep an agent from what it may probe, and open nothing.
fn changes(lab: &mut Lab) -> anyhow::Result<()> {
    let (before, _) = lab.left()?;
    // What is excluded is not probed, though a grant covers it.
    let frame = lab.numbered(Grant::of(inside()?)?)?;
    let Came::Report(report) = lab.offer(control(Run::Go, inside()?), &frame)? else { bail!("it was refused") };
    let excluded = chunk::decode(&report.chunk, 2 * SLOTS)?;
    ensure!(excluded.iter().all(|outcome| *outcome == Outcome::not_probed(Cause::Excluded)), "{excluded:?}");
    ensure!(lab.left()? == (before, 0), "what is excluded was probed");
    // While it is paused nothing is; when it goes on, and nothing is excluded any more, only what the grant covers is.
    let mut session = lab.welcome(control(Run::Pause, AddressSet::new()))?;
    let frame = lab.numbered(Grant::of(inside()?)?)?;
    let (mut offered, mut renewals) = (false, 0);
    loop {
        match session.hear()? {
            Said::Asked { number, claims } => {
                session.tell(&CoordinatorMessage::Answered { number })?;
                if claims && !offered {
                    offered = true;
                    session.write(&frame)?;
                }
                renewals += u32::from(offered && !claims);
                // Two renewals later it has had the grant for a second.
                if renewals == 2 {
                    ensure!(lab.left()? == (before, 0), "what is paused was probed");
                    session.tell(&CoordinatorMessage::Control(Control {
                        version: 2,
                        per_host_rate: Some(Rate::MOST),
                        share: Some(Rate::MOST),
                        ..control(Run::Go, AddressSet::new())
                    }))?;
                }
            }
            Said::Acknowledged => {}
            Said::Report(report) if lab.reported.contains(&report.epoch) => {}
            Said::Report(report) => {
                lab.reported.insert(report.epoch);
                ensure!(renewals >= 2, "it was reported while it was paused");
                let outcomes = chunk::decode(&report.chunk, 2 * SLOTS)?;
                ensure!(outcomes.iter().all(|outcome| outcome.is_probed()), "{outcomes:?}");
                break;
            }
            Said::Other | Said::Gone => bail!("the agent went"),
        }
    }
    let (after, outside) = lab.left()?;
    ensure!(after >= before + u64::from(2 * SLOTS) && outside == 0, "{after}, {outside}");
    // And what is outside stays so, whatever the control state says beside it.
    drop(session);
    lab.all_refused(&offers_of(BESIDE[0].parse()?)?)
}

fn wide() -> anyhow::Result<()> {
    let mut lab = Lab::new()?;
    let agent = lab.join(&["0.0.0.0/0", "::/0"])?;
    ensure!(lab.probed(Grant::of(inside()?)?)?.iter().all(|outcome| outcome.is_probed()), "it was not probed");
    lab.all_refused(&outside(&GUARDED)?)?;
    agent.signal(libc::SIGKILL)?;
    agent.wait(RUN_TIMEOUT)?;
    Ok(())
}

/// Longer than an agent waits before it dials again.
pub(crate) const HEAR_TIMEOUT: Duration = Duration::from_secs(30);
