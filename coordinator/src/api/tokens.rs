//! API tokens: made, listed, taken back. A token is shown once, when it is made.

use super::Serving;
use super::ask::{self, Query};
use super::problem::Problem;
use crate::cli::Login;
use crate::serve::access::{AccessError, ListTokens, MakeToken, RevokeToken, Role, Token};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use protocol::quote::Quoted;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The longest name of a token, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// A token that is to be made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// What it is for, to 128 bytes.
    #[serde(default)]
    pub name: String,
    /// What it may.
    pub role: Role,
}

/// A token that was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MadeToken {
    /// The token itself: it is not shown again.
    pub secret: String,
    /// It with where and by what this API is known, for `portsweep login`.
    pub login: String,
    /// What is kept of it.
    #[serde(flatten)]
    pub token: Token,
}

/// The tokens that there are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Tokens {
    /// By number.
    pub tokens: Vec<Token>,
}

fn gone(_: actix::MailboxError) -> Problem {
    Problem::unavailable("the coordinator is about to end")
}

/// `GET /tokens`
pub async fn list(request: HttpRequest, serving: web::Data<Serving>) -> Result<web::Json<Tokens>, Problem> {
    Query::of(&request, &[])?;
    let tokens = serving.access.send(ListTokens).await.map_err(gone)?;
    Ok(web::Json(Tokens { tokens }))
}

/// `POST /tokens`
pub async fn make(
    request: HttpRequest,
    serving: web::Data<Serving>,
    body: Result<Bytes, actix_web::Error>,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let NewToken { name, role } = ask::json(&request, body)?;
    if name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(Problem::bad(format!(
            "name: write text of at most {NAME_BYTES_MAX} bytes, without control characters"
        )));
    }
    let made = serving.access.send(MakeToken { name, role }).await.map_err(gone)?;
    let (token, secret) = made.map_err(|error| match error {
        AccessError::TooMany => Problem::conflict(error.to_string()),
        error => Problem::failed(&error),
    })?;
    let login = Login { url: serving.page.to_string(), pin: serving.pin, token: secret.clone() }.to_string();
    Ok(HttpResponse::Created().insert_header(("cache-control", "no-store")).json(MadeToken { login, secret, token }))
}

/// `DELETE /tokens/{id}`
pub async fn revoke(
    request: HttpRequest,
    serving: web::Data<Serving>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let no_token =
        || Problem::missing(format!("there is no token {}: GET /api/v1/tokens lists them", Quoted::new(&id)));
    let number = id.parse().map_err(|_| no_token())?;
    let revoked = serving.access.send(RevokeToken(number)).await.map_err(gone)?;
    match revoked.map_err(|error| Problem::failed(&error))? {
        true => Ok(HttpResponse::NoContent().finish()),
        false => Err(no_token()),
    }
}
