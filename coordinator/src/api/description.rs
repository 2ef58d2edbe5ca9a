//! What the API is, as one table: every operation with who may ask it, its parameters, its body and its answers. The handlers take the names
//! of their parameters from here, and the OpenAPI document ([`openapi`](super::openapi)) is made of it.

use coordinator_core::maps::addresses::DEPTH_MAX;

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// Everybody.
    All,
    /// Whoever shows a token or a session.
    Viewers,
    /// Whoever may change something.
    Operators,
}

/// What a parameter's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text of this form; the example is good.
    Text(&'static str),
    /// A whole number, from and to.
    Whole(u64, u64),
    /// One of these words.
    OneOf(&'static [&'static str]),
}

/// A parameter of a query.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub says: &'static str,
    /// What it is.
    pub value: Value,
}

/// What is answered.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// What that means.
    pub says: &'static str,
    /// The kinds of content, each with the name of its schema where it is JSON of ours.
    pub content: &'static [(&'static str, Option<&'static str>)],
}

/// An operation.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// Its name.
    pub id: &'static str,
    /// `GET`, `POST`, `PATCH` or `DELETE`.
    pub method: &'static str,
    /// Where, with `{id}` or `{name}` for what is named.
    pub path: &'static str,
    /// What it does.
    pub says: &'static str,
    /// Who may ask.
    pub who: For,
    /// The parameters of its query.
    pub parameters: &'static [Parameter],
    /// The schema of its body, if it has one; or [`TEXT`].
    pub body: Option<&'static str>,
    /// Its good answers.
    pub answers: &'static [Answer],
    /// Its refusals beside those that every operation has.
    pub refusals: &'static [u16],
}

const JSON: &str = "application/json";
/// A body that is text, in place of a schema's name.
pub const TEXT: &str = "text/plain";

/// An answer of 200 with JSON.
macro_rules! ok {
    ($schema:literal) => {
        &[Answer { status: 200, says: "It.", content: &[(JSON, Some($schema))] }]
    };
}

/// Changed at once, or not in force everywhere yet.
const CHANGED: &[Answer] = &[
    Answer { status: 200, says: "It is in force everywhere.", content: &[(JSON, Some("Changed"))] },
    Answer {
        status: 202,
        says: "It is kept, and not in force yet at those that `waits_for` names.",
        content: &[(JSON, Some("Changed"))],
    },
];

const ROWS: [(&str, Option<&str>); 2] = [("application/x-ndjson", None), ("text/csv", None)];

const FORMAT: Parameter = Parameter {
    name: "format",
    says: "The form of the answer; json if left out.",
    value: Value::OneOf(&["json", "jsonl", "csv"]),
};
const ADDRESS: Parameter = Parameter {
    name: "address",
    says: "Only these: addresses, networks and ranges, joined by commas.",
    value: Value::Text("127.0.0.0/8,192.0.2.1-192.0.2.4"),
};
const PORT: Parameter = Parameter { name: "port", says: "Only these ports.", value: Value::Text("22,80-90,http") };
const KIND: Parameter =
    Parameter { name: "kind", says: "Only what this kind of probe found.", value: Value::OneOf(&["ping", "tcp"]) };
const STATE: Parameter = Parameter {
    name: "state",
    says: "Only these states, joined by commas: open, closed, filtered, up, down, not-probed.",
    value: Value::Text("open,up"),
};
const REASON: Parameter = Parameter {
    name: "reason",
    says: "Only these reasons, or causes of what was not probed, joined by commas.",
    value: Value::Text("syn-ack,no-response"),
};
const AGENT: Parameter = Parameter { name: "agent", says: "Only what this agent saw.", value: Value::Text("lab-1") };
const CURSOR: Parameter = Parameter {
    name: "cursor",
    says: "Where to go on: `next` of the page before, or in the Link header.",
    value: Value::Text("0.0_127.0.0.1_22"),
};
const LIMIT: Parameter = Parameter {
    name: "limit",
    says: "At most so many; for json 1,000 if left out and 10,000 at most, else all.",
    value: Value::Whole(1, super::targets::LIMIT_MAX),
};

const VANTAGE: Parameter = Parameter {
    name: "vantage",
    says: "Only what was seen from there, of a scan that several vantages make.",
    value: Value::Text("inside"),
};

