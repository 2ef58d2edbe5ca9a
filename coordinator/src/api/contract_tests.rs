//! The API keeps to its own document: every operation in it is asked, with requests made at random from it, good and bad, and every answer
//! must be one that the document allows. No agent runs here, so nothing is probed.

use super::agents::OwnAgent;
use super::description::{For, OPERATIONS, Operation, TEXT, Value as Kind};
use super::lists::UPLOADS_MAX;
use super::{Serving, openapi, start};
use crate::actors::coordinator::{Coordinator, TOLD};
use crate::fleet::Fleet;
use crate::maps::Maps;
use crate::scan::wall;
use crate::serve::access::{Access, LOCAL_TOKEN, MakeToken, Role};
use crate::serve::drain;
use crate::serve::feed::Feed;
use crate::serve::lists::Lists;
use crate::store::thread;
use crate::web::found::Finder;
use actix::prelude::*;
use coordinator_core::coordinator::Coordinator as Machine;
use coordinator_core::settings::Settings;
use coordinator_core::store::memory::MemoryStore;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use jsonschema::Validator;
use portsweep_agent::clock::Clock;
use portsweep_agent::queue;
use protocol::range_set::AddressSet;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

/// How many requests are made of each operation.
const REQUESTS: u32 = 60;
/// Longer than anything here takes.
const STORY_TIMEOUT: Duration = Duration::from_secs(120);
/// What is no value of anything, and is made to break something.
const HOSTILE: &[&str] = &[
    "-1",
    "18446744073709551615",
    "18446744073709551616",
    "1e400",
    "'; DROP TABLE scan; --",
    "../../etc/passwd",
    "..%2f..%2f",
    "\u{0}",
    "\u{202e}\u{661}\u{662}",
    "a\r\nSet-Cookie: a=b",
    "=HYPERLINK(1)",
    "<script>",
    "0.0_",
    "::/0",
    "0-65535",
    "",
];

/// Numbers that look random and are the same each time.
struct Random(u64);

impl Random {
    /// Below `end`.
    fn below(&mut self, end: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

/// A coordinator without agents that serves its API.
pub(super) struct World {
    directory: TempDir,
    access: Addr<Access>,
    pub(super) at: SocketAddr,
    pub(super) uploads: Arc<Semaphore>,
    document: Value,
    validators: BTreeMap<String, Validator>,
}

/// What was answered.
pub(super) struct Answer {
    pub(super) status: u16,
    kind: String,
    pub(super) body: Vec<u8>,
}

/// What is asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Ask {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) token: Option<String>,
    pub(super) content_type: Option<&'static str>,
    pub(super) body: Vec<u8>,
}

impl World {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let fleet = Fleet::open(&directory.path().join("authority"), &directory.path().join("fleet.db")).unwrap();
        let access = Access::new(directory.path(), "key", wall).unwrap().start();
        let (store, answers) = thread::start(Box::new(MemoryStore::new())).unwrap();
        let (told, events) = queue::bounded(TOLD);
        let machine = Machine::new(Settings::default().with_timeout(Duration::from_secs(10)));
        let coordinator = Coordinator::new(machine, Clock::Monotonic, store.clone(), answers, told).start();
        let (feed, _) = watch::channel(Feed::new(1, Vec::new()));
        let feed = Arc::new(feed);
        tokio::task::spawn_local(drain(events, Arc::clone(&feed), access.clone()));
        let uploads = Arc::new(Semaphore::new(UPLOADS_MAX));
        let serving = Serving {
            coordinator,
            finder: Finder::new(store.clone()).start(),
            maps: Maps::start(None, store.clone()).unwrap(),
            store,
            spool: directory.path().into(),
            feed,
            access: access.clone(),
            exclude: Arc::new(AddressSet::new()),
            hosts: Arc::new(vec!["test".to_owned()]),
            page: "http://127.0.0.1:7420".into(),
            pin: None,
            own: OwnAgent::default(),
            fleet,
            advertise: Arc::new(["127.0.0.1:7421".parse().unwrap()]),
            lists: Lists::default().start(),
            uploads: Arc::clone(&uploads),
            asks: Arc::default(),
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = listener.local_addr().unwrap();
        tokio::task::spawn_local(start(listener, None, serving).unwrap());
        let document = openapi::document();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let validators = schemas.keys().map(|name| {
            let schema =
                json!({ "$ref": format!("#/components/schemas/{name}"), "components": document["components"].clone() });
            (name.clone(), jsonschema::validator_for(&schema).unwrap())
        });
        let validators = validators.collect();
        Self { directory, access, at, uploads, document, validators }
    }

