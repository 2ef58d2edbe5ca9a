//! Whoever speaks nonsense at the agent port gets nothing, keeps nothing, and is counted.

use super::fixture::{LOOPBACK, World, story};
use crate::fleet::authority::Authority;
use crate::fleet::{AGENT_LIFE, ListenSettings};
use portsweep_agent::certificate::provider;
use portsweep_agent::dial::{joining, known};
use portsweep_agent::frames::{framed, hear};
use portsweep_agent::identity::StateDirectory;
use protocol::codec::{FRAME_BYTES_MAX, encode};
use protocol::enrol::{AgentId, COORDINATOR_NAME, LINK};
use protocol::id::{AgentName, Epoch, InstanceId, ScanId};
use protocol::message::{
    AgentMessage, Checks, Claim, CommitReply, CoordinatorMessage, Hello, PingMethod, RefusedGrant, Report,
};
use protocol::probe::ProbeKind;
use protocol::range_set::AddressSet;
use protocol::version::{SPOKEN, VersionRange};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Impatient: what takes too long shows soon.
async fn impatient() -> World {
    let settings = ListenSettings {
        stranger_timeout: Duration::from_millis(400),
        strangers_max: 8,
        strangers_max_each: 4,
        ..ListenSettings::at(SocketAddr::new(LOOPBACK, 0))
    };
    World::with(settings, AGENT_LIFE).await
}

async fn tcp(world: &World) -> TcpStream {
    TcpStream::connect(world.listening.address()).await.unwrap()
}

async fn tls(world: &World, config: Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(COORDINATOR_NAME).unwrap();
    TlsConnector::from(config).connect(name, tcp(world).await).await
}

/// A link of an agent that joined.
pub(super) async fn link(world: &World, state: &StateDirectory) -> TlsStream<TcpStream> {
    tls(world, known(&state.credentials().unwrap(), LINK).unwrap()).await.unwrap()
}

pub(super) fn hello(name: &str, instance: u64) -> Hello {
    let name = AgentName::try_from(name.to_owned()).unwrap();
    Hello {
        versions: SPOKEN,
        agent: name.clone(),
        instance: InstanceId::new(instance),
        vantage: name,
        software: "0.1.0".to_owned(),
        kinds: ProbeKind::ALL.to_vec(),
        ping_method: PingMethod::Tcp,
        allow: AddressSet::new(),
        holds: Vec::new(),
        shares: Vec::new(),
        refused: None,
    }
}

/// Says these on a link; what the coordinator says until it closes.
async fn say(stream: TlsStream<TcpStream>, messages: &[AgentMessage]) -> Vec<CoordinatorMessage> {
    let mut framed = framed(stream, FRAME_BYTES_MAX);
    for message in messages {
        let frame = bytes::Bytes::from(encode(message).unwrap());
        if futures_util::SinkExt::send(&mut framed, frame).await.is_err() {
            break;
        }
    }
    let mut heard = Vec::new();
    while let Ok(Some(message)) = hear(&mut framed).await {
        heard.push(message);
    }
    heard
}

/// True if the peer closed, or reset.
async fn closes(stream: &mut (impl AsyncReadExt + Unpin)) -> bool {
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await.is_ok()
}

/// Says this first on a connection: it is closed, and counted as no TLS.
fn no_tls(first: &'static [u8]) {
    story(move || async move {
        let world = impatient().await;
        let mut stream = tcp(&world).await;
        stream.write_all(first).await.unwrap();
        assert!(closes(&mut stream).await);
        assert_eq!(world.refusals("no-tls").await, 1);
        assert!(world.fleet.agents().await.unwrap().is_empty());
    });
}

#[test]
fn bad_input_1_a_connection_that_is_closed_at_once_is_nothing() {
    story(|| async {
        let world = impatient().await;
        drop(tcp(&world).await);
        world.join("a").await;
    });
}

#[test]
fn bad_input_14_plaintext_on_the_port_of_tls() {
    no_tls(b"\0\0\0\x05hello");
}