/// Every operation.
pub const OPERATIONS: &[Operation] = &[
    Operation {
        id: "healthz",
        method: "GET",
        path: "/healthz",
        says: "Whether the process answers.",
        who: For::All,
        parameters: &[],
        body: None,
        answers: ok!("Health"),
        refusals: &[],
    },
    Operation {
        id: "readyz",
        method: "GET",
        path: "/readyz",
        says: "Whether scans are taken and carried out.",
        who: For::All,
        parameters: &[],
        body: None,
        answers: ok!("Health"),
        refusals: &[],
    },
    Operation {
        id: "metrics",
        method: "GET",
        path: "/metrics",
        says: "The coordinator in numbers, for Prometheus.",
        who: For::Viewers,
        parameters: &[],
        body: None,
        answers: &[Answer { status: 200, says: "They.", content: &[("text/plain", None)] }],
        refusals: &[],
    },
    Operation {
        id: "description",
        method: "GET",
        path: "/api/v1/openapi.json",
        says: "This document.",
        who: For::All,
        parameters: &[],
        body: None,
        answers: &[Answer { status: 200, says: "It.", content: &[(JSON, None)] }],
        refusals: &[],
    },
    Operation {
        id: "listScans",
        method: "GET",
        path: "/api/v1/scans",
        says: "The scans, newest first.",
        who: For::Viewers,
        parameters: &[Parameter {
            name: "status",
            says: "Only those that are so.",
            value: Value::OneOf(&["running", "paused", "partial", "interrupted", "done", "cancelled"]),
        }],
        body: None,
        answers: ok!("Scans"),
        refusals: &[],
    },
    Operation {
        id: "submitScan",
        method: "POST",
        path: "/api/v1/scans",
        says: "Submits a scan: as a document, or as a command line that may hold only what shapes the plan.",
        who: For::Operators,
        parameters: &[],
        body: Some("Wanted"),
        answers: &[Answer {
            status: 201,
            says: "It is stored, and begins; Location names it.",
            content: &[(JSON, Some("Submitted"))],
        }],
        refusals: &[409],
    },
    Operation {
        id: "showScan",
        method: "GET",
        path: "/api/v1/scans/{id}",
        says: "A scan, and how far it is.",
        who: For::Viewers,
        parameters: &[],
        body: None,
        answers: ok!("Scan"),
        refusals: &[],
    },
    Operation {
        id: "setScan",
        method: "PATCH",
        path: "/api/v1/scans/{id}",
        says: "Changes rates or weight while it runs; null takes a limit away.",
        who: For::Operators,
        parameters: &[],
        body: Some("Setting"),
        answers: CHANGED,
        refusals: &[409],
    },
    Operation {
        id: "pauseScan",
        method: "POST",
        path: "/api/v1/scans/{id}/pause",
        says: "Lets it wait.",
        who: For::Operators,
        parameters: &[],
        body: None,
        answers: CHANGED,
        refusals: &[409],
    },
    Operation {
        id: "resumeScan",
        method: "POST",
        path: "/api/v1/scans/{id}/resume",
        says: "Lets it go on after a pause.",
        who: For::Operators,
        parameters: &[],
        body: None,
        answers: CHANGED,
        refusals: &[409],
    },
    Operation {
        id: "cancelScan",
        method: "POST",
        path: "/api/v1/scans/{id}/cancel",
        says: "Ends it for good.",
        who: For::Operators,
        parameters: &[],
        body: None,
        answers: CHANGED,
        refusals: &[409],
    },
    Operation {
        id: "excludeFromScan",
        method: "POST",
        path: "/api/v1/scans/{id}/exclude",
        says: "Probes these no more, whatever was asked for.",
        who: For::Operators,
        parameters: &[],
        body: Some("Exclusion"),
        answers: CHANGED,
        refusals: &[409],
    },
    Operation {
        id: "scanResults",
        method: "GET",
        path: "/api/v1/scans/{id}/results",
        says: "The result, at one moment: whole as `-w` and `-o` write it, or with a filter, a cursor or a limit a page of single targets.",
        who: For::Viewers,
        parameters: &[
            Parameter {
                name: "format",
                says: "The form of the answer; json if left out. A table has no filters.",
                value: Value::OneOf(&["json", "jsonl", "csv", "table"]),
            },
            Parameter {
                name: "open",
                says: "Of a whole result as table or JSON lines, only open ports.",
                value: Value::OneOf(&["true", "false"]),
            },
            Parameter { name: "by", says: "How a table is laid out.", value: Value::OneOf(&["host", "port"]) },
            ADDRESS,
            PORT,
            KIND,
            STATE,
            REASON,
            AGENT,
            CURSOR,
            LIMIT,
        ],
        body: None,
        answers: &[Answer {
            status: 200,
            says: "It. Where there is more of a page, a Link header with rel=\"next\" says where.",
            content: &[(JSON, Some("ResultOrPage")), ROWS[0], ROWS[1], ("text/plain", None)],
        }],
        refusals: &[],
    },
    Operation {
        id: "scanTargets",
        method: "GET",
        path: "/api/v1/scans/{id}/targets",
        says: "Single targets and what became of them, those that were not probed too. A page may hold fewer than asked for and name a next one.",
        who: For::Viewers,
        parameters: &[FORMAT, ADDRESS, PORT, KIND, STATE, REASON, AGENT, CURSOR, LIMIT],
        body: None,
        answers: &[Answer {
            status: 200,
            says: "They. Where there is more, a Link header with rel=\"next\" says where.",
            content: &[(JSON, Some("TargetPage")), ROWS[0], ROWS[1]],
        }],
        refusals: &[],
    },
    Operation {
        id: "scanAddressMap",
        method: "GET",
        path: "/api/v1/scans/{id}/maps/addresses",
        says: "A map of the scan's addresses along a Hilbert curve, with counts by state; each cell's prefix leads into it.",
        who: For::Viewers,
        parameters: &[
            Parameter {
                name: "prefix",
                says: "Only this network; if left out, all of the scan's addresses of its first IP version.",
                value: Value::Text("127.0.0.0/8"),
            },
            Parameter {
                name: "depth",
                says: "Cut it into 2^depth cells a side, 5 if left out; fewer where it has fewer addresses.",
                value: Value::Whole(1, DEPTH_MAX as u64),
            },
            VANTAGE,
        ],
        body: None,
        answers: ok!("AddressTile"),
        refusals: &[],
    },
    Operation {
        id: "scanPortMap",
        method: "GET",
        path: "/api/v1/scans/{id}/maps/ports",
        says: "A map of the scan's addresses by its ports, with counts by state; rows and columns lead into it.",
        who: For::Viewers,
        parameters: &[
            Parameter { name: "address", says: "Only this network or range.", value: Value::Text("127.0.0.0/8") },
            Parameter {
                name: "port",
                says: "Only from the first to the last of these ports.",
                value: Value::Text("22,80-90,http"),
            },
            VANTAGE,
        ],
        body: None,
        answers: ok!("PortTile"),
        refusals: &[],
    },
    Operation {
        id: "scanFindings",
        method: "GET",
        path: "/api/v1/scans/{id}/findings",
        says: "What was found so far, a line each: `Finding`.",
        who: For::Viewers,
        parameters: &[],
        body: None,
        answers: &[Answer { status: 200, says: "It.", content: &[ROWS[0]] }],
        refusals: &[],
    },
    Operation {
        id: "scanReceipt",
        method: "GET",
        path: "/api/v1/scans/{id}/receipt",
        says: "The account of a scan that ended.",
        who: For::Viewers,
        parameters: &[],
        body: None,
        answers: ok!("Receipt"),
        refusals: &[409],
    },
    Operation {
        id: "removeScan",
        method: "DELETE",
        path: "/api/v1/scans/{id}",
        says: "Removes a scan that ended, with all that is known of it.",
        who: For::Operators,
        parameters: &[],
        body: None,
        answers: &[Answer { status: 204, says: "It is gone.", content: &[] }],
        refusals: &[409],
    },
    Operation {
        id: "uploadTargetList",
        method: "POST",
        path: "/api/v1/target-lists",
        says: "Uploads targets as `-iL` reads them from a file, for a scan that names the list in `target_lists`.",
        who: For::Operators,
        parameters: &[],
        body: Some(TEXT),
        answers: &[Answer {
            status: 201,
            says: "It waits for that scan, for some minutes.",
            content: &[(JSON, Some("TargetList"))],
        }],
        refusals: &[409],
    },
    Operation {
        id: "events",
        method: "GET",
        path: "/api/v1/events",
        says: "Server-sent events: `progress`, `findings`, `scan`, `removed`, `agent`, and `snapshot` where what was missed is not known any more. Last-Event-ID resumes.",
        who: For::Viewers,
        parameters: &[Parameter {
            name: "scan",
            says: "Only those of this scan.",
            value: Value::Text("00000000-0000-0000-0000-000000000000"),
        }],
        body: None,
        answers: &[Answer {
            status: 200,
            says: "They, as long as the connection lasts.",
            content: &[("text/event-stream", None)],
        }],
        refusals: &[404],
    },
    Operation {
        id: "listAgents",
        method: "GET",
        path: "/api/v1/agents",
        says: "The agents, by name; those that were revoked too.",
        who: For::Viewers,
        parameters: &[],
        body: None,
        answers: ok!("Agents"),
        refusals: &[],
    },
    Operation {
        id: "showAgent",
        method: "GET",
        path: "/api/v1/agents/{name}",
        says: "An agent, by its name or id.",
        who: For::Viewers,
        parameters: &[],
        body: None,
        answers: ok!("AgentView"),
        refusals: &[],
    },
    Operation {
        id: "labelAgent",
        method: "PATCH",
        path: "/api/v1/agents/{name}",
        says: "Sets its labels; null takes one away.",
        who: For::Operators,
        parameters: &[],
        body: Some("Labels"),
        answers: ok!("AgentView"),
        refusals: &[],
    },
    Operation {
        id: "revokeAgent",
        method: "POST",
        path: "/api/v1/agents/{name}/revoke",
        says: "Takes from it that it may connect, for good.",
        who: For::Operators,
        parameters: &[],
        body: None,
        answers: ok!("AgentView"),
        refusals: &[],
    },
    Operation {
        id: "drainAgent",
        method: "POST",
        path: "/api/v1/agents/{name}/drain",
        says: "Gives it no more work: it commits what it has, stays connected, and others do the rest.",
        who: For::Operators,
        parameters: &[],
        body: None,
        answers: ok!("AgentView"),
        refusals: &[],
    },
    Operation {
        id: "endDrainOfAgent",
        method: "DELETE",
        path: "/api/v1/agents/{name}/drain",
        says: "Gives it work again.",
        who: For::Operators,
        parameters: &[],
        body: None,
        answers: ok!("AgentView"),
        refusals: &[],
    },
    Operation {
        id: "makeJoinToken",
        method: "POST",
        path: "/api/v1/join-tokens",
        says: "Makes a token with which one agent can join, once.",
        who: For::Operators,
        parameters: &[],
        body: Some("NewJoinToken"),
        answers: &[Answer { status: 201, says: "It, this once.", content: &[(JSON, Some("MadeJoinToken"))] }],
        refusals: &[],
    },
    Operation {
        id: "audit",
        method: "GET",
        path: "/api/v1/audit",
        says: "Who did what, newest first.",
        who: For::Viewers,
        parameters: &[
            Parameter {
                name: "before",
                says: "Only rows before this one: the key of the last of the page before.",
                value: Value::Whole(1, i64::MAX as u64),
            },
            Parameter { name: "limit", says: "At most so many; 100 if left out.", value: Value::Whole(1, 1_000) },
        ],
        body: None,
        answers: ok!("Audit"),
        refusals: &[],
    },
    Operation {
        id: "listTokens",
        method: "GET",
        path: "/api/v1/tokens",
        says: "The tokens of this API, without what makes them one.",
        who: For::Viewers,
        parameters: &[],
        body: None,
        answers: ok!("Tokens"),
        refusals: &[],
    },
    Operation {
        id: "makeToken",
        method: "POST",
        path: "/api/v1/tokens",
        says: "Makes a token of this API.",
        who: For::Operators,
        parameters: &[],
        body: Some("NewToken"),
        answers: &[Answer { status: 201, says: "It, this once.", content: &[(JSON, Some("MadeToken"))] }],
        refusals: &[409],
    },
    Operation {
        id: "revokeToken",
        method: "DELETE",
        path: "/api/v1/tokens/{id}",
        says: "Takes a token back.",
        who: For::Operators,
        parameters: &[],
        body: None,
        answers: &[Answer { status: 204, says: "It holds no more.", content: &[] }],
        refusals: &[],
    },
];

/// The names of the parameters of an operation.
#[must_use]
pub fn parameters(id: &str) -> Vec<&'static str> {
    let operation = OPERATIONS.iter().find(|operation| operation.id == id);
    operation.into_iter().flat_map(|operation| operation.parameters).map(|parameter| parameter.name).collect()
}