    pub(super) fn local_token(&self) -> String {
        std::fs::read_to_string(self.directory.path().join(LOCAL_TOKEN)).unwrap()
    }

    pub(super) async fn ask(&self, ask: &Ask) -> Answer {
        let stream = TcpStream::connect(self.at).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::task::spawn_local(async move {
            let _seen_by_who_reads = connection.await;
        });
        let mut request = Request::builder().method(Method::from_bytes(ask.method.as_bytes()).unwrap());
        request = request.uri(&ask.path).header("host", "test");
        if let Some(token) = &ask.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(kind) = ask.content_type {
            request = request.header("content-type", kind);
        }
        let request = request.body(Full::new(Bytes::from(ask.body.clone()))).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        let (head, mut body) = answer.into_parts();
        let kind = head.headers.get("content-type").map_or("", |kind| kind.to_str().unwrap());
        let kind = kind.split(';').next().unwrap_or_default().to_owned();
        let mut whole = Vec::new();
        while let Some(frame) = body.frame().await {
            whole.extend_from_slice(&frame.unwrap().into_data().unwrap_or_default());
            if kind == "text/event-stream" {
                // It has no end; what came shows that it begins.
                break;
            }
        }
        Answer { status: head.status.as_u16(), kind, body: whole }
    }

    /// Fails if the document does not allow this answer.
    fn check(&self, operation: &Operation, ask: &Ask, answer: &Answer) {
        let shown = String::from_utf8_lossy(&answer.body);
        let told = || format!("{ask:?}\nanswered {} {}: {shown}", answer.status, answer.kind);
        assert!(![500, 503].contains(&answer.status), "it failed: {}", told());
        let described = &self.document["paths"][operation.path][operation.method.to_ascii_lowercase()]["responses"];
        let described = &described[answer.status.to_string()];
        assert!(described.is_object(), "the status is not in the document: {}", told());
        let Some(content) = described["content"].as_object() else {
            return assert!(answer.body.is_empty(), "there is a body: {}", told());
        };
        let kind = content.get(&answer.kind);
        let schema = &kind.unwrap_or_else(|| panic!("the kind is not in the document: {}", told()))["schema"]["$ref"];
        let Some(name) = schema.as_str().and_then(|path| path.rsplit('/').next()) else { return };
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", told()));
        if let Err(error) = self.validators[name].validate(&body) {
            panic!("it is no {name}: {error}: {}", told());
        }
    }

    pub(super) async fn submit(&self) -> String {
        let body = json!({ "targets": ["127.0.0.1-127.0.0.9"], "ports": "1-40", "rate": 1 }).to_string().into_bytes();
        let ask = Ask {
            method: "POST".into(),
            path: "/api/v1/scans".into(),
            token: Some(self.local_token()),
            content_type: Some("application/json"),
            body,
        };
        let answer = self.ask(&ask).await;
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
        let submitted: Value = serde_json::from_slice(&answer.body).unwrap();
        submitted["scan"]["id"].as_str().unwrap().to_owned()
    }

    /// A value for a schema: one that fits, or at random something else.
    fn value(&self, schema: &Value, random: &mut Random, depth: u32) -> Value {
        if depth > 6 || random.one_in(25) {
            return random.of(&[json!(null), json!(-1), json!([[]]), json!({ "a": 1 }), json!("\u{202e}")]).clone();
        }
        if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
            return self.value(&self.document["components"]["schemas"][name], random, depth + 1);
        }
        for join in ["oneOf", "anyOf"] {
            if let Some(choices) = schema[join].as_array() {
                return self.value(random.of(choices), random, depth + 1);
            }
        }
        if let Some(words) = schema["enum"].as_array() {
            return random.of(words).clone();
        }
        let kind = match &schema["type"] {
            Value::Array(kinds) => random.of(kinds).as_str().unwrap_or_default().to_owned(),
            kind => kind.as_str().unwrap_or("null").to_owned(),
        };
        match kind.as_str() {
            "object" => {
                let required: Vec<_> = schema["required"].as_array().into_iter().flatten().collect();
                let mut members = Map::new();
                for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
                    if required.iter().any(|required| *required == name) || random.one_in(3) {
                        members.insert(name.clone(), self.value(schema, random, depth + 1));
                    }
                }
                if random.one_in(15) {
                    members.insert((*random.of(HOSTILE)).to_owned(), json!(1));
                }
                members.into()
            }
            "array" => (0..random.below(3)).map(|_| self.value(&schema["items"], random, depth + 1)).collect(),
            "integer" => {
                random.of(&[json!(0), json!(1), json!(7), json!(1_000), json!(u64::MAX), json!(i64::MIN)]).clone()
            }
            "number" => random.of(&[json!(0.5), json!(1), json!(1e300), json!(-0.0)]).clone(),
            "boolean" => json!(random.one_in(2)),
            // No names: they would be looked up.
            "string" => {
                let texts = ["127.0.0.1", "127.0.0.0/30", "22,80", "ping", "tcp", "portsweep -p 22 127.0.0.1", "a=b"];
                {
                    let usual = if random.one_in(2) { &texts[0] } else { random.of(&texts) };
                    json!(if random.one_in(6) { random.of(HOSTILE) } else { usual })
                }
            }
            _ => Value::Null,
        }
    }
}

