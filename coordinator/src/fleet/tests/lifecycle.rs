//! An agent's life: joining, scanning, restarting, renewing, being drained, revoked and copied.

use super::fixture::{LOOPBACK, World, copy, join, saying, start, start_through, story};
use crate::fleet::roster::Standing;
use crate::fleet::{AGENT_LIFE, ListenSettings};
use portsweep_agent::dial::{Proxies, Route};
use portsweep_agent::enrol::{self, EnrolError};
use portsweep_agent::identity;
use protocol::enrol::Join;
use protocol::token::{JoinToken, Pin};
use protocol::version::VersionRange;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[test]
fn an_agent_joins_scans_and_does_not_join_again() {
    story(|| async {
        let mut world = World::new().await;
        let state = world.join("lab-1").await;
        let agent = start(&state);
        let view = world.until("lab-1", |view| view.connected).await;
        assert_eq!((view.vantage.as_str(), view.labels["site"].as_str()), ("lab-1", "lab"));
        assert_eq!((view.allow, view.standing), (vec!["127.0.0.0/8".to_owned()], Standing::Good));
        world.scan().await;
        agent.end().await;
        world.until("lab-1", |view| !view.connected).await;
        // With its state alone: no token.
        let agent = start(&state);
        let again = world.until("lab-1", |view| view.connected).await;
        assert_eq!(again.serial, view.serial);
        assert_ne!(again.instance, view.instance);
        world.scan().await;
        agent.end().await;
        assert_eq!(world.fleet.agents().await.unwrap().len(), 1);
    });
}

#[test]
fn bad_input_71_a_token_with_the_pin_of_another_authority_reaches_nobody() {
    story(|| async {
        let world = World::new().await;
        let token = world.token().await;
        let other = JoinToken::new(token.addresses().to_vec(), Pin::of(b"another"), token.secret().clone()).unwrap();
        let error = join(&world.state("a"), "a", &other).await.unwrap_err();
        assert!(matches!(&error, EnrolError::Dial(_)), "{error}");
        assert!(format!("{:#}", anyhow::Error::from(error)).contains("the pin of the token is another's"));
        assert!(world.fleet.agents().await.unwrap().is_empty());
        // It told nobody its secret: the right token still works.
        join(&world.state("a"), "a", &token).await.unwrap();
    });
}

#[test]
fn bad_input_70_a_token_that_was_used_or_is_over_joins_nobody() {
    story(|| async {
        let world = World::new().await;
        let refused = |joined: Result<_, EnrolError>| match joined {
            Err(EnrolError::Refused(reason)) => reason,
            other => panic!("{other:?}"),
        };
        let token = world.token().await;
        let first = join(&world.state("a"), "a", &token).await.unwrap();
        assert!(refused(join(&world.state("b"), "b", &token).await).contains("used before"));
        // The same key: its answer was lost.
        assert_eq!(join(&world.state("a"), "a", &token).await.unwrap().agent, first.agent);
        let over = world.token_for(Duration::ZERO).await;
        assert!(refused(join(&world.state("b"), "b", &over).await).contains("time is over"));
        let another = World::new().await;
        let alien = another.token().await;
        let alien = JoinToken::new(token.addresses().to_vec(), token.pin(), alien.secret().clone()).unwrap();
        assert!(refused(join(&world.state("b"), "b", &alien).await).contains("not one of this coordinator's"));
        assert!(refused(join(&world.state("b"), "a", &world.token().await).await).contains("choose another --name"));
        for kind in ["token-used", "token-expired", "token", "name-taken"] {
            assert_eq!(world.refusals(kind).await, 1, "{kind}");
        }
        assert_eq!(world.fleet.agents().await.unwrap().len(), 1);
    });
}

#[test]
fn bad_input_18_versions_that_do_not_meet_are_refused_with_what_to_upgrade() {
    story(|| async {
        let world = World::new().await;
        for (oldest, newest, which) in [(0, 0, "upgrade the agent"), (255, 255, "upgrade the coordinator")] {
            let (state, token) = (world.state("a"), world.token().await);
            let route = Route::new(token.addresses().to_vec(), Proxies::default());
            let request = Join { versions: VersionRange { oldest, newest }, ..saying(&state, "a", &token) };
            let error = enrol::join(&route, token.pin(), request).await.unwrap_err().to_string();
            assert!(error.contains(which), "{error}");
        }
        assert_eq!(world.refusals("versions").await, 2);
    });
}

#[test]
fn revoking_closes_the_session_within_a_second_and_for_good() {
    story(|| async {
        let world = World::new().await;
        let state = world.join("a").await;
        let agent = start(&state);
        world.until("a", |view| view.connected).await;
        let id = world.fleet.revoke("a", "test").await.unwrap().id;
        let gone = world.until(&id, |view| !view.connected);
        let gone = tokio::time::timeout(Duration::from_secs(1), gone).await.expect("within a second");
        assert_eq!(gone.standing, Standing::Revoked);
        // It dials again, and is told.
        let told = world.until(&id, |view| view.error.as_deref().is_some_and(|error| error.contains("revoked")));
        assert!(!told.await.connected);
        let credentials = state.credentials().unwrap();
        let route = Route::new(state.joined().unwrap().unwrap().coordinator, Proxies::default());
        let request = identity::request(&credentials.key).unwrap();
        let error = enrol::renew(&route, &credentials, request).await.unwrap_err();
        assert!(matches!(error, EnrolError::Refused(_)), "{error}");
        drop(agent);
    });
}

