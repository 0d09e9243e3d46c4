//! Writing outputs, for the API and for the feed.

use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{Request, Response, StatusCode};
use reading::{Channel, Datum, Kind};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

use crate::api::{self, Shown};
use crate::guard::Refusal;
use crate::{Hub, SetFn, body};

/// A device has to take a value within this.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest text that an output is given, in bytes.
const TEXT_MAX: usize = 4096;

/// Everything that can be written.
#[derive(Clone)]
pub(crate) struct Outputs {
    hub: Hub,
    set: SetFn,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    value: Value,
}

impl Outputs {
    pub(crate) fn new(hub: Hub, set: SetFn) -> Outputs {
        Outputs { hub, set }
    }

    /// Gives an output a value and waits until its device has taken it.
    ///
    /// # Errors
    /// When there is no such output, the value is of another kind, or the device
    /// doesn't take it.
    pub(crate) async fn set(&self, channel: &str, value: &Value) -> Result<(), Refusal> {
        let known = channel.parse::<Channel>().ok().and_then(|channel| self.hub.spec(&channel));
        let Some(spec) = known else {
            let shown: String = channel.chars().take(130).collect();
            return Err(Refusal::new(
                StatusCode::NOT_FOUND,
                format!("there is no channel {shown:?}"),
            ));
        };
        let channel = &spec.channel;
        if !spec.output {
            let reason = format!("{channel} is measured, not switched: only an output can be set");
            return Err(Refusal::new(StatusCode::CONFLICT, reason));
        }
        let datum = datum(spec.kind, value).ok_or_else(|| {
            let right = match spec.kind {
                Kind::Number => "a number",
                Kind::Boolean => "true or false",
                Kind::Text => "a text of at most 4,096 bytes",
            };
            Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{channel} takes {right}"))
        })?;
        if let (Datum::Number(number), Some(range)) = (&datum, &spec.range)
            && !range.contains(number)
        {
            let (low, high) = (range.start(), range.end());
            let reason = format!("{channel} takes {low} to {high}");
            return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, reason));
        }
        match timeout(PATIENCE, (self.set)(channel.clone(), datum)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => Err(Refusal::new(StatusCode::BAD_GATEWAY, reason)),
            Err(_) => {
                let reason = format!("{channel}: its device hasn't taken the value within 10 s");
                Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, reason))
            }
        }
    }
}

fn datum(kind: Kind, value: &Value) -> Option<Datum> {
    match (kind, value) {
        (Kind::Number, Value::Number(number)) => number.as_f64().and_then(Datum::number),
        (Kind::Boolean, Value::Bool(truth)) => Some(Datum::from(*truth)),
        (Kind::Text, Value::String(text)) if text.len() <= TEXT_MAX => {
            Some(Datum::from(text.as_str()))
        }
        _ => None,
    }
}

/// `POST /api/v1/channels/{device}/{channel}`.
pub(crate) async fn set(
    State(Shown { outputs, .. }): State<Shown>,
    channel: Result<Path<(String, String)>, PathRejection>,
    request: Request<Body>,
) -> Result<Response<Body>, Refusal> {
    let Path((device, name)) = channel?;
    let Wish { value } = body::json(request, r#"{"value":…}"#).await?;
    outputs.set(&format!("{device}/{name}"), &value).await?;
    Ok(api::ok(api::DONE))
}
