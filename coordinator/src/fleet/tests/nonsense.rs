//! Whoever speaks nonsense at the agent port gets nothing, keeps nothing, and is counted.

use super::fixture::{LOOPBACK, World, story};
use crate::fleet::authority::Authority;
use crate::fleet::{AGENT_LIFE, ListenSettings};
use portsweep_agent::certificate::provider;
use portsweep_agent::dial::{joining, known};
use portsweep_agent::frames::{framed, hear};
use portsweep_agent::identity::StateDirectory;
use protocol::codec::{FRAME_BYTES_MAX, encode};
use protocol::enrol::{AgentId, COORDINATOR_NAME, ENROL_BYTES_MAX, LINK};
use protocol::id::{AgentName, InstanceId};
use protocol::message::{AgentMessage, Claim, CoordinatorMessage, Hello, PingMethod};
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
async fn link(world: &World, state: &StateDirectory) -> TlsStream<TcpStream> {
    tls(world, known(&state.credentials().unwrap(), LINK).unwrap()).await.unwrap()
}

fn hello(name: &str, instance: u64) -> Hello {
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

#[test]
fn bad_input_1_14_16_what_is_no_tls_is_closed_and_counted() {
    story(|| async {
        let world = impatient().await;
        drop(tcp(&world).await);
        for first in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"\0\0\0\x05hello", b"SSH-2.0-x\r\n", &[0xff; 64]] {
            let mut stream = tcp(&world).await;
            stream.write_all(first).await.unwrap();
            assert!(closes(&mut stream).await, "{first:?}");
        }
        assert_eq!(world.refusals("no-tls").await, 4);
        assert!(world.fleet.agents().await.unwrap().is_empty());
    });
}

#[test]
fn bad_input_2_11_21_a_handshake_that_never_ends_is_ended() {
    story(|| async {
        let world = impatient().await;
        let mut silent = tcp(&world).await;
        let mut begun = tcp(&world).await;
        begun.write_all(&[0x16]).await.unwrap();
        let mut half_closed = tcp(&world).await;
        half_closed.write_all(&[0x16, 3, 1]).await.unwrap();
        half_closed.shutdown().await.unwrap();
        for stream in [&mut silent, &mut begun, &mut half_closed] {
            assert!(closes(stream).await);
        }
        assert!(world.refusals("too-slow").await >= 2);
        // Within TLS, one byte and then silence.
        let mut inside = tls(&world, joining(world.fleet.pin()).unwrap()).await.unwrap();
        inside.write_all(&[0]).await.unwrap();
        assert!(closes(&mut inside).await);
        assert!(world.refusals("too-slow").await >= 3);
    });
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

#[test]
fn bad_input_3_4_5_6_7_8_19_frames_that_are_none_end_an_enrolment() {
    story(|| async {
        let world = impatient().await;
        let long = u32::try_from(ENROL_BYTES_MAX + 1).unwrap().to_be_bytes();
        for bytes in [
            &[0, 0, 0, 0][..],
            &[0xff; 4],
            &long,
            &[0, 0, 0, 3, 0x81, 0xa1],
            &[0, 0, 0, 2, 0xa1, b'x', 0, 0],
            &[0, 0, 0, 5, 0xa4, b'N', b'o', b'n', b'e'],
            &[0, 0, 0, 1, 0xc1],
        ] {
            let mut stream = tls(&world, joining(world.fleet.pin()).unwrap()).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            let _may_be_closed = stream.shutdown().await;
            assert!(closes(&mut stream).await, "{bytes:?}");
        }
        assert_eq!(world.refusals("frame").await, 7);
        assert!(world.fleet.agents().await.unwrap().is_empty());
    });
}

#[test]
fn bad_input_4_6_9_10_20_frames_on_a_link() {
    story(|| async {
        let world = World::new().await;
        let state = world.join("a").await;
        let long = u32::try_from(FRAME_BYTES_MAX + 1).unwrap().to_be_bytes();
        for bytes in [&[0xff; 4][..], &long, &[0, 0, 0, 1, 0xc1], &[0, 0, 0, 9, 0xa7]] {
            let mut stream = link(&world, &state).await;
            stream.write_all(bytes).await.unwrap();
            if bytes.len() == 5 && bytes[3] == 9 {
                stream.shutdown().await.unwrap();
            }
            assert!(closes(&mut stream).await, "{bytes:?}");
        }
        assert_eq!(world.refusals("frame").await, 3, "a frame that was cut is a broken connection");
        // Two frames at once, and one in pieces of a byte, are as good as any.
        let frame = |message: &AgentMessage| {
            let body = encode(message).unwrap();
            [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat()
        };
        let both = [frame(&AgentMessage::Hello(hello("a", 1))), frame(&AgentMessage::Renew { number: 1 })].concat();
        let mut stream = link(&world, &state).await;
        stream.write_all(&both).await.unwrap();
        for byte in frame(&AgentMessage::Leaving) {
            stream.write_all(&[byte]).await.unwrap();
            stream.flush().await.unwrap();
        }
        let heard = say(stream, &[]).await;
        assert!(matches!(heard[..], [CoordinatorMessage::Welcome(_), CoordinatorMessage::Answered { number: 1 }]));
    });
}

#[test]
fn bad_input_18_50_51_69_what_comes_out_of_turn_is_refused_and_shown() {
    story(|| async {
        let world = World::new().await;
        let state = world.join("a").await;
        let alien = VersionRange { oldest: 7, newest: 9 };
        for (messages, why) in [
            (vec![AgentMessage::Renew { number: 1 }], "the first frame of a session is hello"),
            (vec![AgentMessage::Hello(hello("a", 1)), AgentMessage::Hello(hello("a", 1))], "one hello"),
            (vec![AgentMessage::Hello(Hello { versions: alien, ..hello("a", 1) })], "upgrade the coordinator"),
            (vec![AgentMessage::Hello(hello("b", 1))], "hello is of b, and the certificate of a"),
        ] {
            let heard = say(link(&world, &state).await, &messages).await;
            let Some(CoordinatorMessage::Refused { reason }) = heard.last() else { panic!("{heard:?}") };
            assert!(reason.contains(why), "{reason}");
            let shown = world.until("a", |view| view.error.as_deref().is_some_and(|error| error.contains(why))).await;
            assert!(shown.error_at.is_some());
        }
        assert_eq!(world.refusals("protocol").await, 2);
        assert_eq!((world.refusals("versions").await, world.refusals("identity").await), (1, 1));
    });
}

#[test]
fn bad_input_68_a_thousand_claims_are_answered_and_grant_nothing_that_is_not_there() {
    story(|| async {
        let world = World::new().await;
        let state = world.join("a").await;
        let mut messages = vec![AgentMessage::Hello(hello("a", 1))];
        messages.extend(
            (1..=1_000).map(|number| AgentMessage::Claim(Claim { number, targets: u32::MAX, targets_each: u32::MAX })),
        );
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