#[test]
fn certificates_are_renewed_before_they_end() {
    story(|| async {
        let settings = ListenSettings::at(SocketAddr::new(LOOPBACK, 0));
        let mut world = World::with(settings, Duration::from_secs(4)).await;
        let state = world.join("a").await;
        let first = state.credentials().unwrap().certificate;
        let agent = start(&state);
        let before = world.until("a", |view| view.connected).await.serial;
        world.until("a", |view| view.serial != before).await;
        world.scan().await;
        agent.end().await;
        assert_ne!(state.credentials().unwrap().certificate, first);
        // The renewed one opens the link.
        let agent = start(&state);
        world.until("a", |view| view.connected).await;
        agent.end().await;
    });
}

#[test]
fn a_key_renews_only_its_own_agent() {
    story(|| async {
        let world = World::new().await;
        let (a, b) = (world.join("a").await, world.join("b").await);
        let route = Route::new(a.joined().unwrap().unwrap().coordinator, Proxies::default());
        let request = identity::request(&b.key().unwrap()).unwrap();
        let error = enrol::renew(&route, &a.credentials().unwrap(), request).await.unwrap_err();
        assert!(error.to_string().contains("another key"), "{error}");
        assert_eq!(world.refusals("request").await, 1);
    });
}

#[test]
fn bad_input_73_a_key_in_two_places_shuts_both_out_and_is_shown() {
    story(|| async {
        let world = World::new().await;
        let state = world.join("a").await;
        let copied = world.state("copy");
        copy(state.path(), copied.path());
        let first = start(&state);
        let one = world.until("a", |view| view.connected).await.instance;
        let second = start(&copied);
        // The second takes the place of the first, which dials again: now it is known.
        world.until("a", |view| view.instance != one).await;
        let shown = world.until("a", |view| view.standing == Standing::Copied && !view.connected).await;
        assert!(shown.error.is_some_and(|error| error.contains("two places")));
        assert!(world.refusals("copied key").await >= 1);
        // Revoked, the name is free for an agent with a key of its own.
        world.fleet.revoke("a", "test").await.unwrap();
        join(&world.state("new"), "a", &world.token().await).await.unwrap();
        drop((first, second));
    });
}

#[test]
fn a_link_goes_through_a_proxy_that_is_asked_to_connect() {
    story(|| async {
        let mut world = World::new().await;
        let state = world.join("a").await;
        let proxy = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
        let setting = format!("http://me:secret@{}", proxy.local_addr().unwrap());
        let target = world.listening.address();
        tokio::task::spawn_local(async move {
            loop {
                let (mut client, _) = proxy.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(client.read_u8().await.unwrap());
                }
                let request = String::from_utf8(request).unwrap();
                assert!(request.starts_with(&format!("CONNECT {target} HTTP/1.1\r\n")), "{request}");
                assert!(request.contains("\r\nProxy-Authorization: Basic bWU6c2VjcmV0\r\n"), "{request}");
                client.write_all(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n").await.unwrap();
                let mut server = TcpStream::connect(target).await.unwrap();
                tokio::task::spawn_local(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
            }
        });
        let agent = start_through(&state, Proxies::new(&setting, "").unwrap());
        world.until("a", |view| view.connected).await;
        world.scan().await;
        agent.end().await;
        // One that says no is named.
        let refusing = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
        let setting = format!("http://{}", refusing.local_addr().unwrap());
        tokio::task::spawn_local(async move {
            let (mut client, _) = refusing.accept().await.unwrap();
            client.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n").await.unwrap();
            let _until_it_leaves = client.read_to_end(&mut Vec::new()).await;
        });
        let token = world.token().await;
        let route = Route::new(token.addresses().to_vec(), Proxies::new(&setting, "").unwrap());
        let request = saying(&world.state("b"), "b", &token);
        let error = enrol::join(&route, token.pin(), request).await.unwrap_err();
        assert!(format!("{:#}", anyhow::Error::from(error)).contains("403 Forbidden"));
    });
}

#[test]
fn labels_and_draining_are_kept_and_shown() {
    story(|| async {
        let world = World::new().await;
        world.join("a").await;
        let labels = ["site=x", "rack=7"].map(|label| label.parse().unwrap()).to_vec();
        let view = world.fleet.label("a", labels, "test").await.unwrap();
        assert_eq!(view.labels.into_iter().map(|(key, value)| key + &value).collect::<Vec<_>>(), ["rack7", "sitex"]);
        let view = world.fleet.label("a", vec!["rack=".parse().unwrap()], "test").await.unwrap();
        assert_eq!(view.labels.len(), 1);
        assert!(world.fleet.drain("a", true, "test").await.unwrap().drained);
        assert!(!world.fleet.drain("a", false, "test").await.unwrap().drained);
        assert!(world.fleet.agent("nobody").await.is_err());
        let _week = AGENT_LIFE;
        let audit = world.fleet.audit_rows(None, 100).await.unwrap();
        for what in ["make join token", "join", "sign certificate", "label agent", "drain agent"] {
            assert!(audit.iter().any(|row| row.what == what), "{what}");
        }
    });
}