/// As it stands in a URL.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// A request of an operation, and what of it is wrong for sure: the name of a parameter.
fn request(world: &World, operation: &Operation, ids: &[String], random: &mut Random) -> (Ask, Option<String>) {
    let mut path = operation.path.to_owned();
    if path.contains('{') {
        let hostile: &&str = random.of(HOSTILE);
        let named = if random.one_in(3) { encoded(hostile) } else { random.of(ids).clone() };
        let named = if named.is_empty() { "x".to_owned() } else { named };
        path = path.replace("{id}", &named).replace("{name}", &named);
    }
    let (mut pairs, mut wrong) = (Vec::new(), None);
    for parameter in operation.parameters {
        if !random.one_in(3) {
            continue;
        }
        let value = match parameter.value {
            _ if random.one_in(4) => (*random.of(HOSTILE)).to_owned(),
            Kind::Text(example) => example.to_owned(),
            Kind::Whole(least, most) => random.of(&[least, 3, most]).to_string(),
            Kind::OneOf(words) => (*random.of(words)).to_owned(),
        };
        pairs.push(format!("{}={}", parameter.name, encoded(&value)));
    }
    if random.one_in(8) {
        let name = "x'; DROP TABLE scan";
        pairs.insert(0, format!("{}=1", encoded(name)));
        wrong = Some(name.to_owned());
    } else if random.one_in(8) && !pairs.is_empty() {
        let twice = pairs[0].clone();
        wrong = twice.split('=').next().map(str::to_owned);
        pairs.push(twice);
    }
    if !pairs.is_empty() {
        path = format!("{path}?{}", pairs.join("&"));
    }
    let mut ask = Ask { method: operation.method.into(), path, token: Some(world.local_token()), ..Ask::default() };
    if operation.body == Some(TEXT) {
        ask.content_type =
            *random.of(&[Some("text/plain"), Some("text/plain; charset=utf-8"), Some("application/json")]);
        let hostile: &&str = random.of(HOSTILE);
        ask.body = random
            .of(&["127.0.0.0/30\n", "127.0.0.1 127.0.0.9-11 # some", "\u{feff}127.0.0.1", hostile])
            .to_string()
            .into();
    } else if let Some(name) = operation.body {
        let kinds = [Some("application/json"), Some("application/json; charset=utf-8"), Some("text/plain"), None];
        ask.content_type = if random.one_in(8) { *random.of(&kinds) } else { kinds[0] };
        ask.body = match random.below(12) {
            0 => b"{".to_vec(),
            1 => vec![b'['; 200_000],
            2 => vec![b' '; (256 << 10) + 1],
            3 => br#"{"targets": ["127.0.0.1"], "targets": ["127.0.0.2"], "rate": 1e400}"#.to_vec(),
            4 => vec![0xff, 0xfe],
            _ => world.value(&world.document["components"]["schemas"][name], random, 0).to_string().into_bytes(),
        };
    }
    (ask, wrong)
}

pub(super) fn story<F: Future<Output = ()>>(story: impl FnOnce(World) -> F) {
    System::new().block_on(async {
        tokio::time::timeout(STORY_TIMEOUT, story(World::start())).await.expect("it ends in time");
    });
}