#[test]
fn bad_input_16_http_on_the_agents_port() {
    no_tls(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
}

/// Says this and no more, without TLS and within: it is ended when its time is over.
fn too_slow(first: &'static [u8], shut_down: bool) {
    story(move || async move {
        let world = impatient().await;
        let mut outside = tcp(&world).await;
        let mut inside = tls(&world, joining(world.fleet.pin()).unwrap()).await.unwrap();
        outside.write_all(first).await.unwrap();
        inside.write_all(first).await.unwrap();
        if shut_down {
            outside.shutdown().await.unwrap();
            inside.shutdown().await.unwrap();
        }
        assert!(closes(&mut outside).await && closes(&mut inside).await);
        // What is no TLS does not even have that long.
        let ended = world.refusals("too-slow").await + world.refusals("no-tls").await;
        assert_eq!(ended, if shut_down { 0 } else { 2 });
        world.join("a").await;
    });
}

#[test]
fn bad_input_2_one_byte_and_then_silence() {
    too_slow(&[0x16], false);
}

#[test]
fn bad_input_5_a_length_without_a_body() {
    too_slow(&[0, 0, 0x40, 0], false);
}

#[test]
fn bad_input_8_a_length_that_is_longer_than_what_comes() {
    too_slow(&[0, 0, 0, 9, 0xa7], false);
}

#[test]
fn bad_input_21_half_closed_and_then_silence() {
    too_slow(&[0x16, 3, 1], true);
}

/// A piece every 100 ms, for ever: what counts is the whole, not the pause.
fn drips(first: &'static [u8], piece: &'static [u8]) {
    story(move || async move {
        let world = impatient().await;
        let mut stream = tls(&world, joining(world.fleet.pin()).unwrap()).await.unwrap();
        let mut left = stream.write_all(first).await;
        // Bounded: at 100 ms each this is longer than anything may take.
        for _ in 0..100 {
            if left.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            left = stream.write_all(piece).await;
        }
        assert!(left.is_err() || closes(&mut stream).await);
        assert_eq!(world.refusals("too-slow").await, 1);
    });
}

#[test]
fn bad_input_11_a_byte_now_and_then() {
    drips(&[], &[0]);
}

#[test]
fn bad_input_12_a_body_that_comes_byte_by_byte() {
    drips(&[0, 0, 0x3f, 0], &[0xc0]);
}

#[test]
fn bad_input_13_connections_that_say_nothing_are_few() {
    story(|| async {
        let world = impatient().await;
        let state = world.join("a").await;
        let mut silent = Vec::new();
        for _ in 0..40 {
            silent.push(tcp(&world).await);
        }
        // All but four are closed at once, the rest at their timeout; then the next one is served.
        for stream in &mut silent {
            assert!(closes(stream).await);
        }
        assert_eq!(world.refusals("too-many").await, 36);
        let heard = say(link(&world, &state).await, &[AgentMessage::Hello(hello("a", 1)), AgentMessage::Leaving]).await;
        assert!(matches!(heard[..], [CoordinatorMessage::Welcome(_)]), "{heard:?}");
    });
}

/// Says this within TLS, to enrol and on a link: both end, and are counted as no frame.
fn no_frame(bytes: &'static [u8]) {
    story(move || async move {
        let world = World::new().await;
        let state = world.join("a").await;
        let before = world.fleet.agents().await.unwrap();
        let mut enrolling = tls(&world, joining(world.fleet.pin()).unwrap()).await.unwrap();
        let mut linked = link(&world, &state).await;
        for stream in [&mut enrolling, &mut linked] {
            stream.write_all(bytes).await.unwrap();
            assert!(closes(stream).await);
        }
        world.until("a", |view| view.error.is_some()).await;
        assert_eq!(world.refusals("frame").await, 2);
        assert_eq!(world.fleet.agents().await.unwrap().len(), before.len());
        assert!(!world.fleet.agent("a").await.unwrap().connected);
    });
}

#[test]
fn bad_input_3_an_empty_frame() {
    no_frame(&[0, 0, 0, 0]);
}

#[test]
fn bad_input_4_the_longest_length() {
    no_frame(&[0xff; 4]);
}

#[test]
fn bad_input_6_a_frame_that_is_one_byte_too_long() {
    no_frame(&[0, 0x10, 0, 1]);
}

#[test]
fn bad_input_7_a_length_that_is_shorter_than_what_comes() {
    // The rest of the message is taken for the next length, if it comes to that.
    no_frame(&[0, 0, 0, 2, 0xa7, b'L', b'e', b'a', b'v', b'i', b'n', b'g']);
}

#[test]
fn bad_input_19_a_message_of_an_unknown_kind() {
    no_frame(&[0, 0, 0, 5, 0xa4, b'N', b'o', b'n', b'e']);
}

fn frame(message: &AgentMessage) -> Vec<u8> {
    let body = encode(message).unwrap();
    [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat()
}

#[test]
fn bad_input_9_two_frames_at_once_are_two() {
    story(|| async {
        let world = World::new().await;
        let state = world.join("a").await;
        let hello = frame(&AgentMessage::Hello(hello("a", 1)));
        let all = [
            hello,
            frame(&AgentMessage::Renew { number: 1, used: Vec::new(), rtt_us: None }),
            frame(&AgentMessage::Leaving),
        ]
        .concat();
        let mut stream = link(&world, &state).await;
        stream.write_all(&all).await.unwrap();
        let heard = say(stream, &[]).await;
        assert!(matches!(heard[..], [CoordinatorMessage::Welcome(_), CoordinatorMessage::Answered { number: 1 }]));
    });
}

#[test]
fn bad_input_10_a_frame_in_pieces_of_a_byte_is_one() {
    story(|| async {
        let world = World::new().await;
        let state = world.join("a").await;
        let mut stream = link(&world, &state).await;
        for message in [AgentMessage::Hello(hello("a", 1)), AgentMessage::Leaving] {
            for byte in frame(&message) {
                stream.write_all(&[byte]).await.unwrap();
                stream.flush().await.unwrap();
            }
        }
        assert!(matches!(say(stream, &[]).await[..], [CoordinatorMessage::Welcome(_)]));
    });
}

#[test]
fn bad_input_20_a_connection_that_is_reset_in_a_frame_ends_its_session() {
    story(|| async {
        let world = World::new().await;
        let state = world.join("a").await;
        let mut stream = link(&world, &state).await;
        stream.write_all(&frame(&AgentMessage::Hello(hello("a", 1)))).await.unwrap();
        stream.write_all(&[0, 0, 0, 9, 0xa7]).await.unwrap();
        world.until("a", |view| view.connected).await;
        socket2::SockRef::from(stream.get_ref().0).set_linger(Some(Duration::ZERO)).unwrap();
        drop(stream);
        world.until("a", |view| !view.connected).await;
        assert_eq!(world.refusals("frame").await, 0, "a connection that broke is nobody's fault");
    });
}

#[test]
fn bad_input_22_an_agent_that_never_reads_is_given_up() {
    story(|| async {
        let world = World::new().await;
        let state = world.join("a").await;
        let mut stream = link(&world, &state).await;
        stream.write_all(&frame(&AgentMessage::Hello(hello("a", 1)))).await.unwrap();
        world.until("a", |view| view.connected).await;
        let asking = async {
            let mut number = 0;
            loop {
                number += 1;
                if stream
                    .write_all(&frame(&AgentMessage::Renew { number, used: Vec::new(), rtt_us: None }))
                    .await
                    .is_err()
                {
                    return;
                }
            }
        };
        tokio::select! {
            () = asking => {}
            _ = world.until("a", |view| !view.connected) => {}
        }
        world.until("a", |view| !view.connected).await;
    });
}

/// Says these on a link: the coordinator refuses with `why`, the agent shows it, and it is audited as `kind`.
fn refused(messages: Vec<AgentMessage>, why: &'static str, kind: &'static str) {
    story(move || async move {
        let world = World::new().await;
        let state = world.join("a").await;
        let heard = say(link(&world, &state).await, &messages).await;
        let Some(CoordinatorMessage::Refused { reason }) = heard.last() else { panic!("{heard:?}") };
        assert!(reason.contains(why), "{reason}");
        let shown = world.until("a", |view| view.error.as_deref().is_some_and(|error| error.contains(why))).await;
        assert!(shown.error_at.is_some());
        assert_eq!(world.refusals(kind).await, 1);
    });
}

#[test]
fn bad_input_50_a_report_before_hello() {
    let report = Report {
        epoch: Epoch::new(1),
        chunk: Vec::new(),
        findings: Vec::new(),
        checks: Checks::default(),
        quiet_ms: 0,
    };
    refused(vec![AgentMessage::Report(report)], "the first frame of a session is hello", "protocol");
}

#[test]
fn bad_input_51_a_second_hello() {
    let hello = AgentMessage::Hello(hello("a", 1));
    refused(vec![hello.clone(), hello], "one hello", "protocol");
}

#[test]
fn bad_input_69_versions_of_a_later_agent_on_the_link() {
    let versions = VersionRange { oldest: 7, newest: 9 };
    let hello = AgentMessage::Hello(Hello { versions, ..hello("a", 1) });
    refused(vec![hello], "upgrade the coordinator", "versions");
}

#[test]
fn hello_under_another_name_than_the_certificates() {
    let hello = AgentMessage::Hello(hello("b", 1));
    refused(vec![hello], "hello is of b, and the certificate of a", "identity");
}

#[test]
fn a_renewal_whose_number_does_not_rise() {
    let messages = [2, 2].map(|number| AgentMessage::Renew { number, used: Vec::new(), rtt_us: None });
    let hello = AgentMessage::Hello(hello("a", 1));
    refused([vec![hello], messages.to_vec()].concat(), "the numbers of claims and renewals rise", "protocol");
}

#[test]
fn bad_input_52_a_report_for_a_lease_that_was_never_granted_is_gone() {
    story(|| async {
        let world = World::new().await;
        let state = world.join("a").await;
        let report = |epoch| {
            AgentMessage::Report(Report {
                epoch: Epoch::new(epoch),
                chunk: vec![1; 64],
                findings: Vec::new(),
                checks: Checks::default(),
                quiet_ms: 0,
            })
        };
        let messages = [AgentMessage::Hello(hello("a", 1)), report(0), report(1), report(u64::MAX)];
        let heard = say(link(&world, &state).await, &[&messages[..], &[AgentMessage::Leaving]].concat()).await;
        assert!(matches!(heard[0], CoordinatorMessage::Welcome(_)), "{heard:?}");
        let gone = |message: &CoordinatorMessage| {
            matches!(message, CoordinatorMessage::Committed { reply: CommitReply::Gone, .. })
        };
        assert!(heard[1..].iter().all(gone), "{heard:?}");
    });
}

#[test]
fn bad_input_68_a_thousand_claims_are_answered_and_grant_nothing_that_is_not_there() {
    story(|| async {
        let world = World::new().await;
        let state = world.join("a").await;
        let mut messages = vec![AgentMessage::Hello(hello("a", 1))];
        messages.extend((1..=1_000).map(|number| {
            AgentMessage::Claim(Claim { number, targets: u32::MAX, targets_each: u32::MAX, used: Vec::new() })
        }));
        messages.push(AgentMessage::Leaving);
        let heard = say(link(&world, &state).await, &messages).await;
        let answered = heard.iter().filter(|message| matches!(message, CoordinatorMessage::Answered { .. })).count();
        assert!(matches!(heard[0], CoordinatorMessage::Welcome(_)));
        assert_eq!((answered, heard.len()), (1_000, 1_001));
    });
}

#[test]
fn a_link_without_a_certificate_is_told_so() {
    story(|| async {
        let world = World::new().await;
        let mut config = Arc::unwrap_or_clone(joining(world.fleet.pin()).unwrap());
        config.alpn_protocols = vec![LINK.to_vec()];
        let heard = say(tls(&world, Arc::new(config.clone())).await.unwrap(), &[]).await;
        assert!(matches!(&heard[..], [CoordinatorMessage::Refused { .. }]), "{heard:?}");
        assert_eq!(world.refusals("no-certificate").await, 1);
        config.alpn_protocols = vec![b"h2".to_vec()];
        assert!(tls(&world, Arc::new(config.clone())).await.is_err(), "another protocol");
        config.alpn_protocols = Vec::new();
        let mut stream = tls(&world, Arc::new(config)).await.unwrap();
        assert!(closes(&mut stream).await, "no protocol");
        assert_eq!(world.refusals("handshake").await, 2);
    });
}

/// A client's TLS with whatever certificate.
fn showing(world: &World, certificate: CertificateDer<'static>, key: &KeyPair) -> Arc<ClientConfig> {
    let authority = Authority::open(world.directory.path(), AGENT_LIFE).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().to_vec().into()).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = vec![LINK.to_vec()];
    Arc::new(config)
}

#[test]
fn bad_input_72_certificates_that_are_not_an_agents_open_nothing() {
    story(|| async {
        let world = World::new().await;
        world.join("a").await;
        let key_of_authority = std::fs::read_to_string(world.directory.path().join("authority.key")).unwrap();
        let authority = Authority::open(world.directory.path(), AGENT_LIFE).unwrap();
        let issuer = Issuer::from_ca_cert_der(
            &authority.certificate().to_vec().into(),
            KeyPair::from_pem(&key_of_authority).unwrap(),
        )
        .unwrap();
        let key = KeyPair::generate().unwrap();
        let sound = || {
            let mut params = CertificateParams::default();
            let uri = format!("{}{}", protocol::enrol::AGENT_URI, AgentId::new(1));
            params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            params
        };
        let changed = |change: &dyn Fn(&mut CertificateParams)| {
            let mut params = sound();
            change(&mut params);
            params
        };
        let dated = |from, to| {
            changed(&|params| {
                params.not_before = rcgen::date_time_ymd(from, 1, 1);
                params.not_after = rcgen::date_time_ymd(to, 1, 1);
            })
        };
        let named = |names: Vec<SanType>| changed(&|params| params.subject_alt_names.clone_from(&names));
        let uri = |text: &str| SanType::URI(text.to_owned().try_into().unwrap());
        let for_servers = changed(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
        let ca = changed(&|params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained));
        for (what, params) in [
            ("expired", dated(2001, 2002)),
            ("not yet valid", dated(2090, 2091)),
            ("wrong usage", for_servers),
            ("an authority", ca),
            ("no name", named(Vec::new())),
            ("another's name", named(vec![uri("urn:example:1")])),
            ("two names", named(vec![uri("urn:portsweep:agent:0000000000000001"), uri("urn:example:1")])),
            ("no agent's id", named(vec![uri("urn:portsweep:agent:1")])),
        ] {
            let certificate = params.signed_by(&key, &issuer).unwrap();
            assert_shut_out(&world, what, certificate.der().clone(), &key).await;
        }
        let own = sound().self_signed(&key).unwrap();
        assert_shut_out(&world, "self-signed", own.der().clone(), &key).await;
        assert_eq!(world.refusals("certificate").await, 9);
        // Sound, and of an agent that nobody knows.
        let stranger = sound().signed_by(&key, &issuer).unwrap();
        let stream = tls(&world, showing(&world, stranger.der().clone(), &key)).await.unwrap();
        let heard = say(stream, &[]).await;
        assert!(matches!(&heard[..], [CoordinatorMessage::Refused { .. }]), "{heard:?}");
        assert_eq!(world.refusals("unknown-agent").await, 1);
    });
}

async fn assert_shut_out(world: &World, what: &str, certificate: CertificateDer<'static>, key: &KeyPair) {
    // In TLS 1.3 the client has finished before the server has looked at its certificate.
    if let Ok(stream) = tls(world, showing(world, certificate, key)).await {
        let heard = say(stream, &[AgentMessage::Hello(hello("a", 1))]).await;
        assert!(heard.is_empty(), "{what}: {heard:?}");
    }
}

#[test]
fn a_coordinator_whose_certificate_another_signed_is_not_spoken_to() {
    story(|| async {
        let (world, other) = (World::new().await, World::new().await);
        let state = world.join("a").await;
        let credentials = state.credentials().unwrap();
        assert!(tls(&other, known(&credentials, LINK).unwrap()).await.is_err());
    });
}

#[test]
fn a_grant_that_an_agent_refused_is_audited_and_shown_with_the_agent() {
    story(|| async {
        let world = World::new().await;
        let state = world.join("a").await;
        for epoch in [7, 8] {
            let reason = "a grant covers 198.51.100.7\u{1b}[2J, which it may not".to_owned();
            let refused = RefusedGrant { scan: ScanId::from_bytes([1; 16]), epoch: Epoch::new(epoch), reason };
            let hello = AgentMessage::Hello(Hello { refused: Some(Box::new(refused)), ..hello("a", 1) });
            let heard = say(link(&world, &state).await, &[hello, AgentMessage::Leaving]).await;
            assert!(matches!(&heard[..], [CoordinatorMessage::Welcome(_)]), "{heard:?}");
        }
        let rows = world.fleet.audit_rows(None, 100).await.unwrap();
        let rows: Vec<_> = rows.iter().filter(|row| row.what == "grant").collect();
        assert!(rows.iter().map(|row| row.count).sum::<i64>() == 2 && rows.len() <= 2, "{rows:?}");
        let error = world.fleet.agent("a").await.unwrap().error.unwrap();
        assert!(error.starts_with("it refused lease 8 of scan 01010101-"), "{error}");
        assert!(error.contains("covers 198.51.100.7\\u{1b}[2J"), "{error}");
    });
}
