//! The API's description as an OpenAPI 3.1 document: operations from the table in [`description`](super::description), schemas from the types
//! that are written and read. `coordinator/schema/openapi.json` is this document; a test fails where it is not.

use super::description::{For, OPERATIONS, Operation, TEXT, Value as Kind};
use super::{agents, ask, change, health, lists, maps, problem, receipt, scans, shape, targets, tokens};
use crate::cli::ScanSpec;
use crate::fleet::AgentView;
use crate::fleet::roster::Standing;
use crate::serve::access::{Role, Token};
use actix_web::http::StatusCode;
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

/// The types that stand in bodies and answers.
#[derive(OpenApi)]
#[openapi(components(schemas(
    AgentView,
    Role,
    ScanSpec,
    Standing,
    Token,
    agents::Agents,
    agents::Audit,
    agents::Labels,
    agents::MadeJoinToken,
    agents::NewJoinToken,
    agents::OwnAgent,
    agents::Row,
    change::Exclusion,
    change::Setting,
    health::Health,
    lists::TargetList,
    maps::AddressCell,
    maps::AddressTile,
    maps::PortCell,
    maps::PortColumn,
    maps::PortRow,
    maps::PortTile,
    maps::Tally,
    problem::Problem,
    receipt::Receipt,
    receipt::ReceiptAgent,
    scans::Command,
    scans::Wanted,
    shape::Changed,
    shape::Finding,
    shape::Progress,
    shape::Scan,
    shape::Scans,
    shape::Submitted,
    targets::TargetPage,
    targets::TargetRow,
    tokens::MadeToken,
    tokens::NewToken,
    tokens::Tokens,
)))]
struct Schemas;

/// The document.
#[must_use]
pub fn document() -> Value {
    let schemas = serde_json::to_value(Schemas::openapi()).unwrap_or_default();
    let mut schemas = schemas["components"]["schemas"].clone();
    schemas["Result"] = json!({
        "type": "object",
        "description": "What `-w` writes: coordinator/schema/result-1.json describes it.",
        "required": ["schema", "scan", "summary", "agents", "hosts", "silent", "not_probed"],
        "properties": { "schema": { "const": crate::report::json::SCHEMA } },
    });
    schemas["ResultOrPage"] = json!({ "oneOf": [reference("Result"), reference("TargetPage")] });
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method.to_ascii_lowercase()] = described(operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "portsweep coordinator",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Scans, agents and what was found. Times that are numbers are seconds since 1970. Members are only ever added.",
            "license": { "name": "MIT", "identifier": "MIT" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "`portsweep token api` makes one." },
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": super::guard::COOKIE,
                    "description": "The page's session: the address that serve prints opens it.",
                },
            },
        },
    })
}

/// The document as it is served and kept in the repository.
#[must_use]
pub fn text() -> String {
    let mut text = serde_json::to_string_pretty(&document()).unwrap_or_default();
    text.push('\n');
    text
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

fn described(operation: &Operation) -> Value {
    let named = operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let named =
        named.map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }));
    let asked = operation.parameters.iter().map(|parameter| {
        let schema = match parameter.value {
            Kind::Text(example) => json!({ "type": "string", "examples": [example] }),
            Kind::Whole(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
            Kind::OneOf(words) => json!({ "type": "string", "enum": words }),
        };
        json!({ "name": parameter.name, "in": "query", "description": parameter.says, "schema": schema })
    });
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.says,
        "parameters": named.chain(asked).collect::<Vec<_>>(),
        "responses": answers(operation),
        "security": match operation.who {
            For::All => json!([]),
            For::Viewers | For::Operators => json!([{ "token": [] }, { "session": [] }]),
        },
    });
    if operation.who == For::Operators {
        described["description"] = "For tokens of operators.".into();
    }
    if let Some(body) = operation.body {
        let (kind, schema) = match body {
            TEXT => (TEXT, json!({ "type": "string" })),
            body => ("application/json", reference(body)),
        };
        described["requestBody"] = json!({ "required": true, "content": { kind: { "schema": schema } } });
    }
    described
}

/// The statuses with which an operation may refuse.
#[must_use]
pub fn refusals(operation: &Operation) -> Vec<u16> {
    // A Host that is missing or another's, something unknown in the query; the process ends or its disk fails.
    let mut refusals = vec![400, 403, 405, 500, 503];
    if operation.who != For::All {
        refusals.push(401);
    }
    if operation.path.contains('{') {
        refusals.push(404);
    }
    if operation.body.is_some() {
        refusals.extend([413, 415]);
    }
    refusals.extend(operation.refusals);
    refusals.sort_unstable();
    refusals.dedup();
    refusals
}

fn answers(operation: &Operation) -> Value {
    let mut answers = Map::new();
    for answer in operation.answers {
        let content = answer.content.iter().map(|(kind, schema)| {
            let described = schema.map_or_else(|| json!({}), |schema| json!({ "schema": reference(schema) }));
            ((*kind).to_owned(), described)
        });
        let mut described = json!({ "description": answer.says });
        let content: Map<_, _> = content.collect();
        if !content.is_empty() {
            described["content"] = content.into();
        }
        answers.insert(answer.status.to_string(), described);
    }
    for status in refusals(operation) {
        let says = match status {
            413 if operation.body == Some(TEXT) => format!("A list has at most {} bytes.", lists::LIST_BYTES_MAX),
            413 => format!("A body has at most {} bytes.", ask::BODY_BYTES_MAX),
            _ => StatusCode::from_u16(status)
                .ok()
                .and_then(|status| status.canonical_reason())
                .unwrap_or_default()
                .to_owned(),
        };
        let content = json!({ "application/problem+json": { "schema": reference("Problem") } });
        answers.insert(status.to_string(), json!({ "description": says, "content": content }));
    }
    answers.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Where the document is kept.
    const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/openapi.json");
    /// Set, the test writes the document instead of comparing it.
    const WRITE: &str = "PORTSWEEP_WRITE_OPENAPI";

    #[test]
    fn the_document_in_the_repository_is_this_one() {
        if std::env::var_os(WRITE).is_some() {
            std::fs::write(Path::new(KEPT), text()).unwrap();
        }
        let kept = std::fs::read_to_string(KEPT).unwrap_or_default();
        assert!(
            kept == text(),
            "coordinator/schema/openapi.json is stale: {WRITE}=1 cargo test -p portsweep --lib openapi"
        );
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_schema_is_used() {
        let document = document();
        let mut references = std::collections::BTreeSet::new();
        collect(&document, &mut references);
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let named: std::collections::BTreeSet<_> =
            schemas.keys().map(|name| format!("#/components/schemas/{name}")).collect();
        // A line of findings: no operation answers with one alone.
        let lines = "#/components/schemas/Finding".to_owned();
        references.insert(lines);
        assert_eq!(references, named);
    }

    fn collect(value: &Value, references: &mut std::collections::BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                references.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|value| collect(value, references));
            }
            Value::Array(items) => items.iter().for_each(|value| collect(value, references)),
            _ => {}
        }
    }
}