#[test]
fn bad_input_93_every_answer_is_one_that_the_document_allows() {
    story(|world| async move {
        let mut ids = vec![world.submit().await, world.submit().await];
        let mut random = Random(7);
        let mut seen = BTreeMap::<(&str, u16), u32>::new();
        for operation in OPERATIONS {
            for _ in 0..REQUESTS {
                if operation.refusals.contains(&409) && random.one_in(12) {
                    ids.push(world.submit().await);
                }
                let (ask, wrong) = request(&world, operation, &ids, &mut random);
                let answer = world.ask(&ask).await;
                world.check(operation, &ask, &answer);
                *seen.entry((operation.id, answer.status)).or_default() += 1;
                if let Some(wrong) = wrong {
                    let said = String::from_utf8_lossy(&answer.body);
                    assert!(answer.status == 400 && said.contains(&wrong), "{ask:?}: {} {said}", answer.status);
                }
            }
        }
        // What was asked was not all nonsense.
        for operation in OPERATIONS.iter().filter(|operation| !operation.path.contains("{name}")) {
            let good = operation.answers.iter().any(|answer| seen.contains_key(&(operation.id, answer.status)));
            // No scan ends here but by cancel, no token has a scan's id.
            assert!(good || operation.id == "revokeToken", "{} was never answered well: {seen:?}", operation.id);
        }
    });
}

#[test]
fn a_request_as_the_document_has_it_is_carried_out() {
    story(|world| async move {
        let id = world.submit().await;
        for operation in
            OPERATIONS.iter().filter(|operation| operation.method == "GET" && operation.refusals.is_empty())
        {
            let path = operation.path.replace("{id}", &id);
            if path.contains('{') {
                continue;
            }
            for parameter in
                operation.parameters.iter().filter(|parameter| !["open", "by", "vantage"].contains(&parameter.name))
            {
                let values: Vec<_> = match parameter.value {
                    Kind::Text(example) => vec![example.to_owned()],
                    Kind::Whole(least, most) => vec![least.to_string(), most.to_string()],
                    Kind::OneOf(words) => words.iter().map(|word| (*word).to_owned()).collect(),
                };
                for value in values {
                    let path = format!("{path}?{}={}", parameter.name, encoded(&value));
                    let ask = Ask { method: "GET".into(), path, token: Some(world.local_token()), ..Ask::default() };
                    let answer = world.ask(&ask).await;
                    world.check(operation, &ask, &answer);
                    assert_eq!(answer.status, 200, "{ask:?}: {}", String::from_utf8_lossy(&answer.body));
                }
            }
        }
    });
}

#[test]
fn every_operation_asks_who_it_is_and_whether_they_may() {
    story(|world| async move {
        let id = world.submit().await;
        let made = world.access.send(MakeToken { name: String::new(), role: Role::Viewer }).await.unwrap();
        let (_, viewer) = made.unwrap();
        for operation in OPERATIONS {
            let path = operation.path.replace("{id}", &id).replace("{name}", "nobody");
            let asked = |token: Option<&str>| {
                let ask = Ask { method: operation.method.into(), path: path.clone(), ..Ask::default() };
                Ask { token: token.map(str::to_owned), ..ask }
            };
            let admitted = |status: u16| ![401, 403].contains(&status);
            let mut who = Vec::new();
            for token in [None, Some("psw_00"), Some(&*viewer)] {
                let ask = asked(token);
                let answer = world.ask(&ask).await;
                world.check(operation, &ask, &answer);
                who.push(answer.status);
            }
            match operation.who {
                For::All => assert!(who.iter().all(|status| admitted(*status)), "{}: {who:?}", operation.id),
                For::Viewers => assert!(who[..2] == [401, 401] && admitted(who[2]), "{}: {who:?}", operation.id),
                For::Operators => assert_eq!(who, [401, 401, 403], "{}", operation.id),
            }
        }
    });
}

#[test]
fn what_is_not_in_the_document_is_not_there() {
    story(|world| async move {
        let id = world.submit().await;
        let token = Some(world.local_token());
        let methods = ["GET", "POST", "PUT", "PATCH", "DELETE"];
        for path in world.document["paths"].as_object().unwrap().keys() {
            for method in methods {
                if OPERATIONS.iter().any(|operation| operation.path == path && operation.method == method) {
                    continue;
                }
                let path = path.replace("{id}", &id).replace("{name}", "nobody");
                let ask = Ask { method: method.into(), path, token: token.clone(), ..Ask::default() };
                assert_eq!(world.ask(&ask).await.status, 405, "{ask:?}");
            }
        }
        for path in ["/api", "/api/v1", "/api/v1/", "/api/v2/scans", "/api/v1/scans/", "/api/v1/scan"] {
            let ask = Ask { method: "GET".into(), path: path.into(), token: token.clone(), ..Ask::default() };
            assert_eq!(world.ask(&ask).await.status, 404, "{ask:?}");
        }
    });
}
